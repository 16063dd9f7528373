"""Items of a dataset as rows, which are read when a batch needs them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset, TensorDataset, default_collate

from ..datasets import check_structure
from .data import Rows
from .forwarding import row_count
from .loading import read_items

__all__ = ["ItemRows", "fetch"]


class ItemRows(Rows):
    """Items of a map-style dataset, as `Rows`. As a dataset it has the items as they are.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        Its items are pairs of inputs and target, or inputs only.
    y : ndarray of shape (n_samples, ...) or None, default=None
        Encoded targets, for strata; batches have those of the items.
    weight : ndarray of shape (n_samples,) or None, default=None
        Sample weights.
    balance : ndarray of shape (n_samples,) or None, default=None
        Classes, of which batches have equal numbers of rows.
    device : torch.device
        Of the module.
    """

    are_items = True
    source: Any = None
    dtype: Any = None
    reader: Any = None
    _formats: Any = None

    def __init__(
        self,
        dataset: Any,
        y: Any = None,
        weight: Any = None,
        balance: Any = None,
        *,
        device: torch.device,
    ) -> None:
        self.dataset = dataset
        self.encoded = y
        self.weight = None if weight is None else torch.as_tensor(weight, device=device)
        self.balance = balance
        self.device = device
        self.index = self.targets = None
        self.resident, self.read_only = False, ()

    def __len__(self) -> int:
        return len(self.dataset) if self.index is None else len(self.index)

    def __getitem__(self, i: int) -> Any:
        return self.dataset[i if self.index is None else int(self.index[i])]

    @property
    def given(self) -> Any:
        """The dataset that was given, or a `Subset` of it."""
        return self.dataset if self.index is None else Subset(self.dataset, self.index.tolist())

    @property
    def X(self) -> Any:
        """The inputs, for scorers and splits: the items."""
        return self.given

    @property
    def y(self) -> Any:
        """The encoded targets as an array, None if they are not known."""
        chosen = slice(None) if self.index is None else self.index.numpy()
        return None if self.encoded is None else self.encoded[chosen]

    @property
    def is_ragged(self) -> Any:
        """True: what items become is only known of a batch."""
        return True

    @property
    def can_be_sparse(self) -> Any:
        """False: a dataset has no CSR matrix."""
        return False

    def read_by(self, reader: Any, targets: Any = None) -> Any:
        """Return these rows for a reader, which makes batches of items.

        ``reader.batches(dataset, numbers, targets=...)`` yields a pair (X, y) for each list of
        numbers; ``reader.formats(dataset, number)`` returns shape and type of a row of both, as one
        item has them, None if they are only known of a batch. `targets` are those of all items, if
        they are known.
        """
        part = copy.copy(self)
        part.reader, part.targets = reader, targets
        return part

    @property
    def formats(self) -> Any:
        """Shape and type of a row of the inputs, and of the targets, as the first item has them.

        None if they are only known of a batch.
        """
        if self._formats is None:
            number = 0 if self.index is None else int(self.index[0])
            self._formats = (self.reader.formats(self.dataset, number),)
        return self._formats[0]

    def take(self, index: torch.Tensor, *, sparse: bool = False) -> Any:
        """Read some items as one batch; see `Rows`."""
        X, y, weight, _ = next(self._read([index]))
        return X, y, weight

    def few(self, n: int) -> Any:
        """Return the inputs of the first rows, without a draw from the stream of training."""
        numbers = list(range(n)) if self.index is None else self.index[:n].tolist()
        return self.reader.probe(self.dataset, numbers)[0]

    def read(self, numbers: list[int]) -> Any:
        """Return items of the dataset, a list of numbers, as a batch (X, y)."""
        return next(self.reader.batches(self.dataset, [numbers]))

    def view(self, index: torch.Tensor) -> Any:
        """Return the rows of `index` as rows of the same dataset."""
        part = copy.copy(self)
        index = torch.as_tensor(np.asarray(index), dtype=torch.int64)
        part.index = index if self.index is None else self.index[index]
        part.balance = None if self.balance is None else self.balance[index.numpy()]
        return part

    subset = view

    def on_cpu(self) -> Any:
        """Return these rows: items are where their dataset has them."""
        return self

    def chunks(
        self,
        order: torch.Tensor,
        sizes: list[int],
        *,
        sparse: bool = False,
        targets: Any = True,
    ) -> Any:
        """Yield `(X, y, weight, sizes)` for each batch; see `Rows`."""
        return self._read(order.split(sizes), targets)

    def _read(self, parts: Any, targets: Any = True) -> Iterator[Any]:
        chosen = [part if self.index is None else self.index[part] for part in parts]
        numbers = [part.tolist() for part in chosen]
        batches = self.reader.batches(self.dataset, numbers, targets=targets)
        for part, (X, y) in zip(chosen, batches, strict=True):
            n_made, weight = row_count(X), None
            # In training a batch may have further rows, made of those of its items.
            further = self.reader.training and self.weight is None and n_made > len(part)
            if n_made != len(part) and not further:
                raise ValueError(
                    "what collates the items of a Dataset must return a row for each, but of "
                    f"{len(part)} items it made {n_made} rows; leave items out of the Dataset "
                    "instead"
                )
            if self.weight is not None:
                weight = self.weight.index_select(0, part.to(self.device))
            yield X, y, weight, [len(part)]


def fetch(dataset: Any, numbers: list[int], collate: Any = default_collate) -> Any:
    """Return items of a map-style dataset as a batch."""
    if collate is not default_collate:
        return collate(read_items(dataset, numbers))
    inner: Any = dataset
    rows = numbers
    while type(inner) is Subset:
        inner, rows = inner.dataset, [inner.indices[i] for i in rows]
    if type(inner) is TensorDataset:
        index = torch.as_tensor(rows)
        return [tensor[index] for tensor in inner.tensors]
    items = read_items(dataset, numbers)
    try:
        return collate(items)
    except Exception as error:
        check_structure(zip(rows, items, strict=True), shapes=True)
        raise ValueError(f"items of a Dataset must make a batch, but: {error}") from error
