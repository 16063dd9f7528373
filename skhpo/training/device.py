"""Device and precision of a network."""

from __future__ import annotations

from typing import Any

import torch

from ..limits import current_slot

__all__ = ["as_float32", "low_precision", "plain_tuple", "resolve_device"]


def resolve_device(device: Any) -> torch.device:
    """Return a torch device; ValueError if it does not exist.

    "auto" is the device that a search assigned to the running fit, if any, else the first
    available of cuda, mps and cpu; None is the CPU.
    """
    if device is None:
        return torch.device("cpu")
    if isinstance(device, str) and device == "auto":
        slot = current_slot()
        if slot is not None:
            return torch.device(slot)
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


def _count(kind: str) -> int:
    if kind == "cpu":
        return 1
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    try:
        return int(torch.get_device_module(kind).device_count())
    except (AttributeError, RuntimeError):
        return int(kind == "meta")


def low_precision(amp: bool | str, device: torch.device) -> str | None:
    """Return the device type on which forward passes run in bfloat16, or None.

    "auto" means CUDA devices that support it; most CPUs are slower with it. ValueError if `amp` is
    True and the device does not support it.
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


def as_float32(output: Any) -> Any:
    """Convert bfloat16 outputs, also in a tuple or dict, to float32."""
    if isinstance(output, tuple):
        items = [as_float32(item) for item in output]
        return type(output)(*items) if hasattr(output, "_fields") else tuple(items)
    if isinstance(output, dict):
        return {name: as_float32(item) for name, item in output.items()}
    if isinstance(output, torch.Tensor) and output.dtype is torch.bfloat16:
        return output.float()
    return output


def plain_tuple(output: Any) -> Any:
    """Convert a named tuple to a plain tuple, as skorch needs it; return others unchanged."""
    return tuple(output) if hasattr(output, "_fields") else output
