"""Rows on which a network is checked while it trains: where they come from."""

from __future__ import annotations

import torch

from ..rows import is_row_numbers
from ..training.schedule import needs_monitor

__all__ = ["ARGUMENTS", "check_sources", "one_argument"]

# Arguments of ``fit`` with rows to check on.
ARGUMENTS = ("validation_data", "X_val", "y_val")


def one_argument(validation_data=None, X_val=None, y_val=None):
    """Return the rows to check on that ``fit`` got: a pair, a `Dataset` or row numbers; or None.

    Raises ValueError for other types, and if it got several.
    """
    if X_val is None and y_val is None:
        _check_type(validation_data)
        return validation_data
    if validation_data is not None:
        raise ValueError(
            "rows to check on must come from one source, but fit got validation_data and "
            f"{'y_val' if X_val is None else 'X_val'}; leave one of them out"
        )
    if X_val is None or y_val is None:
        given, missing = ("y_val", "X_val") if X_val is None else ("X_val", "y_val")
        raise ValueError(f"{given} needs {missing}, which fit did not get; pass both, or none")
    return X_val, y_val


def _check_type(given):
    is_pair = isinstance(given, tuple | list) and len(given) == 2
    is_dataset = isinstance(given, torch.utils.data.Dataset)
    if not (given is None or is_pair or is_dataset or is_row_numbers(given)):
        shape = getattr(given, "shape", None)
        found = type(given).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")
        raise ValueError(
            "validation_data must be a pair (X, y), a torch Dataset, or the numbers or a mask of "
            f"rows of X, but got {found}"
        )


def check_sources(net, given):
    """Raise ValueError for two sources of rows to check on, and for settings that need one.

    `given` is what ``fit`` got, or None.
    """
    if given is not None:
        for name in ("validation_fraction", "train_split"):
            if getattr(net, name):
                raise ValueError(
                    "rows to check on must come from one source, but fit got validation_data and "
                    f"{name}={getattr(net, name)!r} holds rows out; set {name}=None, or leave "
                    "validation_data out"
                )
        return
    if net.validation_fraction is not None:
        return
    for name in ("patience", "check_every"):
        if getattr(net, name) is not None:
            raise ValueError(
                f"{name}={getattr(net, name)} needs rows to check on, but "
                "validation_fraction=None; set it, such as to 0.1, or pass validation_data to fit"
            )
    if net.lr_scheduler is not None and needs_monitor(net.lr_scheduler):
        raise ValueError(
            f"lr_scheduler={net.lr_scheduler!r} waits for the monitored value to stall, but "
            "validation_fraction=None; set it, such as to 0.1, pass validation_data to fit, or "
            "choose another schedule"
        )
