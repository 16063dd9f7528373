"""Successive halving: many candidates start, the best continue."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heappop, heappush
from typing import Any

from ..samplers import Sampler
from ..trial import Trial
from .base import Scheduler
from .bracket import Bracket, Plan

__all__ = ["BracketScheduler", "SuccessiveHalving"]


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
