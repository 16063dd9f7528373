"""Fitted estimators of a search: those of the best rows, and refits on all data."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from ..journal import CheckpointFile
from ..rows import as_given
from ..wrappers import Prepared, fit_wrappers, inside
from ._continuation import advance, holds_all_in_checkpoint, way_to_continue
from ._setup import inside_of, key_of_wrappers, n_together, network_inside, prepare, train_part
from ._tasks import FAILURES, SAVED, FitTask, Setting, saved
from ._travel import Packed, pack, packed_checkpoint

__all__ = ["kept_model", "needs_data", "refit", "refit_together", "restored"]


_log = logging.getLogger(__name__)


def kept_model(
    file: CheckpointFile, whole: Any, net: Any, checkpoint: CheckpointFile | None
) -> Any:
    """Return a fitted estimator in the form that is kept, or write it.

    Parameters
    ----------
    file : CheckpointFile
        Where a network goes.
    whole : estimator
    net : estimator
        What is inside of its wrappers.
    checkpoint : CheckpointFile or None
        Where the network was written already.

    Returns
    -------
    SAVED, Packed or None
        Of a network its checkpoint, which is SAVED in the file if its folder is there. Of anything
        else a pickle, for the memory of the driver. None where it can be neither.
    """
    if not holds_all_in_checkpoint(net):
        return pack(whole)
    if not file.has_folder:
        return packed_checkpoint(net)
    if checkpoint is not None:
        with suppress(OSError):  # a file system without hard links
            if os.path.lexists(file.path):
                os.unlink(file.path)
            os.link(checkpoint.path, file.path)
            return SAVED
    try:
        saved(net, file)
    except FAILURES as error:
        _log.info("a fitted %s is not kept, for it cannot be saved: %s", type(net).__name__, error)
        return None
    return SAVED


def needs_data(setting: Setting, params: Mapping[str, Any]) -> bool:
    """Whether the wrappers of a network must be fitted again to restore the whole estimator."""
    return bool(inside_of(setting, params).names)


def restored(
    setting: Setting,
    task: FitTask,
    content: Packed | memoryview,
    X: Any,
    y: Any,
    train: Any,
    shared: dict[Any, Prepared],
) -> Any:
    """Restore a fitted estimator.

    Parameters
    ----------
    setting : Setting
    task : FitTask
        The fit that it is of.
    content : Packed or memoryview
        What was kept: a pickle, or a checkpoint.
    X, y : array-like
        All data; needed where there are wrappers around a network.
    train : ndarray
        Rows of the training part.
    shared : dict
        Transformers that were fitted for others; new ones are added.

    Returns
    -------
    estimator
    """
    if isinstance(content, Packed):
        return content.unpacked(None)

    def part_for(estimator: Any) -> Any:
        if X is None:
            return None, None, {}
        return train_part(setting, estimator, X, y, train[: task.n_train])

    wrappers = key_of_wrappers(setting, task.params)
    key = None if wrappers is None else (task.split, task.n_train, wrappers)
    work = prepare(setting, task, part_for, shared.get(key)).without_rows()
    if key is not None:
        shared[key] = work.prepared
    if work.resource is not None:
        work.fresh.set_params(**{work.resource: task.levels[-1]})
    return work.prepared.assembled(work.whole, work.fresh.load_checkpoint(io.BytesIO(content)))


def refit(
    estimator: Any,
    setting: Setting,
    X: Any,
    y: Any,
    training: Callable[..., AbstractContextManager[Any]] = lambda estimator, depth=0: nullcontext(),
) -> None:
    """Fit a configured estimator on all data, as long as its resource says.

    This is its ``fit``, but for estimators that the search trained epoch by epoch: their ``fit``
    would stop by a rule of its own, earlier than what was scored. `training` is entered around
    either, as in `evaluation`.
    """
    X, y = as_given(X), as_given(y)
    found = inside(estimator, setting.resource)
    if way_to_continue(found.estimator, found.resource, y) != "partial_fit_per_epoch":
        args = (X,) if y is None else (X, y)
        with training(estimator):
            estimator.fit(*args, **setting.fit_params)
        return
    prepared = fit_wrappers(estimator, X, y, setting.fit_params, setting.resource)
    last = found.fresh
    seed, level = last.random_state, last.get_params()[found.resource]
    data = prepared.X, prepared.y, prepared.fit_params
    with training(last, len(found.names)):
        advance(last, None, found.resource, *data, done=0, target=level)
    last.set_params(random_state=seed)
    vars(estimator).update(vars(prepared.assembled(estimator, last)))


def refit_together(
    estimators: Sequence[Any], setting: Setting, X: Any, y: Any, lockstep: bool | str = "auto"
) -> None:
    """Fit configured estimators on all data, networks that share a graph in lockstep.

    Parameters
    ----------
    estimators : list of estimator
        Each one of its own; fitted in place, as by `refit`.
    setting : Setting
    X, y : array-like
    lockstep : bool or "auto", default="auto"
        False fits one after another.
    """
    several = lockstep is not False and len(estimators) > 1
    together = _in_lockstep(estimators, X, y, setting.fit_params) if several else set()
    for number, estimator in enumerate(estimators):
        if number not in together:
            refit(estimator, setting, X, y)
    _fit_in_lockstep([estimators[i] for i in sorted(together)], X, y, setting.fit_params)


def _fit_in_lockstep(
    estimators: Sequence[Any], X: Any, y: Any, fit_params: Mapping[str, Any]
) -> None:
    """Fit networks, also inside of wrappers, on the same data in lockstep, in place."""
    if not estimators:
        return
    from ..lockstep import Member, train_together

    X, y = as_given(X), as_given(y)
    fits = [(one, inside(one).fresh, fit_wrappers(one, X, y, fit_params)) for one in estimators]
    members = [Member(net, p.X, p.y, dict(p.fit_params), False) for _, net, p in fits]
    for error in train_together(members):
        if error is not None:
            raise error
    for whole, net, prepared in fits:
        vars(whole).update(vars(prepared.assembled(whole, net)))


def _in_lockstep(
    estimators: Sequence[Any], X: Any, y: Any, fit_params: Mapping[str, Any]
) -> set[int]:
    """Return the numbers of the networks for which lockstep pays."""
    groups: dict[Any, list[int]] = {}
    for number, estimator in enumerate(estimators):
        found, reason = network_inside(estimator, X, fit_params)
        if reason is None:
            from ..lockstep import group_key

            groups.setdefault(group_key(found.estimator), []).append(number)
    together: set[int] = set()
    for numbers in groups.values():
        net = inside(estimators[numbers[0]]).estimator
        if n_together(net, X, y, len(numbers)) > 1:
            together.update(numbers)
    return together
