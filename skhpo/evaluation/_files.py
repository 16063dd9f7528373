"""A folder for each fit, for files that callbacks of networks write."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Collection
from typing import Any

__all__ = ["separate_files"]


def separate_files(estimator: Any, folder: str) -> None:
    """Set the folders of skorch's callbacks, so that the files of a fit are in a folder of its own.

    All fits of a search have copies of the same callbacks. Files of `Checkpoint` and
    `TrainEndCheckpoint`, from which ``load_best`` reads again, would otherwise be those of the fit
    that wrote last.

    Parameters
    ----------
    estimator : estimator
        Unfitted, with networks anywhere in its parameters; their callbacks are changed.
    folder : str
        Below the one that is set, as ``"search-1f3a/candidate-0-split-2"``.

    Raises
    ------
    ValueError
        If a callback writes into several folders.
    """
    if "skorch" not in sys.modules:
        return
    for net in (estimator, *estimator.get_params(deep=True).values()):
        callbacks = getattr(net, "callbacks", None)
        if not isinstance(callbacks, list) or not hasattr(net, "_uniquely_named_callbacks"):
            continue
        named = {
            name: getattr(net, f"callbacks__{name}", callback)
            for name, callback in net._uniquely_named_callbacks()
        }
        written = {_move(each, net, f"callbacks__{name}__", folder) for name, each in named.items()}
        for callback in named.values():
            # What loads files goes with those that the fit writes; others are there already.
            for part in getattr(callback, "__dict__", {}).values():
                if not isinstance(part, type):
                    _move(part, None, "", folder, written)


def _move(
    callback: Any, net: Any, prefix: str, folder: str, only: Collection[str | None] | None = None
) -> str | None:
    """Move the files of a callback, if it has some: an instance, or a class with settings.

    Returns
    -------
    before : str or None
        The folder where they were; `only` those that were in one of some are moved.
    """
    settings = _files_of(callback)
    if not {"dirname", "fn_prefix"} <= settings.keys():
        return None
    of_net = {k: getattr(net, prefix + k) for k in settings if hasattr(net, prefix + k)}
    settings |= of_net
    before: str
    dirname, start = settings.pop("dirname"), settings.pop("fn_prefix")
    files = {name: value for name, value in settings.items() if value is not None}
    if not files or not all(isinstance(value, str) for value in files.values()):
        return None  # files in memory are copies of their own
    paths = {name: os.path.split(os.path.join(dirname, start + f)) for name, f in files.items()}
    folders = {head for head, _ in paths.values()}
    if len(folders) > 1:
        kind = getattr(callback, "__name__", type(callback).__name__)
        raise ValueError(
            f"in a search each fit has a folder of its own, so that all files of {kind} must lie "
            f"in one, but they lie in {sorted(folders)}; set its dirname, and no folder elsewhere"
        )
    (before,) = folders
    if only is not None and before not in only:
        return None
    moved = {name: tail for name, (_, tail) in paths.items()}
    moved |= {"dirname": os.path.join(before, folder), "fn_prefix": ""}
    for name, value in moved.items():
        if not isinstance(callback, type):
            setattr(callback, name, value)
        if isinstance(callback, type) or name in of_net:
            setattr(net, prefix + name, value)
    return before


def _files_of(callback: Any) -> dict[str, Any]:
    """Return the settings that say where a callback writes."""
    if isinstance(callback, type):
        parameters = inspect.signature(callback).parameters.values()
        settings = {p.name: p.default for p in parameters}
    else:
        settings = dict(getattr(callback, "__dict__", {}))
    names = ("dirname", "fn_prefix")
    return {k: v for k, v in settings.items() if k.startswith("f_") or k in names}
