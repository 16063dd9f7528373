"""How far a search is: a line on stderr, and what a journal answered."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ._observers import Observer

if TYPE_CHECKING:
    from ..trial import FitResult, Trial
    from ._goals import Told
    from ._loop import TrialLoop

__all__ = ["Progress", "report_answered"]

_log = logging.getLogger(__name__)


class Progress(Observer):
    """One line on stderr: fits done, the time left, the best score so far and its level.

    Of subsamples the best is that of the largest that has a score, as in the search. On a terminal
    the line is rewritten; elsewhere a new one comes whenever another tenth is done.

    Parameters
    ----------
    total : int or None
        Fits that there will be, if known.
    n_fits : int
        Fits per trial.
    score : callable
        From the results of a trial, in order of split and repeat, to what the scheduler hears.
    resource : str or None
        Its name.
    """

    def __init__(
        self,
        total: int | None,
        n_fits: int,
        score: Callable[[Sequence[FitResult]], Told],
        resource: str | None,
    ) -> None:
        self.total = total
        self.n_fits = n_fits
        self.score = score
        self.resource = resource
        self.done = 0
        self.best: dict[int | None, float] = {}
        self._rows: dict[int, list[FitResult]] = {}
        self._start = time.monotonic()
        self._shown = 0
        self._rewrite = sys.stderr.isatty()

    def on_fit_end(self, trial: Trial, result: FitResult) -> None:
        if not result.is_left_out:
            self.done += 1
        elif self.total is not None:
            self.total -= 1
        row = self._rows.setdefault(trial.number, [])
        row.append(result)
        if len(row) == self.n_fits:
            self._note(trial, self._rows.pop(trial.number))
        tenths = self.done * 10 // (self.total or 10)
        if self._rewrite or (tenths > self._shown and self.done != self.total):
            self._shown = tenths
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
        left = self._left() if stopped is None else f"stopped because {stopped}"
        self._show(self._line(left, *(best or self._best_so_far())), end="\n")

    def _note(self, trial: Trial, results: Sequence[FitResult]) -> None:
        results = sorted(results, key=lambda result: (result.split, result.repeat))
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

    def _left(self) -> str | None:
        if not self.total:
            return None
        spent = time.monotonic() - self._start
        left = spent / self.done * (self.total - self.done) if self.done else math.nan
        return f"{_duration(left)} left"

    def _line(self, left: str | None, score: float | None, level: int | None) -> str:
        parts = [f"{self.done}/{self.total} fits" if self.total else f"{self.done} fits"]
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
    text = f"{loop.n_answered} of {n_fits} fits answered by {name}"
    _log.info(text)
    if printed:
        print(text, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
