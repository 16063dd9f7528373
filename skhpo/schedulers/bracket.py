"""Brackets of successive halving, and the order in which they start."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from ..arguments import COUNT, check_arguments
from .contenders import RungScores

__all__ = ["Bracket", "Plan"]

Rungs = list[tuple[int, int]]

# Limit of memory and time: all candidates of a bracket are drawn at once.
_MOST_CANDIDATES = 10**6
_RUNG = {"n_candidates": [COUNT], "resource": [COUNT]}


class Bracket:
    """Candidates, sizes and resources of the rungs of a bracket.

    A rung has a number of slots. When all candidates on it have a score, the best of them fill
    the slots of the next one. Equal scores rank by candidate number, and a failed candidate (NaN)
    is never promoted, so that a later rung may have fewer candidates than slots.

    Parameters
    ----------
    rungs : sequence of (n_candidates, resource)
        From the bottom up: sizes that do not grow, levels that do.
    """

    def __init__(self, rungs: Sequence[tuple[int, int]]) -> None:
        for size, level in rungs:
            check_arguments("a bracket", _RUNG, n_candidates=size, resource=level)
        self.rungs = [(int(size), int(level)) for size, level in rungs]
        if not self.rungs:
            raise ValueError("a bracket needs at least one rung (n_candidates, resource)")
        for (size, level), (next_size, next_level) in zip(self.rungs, self.rungs[1:], strict=False):
            if not (next_size <= size and next_level > level):
                raise ValueError(
                    "sizes must not grow and resources must from rung to rung, "
                    f"but got {(next_size, next_level)} after {(size, level)}"
                )
        self.rung = 0
        self.enter(())

    @property
    def resource(self) -> int:
        """Resource level of the current rung."""
        return self.rungs[self.rung][1]

    @property
    def finished(self) -> bool:
        """Whether no candidate runs or will be promoted."""
        return self.complete and not self._scores.contenders

    @property
    def complete(self) -> bool:
        """Whether all candidates on the current rung have a score."""
        return not self._running

    def enter(self, candidates: Iterable[int]) -> None:
        """Put candidates on the current rung."""
        above = self.rungs[self.rung + 1 : self.rung + 2]
        self._running = set(candidates)
        self._scores = RungScores(above[0][0] if above else 0)

    def record(self, candidate: int, score: float, **measured: Any) -> list[int]:
        """Record a score on the current rung; return the candidates that are now out."""
        self._running.remove(candidate)
        out = self._scores.add(candidate, score, **measured)
        return out if self._running else out + self._scores.contenders.close()

    def contenders(self) -> list[int]:
        """The candidates that may be promoted yet."""
        return self._scores.contenders.members

    def promote(self) -> list[int]:
        """Move the best of a complete rung to the next one; return them, the best first."""
        promoted = self._scores.contenders.ranked
        self.rung += 1
        self.enter(promoted)
        return promoted


class Plan:
    """Brackets in the order they start, numbered over all iterations.

    Parameters
    ----------
    brackets : sequence of brackets, each a sequence of (n_candidates, resource)
        Those of an iteration.
    n_iterations : int or None, default=1
        Number of repetitions; None is unlimited.
    full_first : bool, default=False
        Start one candidate of the last bracket before all others, if that bracket starts with the
        largest resource; the work stays the same.

    Attributes
    ----------
    brackets : list of brackets
        Those of an iteration.
    n_trials : int or None
        Slots on all rungs; None if unlimited.
    max_resource : int
        The largest level.
    """

    def __init__(
        self,
        brackets: Sequence[Sequence[tuple[int, int]]],
        n_iterations: int | None = 1,
        *,
        full_first: bool = False,
    ) -> None:
        self.brackets: list[Rungs] = [Bracket(rungs).rungs for rungs in brackets]
        check_arguments("Hyperband", {"n_iterations": [COUNT, None]}, n_iterations=n_iterations)
        self._left = None if n_iterations is None else int(n_iterations)
        rungs = [rung for bracket in self.brackets for rung in bracket]
        if (most := max(size for size, _ in rungs)) > _MOST_CANDIDATES:
            raise ValueError(
                f"a bracket may start with at most {_MOST_CANDIDATES:,} candidates, but one would "
                f"start with {most:,}; raise min_resources, count the resource in larger units, or "
                "leave out rungs"
            )
        self.max_resource = max(level for _, level in rungs)
        self.n_trials = None
        if self._left is not None:
            self.n_trials = self._left * sum(size for size, _ in rungs)
        self._coming: deque[tuple[int, Rungs]] = deque()
        self._n_numbered = 0
        if full_first:
            self._split_off_full()

    def take(self) -> tuple[int, Rungs] | None:
        """Return number and rungs of the next bracket; None after the last."""
        if not self._coming and self._left != 0:
            self._add_iteration()
        return self._coming.popleft() if self._coming else None

    def end(self) -> None:
        """Start no further bracket."""
        self._coming.clear()
        self._left = 0

    def _add_iteration(self) -> None:
        if self._left is not None:
            self._left -= 1
        self._coming.extend(enumerate(self.brackets, self._n_numbered))
        self._n_numbered += len(self.brackets)

    def _split_off_full(self) -> None:
        *_, last = self.brackets
        if len(last) > 1:
            return
        self._add_iteration()
        index, [(size, level)] = self._coming.pop()
        self._coming.appendleft((index, [(1, level)]))
        if size > 1:
            self._coming.append((index, [(size - 1, level)]))
