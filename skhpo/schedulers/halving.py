"""Successive halving: many candidates start, the best go on."""

from __future__ import annotations

from collections.abc import Sequence

from ..samplers import Sampler
from ..trial import Trial
from .base import Scheduler
from .bracket import Bracket

__all__ = ["BracketScheduler", "SuccessiveHalving"]


class BracketScheduler(Scheduler):
    """Runs brackets: side by side, or one after another where the sampler learns.

    Parameters
    ----------
    sampler : Sampler
        Where the candidates come from.
    plan : sequence of brackets, each a sequence of (n_candidates, resource)
        The brackets in the order they start.
    """

    def __init__(self, sampler: Sampler, plan: Sequence[Sequence[tuple[int, int]]]) -> None:
        super().__init__(sampler)
        self._brackets = [Bracket(rungs) for rungs in plan]
        self._n_started = 0
        self._bracket_of: list[int] = []  # of each candidate
        self._last_trial: list[int] = []  # of each candidate
        rungs = [rung for bracket in self._brackets for rung in bracket.rungs]
        self.n_trials: int = sum(size for size, _ in rungs)
        self.max_resource: int = max(level for _, level in rungs)

    def ask(self) -> list[Trial]:
        trials = []
        for index in range(self._n_started):
            bracket = self._brackets[index]
            if bracket.complete and not bracket.finished:
                trials += self._run(index, bracket.promote())
        while self._may_start():
            index = self._n_started
            self._n_started += 1
            candidates = self._new_candidates(self._brackets[index].rungs[0][0])
            if not candidates:
                # The space is exhausted, so the later brackets would be empty as well.
                del self._brackets[index:]
                self._n_started = index
                break
            self._bracket_of += [index] * len(candidates)
            self._last_trial += [-1] * len(candidates)
            self._brackets[index].enter(candidates)
            trials += self._run(index, candidates)
        return trials

    def may_continue(self) -> set[int]:
        return {
            self._last_trial[candidate]
            for bracket in self._brackets[: self._n_started]
            for candidate in bracket.contenders()
        }

    def _may_start(self) -> bool:
        if self._n_started == len(self._brackets):
            return False
        running = self._brackets[: self._n_started]
        return not self.sampler.learns or all(bracket.finished for bracket in running)

    def _run(self, index: int, candidates: list[int]) -> list[Trial]:
        bracket = self._brackets[index]
        trials = []
        for candidate in candidates:
            trial = self._new_trial(
                candidate,
                resource=bracket.resource,
                parent=self._last_trial[candidate] if bracket.rung else None,
                tags={"bracket": index, "iter": bracket.rung},
            )
            self._last_trial[candidate] = trial.number
            trials.append(trial)
        return trials

    def _record(self, trial: Trial, score: float) -> None:
        self._brackets[self._bracket_of[trial.candidate]].record(trial.candidate, score)


class SuccessiveHalving(BracketScheduler):
    """One bracket of successive halving [1]_.

    Parameters
    ----------
    sampler : Sampler
        Where the candidates come from.
    rungs : sequence of (n_candidates, resource)
        How many candidates reach which cumulative resource, from the bottom up.

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
        super().__init__(sampler, [rungs])
