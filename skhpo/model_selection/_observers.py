"""Those who watch a search: callbacks of the user, a line of progress, a forecast."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

from ..space import SearchSpace
from ..trial import RACED, FitResult, Trial

if TYPE_CHECKING:
    from ..evaluation import FoldSchedule
    from ._goals import Told
    from ._loop import TrialLoop

__all__ = [
    "Callbacks",
    "Forecast",
    "Observer",
    "Progress",
    "SearchCallback",
    "SearchStart",
    "log",
    "report_answered",
]

log = logging.getLogger(__name__)

# A search without a time limit that is likely to take more seconds than this logs a forecast.
_LONG = 3600.0


@dataclass(frozen=True, slots=True)
class SearchStart:
    """What search callbacks are told before anything is trained.

    Parameters
    ----------
    space : SearchSpace
    metrics : tuple of str or None
        Names of the scores; None where a callable `scoring` decides when it is called.
    max_resource : int or None
        The largest resource of a trial, where known.
    identity : str
        Equal for two calls of ``fit`` of one and the same search (one goes on with the journal of
        the other, or all that results depend on is the same), different for any other search.
    known : collection of (int, int, int)
        Trial, split and repeat of the fits that the journal answers.
    """

    space: SearchSpace
    metrics: tuple[str, ...] | None
    max_resource: int | None
    identity: str
    known: Collection[tuple[int, int, int]]


class SearchCallback(Protocol):
    """What may be an item of `callbacks` of a search: an object with at least one of these methods.

    They are called in the process that called ``fit``, in this order; what they raise ends the
    search. One that has an attribute ``curves``, and it is True, finds learning curves in results.
    """

    def on_search_begin(self, search: Any, start: SearchStart) -> None:
        """Called before anything is trained.

        Parameters
        ----------
        search : estimator
            With `param_distributions_` and `n_splits_`.
        start : SearchStart
        """

    def on_fit_end(self, search: Any, trial: Trial, result: FitResult) -> None:
        """Called for every fit, in finishing order; also for those that a journal answers."""

    def on_trial_end(
        self, search: Any, trial: Trial, results: Sequence[FitResult], score: float
    ) -> bool | None:
        """Called when all fits of a trial have ended, in the order in which the scheduler is told.

        One that returns True stops the search: no new fit starts, those that run are waited for,
        and the best of what is finished is refitted.

        Parameters
        ----------
        search : estimator
        trial : Trial
        results : sequence of FitResult
            By split and repeat.
        score : float
            What the scheduler is told; NaN where the trial failed.

        Returns
        -------
        bool or None
            True to stop.
        """

    def on_search_end(self, search: Any) -> None:
        """Called after the refit, also where the search was cut short; not where ``fit`` raises."""


# The methods of `SearchCallback`.
_EVENTS = ("on_search_begin", "on_fit_end", "on_trial_end", "on_search_end")


class Observer:
    """What a loop reports to; by default nothing happens."""

    def on_ask(self, trials: Sequence[Trial]) -> None:
        """Take note of trials that start."""

    def on_fit_end(self, trial: Trial, result: FitResult) -> None:
        """Take note of a fit, in finishing order."""

    def on_trial_end(self, trial: Trial, results: Sequence[FitResult], score: float) -> bool | None:
        """Take note of what the scheduler was told; True ends the loop."""


class Callbacks(Observer):
    """Passes events on to the search callbacks that implement them.

    Raises
    ------
    TypeError
        If one of them implements none of the events, or is a class.
    """

    def __init__(self, search: Any, callbacks: Sequence[Any]) -> None:
        for callback in callbacks:
            _check_callback(callback)
        self.search = search
        self.callbacks = callbacks
        # Whether one of them is told of the beginning, or asks for learning curves.
        self.want_start = self.want_curves = False
        for callback in callbacks:
            self.want_start |= hasattr(callback, "on_search_begin")
            self.want_curves |= getattr(callback, "curves", None) is True

    def on_search_begin(self, start: SearchStart) -> None:
        self._call("on_search_begin", start)

    def on_fit_end(self, trial: Trial, result: FitResult) -> None:
        self._call("on_fit_end", trial, result)

    def on_trial_end(self, trial: Trial, results: Sequence[FitResult], score: float) -> bool:
        return self._call("on_trial_end", trial, results, score)

    def on_search_end(self) -> None:
        self._call("on_search_end")

    def _call(self, event: str, *args: Any) -> bool:
        """Call all that have a method; return whether one of them returned True."""
        wants_end = False
        for callback in self.callbacks:
            method = getattr(callback, event, None)
            if method is not None:
                wants_end = method(self.search, *args) is True or wants_end
        return wants_end


def _check_callback(callback: Any) -> None:
    if isinstance(callback, type):
        fix = f"call it: {callback.__name__}()"
    elif any(callable(getattr(callback, event, None)) for event in _EVENTS):
        return
    elif hasattr(callback, "on_fit_task_begin"):
        fix = "callbacks of scikit-learn are set by set_callbacks"
    else:
        fix = "leave it out, or give it one of them"
    raise TypeError(
        f"callbacks of a search must have a method {', '.join(_EVENTS[:-1])} or {_EVENTS[-1]}, but "
        f"got {callback!r}; {fix}"
    )


class Progress(Observer):
    """One line on stderr: fits done, the time left, the best score so far and its level.

    Of subsamples the best is that of the largest that has a score, as in the search. On a terminal
    the line is rewritten; elsewhere a new one comes whenever another tenth is done, of all fits or,
    where nothing says how many there will be, of those so far.

    Parameters
    ----------
    total : int or None
        Fits that there will be, if known; those that racing leaves out are taken off as it does.
    n_fits : int
        Fits per trial.
    score : callable
        From the results of a trial, in order of split and repeat, to what the scheduler hears.
    resource : str or None
        Its name.
    known : collection of (int, int, int)
        Fits that a journal answers in no time.
    until : float or None, default=None
        When the search is to end, by ``time.monotonic()``; None is without a limit.
    """

    def __init__(
        self,
        total: int | None,
        n_fits: int,
        score: Callable[[Sequence[FitResult]], Told],
        resource: str | None,
        known: Collection[tuple[int, int, int]],
        until: float | None = None,
    ) -> None:
        self.total = total
        self.until = until
        self.n_fits = n_fits
        self.score = score
        self.resource = resource
        self.known = known
        self.done = self._fresh = 0
        self.best: dict[int | None, float] = {}
        self._rows: dict[int, list[FitResult]] = {}
        self._start = time.monotonic()
        self._next = max(1.0, (total or 0) / 10)  # number of fits at which a line comes
        self._rewrite = sys.stderr.isatty()

    def on_fit_end(self, trial: Trial, result: FitResult) -> None:
        if not result.is_left_out:
            self.done += 1
            self._fresh += result.name not in self.known
        elif self.total is not None and result.skipped == RACED:
            self.total -= 1
        row = self._rows.setdefault(trial.number, [])
        row.append(result)
        if len(row) == self.n_fits:
            self._note(trial, self._rows.pop(trial.number))
        if self._rewrite or (self.done >= self._next and self.done != self.total):
            self._next = self.done + (self.total or self.done) / 10
            self._show(self._line(self._left(), *self._best_so_far()))

    def finish(
        self, best: tuple[float, int | None] | None = None, stopped: str | None = None
    ) -> None:
        """Write the last line.

        Parameters
        ----------
        best : tuple of float and int, or None, default=None
            The score that the search ends with, and its level of the resource or None.
        stopped : str or None, default=None
            Why the search ended early.
        """
        left = self._left(0.0) if stopped is None else f"stopped because {stopped}"
        self._show(self._line(left, *(best or self._best_so_far())), end="\n")

    def _note(self, trial: Trial, results: Sequence[FitResult]) -> None:
        results = sorted(results, key=lambda result: result.name)
        told = self.score(results)
        if results[-1].is_left_out:  # it cannot be the best
            return
        if not math.isnan(told.score) and told.is_feasible:
            self.best[trial.resource] = max(told.score, self.best.get(trial.resource, -math.inf))

    def _best_so_far(self) -> tuple[float | None, int | None]:
        if not self.best:
            return None, None
        by_level = self.resource == "n_samples"
        level = max(self.best, key=lambda level: (0 if by_level else self.best[level], level or 0))
        return self.best[level], level

    def _left(self, seconds: float | None = None) -> str | None:
        """Say how many seconds are left, by default those of the fits to come or to the limit."""
        times = []
        if self.total:
            to_come = self.total - max(self.done, len(self.known) + self._fresh)
            each = (time.monotonic() - self._start) / self._fresh if self._fresh else math.nan
            times.append(each * to_come if to_come > 0 else 0.0)
        if self.until is not None:
            times.append(max(0.0, self.until - time.monotonic()))
        if not times:
            return None
        # NaN, of fits whose duration is not known yet, is not less than a limit.
        shortest = min(times, key=lambda one: math.inf if math.isnan(one) else one)
        return f"{_duration(shortest if seconds is None else seconds)} left"

    def _line(self, left: str | None, score: float | None, level: int | None) -> str:
        parts = [f"{self.done}/{_counted(self.total)}" if self.total else _counted(self.done)]
        parts += [] if left is None else [left]
        at = "" if level is None else f" at {self.resource}={level}"
        parts.append("no score so far" if score is None else f"best score so far {score:.4g}{at}")
        return ", ".join(parts)

    def _show(self, text: str, end: str | None = None) -> None:
        if self._rewrite:
            print(f"\r{text:<78}", end=end or "", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)


def report_answered(loop: TrialLoop, *, printed: bool) -> None:
    """Log how many fits of a search its journal answered, and print it where that is wanted.

    Parameters
    ----------
    loop : TrialLoop
        At its end.
    printed : bool
    """
    n_fits = len(loop.table) * loop.n_fits
    name = "" if loop.journal is None else loop.journal.path.name
    text = f"{loop.n_answered} of {_counted(n_fits)} answered by {name}"
    log.info(text)
    if printed:
        print(text, file=sys.stderr, flush=True)


def _counted(n_fits: int) -> str:
    """Return a number of fits as words."""
    return f"{n_fits} fit{'' if n_fits == 1 else 's'}"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


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
        if result.name not in self.known:
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
                log.info(
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
        log.info(text)
        if self.verbose:
            print(text, file=sys.stderr, flush=True)

    def _work(self, rungs: Sequence[tuple[int, int]]) -> int:
        """Return the total resource that a bracket trains."""
        levels = [None, *(level for _, level in rungs)]
        pairs = zip(rungs, levels, strict=False)
        work = sum(n * sum(self.folds.added(before, level)) for (n, level), before in pairs)
        return self.n_repeats * work
