"""What one worker does with a group of fits: build networks, train them in lockstep, score them."""

from __future__ import annotations

import time
import traceback
from contextlib import ExitStack, nullcontext, suppress
from types import SimpleNamespace

import numpy as np

from .._compat import num_samples
from ..limits import FitTimeoutError, current_slot, time_for
from ..trial import FitResult
from ._blame import FAILURES, raise_unless_candidates, saved
from ._callbacks import evaluation
from ._continuation import way_to_continue
from ._curves import curves_of
from ._devices import memory_freed
from ._fit import can_save, part_of, prepare, reads_rows, steps_of, train_part
from ._scoring import answering, looks_at_outputs_only, looks_at_predictions_only, score
from ._tasks import SAVED, Outcome, failed

__all__ = ["run_group"]

# Numbers that networks of a group return for the rows to be scored, all of them at once.
_MOST_OUTPUTS = 2**25


def run_group(names, group, setting, X, y, *values):
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
    from ..lockstep import register_layer

    for layer_type, rule in setting.layer_rules.items():
        register_layer(layer_type, rule)
    data = _Data(setting, X, y, dict(zip(names, values, strict=True)))
    fits = [_Fit(setting, task) for task in group.tasks]
    with time_for(len(fits)), ExitStack() as watching:
        start = time.perf_counter()
        for fit in fits:
            rows = data.rows(fit.task, "train")
            training = watching.enter_context(evaluation(fit.task, setting, X, y, rows))
            fit.attempt(fit.build, data, training)
        _train(fits)
        for fit in fits:
            fit.attempt(fit.finish)
        fitted_at = time.perf_counter()
        test_scores = _scores(fits, data, "test")
        scored_at = time.perf_counter()
        train_scores = _scores(fits, data, "train") if setting.return_train_score else None
    fit_time, score_time = (fitted_at - start) / len(fits), (scored_at - fitted_at) / len(fits)
    return [
        fit.outcome(
            fit_time,
            score_time,
            test_scores[i],
            None if train_scores is None else train_scores[i],
        )
        for i, fit in enumerate(fits)
    ]


class _Data:
    """Parts of the data for the fits of a group. Each is made once: many of them share it."""

    def __init__(self, setting, X, y, shared):
        self.setting = setting
        self.X = X
        self.y = y
        self.shared = shared
        self.lazily = looks_at_predictions_only(setting.scorer)
        self._made = {}

    def rows(self, task, part):
        train, test = self.shared[task.split]
        return test if part == "test" else train[: task.n_train]

    def prepared(self, task):
        return self.shared.get(task.key)

    def to_train(self, task, estimator):
        return self._once(
            (task.split, task.n_train, reads_rows(estimator)),
            lambda: train_part(self.setting, estimator, self.X, self.y, self.rows(task, "train")),
        )

    def to_score(self, task, estimator, part):
        """Return the rows as given by the user."""
        rows, others = self.rows(task, part), ()
        if part == "test":
            others = (self.rows(task, "train"),)
        return self._once(
            (part, task.split, task.n_train, reads_rows(estimator)),
            lambda: part_of(estimator, self.X, self.y, rows, *others, lazily=self.lazily),
        )

    def to_score_inside(self, task, whole, prepared, part):
        """Return the rows as the estimator inside gets them, and targets as given."""
        X, y = self.to_score(task, whole, part)
        if task.key is not None:
            key = part, task.split, task.n_train, task.key
            X = self._once(key, lambda: prepared.inner_data(X)[0])
        return X, y

    def _once(self, key, make):
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


class _Fit:
    """One fit of a group, from its task to its outcome."""

    def __init__(self, setting, task):
        self.setting = setting
        self.task = task
        self.error = None
        self.out_of_memory = False
        self.state = None

    def attempt(self, function, *args):
        """Call a function unless the fit has failed; what it raises fails the fit."""
        if self.error is None:
            try:
                with time_for(1):
                    return function(*args)
            except FAILURES as error:
                self.fail(error)
        return None

    def attempt_to_score(self, data, part, shown):
        """Score unless the fit has failed; no fit is to blame for what is raised then."""
        if self.error is None:
            try:
                with time_for(1):
                    return _score(self, data, part, shown)
            except FitTimeoutError as error:
                self.fail(error)
            except Exception as error:
                if not memory_freed(error):
                    raise
                self.fail(error)
        return None

    def fail(self, error):
        raise_unless_candidates(error, self.setting)
        self.out_of_memory = memory_freed(error)
        self.error = "".join(traceback.format_exception(error))

    def build(self, data, training):
        self.work = work = prepare(
            self.setting,
            self.task,
            lambda estimator: data.to_train(self.task, estimator),
            data.prepared(self.task),
        )
        state, self.steps = steps_of(work, self.task)
        self.continues = (
            work.resource is not None
            and way_to_continue(work.fresh, work.resource, work.y) == "partial_fit"
        )
        self.started = state is not None
        self.net = work.fresh if state is None else state
        self.training = training(self.net, work.depth)

    def member(self, step):
        """Return what is trained in lockstep in one of the steps."""
        from ..lockstep import Member

        done, target = self.steps[step]
        continuing = self.continues and self.started
        if self.work.resource is not None:
            level = target - done if continuing else target
            self.net.set_params(**{self.work.resource: level})
        work = self.work
        return Member(self.net, work.X, work.y, dict(work.fit_params), continuing)

    def trained(self, step):
        self.started = True
        if self.work.resource is not None:
            self.net.set_params(**{self.work.resource: self.steps[step][1]})

    def finish(self):
        self.fitted = self.work.prepared.assembled(self.work.whole, self.net)
        if not self.continues:
            return
        self.state = self.net
        if can_save(self.net, self.task.save):
            saved(self.net, self.task.save)
            self.state = SAVED

    def outcome(self, fit_time, score_time, test_scores, train_scores):
        if self.error is not None:
            return failed(self.task, self.error, fit_time, out_of_memory=self.out_of_memory)
        scores, score_error = test_scores
        if train_scores is not None:
            train_scores, train_error = train_scores
            score_error = score_error or train_error
        result = FitResult(
            trial=self.task.trial,
            split=self.task.split,
            repeat=self.task.repeat,
            test_scores=scores,
            train_scores=train_scores,
            fit_time=fit_time,
            score_time=score_time,
            device=current_slot(),
            score_error=score_error,
            curves=curves_of(self.fitted) if self.setting.curves else None,
        )
        return Outcome(result, self.state)


def _train(fits):
    """Take all fits to their last level; those that lack a state go over the earlier ones first."""
    fits = [fit for fit in fits if fit.error is None]
    with ExitStack() as watching:
        for fit in fits:
            watching.enter_context(fit.training)
        _train_steps(fits)


def _train_steps(fits):
    from ..lockstep import train_together

    for step in range(-max((len(fit.steps) for fit in fits), default=0), 0):
        going = [fit for fit in fits if fit.error is None and len(fit.steps) >= -step]
        try:
            errors = train_together([fit.member(step) for fit in going])
        except FAILURES as error:
            errors = [error] * len(going)
        for fit, error in zip(going, errors, strict=True):
            if error is None:
                fit.trained(step)
            else:
                fit.fail(error)


def _scores(fits, data, part):
    """Score all fits on a part of the data, in one forward pass where the scorer allows it.

    Returns
    -------
    list of (dict, str or None) or None
        None for fits that have failed.
    """
    passes = {}
    for i, fit in enumerate(fits):
        if fit.error is None and _shares(fit):
            with suppress(Exception):  # it comes again when the fit is scored alone
                passes[i] = _shown(fit, data, part)
    for portion in _in_portions(fits, passes):
        outputs = _outputs([fits[i].net for i in portion], [passes[i].X for i in portion])
        for i, output in zip(portion, outputs, strict=True):
            passes[i].outputs = output
    return [fit.attempt_to_score(data, part, passes.get(i)) for i, fit in enumerate(fits)]


def _shares(fit):
    """Whether the fit can be scored by what its network returned in a pass of all."""
    return looks_at_outputs_only(fit.setting.scorer, fit.net, fit.setting.score_params)


def _shown(fit, data, part):
    """Return what a scorer is shown: the network's own inputs, and what takes them."""
    work = fit.work
    X, y = data.to_score_inside(fit.task, fit.fitted, work.prepared, part)
    shown = work.prepared.assembled(work.whole, fit.net, transforming=False)
    return SimpleNamespace(estimator=shown, X=X, y=y, outputs=None)


def _in_portions(fits, passes):
    """Divide the fits so that what they return for all rows takes little memory."""
    portion, size = [], 0
    for i, shown in passes.items():
        width = np.prod(getattr(fits[i].net, "_output_shape", (1,)), dtype=int)
        size += num_samples(shown.X) * width
        if portion and size > _MOST_OUTPUTS:
            yield portion
            portion, size = [], num_samples(shown.X) * width
        portion.append(i)
    if portion:
        yield portion


def _outputs(nets, Xs):
    from ..lockstep import predict_together

    try:
        return predict_together(nets, Xs)
    except Exception as error:  # which of them it was comes out when each is asked alone
        memory_freed(error)
        return [None] * len(nets)


def _score(fit, data, part, shown):
    rows = data.rows(fit.task, part)
    if shown is None:
        X, y = data.to_score(fit.task, fit.fitted, part)
        return score(fit.setting, fit.fitted, X, y, data.X, rows)
    ready = nullcontext()
    if shown.outputs is not None:
        ready = answering(fit.net, shown.X, shown.outputs)
    with ready:
        return score(fit.setting, shown.estimator, shown.X, shown.y, data.X, rows)
