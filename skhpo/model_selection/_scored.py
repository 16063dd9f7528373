"""From the fits of a search to scores for the scheduler, a table, the best row and warnings."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning

from .. import objectives, scorers
from .._compat import BaseSearchCV, MultimetricScorer, num_samples
from ..exceptions import SearchStoppedWarning

if TYPE_CHECKING:
    from ..results import TrialTable
    from ..trial import FitResult, Trial
    from ._goals import Goals, Told
    from ._keeping import Keeper
    from ._loop import TrialLoop
    from ._plan import Plan

__all__ = ["RefitInputs", "ScoredTrials", "without_convergence_warnings"]


_ONLY_WITH_SOME_ARGUMENTS = (
    "best_estimator_",
    "corrected_score_",
    "feature_names_in_",
    "hypervolume_",
    "models_",
    "pareto_front_",
    "predictions_",
    "reference_point_",
    "refit_epochs_",
    "refit_time_",
)


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


class ScoredTrials(BaseSearchCV):  # type: ignore[misc]  # scikit-learn has no annotations
    """The part of a search class that knows which score counts, and which row is the best."""

    objectives: Any = None
    constraints: Any = None
    max_cost: Any = None

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Return the parameters, and after `corrected_score` what the best row scores."""
        text = str(super().__repr__(N_CHAR_MAX))
        corrected = getattr(self, "corrected_score_", None)
        if corrected is None:
            return text
        best = getattr(self, "best_score_", corrected.uncorrected)
        return f"{text}\nbest_score_ {best:.4g}, corrected {corrected}"

    def _check_refit_for_multimetric(self, scores: Iterable[str]) -> None:
        """Raise ValueError if several metrics leave open which is to be refitted."""
        if self._refits_ensemble:
            raise ValueError(
                "refit='ensemble' needs one metric, which guides the search and selects the "
                f"members, but scoring has {', '.join(map(repr, scores))}; give one of them as "
                "scoring, or set refit to one and call search.ensemble(metric=...) afterwards"
            )
        super()._check_refit_for_multimetric(scores)

    def _score_of(self, plan: Plan) -> Callable[[Sequence[FitResult]], Told]:
        """Return the function from a trial's results to the score that the scheduler gets."""
        from ..results import mean_score, total_seconds, variance_of_mean
        from ._goals import Told

        error_score = np.nan if self.error_score == "raise" else self.error_score
        scorer, goals = plan.setting.scorer, plan.goals
        names: set[str] = set()  # of the scores that a callable returns

        def score(results: Sequence[FitResult]) -> Told:
            for result in results if callable(self.scoring) else ():
                found = set(result.test_scores)
                failed = result.error or result.score_error or result.skipped
                if not failed and found != (names or found):
                    raise ValueError(
                        "scoring must return scores of the same names for every fit, but returned "
                        f"{sorted(names, key=str)}, and then {sorted(found, key=str)}; return NaN "
                        "for a score that there is not"
                    )
                names.update(found)
            if names - {"score"}:
                self._check_refit_for_multimetric(names)
            metric = self._guiding_metric(scorer, results)
            return Told(
                mean_score(results, metric, error_score),
                variance_of_mean(results, metric, error_score),
                total_seconds(results),
                **goals.told(results, error_score),
            )

        return score

    def _guiding_metric(self, scorer: Any, results: Sequence[FitResult]) -> str:
        """Return the metric that the scheduler gets: what `refit` names, else the first one."""
        if isinstance(self.refit, str) and not self._refits_ensemble:
            return self.refit
        if self.objectives:
            return str(self.objectives[0])
        if isinstance(scorer, MultimetricScorer):
            return str(next(iter(scorer._scorers)))
        return next((name for result in results for name in result.test_scores), "score")

    def _known_metrics(self, scorer: Any) -> tuple[str, ...] | None:
        """Return the names of the scores, None while only a callable knows them."""
        if isinstance(scorer, MultimetricScorer):
            return tuple(scorer._scorers)
        return None if callable(self.scoring) else ("score",)

    def _store(self, plan: Plan, loop: TrialLoop) -> None:
        """Set the attributes that are known after the last fit."""
        from ..results import results_table

        scorer, metric = plan.setting.scorer, plan.metric
        for name in _ONLY_WITH_SOME_ARGUMENTS:
            self.__dict__.pop(name, None)  # of an earlier fit
        self.stop_reason_ = loop.stopped
        error_score = np.nan if self.error_score == "raise" else self.error_score
        several = isinstance(scorer, MultimetricScorer)
        self.scorer_ = scorer._scorers if several else scorer
        self.cv_results_ = results_table(
            loop.table,
            n_repeats=self.n_repeats,
            metrics=list(self.scorer_) if several else None,
            resource=plan.setting.resource,
            fixed=plan.fixed,
            error_score=error_score,
            return_train_score=self.return_train_score,
            n_splits_done=self.racing is not None or self.fold_schedule is not None,
        )
        self.timing_ = loop.table.timing(self.n_repeats)
        if loop.keeper is not None:
            if plan.setting.predictions is not None:
                self.predictions_ = loop.keeper.predictions(loop.table, num_samples(plan.X), plan.y)
            if self.keep_models:
                rows = [train for train, _ in loop.evaluator.rows]
                self.models_ = loop.keeper.models(loop.table, rows)
        names = [key[len("mean_test_") :] for key in self.cv_results_ if key[:10] == "mean_test_"]
        self.multimetric_ = several or names != ["score"]
        if callable(self.scoring) and self.multimetric_:
            metric = self.refit
        self._goals = plan.goals
        if plan.goals:
            self._add_goals(plan.goals)
        if self.refit or not self.multimetric_:
            self.best_index_ = self._find_best(metric)
            self.best_params_ = self._params_of(self.best_index_)
            if not callable(self.refit):
                self.best_score_ = float(self.cv_results_[f"mean_test_{metric}"][self.best_index_])

    def _add_goals(self, goals: Goals) -> None:
        """Add columns of objectives and constraints, and the front."""
        table = self.cv_results_
        names = [key[len("mean_test_") :] for key in table if key.startswith("mean_test_")]
        by_refit = isinstance(self.refit, str) and self.refit in names
        metric = self.refit if by_refit else names[0]
        decisive = goals.objectives[0] if goals.objectives else metric
        goals.add_columns(table, metric, self._comparable(table[f"mean_test_{decisive}"]))
        if not goals.objectives:
            return
        values = goals.values(table)
        front = np.flatnonzero((table["pareto_rank"] == 1) & self._may_be_on_front(values))
        self.pareto_front_ = front[np.argsort(-values[front, 0], kind="stable")]
        known = values[np.isfinite(values).all(axis=1) & self._may_be_on_front(values)]
        self.reference_point_ = known.min(axis=0, initial=np.inf)
        self.hypervolume_ = 0.0
        if len(known):
            self.hypervolume_ = objectives.hypervolume(values[front], self.reference_point_)

    def _may_be_on_front(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return the feasible rows that have all objectives."""
        feasible = self.cv_results_.get("feasible", True)
        may_win = self._comparable(values[:, 0]) & ~np.isnan(values).any(axis=1)
        return np.asarray(may_win & feasible)

    def _find_best(self, metric: Any) -> int:
        """Return the row of the best score, of those that may win."""
        from ._refit_rules import FrontRule

        table = self.cv_results_
        if isinstance(self.refit, FrontRule):
            return self.refit.choose(table, self._goals.objectives or None, self._comparable)
        if callable(self.refit):
            index: Any = self.refit(table)
            if not isinstance(index, int | np.integer):
                raise TypeError(f"refit must return an integer, the best index, not {index!r}")
            if not 0 <= index < len(table["params"]):
                raise IndexError(
                    f"refit must return an index in [0, {len(table['params'])}), not {index}"
                )
            return int(index)
        order = self._order(table[f"mean_test_{metric}"])
        if not len(order) and "violation" in table:
            return int(np.argmin(table["violation"]))
        if not len(order):  # no scorer returned a score: any row with the largest resource
            return int(np.argmax(table.get("n_resources", [0])))
        return int(order[0])

    def _best_and_level(self) -> tuple[float, int | None] | None:
        """Return the score that the search ends with, and its level of the resource."""
        if callable(self.refit) or not hasattr(self, "best_score_"):
            return None
        levels = self.cv_results_.get("n_resources")
        return self.best_score_, None if levels is None else levels[self.best_index_]

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

    def _may_win(self, trial: Trial, max_resource: int | None) -> bool:
        """Whether the row of a trial may be the best one: see `_comparable`."""
        return getattr(self, "resource_", None) != "n_samples" or trial.resource == max_resource

    @property
    def _refits_ensemble(self) -> bool:
        """Whether `refit` asks for an ensemble, and is no metric of that name."""
        several = isinstance(self.scoring, Mapping | list | tuple | set)
        return bool(self.refit == "ensemble" and not (several and "ensemble" in self.scoring))

    def _warn(self, loop: TrialLoop) -> None:
        """Issue each warning once for the whole search."""
        if loop.stopped is not None and not self._ends_as_planned(loop):
            done = len(loop.table)
            warnings.warn(
                f"the search was cut short because {loop.stopped}; its results are those of "
                + ("the one trial that was" if done == 1 else f"the {done} trials that were")
                + " finished"
                + ("" if self.journal is None else ", and fit with the same journal goes on"),
                SearchStoppedWarning,
                stacklevel=5,
            )
        _warn_about_failures(loop.table, self.error_score)
        if any(name in self._timed_scores() for name in self.objectives or ()):
            _warn_about_mixed_machines(loop.table)
        if "feasible" in self.cv_results_ and not self.cv_results_["feasible"].any():
            self._warn_that_nothing_is_feasible()
        if loop.keeper is not None:
            _warn_about_predictions(loop.keeper, len(loop.table) * loop.table.n_fits)

    def _warn_that_nothing_is_feasible(self) -> None:
        table = self.cv_results_
        row = getattr(self, "best_index_", int(np.argmin(table["violation"])))
        found = ", ".join(
            f"{one.name}={table[f'constraint_{one.name}'][row]:.4g}"
            for one in self._goals.constraints
        )
        warnings.warn(
            f"none of {len(table['params'])} rows keeps the constraints; the best is the one that "
            f"breaks them least, row {row} ({found}); widen the bounds or the space",
            UserWarning,
            stacklevel=6,
        )

    def _ends_as_planned(self, loop: TrialLoop) -> bool:
        """Whether what stopped the loop is what was to end it."""
        from ._loop import STOPPED_BY_CALLBACK

        return loop.stopped == STOPPED_BY_CALLBACK

    def _timed_scores(self) -> set[str]:
        """Return the names of the metrics that are times of the machine that measured them."""
        all_scorers = self.scorer_ if isinstance(self.scorer_, dict) else {"score": self.scorer_}
        timed = (scorers.PredictTime, scorers.FitTime)
        return {name for name, scorer in all_scorers.items() if isinstance(scorer, timed)}


def _warn_about_mixed_machines(table: TrialTable) -> None:
    """Warn where fits whose times are compared ran on several machines, or kinds of device."""
    if len(table.places) > 1:
        warnings.warn(
            f"a time is an objective, but fits ran on {', '.join(sorted(table.places))}: times of "
            "different machines are not comparable; use machines of one kind, or count parameters "
            "('neg_n_parameters')",
            UserWarning,
            stacklevel=6,
        )


def _warn_about_predictions(keeper: Keeper, n_fits: int) -> None:
    """Warn once each of predictions that could not be kept, and of those that were lost."""
    if keeper.n_made_again:
        warnings.warn(
            f"the predictions of {keeper.n_made_again} fits that the journal answers were missing "
            "or damaged beside it; to make them again the fits were trained again",
            UserWarning,
            stacklevel=6,
        )
    if keeper.n_unpredicted:
        warnings.warn(
            f"the predictions of {keeper.n_unpredicted} of {n_fits} fits are not kept; the first "
            f"one because:\n{keeper.first_unpredicted}",
            UserWarning,
            stacklevel=6,
        )


def _warn_about_failures(table: TrialTable, error_score: float | str) -> None:
    """Warn once each of fits and of scores that failed, and of scores that are no good."""
    n_fits = table.n_made
    if table.errors.n:
        warnings.warn(
            f"{table.errors.n} of {n_fits} fits failed, and count with error_score; the first "
            f"one like this:\n{table.errors.first}",
            FitFailedWarning,
            stacklevel=6,
        )
    if table.score_errors.n:
        warnings.warn(
            f"Scoring failed in {table.score_errors.n} of {n_fits} fits, where scores count with "
            f"error_score={error_score}; the first one like this:\n{table.score_errors.first}",
            UserWarning,
            stacklevel=6,
        )
    for part, scores in (("test", table.test_scores), ("train", table.train_scores)):
        for name, values in scores.given():
            bad = np.count_nonzero(~np.isfinite(values))
            if bad:
                warnings.warn(
                    f"One or more of the {part} scores are non-finite: {bad} of {len(values)} "
                    f"values of {name!r}",
                    UserWarning,
                    stacklevel=6,
                )
