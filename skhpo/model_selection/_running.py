"""The parts of ``fit`` of a search after its plan: open, begin, run the loop, finish, refit."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sklearn.base import clone

from .. import evaluation
from .._compat import num_samples, routing_enabled
from ..exceptions import JournalError, SearchStoppedWarning
from ..fingerprint import differences, digest
from ..journal import Journal, Recorded, SharedJournal, checked_path
from ..limits import noticing
from ..process import total_memory
from ..samplers import EnqueuedSampler, Sampler
from ..schedulers import Scheduler
from ._checks import check_epochs, check_keep_from, check_listening, check_passed
from ._end_of_training import without_validation
from ._keeping import Keeper
from ._loop import OUT_OF_TIME, TrialLoop
from ._observers import Observer, Progress, SearchStart, report_answered
from ._plan import Plan, check_resource, warn_about_newcomers
from ._race import check_racing, fold_schedule_of
from ._resume import identity_of, replayed, tell_earlier_scores
from ._scored import RefitInputs, without_convergence_warnings
from ._shared import SharedSampler, SharedTrialLoop, common_settings

if TYPE_CHECKING:
    from ._base import BaseTrialSearchCV

__all__ = ["Source", "begin", "contexts_of", "finish", "opened", "run"]

# What a trial and each of its fits take at the peak, in bytes: docs/benchmarks/cluster.md. A plan
# is refused only if half of that would be too much.
_OF_TRIAL = 500
_OF_FIT = 60

# Part of a journal's path that stands for a hash of the data.
_DATA = "{data}"


@dataclass(frozen=True)
class Source:
    """Where the trials of a search come from.

    Parameters
    ----------
    plan : Plan
        Under the seed and the splits of the journal.
    scheduler : Scheduler
    sampler : Sampler
        What the scheduler was made with; others may stand before it now, which propose first.
    folds : FoldSchedule
        On how many splits trials are fitted.
    journal : Journal or None, default=None
    recorded : Recorded
        What the journal answers.
    """

    plan: Plan
    scheduler: Scheduler
    sampler: Sampler
    folds: evaluation.FoldSchedule
    journal: Journal | None = None
    recorded: Recorded = field(default_factory=Recorded)


@contextmanager
def opened(search: BaseTrialSearchCV, plan: Plan) -> Iterator[Source]:
    """Open the journal of a search, new or to be continued, and make its scheduler.

    What the scheduler or its sampler refuses is raised before a journal is written.

    Raises
    ------
    JournalError
        If the file cannot be written, is in use, or belongs to another search.
    """
    if search.journal is None:
        yield _source(search, plan)
        return
    identity: Any = plan.fingerprint
    path = checked_path(search.journal)
    if _DATA in path:
        path = path.replace(_DATA, digest(json.dumps(identity["data"], sort_keys=True))[:12])
    recorded = Recorded()
    with (
        SharedJournal(path, recorded.take, common_settings(search))
        if search.shared
        else Journal(path, recorded.take)
    ) as journal:
        if journal.header is None:
            source = _with_journal(search, _source(search, plan), journal, recorded)
            header = {
                "search": type(search).__name__,
                "seed": plan.setting.seed,
                "resource": source.plan.setting.resource,
                "fixed": dict(plan.fixed),
                "n_repeats": search.n_repeats,
                "n_splits": len(plan.splits),
                "return_train_score": search.return_train_score,
                "asynchronous": search.asynchronous,
                "fingerprint": identity,
            }
            if journal.start(header, plan.splits):
                yield source
                return
        _refuse_another(search.journal, journal.header["fingerprint"], identity)
        plan = replace(
            plan,
            splits=journal.splits(plan.splits),
            setting=replace(plan.setting, seed=journal.header["seed"]),
        )
        yield _with_journal(search, _source(search, plan), journal, recorded)


def _with_journal(
    search: BaseTrialSearchCV, source: Source, journal: Journal, recorded: Recorded
) -> Source:
    """Return a source that replays what its journal contains, now or later."""
    if (recorded.results or search.shared) and search._samples_in_order:
        # Asynchronously, proposals depend on timing anyway.
        adopts = search.shared and search.asynchronous
        space = source.plan.space
        in_turns = search.shared and not (adopts or journal.read_only)

        def wrap(sampler: Sampler, first: int) -> Sampler:
            sampler = replayed(recorded, space, sampler, first, adopts=adopts)
            if in_turns:
                return SharedSampler(sampler, journal, recorded, space, first)
            return sampler

        source.scheduler.wrap_sampler(wrap)
    return replace(source, journal=journal, recorded=recorded)


def _source(search: BaseTrialSearchCV, plan: Plan) -> Source:
    scheduler = search._make_scheduler(plan)
    check_listening(scheduler, plan.goals)
    resource = plan.setting.resource
    if search.resource == "auto" and resource is not None:
        if scheduler.max_resource is None:
            resource = None
        else:
            if plan.metadata:
                check_passed(plan.metadata, resource, plan.space.dicts)
            check_resource(search.estimator, resource, plan.space.dicts)
    if resource is None and scheduler.max_resource is not None:
        raise ValueError(
            f"{type(scheduler).__name__} gives its trials a resource, but the search has none "
            f"(resource={search.resource!r}); name one, such as 'max_epochs', 'max_iter' or "
            "'n_samples', or use a scheduler of full fits"
        )
    if search.keep_from is not None:
        check_keep_from(search, resource, scheduler.max_resource)
    check_epochs(search, plan.space.dicts, resource, scheduler.max_resource)
    if search.racing is not None:
        check_racing(search, plan, scheduler)
    folds = evaluation.FoldSchedule(len(plan.splits))
    if search.fold_schedule is not None:
        folds = fold_schedule_of(search, plan, scheduler)
    if search.max_time is None and search.max_cost is None:
        _check_size(scheduler.n_trials, len(plan.splits) * search.n_repeats)
    sampler = scheduler.sampler
    if search.warm_start_from is not None:
        tell_earlier_scores(
            search.warm_start_from,
            plan.space,
            sampler,
            plan.fingerprint,
            metric=True if search._refits_ensemble else search.refit,
            max_resource=scheduler.max_resource,
            goals=plan.goals,
        )
    if plan.first:
        seed = evaluation.derive_seed(plan.setting.seed, "enqueue")
        scheduler.sampler = EnqueuedSampler(sampler, plan.first, seed)
    setting = replace(plan.setting, resource=resource, max_resource=scheduler.max_resource)
    budget = None if plan.budget is None else plan.budget.with_folds(folds)
    return Source(replace(plan, setting=setting, budget=budget), scheduler, sampler, folds)


def _refuse_another(path: Any, old: dict[str, Any], new: dict[str, Any]) -> None:
    found = [
        f"  {name}: {before!r} in the journal, now {now!r}"
        for name, before, now in differences(old, new)
        if not (name == "settings.n_iter" and now >= before)
    ]
    if found:
        raise JournalError(
            f"a journal continues only the search that wrote it, but {str(path)!r} was written by "
            "another one:\n" + "\n".join(found) + "\nundo the change, or give a new path; where "
            "each fold of an outer cross-validation fits the search, a path with {data} in it, "
            "like 'run-{data}.jsonl', is one journal for each"
        )


def _check_size(n_trials: int | None, n_fits: int) -> None:
    """Refuse a search whose results alone exceed the memory of this machine.

    Parameters
    ----------
    n_trials : int or None
        None where that is unknown.
    n_fits : int
        Per trial.

    Raises
    ------
    ValueError
        With the numbers.
    """
    memory = total_memory()
    if n_trials is None or memory is None:
        return
    needed = n_trials * (_OF_TRIAL + n_fits * _OF_FIT)
    if needed / 2 > memory:
        raise ValueError(
            f"the results of a search must fit into memory, but those of {n_trials:,} trials with "
            f"{n_fits} fits each, {n_trials * n_fits:,} fits, take about {needed / 1e9:,.0f} GB "
            f"and this machine has {memory / 1e9:,.0f} GB; plan fewer iterations or candidates, or "
            "set max_time, which ends a search when it is over"
        )


def begin(search: BaseTrialSearchCV, source: Source) -> None:
    """Notify the callbacks of the start of the search."""
    plan = source.plan
    callbacks = plan.callbacks
    if callbacks is not None and callbacks.want_start and plan.fingerprint is not None:
        callbacks.on_search_begin(
            SearchStart(
                space=plan.space,
                metrics=search._known_metrics(plan.setting.scorer),
                max_resource=source.scheduler.max_resource,
                identity=identity_of(plan.fingerprint, plan.setting.seed),
                known=source.recorded.results.keys(),
            )
        )


def _n_made(source: Source, total: int | None) -> int | None:
    """Return how many of so many fits are made: a fold schedule leaves some out."""
    if total is None or not source.folds.by_level:
        return total
    scheduler: Any = source.scheduler
    rungs: list[tuple[int, int]] = [rung for bracket in scheduler.brackets for rung in bracket]
    n_made = sum(n * source.folds.n_done(level) for n, level in rungs)
    return round(total * n_made / (sum(n for n, _ in rungs) * source.folds.n_splits))


def run(
    search: BaseTrialSearchCV, source: Source, context: Any, start: float
) -> tuple[TrialLoop, Progress | None]:
    """Ask, evaluate, tell until it is done; return the ended loop, and what printed of it."""
    plan, n_trials = source.plan, source.scheduler.n_trials
    n_fits = search.n_splits_ * search.n_repeats
    total = None if n_trials is None else n_trials * n_fits
    score = search._score_of(plan)
    until = None if search.max_time is None else start + search.max_time
    progress = None
    observers: list[Observer] = [] if plan.callbacks is None else [plan.callbacks]
    if search.verbose > 0:
        known = source.recorded.results.keys()
        n_made = _n_made(source, total)
        progress = Progress(n_made, n_fits, score, plan.setting.resource, known, until)
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


def contexts_of(search: BaseTrialSearchCV, context: Any) -> evaluation.FitContexts | None:
    """Return what callbacks of scikit-learn are told of fits, None where there are no callbacks."""
    parts = [search, search.estimator, *search.estimator.get_params().values()]
    watched = any(getattr(part, "_skl_callbacks", None) for part in parts)
    return evaluation.FitContexts(search, context) if watched else None


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
        if stopped is not None and not search._rows_with_predictions():
            warnings.warn(
                f"refit='ensemble' was left out because {stopped}, before a row had predictions "
                "for all splits; the best row is best_index_, and there is no best_estimator_",
                SearchStoppedWarning,
                stacklevel=5,
            )
            return
        refit_context = context.subcontext(task_name="refit-ensemble")
        refit_context.call_on_fit_task_begin(estimator=search, **plan.shown)
        fit = partial(search._refitted_ensemble, plan)
    else:
        refit_context = context.subcontext(task_name="refit-with-best-params")
        fit = partial(_refitted_best, search, plan, refit_context)
    start = time.perf_counter()
    with noticing():
        best = fit()
    search.refit_time_ = time.perf_counter() - start
    search.best_estimator_ = best
    if hasattr(best, "feature_names_in_"):
        search.feature_names_in_ = best.feature_names_in_
    refit_context.call_on_fit_task_end(estimator=search, **plan.shown)


def _refitted_best(search: BaseTrialSearchCV, plan: Plan, context: Any) -> Any:
    setting = replace(plan.setting, estimator=clone(search.estimator), starts=None)
    best, n_epochs = search._for_refit(setting, search.best_index_, num_samples(plan.X))
    if n_epochs is not None:
        setting = replace(setting, fit_params=without_validation(setting.fit_params))
    training = partial(evaluation.told, context, {"estimator": search, **plan.shown})
    with without_convergence_warnings(setting.resource):
        evaluation.refit(best, setting, plan.X, plan.y, training)
    if n_epochs is not None:
        search.refit_epochs_ = n_epochs
    return best
