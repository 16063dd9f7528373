"""The fits of trials: on which splits and rows, from which states, and what starts next."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import chain, product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..trial import UNSCHEDULED, FitResult, Trial
from ._setup import key_of_wrappers, nested_subsamples
from ._tasks import SAVED, FitGroup, FitTask, Outcome, Setting, TransformTask, is_saved
from ._transformed import Transformed

if TYPE_CHECKING:
    from ..journal import Checkpoints, ModelFiles
    from ..wrappers import Prepared
    from ._callbacks import FitContexts
    from ._travel import Stored

__all__ = ["FoldSchedule", "Planner", "Waiting"]


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


class Waiting:
    """What can be started, in the order in which it is to be, and what is started behind it.

    Work of a smaller rank starts first, its transformers too. What fills idle workers in advance
    thus never delays what finishes earlier work.

    Parameters
    ----------
    max_level : int or None, default=None
        As of `Transformed`.

    Attributes
    ----------
    n_fits : int
        Fits that can be started.
    """

    def __init__(self, max_level: int | None = None) -> None:
        self.max_level = max_level
        self.n_fits = 0
        self._ready: list[Any] = []  # a heap, by rank, trial, split and repeat
        self._blocked: dict[tuple[Any, ...], list[FitGroup]] = {}
        self._ranks: dict[
            tuple[Any, ...], int
        ] = {}  # of the transformers that are waited for, by key

    def __len__(self) -> int:
        return len(self._ready)

    @cached_property
    def transformed(self) -> Transformed:
        """Transformers that fits share."""
        return Transformed(self.max_level)

    @property
    def n_blocked(self) -> int:
        """Groups that wait for transformers, once for each of those."""
        return sum(map(len, self._blocked.values()))

    @property
    def all(self) -> list[FitGroup | TransformTask]:
        """Everything that waits, a group maybe several times."""
        return [*(work for *_, work in self._ready), *chain.from_iterable(self._blocked.values())]

    def add(self, work: FitGroup) -> None:
        """Queue a group, behind its transformers where those are not fitted yet."""
        for task in work.tasks:
            if task.key is not None:
                self.transformed.note(task)
        missing = {
            task.key: task
            for task in reversed(work.tasks)
            if task.key is not None and task.key not in self.transformed
        }
        if not missing:
            heappush(self._ready, (work.rank, *work.name, work))
            self.n_fits += len(work.tasks)
        for key, task in missing.items():
            if key not in self._blocked:
                self._blocked[key] = []
                self._ranks[key] = work.rank
                transform = TransformTask(key, task.params, task.split, task.n_train)
                heappush(self._ready, (work.rank, task.trial, task.split, -1, transform))
            elif work.rank < self._ranks[key]:
                self._hurry(key, work.rank)
            self._blocked[key].append(work)

    def put_back(self, work: FitGroup | TransformTask) -> None:
        """Queue again what was taken."""
        if isinstance(work, FitGroup):
            self.add(work)
        elif work.key in self._blocked:
            trial = min(fit.trial for item in self._blocked[work.key] for fit in item.tasks)
            heappush(self._ready, (self._ranks[work.key], trial, work.split, -1, work))

    def take(self) -> Any:
        """Return what is to be started next."""
        work = heappop(self._ready)[-1]
        self.n_fits -= len(work.tasks)
        return work

    def take_fits(self, rank: int) -> FitGroup | None:
        """Return what is to be started next if that is a group of a rank, else None."""
        if self._ready and self._ready[0][0] == rank and self._ready[0][-1].tasks:
            group: FitGroup = self.take()
            return group
        return None

    def clear(self) -> None:
        """Forget everything that waits."""
        self.n_fits = 0
        self._ready.clear()
        self._blocked.clear()
        self._ranks.clear()

    def withdraw(self, names: Collection[tuple[int, int, int]]) -> int:
        """Forget fits that wait, each in a group of its own; return how many."""

        def stays(work: Any) -> bool:
            if not work.tasks:
                return work.key in self._blocked
            return any(task.name not in names for task in work.tasks)

        n_before = sum(len(work.tasks) for work in self.all)
        for key, works in list(self._blocked.items()):
            self._blocked[key] = [work for work in works if stays(work)]
            if not self._blocked[key]:
                del self._blocked[key], self._ranks[key]
        self._ready = [entry for entry in self._ready if stays(entry[-1])]
        heapify(self._ready)
        self.n_fits = sum(len(entry[-1].tasks) for entry in self._ready)
        return n_before - sum(len(work.tasks) for work in self.all)

    def take_transformed(
        self,
        key: Any,
        transformed: Prepared | Stored,
        also_needed: Iterable[FitGroup | TransformTask],
    ) -> list[Prepared | Stored]:
        """Note fitted transformers, and let go of those that nothing needs.

        Parameters
        ----------
        key : tuple
        transformed : Prepared or Stored
        also_needed : list of FitGroup or TransformTask
            Beside what waits here.

        Returns
        -------
        list of Prepared or Stored
            What is not kept any more.
        """
        self.transformed[key] = transformed
        for work in self._blocked.pop(key, ()):
            if all(map(self._is_transformed, work.tasks)):
                self.add(work)
        needed = {fit.key for work in (*self.all, *also_needed) for fit in work.tasks}
        return self.transformed.let_go(needed)

    def give_up(self, key: Any) -> list[FitTask]:
        """Return the fits that need transformers that cannot be fitted; the others stay."""
        lost = []
        for work in self._blocked.pop(key, ()):
            lost += [fit for fit in work.tasks if fit.key == key]
            left = [fit for fit in work.tasks if fit.key != key]
            for waiting in self._blocked.values():
                waiting[:] = [other for other in waiting if other is not work]
            if left:
                self.add(FitGroup(left))
        return lost

    def _hurry(self, key: Any, rank: int) -> None:
        """Move transformers that wait to a smaller rank, because such work waits for them."""
        self._ranks[key] = rank
        for i, (_, *name, work) in enumerate(self._ready):
            if isinstance(work, TransformTask) and work.key == key:
                self._ready[i] = (rank, *name, work)
                heapify(self._ready)
                break

    def _is_transformed(self, task: FitTask) -> bool:
        return task.key is None or task.key in self.transformed
