"""Fits of a search that several processes work on: each takes what no other one does."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any

from ..journal import SharedJournal
from ..trial import FitResult, Trial
from ._evaluator import Evaluator
from ._tasks import SAVED, FitGroup

__all__ = ["SharedEvaluator"]

# Seconds between two looks at what others did, at first and at most, while there is nothing to do.
_LOOK_AT_FIRST, _LOOK_AT_MOST = 0.005, 0.1

_Name = tuple[int, int, int]


class SharedEvaluator(Evaluator):
    """An evaluator beside others in other processes, which have the same trials.

    All of them are submitted every trial. A group of fits is leased, by a line of the journal, when
    a worker is free for it; what others have leased is left to them as long as they live. Their
    results come from the journal.

    Parameters
    ----------
    journal : SharedJournal
    *args, **kwargs
        As of an `Evaluator`.

    Attributes
    ----------
    alone : bool
        Whether nothing is left to others, because every process needs what it fits for itself.
    """

    def __init__(self, *args: Any, journal: SharedJournal, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.journal = journal
        self.alone = False
        self._free: list[Any] = []  # a heap of groups that may be leased
        self._elsewhere: list[FitGroup] = []  # what others have leased
        self._expected: set[_Name] = set()  # fits whose results were not returned

    @property
    def has_room(self) -> bool:
        """Whether a further fit would start at once, because nothing is left to lease."""
        return super().has_room and self._next_free() is None

    has_room_ahead = has_room

    def submit(self, trials: Sequence[Trial]) -> None:
        """Plan the fits of trials; what is known already is answered without a fit."""
        self._collect()
        known, tasks = self.plan(trials, leaves=self._pool.in_processes_)
        self._answered.extend(known)
        self._expected.update(fit for trial in trials for fit in self.fits(trial))
        self.pending += len(known) + len(tasks)
        for group in self._divide(tasks):
            self._put(group)

    def next(self) -> list[FitResult]:
        """Wait for results, also of other processes."""
        seconds = _LOOK_AT_FIRST
        while self.pending > 0:
            if self._answered and (answered := self.take_answered()):
                return answered
            if self.time_is_over:
                self.cancel()
            else:
                self.lease()
                self._start_what_can_start()
            waits = self._pool.free > 0 and bool(self._free or self._elsewhere)
            if self._answered:
                continue
            if self._running:
                self._take(self._wait(_LOOK_AT_MOST if waits else None))
            else:
                self.journal.wait_for_lines(seconds)
                seconds = min(2 * seconds, _LOOK_AT_MOST)
        return []

    def take_answered(self) -> list[FitResult]:
        """Return the results that are there, without waiting."""
        self._collect()
        answered = []
        for result in self._answered:
            if result.name in self._expected:  # else another process was faster
                self._expected.remove(result.name)
                answered.append(result)
        self._answered.clear()
        self.pending -= len(answered)
        return answered

    def cancel(self) -> None:
        """Forget all fits that have not started here."""
        self._collect()
        super().cancel()
        groups = [*(group for *_, group in self._free), *self._elsewhere]
        left = {task.name for group in groups for task in group.tasks} & self._expected
        left.difference_update(one.name for one in self._answered)
        self._expected -= left
        self.pending -= len(left)
        self._free.clear()
        self._elsewhere.clear()

    def lease(self) -> None:
        """Lease fits that nobody does, as many groups as there are free workers."""
        if self.time_is_over or self._pool.free <= len(self._waiting):
            return
        with self.journal.turn():
            self._collect()
            groups: list[FitGroup] = []
            while super().has_room and len(groups) < self._pool.free - len(self._waiting):
                group = self._next_free()
                if group is None:
                    break
                heappop(self._free)
                groups.append(group)
            if groups and not self.alone:
                self.journal.lease([task.name for group in groups for task in group.tasks])
        for group in groups:
            self._waiting.add(group)

    def _put(self, group: FitGroup) -> None:
        """Put a group on the heap: of equal rank those first that this process has a state of."""
        lacks_state = any(task.state is None for task in group.tasks)
        heappush(self._free, (group.rank, lacks_state, *group.name, group))

    def _next_free(self) -> FitGroup | None:
        """Return the group to lease next, the first of the heap; None if others do all."""
        elsewhere, self._elsewhere = self._elsewhere, []
        for waiting in elsewhere:
            self._put(waiting)
        while self._free:
            group: FitGroup = self._free[0][-1]
            left = [task for task in group.tasks if task.name not in self.known]
            free = [task for task in left if self.alone or not self.journal.is_leased(task.name)]
            if len(free) == len(group.tasks):
                return group
            heappop(self._free)
            if free:
                self._put(FitGroup(free))
            if len(free) < len(left):
                self._elsewhere.append(FitGroup([task for task in left if task not in free]))
        return None

    def _collect(self) -> None:
        """Take the results of others that were read."""
        for name in self.journal.arrived:
            if name in self._expected:
                self._answered.append(self.known[name])
                if self.checkpoints is not None and not self.known[name].is_left_out:
                    self._states.setdefault(name, SAVED)
        self.journal.arrived.clear()
