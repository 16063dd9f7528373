"""Asynchronous Hyperband, which never waits for a rung to be complete."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction
from heapq import heappop, heappush
from typing import Any, Literal

from ..samplers import Sampler
from ..trial import Trial
from .base import Scheduler
from .fronts import FrontContenders
from .halving import Contenders, Plan, add_to
from .hyperband import exactly, hyperband_plan

__all__ = ["AsynchronousHyperband"]


class AsynchronousHyperband(Scheduler):
    """Hyperband [1]_ with the promotions of ASHA [2]_: `ask` returns the one trial to start now.

    A candidate is promoted if it is among the best ``1 / factor`` of the scores of its rung so far,
    without waiting for the others; if none can be promoted a new candidate starts. Each rung has
    the work of `Hyperband` with the same arguments: brackets are filled one after another, the most
    aggressive one first, and rungs have the same numbers of slots.

    Parameters
    ----------
    sampler : Sampler
        Samples the candidates, also while earlier ones run.
    min_resources : int, default=1
        The smallest resource of a candidate.
    max_resources : int, default=81
        Resource of the last rung of every bracket.
    factor : float, default=3
        As in `Hyperband`.
    n_brackets : int or "all", default="all"
        Number of brackets, from the most aggressive one.
    n_iterations : int or None, default=1
        Number of repetitions of all brackets; None is unlimited.
    full_first : bool, default=False
        As in `Hyperband`.

    Attributes
    ----------
    brackets : list of brackets, each a list of (n_candidates, resource)
        Those of an iteration.

    See Also
    --------
    Hyperband : Waits for a rung before it promotes.
    skhpo.HalvingHyperbandSearchCV : With ``asynchronous=True`` the search that uses it.

    Notes
    -----
    Of `k` scores on a rung, ``floor(k / factor)`` are promoted, the best that remain. This is
    algorithm 2 of [2]_ with one difference: a candidate that was promoted early counts, even if it
    is not among the best any more. So the slots last until the last candidate of the rung has a
    score; remaining slots (because of rounding or failures) then go to the best of the rest. A
    failed candidate (NaN) counts as a score and is never promoted. Equal scores rank by candidate
    number.

    Promotions come before new candidates, higher rungs before lower ones, and earlier brackets
    before later ones. With any number of workers every rung ends with as many candidates as in
    `Hyperband`; which ones depends on the order of the scores.

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
        self._brackets: dict[int, _Bracket] = {}  # unfinished ones, by their order
        self._filling: _Bracket | None = None  # the one that starts candidates
        self._n_started = 0
        self._promoting: list[int] = []  # a heap of those that may have a candidate to promote
        self._place: dict[int, tuple[_Bracket, int]] = {}  # of candidates that are not out
        self._last_trial: dict[int, int] = {}  # of the same candidates
        self._released: list[int] = []
        self.n_trials = self._plan.n_trials
        self.max_resource: int = self._plan.max_resource

    def ask(self) -> list[Trial]:
        """Return the trial to start now; none if nothing can start before the next score.

        Returns
        -------
        trials : list of Trial
            One, or none.
        """
        # An exhausted space completes rungs, which allows promotions.
        trial = self._promote() or self._start() or self._promote()
        return [] if trial is None else [trial]

    def may_continue(self) -> set[int]:
        return {
            self._last_trial[candidate]
            for bracket in self._brackets.values()
            for rung in bracket.rungs
            for candidate in rung.contenders.members
        }

    def released(self) -> Collection[int]:
        self._newly_told.clear()
        released, self._released = self._released, []
        return released

    def _promote(self) -> Trial | None:
        while self._promoting:
            bracket = self._brackets.get(self._promoting[0])
            rung = None if bracket is None else bracket.promoting()
            if bracket is not None and rung is not None:
                promoted = bracket.rungs[rung].promote()
                self._release(bracket.rungs[rung].contenders.rest())
                return self._run(promoted, bracket, rung + 1)
            heappop(self._promoting)
            if bracket is not None:
                bracket.is_queued = False
        return None

    def _start(self) -> Trial | None:
        if self._filling is None:
            coming = self._plan.take()
            if coming is None:
                return None
            self._filling = _Bracket(self._n_started, *coming, self._factor)
            self._brackets[self._n_started] = self._filling
            self._n_started += 1
        bracket = self._filling
        candidates = self.new_candidates(1, bracket.rungs[0].level)
        bracket.n_vacant = bracket.n_vacant - 1 if candidates else 0
        if not bracket.n_vacant:
            self._filling = None
        trial = self._run(candidates[0], bracket, 0) if candidates else None
        if trial is None:
            self._plan.end()
        self._update(bracket)
        return trial

    def _run(self, candidate: int, bracket: _Bracket, rung: int) -> Trial:
        above = bracket.rungs[rung]
        above.n_running += 1
        parent = self._last_trial.get(candidate)
        if parent is not None:
            self._released.append(parent)
        trial = self.new_trial(candidate, resource=above.level, parent=parent, tags=above.tags)
        self._place[candidate] = bracket, rung
        self._last_trial[candidate] = trial.number
        return trial

    def record(self, trial: Trial, score: float, **measured: Any) -> None:
        bracket, rung = self._place[trial.candidate]
        self._release(bracket.rungs[rung].record(trial.candidate, score, **measured))
        self._update(bracket)

    def _release(self, candidates: Collection[int]) -> None:
        for out in candidates:
            del self._place[out]
            self._released.append(self._last_trial.pop(out))

    def _update(self, bracket: _Bracket) -> None:
        """Queue a bracket if a candidate can be promoted in it; drop it if it is finished."""
        if bracket.promoting() is not None:
            if not bracket.is_queued:
                heappush(self._promoting, bracket.order)
            bracket.is_queued = True
        elif bracket.is_over:
            del self._brackets[bracket.order]


class _Bracket:
    """Rungs from the bottom up, and the number of candidates still to start."""

    def __init__(
        self, order: int, index: int, rungs: Sequence[tuple[int, int]], factor: Fraction
    ) -> None:
        self.order = order
        self.is_queued = False
        sizes = [size for size, _ in rungs]
        self.n_vacant = sizes[0]
        self.rungs = [
            _Rung(level, slots, factor, {"bracket": index, "iter": rung})
            for rung, ((_, level), slots) in enumerate(zip(rungs, [*sizes[1:], 0], strict=True))
        ]

    def promoting(self) -> int | None:
        """The highest rung from which a candidate can be promoted now, or None."""
        found = None
        closed = not self.n_vacant  # whether no candidate will enter the rung any more
        for index, rung in enumerate(self.rungs):
            complete = closed and not rung.n_running
            if rung.contenders and (complete or rung.n_due > 0):
                found = index
            closed = complete and not rung.contenders
        return found

    @property
    def is_over(self) -> bool:
        """Whether no candidate runs, waits for promotion, or is still to start."""
        return not self.n_vacant and not any(r.n_running or r.contenders for r in self.rungs)


class _Rung:
    """Candidates at one resource level, of which `slots` can be promoted.

    Attributes
    ----------
    n_running : int
        Candidates without a score.
    n_due : int
        Promotions that the scores so far allow and that have not been made.
    contenders : Contenders or FrontContenders
        The candidates to promote given the scores so far.
    """

    def __init__(self, level: int, slots: int, factor: Fraction, tags: dict[str, int]) -> None:
        self.level = level
        self.tags = tags
        self.n_running = 0
        self.n_due = 0
        self.contenders: Contenders | FrontContenders = Contenders(slots)
        self._factor = factor
        self._n_told = 0
        self._n_promoted = 0

    def record(self, candidate: int, score: float, **measured: Any) -> list[int]:
        """Record a score; return the candidates that are now out."""
        self.n_running -= 1
        self._n_told += 1
        self.n_due = self._n_told // self._factor - self._n_promoted
        self.contenders, out = add_to(self.contenders, candidate, score, **measured)
        return out

    def promote(self) -> int:
        """Remove and return the best candidate."""
        self._n_promoted += 1
        self.n_due -= 1
        return self.contenders.take()
