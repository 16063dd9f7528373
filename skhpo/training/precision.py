"""Automatic mixed precision."""

from __future__ import annotations

import torch

__all__ = ["as_float32", "low_precision", "plain_tuple"]


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
