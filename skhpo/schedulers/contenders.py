"""The candidates to promote from a rung, updated with each score."""

from __future__ import annotations

import math
from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fronts import FrontContenders

__all__ = ["Contenders", "RungScores"]


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
    def members(self) -> list[int]:
        """All candidates that may be promoted yet."""
        return list(self._members)

    @property
    def ranked(self) -> list[int]:
        """All candidates, the best first."""
        return [candidate for _, candidate in sorted(self._best) if candidate in self._members]

    def add(self, candidate: int, score: float) -> list[int]:
        """Record a score; return the candidates that are now out, one or none."""
        if math.isnan(score) or not self._slots:
            return [candidate]
        self._members.add(candidate)
        heappush(self._best, (-score, candidate))
        heappush(self._worst, (score, -candidate))
        if len(self._members) <= self._slots:
            return []
        out = -self._pop(self._worst, -1)
        self._members.remove(out)
        return [out]

    def take(self) -> int:
        """Remove and return the best candidate, and its slot."""
        best = self._pop(self._best, 1)
        self._members.remove(best)
        self._slots -= 1
        return best

    def close(self) -> list[int]:
        """Return those that have no slot, because no further ones come: none."""
        return []

    def rest(self) -> list[int]:
        """Return the candidates for which no slot is left: none."""
        return []

    def _pop(self, heap: list[tuple[float, int]], sign: int) -> int:
        while True:
            _, candidate = heappop(heap)
            if sign * candidate in self._members:
                return candidate


class RungScores:
    """The contenders of a rung: by score, or by values and violations where those are told.

    Attributes
    ----------
    contenders : Contenders or FrontContenders
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self.contenders: Contenders | FrontContenders = Contenders(slots)

    def add(
        self,
        candidate: int,
        score: float,
        values: NDArray[Any] | None = None,
        violations: NDArray[Any] | None = None,
    ) -> list[int]:
        """Record what a candidate scored; return the candidates that are now out."""
        if values is None and violations is None:
            assert isinstance(self.contenders, Contenders)
            return self.contenders.add(candidate, score)
        if isinstance(self.contenders, Contenders):
            self.contenders = FrontContenders(self._slots)
        values = np.array([score]) if values is None else values
        violations = np.empty(0) if violations is None else violations
        return self.contenders.add(candidate, values, violations)
