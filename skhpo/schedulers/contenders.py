"""The candidates to promote from a rung, updated with each score."""

from __future__ import annotations

import math
from heapq import heappop, heappush

__all__ = ["Contenders"]


class Contenders:
    """The best candidates with a score, as many as there are slots.

    Equal scores rank by candidate number; a failed candidate (NaN) is never included. Adding and
    taking one costs the logarithm of their number.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        # Two heaps of the same candidates; one removed from the first is skipped in the second.
        self._best: list[tuple[float, int]] = []
        self._worst: list[tuple[float, int]] = []
        self._members: set[int] = set()

    def __len__(self) -> int:
        return len(self._members)

    @property
    def ranked(self) -> list[int]:
        """All candidates, the best first."""
        return [candidate for _, candidate in sorted(self._best) if candidate in self._members]

    def add(self, candidate: int, score: float) -> int | None:
        """Record a score; return the candidate that is now out, or None."""
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
        """Remove and return the best candidate, and its slot."""
        best = self._pop(self._best, 1)
        self._members.remove(best)
        self._slots -= 1
        return best

    def _pop(self, heap: list[tuple[float, int]], sign: int) -> int:
        while True:
            _, candidate = heappop(heap)
            if sign * candidate in self._members:
                return candidate
