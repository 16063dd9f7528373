"""What is kept of the fits of a search while it runs, and of which rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import isnan
from typing import TYPE_CHECKING

from ..journal import worth_a_sync
from ._observers import Observer
from ._predictions import KeptPredictions, PredictionStore

if TYPE_CHECKING:
    from ..results import TrialTable
    from ..trial import FitResult, Trial
    from ._source import Source

__all__ = ["Keeper"]

Name = tuple[int, int, int]


class Keeper(Observer):
    """Keeps predictions of the rows that count: those with most of the resource, and the best row.

    Other rows are dropped when their trial is told, or when a better one is.

    Parameters
    ----------
    source : Source
    n_splits, n_repeats : int
    least : int or None
        Resource from which on all rows are kept; None for the largest of the search.
    may_win : callable
        Whether a trial may be the best, whatever its score is.

    Attributes
    ----------
    n_unpredicted : int
        Fits that did not fail and have no predictions.
    first_unpredicted : str or None
        Why the first one has none.
    n_made_again : int
        Fits whose predictions were lost beside the journal.
    """

    def __init__(
        self,
        source: Source,
        n_splits: int,
        n_repeats: int,
        least: int | None,
        may_win: Callable[[Trial], bool],
    ) -> None:
        journal, setting = source.journal, source.plan.setting
        read_only = journal is not None and journal.read_only
        self.store = PredictionStore(
            None if journal is None else journal.predictions, read_only=read_only
        )
        self.known = source.known
        self.splits = source.plan.splits
        self.kind = setting.predictions
        self.least = setting.max_resource if least is None else least
        self.may_win = may_win
        self.n_repeats = n_repeats
        self._fits = [(split, repeat) for split in range(n_splits) for repeat in range(n_repeats)]
        self._held: set[Name] = set()
        self._best: tuple[tuple[float, int, int], int, bool] | None = None
        self._errors: dict[int, tuple[int, str]] = {}  # by trial: how many, and the first
        self._lost: set[Name] = set()
        self.n_unpredicted = 0
        self.first_unpredicted: str | None = None
        self.n_made_again = 0

    def take(self, trial: Trial, result: FitResult) -> FitResult:
        """Put away what a fit predicted; return its result without.

        Raises
        ------
        StorageError
            If the system refuses.
        """
        name = result.trial, result.split, result.repeat
        if result.predictions is not None:
            sync = worth_a_sync(result.fit_time + result.score_time)
            self.store.put(name, result.predictions, sync=sync)
            self._held.add(name)
            self._lost.discard(name)
            return replace(result, predictions=None)
        if result.unpredicted is not None:
            self.n_unpredicted += 1
            self.first_unpredicted = self.first_unpredicted or result.unpredicted
        why = result.error or result.unpredicted
        if why is not None:
            n, first = self._errors.get(result.trial, (0, why))
            self._errors[result.trial] = n + 1, first
        elif name in self.known:
            (self._held if self.store.has_file(name) else self._lost).add(name)
        return result

    def on_trial_end(self, trial: Trial, results: Sequence[FitResult], score: float) -> None:
        """Drop what does not count, now that the score is known."""
        best = self._best
        counts = self._counts(trial)
        key = score, trial.resource or 0, -trial.number
        if not isnan(score) and self.may_win(trial) and (best is None or key > best[0]):
            if best is not None and not best[2]:
                self._drop(best[1])
            self._best = key, trial.number, counts
        elif not counts:
            self._drop(trial.number)

    def _counts(self, trial: Trial) -> bool:
        return trial.resource is None or self.least is None or trial.resource >= self.least

    def _names(self, trial: int) -> Iterable[Name]:
        return ((trial, split, repeat) for split, repeat in self._fits)

    def _drop(self, trial: int) -> None:
        for name in self._names(trial):
            self._lost.discard(name)
            if name in self._held:
                self._held.remove(name)
                self.store.drop(name)

    def to_make_again(self) -> set[Name]:
        """Return fits that the journal answers, and whose predictions are missing or damaged."""
        answered = [name for name in self._held if name in self.known]
        damaged = {name for name in answered if self.store.get(name) is None}
        self._held -= damaged
        self._lost |= damaged
        self.n_made_again = len(self._lost)
        return set(self._lost)

    def finish(self, table: TrialTable, n_samples: int) -> KeptPredictions:
        """Return what is kept, once the last fit is done."""
        assert self.kind is not None
        self.store.sweep(self._held)
        trials = table.trials()
        missing = {}
        for row, trial in enumerate(trials):
            if (why := self._why_missing(trial)) is not None:
                missing[row] = why
        return KeptPredictions(
            self.store,
            self.kind,
            [trial.number for trial in trials],
            missing,
            [test for _, test in self.splits],
            n_samples,
            self.n_repeats,
        )

    def _why_missing(self, trial: Trial) -> str | None:
        absent = [name for name in self._names(trial.number) if name not in self._held]
        if not absent:
            return None
        if trial.number in self._errors:
            n, first = self._errors[trial.number]
            return f"{n} of its {len(self._fits)} fits have none; the first one because:\n{first}"
        if not self._counts(trial):
            return (
                f"it has {trial.resource} of the resource, and besides the best row those with "
                f"{self.least} are kept; set keep_from={trial.resource}"
            )
        return f"those of split {absent[0][1]} were missing beside the journal, and not made again"
