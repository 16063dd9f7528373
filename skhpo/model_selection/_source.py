"""Where the trials of a search come from, opened: journal, scheduler, sampler."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .. import evaluation
from ..exceptions import JournalError
from ..fingerprint import differences, digest
from ..journal import Journal, Recorded, SharedJournal, checked_path
from ..process import total_memory
from ..samplers import EnqueuedSampler, Sampler
from ..schedulers import Scheduler
from ._checks import check_epochs, check_keep_from, check_listening, check_passed
from ._folds import fold_schedule_of
from ._plan import Plan
from ._race import check_racing
from ._resource import check_resource
from ._resume import replayed, tell_earlier_scores
from ._shared import common_settings

if TYPE_CHECKING:
    from ._base import BaseTrialSearchCV

__all__ = ["Source", "opened"]

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

    Parameters
    ----------
    search : BaseTrialSearchCV
    plan : Plan

    Raises
    ------
    JournalError
        If the file cannot be written, is in use, or belongs to another search.
    """
    if search.journal is None:
        yield _source(search, plan)
        return
    identity: Any = plan.fingerprint
    recorded = Recorded()
    path = _for_data(search.journal, identity["data"])
    with _journal(search, path, recorded) as journal:
        if journal.header is None:
            source = _with_journal(search, _source(search, plan), journal, recorded)
            if journal.start(_header(search, source.plan), plan.splits):
                yield source
                return
        _refuse_another(search.journal, journal.header["fingerprint"], identity)
        plan = replace(
            plan,
            splits=journal.splits(plan.splits),
            setting=replace(plan.setting, seed=journal.header["seed"]),
        )
        yield _with_journal(search, _source(search, plan), journal, recorded)


def _journal(search: BaseTrialSearchCV, path: str, recorded: Recorded) -> Journal:
    if search.shared:
        return SharedJournal(path, recorded.take, common_settings(search))
    return Journal(path, recorded.take)


def _with_journal(
    search: BaseTrialSearchCV, source: Source, journal: Journal, recorded: Recorded
) -> Source:
    """Return a source that replays what its journal contains, now or later."""
    if (recorded.results or search.shared) and search._samples_in_order:
        sampler = source.scheduler.sampler
        # Asynchronously, proposals depend on timing anyway.
        adopts = search.shared and search.asynchronous
        space = source.plan.space
        source.scheduler.sampler = replayed(recorded, space, sampler, adopts=adopts)
    return replace(source, journal=journal, recorded=recorded)


def _source(search: BaseTrialSearchCV, plan: Plan) -> Source:
    scheduler = search._make_scheduler(plan)
    check_listening(scheduler, plan.goals)
    resource = plan.setting.resource
    if search.resource == "auto" and resource is not None:
        if scheduler.max_resource is None:
            resource = None
        else:
            check_passed(plan.metadata, resource, plan.distributions)
            check_resource(search.estimator, resource, plan.distributions)
    if resource is None and scheduler.max_resource is not None:
        raise ValueError(
            f"{type(scheduler).__name__} gives its trials a resource, but the search has none "
            f"(resource={search.resource!r}); name one, such as 'max_epochs', 'max_iter' or "
            "'n_samples', or use a scheduler of full fits"
        )
    check_keep_from(search, resource, scheduler.max_resource)
    check_epochs(search, plan.distributions, resource, scheduler.max_resource)
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


def _header(search: BaseTrialSearchCV, plan: Plan) -> dict[str, Any]:
    """Return the first line of a journal."""
    return {
        "search": type(search).__name__,
        "seed": plan.setting.seed,
        "resource": plan.setting.resource,
        "n_repeats": search.n_repeats,
        "n_splits": len(plan.splits),
        "return_train_score": search.return_train_score,
        "asynchronous": search.asynchronous,
        "fingerprint": plan.fingerprint,
    }


def _for_data(path: Any, data: Any) -> str:
    """Return the path with ``{data}`` in it replaced by a hash of what is fitted."""
    template = checked_path(path)
    if _DATA not in template:
        return template
    return template.replace(_DATA, digest(json.dumps(data, sort_keys=True))[:12])


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
