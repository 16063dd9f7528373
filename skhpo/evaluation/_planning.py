"""The fits of trials: on which splits and rows, and the states from which they continue."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import type_of_target

from ..rows import Inputs
from ..trial import UNSCHEDULED, FitResult
from ._setup import derive_seed, key_of_wrappers
from ._tasks import SAVED, FitTask, is_saved

if TYPE_CHECKING:
    from ..journal import Checkpoints, ModelFiles
    from ..trial import Trial
    from ._callbacks import FitContexts
    from ._tasks import Outcome, Setting

__all__ = ["FoldSchedule", "Planner", "nested_subsamples"]


@dataclass(frozen=True)
class FoldSchedule:
    """Numbers of splits by level of resource, nested: a trial is fitted on the first ones.

    The other fits of a trial are left out: their results are there at once, without a score. A
    candidate that goes on to a level with more splits is continued on those that it has, and
    trained from the start on the others, through the same levels.

    Parameters
    ----------
    n_splits : int
        Of the search.
    by_level : mapping of int to int, default={}
        Numbers of splits; at other levels a trial is fitted on all.
    """

    n_splits: int
    by_level: Mapping[int, int] = field(default_factory=dict)

    def n_done(self, level: int | None) -> int:
        """Return on how many splits a trial with so much of the resource is fitted."""
        return self.n_splits if level is None else self.by_level.get(level, self.n_splits)

    def added(self, before: int | None, level: int, *, continues: bool = True) -> list[int]:
        """Return how much of the resource a trial uses on each split.

        Parameters
        ----------
        before : int or None
            Resource of the trial that it continues; None if it is the first of its candidate.
        level : int
            Its own.
        continues : bool, default=True
            Whether fits are continued; else all are made from the start.
        """
        n_continued = self.n_done(before) if continues and before is not None else 0
        n_done = self.n_done(level)
        return [
            (level - (before or 0) if split < n_continued else level) if split < n_done else 0
            for split in range(self.n_splits)
        ]


class Planner:
    """Makes the fits of trials, and keeps the states from which later ones continue.

    Parameters
    ----------
    setting : Setting
    y : array-like
        Of all data.
    splits : list of (ndarray, ndarray)
    n_repeats : int
    known : mapping
        Results that are there already, by (trial, split, repeat).
    checkpoints : Checkpoints or None
    model_files : ModelFiles or None
    contexts : FitContexts or None
    folds : FoldSchedule or None, default=None
        On how many splits trials are fitted. None is on all.

    Attributes
    ----------
    rows : list of (ndarray, ndarray)
        Training and test rows of each split, such that training on fewer means on the first.
    models : dict
        Fitted estimators that workers returned, by (trial, split, repeat), until they are taken.
    """

    def __init__(
        self,
        setting: Setting,
        y: Any,
        splits: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
        n_repeats: int,
        known: Mapping[tuple[int, int, int], FitResult],
        checkpoints: Checkpoints | None,
        model_files: ModelFiles | None,
        contexts: FitContexts | None,
        folds: FoldSchedule | None = None,
    ) -> None:
        self.setting = setting
        self.y = y
        self.n_repeats = n_repeats
        self.known = known
        self.checkpoints = checkpoints
        self.model_files = model_files
        self.models: dict[tuple[int, int, int], Any] = {}
        self.contexts = contexts
        self.folds = FoldSchedule(len(splits)) if folds is None else folds
        self.rows = splits
        if setting.resource == "n_samples":
            self.rows = [
                (nested_subsamples(y, train, setting.seed, split), test)
                for split, (train, test) in enumerate(splits)
            ]
        self._states: dict[tuple[int, int, int], Any] = {}  # by the names of fits
        self._levels: dict[int | None, tuple[int | None, ...]] = {}  # by the numbers of trials

    def fits(self, trial: Trial) -> list[tuple[int, int, int]]:
        """Return the names of a trial's fits: (trial, split, repeat) each."""
        return self._names(trial.number)

    def _names(self, trial: int) -> list[tuple[int, int, int]]:
        return list(product([trial], range(len(self.rows)), range(self.n_repeats)))

    def recall(self, trial: Trial) -> None:
        """Register a trial that later ones may continue, without evaluating it."""
        self._levels[trial.number] = (*self._levels.get(trial.parent, ()), trial.resource)
        if self.checkpoints is not None:
            saved = [name for name in self.fits(trial) if name in self.known]
            self._states.update({name: SAVED for name in saved if self.checkpoints.has(name)})

    def plan(
        self, trials: Sequence[Trial], *, leaves: bool
    ) -> tuple[list[FitResult], list[FitTask]]:
        """Return the fits of trials that start together.

        Parameters
        ----------
        trials : list of Trial
        leaves : bool
            Whether fits leave this process.

        Returns
        -------
        known : list of FitResult
            Of those that are there already, or left out.
        tasks : list of FitTask
            The others. Those of earlier candidates have the smaller rank.
        """
        known, tasks = [], []
        rank = min((trial.candidate for trial in trials), default=0)
        for trial in trials:
            self.recall(trial)
            wrappers = key_of_wrappers(self.setting, trial.params)
            n_done = self.folds.n_done(trial.resource)
            for name in self.fits(trial):
                if name in self.known:
                    known.append(self.known[name])
                elif name[1] >= n_done:
                    known.append(FitResult(*name, skipped=UNSCHEDULED))
                else:
                    tasks.append(self._task(trial, name, rank, wrappers, leaves))
        return known, tasks

    def note(self, task: FitTask, outcome: Outcome) -> None:
        """Keep the state of a fit, and its model, if the worker returned them."""
        if outcome.state is not None:
            self._states[task.name] = outcome.state
        if outcome.model is not None:
            self.models[task.name] = outcome.model

    def drop(self, trials: Iterable[int] | None = None) -> None:
        """Drop the states from which later levels would continue.

        Parameters
        ----------
        trials : iterable of int or None, default=None
            Numbers of trials that are not continued any more; None for all.
        """
        numbers = [n for n in self._levels if n is not None] if trials is None else trials
        for number in numbers:
            self._levels.pop(number, None)
            for name in self._names(number):
                if is_saved(self._states.pop(name, None)) and self.checkpoints is not None:
                    self.checkpoints.drop(name)

    def sweep(self) -> None:
        """Remove the checkpoint files from which no fit will continue."""
        if self.checkpoints is None:
            return
        kept = {*self.known, *(name for name, state in self._states.items() if is_saved(state))}
        if damaged := self.checkpoints.sweep(kept):
            warnings.warn(
                f"{len(damaged)} checkpoints in {str(self.checkpoints.folder)!r} were damaged, or "
                f"those of other fits ({', '.join(damaged[:3])}); their fits were trained from the "
                "start again",
                UserWarning,
                stacklevel=5,
            )

    def _task(
        self, trial: Trial, name: tuple[int, int, int], rank: int, wrappers: Any, leaves: bool
    ) -> FitTask:
        _, split, repeat = name
        parent = None if trial.parent is None else (trial.parent, split, repeat)
        n_train = trial.resource if self.setting.resource == "n_samples" else None
        state, load, save, keep = None, None, None, None
        if self.checkpoints is not None:
            save = self.checkpoints.file(name, trial.resource)
            if parent is not None:
                load = self.checkpoints.file(parent, self._levels[trial.parent][-1])
        if self.model_files is not None:
            keep = self.model_files.file(name, trial.resource)
        if parent is not None and not is_saved(self._states.get(parent)):
            state = self._states.pop(parent, None)
        context = None
        if self.contexts is not None:
            number = (trial.number * len(self.rows) + split) * self.n_repeats + repeat
            context = self.contexts.fit(number, leaves=leaves)
        return FitTask(
            trial=trial.number,
            candidate=trial.candidate,
            split=split,
            repeat=repeat,
            params=trial.params,
            levels=self._levels[trial.number],
            n_train=n_train,
            state=state,
            load=load,
            save=save,
            keep=keep,
            key=None if wrappers is None else (split, n_train, wrappers),
            context=context,
            rank=rank,
        )


def nested_subsamples(y: Any, train: Any, seed: int, split: int) -> NDArray[np.intp]:
    """Order training rows so that every leading part is a good subsample.

    Parameters
    ----------
    y : array-like or None
        Target of all rows.
    train : ndarray of int
        Training rows of the split.
    seed, split : int

    Returns
    -------
    ndarray of int
        `train` reordered. The first ``n`` rows are a subsample of size ``n`` and part of every
        larger one. For a classification target the first rows show every class once, and class
        frequencies in any leading part differ from those in `train` by about one row.
    """
    rng = np.random.default_rng(derive_seed(seed, "n_samples", split))
    rows = rng.permutation(train)
    if y is None or isinstance(y, Inputs) or type_of_target(y) not in {"binary", "multiclass"}:
        return rows
    labels = np.ravel(y)[rows]  # a column counts as a list
    when = np.empty(len(rows))
    for label in np.unique(labels):
        (members,) = np.nonzero(labels == label)
        when[members] = (np.arange(len(members)) + rng.uniform()) / len(members)
        when[members[0]] -= 1.0
    return rows[np.argsort(when, kind="stable")]
