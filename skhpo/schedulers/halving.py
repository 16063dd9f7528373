"""Successive halving: many candidates start, the best continue, bracket by bracket."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import COUNT, check_arguments
from ..samplers import Sampler
from ..trial import Trial
from .base import Scheduler
from .fronts import FrontContenders

__all__ = [
    "Bracket",
    "BracketScheduler",
    "Contenders",
    "Plan",
    "SuccessiveHalving",
    "add_to",
]

Rungs = list[tuple[int, int]]

# Limit of memory and time: all candidates of a bracket are drawn at once.
_MOST_CANDIDATES = 10**6
_RUNG = {"n_candidates": [COUNT], "resource": [COUNT]}


class Contenders:
    """The best candidates with a score, as many as there are slots.

    Equal scores rank by candidate number; a failed candidate (NaN) is never included. Adding and
    taking one costs the logarithm of their number.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
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
        if math.isnan(score) or not self.slots:
            return [candidate]
        self._members.add(candidate)
        heappush(self._best, (-score, candidate))
        heappush(self._worst, (score, -candidate))
        if len(self._members) <= self.slots:
            return []
        out = -self._pop(self._worst, -1)
        self._members.remove(out)
        return [out]

    def take(self) -> int:
        """Remove and return the best candidate, and its slot."""
        best = self._pop(self._best, 1)
        self._members.remove(best)
        self.slots -= 1
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


def add_to(
    contenders: Contenders | FrontContenders,
    candidate: int,
    score: float,
    values: NDArray[Any] | None = None,
    violations: NDArray[Any] | None = None,
) -> tuple[Contenders | FrontContenders, list[int]]:
    """Record what a candidate scored; return the contenders, and the candidates that are now out.

    Where values or violations are told the contenders rank along fronts, from the first one on.
    """
    if isinstance(contenders, Contenders):
        if values is None and violations is None:
            return contenders, contenders.add(candidate, score)
        contenders = FrontContenders(contenders.slots)
    values = np.array([score]) if values is None else values
    violations = np.empty(0) if violations is None else violations
    return contenders, contenders.add(candidate, values, violations)


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
        return self.complete and not self._contenders

    @property
    def complete(self) -> bool:
        """Whether all candidates on the current rung have a score."""
        return not self._running

    def enter(self, candidates: Iterable[int]) -> None:
        """Put candidates on the current rung."""
        above = self.rungs[self.rung + 1 : self.rung + 2]
        self._running = set(candidates)
        self._contenders: Contenders | FrontContenders = Contenders(above[0][0] if above else 0)

    def record(self, candidate: int, score: float, **measured: Any) -> list[int]:
        """Record a score on the current rung; return the candidates that are now out."""
        self._running.remove(candidate)
        self._contenders, out = add_to(self._contenders, candidate, score, **measured)
        return out if self._running else out + self._contenders.close()

    def contenders(self) -> list[int]:
        """The candidates that may be promoted yet."""
        return self._contenders.members

    def promote(self) -> list[int]:
        """Move the best of a complete rung to the next one; return them, the best first."""
        promoted = self._contenders.ranked
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


class BracketScheduler(Scheduler):
    """Runs brackets in order, each to its end.

    `ask` returns one rung at a time: the next one of the first bracket with a complete rung, else
    the first rung of a new bracket. If an earlier bracket still runs it looks ahead, unless the
    sampler learns. The numbers of a bracket's trials are reserved when it starts, so that they do
    not depend on timing. `brackets` are those of an iteration.
    """

    looks_ahead = True

    def __init__(self, sampler: Sampler, plan: Plan) -> None:
        super().__init__(sampler)
        self.n_trials = plan.n_trials
        self.max_resource: int = plan.max_resource
        self.brackets = plan.brackets
        self._plan = plan
        self._running: dict[int, _Running] = {}  # by the order in which they started
        self._n_started = 0
        self._complete: list[int] = []  # a heap of those with candidates to promote
        self._of: dict[int, _Running] = {}  # of candidates that are not out
        self._last_trial: dict[int, int] = {}  # of the same candidates
        self._released: list[int] = []

    def ask(self) -> list[Trial]:
        if self._complete:
            running = self._running[heappop(self._complete)]
            return self._run(running, running.bracket.promote())
        if self._running and self.sampler.learns:
            return []
        return self._start()

    def may_continue(self) -> set[int]:
        return {
            self._last_trial[candidate]
            for running in self._running.values()
            for candidate in running.bracket.contenders()
        }

    def released(self) -> Collection[int]:
        self._newly_told.clear()
        released, self._released = self._released, []
        return released

    def _start(self) -> list[Trial]:
        coming = self._plan.take()
        if coming is None:
            return []
        index, rungs = coming
        candidates = self.new_candidates(*rungs[0])
        if not candidates:  # the space is exhausted: later brackets would be empty, too
            self._plan.end()
            return []
        running = _Running(
            self._n_started, index, Bracket(rungs), len(candidates), self._next_number
        )
        self._n_started += 1
        self._next_number = running.first_numbers[-1]
        self._running[running.order] = running
        self._of.update(dict.fromkeys(candidates, running))
        running.bracket.enter(candidates)
        return self._run(running, candidates)

    def _run(self, running: _Running, candidates: list[int]) -> list[Trial]:
        bracket = running.bracket
        tags = {"bracket": running.index, "iter": bracket.rung}
        trials = []
        for number, candidate in enumerate(candidates, running.first_numbers[bracket.rung]):
            parent = self._last_trial.get(candidate)
            if parent is not None:
                self._released.append(parent)
            trial = self.new_trial(
                candidate,
                number=number,
                resource=bracket.resource,
                parent=parent,
                tags=tags,
            )
            self._last_trial[candidate] = trial.number
            trials.append(trial)
        return trials

    def record(self, trial: Trial, score: float, **measured: Any) -> None:
        running = self._of[trial.candidate]
        for out in running.bracket.record(trial.candidate, score, **measured):
            del self._of[out]
            self._released.append(self._last_trial.pop(out))
        if running.bracket.finished:
            del self._running[running.order]
        elif running.bracket.complete:
            heappush(self._complete, running.order)


class _Running:
    """A bracket that has started: its index, and the first number of each rung's trials."""

    def __init__(
        self, order: int, index: int, bracket: Bracket, n_candidates: int, number: int
    ) -> None:
        self.order = order
        self.index = index
        self.bracket = bracket
        self.first_numbers = [number]
        for size, _ in bracket.rungs:
            self.first_numbers.append(self.first_numbers[-1] + min(size, n_candidates))


class SuccessiveHalving(BracketScheduler):
    """One bracket of successive halving [1]_.

    All candidates are trained briefly, and the best of each rung go on with more of the resource.

    Parameters
    ----------
    sampler : Sampler
        Samples the candidates.
    rungs : sequence of (n_candidates, resource)
        Numbers of candidates and their cumulative resources, from the bottom up.

    See Also
    --------
    Hyperband : Several brackets.
    sklearn.model_selection.HalvingRandomSearchCV : Trains survivors again from the start.

    References
    ----------
    .. [1] Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter
       optimization", AISTATS 2016, figure 3.

    Examples
    --------
    >>> from skhpo.samplers import RandomSampler
    >>> from skhpo.schedulers import SuccessiveHalving
    >>> from skhpo.space import SearchSpace
    >>> sampler = RandomSampler(SearchSpace({"x": [1, 2, 3, 4]}), random_state=0)
    >>> scheduler = SuccessiveHalving(sampler, [(4, 1), (2, 3), (1, 9)])
    >>> while trials := scheduler.ask():
    ...     print([(trial.params["x"], trial.resource) for trial in trials])
    ...     for trial in trials:
    ...         scheduler.tell(trial, score=trial.params["x"])
    [(3, 1), (2, 1), (4, 1), (1, 1)]
    [(4, 3), (3, 3)]
    [(4, 9)]
    """

    def __init__(self, sampler: Sampler, rungs: Sequence[tuple[int, int]]) -> None:
        super().__init__(sampler, Plan([rungs]))
