"""The parts of ``fit`` of a search after its plan: begin, run the loop, finish, refit."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sklearn.base import clone

from .. import evaluation
from .._compat import num_samples, routing_enabled
from ..exceptions import SearchStoppedWarning
from ..journal import SharedJournal
from ..limits import noticing
from ._found_epochs import without_validation
from ._keeping import Keeper
from ._loop import OUT_OF_TIME, TrialLoop
from ._model_space import warn_about_newcomers
from ._observers import Observer, SearchStart, contexts_of
from ._plan import Plan
from ._progress import Progress, report_answered
from ._resume import identity_of
from ._shared import SharedTrialLoop
from ._source import Source
from ._top import RefitInputs, without_convergence_warnings

if TYPE_CHECKING:
    from ._base import BaseTrialSearchCV

__all__ = ["begin", "finish", "run"]


def begin(search: BaseTrialSearchCV, source: Source) -> None:
    """Notify the callbacks of the start of the search."""
    plan = source.plan
    if plan.callbacks.want_start and plan.fingerprint is not None:
        plan.callbacks.on_search_begin(
            SearchStart(
                space=plan.space,
                metrics=search._known_metrics(plan.setting.scorer),
                max_resource=source.scheduler.max_resource,
                identity=identity_of(plan.fingerprint, plan.setting.seed),
                known=source.recorded.results.keys(),
            )
        )


def run(
    search: BaseTrialSearchCV, source: Source, context: Any, start: float
) -> tuple[TrialLoop, Progress | None]:
    """Ask, evaluate, tell until it is done; return the ended loop, and what printed of it."""
    plan, n_trials = source.plan, source.scheduler.n_trials
    n_fits = search.n_splits_ * search.n_repeats
    total = None if n_trials is None else n_trials * n_fits
    score = search._score_of(plan)
    progress = None
    observers: list[Observer] = [plan.callbacks]
    if search.verbose > 0:
        progress = Progress(total, n_fits, score, plan.setting.resource)
        observers.append(progress)
    observers += search._forecasts(source, start)
    new = None
    if total is not None and n_trials is not None:
        new = total - sum(trial < n_trials for trial, _, _ in source.recorded.results)
    fits = context.subcontext(task_name="search", max_subtasks=new, sequential_subtasks=False)
    fits.call_on_fit_task_begin(estimator=search)
    keeper = None
    if plan.setting.predictions is not None or search.keep_models:
        may_win = partial(search._may_win, max_resource=plan.setting.max_resource)
        keeper = Keeper(
            source,
            search.n_repeats,
            n_models=search.keep_models,
            least=search.keep_from,
            n_leaders=max(1, search.confirm),
            may_win=may_win,
        )
    until = None if search.max_time is None else start + search.max_time
    # A journal that cannot be written is read by each process for itself.
    journal, shares = source.journal, False
    new_evaluator: Any = evaluation.Evaluator
    if isinstance(journal, SharedJournal) and not journal.read_only:
        shares, new_evaluator = True, partial(evaluation.SharedEvaluator, journal=journal)
    evaluator = new_evaluator(
        plan.setting,
        plan.X,
        plan.y,
        plan.splits,
        n_jobs=search.n_jobs,
        n_repeats=search.n_repeats,
        known=source.recorded.results,
        checkpoints=None if source.journal is None else source.journal.checkpoints,
        model_files=None if keeper is None else keeper.model_files,
        slots=plan.slots,
        fit_timeout=search.fit_timeout,
        until=until,
        lockstep=search.lockstep,
        across=not search.asynchronous,
        contexts=contexts_of(search, fits),
        folds=source.folds,
    )
    with evaluator, without_convergence_warnings(plan.setting.resource):
        loop = (SharedTrialLoop if shares else TrialLoop)(
            source.scheduler,
            evaluator,
            n_fits,
            score,
            asynchronous=search.asynchronous,
            journal=source.journal,
            recorded=source.recorded,
            deadline=until,
            observers=observers,
            keeper=keeper,
            budget=plan.budget,
            racing=search.racing is not None,
        )
        loop.run()
        if not len(loop.table):
            why = "" if loop.stopped is None else f": {loop.stopped}"
            if loop.stopped == OUT_OF_TIME:
                why += (
                    "; it includes the imports of the first fit and the start of workers: raise it"
                )
            raise ValueError(f"no trial was finished{why}")
    fits.call_on_fit_task_end(estimator=search)
    return loop, progress


def finish(
    search: BaseTrialSearchCV,
    plan: Plan,
    loop: TrialLoop,
    progress: Progress | None,
    context: Any,
    given: dict[str, Any] | None,
) -> None:
    """Issue the warnings of the search, and refit."""
    if progress is not None:
        progress.finish(search._best_and_level(), loop.stopped)
    if loop.evaluator.known:
        report_answered(loop, printed=search.verbose > 0)
    if loop.error is not None:
        raise loop.error
    setting = plan.setting
    candidates = loop.table.candidates()
    search._refit_inputs = RefitInputs(
        setting.seed, candidates, setting.max_resource, given, plan.metadata, routing_enabled()
    )
    search.__dict__.pop("_top", None)
    search._warn(loop)
    if search.param_distributions == "model":
        warn_about_newcomers(search, loop.table, plan.X, plan.y)
    if search.refit:
        _refit(search, plan, loop.stopped, context)


def _refit(search: BaseTrialSearchCV, plan: Plan, stopped: str | None, context: Any) -> None:
    if search._refits_ensemble:
        if stopped is None or search._rows_with_predictions():
            _refit_ensemble(search, plan, context)
        else:
            warnings.warn(
                f"refit='ensemble' was left out because {stopped}, before a row had predictions "
                "for all splits; the best row is best_index_, and there is no best_estimator_",
                SearchStoppedWarning,
                stacklevel=5,
            )
        return
    setting = replace(plan.setting, estimator=clone(search.estimator), starts=None)
    best, n_epochs = search._for_refit(setting, search.best_index_, num_samples(plan.X))
    if n_epochs is not None:
        setting = replace(setting, fit_params=without_validation(setting.fit_params))
    refit_context = context.subcontext(task_name="refit-with-best-params")
    training = partial(evaluation.told, refit_context, {"estimator": search, **plan.shown})
    start = time.perf_counter()
    with noticing(), without_convergence_warnings(setting.resource):
        evaluation.refit(best, setting, plan.X, plan.y, training)
    search.refit_time_ = time.perf_counter() - start
    search.best_estimator_ = best
    if n_epochs is not None:
        search.refit_epochs_ = n_epochs
    if hasattr(best, "feature_names_in_"):
        search.feature_names_in_ = best.feature_names_in_
    refit_context.call_on_fit_task_end(estimator=search, **plan.shown)


def _refit_ensemble(search: BaseTrialSearchCV, plan: Plan, context: Any) -> None:
    refit_context = context.subcontext(task_name="refit-ensemble")
    refit_context.call_on_fit_task_begin(estimator=search, **plan.shown)
    start = time.perf_counter()
    with noticing():
        best = search._refitted_ensemble(plan)
    search.refit_time_ = time.perf_counter() - start
    search.best_estimator_ = best
    if hasattr(best, "feature_names_in_"):
        search.feature_names_in_ = best.feature_names_in_
    refit_context.call_on_fit_task_end(estimator=search, **plan.shown)
