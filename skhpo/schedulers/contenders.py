"""Who would be promoted from a rung, as scores come."""

from __future__ import annotations

import math
from heapq import heappop, heappush

__all__ = ["Contenders"]


class Contenders:
    """The best candidates of those that have a score, as many as there are slots.

    Equal scores rank by candidate number, and a failed candidate (NaN) is never among them. To add
    and to take one costs the logarithm of their number.

    Parameters
    ----------
    slots : int
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        # Two heaps of the same candidates; what left by one of them is skipped in the other.
        self._best: list[tuple[float, int]] = []
        self._worst: list[tuple[float, int]] = []
        self._members: set[int] = set()

    def __len__(self) -> int:
        return len(self._members)

    @property
    def ranked(self) -> list[int]:
        """All of them, the best first."""
        return [candidate for _, candidate in sorted(self._best) if candidate in self._members]

    def add(self, candidate: int, score: float) -> int | None:
        """Note a score; return the candidate that can not be promoted any more, if there is one."""
        if math.isnan(score) or not self._slots:
            return candidate
        self._members.add(candidate)
        heappush(self._best, (-score, candidate))
        heappush(self._worst, (score, -candidate))
        if len(self._members) <= self._slots:
            return None
        out = -self._pop(self._worst, -1)
        self._members.remove(out)
        return out

    def take(self) -> int:
        """Take the best one, and its slot, away."""
        best = self._pop(self._best, 1)
        self._members.remove(best)
        self._slots -= 1
        return best

    def _pop(self, heap: list[tuple[float, int]], sign: int) -> int:
        while True:
            _, candidate = heappop(heap)
            if sign * candidate in self._members:
                return candidate
