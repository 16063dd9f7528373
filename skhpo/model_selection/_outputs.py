"""What a finished search has kept of its fits."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ._top import TopEstimators

if TYPE_CHECKING:
    from ..trial import Trial

__all__ = ["KeptOutputs"]


class KeptOutputs(TopEstimators):
    """The part of a search class that returns predictions and estimators of its fits."""

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

    def kept_models(
        self, row: int | None = None, X: Any = None, y: Any = None, **params: Any
    ) -> list[Any]:
        """Return the estimators that the search fitted on the training parts, for one row.

        Networks are made again from their checkpoints. What is around one (the transformers of a
        pipeline) is fitted again on the training part of its split, as the search did.

        Parameters
        ----------
        row : int or None, default=None
            Of `cv_results_`; None for `best_index_`.
        X, y : array-like, default=None
            What ``fit`` got. Needed only for what is fitted again, and where what ``fit`` got is
            gone (after unpickling, say), or was a list: a search keeps no data.
        **params : dict of str to object
            What ``fit`` got besides. Looked at only if `X` is given.

        Returns
        -------
        list of estimator
            By split, and then by repeat.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ValueError
            If no estimators were kept, or not those of this row, or data are needed; says why.
        """
        return self._kept_models(row, X, y, params, {})

    def _kept_models(
        self, row: int | None, X: Any, y: Any, params: dict[str, Any], shared: dict[Any, Any]
    ) -> list[Any]:
        """Return the kept estimators of a row; `shared` as of `KeptModels.of_row`."""
        check_is_fitted(self, "cv_results_")
        kept = getattr(self, "models_", None)
        if kept is None:
            raise ValueError(
                "kept_models needs estimators that were kept, but the search was fitted with "
                "keep_models=0; set keep_models to a number of rows, and fit it"
            )
        row = self._checked_row(row)
        if not kept.need_data(row):
            return list(kept.of_row(row))
        what = "kept_models fits what is around the networks again"
        X, y, fit_params = self._inputs(X, y, params, f"{what}, on", "kept_models(row, X, y)")
        with self._refit_inputs.routing():
            return list(kept.of_row(row, X, y, fit_params, shared))

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
        return getattr(self, "resource_", None) != "n_samples" or trial.resource == max_resource
