"""Turns trials into fit results: plans the fits, continues what can be continued."""

from __future__ import annotations

import math
import traceback
from collections import OrderedDict, deque
from dataclasses import replace
from functools import partial
from heapq import heappop, heappush
from itertools import chain, product
from pathlib import Path

from joblib.externals.loky.backend.reduction import dumps

from ._fit import SAVED, FitTask, TransformTask, failed, run_fit, run_transform
from ._pipeline import final_step, transformer_setting
from ._pool import Pool
from ._subsample import nested_subsamples

__all__ = ["Evaluator"]

# Fitted transformers that no candidate at hand needs; later candidates may.
_SPARE_TRANSFORMED = 64

# Seconds of work that hide what it costs to hand it to a worker.
_LONG_ENOUGH = 0.1


class Evaluator:
    """Fits and scores trials on every split, on the active joblib backend.

    Used as a context manager, which owns the workers. Trials are handed in with `submit`; `next`
    gives results as they come.

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
    checkpoints : Path or None, default=None
        Folder for checkpoint files. None keeps what fits continue from in memory.
    slots : callable or None, default=None
        From the number of jobs to the devices of the fits that run at a time.
    fit_timeout : float or None, default=None
        Seconds per fit, for estimators that look at it.

    Attributes
    ----------
    pending : int
        Fits that were submitted and have not come back.

    Notes
    -----
    *What a fit is continued from* is a checkpoint file for estimators that write them (where
    `checkpoints` is given), else the estimator itself, kept in memory until `keep` drops it. If it
    is missing the earlier levels are trained again, with the same results wherever the estimator
    continues exactly.

    *A worker that dies* (out of memory, killed) takes all fits in flight with it. They are tried
    once more, one at a time, so that the innocent ones never pay for the guilty one; what dies
    alone has failed. The same goes for a device that has no memory left.
    """

    def __init__(
        self,
        setting,
        X,
        y,
        splits,
        *,
        n_jobs=None,
        n_repeats=1,
        known=None,
        checkpoints=None,
        slots=None,
        fit_timeout=None,
    ):
        self.setting = setting
        self.X = X
        self.y = y
        self.splits = splits
        self.n_repeats = n_repeats
        self.known = known or {}
        # Workers have other working directories.
        self.checkpoints = None if checkpoints is None else Path(checkpoints).absolute()
        self.fit_timeout = fit_timeout
        self.pending = 0
        self._pool = Pool(n_jobs, slots)
        self._answered = deque()
        self._ready = []  # a heap, by trial, split and repeat
        self._suspects = deque()
        self._retried = set()
        self._blocked = {}
        self._states = {}
        self._levels = {}
        self._seconds = None
        self._transformed = OrderedDict()
        self._final = final_step(setting.estimator, setting.resource)
        self._rows = splits
        if setting.resource == "n_samples":
            self._rows = [
                (nested_subsamples(y, train, setting.seed, split), test)
                for split, (train, test) in enumerate(splits)
            ]

    def __enter__(self):
        self._pool.__enter__()
        if self._pool.in_processes_:
            check_picklable(self.setting)
        return self

    def __exit__(self, *exception):
        self._pool.__exit__(*exception)

    @property
    def has_room(self):
        """Whether a further fit would start at once, or with the fits of the same transformers."""
        if self._answered or self._suspects or self._pool.free <= len(self._ready):
            return False
        return sum(map(len, self._blocked.values())) < self._pool.n_jobs_

    def submit(self, trials):
        """Plan the fits of trials; what is known already is answered without a fit.

        Parameters
        ----------
        trials : list of Trial
        """
        for trial in trials:
            self.recall(trial)
            for key in self.fits(trial):
                self.pending += 1
                if key in self.known:
                    self._answered.append(self.known[key])
                else:
                    self._enqueue(self._task(trial, *key[1:]), trial)

    def recall(self, trial):
        """Note a trial that later ones may continue, without evaluating it.

        Parameters
        ----------
        trial : Trial
        """
        self._levels[trial.number] = (*self._levels.get(trial.parent, ()), trial.resource)
        if self.checkpoints is not None:
            saved = [key for key in self.fits(trial) if key in self.known]
            self._states.update({key: SAVED for key in saved if self._checkpoint(*key).exists()})

    def next(self):
        """Wait for results.

        Returns
        -------
        list of FitResult
            Empty if nothing is pending.
        """
        while self.pending:
            if self._answered:
                answered = list(self._answered)
                self._answered.clear()
                self.pending -= len(answered)
                return answered
            self._start_what_can_start()
            done = self._pool.wait()
            if isinstance(done.items[0], TransformTask):
                self._take_transformed(done)
            else:
                self._take_fits(done)
        return []

    def cancel(self):
        """Forget all fits that have not started."""
        waiting = [
            *(task for *_, task in self._ready),
            *self._suspects,
            *chain.from_iterable(self._blocked.values()),
        ]
        self.pending -= sum(isinstance(task, FitTask) for task in waiting)
        for tasks in (self._ready, self._suspects, self._blocked):
            tasks.clear()

    def abort(self):
        """Stop the workers without waiting for them."""
        self._pool.abort()

    def keep(self, *trials):
        """Drop everything that only trials other than these could be continued from.

        Parameters
        ----------
        *trials : collection of int
            Numbers of trials.
        """
        for key in [key for key in self._states if not any(key[0] in some for some in trials)]:
            if _is_saved(self._states.pop(key)):
                self._checkpoint(*key).unlink(missing_ok=True)

    def fits(self, trial):
        """Return the names of a trial's fits: (trial, split, repeat) each."""
        return list(product([trial.number], range(len(self.splits)), range(self.n_repeats)))

    def _checkpoint(self, trial, split, repeat):
        return self.checkpoints / f"{trial}-{split}-{repeat}.pt"

    def _task(self, trial, split, repeat):
        key = None
        n_train = trial.resource if self.setting.resource == "n_samples" else None
        if self._final is not None:
            key = split, n_train, transformer_setting(trial.params, self._final)
        parent = (trial.parent, split, repeat)
        state, load, save = None, None, None
        if self.checkpoints is not None:
            save = str(self._checkpoint(trial.number, split, repeat))
            load = None if trial.parent is None else str(self._checkpoint(*parent))
        if not _is_saved(self._states.get(parent)):
            state = self._states.pop(parent, None)
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
            key=key,
        )

    def _enqueue(self, task, trial):
        """Queue a fit, behind its transformers if they are not fitted yet."""
        if task.key is None or task.key in self._transformed:
            heappush(self._ready, (*_name(task), task))
        elif task.key in self._blocked:
            self._blocked[task.key].append(task)
        else:
            self._blocked[task.key] = [task]
            transform = TransformTask(task.key, trial.params, task.split, task.n_train)
            heappush(self._ready, (trial.number, task.split, -1, transform))

    def _start_what_can_start(self):
        if self._suspects:
            if not self._pool.running:
                self._submit([self._suspects.popleft()])
            return
        while self._ready and self._pool.free:
            self._submit(self._bundle())

    def _bundle(self):
        """Take what one worker gets at once: several fits, if fits are short."""
        first = heappop(self._ready)[-1]
        alone = self._pool.n_jobs_ == 1
        if alone or isinstance(first, TransformTask) or self._seconds is None:
            return [first]
        size = math.ceil(_LONG_ENOUGH / max(self._seconds, 1e-6))
        size = min(size, math.ceil((len(self._ready) + 1) / (2 * self._pool.n_jobs_)))
        bundle = [first]
        while len(bundle) < size and self._ready and isinstance(self._ready[0][-1], FitTask):
            bundle.append(heappop(self._ready)[-1])
        return bundle

    def _submit(self, tasks):
        shared = [self.setting, self.X, self.y]
        if isinstance(tasks[0], TransformTask):
            self._pool.submit(run_transform, tasks, (*shared, self._rows[tasks[0].split]))
            return
        splits = sorted({task.split for task in tasks})
        keys = list({task.key: None for task in tasks if task.key is not None})
        for key in keys:
            self._transformed.move_to_end(key)
        shared += [self._rows[split] for split in splits]
        shared += [self._transformed[key] for key in keys]
        function = partial(run_fit, (*splits, *keys))
        self._pool.submit(function, tasks, tuple(shared), seconds=self.fit_timeout)

    def _take_transformed(self, done):
        (task,) = done.items
        if done.lost:
            self._retry(done)
            return
        transformed = _explain(done.error) if done.results is None else done.results[0]
        waiting = self._blocked.pop(task.key, ())
        if isinstance(transformed, str):
            self._answered.extend(failed(blocked, transformed).result for blocked in waiting)
            return
        self._transformed[task.key] = transformed
        for blocked in waiting:
            heappush(self._ready, (*_name(blocked), blocked))
        needed = {task.key for task in (*self._suspects, *(task for *_, task in self._ready))}
        for key in list(self._transformed)[: max(0, len(self._transformed) - _SPARE_TRANSFORMED)]:
            if key not in needed:
                self._pool.forget(self._transformed.pop(key))

    def _take_fits(self, done):
        if done.lost:
            self._retry(done)
            return
        if done.results is None:
            outcomes = [failed(task, _explain(done.error)) for task in done.items]
        else:
            outcomes = done.results
        for task, outcome in zip(done.items, outcomes, strict=True):
            if outcome.out_of_memory and _name(task) not in self._retried:
                self._suspect(replace(task, state=None))  # it may have been changed half way
                continue
            if outcome.state is not None:
                self._states[task.trial, task.split, task.repeat] = outcome.state
            self._answered.append(outcome.result)
        seconds = [o.result.fit_time + o.result.score_time for o in outcomes]
        mean = sum(seconds) / len(seconds)
        self._seconds = mean if self._seconds is None else 0.8 * self._seconds + 0.2 * mean

    def _retry(self, done):
        """Collect all that a dying worker took with it, and start over with new workers."""
        lost = [done]
        while self._pool.running:
            other = self._pool.wait()
            if other.lost:
                lost.append(other)
            elif isinstance(other.items[0], TransformTask):
                self._take_transformed(other)
            else:
                self._take_fits(other)
        self._pool.restart()
        for task in (task for done in lost for task in done.items):
            if _name(task) not in self._retried:
                self._suspect(task)
            elif isinstance(task, TransformTask):
                waiting = self._blocked.pop(task.key, ())
                self._answered.extend(failed(fit, _explain(done.error)).result for fit in waiting)
            else:
                self._answered.append(failed(task, _explain(done.error)).result)

    def _suspect(self, task):
        self._retried.add(_name(task))
        self._suspects.append(task)


def check_picklable(setting):
    """Raise TypeError, naming the culprit, if what all fits share cannot go to other processes."""
    named = {"estimator": setting.estimator, "scoring": setting.scorer}
    params = setting.estimator.get_params(deep=True) if _pickle_error(setting.estimator) else {}
    # The innermost parameter that cannot be pickled says most.
    for name in sorted(params, key=lambda name: -name.count("__")):
        named = {name: params[name], **named} if _pickle_error(params[name]) else named
    for name, value in named.items():
        error = _pickle_error(value)
        if error is not None:
            raise TypeError(
                f"with worker processes everything must be picklable, but {name}={value!r} is "
                f"not ({error}); define it at the top level of a module, or use threads: "
                "joblib.parallel_config('threading')"
            ) from error


def _pickle_error(value):
    try:
        dumps(value)
    except Exception as error:
        return error
    return None


def _is_saved(state):
    return isinstance(state, str) and state == SAVED


def _name(task):
    if isinstance(task, TransformTask):
        return task.key
    return task.trial, task.split, task.repeat


def _explain(error):
    return "".join(traceback.format_exception(error))
