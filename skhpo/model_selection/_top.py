"""What a finished search hands out: its best candidates as estimators, and what it has kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from .. import evaluation
from .._compat import check_method_params, num_samples
from ._scored import ScoredTrials, without_convergence_warnings

__all__ = ["TopEstimators"]


class TopEstimators(ScoredTrials):
    """The part of a search class that hands out more than the best estimator.

    Candidates are fitted on all data when they are asked for; predictions and estimators of the
    fits are there if they were kept.
    """

    def top_estimators(self, n: int = 1, X: Any = None, y: Any = None, **params: Any) -> list[Any]:
        """Return the `n` best candidates, fitted on all data as the best one is.

        They are fitted now, networks in lockstep where it pays, with the seeds that the refit of
        ``fit`` would have given them, and kept for the next call. The first is `best_estimator_`
        itself, where there is one.

        Parameters
        ----------
        n : int, default=1
            At most as many as have a score. Each is fitted with the amount of the resource at which
            it scored best.
        X, y : array-like, default=None
            What ``fit`` got. A search keeps no data: they must be given where what ``fit`` got
            is gone (after unpickling, say), or was a list.
        **params : dict of str to object
            What ``fit`` got besides. Looked at only if `X` is given.

        Returns
        -------
        list of estimator
            Best first, by the metric that `refit` names, else the first; with a callable
            `refit`, or `confirm`, the one that was chosen comes before the others. With
            `objectives` those of the front follow the chosen one, however many are taken far
            apart, and then those of the next front. Candidates that break a constraint are left
            out, unless all do.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ValueError
            If there are fewer than `n`, or the data are needed and not given.
        """
        check_is_fitted(self, "cv_results_")
        rows = self._ranked()
        if isinstance(n, bool) or not isinstance(n, Integral) or not 1 <= n <= len(rows):
            raise ValueError(
                f"n must be an integer with 1 <= n <= {len(rows)}, the number of candidates that "
                f"have a score, but got n={n!r}"
            )
        call = "top_estimators(n, X, y)"

        def inputs(n: int) -> tuple[Any, Any, dict[str, Any]]:
            return self._inputs(
                X, y, params, f"top_estimators trains {n} further candidates on", call
            )

        return self._fitted([(row, 0) for row in rows[:n]], inputs)

    def score(self, X: Any, y: Any = None, **params: Any) -> float:
        """Return the score of the best estimator, by the metric that it was refitted for.

        Parameters
        ----------
        X : array-like or torch Dataset
            Samples.
        y : array-like, default=None
            True targets; those of a `Dataset` are read if it is None.
        **params : dict
            Metadata for the scorer.

        Returns
        -------
        float
            Larger is better.
        """
        from ..rows import is_dataset
        from ._checks import rows_and_targets

        if y is None and is_dataset(X):
            _, y = rows_and_targets(self.estimator, X)
        return float(super().score(X, y, **params))

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

    def _inputs(
        self, X: Any, y: Any, params: dict[str, Any], what: str, call: str
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Return data and metadata for further fits: what is given, else what ``fit`` got."""
        from ._checks import rows_and_targets

        if X is None:
            given = self._refit_inputs.arguments()
            if given is None:
                raise ValueError(
                    f"{what} the data of fit, which the search does not keep and can no longer "
                    f"reach; give them: {call}"
                )
            X, y = given.pop("X"), given.pop("y", None)
            params = given
        X, y = rows_and_targets(self.estimator, X, y)
        with self._refit_inputs.routing():
            routed = self._get_routed_params_for_fit(check_method_params(X, params=params))
        return X, y, routed.estimator.fit

    def _fitted(
        self,
        keys: Sequence[tuple[int, int]],
        inputs: Callable[[int], tuple[Any, Any, dict[str, Any]]],
    ) -> list[Any]:
        """Return estimators fitted on all data, those that are not there yet together.

        Parameters
        ----------
        keys : list of (int, int)
            Row of ``cv_results_``, and the repeat whose seed it is to have.
        inputs : callable
            From how many are to be fitted to X, y and metadata for ``fit``.
        """
        if "_top" not in self.__dict__:
            self._top: dict[tuple[int, int], Any] = {}
            if hasattr(self, "best_estimator_") and not self._refits_ensemble:
                self._top[self.best_index_, 0] = self.best_estimator_
        missing = [key for key in dict.fromkeys(keys) if key not in self._top]
        if missing:
            with self._refit_inputs.routing():
                self._fit_missing(missing, inputs)
        return [self._top[key] for key in keys]

    def _fit_missing(
        self,
        missing: Sequence[tuple[int, int]],
        inputs: Callable[[int], tuple[Any, Any, dict[str, Any]]],
    ) -> None:
        from ._end_of_training import without_validation

        X, y, fit_params = inputs(len(missing))
        if self.refit_epochs in ("median", "scaled"):
            fit_params = without_validation(fit_params)
        resource = getattr(self, "resource_", None)
        setting = evaluation.Setting(
            estimator=clone(self.estimator),
            scorer=None,
            seed=self._refit_inputs.seed,
            fit_params=fit_params,
            resource=resource,
            max_resource=self._refit_inputs.max_resource,
        )
        n_samples = num_samples(X)
        fresh = [self._unfitted(setting, row, repeat, n_samples) for row, repeat in missing]
        with without_convergence_warnings(resource):
            evaluation.refit_together(fresh, setting, X, y, self.lockstep)
        self._top.update(zip(missing, fresh, strict=True))

    def _unfitted(self, setting: evaluation.Setting, row: int, repeat: int, n_samples: int) -> Any:
        estimator, _ = self._for_refit(setting, row, n_samples, repeat)
        candidate = self._refit_inputs.candidates[row]
        name = f"candidate-{candidate}" + (f"-repeat-{repeat}" if repeat else "")
        evaluation.own_files(estimator, f"{setting.name}/{name}")
        return estimator

    def _for_refit(
        self, setting: evaluation.Setting, row: int, n_samples: int, repeat: int = 0
    ) -> tuple[Any, int | None]:
        """Return an unfitted estimator as a row is refitted, and the epochs, where they were found.

        Parameters
        ----------
        setting : Setting
        row : int
            Of ``cv_results_``.
        n_samples : int
            Rows of the refit.
        repeat : int, default=0
            Whose seed it is to have.
        """
        from ._end_of_training import (
            chosen_way,
            found_in_row,
            set_found_epochs,
            warn_of_none_found,
        )

        params = self._params_of(row)
        candidate = self._refit_inputs.candidates[row]
        estimator = evaluation.configured(
            setting, params, split=-1, candidate=candidate, repeat=repeat
        )
        if self.refit_epochs == "same":
            return estimator, None
        found, way = found_in_row(self.cv_results_, row), self.refit_epochs
        if way == "auto":
            on_fold = self.early_stopping_on == "fold"
            way = chosen_way(estimator, found, setting.fit_params, n_samples, on_fold=on_fold)
            if way == "same":
                return estimator, None
        n_epochs = set_found_epochs(estimator, found, way, n_samples)
        if n_epochs is None:
            warn_of_none_found(self.refit_epochs, params)
        return estimator, n_epochs
