"""Where a network is trained."""

from __future__ import annotations

import torch

from ..limits import current_slot

__all__ = ["resolve_device"]


def resolve_device(device):
    """Return the torch device that the parameter `device` stands for.

    Parameters
    ----------
    device : str, torch.device or None
        "auto" is the device that a search lends to the running fit, if it does, else the first of
        cuda, mps and cpu that there is; None is "cpu".

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If there is no such device.
    """
    if device is None:
        return torch.device("cpu")
    if isinstance(device, str) and device == "auto":
        if current_slot() is not None:
            return torch.device(current_slot())
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if _count(kind)))
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError):
        resolved = None
    if resolved is None or (resolved.index or 0) >= _count(resolved.type):
        found = [
            f"{kind}:{i}" if kind == "cuda" else kind
            for kind in ("cpu", "cuda", "mps")
            for i in range(_count(kind))
        ]
        raise ValueError(
            f"device must be 'auto' or a device of this machine, but got {device!r}; "
            f"there are: {', '.join(map(repr, found))}"
        )
    return resolved


def _count(kind):
    if kind == "cpu":
        return 1
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    try:
        return torch.get_device_module(kind).device_count()
    except (AttributeError, RuntimeError):
        return int(kind == "meta")
