"""Further fits of the best rows of a search, under other seeds and on other splits."""

from __future__ import annotations

import copy
import reprlib
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import FitFailedWarning

from .. import evaluation
from .._compat import MultimetricScorer
from ..exceptions import SearchStoppedWarning
from ..journal import Recorded
from ..objectives import total_violation
from ..results import TrialTable
from ._checks import Dicts
from ._loop import TrialLoop
from ._scored import without_convergence_warnings

if TYPE_CHECKING:
    from ..trial import Trial
    from ._base import BaseTrialSearchCV
    from ._running import Source

__all__ = ["check_confirm", "confirm", "reshuffled"]


def reshuffled(cv: Any, seed: int) -> Any | None:
    """Return a splitter that draws other splits, None where this one always gives the same."""
    if not hasattr(cv, "random_state") or getattr(cv, "shuffle", True) is False:
        return None
    other = copy.deepcopy(cv)
    other.random_state = seed
    return other


def check_confirm(search: BaseTrialSearchCV, dicts: Dicts, cv: Any, scorer: Any) -> None:
    """Raise ValueError where `confirm` has nothing to decide, or nothing to decide by.

    Parameters
    ----------
    search : BaseTrialSearchCV
    dicts : sequence of dict
        Its space.
    cv : splitter
    scorer : callable
    """
    if callable(search.refit):
        raise ValueError(
            f"confirm={search.confirm} chooses the best row itself, and so does a callable refit; "
            "use refit=True, or confirm=0"
        )
    if isinstance(scorer, MultimetricScorer) and not isinstance(search.refit, str):
        raise ValueError(
            f"confirm={search.confirm} needs to know by which of several metrics a row is the "
            f"best; name one with refit, of {', '.join(scorer._scorers)}"
        )
    if reshuffled(cv, 0) is None and not _may_be_random(search.estimator, dicts):
        raise ValueError(
            f"confirm={search.confirm} fits again under other seeds and on other splits, but "
            f"{type(search.estimator).__name__} has no random_state and "
            f"cv={reprlib.repr(search.cv)} always gives the same splits; use a cv that shuffles, "
            "like StratifiedKFold(5, shuffle=True), or confirm=0"
        )


def _may_be_random(estimator: Any, dicts: Dicts) -> bool:
    names = estimator.get_params(deep=True)
    if any(name.rpartition("__")[2] == "random_state" for name in names):
        return True
    lists = [values for space in dicts for values in space.values() if not hasattr(values, "rvs")]
    return any(hasattr(value, "get_params") for values in lists for value in values)


def confirm(search: BaseTrialSearchCV, source: Source, loop: TrialLoop, context: Any) -> None:
    """Fit the best rows of a search again, and let all scores say which one is the best.

    Sets `best_index_` and what depends on it, and adds columns to `cv_results_`.

    Parameters
    ----------
    search : BaseTrialSearchCV
        With its results, and no refit.
    source : Source
        Open.
    loop : TrialLoop
        That has ended.
    context : CallbackContext
        Of the search, for scikit-learn's callbacks.
    """
    rows = _best_rows(search, loop)
    if loop.stopped is None:
        table = _fitted_again(search, source, loop, rows, context)
    else:
        table = TrialTable(loop.n_fits)
        warnings.warn(
            f"confirm={search.confirm} was left out because {loop.stopped}; the best row is the "
            "one that the search found",
            SearchStoppedWarning,
            stacklevel=4,
        )
    numbers = [trial.number for trial in loop.table.trials()]
    confirmed = [numbers.index(trial.number) for trial in table.trials()]
    _add_columns(search, table, confirmed)
    _choose(search, confirmed, _violations(search, table, confirmed))


def _best_rows(search: BaseTrialSearchCV, loop: TrialLoop) -> list[int]:
    """Return the row at which each of the best candidates was best."""
    candidates = loop.table.candidates()
    best: dict[int, int] = {}
    for row in search._order(search.cv_results_[f"mean_test_{_metric(search)}"]).tolist():
        best.setdefault(candidates[row], row)
    return list(best.values())[: search.confirm]


def _metric(search: BaseTrialSearchCV) -> str:
    """Return the metric by which a row is the best."""
    return str(search.refit) if search.multimetric_ else "score"


def _fitted_again(
    search: BaseTrialSearchCV, source: Source, loop: TrialLoop, rows: Sequence[int], context: Any
) -> TrialTable:
    """Return the rows, as trials, with the results of their new fits."""
    from ._running import contexts_of

    plan, trials = source.plan, loop.table.trials()
    again = [replace(trials[row], parent=None) for row in rows]
    scheduler: Any = _Given(again)
    journal: Any = None if source.journal is None else _ConfirmJournal(source.journal)
    recorded = source.recorded.confirmed or Recorded()
    fits = context.subcontext(
        task_name="confirm",
        max_subtasks=len(again) * loop.n_fits,
        sequential_subtasks=False,
    )
    fits.call_on_fit_task_begin(estimator=search)
    setting = replace(
        plan.setting,
        name=f"{plan.setting.name}-confirm",
        first_repeat=search.n_repeats,
        curves=False,
        predictions=None,
        return_train_score=False,
    )
    evaluator = evaluation.Evaluator(
        setting,
        plan.X,
        plan.y,
        plan.resplit(evaluation.derive_seed(plan.setting.seed, "confirm")),
        n_jobs=search.n_jobs,
        n_repeats=search.n_repeats,
        known=recorded.results,
        slots=plan.slots,
        fit_timeout=search.fit_timeout,
        until=loop.deadline,
        lockstep=search.lockstep,
        contexts=contexts_of(search, fits),
    )
    with evaluator, without_convergence_warnings(setting.resource):
        confirming = _ConfirmLoop(
            scheduler,
            evaluator,
            loop.n_fits,
            loop.score,
            journal=journal,
            recorded=recorded,
            deadline=loop.deadline,
        )
        confirming.run()
    fits.call_on_fit_task_end(estimator=search)
    if confirming.error is not None:
        raise confirming.error
    if confirming.stopped is not None:
        warnings.warn(
            f"confirm={search.confirm} was cut short because {confirming.stopped}; "
            f"{len(confirming.table)} rows were fitted again, and the best is chosen of these",
            SearchStoppedWarning,
            stacklevel=5,
        )
    failed = confirming.table.errors
    if failed.n:
        warnings.warn(
            f"{failed.n} fits of confirm={search.confirm} failed, whose rows cannot win then; the "
            f"first one like this:\n{failed.first}",
            FitFailedWarning,
            stacklevel=5,
        )
    return confirming.table


def _add_columns(search: BaseTrialSearchCV, table: TrialTable, rows: Sequence[int]) -> None:
    """Add the mean and the standard deviation over splits of each metric, NaN for other rows."""
    error_score = np.nan if search.error_score == "raise" else float(search.error_score)
    results = search.cv_results_
    order = table._order()
    for key in [key for key in results if key.startswith("mean_test_")]:
        name = key[len("mean_test_") :]
        scores = table.test_scores.column(name, error_score)
        shape = len(rows), table.n_fits // search.n_repeats, search.n_repeats  # rows may be none
        by_split = scores.reshape(shape).mean(axis=2)[order]
        for statistic, values in (("mean", by_split.mean(axis=1)), ("std", by_split.std(axis=1))):
            column: NDArray[np.float64] = np.full(len(results["params"]), np.nan)
            column[list(rows)] = values
            results[f"confirm_{statistic}_test_{name}"] = column


def _violations(
    search: BaseTrialSearchCV, table: TrialTable, rows: Sequence[int]
) -> NDArray[np.float64]:
    """Return how far rows break the constraints in the mean of all their fits; add columns."""
    results = search.cv_results_
    found: list[Any] = [np.zeros(len(rows))]
    for one in search._goals.constraints:
        again = results.get(f"confirm_mean_test_{one.name}")
        if again is None:
            measured = table.measures.column(one.name, np.nan).reshape(len(rows), table.n_fits)
            again = np.full(len(results["params"]), np.nan)
            again[list(rows)] = measured[table._order()].mean(axis=1)
        results[f"confirm_constraint_{one.name}"] = again
        both = (results[f"constraint_{one.name}"] + again) / 2
        found += one.violations(both[list(rows)])
    return total_violation(np.column_stack(found))


def _choose(
    search: BaseTrialSearchCV, rows: Sequence[int], violations: NDArray[np.float64]
) -> None:
    """Set the best row: of those that were fitted again, the best by the mean of all its scores.

    What breaks the constraints in all of its fits together comes after what does not.
    """
    metric = _metric(search)
    results = search.cv_results_
    both = (results[f"mean_test_{metric}"] + results[f"confirm_mean_test_{metric}"]) / 2
    known = [(v, row) for v, row in zip(violations, rows, strict=True) if not np.isnan(both[row])]
    if not known:
        return
    least = min(known)[0]
    search.best_index_ = max((row for v, row in known if v == least), key=lambda row: both[row])
    search.best_params_ = search._params_of(search.best_index_)
    search.best_score_ = float(results[f"mean_test_{metric}"][search.best_index_])


class _ConfirmLoop(TrialLoop):
    """The loop of the further fits; if all of them fail, earlier results stay."""

    def _raise_if_all_failed(self) -> None:
        pass

    def _any_finished(self) -> bool:
        return True


class _Given:
    """Replaces a scheduler: returns all of its trials at once."""

    looks_ahead = False

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._trials = list(trials)

    def ask(self) -> list[Trial]:
        trials, self._trials = self._trials, []
        return trials

    def tell(self, trial: Trial, score: float, **more: float | None) -> None:
        """Do nothing: no further trial depends on the score."""

    def released(self) -> Collection[int]:
        return ()


class _ConfirmJournal:
    """A journal for the loop of the further fits, which marks their lines as such."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal

    def append(self, event: Mapping[str, Any]) -> None:
        self._journal.append({**event, "event": "confirm"})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)
