"""Hyperband that never waits: promotes as soon as a rung has somebody to promote."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from ..samplers import Sampler
from ..trial import Trial
from ._checks import exactly
from .base import Scheduler
from .bracket import Plan
from .hyperband import hyperband_plan

__all__ = ["AsynchronousHyperband"]


class AsynchronousHyperband(Scheduler):
    """Hyperband [1]_ with the promotions of ASHA [2]_: `ask` gives the one trial to start now.

    A candidate is promoted if it is among the best ``1 / factor`` of those that its rung has been
    told so far, without waiting for the others; where nobody can be promoted a new candidate
    starts. The work is that of `Hyperband` with the same arguments, rung by rung: brackets are
    filled one after another, the most aggressive one first, and a rung has as many slots as there.

    Parameters
    ----------
    sampler : Sampler
        Where the candidates come from. One that learns is asked while earlier candidates run.
    min_resources, max_resources, factor, n_brackets, n_iterations, full_first
        As in `Hyperband`.

    Attributes
    ----------
    brackets : list of brackets, each a list of (n_candidates, resource)
        Those of an iteration.

    Notes
    -----
    Of `k` scores told to a rung, ``floor(k / factor)`` are promoted, the best that are still
    there. That is algorithm 2 of [2]_ but for one thing: a candidate that was promoted early, and
    would not be any more, counts. So the slots last until the rung's last candidate has been told;
    those that are left then (because of rounding, or of failures) go to the best of the rest. A
    failed candidate (NaN) counts as told and is never promoted. Equal scores rank by candidate
    number.

    Promotions come before new candidates, higher rungs before lower ones, and earlier brackets
    before later ones. With one worker, and with any number, every rung ends with as many
    candidates as in `Hyperband`; who they are depends on the order in which scores are told.

    References
    ----------
    .. [1] Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar, "Hyperband: a novel bandit-based
       approach to hyperparameter optimization", JMLR 18(185), 2018, algorithm 1.
    .. [2] Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht and Talwalkar, "A system for
       massively parallel hyperparameter tuning", MLSys 2020, algorithm 2.

    Examples
    --------
    >>> from skhpo.samplers import GridSampler
    >>> from skhpo.schedulers import AsynchronousHyperband
    >>> from skhpo.space import SearchSpace
    >>> sampler = GridSampler(SearchSpace({"x": list(range(9))}))
    >>> scheduler = AsynchronousHyperband(sampler, max_resources=9, n_brackets=1)
    >>> started = []
    >>> while trials := scheduler.ask():
    ...     (trial,) = trials
    ...     started.append((trial.params["x"], trial.resource))
    ...     scheduler.tell(trial, score=trial.params["x"])
    >>> started
    [(0, 1), (1, 1), (2, 1), (2, 3), (3, 1), (4, 1), (5, 1), (5, 3), (6, 1), (7, 1), (8, 1), \
(8, 3), (8, 9)]
    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        min_resources: int = 1,
        max_resources: int = 81,
        factor: float | Fraction = 3,
        n_brackets: int | Literal["all"] = "all",
        n_iterations: int | None = 1,
        full_first: bool = False,
    ) -> None:
        super().__init__(sampler)
        brackets = hyperband_plan(min_resources, max_resources, factor, n_brackets)
        self._plan = Plan(brackets, n_iterations, full_first=full_first)
        self.brackets = self._plan.brackets
        self._factor = exactly(factor)
        self._brackets: list[_Bracket] = []  # those that have started; the last takes candidates
        self._place: list[tuple[_Bracket, int]] = []  # of each candidate: bracket and rung
        self._last_trial: list[int] = []  # of each candidate
        self.n_trials = self._plan.n_trials
        self.max_resource: int = self._plan.max_resource

    def ask(self) -> list[Trial]:
        """The trial to start now; none if nothing can start until another one is told."""
        # The space may turn out to be exhausted, which completes rungs.
        trial = self._promote() or self._start() or self._promote()
        return [] if trial is None else [trial]

    def may_continue(self) -> set[int]:
        return {
            self._last_trial[candidate]
            for bracket in self._brackets
            for rung in bracket.rungs
            for _, candidate in rung.contenders
        }

    def _promote(self) -> Trial | None:
        for bracket in self._brackets:
            rung = bracket.promoting()
            if rung is not None:
                return self._run(bracket.rungs[rung].promote(), bracket, rung + 1)
        return None

    def _start(self) -> Trial | None:
        if not self._brackets or not self._brackets[-1].n_vacant:
            coming = self._plan.take()
            if coming is None:
                return None
            self._brackets.append(_Bracket(*coming, self._factor))
        bracket = self._brackets[-1]
        candidates = self.new_candidates(1, bracket.rungs[0].level)
        if not candidates:
            bracket.n_vacant = 0
            self._plan.end()
            return None
        bracket.n_vacant -= 1
        self._place.append((bracket, 0))
        self._last_trial.append(-1)
        return self._run(candidates[0], bracket, 0)

    def _run(self, candidate: int, bracket: _Bracket, rung: int) -> Trial:
        above = bracket.rungs[rung]
        above.n_running += 1
        trial = self.new_trial(
            candidate,
            resource=above.level,
            parent=self._last_trial[candidate] if rung else None,
            tags={"bracket": bracket.index, "iter": rung},
        )
        self._place[candidate] = bracket, rung
        self._last_trial[candidate] = trial.number
        return trial

    def record(self, trial: Trial, score: float) -> None:
        bracket, rung = self._place[trial.candidate]
        bracket.rungs[rung].record(trial.candidate, score)


class _Bracket:
    """Rungs from the bottom up, and how many candidates are still to enter the lowest one."""

    def __init__(self, index: int, rungs: Sequence[tuple[int, int]], factor: Fraction) -> None:
        self.index = index
        sizes = [size for size, _ in rungs]
        self.n_vacant = sizes[0]
        self.rungs = [
            _Rung(level, slots, factor)
            for (_, level), slots in zip(rungs, [*sizes[1:], 0], strict=True)
        ]

    def promoting(self) -> int | None:
        """The highest rung from which somebody can be promoted now."""
        found = None
        closed = not self.n_vacant  # whether nobody will enter the rung any more
        for index, rung in enumerate(self.rungs):
            complete = closed and not rung.n_running
            if rung.contenders and (complete or rung.n_due > 0):
                found = index
            closed = complete and not rung.contenders
        return found


class _Rung:
    """Who waits for promotion at one resource level.

    Parameters
    ----------
    level : int
        The resource.
    slots : int
        How many can be promoted.
    factor : Fraction

    Attributes
    ----------
    n_running : int
        Candidates without a score.
    n_due : int
        Promotions that what was told allows, and that have not been made.
    contenders : list of (float, int)
        Those that would be promoted if there were no more scores to come, the best first: score,
        negated, and candidate.
    """

    def __init__(self, level: int, slots: int, factor: Fraction) -> None:
        self.level = level
        self.n_running = 0
        self.n_due = 0
        self.contenders: list[tuple[float, int]] = []
        self._slots = slots
        self._factor = factor
        self._n_told = 0
        self._n_promoted = 0

    def record(self, candidate: int, score: float) -> None:
        self.n_running -= 1
        self._n_told += 1
        self.n_due = self._n_told // self._factor - self._n_promoted
        if not math.isnan(score):
            insort(self.contenders, (-score, candidate))
            del self.contenders[self._slots :]

    def promote(self) -> int:
        """Take the best one away."""
        self._slots -= 1
        self._n_promoted += 1
        self.n_due -= 1
        return self.contenders.pop(0)[1]
