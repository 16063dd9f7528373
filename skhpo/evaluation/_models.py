"""Fitted estimators of the best rows: how workers return them, and how they are restored."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..wrappers import inside
from ._blame import FAILURES, saved
from ._pickling import Packed, holds_all_in_checkpoint, pack, packed_checkpoint
from ._setup import configured, prepare, train_part
from ._tasks import SAVED

if TYPE_CHECKING:
    from ..journal import CheckpointFile
    from ._tasks import FitTask, Setting

__all__ = ["kept_model", "needs_data", "restored"]

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
    return bool(inside(configured(setting, params, split=0, candidate=0), setting.resource).names)


def restored(
    setting: Setting, task: FitTask, content: Packed | memoryview, X: Any, y: Any, train: Any
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

    work = prepare(setting, task, part_for)
    if work.resource is not None:
        work.fresh.set_params(**{work.resource: task.levels[-1]})
    return work.prepared.assembled(work.whole, work.fresh.load_checkpoint(io.BytesIO(content)))
