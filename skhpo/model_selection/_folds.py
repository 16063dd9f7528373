"""Fewer splits at the lower levels of a resource: what an argument `fold_schedule` means."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from numbers import Integral
from typing import TYPE_CHECKING, Any

from ..evaluation import FoldSchedule
from ..trial import FitResult
from ._goals import Told

if TYPE_CHECKING:
    from ._plan import Plan

__all__ = ["PartNoise", "fold_schedule_of", "n_splits_done"]


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
    _check(numbers, levels, n_splits)
    return FoldSchedule(n_splits, dict(zip(levels, map(int, numbers), strict=True)))


def _geometric(n_levels: int, n_splits: int) -> list[int]:
    return [round(n_splits ** (i / max(n_levels - 1, 1))) for i in range(n_levels - 1)] + [n_splits]


def _check(numbers: list[Any], levels: Sequence[int], n_splits: int) -> None:
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


def n_splits_done(results: Sequence[FitResult]) -> int:
    """Return on how many splits a trial was fitted."""
    return len({result.split for result in results if not result.is_left_out})


class PartNoise:
    """Gives the scores of trials on some of the splits the larger noise that they have.

    How much scores vary over splits is known badly from a few and not at all from one: they are
    taken to vary as much as those of the best trial on all splits, at least.
    """

    def __init__(self) -> None:
        self._best: Told | None = None

    def told(self, told: Told, results: Sequence[FitResult]) -> Told:
        """Return what the scheduler is told of a trial.

        Parameters
        ----------
        told : Told
            The means over its splits, with the noise that these show.
        results : list of FitResult
            Of all its fits, in order of split and repeat.
        """
        if results[-1].is_left_out:
            return told.on_part(n_splits_done(results), results[-1].split + 1, self._best)
        if not isnan(told.score) and (self._best is None or told.score > self._best.score):
            self._best = told
        return told
