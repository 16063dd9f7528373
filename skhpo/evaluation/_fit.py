"""The work on a group of fits in one worker: build, train (or continue), score.

A single fit is a group of one. Several are networks that are trained in lockstep, share parts of
the data, and are scored by one joint forward pass; nothing else differs.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_classifier

from ..limits import FitTimeoutError, current_slot, time_for
from ..rows import take_rows
from ._callbacks import evaluation
from ._continuation import advance, begin, end, holds_all_in_checkpoint, way_to_continue
from ._measures import curves_of, found, known_before, measured
from ._models import kept_model
from ._scoring import Scored, score_fits
from ._setup import GroupData, prepare
from ._tasks import (
    FAILURES,
    SAVED,
    Outcome,
    failed,
    failure,
    is_saved,
    memory_freed,
    raise_unless_candidates,
    saved,
    skipped,
)
from ._travel import Packed, loaded, pack
from ._workers import this_worker

if TYPE_CHECKING:
    from ._setup import Work
    from ._tasks import FitGroup, FitTask, Setting

__all__ = ["run_and_pack", "run_group"]


def run_group(
    names: Sequence[Any], group: FitGroup, setting: Setting, X: Any, y: Any, *values: Any
) -> list[Outcome]:
    """Fit and score the fits of a group; the time of each is its share.

    Parameters
    ----------
    names : tuple
        What the values are: a split's number, or the key of fitted wrappers.
    group : FitGroup
    setting : Setting
    X, y : array-like
        All data.
    *values : tuple of ndarray, or Prepared
        For each name the training and test rows of the split, or the wrappers.

    Returns
    -------
    list of Outcome
        One per task.
    """
    shared = dict(zip(names, values, strict=True))
    n_fits = len(group.tasks)
    data = GroupData(setting, X, y, shared, keep=n_fits > 1)
    fits = [_Fit(setting, task, alone=n_fits == 1) for task in group.tasks]
    with ExitStack() as watching:
        if n_fits > 1:  # a fit of its own has the time that its worker gives it
            watching.enter_context(time_for(n_fits))
        began, start = round(time.time(), 4), time.perf_counter()
        for fit in fits:
            training = None
            if fit.task.context is not None:
                rows = data.rows(fit.task, "train")
                training = watching.enter_context(evaluation(fit.task, setting, X, y, rows))
            fit.attempt(fit.build, data, training)
        _train([fit for fit in fits if fit.error is None])
        for fit in fits:
            fit.attempt(fit.finish)
        fitted_at = time.perf_counter()
        for fit in fits:
            fit.seconds = (fitted_at - start) / n_fits
        test_scores = score_fits(fits, data, "test")
        scored_at = time.perf_counter()
        train_scores: list[Scored | None] = [None] * n_fits
        if setting.return_train_score:
            train_scores = score_fits(fits, data, "train")
    times = (fitted_at - start) / n_fits, (scored_at - fitted_at) / n_fits
    scores = zip(fits, test_scores, train_scores, strict=True)
    run = {"start": began, "worker": this_worker()}
    return [fit.outcome(times, run, test, train) for fit, test, train in scores]


def run_and_pack(names: Sequence[Any], leaves: bool, group: FitGroup, *args: Any) -> list[Any]:
    """Run a group in a worker; return its outcomes, packed where they leave the process."""
    if not leaves:
        return run_group(names, group, *args)
    outcomes = run_group(names, group, *map(loaded, args))
    return [
        out if out.state is None or is_saved(out.state) else replace(out, state=pack(out.state))
        for out in outcomes
    ]


class _Fit:
    """One fit, from its task to its outcome."""

    def __init__(self, setting: Setting, task: FitTask, *, alone: bool) -> None:
        self.setting = setting
        self.task = task
        self.alone = alone
        self.error: str | None = None
        self.out_of_memory = False
        self.skipped: str | None = None  # name of a constraint that it breaks
        self.measures: dict[str, float] = {}
        self.seconds = 0.0
        self.model: Any = None

    def attempt(
        self,
        function: Callable[..., Any],
        *args: Any,
        blamed: tuple[type[BaseException], ...] = FAILURES,
    ) -> Any:
        """Call a function unless the fit has failed; if it raises an error the fit has failed.

        Parameters
        ----------
        function : callable
        blamed : tuple of type, default=FAILURES
            What the fit answers for. Of all else it does for what a device has no memory for.
        """
        if self.error is None:
            try:
                with nullcontext() if self.alone else time_for(1):
                    return function(*args)
            except FAILURES as error:
                if not (isinstance(error, blamed) or memory_freed(error)):
                    raise
                self.fail(error)
        return None

    def attempt_to_score(self, function: Callable[..., Any], *args: Any) -> Any:
        """Score unless the fit has failed; errors of scoring are not failures of the fit."""
        return self.attempt(function, *args, blamed=(FitTimeoutError,))

    def fail(self, error: BaseException) -> None:
        raise_unless_candidates(error, self.setting)
        self.out_of_memory = memory_freed(error)
        text = "".join(traceback.format_exception(error))
        self.error = failure(error, text, self.setting)

    def build(
        self, data: GroupData, training: Callable[..., AbstractContextManager[None]] | None
    ) -> None:
        self.work = work = prepare(
            self.setting,
            self.task,
            partial(data.to_train, self.task),
            data.shared.get(self.task.key),
        )
        if self.setting.validates_on_fold:
            inside = work.prepared
            X, y = inside.inner_data(*data.to_score(self.task, work.whole, "test"))
            valid = {"validation_data": _of_known_labels(X, y, work)}
            inside = replace(inside, fit_params={**inside.fit_params, **valid})
            self.work = work = work._replace(prepared=inside)
        if self.setting.bounds and len(self.task.levels) == 1:
            self.measures, self.skipped = known_before(self.setting.bounds, work)
            if self.skipped is not None:
                self.error = f"it was not made, because it breaks the constraint {self.skipped!r}"
                return
        self.way = way_to_continue(work.fresh, work.resource, work.prepared.y)
        self.steps: list[tuple[Any, Any]] = list(
            zip((0, *work.levels[:-1]), work.levels, strict=True)
        )
        self.state = self._state_to_continue()
        if self.way == "retrain":
            self.steps = [(0, work.levels[-1])]
        elif self.state is not None:
            self.steps = self.steps[-1:]
        self.training: AbstractContextManager[None] = nullcontext()
        if training is not None:
            net = work.fresh if self.state is None else self.state
            self.training = training(net, len(work.prepared.names))

    def _state_to_continue(self) -> Any:
        """Return the candidate as fitted up to the level before the last; None if that is lost."""
        if self.way == "retrain":
            return None
        state = self.task.state
        if isinstance(state, Packed):
            state = state.unpacked(self.work.fresh)
        loaded = None if self.task.load is None else self.task.load.load(self.work.fresh)
        return state if loaded is None else loaded

    def advance(self) -> None:
        """Train up to the last level, from the state or from the first level on."""
        work = self.work
        for done, target in self.steps:
            self.net, self.state = advance(
                work.fresh,
                self.state,
                work.resource,
                work.prepared.X,
                work.prepared.y,
                work.prepared.fit_params,
                done=done,
                target=target,
            )

    def member(self, step: int) -> Any:
        """Return the member that is trained in lockstep at one of the levels."""
        from ..lockstep import Member

        work = self.work
        self.net, continuing = begin(
            self.way, work.fresh, self.state, work.resource, *self.steps[step]
        )
        inside = work.prepared
        return Member(self.net, inside.X, inside.y, dict(inside.fit_params), continuing)

    def trained(self, step: int) -> None:
        self.state = end(self.way, self.net, self.work.resource, self.steps[step][1])

    def finish(self) -> None:
        self.fitted = self.work.prepared.assembled(self.work.whole, self.net)
        file = self.task.save
        # On a machine that does not share the driver's disk the folder is missing: states travel.
        if file is not None and holds_all_in_checkpoint(self.state) and file.has_folder:
            saved(self.state, file)
            self.state = SAVED
        if self.task.keep is not None:
            written = file if is_saved(self.state) else None
            self.model = kept_model(self.task.keep, self.fitted, self.net, written)
        if self.alone and self.task.key is None:
            self.work = self.work.without_rows()  # which nobody shares

    @property
    def seconds_of_all_levels(self) -> float:
        """What the fit took, that of earlier levels included: they are taken to be as slow."""
        start, end = self.steps[0][0], self.steps[-1][1]
        return self.seconds if end is None else self.seconds * end / (end - start)

    def outcome(
        self,
        times: tuple[float, float],
        run: Mapping[str, Any],
        test: Scored | None,
        train: Scored | None,
    ) -> Outcome:
        """Return what goes back: shares of time, when and where, and `score_fits` of both parts."""
        if self.skipped is not None:
            return skipped(self.task, self.skipped, self.measures, run)
        if self.error is not None:
            return failed(self.task, self.error, times[0], run, out_of_memory=self.out_of_memory)
        assert test is not None
        setting = self.setting
        result = self.task.result(
            test_scores=test.scores,
            train_scores=None if train is None else train.scores,
            fit_time=times[0],
            score_time=times[1],
            **run,
            device=current_slot(),
            score_error=test.error or (train and train.error),
            curves=curves_of(self.fitted) if setting.curves else None,
            found=found(setting, self.fitted),
            predictions=test.predictions,
            unpredicted=test.unpredicted,
            measures=measured(setting.measures, self.fitted, test.scores),
        )
        return Outcome(result, self.state, model=self.model)


def _of_known_labels(X: Any, y: Any, work: Work) -> tuple[Any, Any]:
    """Leave out rows with labels that the training part lacks: networks have no output for them."""
    if is_classifier(work.fresh) and np.ndim(y) == 1:
        known = np.isin(np.asarray(y), np.asarray(work.prepared.y))
        if known.any() and not known.all():
            rows = np.flatnonzero(known)
            return take_rows(X, rows), take_rows(y, rows)
    return X, y


def _train(fits: Sequence[_Fit]) -> None:
    """Train all fits up to their last level; those without a state begin at the first level."""
    with ExitStack() as watching:
        for fit in fits:
            watching.enter_context(fit.training)
        for fit in fits:
            if fit.alone:
                fit.attempt(fit.advance)
        _train_in_lockstep([fit for fit in fits if not fit.alone])


def _train_in_lockstep(fits: Sequence[_Fit]) -> None:
    if not fits:
        return
    from ..lockstep import register_layer, train_together

    for layer_type, rule in fits[0].setting.layer_rules.items():
        register_layer(layer_type, rule)

    for step in range(-max(len(fit.steps) for fit in fits), 0):
        going = [fit for fit in fits if fit.error is None and len(fit.steps) >= -step]
        try:
            errors = train_together([fit.member(step) for fit in going])
        except FAILURES as error:
            errors = [error] * len(going)
        for fit, raised in zip(going, errors, strict=True):
            if raised is None:
                fit.trained(step)
            else:
                fit.fail(raised)
