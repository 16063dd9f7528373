"""The fits of trials: on which splits and rows, from which states, which of them in lockstep."""

from __future__ import annotations

import logging
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..limits import Cut, FitTimeoutError, SearchTimeoutError, current_slot, limited
from ..rows import n_bytes
from ..trial import UNSCHEDULED, FitResult, Trial
from ._setup import configured, key_of_wrappers, n_together, nested_subsamples, network_inside
from ._tasks import SAVED, FitGroup, FitTask, Outcome, Setting, is_saved
from ._workers import import_first

if TYPE_CHECKING:
    from ..journal import Checkpoints, ModelFiles
    from ._callbacks import FitContexts

__all__ = ["FitGrouping", "FoldSchedule", "Planner"]


# Bytes of data from which on the fits of a group share their transformers: what those return is
# all there while the group is trained.
_LARGE = 2**24

# Networks per group where lockstep is not faster, but was requested.
_INSISTED = 20

# Networks that a group has at least where there are more GPUs than groups.
_FEWEST = 4
# Networks that are one group on a CPU; more are an even number of groups, for two workers. Groups
# may have more than twice as many on a GPU, which computes one group at a time.
_WHOLE = 20

_log = logging.getLogger(__name__)


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


@contextmanager
def _unless(over: Callable[[], BaseException | None]) -> Iterator[None]:
    """Suppress the error with which the time limit ends the body."""
    try:
        yield
    except Cut:
        if type(over()) not in (FitTimeoutError, SearchTimeoutError):
            raise


class FitGrouping:
    """Divides the fits of a batch into groups, each to be trained in lockstep.

    Groups depend on the trials of the scheduler only, and on a machine with several GPUs on how
    many of them there are slots; neither on the number of workers nor on timing, so that results do
    not either.

    Parameters
    ----------
    setting : Setting
    X, y : array-like
        All data.
    lockstep : {"auto", True, False}
    across : bool
        Whether fits of several trials may be in one group.
    contexts : FitContexts or None, default=None
        What callbacks of scikit-learn are told.
    limits : dict, default={}
        Of the time in which one network can be looked at: as of `limited`.
    """

    def __init__(
        self,
        setting: Setting,
        X: Any,
        y: Any,
        lockstep: bool | str,
        *,
        across: bool,
        contexts: FitContexts | None = None,
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        self.setting = setting
        self.X = X
        self.y = y
        self.lockstep = lockstep
        self.across = across
        self.contexts = contexts
        self.limits = limits or {}
        self._known: dict[int, Any] = {}  # keys of candidates
        self._keys: dict[Any, Any] = {}  # each once, however many candidates have it
        self._sizes: dict[Any, int] = {}
        self._reported: set[str] = set()

    def divide(
        self, tasks: Sequence[FitTask], slots: Sequence[str | None] = (None,)
    ) -> list[FitGroup]:
        """Divide fits.

        Parameters
        ----------
        tasks : list of FitTask
        slots : sequence of (str or None), default=(None,)
            The devices that they may run on. Where these are several GPUs, each gets as many
            groups.

        Returns
        -------
        list of FitGroup
            Ordered by their first fits.

        Raises
        ------
        ValueError
            If ``lockstep=True`` and something stands in the way.
        """
        if self.lockstep is False or self._no_network_can_be_among():
            return [FitGroup([task]) for task in tasks]
        with limited(slots[0]):
            return self._divided(tasks, len({slot for slot in slots if slot not in (None, "cpu")}))

    def takes_several(
        self, trial: Trial, slot: str | None = None, *, transforms: bool = False
    ) -> bool:
        """Whether splits of a trial are in one group; `divide` need not have seen the trial.

        Parameters
        ----------
        trial : Trial
        slot : str or None, default=None
            A device that they may run on.
        transforms : bool, default=False
            Whether fits share fitted transformers, each split its own.
        """
        if transforms and n_bytes(self.X) >= _LARGE:
            return False
        if self.lockstep is False or self._no_network_can_be_among():
            return False
        task = FitTask(trial.number, trial.candidate, 0, 0, trial.params, (trial.resource,))
        with limited(slot):
            return self._sizes.get(self._key(task), 1) > 1

    def _no_network_can_be_among(self) -> bool:
        """Whether the torch estimators are not imported, and the reason was logged."""
        found = "skhpo.estimators" in sys.modules
        return self.lockstep == "auto" and bool(self._reported) and not found

    def _divided(self, tasks: Sequence[FitTask], n_gpus: int) -> list[FitGroup]:
        groups: dict[Any, list[int]] = {}
        is_large = n_bytes(self.X) >= _LARGE
        for i, task in enumerate(tasks):
            key, trial = self._key(task), None if self.across else task.trial
            name = i if key is None else (key, task.levels, trial, task.key if is_large else None)
            groups.setdefault(name, []).append(i)
        parts: list[list[int]] = []
        for group in groups.values():
            size = self._sizes.get(self._key(tasks[group[0]]), 1)
            n_parts = math.ceil(len(group) / size)
            if size > 1 and n_gpus > 1:
                alike = math.ceil(n_parts / n_gpus) * n_gpus
                n_parts = max(n_parts, min(alike, len(group) // _FEWEST))
            elif 1 < size <= 2 * _WHOLE < 2 * len(group):
                n_parts += n_parts % 2
            if n_parts == len(group):
                parts += [[i] for i in group]
            else:
                parts += [part.tolist() for part in np.array_split(group, n_parts)]
        together = sorted(parts, key=lambda part: part[0])
        return [FitGroup([tasks[i] for i in part]) for part in together]

    def _key(self, task: FitTask) -> Any:
        """Return a key that is equal for fits that may go together in lockstep, or None."""
        if task.candidate in self._known:
            return self._known[task.candidate]
        self._known[task.candidate] = None  # trained alone if this takes too long
        if self.limits.get("seconds") is not None:
            import_first()
        key = None
        with limited(current_slot(), **self.limits) as over, _unless(over):
            key = self._look_at(task)
            if key is None:  # cheap to compute again
                del self._known[task.candidate]
        if key is not None:
            self._known[task.candidate] = key = self._keys.setdefault(key, key)
        return key

    def _look_at(self, task: FitTask) -> Any:
        whole, fit_params = self.setting.estimator, self.setting.fit_params
        if "skhpo.estimators" in sys.modules:
            whole = configured(self.setting, task.params, split=0, candidate=task.candidate)
        found, reason = network_inside(whole, self.X, fit_params, self.setting.resource)
        if reason is None and self.contexts is not None and self.contexts.reach(len(found.names)):
            reason = "callbacks of the search look into each epoch"
        if reason is None:
            from ..lockstep import group_key

            key = group_key(found.estimator)
            if key not in self._sizes:
                size = n_together(found.estimator, self.X, self.y, sys.maxsize)
                insists = size == 1 and self.lockstep is True
                self._sizes[key] = _INSISTED if insists else size
            return key
        if self.lockstep is True:
            raise ValueError(
                f"lockstep=True insists on training in lockstep, but {reason} (candidate "
                f"{task.candidate}: {dict(task.params)!r}); change that, or use lockstep='auto'"
            )
        if reason not in self._reported:
            self._reported.add(reason)
            _log.debug("fits are not trained in lockstep: %s", reason)
        return None
