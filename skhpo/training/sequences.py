"""Sequences of different lengths, and padded batches of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["RaggedRows", "Sequences", "as_batch", "lengths_of"]


@dataclass(frozen=True)
class Sequences:
    """Sequences in one array; rows of them are views.

    Parameters
    ----------
    values : ndarray of shape (n_values, ...)
        The items of all sequences.
    starts, lengths : ndarray of int, shape (n_samples,)
        Where each of them begins, and how many items it has.
    """

    values: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, rows: Any, name: str = "X") -> Any:
        """Join rows (a list of arrays or lists, or an array of at least two dimensions).

        ValueError, which uses `name`, if their items are not numbers of one shape, all finite.
        """
        if isinstance(rows, np.ndarray) and rows.dtype != object:
            n, length = rows.shape[:2]
            values = rows.reshape(n * length, *rows.shape[2:])
            found = cls(values, np.arange(n) * length, np.full(n, length))
        else:
            arrays = [np.asarray(row) for row in rows]
            lengths = np.array([len(one) for one in arrays], dtype=np.int64)
            # An empty list has no type.
            filled = [one for one in arrays if len(one)] or arrays[:1]
            _check_items(filled, name)
            found = cls(np.concatenate(filled), np.cumsum(lengths) - lengths, lengths)
        if found.values.dtype.kind not in "biuf":
            raise ValueError(
                f"sequences in {name} must be of numbers, but are of the type "
                f"{found.values.dtype}; give each token a number"
            )
        if not np.isfinite(found.values).all():
            raise ValueError(f"sequences in {name} must be finite, but {name} contains NaN or inf")
        return found

    @property
    def shape(self) -> Any:
        return (len(self.lengths),)

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: Any) -> Any:
        return Sequences(self.values, self.starts[rows], self.lengths[rows])

    def rows(self) -> Any:
        """Return the sequences one by one, as a list of arrays."""
        pairs = zip(self.starts.tolist(), self.lengths.tolist(), strict=True)
        return [self.values[start : start + length] for start, length in pairs]


def _check_items(arrays: Any, name: str) -> None:
    shape = arrays[0].shape[1:]
    for number, one in enumerate(arrays):
        if one.ndim == 0 or one.dtype == object or one.shape[1:] != shape:
            raise ValueError(
                f"sequences in {name} may differ in their first dimension only, but one has the "
                f"shape {arrays[0].shape} and sequence {number} of those that are not empty "
                f"{one.shape if one.dtype != object else 'of no array'}"
            )


class RaggedRows:
    """The interface of a tensor that `Rows` needs, over `Sequences`: rows are padded with zeros."""

    def __init__(self, sequences: Any) -> None:
        self.sequences = sequences
        self.values = torch.as_tensor(sequences.values)
        self.starts = torch.as_tensor(sequences.starts)
        self.lengths = torch.as_tensor(sequences.lengths)
        self.shape = sequences.shape
        self.dtype = self.values.dtype

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        return RaggedRows(self.sequences[np.asarray(index)])

    def numel(self) -> Any:
        """Return the number of values, without padding."""
        return int(self.lengths.sum()) * int(np.prod(self.values.shape[1:], dtype=int))

    def index_select(self, dim: int, index: Any) -> Any:
        """Return rows as a tensor of shape (len(index), longest, ...)."""
        starts, lengths = self.starts[index], self.lengths[index]
        place = torch.arange(max(1, int(lengths.max()) if len(index) else 1))
        inside = place < lengths[:, None]
        rest = self.values.shape[1:]
        if not len(self.values):
            return self.values.new_zeros((*inside.shape, *rest))
        which = (starts[:, None] + place).clamp_(max=len(self.values) - 1)
        padded = self.values.index_select(0, which.flatten()).view(*which.shape, *rest)
        return padded.masked_fill_(~inside.view(*inside.shape, *[1] * len(rest)), 0)


def as_batch(few: Any) -> Any:
    """Return rows of checked data, an array or a dict, as a batch of tensors; others unchanged.

    `Sequences` among several inputs are padded, and their lengths are added.
    """
    if isinstance(few, list | tuple):
        return few
    batch: dict[Any, Any] = {}
    for name, value in (few if isinstance(few, Mapping) else {None: few}).items():
        if isinstance(value, Sequences):
            ragged = RaggedRows(value)
            batch[name] = ragged.index_select(0, torch.arange(len(ragged)))
            batch["lengths", name] = ragged.lengths
        else:
            made = value if isinstance(value, torch.Tensor) else np.asarray(value)
            batch[name] = torch.as_tensor(made)
    return batch.get(None, batch)


def lengths_of(X: Any) -> Any:
    """Return the lengths of the rows of sequences, or of the first of several; None if unknown.

    Those of a dataset are its attribute ``lengths``, if that has one for each item.
    """
    if isinstance(X, Mapping):
        found = (lengths_of(value) for value in X.values() if not hasattr(value, "ndim"))
        return next((lengths for lengths in found if lengths is not None), None)
    if isinstance(X, Sequences | RaggedRows):
        return np.asarray(X.lengths)
    if isinstance(X, torch.utils.data.IterableDataset):
        return None
    if isinstance(X, torch.utils.data.Subset):
        lengths = lengths_of(X.dataset)
        return None if lengths is None else lengths[np.asarray(X.indices, dtype=int)]
    if isinstance(X, torch.utils.data.Dataset):
        dataset: Any = X
        lengths, wrapped = getattr(X, "lengths", None), getattr(X, "dataset", None)
        if lengths is None:
            lengths = None if wrapped is None else lengths_of(wrapped)
        # They may be something else, and a wrapper may choose or repeat items.
        return np.asarray(lengths) if np.shape(lengths) == (len(dataset),) else None
    return None
