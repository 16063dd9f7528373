"""What one worker does: fit (or continue) one candidate on one split, and score it."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from .._compat import check_method_params, safe_indexing, safe_split
from ..limits import current_slot
from ..rows import RowSubset
from ..trial import FitResult
from ._continuation import advance, set_horizon, way_to_continue
from ._curves import curves_of
from ._pipeline import Transformed, assemble, final_step, fit_params_of, fit_transformers
from ._seeds import derive_seed, seed_components

__all__ = [
    "SAVED",
    "FitTask",
    "Outcome",
    "Setting",
    "TransformTask",
    "configured",
    "refit",
    "run_fit",
    "run_transform",
]

SAVED = "saved"

# Bytes from which on rows are not copied out of an array.
_LARGE = 2**26


@dataclass(frozen=True)
class Setting:
    """What all fits of a search share, except the data.

    Parameters
    ----------
    estimator : estimator
        Never fitted itself.
    scorer : callable
        ``scorer(estimator, X, y, **score_params)`` gives a number or a dict of numbers.
    seed : int
        Seed of the search.
    fit_params, score_params : dict
        Metadata for ``fit`` and for the scorer, for all rows.
    resource : str or None, default=None
        Parameter of the estimator that a trial's resource sets, or ``"n_samples"``.
    max_resource : int or None, default=None
        Its largest value in the search.
    return_train_score : bool, default=False
    raise_errors : bool, default=False
        Whether a failing fit raises, or is reported in its result.
    curves : bool, default=False
        Whether results have the learning curves of the estimators that keep some.
    """

    estimator: Any
    scorer: Any
    seed: int
    fit_params: Mapping[str, Any] = field(default_factory=dict)
    score_params: Mapping[str, Any] = field(default_factory=dict)
    resource: str | None = None
    max_resource: int | None = None
    return_train_score: bool = False
    raise_errors: bool = False
    curves: bool = False


@dataclass(frozen=True)
class TransformTask:
    """Fit the transformers of a pipeline, under one setting, on one split."""

    key: tuple
    params: Mapping[str, Any]
    split: int
    n_train: int | None = None


@dataclass(frozen=True)
class FitTask:
    """Fit one trial on one split, under one seed.

    Parameters
    ----------
    trial, candidate, split, repeat : int
    params : mapping of str to object
    levels : tuple of (int or None)
        Resource of the candidate's trials so far, this one's last.
    n_train : int or None, default=None
        Training rows to use: the first ones of the split. None means all.
    state : estimator or None, default=None
        The candidate as fitted on this split up to the last level but one.
    load, save : str or None, default=None
        Checkpoint to continue from, and where to leave one. Without a state and a checkpoint
        the earlier levels are trained again.
    key : tuple or None, default=None
        The fitted transformers that this fit shares.
    """

    trial: int
    candidate: int
    split: int
    repeat: int
    params: Mapping[str, Any]
    levels: tuple
    n_train: int | None = None
    state: Any = None
    load: str | None = None
    save: str | None = None
    key: tuple | None = None


@dataclass(frozen=True)
class Outcome:
    """What comes back from a fit.

    Parameters
    ----------
    result : FitResult
    state : estimator, SAVED or None
        What continues this fit at the next level; SAVED where it is in a checkpoint file.
    out_of_memory : bool
        Whether it failed because a device had no memory left.
    """

    result: FitResult
    state: Any = None
    out_of_memory: bool = False


def configured(setting, params, *, split, candidate, repeat=0):
    """Return an unfitted estimator with a candidate's parameters and its seeds.

    A last step's seed depends on candidate, split and repeat; a transformer's on the split
    alone, because candidates share transformers. `split` is -1 for the refit on all data. An
    integer given by the user is kept, but for further repeats, which need other seeds.
    """
    estimator = clone(setting.estimator).set_params(**clone(dict(params), safe=False))
    final = final_step(estimator, setting.resource)

    def seed_for(name, given):
        if final is not None and not name.startswith(final + "__"):
            return derive_seed(setting.seed, name, split + 1) if given is None else given
        if given is None:
            return derive_seed(setting.seed, name, candidate, split + 1, repeat)
        return derive_seed(given, name, repeat) if repeat else given

    seed_components(estimator, seed_for)
    set_horizon(estimator, setting.resource, setting.max_resource)
    return estimator


def refit(estimator, setting, X, y):
    """Fit a configured estimator on all data, as long as its resource says.

    This is its ``fit``, but for estimators that the search trained epoch by epoch: their ``fit``
    would stop by a rule of its own, earlier than what was scored.
    """
    final = final_step(estimator, setting.resource)
    last = estimator if final is None else estimator.steps[-1][1]
    resource = setting.resource
    if resource is not None and final is not None:
        resource = resource.removeprefix(final + "__")
    if way_to_continue(last, resource, y) != "partial_fit_per_epoch":
        args = (X,) if y is None else (X, y)
        return estimator.fit(*args, **setting.fit_params)
    transformed, of_last = Transformed([], X), setting.fit_params
    if final is not None:
        of_head, of_last = fit_params_of(estimator, setting.fit_params)
        transformed = fit_transformers(estimator, X, y, of_head)
    seed, level = last.random_state, last.get_params()[resource]
    advance(last, None, resource, transformed.X, y, of_last, done=0, target=level)
    last.set_params(random_state=seed)
    if final is not None:
        estimator.steps = [*transformed.steps, (final, last)]
    return estimator


def run_transform(task, setting, X, y, rows):
    """Fit transformers; return a `Transformed`, or the traceback of a failure."""
    try:
        train = rows[0][: task.n_train]
        pipeline = configured(setting, task.params, split=task.split, candidate=0)
        Xs, ys = safe_split(pipeline, X, y, train)
        fit_params = check_method_params(X, setting.fit_params, train)
        of_head, _ = fit_params_of(pipeline, fit_params)
        return fit_transformers(pipeline, Xs, ys, of_head)
    except Exception:
        if setting.raise_errors:
            raise
        return traceback.format_exc()


def run_fit(names, task, setting, X, y, *values):
    """Fit and score.

    Parameters
    ----------
    names : tuple
        What the values are: a split's number, or the key of fitted transformers.
    task : FitTask
    setting : Setting
    X, y : array-like
        All data.
    *values : tuple of ndarray, or Transformed
        For each name the training and test rows of the split, or the transformers.

    Returns
    -------
    Outcome
    """
    start = time.perf_counter()
    fitted_at = None
    try:
        shared = dict(zip(names, values, strict=True))
        train, test = shared[task.split]
        train = train[: task.n_train]
        fitted, state = _fit(setting, task, X, y, train, shared.get(task.key))
        if _can_save(state, task.save):
            state.save_checkpoint(task.save)
            state = SAVED
        fitted_at = time.perf_counter()
        lazily = _looks_at_predictions_only(setting.scorer)
        test_data = _part(fitted, X, y, test, train, lazily=lazily)
        test_scores, error = _score(setting, fitted, *test_data, X, test)
        scored_at = time.perf_counter()
        train_scores = None
        if setting.return_train_score:
            train_data = _part(fitted, X, y, train, lazily=lazily)
            train_scores, train_error = _score(setting, fitted, *train_data, X, train)
            error = error or train_error
    except Exception as exception:
        if setting.raise_errors:
            raise
        seconds = (fitted_at or time.perf_counter()) - start
        error = traceback.format_exc()
        return failed(task, error, seconds, out_of_memory=_memory_freed(exception))
    result = FitResult(
        trial=task.trial,
        split=task.split,
        repeat=task.repeat,
        test_scores=test_scores,
        train_scores=train_scores,
        fit_time=fitted_at - start,
        score_time=scored_at - fitted_at,
        device=current_slot(),
        error=error,
        curves=curves_of(fitted) if setting.curves else None,
    )
    return Outcome(result, state)


def failed(task, error, seconds=0.0, *, out_of_memory=False):
    """Return the outcome of a fit that came to nothing."""
    result = FitResult(
        trial=task.trial,
        split=task.split,
        repeat=task.repeat,
        fit_time=seconds,
        device=current_slot(),
        error=error,
    )
    return Outcome(result, out_of_memory=out_of_memory)


def _memory_freed(exception):
    """Say whether a device ran out of memory, and free what it can be freed of."""
    cls = type(exception)
    if cls.__name__ != "OutOfMemoryError" or cls.__module__.partition(".")[0] != "torch":
        return False
    sys.modules["torch"].cuda.empty_cache()
    return True


def _fit(setting, task, X, y, train, transformed):
    whole = configured(
        setting, task.params, split=task.split, candidate=task.candidate, repeat=task.repeat
    )
    fit_params = check_method_params(X, setting.fit_params, train)
    fresh, resource, levels = whole, setting.resource, task.levels
    if resource == "n_samples":
        resource, levels = None, (None,)
    if transformed is None:
        Xs, ys = _part(whole, X, y, train)
    else:
        name, fresh = whole.steps[-1]
        Xs, ys = transformed.X, None if y is None else safe_indexing(y, train)
        resource = resource and resource.removeprefix(name + "__")
        _, fit_params = fit_params_of(whole, fit_params)
    fitted, state = _advance(fresh, task, resource, levels, Xs, ys, fit_params)
    if transformed is not None:
        fitted = assemble(whole, transformed, fitted)
    return fitted, state


def _part(estimator, X, y, rows, other_rows=None, *, lazily=True):
    """Return some rows of the data; not copied where they are large and can be read in place."""
    reads = getattr(estimator, "_reads_rows", False) and estimator.validation_fraction is None
    if lazily and reads and type(X) in (np.ndarray, np.memmap) and X.nbytes >= _LARGE:
        return RowSubset(X, rows), None if y is None else safe_indexing(y, rows)
    return safe_split(estimator, X, y, rows, other_rows)


def _looks_at_predictions_only(scorer):
    """Whether a scorer is known to pass X on to the estimator and do nothing else with it."""
    scorers = getattr(scorer, "_scorers", {"score": scorer}).values()
    return all(type(scorer).__module__.startswith("sklearn.") for scorer in scorers)


def _can_save(state, path):
    # On a machine that does not share the driver's disk, the folder is missing: the state travels.
    # So it does where skorch callbacks have states of their own, which checkpoints do not hold.
    if path is None or not hasattr(state, "save_checkpoint") or not Path(path).parent.is_dir():
        return False
    return not getattr(state, "callbacks", None) or state.callbacks == "disable"


def _advance(fresh, task, resource, levels, X, y, fit_params):
    """Train up to the last level, from the state, the checkpoint, or the first level on."""
    if resource is None or way_to_continue(fresh, resource, y) == "retrain":
        return advance(fresh, None, resource, X, y, fit_params, done=0, target=levels[-1])
    state, before = task.state, (0, *levels[:-1])
    if task.load is not None and Path(task.load).exists():
        state = fresh.load_checkpoint(task.load)
    if state is not None:
        before, levels = before[-1:], levels[-1:]
    for done, target in zip(before, levels, strict=True):
        fitted, state = advance(fresh, state, resource, X, y, fit_params, done=done, target=target)
    return fitted, state


def _score(setting, estimator, X, y, X_all, rows):
    """Return scores as a dict of floats, and the traceback of a metric that failed.

    The dict is ``{"score": ...}`` where there is one metric; failed metrics are left out.
    """
    params = check_method_params(X_all, setting.score_params, rows)
    args = (estimator, X) if y is None else (estimator, X, y)
    scores = setting.scorer(*args, **params)
    if not isinstance(scores, Mapping):
        scores = {"score": scores}
    # A multimetric scorer of scikit-learn puts a traceback in the place of a failed score.
    failed = [score for score in scores.values() if isinstance(score, str)]
    numbers = {k: _number(k, score) for k, score in scores.items() if not isinstance(score, str)}
    return numbers, (failed[0] if failed else None)


def _number(name, score):
    if hasattr(score, "item"):
        score = score.item()
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise ValueError(
            f"scoring must return a number, but {name!r} is {score!r} of type "
            f"{type(score).__name__}; return a float, or a dict of floats"
        )
    return float(score)
