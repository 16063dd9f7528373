"""Items of a dataset: as rows, which are read when a batch needs them, and their targets."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Subset, TensorDataset, default_collate

from ..datasets import check_structure, probe_rows, stored_targets
from .batches import MayHaveChildren, start_method
from .data import Rows
from .forwarding import row_count
from .randomness import OwnGenerators, Stream, noticing_seeds

__all__ = [
    "EncodedTargets",
    "ItemRows",
    "LabelledItems",
    "fetch",
    "is_pair",
    "is_same",
    "pad_items",
    "probed_items",
    "targets_of",
]

# Items whose targets are read in one go.
_ITEMS_AT_ONCE = 64


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


def pad_items(items: Any) -> Any:
    """Collate items of a dataset: sequences are padded with zeros, and their lengths are added.

    Items are pairs of inputs and target, or inputs only; inputs are one sequence, or a dict, list
    or tuple of sequences and numbers. The padded ones are a dict, with a key ``("lengths", name)``
    for each sequence, where those of a single one and of a tuple have their positions as names.
    """
    if all(map(is_pair, items)):
        inputs, targets = zip(*items, strict=True)
        return _padded(inputs), default_collate(list(targets))
    return _padded(items)


def _padded(inputs: Any) -> Any:
    first = inputs[0]
    columns: dict[Any, Any]
    if isinstance(first, Mapping):
        columns = {name: [one[name] for one in inputs] for name in first}
    elif isinstance(first, list | tuple) and first and np.ndim(first[0]) > 0:
        columns = dict(enumerate(zip(*inputs, strict=True)))
    else:
        columns = {0: inputs}
    batch = {}
    for name, values in columns.items():
        if isinstance(name, tuple):  # lengths of what was padded before
            continue
        tensors = [torch.as_tensor(value) for value in values]
        if tensors[0].ndim == 0:
            batch[name] = torch.stack(tensors)
            continue
        if len({one.shape[1:] for one in tensors}) > 1:
            raise ValueError(
                "sequences of a batch may differ in their first dimension only, but have the "
                f"shapes {', '.join(sorted({str(tuple(one.shape)) for one in tensors}))}"
            )
        batch[name] = pad_sequence(tensors, batch_first=True)
        batch["lengths", name] = torch.tensor([len(one) for one in tensors])
    return batch


def read_items(dataset: Any, numbers: list[int]) -> Any:
    """Return items of a map-style dataset, for what collates them.

    A dataset with ``__getitems__``, as torch's loaders use it, reads them together.
    """
    read = getattr(dataset, "__getitems__", None)
    return read(numbers) if callable(read) else [dataset[i] for i in numbers]


class EncodedTargets(torch.utils.data.Dataset[Any]):
    """A user's dataset with targets encoded by `encode`, a function of arrays."""

    def __init__(self, dataset: Any, encode: Any) -> None:
        self.dataset = dataset
        self.encode = encode

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> Any:
        return self._encoded(self.dataset[i])

    def __getitems__(self, numbers: list[int]) -> Any:
        return [self._encoded(item) for item in read_items(self.dataset, numbers)]

    def _encoded(self, item: Any) -> Any:
        X, y, *rest = item
        return X, self.encode(np.asarray([y]))[0], *rest


class LabelledItems(torch.utils.data.Dataset[Any]):
    """A dataset whose items are inputs only, with the targets `y`."""

    def __init__(self, dataset: Any, y: Any) -> None:
        self.dataset = dataset
        self.y = y

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> Any:
        return self.dataset[i], self._target(i)

    def __getitems__(self, numbers: list[int]) -> Any:
        items = read_items(self.dataset, numbers)
        return [(item, self._target(i)) for item, i in zip(items, numbers, strict=True)]

    def _target(self, i: int) -> Any:
        if isinstance(self.y, Mapping):
            return {name: value[i] for name, value in self.y.items()}
        return self.y[i]


def probed_items(dataset: Any) -> Any:
    """Return a few items of a map-style dataset as pairs (number, item), and check their structure.

    Raises ValueError if they differ in structure, or one cannot be read; warns if the first one is
    another when it is read again, or items seed torch's generator. No global generator of torch is
    used.
    """
    try:
        numbers = probe_rows(len(dataset))
    except TypeError as error:
        raise TypeError(
            f"a torch Dataset must have a length, but {type(dataset).__name__} has none ({error}); "
            "give it __len__, or make it an IterableDataset"
        ) from error
    items = []
    with noticing_seeds() as seeded, OwnGenerators(Stream(0, "probe")):
        for number in numbers:
            try:
                items.append((number, dataset[number]))
            except Exception as error:
                raise ValueError(
                    f"a Dataset must yield the items 0 to {len(dataset) - 1}, but for item "
                    f"{number} this {type(dataset).__name__} raised {type(error).__name__}: {error}"
                ) from error
        if seeded():
            warnings.warn(
                "what an item of a Dataset draws by torch comes from the seed of the fit, but this "
                f"{type(dataset).__name__} seeds torch's global generator when an item is read, "
                "which has no effect on these draws and disturbs others; draw from a generator of "
                "the item, generator=torch.Generator().manual_seed(number)",
                UserWarning,
                stacklevel=2,
            )
    check_structure(items)
    with OwnGenerators(Stream(0, "probe")):
        again = dataset[items[0][0]]
    if not is_same(items[0][1], again):
        warnings.warn(
            f"an item of a Dataset must be the same when it is read again under the same seed, but "
            f"item {items[0][0]} of this {type(dataset).__name__} is another one, so that the same "
            "random_state gives other results each time; draw random numbers by torch, whose "
            "seed is that of the fit, and not by NumPy, Python's random or a generator of your own",
            UserWarning,
            stacklevel=2,
        )
    return items


def is_same(one: Any, other: Any) -> bool:
    """Whether two items are equal, as far as they consist of numbers."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(is_same(one[k], other[k]) for k in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, torch.Tensor):
        if one.layout is not torch.strided or one.is_nested or one.is_quantized or one.is_meta:
            return True
        if one.is_floating_point():  # types of one byte know hardly any operation
            one, other = one.float(), other.float()
        return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, np.ndarray | np.generic | int | float):
        kind = np.asarray(one).dtype.kind
        # Objects may have no equality that is one truth value.
        return kind == "O" or np.array_equal(one, other, equal_nan=kind in "fcmM")
    return True


def is_pair(item: Any) -> bool:
    """Whether an item of a dataset is a pair of inputs and target."""
    return isinstance(item, tuple | list) and len(item) == 2


def targets_of(dataset: Any, report: Any = None, *, num_workers: int = 0) -> Any:
    """Return the targets of a map-style dataset as an array, None if its items have none.

    Those that it stores are used if a few items have them, too; else each item is read once.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
    report : callable or None, default=None
        Called with the number of items that were read.
    num_workers : int, default=0
        Processes that read items.
    """
    items = probed_items(dataset)
    if not all(is_pair(item) for _, item in items):
        return None
    y = stored_targets(dataset)
    if y is not None and len(y) == len(dataset) and all(_has(item, y[i]) for i, item in items):
        return y
    generator = torch.Generator().manual_seed(0)
    settings: dict[str, Any] = {
        "batch_size": _ITEMS_AT_ONCE,
        "generator": generator,
        "num_workers": num_workers,
    }
    if num_workers:
        settings["multiprocessing_context"] = start_method()
    targets = []
    with OwnGenerators(Stream(0, "targets")), MayHaveChildren():
        for part in DataLoader(dataset, collate_fn=_targets_only, **settings):
            targets += part
            if report is not None:
                report(len(targets))
    if isinstance(targets[0], Mapping):
        return {name: np.asarray([one[name] for one in targets]) for name in targets[0]}
    return np.asarray(targets)


def _has(item: Any, target: Any) -> Any:
    return np.array_equal(np.asarray(item[1]), np.asarray(target))


def _targets_only(items: Any) -> Any:
    check_structure(enumerate(items))
    return [y if isinstance(y, Mapping) else np.asarray(y) for _, y in items]
