"""Turns trials into fit results, on the active joblib backend."""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..journal import Checkpoints, ModelFiles
from ..rows import n_bytes
from ..trial import FitResult, Trial
from ..wrappers import whats_lost
from ._callbacks import FitContexts
from ._fit import run_and_pack
from ._grouping import FitGrouping
from ._planning import FoldSchedule, Planner, Waiting
from ._pool import RUNNING, Done, Overdue, Pool
from ._setup import key_of_wrappers, transform_and_store
from ._tasks import FitGroup, FitTask, Job, Outcome, Setting, TransformTask, failed, failure
from ._travel import (
    Stored,
    check_picklable,
    is_pickled_as_a_whole,
    on_disk,
)

__all__ = ["Evaluator"]

_log = logging.getLogger(__name__)

# Seconds of work that hide what it costs to hand it to a worker.
_LONG_ENOUGH = 0.1

# Bytes of data of which transformers are fitted one after the other, rather than beside each other.
_LARGE = 2**26

# Workers that keep the driver so busy that they get what waits before it hears what came back, and
# that a sampler which learns is asked before one of them is free. What that has not heard then is
# one score of as many that it does not know anyway.
_MANY_WORKERS = 16


class Evaluator(Planner):
    """Fits and scores trials on every split, on the active joblib backend.

    Used as a context manager, which owns the workers. Trials are passed to `submit`; `next`
    returns results when they are there.

    Parameters
    ----------
    setting : Setting
        What all fits share.
    X, y : array-like
        All data.
    splits : list of (ndarray, ndarray)
        Rows of the training and test part of each split.
    n_jobs : int or None, default=None
    n_repeats : int, default=1
        Fits per trial and split, under different seeds.
    known : mapping or None, default=None
        Results that are there already, by (trial, split, repeat).
    checkpoints : Checkpoints or None, default=None
        Where there are checkpoint files. None keeps what fits continue from in memory.
    model_files : ModelFiles or None, default=None
        Where fitted networks are kept; other estimators come back, and None keeps none.
    slots : callable or None, default=None
        From the number of jobs to the devices of the fits that run at a time.
    fit_timeout : float or None, default=None
        Seconds per fit, its scores included, and for transformers that are fitted apart.
    until : float or None, default=None
        When fits that are not done are given up, as ``time.monotonic()``.
    lockstep : {"auto", True, False}, default=False
        Whether fits are trained as one where they can: "auto" where it pays, True always.
    across : bool, default=True
        Whether a group may have fits of several trials, which must be submitted together.
    contexts : FitContexts or None, default=None
        What callbacks of scikit-learn are told of the fits, where there are some.
    folds : FoldSchedule or None, default=None
        On how many splits trials are fitted. None is on all.

    Attributes
    ----------
    pending : int
        Fits that were submitted and have not come back.

    Notes
    -----
    *What a fit is continued from* is a checkpoint file for estimators that write them (where
    `checkpoints` is given), else the estimator itself, kept in memory until `keep` drops it.
    If it is missing the earlier levels are trained again, with the same results wherever the
    estimator continues exactly.

    *A worker that dies* (out of memory, killed) takes all fits in flight with it. They are tried
    once more, one at a time, so that the innocent ones never pay for the guilty one; what dies
    alone has failed. The same goes for a device that has no memory left. On a cluster where each
    call has a process of its own all others go on, also beside the second try.
    """

    def __init__(
        self,
        setting: Setting,
        X: Any,
        y: Any,
        splits: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
        *,
        n_jobs: int | None = None,
        n_repeats: int = 1,
        known: Mapping[tuple[int, int, int], FitResult] | None = None,
        checkpoints: Checkpoints | None = None,
        model_files: ModelFiles | None = None,
        slots: Callable[[int, bool], Sequence[str | None]] | None = None,
        fit_timeout: float | None = None,
        until: float | None = None,
        lockstep: bool | str = False,
        across: bool = True,
        contexts: FitContexts | None = None,
        folds: FoldSchedule | None = None,
    ) -> None:
        known = {} if known is None else known  # which may be empty now, and grow
        kept = checkpoints, model_files
        super().__init__(setting, y, splits, n_repeats, known, *kept, contexts, folds)
        self.X = self._shared_X = X
        self.limits: dict[str, float | None] = {"seconds": fit_timeout, "until": until}
        self.pending = 0
        self._pool = Pool(n_jobs, slots)
        self._answered: deque[FitResult] = deque()
        # Further rows are transformed again.
        by_rows = setting.resource == "n_samples"
        self._waiting = Waiting(None if by_rows else setting.max_resource)
        self._running: dict[int, list[Job]] = {}
        self._suspects: deque[Job] = deque()
        self._died_alone: deque[Job] = deque()  # where others run beside the second try
        self._retried: set[tuple[Any, ...]] = set()
        self._withdrawn: set[tuple[int, int, int]] = set()  # running, their results unused
        self._unused_seconds = 0.0
        self._seconds: float | None = None
        self._is_large = n_bytes(X) >= _LARGE
        if _log.isEnabledFor(logging.INFO):
            lost = whats_lost(setting.estimator, setting.resource)
            if lost is not None:
                _log.info(lost)
        self._grouping = None
        if lockstep is not False:
            self._grouping = FitGrouping(
                setting, X, y, lockstep, across=across, contexts=contexts, limits=self.limits
            )

    def __enter__(self) -> Evaluator:
        with ExitStack() as on_error:
            on_error.enter_context(self._pool)
            if self._pool.in_processes_:
                check_picklable(self.setting)
                if is_pickled_as_a_whole(self.X) and (folder := self._pool.parts) is not None:
                    self._shared_X = on_disk(self.X, folder)
            on_error.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._pool.__exit__(*exception)
        self.sweep()

    @property
    def has_room(self) -> bool:
        """Whether a further fit would start at once, or with the fits of the same transformers."""
        again = self._suspects or self._died_alone
        if self._answered or again or self._pool.free <= len(self._waiting):
            return False
        return self._waiting.n_blocked < self._pool.n_jobs_

    @property
    def has_room_ahead(self) -> bool:
        """Whether one more fit would be ready for the worker that is free next, of many."""
        again = self._suspects or self._died_alone
        return self._pool.n_jobs_ >= _MANY_WORKERS and not (again or len(self._waiting))

    def submit(self, trials: Sequence[Trial]) -> None:
        """Plan the fits of trials; what is known already is answered without a fit.

        Fits of earlier candidates start first.

        Parameters
        ----------
        trials : list of Trial
            That start together: a group trained in lockstep has fits of these only.
        """
        known, tasks = self.plan(trials, leaves=self._pool.in_processes_)
        self._answered.extend(known)
        self.pending += len(known) + len(tasks)
        for group in self._divide(tasks):
            self._waiting.add(group)

    def _divide(self, tasks: Sequence[FitTask]) -> list[FitGroup]:
        """Return the groups of fits that start together: in lockstep, or each alone."""
        if self._grouping is None:
            return [FitGroup([task]) for task in tasks]
        return self._grouping.divide(tasks, self._pool.devices_)

    def next(self) -> list[FitResult]:
        """Wait for results.

        Returns
        -------
        list of FitResult
            Empty if nothing is pending, or the time is over and nothing more comes.
        """
        while self.pending:
            if self._answered:
                answered = list(self._answered)
                self._answered.clear()
                self.pending -= len(answered)
                if wanted := [result for result in answered if self._is_wanted(result)]:
                    return wanted
                continue
            if self.time_is_over:
                self.cancel()
            else:
                self._start_what_can_start()
            if self._running:
                self._take(self._wait())
                if self._pool.n_jobs_ >= _MANY_WORKERS and not self.time_is_over:
                    self._start_what_can_start()  # before results are processed
        return []

    @property
    def time_is_over(self) -> bool:
        """Whether it is too late for a fit to start."""
        until = self.limits["until"]
        return until is not None and time.monotonic() > until

    def withdraw(self, names: Collection[tuple[int, int, int]]) -> None:
        """Drop pending fits of a trial; those that run go on, and their results are ignored."""
        self.pending -= self._waiting.withdraw(names)
        self._withdrawn.update(names)

    def _is_wanted(self, result: FitResult) -> bool:
        if result.name in self._withdrawn:
            self._withdrawn.remove(result.name)
            self._unused_seconds += result.fit_time + result.score_time
            return False
        return True

    def take_unused_seconds(self) -> float:
        """Return what fits took, since the last call, that were withdrawn while they ran."""
        seconds, self._unused_seconds = self._unused_seconds, 0.0
        return seconds

    def trains_splits_together(self, trial: Trial) -> bool:
        """Whether the splits of a trial are trained in lockstep, so that all end together."""
        if self._grouping is None:
            return False
        transforms = key_of_wrappers(self.setting, trial.params) is not None
        return self._grouping.takes_several(trial, self._pool.devices_[0], transforms=transforms)

    def cancel(self) -> None:
        """Forget all fits that have not started."""
        waiting = [*self._waiting.all, *self._suspects, *self._died_alone]
        self.pending -= len({fit.name for work in waiting for fit in work.tasks})
        self._waiting.clear()
        self._suspects.clear()
        self._died_alone.clear()

    def abort(self) -> None:
        """Stop the workers without waiting for them."""
        self._pool.abort()

    def _start_what_can_start(self) -> None:
        if self._suspects:
            if not self._pool.running:
                self._submit([self._suspects.popleft()])
            return
        while self._died_alone and self._pool.free:
            self._submit([self._died_alone.popleft()])
        later: list[Job] = []
        while self._waiting and self._pool.free > len(later):
            works = self._bundle()
            if isinstance(works[0], TransformTask) and self._is_beside_another():
                later.append(works[0])
            else:
                self._submit(works)
        for work in later:
            if len(self._waiting.transformed):
                self._submit([work])
            else:
                self._waiting.put_back(work)

    def _is_beside_another(self) -> bool:
        """Whether transformers would be fitted to large data at the same time as others.

        That takes several times the memory of their training part. The first are fitted with
        nothing beside them, so that there is work for the others, and further ones where there is
        no fit to start instead.
        """
        running = (works[0] for works in self._running.values())
        return self._is_large and any(isinstance(work, TransformTask) for work in running)

    def _bundle(self) -> list[Job]:
        """Take what one worker gets at once: several fits of one rank, if fits are short."""
        first = self._waiting.take()
        alone = self._pool.n_jobs_ == 1
        if alone or isinstance(first, TransformTask) or self._seconds is None:
            return [first]
        size = math.ceil(_LONG_ENOUGH / max(self._seconds, 1e-6))
        left = self._waiting.n_fits + len(first.tasks)
        size = min(size, math.ceil(left / (2 * self._pool.n_jobs_)))
        rank = first.tasks[0].rank
        bundle, n_fits = [first], len(first.tasks)
        while n_fits < size and (work := self._waiting.take_fits(rank)) is not None:
            bundle.append(work)
            n_fits += len(work.tasks)
        return bundle

    def _submit(self, works: list[Job]) -> None:
        self._running[id(works)] = works
        shared = [self.setting, self._shared_X, self.y]
        if isinstance(works[0], TransformTask):
            shared.append(self.rows[works[0].split])
            function = partial(transform_and_store, self._pool.parts)
            self._pool.submit(function, works, tuple(shared), **self.limits)
            return
        tasks = [task for work in works for task in work.tasks]
        splits = sorted({task.split for task in tasks})
        keys = list({task.key: None for task in tasks if task.key is not None})
        shared += [self.rows[split] for split in splits]
        shared += [self._waiting.transformed[key] for key in keys]
        function = partial(run_and_pack, (*splits, *keys), self._pool.in_processes_)
        self._pool.submit(function, works, tuple(shared), **self.limits)

    def _wait(self, seconds: float | None = None) -> Done | None:
        """Return a call that has ended.

        None where none has after so many seconds, or none will, and nothing is pending any more.
        """
        done = self._pool.wait(seconds)
        if done is RUNNING:
            return None
        if done is None:
            self.abort()
            self._running.clear()
            self.pending = len(self._answered)
        else:
            del self._running[id(done.items)]
        return done

    def _take(self, done: Done | None) -> None:
        if done is None:
            return
        if done.lost:
            self._retry(done)
        elif done.overdue is not None:
            self._settle([done])
        elif isinstance(done.items[0], TransformTask):
            self._take_transformed(done)
        else:
            self._take_fits(done)

    def _take_transformed(self, done: Done) -> None:
        (task,) = done.items
        transformed = _explain(done.error) if done.results is None else done.results[0]
        if isinstance(transformed, Overdue):
            transformed = self._error_of(transformed)
        if transformed is None:
            self._forget(task)
            return
        if isinstance(transformed, str):
            self._give_up(task.key, transformed)
            return
        running = [work for works in self._running.values() for work in works]
        # Those that run may have to be tried again.
        needed = [*running, *self._suspects, *self._died_alone]
        for old in self._waiting.take_transformed(task.key, transformed, needed):
            self._pool.forget(old)
            if isinstance(old, Stored):
                old.remove()

    def _take_fits(self, done: Done) -> None:
        if done.results is None:
            error = _explain(done.error)
            outcomes = [[failed(task, error) for task in work.tasks] for work in done.items]
        else:
            pairs = zip(done.items, done.results, strict=True)
            outcomes = [self._outcomes(work, result) for work, result in pairs]
        self._update_mean_time([outcome.result for out in outcomes for outcome in out])
        for work, out in zip(done.items, outcomes, strict=True):
            if not out:
                self.pending -= len(work.tasks)  # given up
                continue
            again = []
            for task, outcome in zip(work.tasks, out, strict=True):
                alone = len(out) == 1 and task.name in self._retried
                if outcome.out_of_memory and not alone:
                    # Its state may have been changed before it failed.
                    again.append(task if self._pool.in_processes_ else replace(task, state=None))
                    continue
                if task.name not in self._withdrawn:
                    self.note(task, outcome)
                self._answered.append(outcome.result)
            if again:
                self._suspect(FitGroup(again), died=False)

    def _outcomes(self, work: Job, result: Any) -> list[Outcome]:
        """Return the outcomes of a fit or a group; an empty list if it is given up."""
        if not isinstance(result, Overdue):
            outcomes: list[Outcome] = result
            return outcomes
        error = self._error_of(result)
        if error is None:
            return []
        share = result.seconds / len(work.tasks)
        return [failed(task, error, share, result.run) for task in work.tasks]

    def _error_of(self, overdue: Overdue) -> str | None:
        return None if overdue.error is None else self._timed_out(overdue.error)

    def _timed_out(self, error: str) -> str:
        if self.setting.raise_errors:
            raise TimeoutError(error)
        return failure(TimeoutError(error), error, self.setting)

    def _update_mean_time(self, results: Sequence[FitResult]) -> None:
        if not results:
            return
        mean = sum(result.fit_time + result.score_time for result in results) / len(results)
        self._seconds = mean if self._seconds is None else 0.8 * self._seconds + 0.2 * mean

    def _give_up(self, key: tuple[Any, ...], error: str) -> None:
        lost = self._waiting.give_up(key)
        self._answered.extend(failed(task, error).result for task in lost)

    def _retry(self, done: Done) -> None:
        """Collect all work that was lost with a worker, and start again with new workers."""
        lost = [done]
        while self._pool.running and not self._pool.isolated_:
            other = self._wait()
            if other is None:
                return
            if other.lost:
                lost.append(other)
            else:
                self._take(other)
        self._pool.restart()
        self._settle(lost)

    def _settle(self, ended: Sequence[Done]) -> None:
        """Fail the items of calls that ended without results, or put them back.

        Where an item was over its time all the others are innocent, else all are suspect.
        """
        blamed = any(done.overdue is not None for done in ended)
        items = [(done, number) for done in ended for number in range(len(done.items))]
        for done, number in items:
            work, error = done.items[number], _explain(done.error)
            if self.time_is_over:
                self._forget(work)
            elif len(work.tasks) > 1:
                self._suspect(work)
            elif blamed and done.overdue != number:
                self._waiting.put_back(work)
            elif not blamed and work.name not in self._retried:
                self._suspect(work)
            else:
                self._fail(work, error)

    def _forget(self, work: Job) -> None:
        is_group = isinstance(work, FitGroup)
        lost = work.tasks if is_group else self._waiting.give_up(work.name)
        self.pending -= len(lost)

    def _fail(self, work: Job, error: str) -> None:
        error = self._timed_out(error)
        if isinstance(work, TransformTask):
            self._give_up(work.key, error)
        else:
            self._answered.append(failed(work.tasks[0], error).result)

    def _suspect(self, work: Job, *, died: bool = True) -> None:
        """Try work again with nothing else running, the fits of a group in two halves."""
        halves = [work]
        if len(work.tasks) > 1:
            middle = (len(work.tasks) + 1) // 2
            halves = [FitGroup(work.tasks[:middle]), FitGroup(work.tasks[middle:])]
        for half in halves:
            if len(half.tasks) < 2:
                self._retried.add(half.name)
            (self._died_alone if died and self._pool.isolated_ else self._suspects).append(half)


def _explain(error: BaseException | None) -> str:
    return "".join(traceback.format_exception(error))
