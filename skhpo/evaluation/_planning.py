"""The fits of trials, and the states from which they continue."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from ..trial import UNSCHEDULED, FitResult
from ..wrappers import inside
from ._folds import FoldSchedule
from ._subsample import nested_subsamples
from ._tasks import SAVED, FitTask, is_saved

if TYPE_CHECKING:
    from ..journal import Checkpoints, ModelFiles
    from ..trial import Trial
    from ._callbacks import FitContexts
    from ._tasks import Outcome, Setting

__all__ = ["Planner"]


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
        self._inside = inside(setting.estimator, setting.resource)
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
            wrappers = self._key_of_wrappers(trial.params)
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

    def _key_of_wrappers(self, params: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Return a key that is equal for fits that share transformers; None if there are none."""
        found, estimator = self._inside, self.setting.estimator
        if found.may_be_moved_by(params):
            changed = clone(estimator).set_params(**clone(dict(params), safe=False))
            found = inside(changed, self.setting.resource)
        return found.key_of_wrappers(params) if found.transforms_X else None
