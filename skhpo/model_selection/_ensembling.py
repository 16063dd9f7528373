"""Ensembles of the candidates of a finished search."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.utils.validation import check_is_fitted

from .. import ensembles, evaluation
from ..rows import as_given, take_rows
from ._top import TopEstimators

if TYPE_CHECKING:
    from ._out_of_fold import OutOfFold
    from ._plan import Plan

__all__ = ["Ensembles"]

_N_MEMBERS = 20  # as in the paper's experiments, where more changed little
_N_SEEDS = 5  # docs/benchmarks/last_network.md

_MOST_ROWS = 200
# Predictions that differ by a smaller share of the largest one are the same.
_SAME = 1e-6


class Ensembles(TopEstimators):
    """The part of a search class that makes ensembles of its candidates."""

    def ensemble(
        self,
        n_members: int | None = None,
        metric: Any = None,
        members: str = "refit",
        *,
        n_initial: int = 0,
        n_bags: int = 1,
        X: Any = None,
        y: Any = None,
        **params: Any,
    ) -> Any:
        """Return a fitted ensemble of good candidates, or of the best one under several seeds.

        Candidates are selected one by one, with replacement, such that the average of their
        out-of-fold predictions scores best [1]_: a good one that errs where the others do not is
        worth more than a better one like them. Where there are repeats each one is a candidate of
        its own. With ``members="seeds"`` nothing is selected.

        Parameters
        ----------
        n_members : int or None, default=None
            Selections, or seeds; candidates that are selected several times count more. None is 20
            selections, or 5 seeds.
        metric : str, callable or None, default=None
            What the average is to do well: a name or a scorer of ``make_scorer``. None is the
            metric that guides the search. It is computed for all rows at once, not split by split.
        members : {"refit", "folds", "seeds"}, default="refit"
            "refit" trains each distinct member on all rows, with the seed that the refit would give
            it, networks in lockstep. "folds" takes the estimators that the search
            trained (`keep_models`), without any training: a member for each split, and those of
            `keep_models` rows only. "seeds" selects nothing, and needs nothing that was kept: it
            trains the best candidate on all rows under several seeds, the first of which is that
            of the refit (`best_estimator_`, where there is one), and averages alike.
        n_initial : int, default=0
            Start from at most so many of the best candidates, as many as do best.
        n_bags : int, default=1
            Select from so many random halves of the candidates, and add up.
        X, y : array-like, default=None
            What ``fit`` got. A search keeps no data: they must be given where what ``fit`` got is
            gone (after unpickling, say), or was a list; for "folds" `y` is enough, unless there are
            transformers around the networks.
        **params : dict
            What ``fit`` got besides. Looked at only if `X` is given, but for ``sample_weight``,
            with which the metric weighs rows where the scores of the search did.

        Returns
        -------
        ensemble : EnsembleClassifier or EnsembleRegressor
            Fitted, with the members and their weights; of "seeds" without an `oof_score_`.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ValueError
            If nothing was kept, the metric needs something else than what was, data are needed
            and not given, or the estimator has no ``random_state`` for "seeds", or learns the same
            under any; says what to do.

        References
        ----------
        .. [1] R. Caruana, A. Niculescu-Mizil, G. Crew, A. Ksikes. Ensemble Selection from Libraries
           of Models. ICML 2004.
        """
        from ._out_of_fold import metric_of

        check_is_fitted(self, "cv_results_")
        n_members = _checked(n_members, members)
        call = f"ensemble(members={members!r}, X=X, y=y)"

        def inputs(n: int) -> tuple[Any, Any, dict[str, Any]]:
            what = f"an ensemble trains {n} further members on"
            return self._inputs(X, y if X is not None else None, params, what, call)

        if members == "seeds":
            if (metric, n_initial, n_bags) != (None, 0, 1):
                raise ValueError(
                    "members='seeds' selects nothing, so that metric, n_initial and n_bags have no "
                    "effect; leave them out"
                )
            return self._under_seeds(n_members, inputs)
        if members == "folds" and not hasattr(self, "models_"):
            raise ValueError(
                "members='folds' needs the estimators of the fits, but the search was fitted with "
                "keep_models=0; set keep_models to a number of rows and fit it, or use "
                "members='refit'"
            )
        y = self._targets(y, call)
        rows = self._rows_to_average(members, "an ensemble")
        weight = params.get("sample_weight")
        with_weight = f"{call[:-1]}, sample_weight=sample_weight)"
        scores = partial(metric_of, self, metric, y, weight=weight, call=with_weight)
        selection = self._selected(rows, scores, n_members, n_initial, n_bags)
        if members == "folds":
            fitted: list[Any] = []
            transformers: dict[Any, Any] = {}
            for row, repeat in selection.keys:
                own_y = None if X is None else y
                models = self._kept_models(row, X, own_y, params, transformers)
                fitted += models[repeat :: self.n_repeats]
            return self._averaging(fitted, selection, self.n_splits_)
        return self._averaging(self._fitted(selection.keys, inputs), selection, 1)

    def _under_seeds(
        self, n_seeds: int, inputs: Callable[[int], tuple[Any, Any, dict[str, Any]]]
    ) -> Any:
        """Return the average of the best candidate, trained on all rows under so many seeds."""
        from ..wrappers import inside
        from ._out_of_fold import check_predicts

        check_predicts(self.estimator, "an ensemble")
        best = self._ranked()[:1]
        if not best:
            raise ValueError("members='seeds' needs a row with a score, but all fits failed")
        given = self._params_of(best[0])
        estimator = clone(self.estimator).set_params(**clone(given, safe=False))
        found = inside(estimator, getattr(self, "resource_", None))
        names = {name.rpartition("__")[2] for name in found.own(estimator.get_params(deep=True))}
        if "random_state" not in names:  # that of a transformer is the same for all
            raise ValueError(
                "members='seeds' needs an estimator with a random_state, of which "
                f"{type(found.estimator).__name__} has none: all members would be the same; use "
                "best_estimator_"
            )
        is_one = is_classifier(self.estimator)
        kind: Any = ensembles.EnsembleClassifier if is_one else ensembles.EnsembleRegressor
        keys = [(best[0], seed) for seed in range(n_seeds)]
        data: list[tuple[Any, Any, dict[str, Any]]] = []

        def noted(_: int) -> tuple[Any, Any, dict[str, Any]]:
            if not data:
                data.append(inputs(sum(key not in self._top for key in keys)))
            return data[0]

        # Networks depend on their seeds, and are faster together.
        first = self._fitted(keys if hasattr(found.estimator, "module") else keys[:2], noted)
        if len(keys) > 1 and data:
            try:
                method = getattr(kind.from_fitted(first), "method_", "predict")
                _check_seeds_matter(first, method, data[0][0])
            except ValueError:
                del self._top[keys[1]]  # else the next call would take it
                raise
        return kind.from_fitted(self._fitted(keys, noted))

    def _refitted_ensemble(self, plan: Plan) -> Any:
        """Return what ``refit="ensemble"`` makes the best estimator."""
        from ._out_of_fold import metric_of

        rows = self._rows_to_average("refit", "refit='ensemble'")
        weight = (plan.shown["metadata"] or {}).get("sample_weight")
        scores = partial(metric_of, self, None, plan.y, weight=weight)
        selection = self._selected(rows, scores, _N_MEMBERS, 0, 1)
        inputs = plan.X, plan.y, dict(plan.setting.fit_params)
        fitted = self._fitted(selection.keys, lambda n: inputs)
        return self._averaging(fitted, selection, 1)

    def _selected(
        self,
        rows: list[int],
        metric: Callable[[OutOfFold], ensembles.OutputMetric],
        n_members: int,
        n_initial: int,
        n_bags: int,
    ) -> _Selection:
        from ._out_of_fold import OutOfFold

        found = OutOfFold.of(self.predictions_, rows)
        scores = metric(found)
        n_repeats = found.outputs.shape[1]
        outputs = found.outputs.reshape(-1, *found.outputs.shape[2:])

        def score(averages: NDArray[Any]) -> NDArray[np.float64]:
            return found.scores(scores, averages)

        seed = evaluation.derive_seed(self._refit_inputs.seed, "ensemble")
        counts = ensembles.select_members(
            outputs, score, n_members, n_initial=n_initial, n_bags=n_bags, random_state=seed
        )
        chosen = np.flatnonzero(counts)
        weights = counts[chosen] / counts.sum()
        average = np.tensordot(weights, outputs[chosen], axes=1)
        keys = [(rows[i // n_repeats], i % n_repeats) for i in chosen.tolist()]
        return _Selection(keys, weights, float(score(average[None])[0]))

    def _targets(self, y: Any, call: str) -> Any:
        """Return the targets that are given, else those of ``fit``."""
        if y is not None:
            return y
        y = self._refit_inputs.argument("y")
        if y is None:
            raise ValueError(
                "kept predictions are compared with the y that fit got, which the search does not "
                f"keep and can no longer reach; give it: {call}"
            )
        return y

    def _rows_to_average(self, members: str, what: str) -> list[int]:
        """Return the rows with predictions that may be the best, or members."""
        from ._out_of_fold import check_predicts

        check_predicts(self.estimator, what)
        if not hasattr(self, "predictions_"):
            raise ValueError(
                f"{what} needs predictions that were kept, but the search was fitted with "
                "return_predictions=False; set return_predictions=True and fit it"
            )
        may_win = self._may_be_members()
        rows = self._rows_with_predictions()
        if members == "folds":
            rows = [row for row in rows if row in set(self.models_.rows)]
        if not may_win.any():
            raise ValueError(
                f"{what} needs rows with a score, on all splits, but fits or scores of all rows "
                "failed: see the warnings of the search, or set error_score='raise'"
            )
        if not rows:
            kept = "predictions" + (" and estimators" if members == "folds" else "")
            raise ValueError(
                f"{what} needs rows whose {kept} are kept, of all splits, but there is none"
            )
        return rows

    def _may_be_members(self) -> NDArray[np.bool_]:
        metrics = [key for key in self.cv_results_ if key.startswith("mean_test_")]
        return self._rows_to_win(self.cv_results_[metrics[0]])

    def _rows_with_predictions(self) -> list[int]:
        """Return the rows that may be the best, and whose predictions for all splits are kept."""
        may_win = self._may_be_members()
        return [row for row in self.predictions_.rows if may_win[row]]

    def _averaging(self, fitted: list[Any], selection: _Selection, n_each: int) -> Any:
        """Return an ensemble of fitted estimators, `n_each` for each one that was selected."""
        weights = np.repeat(selection.weights / n_each, n_each)
        params: dict[str, Any] = {"per_estimator": n_each}
        kind: Any = ensembles.EnsembleRegressor
        if is_classifier(self.estimator):
            kind, params["method"] = ensembles.EnsembleClassifier, self.predictions_.method
        ensemble = kind.from_fitted(fitted, weights, **params)
        ensemble.oof_score_ = selection.score
        return ensemble


class _Selection(NamedTuple):
    """Members that were selected: row and repeat, how much each counts, and what they score."""

    keys: list[tuple[int, int]]
    weights: NDArray[np.float64]
    score: float


def _checked(n_members: Any, members: Any) -> int:
    """Return the number of members; raise ValueError if an argument is wrong."""
    if members not in ("refit", "folds", "seeds"):
        raise ValueError(f"members must be 'refit', 'folds' or 'seeds', but is {members!r}")
    if n_members is None:
        return _N_SEEDS if members == "seeds" else _N_MEMBERS
    if isinstance(n_members, bool) or not isinstance(n_members, Integral) or n_members < 1:
        raise ValueError(f"n_members must be an integer from 1 on, but is {n_members!r}")
    return int(n_members)


def _check_seeds_matter(members: Sequence[Any], method: str, X: Any) -> None:
    """Refuse members that differ in nothing but their seeds.

    They are compared where they were fitted, and at rows with the columns of different ones: trees
    that differ may be right about all that they were fitted on.

    Parameters
    ----------
    members : sequence of estimator
        Fitted under different seeds; the first two are compared.
    method : str
        What they predict with.
    X : array-like
        What they were fitted on.

    Raises
    ------
    ValueError
        If they predict the same. Where rows have no columns to mix, this is a warning.
    """
    rng = np.random.default_rng(0)
    some = X = as_given(X)
    if isinstance(X, np.ndarray) or hasattr(X, "iloc"):
        some = take_rows(X, rng.permutation(len(X))[:_MOST_ROWS])
    if not _predict_alike(members, method, some):
        return
    message = (
        "members='seeds' averages what differs by the seed, but members of "
        f"{type(members[0]).__name__} predict the same under two seeds; use best_estimator_, or "
        "members='refit'"
    )
    mixed = _mixed(some, rng)
    if mixed is None:
        warnings.warn(message, UserWarning, stacklevel=4)
    elif _predict_alike(members, method, mixed):
        raise ValueError(message)


def _mixed(X: Any, rng: np.random.Generator) -> Any:
    """Return rows with the columns of different rows; None for what has none."""
    if hasattr(X, "iloc"):
        mixed = X.copy()
        for j in range(X.shape[1]):
            mixed.isetitem(j, X.iloc[rng.permutation(len(X)), j].array)
        return mixed
    if isinstance(X, np.ndarray) and X.ndim == 2:
        return rng.permuted(X, axis=0)
    return None


def _predict_alike(members: Sequence[Any], method: str, X: Any) -> bool:
    first, second = (np.asarray(getattr(member, method)(X)) for member in members[:2])
    if first.shape != second.shape:
        return False
    if first.dtype.kind != "f":
        return bool(np.array_equal(first, second))
    return bool(np.abs(first - second).max() <= _SAME * np.abs(first).max())
