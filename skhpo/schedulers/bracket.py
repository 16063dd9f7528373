"""One bracket of successive halving, as rungs of slots."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ._checks import check_count

__all__ = ["Bracket"]


class Bracket:
    """Who stands on which rung: sizes, resource levels and scores, nothing else.

    A rung has a number of slots. When all candidates on it have a score, the best of them fill
    the slots of the next one. Equal scores rank by candidate number, and a failed candidate (NaN)
    is never promoted, so that a later rung may have fewer candidates than slots.

    Parameters
    ----------
    rungs : sequence of (n_candidates, resource)
        From the bottom up: sizes that do not grow, levels that do.
    """

    def __init__(self, rungs: Sequence[tuple[int, int]]) -> None:
        self.rungs = [
            (check_count("n_candidates", size), check_count("resource", level))
            for size, level in rungs
        ]
        if not self.rungs:
            raise ValueError("a bracket needs at least one rung (n_candidates, resource)")
        for (size, level), (next_size, next_level) in zip(self.rungs, self.rungs[1:], strict=False):
            if not (next_size <= size and next_level > level):
                raise ValueError(
                    "sizes must not grow and resources must from rung to rung, "
                    f"but got {(next_size, next_level)} after {(size, level)}"
                )
        self.rung = 0
        self._scores: dict[int, float | None] = {}  # of the candidates on the current rung

    @property
    def resource(self) -> int:
        """Resource level of the current rung."""
        return self.rungs[self.rung][1]

    @property
    def finished(self) -> bool:
        """Whether no candidate is left to run, now or later."""
        return self.complete and not self.contenders()

    @property
    def complete(self) -> bool:
        """Whether all candidates on the current rung have a score."""
        return None not in self._scores.values()

    def enter(self, candidates: Iterable[int]) -> None:
        """Put candidates on the current rung."""
        self._scores = dict.fromkeys(candidates)

    def record(self, candidate: int, score: float) -> None:
        """Note the score of a candidate on the current rung."""
        self._scores[candidate] = score

    def contenders(self) -> list[int]:
        """Who would be promoted if there were no more scores to come, the best first."""
        if self.rung + 1 == len(self.rungs):
            return []
        ranked = sorted(
            (-score, candidate)
            for candidate, score in self._scores.items()
            if score is not None and not math.isnan(score)
        )
        return [candidate for _, candidate in ranked[: self.rungs[self.rung + 1][0]]]

    def promote(self) -> list[int]:
        """Move the best of a complete rung to the next one; returns them, the best first."""
        promoted = self.contenders()
        self.rung += 1
        self.enter(promoted)
        return promoted
