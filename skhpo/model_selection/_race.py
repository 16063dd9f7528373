"""Fits on some of the splits only: racing over folds, and fewer splits in early rungs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from numbers import Integral
from typing import TYPE_CHECKING, Any

from ..evaluation import FoldSchedule
from ..schedulers import Scheduler
from ..trial import RACED, FitResult, Trial
from ._goals import Told, n_splits_done

if TYPE_CHECKING:
    from ._plan import Plan

__all__ = ["Race", "check_racing", "fold_schedule_of"]

# Trials of one batch that are compared with the same incumbent. Fewer wait for one another where
# many workers are; more are fitted on all splits before anything is known.
_ROUND = 10


@dataclass(frozen=True, slots=True)
class _Incumbent:
    """The best candidate so far: what was told of it, and the score of its worst split."""

    told: Told
    worst: float

    @property
    def score(self) -> float:
        return self.told.score


@dataclass(slots=True)
class _Entrant:
    """A trial whose fits run.

    Parameters
    ----------
    trial : Trial
    position : int
        In the order in which trials were asked for.
    after : int
        It is compared with the best of so many, the first ones.
    """

    trial: Trial
    position: int
    after: int
    arrived: dict[tuple[int, int], FitResult] = field(default_factory=dict)
    taken: list[FitResult] = field(default_factory=list)


class Race:
    """Stops a candidate as soon as its mean is below the worst split of the incumbent.

    This is the forgiving rule of Bergman, Purucker and Hutter ("Don't Waste Your Time: Early
    Stopping Cross-Validation", 2024, section 3): the candidate is not likely to become the best,
    however well it does on the other splits. What is not fitted then is a `FitResult` with
    `RACED`, so that everything else gets as many results of a trial as without racing.

    Results do not depend on `n_jobs`: the rule is applied after each split, in their order, and
    results of later splits that are there before are held back (`is_held`), and left out where the
    candidate is stopped; what their fits took is in the results that stand for them. It is compared
    with the incumbent of those asked for before its batch, of large batches also of the rounds of
    10 before its own. Only where trials are told as they finish (`asynchronous`) it is the best
    that is finished.

    Networks whose splits are trained in lockstep are left alone, because all splits end at once.

    Parameters
    ----------
    evaluator : Evaluator
    score : callable
        From the results of a trial to the fields of a `Told`.
    n_splits, n_repeats : int
    asynchronous : bool
    early : collection of (int, int, int), default=()
        Of the known results of the evaluator those that were written while they were held back. The
        rule is applied to them; all others had counted.
    """

    def __init__(
        self,
        evaluator: Any,
        score: Callable[[Sequence[FitResult]], tuple[Any, ...]],
        n_splits: int,
        n_repeats: int,
        *,
        asynchronous: bool,
        early: Collection[tuple[int, int, int]] = (),
    ) -> None:
        self.evaluator = evaluator
        self.early = early
        self.score = score
        self.n_splits = n_splits
        self.n_repeats = n_repeats
        self.asynchronous = asynchronous
        self._entrants: dict[int, _Entrant] = {}
        self._held: dict[int, _Entrant] = {}  # whose incumbents are not known yet
        self._n_asked = 0
        self._finished: dict[int, _Incumbent | None] = {}  # by position, until all before are
        self._best: list[_Incumbent | None] = [None]  # of the first 0, 1, 2, ... trials
        self._best_finished: _Incumbent | None = None

    def start(self, trials: Sequence[Trial]) -> None:
        """Register trials that were asked for together."""
        first = self._n_asked
        for i, trial in enumerate(trials):
            entrant = _Entrant(trial, first + i, first + i - i % _ROUND)
            self._entrants[trial.number] = entrant
        self._n_asked += len(trials)

    def take(self, results: Sequence[FitResult]) -> list[FitResult]:
        """Return which results count now, in order of the splits of each trial.

        Parameters
        ----------
        results : list of FitResult
            As they come from the evaluator.
        """
        passed: list[FitResult] = []
        arrived: dict[int, _Entrant] = {}
        for result in results:
            entrant = self._entrants.get(result.trial)
            if entrant is not None:
                entrant.arrived[result.split, result.repeat] = result
                arrived[result.trial] = entrant
        for entrant in arrived.values():
            passed += self._advance(entrant)
        while ready := [one for one in self._held.values() if self._has_incumbent(one)]:
            for entrant in ready:
                del self._held[entrant.trial.number]
                passed += self._advance(entrant)
        return passed

    def is_held(self, result: FitResult) -> bool:
        """Return whether a result that came has not been returned, and may still be."""
        entrant = self._entrants.get(result.trial)
        return entrant is not None and (result.split, result.repeat) in entrant.arrived

    def hold(self, result: FitResult) -> None:
        """Hold a result in the place of one that is held."""
        self._entrants[result.trial].arrived[result.split, result.repeat] = result

    def recall(self, trial: Trial, results: Sequence[FitResult]) -> None:
        """Register a finished trial, in the order of a journal."""
        self._finish(self._entrants.pop(trial.number).position, results)

    def told(self, results: Sequence[FitResult]) -> Told:
        """Return what the scheduler is told of a trial: of a stopped one the noise is larger.

        Fewer splits say less of the mean, and how much less one split alone does not say: it is
        taken to vary over the splits as much as the incumbent does, at least.
        """
        told = Told(*self.score(results))
        n_done = n_splits_done(results)
        if n_done == self.n_splits:
            return told
        known = self._best_finished if self.asynchronous else self._best[-1]
        return told.on_part(n_done, self.n_splits, None if known is None else known.told)

    def _advance(self, entrant: _Entrant) -> Iterator[FitResult]:
        """Yield what counts now: the next splits, and of a stopped trial all others."""
        n_done = len(entrant.taken) // self.n_repeats
        while n_done < self.n_splits:
            names = list(product([n_done], range(self.n_repeats)))
            if self._was_stopped(entrant, n_done):
                yield from self._stopped(entrant, n_done)
                break
            if n_done and not self._had_counted(entrant, n_done):
                if not self._has_incumbent(entrant):
                    self._held[entrant.trial.number] = entrant
                    return
                if self._is_hopeless(entrant):
                    yield from self._stopped(entrant, n_done)
                    break
            if not all(name in entrant.arrived for name in names):
                return
            results = [entrant.arrived.pop(name) for name in names]
            entrant.taken += results
            yield from results
            n_done += 1
        del self._entrants[entrant.trial.number]
        self._finish(entrant.position, entrant.taken)

    def _was_stopped(self, entrant: _Entrant, n_done: int) -> bool:
        """Whether a journal has a stopped fit of the trial; it may end before the others."""
        known = self.evaluator.known.get((entrant.trial.number, n_done, 0))
        return known is not None and known.is_left_out

    def _had_counted(self, entrant: _Entrant, n_done: int) -> bool:
        """Whether a journal has a split, or one behind it, that was written in its turn."""
        left = product([entrant.trial.number], range(n_done, self.n_splits), range(self.n_repeats))
        known, early = self.evaluator.known, self.early
        return any(name in known and name not in early for name in left)

    def _has_incumbent(self, entrant: _Entrant) -> bool:
        return self.asynchronous or entrant.after < len(self._best)

    def _is_hopeless(self, entrant: _Entrant) -> bool:
        incumbent = self._best_finished if self.asynchronous else self._best[entrant.after]
        if incumbent is None or any(result.skipped for result in entrant.taken):
            return False
        if self.score(entrant.taken)[0] >= incumbent.worst:
            return False
        return not self.evaluator.trains_splits_together(entrant.trial)

    def _stopped(self, entrant: _Entrant, n_done: int) -> Iterator[FitResult]:
        number = entrant.trial.number
        left = list(product(range(n_done, self.n_splits), range(self.n_repeats)))
        pending = [name for name in left if name not in entrant.arrived]
        self.evaluator.withdraw({(number, *name) for name in pending})
        for split, repeat in left:
            unused = entrant.arrived.get((split, repeat))
            result = FitResult(
                trial=number,
                split=split,
                repeat=repeat,
                fit_time=0.0 if unused is None else unused.fit_time,
                score_time=0.0 if unused is None else unused.score_time,
                skipped=RACED,
            )
            entrant.taken.append(result)
            yield result

    def _finish(self, position: int, results: Sequence[FitResult]) -> None:
        """Register the result of a trial, and update the known incumbents."""
        own = self._as_incumbent(results)
        self._best_finished = _better(self._best_finished, own)
        self._finished[position] = own
        while len(self._best) - 1 in self._finished:
            own = self._finished.pop(len(self._best) - 1)
            self._best.append(_better(self._best[-1], own))

    def _as_incumbent(self, results: Sequence[FitResult]) -> _Incumbent | None:
        told = Told(*self.score(results))
        if any(result.is_left_out for result in results) or not told.is_feasible:
            return None
        if math.isnan(told.score):
            return None
        by_split: dict[int, list[FitResult]] = {}
        for result in results:
            by_split.setdefault(result.split, []).append(result)
        worst = min(self.score(split)[0] for split in by_split.values())
        return _Incumbent(told, worst)


def _better(old: _Incumbent | None, new: _Incumbent | None) -> _Incumbent | None:
    if old is None or new is None:
        return old or new
    return new if new.score > old.score else old


def check_racing(search: Any, plan: Plan, scheduler: Scheduler) -> None:
    """Raise ValueError where there is nothing to race, or nothing to compare by."""
    racing = f"racing={search.racing!r}"
    if len(plan.splits) < 2:
        raise ValueError(
            f"{racing} stops candidates after some of the splits, and needs two at least, but "
            f"cv gives {len(plan.splits)}; give a cv of more splits, or racing=None"
        )
    if len(plan.goals.objectives) > 1:
        raise ValueError(
            f"{racing} compares one score with that of the best candidate, and must be None with "
            f"objectives={list(plan.goals.objectives)}; name one objective, or use racing=None"
        )
    if scheduler.max_resource is not None:
        raise ValueError(
            f"{racing} stops candidates that are fitted once and in full, but this scheduler gives "
            f"them up to {scheduler.max_resource} of the resource, and stops them itself; use "
            "racing=None"
        )
    if search.lockstep is True:
        raise ValueError(
            f"{racing} stops candidates between their splits, and lockstep=True trains the splits "
            "as one; use lockstep='auto' or False, or racing=None"
        )


def fold_schedule_of(search: Any, plan: Plan, scheduler: Any) -> FoldSchedule:
    """Return what the argument `fold_schedule` of a search, which is not None, means.

    "auto" is ``n ** (i / (m - 1))``, rounded, on the i-th of m levels: 1, 2, 3 and 5 of five splits
    on four levels, the schedule with the smallest regret in docs/benchmarks/fold_schedule.md.

    Parameters
    ----------
    search : BaseTrialSearchCV
    plan : Plan
    scheduler : Scheduler
        With `brackets`.

    Raises
    ------
    ValueError
        If there is nothing to leave out, or the numbers do not fit the levels or the splits.
    """
    given, n_splits = search.fold_schedule, len(plan.splits)
    if n_splits < 2:
        raise ValueError(
            f"fold_schedule={given!r} fits early rungs on fewer splits, and needs two at least, "
            f"but cv gives {n_splits}; give a cv of more splits, or fold_schedule=None"
        )
    levels = sorted({level for rungs in scheduler.brackets for _, level in rungs})
    numbers = _geometric(len(levels), n_splits) if isinstance(given, str) else list(given)
    _check_numbers(numbers, levels, n_splits)
    return FoldSchedule(n_splits, dict(zip(levels, map(int, numbers), strict=True)))


def _geometric(n_levels: int, n_splits: int) -> list[int]:
    return [round(n_splits ** (i / max(n_levels - 1, 1))) for i in range(n_levels - 1)] + [n_splits]


def _check_numbers(numbers: list[Any], levels: Sequence[int], n_splits: int) -> None:
    rule = (
        f"fold_schedule must be a number of splits for each level of the resource, here {levels}, "
        f"from 1 to {n_splits} and not falling, the last one {n_splits}, but got {numbers}"
    )
    fix = f"; fold_schedule='auto' is {_geometric(len(levels), n_splits)}"
    if any(isinstance(n, bool) or not isinstance(n, Integral) for n in numbers):
        raise ValueError(rule + fix)
    is_right = numbers == sorted(numbers) and numbers[:1] >= [1] and numbers[-1:] == [n_splits]
    if len(numbers) != len(levels) or not is_right:
        raise ValueError(rule + fix)
