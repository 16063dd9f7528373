"""Checkpoints: files of tensors, numbers and strings; reading them runs no code."""

from __future__ import annotations

import io
from collections.abc import Container, Iterable
from typing import Any

import numpy as np
import torch

__all__ = ["check_complete", "check_keys", "plain_attributes", "plain_numbers", "serialised"]


def serialised(checkpoint: dict[str, Any]) -> memoryview:
    """Return the bytes of a checkpoint.

    In memory, because torch's file writer hides the error of an interrupted or failed write.
    """
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getbuffer()


def plain_attributes(module: object) -> dict[str, dict[str, Any]]:
    """Return the plain attributes of layers (such as a count of steps), by path and name."""
    if not isinstance(module, torch.nn.Module):
        return {}
    own = vars(torch.nn.Module())
    found = {
        path: {k: v for k, v in vars(layer).items() if k not in own and _is_plain(v)}
        for path, layer in module.named_modules()
    }
    return {path: attributes for path, attributes in found.items() if attributes}


def _is_plain(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    return value is None or type(value) in (bool, int, float, str)


def check_complete(checkpoint: Any, version: int, name: str, sections: Iterable[str]) -> None:
    """Raise ValueError unless a checkpoint belongs to estimator `name`, and has all sections."""
    if not isinstance(checkpoint, dict):
        raise ValueError(f"the checkpoint must be one of {name}, but is a {type(checkpoint)}")
    found = (checkpoint.get("format"), checkpoint.get("estimator"))
    if found != (version, name):
        raise ValueError(
            f"the checkpoint must be one of {name} in format {version}, but is one of "
            f"{found[1]} in format {found[0]}"
        )
    check_keys("section", sections, checkpoint)


def check_keys(what: str, needed: Iterable[str], found: Container[str]) -> None:
    """Raise ValueError if a part of a checkpoint lacks a key."""
    missing = [key for key in needed if key not in found]
    if missing:
        raise ValueError(
            f"the checkpoint must be complete, but lacks the {what} {missing[0]!r}; save it again"
        )


def plain_numbers(value: Any) -> Any:
    """Convert NumPy scalars and arrays in a row of the history to plain Python."""
    if isinstance(value, dict):
        return {key: plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(item) for item in value]
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
