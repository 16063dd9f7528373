"""What a search takes from its own journal, and from those of earlier searches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from ..exceptions import JournalError
from ..fingerprint import digest
from ..journal import as_read, read_trials
from ..results import mean_score, total_seconds, variance_of_mean
from ..samplers import ReplayedSampler
from ._goals import Told, n_splits_done

if TYPE_CHECKING:
    from ..journal import Recorded
    from ..samplers import Sampler
    from ..space import SearchSpace
    from ..trial import FitResult, Trial
    from ._goals import Goals

__all__ = ["identity_of", "replayed", "taken", "tell_earlier_scores"]


def identity_of(fingerprint: Mapping[str, Any], seed: int) -> str:
    """Return a name for a search: the same one for what may continue its journal."""
    settings = {k: v for k, v in fingerprint["settings"].items() if k != "n_iter"}
    return digest(json.dumps({**fingerprint, "settings": settings, "seed": seed}, sort_keys=True))


def replayed(
    recorded: Recorded,
    space: SearchSpace,
    sampler: Sampler,
    first: int = 0,
    *,
    adopts: bool = False,
) -> Sampler:
    """Return a sampler that proposes what the journal has before it goes on.

    Parameters
    ----------
    recorded : Recorded
    space : SearchSpace
    sampler : Sampler
    first : int, default=0
        Number of the first candidate that it samples.
    adopts : bool, default=False
        Whether it need not compute what others proposed.
    """

    restore = partial(_restored, space)
    return ReplayedSampler(sampler, recorded.configurations, restore, first, adopts=adopts)


def taken(record: Mapping[str, Any], space: SearchSpace) -> dict[str, Any] | None:
    """Return a configuration as its record says, None where that does not say all.

    Its values have the types of those that a sampler proposes.
    """
    try:
        likely = space.from_unit(space.to_unit(_restored(space, {}, record)))
    except (ValueError, TypeError):
        return None
    return _restored(space, likely, record)


def _restored(
    space: SearchSpace, proposed: dict[str, Any], record: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the configuration of a record: the proposed one, if they do not differ."""
    params = {name: _value(name, record[name], proposed, space) for name in record}
    changed = params.keys() != proposed.keys() or any(
        params[name] is not proposed[name] for name in params
    )
    return params if changed else proposed


def _value(name: str, value: Any, proposed: dict[str, Any], space: SearchSpace) -> Any:
    """Return the value of the space that reads like one of a journal, else the proposed one."""
    if name in proposed and _reads_like(proposed[name], value):
        return proposed[name]
    choices = space.choices(name)
    alike = (choice for choice in choices if _reads_like(choice, value))
    return next(alike, proposed.get(name, value) if choices else value)


def _reads_like(value: Any, recorded: Any) -> bool:
    """Whether a value is the one that a journal has; 1, 1.0 and True are three."""
    read = as_read(value)
    same_kind = all(isinstance(read, k) == isinstance(recorded, k) for k in (bool, int))
    return bool(same_kind and read == recorded)


def tell_earlier_scores(
    path: str | PathLike[str],
    space: SearchSpace,
    sampler: Sampler,
    identity: Any,
    metric: Any = True,
    max_resource: int | None = None,
    goals: Goals | None = None,
) -> None:
    """Tell a sampler what an earlier search over the same space found.

    Scores of the same data, estimator and metric are told as if they were found here; those of an
    earlier search with another resource at the nearest one that there is here. Other scores are
    told as those of another task, each configuration's at its largest resource.

    Parameters
    ----------
    path : str or path-like
        Its journal.
    space : SearchSpace
    sampler : Sampler
    identity : dict
        The fingerprint of this search.
    metric : str or object, default=True
        The metric that guides this search, if it has a name.
    max_resource : int or None, default=None
        The largest resource here; None for full fits.
    goals : Goals or None, default=None
        Objectives and constraints of this search.

    Raises
    ------
    JournalError
        If the file is no journal, has no finished trial, lacks an objective or the number of a
        constraint, or has a configuration that is not in the
        space.
    """
    header, trials, results = read_trials(path)
    n_fits = header["n_splits"] * header["n_repeats"]
    finished = [
        (trial, [found[key] for key in sorted(found)])
        for trial, found in zip(trials, results, strict=True)
        if len(found) == n_fits
    ]
    if not finished:
        raise JournalError(
            f"warm_start_from must be the journal of a search that has finished trials, but "
            f"{str(path)!r} has none; leave it out, or let that search go on first"
        )
    if goals is not None:
        _check_measured(path, finished, goals)
    same = _same_task(header["fingerprint"], identity)
    heard = [_told(fits, metric, goals) for _, fits in finished]
    n_splits = header["n_splits"]
    best = _best_whole(heard, [n_splits_done(fits) == n_splits for _, fits in finished])
    last = {trial.candidate: trial.number for trial, _ in finished}
    for (trial, fits), told in zip(finished, heard, strict=True):
        params = _in_space(path, trial, space)
        n_done = n_splits_done(fits)
        if n_done < n_splits:
            told = told.on_part(n_done, n_splits, best)
        if same:
            resource = trial.resource
            if max_resource is not None:
                resource = min(max_resource if resource is None else resource, max_resource)
            sampler.observe(params, told.score, resource, **told.more)
        elif trial.number == last[trial.candidate]:
            sampler.observe_elsewhere(params, told.score, **told.more)


def _told(fits: Sequence[FitResult], metric: Any, goals: Goals | None) -> Told:
    """Return what a trial of an earlier search scored."""
    name = _metric_of(fits, metric)
    more = {} if goals is None else goals.told(fits, np.nan)
    noise = variance_of_mean(fits, name, np.nan)
    return Told(mean_score(fits, name, np.nan), noise, total_seconds(fits), **more)


def _best_whole(heard: Sequence[Told], is_whole: Sequence[bool]) -> Told | None:
    """Return the best of the trials that were fitted on all splits, None for none."""
    pairs = zip(heard, is_whole, strict=True)
    whole = [told for told, all_splits in pairs if all_splits and not np.isnan(told.score)]
    return max(whole, key=lambda told: told.score, default=None)


def _check_measured(
    path: str | PathLike[str], finished: Sequence[tuple[Trial, list[FitResult]]], goals: Goals
) -> None:
    """Raise JournalError unless an earlier search has what the objectives of this one are."""
    found = {name for _, fits in finished for fit in fits for name in fit.test_scores}
    noted = {name for _, fits in finished for fit in fits for name in fit.measures or ()}
    for name in [*goals.objectives, *(one.name for one in goals.constraints)]:
        if name not in found and (name in goals.objectives or name not in noted):
            raise JournalError(
                f"warm_start_from must be the journal of a search that measured all objectives and "
                f"constraints of this one, but {str(path)!r} has no {name!r}, only "
                f"{', '.join(map(repr, sorted(found | noted)))}; leave warm_start_from out"
            )


def _same_task(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether scores of two searches measure the same."""
    parts = (
        [fingerprint[name] for name in ("data", "estimator")]
        + [fingerprint["settings"].get("scoring")]
        for fingerprint in (earlier, now)
    )
    return next(parts) == next(parts)


def _metric_of(fits: Sequence[FitResult], wanted: Any) -> str:
    """Return the metric of an earlier search that counts here: the wanted one, else its first."""
    names = [name for fit in fits for name in fit.test_scores]
    return wanted if wanted in names else next(iter(names), "score")


def _in_space(path: str | PathLike[str], trial: Trial, space: SearchSpace) -> dict[str, Any]:
    """Return a trial's parameters as values of the space; a journal has some as text only."""
    params = {}
    for name, value in trial.params.items():
        params[name] = next(
            (choice for choice in space.choices(name) if _reads_like(choice, value)), value
        )
    try:
        space.to_unit(params)
    except ValueError as error:
        raise JournalError(
            f"warm_start_from must be the journal of a search over the same space, but in "
            f"{str(path)!r} trial {trial.number} is not in this one: {error}"
        ) from error
    return params
