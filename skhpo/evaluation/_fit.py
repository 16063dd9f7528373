"""What one worker does: fit (or continue) one candidate on one split, and score it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone, is_classifier

from .._compat import check_method_params, safe_indexing, safe_split
from ..limits import current_slot
from ..rows import RowSubset, as_given
from ..trial import FitResult
from ..wrappers import Prepared, inside
from ..wrappers import prepare as prepare_wrappers
from ._blame import FAILURES, raise_unless_candidates, saved
from ._callbacks import evaluation
from ._continuation import advance, set_horizon, way_to_continue
from ._curves import curves_of
from ._devices import memory_freed
from ._files import separate_files
from ._pickling import Packed, holds_all_in_checkpoint
from ._scoring import looks_at_predictions_only, score
from ._seeds import derive_seed, seed_components
from ._tasks import SAVED, FitTask, Outcome, Setting, failed

__all__ = [
    "FitTask",
    "Setting",
    "Work",
    "can_save",
    "configured",
    "part_of",
    "prepare",
    "reads_rows",
    "refit",
    "run_fit",
    "run_transform",
    "steps_of",
    "train_part",
]

# Bytes from which on rows are not copied out of an array.
_LARGE = 2**26


class Work(NamedTuple):
    """What a task trains: the estimator, the one inside of its wrappers, and the data that gets."""

    whole: Any
    prepared: Prepared
    fresh: Any
    resource: str | None
    levels: tuple
    X: Any
    y: Any
    fit_params: Mapping[str, Any]

    @property
    def depth(self):
        """How deep what is trained is in the estimator of the search."""
        return len(self.prepared.names)


def configured(setting, params, *, split, candidate, repeat=0):
    """Return an unfitted estimator with a candidate's parameters and its seeds.

    Inside of wrappers a seed depends on candidate, split and repeat; a transformer's on the split
    alone, because candidates share transformers. `split` is -1 for the refit on all data. An
    integer given by the user is kept, but for further repeats, which need other seeds.
    """
    if setting.starts is not None:
        params = setting.starts.placed(params)
    estimator = clone(setting.estimator).set_params(**clone(dict(params), safe=False))
    prefix = inside(estimator, setting.resource).prefix

    def seed_for(name, given):
        if not name.startswith(prefix):
            return derive_seed(setting.seed, name, split + 1) if given is None else given
        if given is None:
            return derive_seed(setting.seed, name, candidate, split + 1, repeat)
        return derive_seed(given, name, repeat) if repeat else given

    seed_components(estimator, seed_for)
    set_horizon(estimator, setting.resource, setting.max_resource)
    return estimator


def refit(estimator, setting, X, y, training=lambda estimator, depth=0: nullcontext()):
    """Fit a configured estimator on all data, as long as its resource says.

    This is its ``fit``, but for estimators that the search trained epoch by epoch: their ``fit``
    would stop by a rule of its own, earlier than what was scored. `training` is entered around
    either, as in `evaluation`.
    """
    X = as_given(X)
    found = inside(estimator, setting.resource)
    if way_to_continue(found.estimator, found.resource, y) != "partial_fit_per_epoch":
        args = (X,) if y is None else (X, y)
        with training(estimator):
            estimator.fit(*args, **setting.fit_params)
        return
    prepared = prepare_wrappers(estimator, X, y, setting.fit_params, setting.resource)
    last = found.fresh
    seed, level = last.random_state, last.get_params()[found.resource]
    data = prepared.X, prepared.y, prepared.fit_params
    with training(last, len(found.names)):
        advance(last, None, found.resource, *data, done=0, target=level)
    last.set_params(random_state=seed)
    vars(estimator).update(vars(prepared.assembled(estimator, last)))


def run_transform(task, setting, X, y, rows):
    """Fit the wrappers of an estimator; return a `Prepared`, or the traceback of a failure."""
    try:
        train = rows[0][: task.n_train]
        estimator = configured(setting, task.params, split=task.split, candidate=0)
        part = train_part(setting, estimator, X, y, train)
        return prepare_wrappers(estimator, *part, setting.resource)
    except FAILURES as error:
        raise_unless_candidates(error, setting)
        return traceback.format_exc()


def run_fit(names, task, setting, X, y, *values):
    """Fit and score.

    Parameters
    ----------
    names : tuple
        What the values are: a split's number, or the key of fitted wrappers.
    task : FitTask
    setting : Setting
    X, y : array-like
        All data.
    *values : tuple of ndarray, or Prepared
        For each name the training and test rows of the split, or the wrappers.

    Returns
    -------
    Outcome
    """
    shared = dict(zip(names, values, strict=True))
    train, test = shared[task.split]
    train = train[: task.n_train]
    with evaluation(task, setting, X, y, train) as training:
        return _run_fit(task, setting, X, y, train, test, shared.get(task.key), training)


def _run_fit(task, setting, X, y, train, test, prepared, training):
    start = time.perf_counter()
    try:
        fitted, state = _fit(setting, task, X, y, train, test, prepared, training)
        if can_save(state, task.save):
            saved(state, task.save)
            state = SAVED
    except FAILURES as exception:
        raise_unless_candidates(exception, setting)
        error = traceback.format_exc()
        seconds = time.perf_counter() - start
        return failed(task, error, seconds, out_of_memory=memory_freed(exception))
    fitted_at = time.perf_counter()
    lazily = looks_at_predictions_only(setting.scorer)
    train_scores = None
    try:
        test_data = part_of(fitted, X, y, test, train, lazily=lazily)
        test_scores, error = score(setting, fitted, *test_data, X, test)
        scored_at = time.perf_counter()
        if setting.return_train_score:
            train_data = part_of(fitted, X, y, train, lazily=lazily)
            train_scores, train_error = score(setting, fitted, *train_data, X, train)
            error = error or train_error
    except Exception as exception:
        if setting.raise_errors or not memory_freed(exception):
            raise
        seconds = fitted_at - start
        return failed(task, traceback.format_exc(), seconds, out_of_memory=True)
    result = FitResult(
        trial=task.trial,
        split=task.split,
        repeat=task.repeat,
        test_scores=test_scores,
        train_scores=train_scores,
        fit_time=fitted_at - start,
        score_time=scored_at - fitted_at,
        device=current_slot(),
        score_error=error,
        curves=curves_of(fitted) if setting.curves else None,
        found=None if setting.starts is None else setting.starts.found(fitted),
    )
    return Outcome(result, state)


def _fit(setting, task, X, y, train, test, prepared, training):
    work = prepare(setting, task, lambda whole: train_part(setting, whole, X, y, train), prepared)
    if setting.starts is not None:
        test_data = part_of(work.whole, X, y, test, train)
        valid = _of_known_labels(*work.prepared.inner_data(*test_data), work)
        further = {"validation_data": valid}
        work = work._replace(fit_params={**work.fit_params, **further})
    fitted, state = _advance(work, task, training)
    return work.prepared.assembled(work.whole, fitted), state


def _of_known_labels(X, y, work):
    """Leave out rows whose label the training part lacks: no network has an output for it."""
    if is_classifier(work.fresh) and np.ndim(y) == 1:
        known = np.isin(np.asarray(y), np.asarray(work.y))
        if known.any() and not known.all():
            rows = np.flatnonzero(known)
            return safe_indexing(X, rows), safe_indexing(y, rows)
    return X, y


def prepare(setting, task, part_for, prepared=None):
    """Build what a task trains, and say how.

    Parameters
    ----------
    setting : Setting
    task : FitTask
    part_for : callable
        From an unfitted estimator to what `train_part` returns.
    prepared : Prepared or None, default=None
        Fitted wrappers that the task shares with others.

    Returns
    -------
    Work
    """
    whole = configured(
        setting, task.params, split=task.split, candidate=task.candidate, repeat=task.repeat
    )
    repeat = f"-repeat-{task.repeat}" if task.repeat else ""
    name = f"candidate-{task.candidate}-split-{task.split}{repeat}"
    separate_files(whole, f"{setting.name}/{name}")
    found = inside(whole, setting.resource)
    if prepared is None:
        prepared = prepare_wrappers(whole, *part_for(whole), setting.resource)
    return Work(
        whole,
        prepared,
        found.fresh,
        found.resource,
        (None,) if setting.resource == "n_samples" else task.levels,
        prepared.X,
        prepared.y,
        prepared.fit_params,
    )


def train_part(setting, estimator, X, y, train):
    """Return the rows, targets and metadata that an estimator is fitted on."""
    return *part_of(estimator, X, y, train), check_method_params(X, setting.fit_params, train)


def reads_rows(estimator):
    """Say whether an estimator can read rows of a large array where they are."""
    found = inside(estimator)
    net = found.estimator
    reads = getattr(net, "_reads_rows", False) and not found.transforms_X
    return reads and net.validation_fraction is None


def part_of(estimator, X, y, rows, other_rows=None, *, lazily=True):
    """Return some rows of the data; not copied where they are large and can be read in place."""
    large = type(X) in (np.ndarray, np.memmap) and X.nbytes >= _LARGE
    if large and lazily and reads_rows(estimator):
        return RowSubset(X, rows), None if y is None else safe_indexing(y, rows)
    X, y = safe_split(estimator, X, y, rows, other_rows)
    return as_given(X), y


def can_save(state, file):
    # On a machine that does not share the driver's disk, the folder is missing: the state travels.
    return file is not None and holds_all_in_checkpoint(state) and file.has_folder


def _advance(work, task, training):
    """Train up to the last level, from the state, the checkpoint, or the first level on."""
    state, steps = steps_of(work, task)
    data = work.X, work.y, work.fit_params
    with training(work.fresh if state is None else state, work.depth):
        for done, target in steps:
            fitted, state = advance(
                work.fresh, state, work.resource, *data, done=done, target=target
            )
    return fitted, state


def steps_of(work, task):
    """Return what training goes on from, or None, and the levels it goes over: pairs."""
    fresh, levels = work.fresh, work.levels
    if work.resource is None or way_to_continue(fresh, work.resource, work.y) == "retrain":
        return None, [(0, levels[-1])]
    state = task.state
    if isinstance(state, Packed):
        state = state.unpacked(fresh)
    if task.load is not None and (loaded := task.load.load(fresh)) is not None:
        state = loaded
    steps = list(zip((0, *levels[:-1]), levels, strict=True))
    return state, steps if state is None else steps[-1:]
