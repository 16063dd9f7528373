"""Items of torch datasets: targets that are stored beside them, and what each of them is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_structure", "probe_rows", "stored_targets"]

# Items that are read before any training, evenly spaced.
_N_PROBED = 8


def stored_targets(dataset: Any) -> NDArray[Any] | None:
    """Return the targets of a dataset as an array if it stores them, else None.

    They are the second tensor of a `TensorDataset`, or the attribute ``targets`` or ``y``, also of
    a dataset inside of a `Subset` or of several in a `ConcatDataset`.
    """
    from torch.utils.data import ConcatDataset, Subset, TensorDataset

    if isinstance(dataset, Subset):
        y = stored_targets(dataset.dataset)
        return None if y is None else y[np.asarray(dataset.indices)]
    if isinstance(dataset, ConcatDataset):
        parts = [stored_targets(part) for part in dataset.datasets]
        found = [part for part in parts if part is not None]
        return np.concatenate(found) if len(found) == len(parts) else None
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        return np.asarray(dataset.tensors[1])
    y = getattr(dataset, "y", getattr(dataset, "targets", None))
    return None if y is None or isinstance(y, Mapping) else np.asarray(y)


def probe_rows(n: int) -> list[int]:
    """Return the numbers of a few rows out of `n`, evenly spaced, with the first and the last."""
    return sorted({int(i) for i in np.linspace(0, n - 1, min(n, _N_PROBED)).round()})


def check_structure(items: Iterable[tuple[int, Any]], *, shapes: bool = False) -> None:
    """Raise ValueError if items of a dataset, given with their numbers, differ in structure.

    Lengths of arrays may differ unless `shapes` is true, their dimensions may not.
    """
    first: tuple[int, Any] | None = None
    for number, item in items:
        found = structure_of(item, shapes=shapes)
        if first is None:
            first = number, found
        elif found != first[1]:
            raise ValueError(
                f"all items of a Dataset must have the same structure, but item {first[0]} is "
                f"{first[1]} and item {number} is {found}; return the same kinds in the same order"
                + (", or pad sequences by collate='pad'" if shapes else "")
            )


def structure_of(item: Any, *, shapes: bool = False) -> str:
    """Describe what an item consists of: containers, keys, dimensions or shapes of arrays."""

    def inside(value: Any) -> str:
        return structure_of(value, shapes=shapes)

    if isinstance(item, Mapping):
        inner = ", ".join(f"{key!r}: {inside(value)}" for key, value in item.items())
        return f"{{{inner}}}"
    if isinstance(item, tuple):
        return f"({', '.join(map(inside, item))})"
    if isinstance(item, str | bytes):
        return "a text"
    if isinstance(item, list):
        return "a list"
    shape = getattr(item, "shape", None)
    if isinstance(item, bool | int | float) or (shape is not None and len(shape) == 0):
        return "a number"
    if shape is not None and shapes:
        return f"an array of shape {tuple(shape)}"
    if shape is not None:
        return f"an array of {len(shape)} dimension{'s' if len(shape) > 1 else ''}"
    return f"a {type(item).__name__}"
