"""From a journal to a `SearchRecord`."""

from __future__ import annotations

import numpy as np

from ..journal import read_trials
from ..objectives import bound_violations, total_violation
from ._record import Failure, SearchRecord
from ._spaces import described_space

__all__ = ["TAGS", "any_flag", "record_of_journal"]

# Where a scheduler puts a trial.
TAGS = ("bracket", "iter", "stage")


def record_of_journal(path):
    """Return the `SearchRecord` of a journal, read up to its last whole line.

    Raises `JournalError` if the path names no journal, a damaged one, or one of another version.
    """
    header, trials, results = read_trials(path)
    n_splits, n_repeats = header["n_splits"], header["n_repeats"]
    shape = (len(trials), n_splits, n_repeats)
    has_fit, skipped = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    seconds = {name: np.full(shape, np.nan) for name in ("start", "fit_time", "score_time")}
    workers = np.full(shape, None, dtype=object)
    scores, measures, failures, curves = {}, {}, [], []
    for row, found in enumerate(results):
        curves.append({})
        for (split, repeat), result in found.items():
            if result.is_left_out:
                continue
            place = row, split, repeat
            has_fit[place] = True
            skipped[place] = result.skipped is not None
            seconds["fit_time"][place] = result.fit_time
            seconds["score_time"][place] = result.score_time
            if result.start is not None:
                seconds["start"][place], workers[place] = result.start, result.worker
            for name, score in result.test_scores.items():
                if name not in scores:
                    scores[name] = np.full(shape, np.nan)
                scores[name][place] = score
            for name, number in (result.measures or {}).items():
                measures.setdefault(name, np.full(shape, np.nan))[place] = number
            if (error := result.error or result.score_error) is not None:
                failures.append(Failure(row, split, repeat, error))
            for name, curve in (result.curves or {}).items():
                curves[-1].setdefault(name, {})[split, repeat] = np.array(curve)
    params = [dict(trial.params) for trial in trials]
    fingerprint = header["fingerprint"]
    has_levels = header["resource"] is not None
    names = [name for name in TAGS if trials and name in trials[0].tags]
    settings = fingerprint.get("settings", {})
    # A function is described with its module.
    numbers = {**measures, **scores}
    bounds = {
        name if name in numbers else name.rpartition(".")[2]: tuple(given)
        for name, given in (settings.get("constraints") or {}).items()
    }
    constraints = {name: _mean(numbers.get(name), len(trials)) for name in bounds}
    return SearchRecord(
        distributions=described_space(fingerprint["space"], params),
        params=params,
        scores=scores or {"score": np.full(shape, np.nan)},
        has_fit=has_fit,
        fit_seconds=seconds["fit_time"],
        score_seconds=seconds["score_time"],
        starts=seconds["start"],
        workers=workers,
        candidates=np.array([trial.candidate for trial in trials], dtype=int),
        resources=np.array([trial.resource for trial in trials]) if has_levels else None,
        resource=header["resource"],
        fixed=header.get("fixed", {}),
        tags={name: np.array([trial.tags[name] for trial in trials]) for name in names},
        metric=next(iter(scores), "score"),
        objectives=tuple(name for name in settings.get("objectives") or () if name in scores),
        violation=_violation(constraints, bounds),
        constraints=constraints,
        bounds=bounds,
        skipped=any_flag(skipped),
        failures=failures,
        curves=curves,
        facts={
            "search": header["search"],
            "estimator": fingerprint.get("estimator"),
            "seed": header["seed"],
            "continues": True,
            "versions": fingerprint.get("versions", {}),
            "settings": settings,
        },
    )


def _mean(numbers, n_rows):
    """Return the means of rows over the fits that have a number; NaN where none has."""
    means = np.full(n_rows, np.nan)
    if numbers is not None:
        numbers = numbers.reshape(n_rows, -1)
        there = ~np.isnan(numbers)
        sums = np.where(there, numbers, 0.0).sum(axis=1)
        np.divide(sums, there.sum(axis=1), out=means, where=there.any(axis=1))
    return means


def _violation(constraints, bounds):
    """Return how far rows break the constraints of a journal's search, None if it has none."""
    if not bounds:
        return None
    found = [v for name, both in bounds.items() for v in bound_violations(constraints[name], *both)]
    return total_violation(np.column_stack(found))


def any_flag(flags):
    """Return flags of fits, None where all are False."""
    return flags if flags is not None and flags.any() else None
