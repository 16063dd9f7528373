"""What a finished search has kept of its fits."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ..trial import Trial
from ._top import TopEstimators

__all__ = ["KeptOutputs"]


class KeptOutputs(TopEstimators):
    """The part of a search class that gives what was kept of its fits."""

    def out_of_fold_predictions(self, row: int | None = None) -> NDArray[np.floating[Any]]:
        """Return what a row's fits predicted for the rows of the data that they had not seen.

        Parameters
        ----------
        row : int or None, default=None
            Of `cv_results_`; None for `best_index_`.

        Returns
        -------
        ndarray of shape (n_repeats, n_samples) or (n_repeats, n_samples, n_outputs)
            What ``predictions_.method`` returns. NaN where no split tests a row of the data;
            the mean where several splits do. Columns of a classifier are those of
            ``predictions_.classes``, which is `classes_` where there is a refit: 0 for a
            probability of a class that a fold had not seen. Labels (of "predict") have a column
            for each class, 1 where it was predicted.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ValueError
            If no predictions were kept, or not those of this row; says why, and what to set.
        """
        check_is_fitted(self, "cv_results_")
        kept = getattr(self, "predictions_", None)
        if kept is None:
            raise ValueError(
                "out_of_fold_predictions needs predictions that were kept, but the search was "
                "fitted with return_predictions=False; set return_predictions=True and fit it"
            )
        predictions: NDArray[np.floating[Any]] = kept.out_of_fold(self._checked_row(row))
        return predictions

    def _checked_row(self, row: int | None) -> int:
        n_rows = len(self.cv_results_["params"])
        if row is None:
            if not hasattr(self, "best_index_"):
                raise ValueError(
                    "row=None is the best row, but with refit=False and several metrics there is "
                    f"none; give a row from 0 to {n_rows - 1}"
                )
            return int(self.best_index_)
        if isinstance(row, bool) or not isinstance(row, Integral) or not 0 <= row < n_rows:
            raise ValueError(
                f"row must be an integer from 0 to {n_rows - 1}, a row of cv_results_, or None "
                f"for the best one, but got {row!r}"
            )
        return int(row)

    def _may_win(self, trial: Trial, max_resource: int | None) -> bool:
        """Whether the row of a trial may be the best one: see `_comparable`."""
        return self.resource != "n_samples" or trial.resource == max_resource
