"""What a search of brackets will reach within its time, or how long it will take."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ._observers import Observer

if TYPE_CHECKING:
    from ..evaluation import FoldSchedule
    from ..trial import FitResult, Trial

__all__ = ["Forecast"]

_log = logging.getLogger(__name__)

# A search without a time limit that is likely to take more seconds than this logs a forecast.
_LONG = 3600.0


class Forecast(Observer):
    """Says, once, when the first bracket has ended, how many more there is time for.

    Without a limit it says, at level INFO, how long all of them are likely to take, where that is
    more than an hour.

    Work is counted in units of the resource, as a search does that continues its fits.

    Parameters
    ----------
    plan : list of brackets, each a list of (n_candidates, resource)
        Those of an iteration.
    n_iterations : int or None
        None is without end.
    folds : FoldSchedule
        On how many splits trials are fitted.
    n_repeats : int
    start : float
        When the search began, by ``time.monotonic()``.
    max_time : float or None
        Its seconds.
    known : collection of (int, int, int)
        Fits that a journal answers in no time.
    verbose : bool
        Whether to print it on stderr, too.
    """

    def __init__(
        self,
        plan: Sequence[Sequence[tuple[int, int]]],
        n_iterations: int | None,
        folds: FoldSchedule,
        n_repeats: int,
        start: float,
        max_time: float | None,
        known: Collection[tuple[int, int, int]],
        *,
        verbose: bool,
    ) -> None:
        self.plan = plan
        self.n_iterations = n_iterations
        self.folds = folds
        self.n_repeats = n_repeats
        self.start = start
        self.max_time = max_time
        self.known = known
        self.verbose = verbose
        self._levels: dict[int | None, Any] = {}  # of trials
        self._running: dict[int, set[int]] = {}  # of brackets
        self._done = self._fresh = 0
        self._told = False

    def on_ask(self, trials: Sequence[Trial]) -> None:
        if self._told:
            return
        for trial in trials:
            self._levels[trial.number] = trial.resource
            self._running.setdefault(trial.tags["bracket"], set()).add(trial.number)

    def on_fit_end(self, trial: Trial, result: FitResult) -> None:
        if self._told:
            return
        level: Any = trial.resource
        work = self.folds.added(self._levels.get(trial.parent), level)[result.split]
        self._done += work
        if (result.trial, result.split, result.repeat) not in self.known:
            self._fresh += work

    def on_trial_end(self, trial: Trial, results: Sequence[FitResult], score: float) -> None:
        if self._told:
            return
        running = self._running[trial.tags["bracket"]]
        running.discard(trial.number)
        rungs = self.plan[trial.tags["bracket"] % len(self.plan)]
        is_end = not running and trial.tags["iter"] == len(rungs) - 1 > 0
        if self._fresh and (is_end or (len(self.plan) == 1 and not running)):
            self._told = True
            self._levels.clear()
            self._running.clear()
            self._tell(trial.tags["bracket"], time.monotonic() - self.start)

    def _tell(self, bracket: int, seconds: float) -> None:
        rate = self._fresh / max(seconds, 1e-9)
        works = [self._work(rungs) for rungs in self.plan]
        planned = math.inf if self.n_iterations is None else self.n_iterations * sum(works)
        end = seconds + (planned - self._done) / rate
        if self.max_time is None:
            if end >= _LONG:
                rungs = [rung for bracket in self.plan for rung in bracket]
                n_fits = sum(n * self.folds.n_done(level) for n, level in rungs)
                n_fits *= self.n_repeats * (self.n_iterations or 0)
                _log.info(
                    f"bracket {bracket} ended after {seconds:.3g} s; the {n_fits:,} fits of all "
                    f"brackets are likely to take {end / 3600:.3g} h; max_time ends it earlier"
                )
            return
        reached = self._done + rate * max(0.0, self.max_time - seconds)
        if reached >= planned:
            likely = f"all brackets are likely to end after {end:.3g} s"
        else:
            n_iterations, rest = divmod(reached, sum(works))
            whole = sum(end <= rest for end in accumulate(works))
            n_brackets = int(n_iterations) * len(works) + whole
            likely = f"{n_brackets} brackets of {len(works)} an iteration are likely to end"
        text = (
            f"bracket {bracket} ended after {seconds:.3g} s; {likely}, max_time={self.max_time:g} s"
        )
        _log.info(text)
        if self.verbose:
            print(text, file=sys.stderr, flush=True)

    def _work(self, rungs: Sequence[tuple[int, int]]) -> int:
        """Return the total resource that a bracket trains."""
        levels = [None, *(level for _, level in rungs)]
        pairs = zip(rungs, levels, strict=False)
        work = sum(n * sum(self.folds.added(before, level)) for (n, level), before in pairs)
        return self.n_repeats * work
