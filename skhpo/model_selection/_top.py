"""The best candidates of a finished search as estimators, fitted when they are asked for."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from .. import evaluation, objectives
from .._compat import BaseSearchCV, check_method_params, num_samples

__all__ = ["RefitInputs", "TopEstimators", "without_convergence_warnings"]


@contextmanager
def without_convergence_warnings(resource: str | None) -> Iterator[None]:
    """Show no warnings of fits that end early, where that is what is asked for, in the body."""
    from ..exceptions import BatchNormWarning
    from ..process import ignoring

    with ExitStack() as stack:
        if resource is not None:
            stack.enter_context(ignoring(ConvergenceWarning))
            stack.enter_context(ignoring(BatchNormWarning))
        yield


@dataclass(frozen=True)
class RefitInputs:
    """What a refit after ``fit`` needs to be the one that ``fit`` would have done.

    Parameters
    ----------
    seed : int
        Of the search.
    candidates : sequence of int
        Per row of ``cv_results_``.
    max_resource : int or None
    data : dict of str to weakref, or None
        What ``fit`` got, by argument, while somebody else holds it; a search holds no data, and a
        pickled one has None.
    names : frozenset of str, default=frozenset()
        Metadata that ``fit`` got, whether or not they are still there.
    routed : bool, default=False
        Whether metadata routing was enabled then.
    """

    seed: int
    candidates: Sequence[int]
    max_resource: int | None
    data: dict[str, weakref.ref[Any]] | None
    names: frozenset[str] = frozenset()
    routed: bool = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "data": None}

    @staticmethod
    def weak_references(**arguments: Any) -> dict[str, weakref.ref[Any]] | None:
        """Return weak references to arguments; None if one of them does not support that."""
        given = {name: value for name, value in arguments.items() if value is not None}
        try:
            return {name: weakref.ref(value) for name, value in given.items()}
        except TypeError:
            return None

    def routing(self) -> AbstractContextManager[None]:
        """Return a context in which metadata are routed, or not, as they were in ``fit``."""
        context: AbstractContextManager[None] = config_context(enable_metadata_routing=self.routed)
        return context

    def arguments(self) -> dict[str, Any] | None:
        """Return the arguments of ``fit``, None if any is gone."""
        if self.data is None:
            return None
        found = {name: reference() for name, reference in self.data.items()}
        return None if any(value is None for value in found.values()) else found

    def argument(self, name: str) -> Any:
        """Return an argument of ``fit``, None if it is gone or was not given."""
        return self.data[name]() if self.data and name in self.data else None


class TopEstimators(BaseSearchCV):  # type: ignore[misc]  # scikit-learn has no annotations
    """The part of a search class that fits more than the best candidate."""

    objectives: Any = None
    constraints: Any = None
    max_cost: Any = None

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
        from ..datasets import is_dataset
        from ._data import rows_and_targets

        if y is None and is_dataset(X):
            _, y = rows_and_targets(self.estimator, X)
        return float(super().score(X, y, **params))

    def _params_of(self, row: int) -> dict[str, Any]:
        """Return the parameters that a row of `cv_results_` stands for."""
        params: dict[str, Any] = self.cv_results_["params"][row]
        return params

    def _ranked(self) -> list[int]:
        """Return the row at which each candidate that has a score was best, the best first."""
        table = self.cv_results_
        names = [key for key in table if key.startswith("mean_test_")]
        by_name = isinstance(self.refit, str) and not self._refits_ensemble
        metric = f"mean_test_{self.refit}" if by_name else names[0]
        means = table[metric]
        order = self._order(means).tolist()
        if self.objectives:
            order = self._along_the_fronts(order)
        chosen = callable(self.refit) or self.confirm or self.objectives
        if chosen and hasattr(self, "best_index_"):
            order = [self.best_index_, *(row for row in order if row != self.best_index_)]
        best: dict[int, int] = {}
        for row in order:
            best.setdefault(self._refit_inputs.candidates[row], row)
        return list(best.values())

    def _along_the_fronts(self, rows: list[int]) -> list[int]:
        """Return rows front by front, and inside of each such that the first ones are far apart."""
        table = self.cv_results_
        values = np.column_stack([table[f"mean_test_{name}"][rows] for name in self.objectives])
        return [rows[i] for i in objectives.promotion_order(values)]

    def _order(self, means: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the rows that may win, best first; of equal ones those with more resource."""
        level = self.cv_results_.get("n_resources", np.zeros(len(means)))
        rows = np.lexsort((-level, -means))
        return rows[self._rows_to_win(means)[rows]]

    def _rows_to_win(self, means: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which rows may win: of those that can be compared the least infeasible ones."""
        rows = self._comparable(means)
        violation = self.cv_results_.get("violation")
        if violation is None or not rows.any():
            return rows
        return np.asarray(rows & (violation <= violation[rows].min()))

    def _comparable(self, means: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which rows can be compared: those that have a score on all splits.

        Where none has, because the search ended early, those with a score on most.
        Of subsamples only the largest: the refit has all rows. Any other resource is a parameter of
        the estimator, which the refit has as the row has it, and all rows are scored alike.
        """
        scored = ~np.isnan(means)
        if "n_splits_done" in self.cv_results_ and scored.any():
            n_done = self.cv_results_["n_splits_done"]
            scored &= n_done == n_done[scored].max()
        if getattr(self, "resource_", None) == "n_samples" and scored.any():
            level = self.cv_results_["n_resources"]
            scored &= level == level[scored].max()
        return scored

    def _inputs(
        self, X: Any, y: Any, params: dict[str, Any], what: str, call: str
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Return data and metadata for further fits: what is given, else what ``fit`` got."""
        from ._data import rows_and_targets

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
        from ._found_epochs import without_validation

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
        from ._found_epochs import (
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

    @property
    def _refits_ensemble(self) -> bool:
        """Whether `refit` asks for an ensemble, and is no metric of that name."""
        several = isinstance(self.scoring, Mapping | list | tuple | set)
        return bool(self.refit == "ensemble" and not (several and "ensemble" in self.scoring))
