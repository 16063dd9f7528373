"""Where a network computes, and in which precision."""

from __future__ import annotations

import torch

from ..limits import current_slot

__all__ = ["as_float32", "low_precision", "plain_tuple", "resolve_device"]


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


def low_precision(amp, device):
    """Return the device type on which forward passes run in bfloat16, or None.

    Parameters
    ----------
    amp : bool or "auto"
        "auto" is True on a CUDA device that computes in bfloat16, else False: on most CPUs it
        costs time instead of saving it.
    device : torch.device

    Raises
    ------
    ValueError
        If `amp` is True and the device has no bfloat16.
    """
    if amp is False:
        return None
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bfloat16 = device.type == "cpu" and amp is True
    if amp is True and not has_bfloat16:
        raise ValueError(
            f"amp=True needs a device that computes in bfloat16, but device {device} does not; "
            "set amp='auto' or amp=False"
        )
    return device.type if has_bfloat16 else None


def as_float32(output):
    """Return an output, or a tuple or dict of them, as float32 where it is bfloat16."""
    if isinstance(output, tuple):
        items = [as_float32(item) for item in output]
        return type(output)(*items) if hasattr(output, "_fields") else tuple(items)
    if isinstance(output, dict):
        return {name: as_float32(item) for name, item in output.items()}
    if isinstance(output, torch.Tensor) and output.dtype is torch.bfloat16:
        return output.float()
    return output


def plain_tuple(output):
    """Return a named tuple as the tuple that skorch can take apart, and anything else as it is."""
    return tuple(output) if hasattr(output, "_fields") else output
