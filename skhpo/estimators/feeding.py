"""From checked data to the batches of a network, in training and in prediction.

Training, checks, predictions and the first batch use the same way from data to the module:
`checked_inputs` (``validation``), `rows_of`, `batches_of`. It has three forms.

* Arrays are `Rows`, of which batches are slices.
* The items of a torch `Dataset`, or of one that is made of the data as given (``dataset``,
  ``get_dataset``, a lazy sequence), are `ItemRows`, read batch by batch; also `Rows` that an
  iterator has to collate.
* An iterator of the user's, or one with an order of its own, makes the batches itself.

What `transform` and `train_transform` make of the inputs is applied to batches as they come.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NoReturn

import numpy as np
import skorch.dataset
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.utils import to_device
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from ..rows import RowSubset
from ..training.batches import (
    LoaderBatches,
    MayHaveChildren,
    RowBatches,
    inputs_of,
    start_method,
    unpack,
)
from ..training.data import Rows, floating_dtype, wants_integers
from ..training.forwarding import cast_bytes, cast_floats, row_count
from ..training.items import EncodedTargets, ItemRows, fetch, targets_of
from ..training.randomness import LentGenerators, OwnGenerators, Stream
from ..training.sequences import lengths_of
from ..training.sparse import is_worth_it
from ._items import ORDERS, ItemReader, collate_of
from .settings import (
    changed_settings,
    collates_plainly,
    overridden,
    reads_as_given,
    reads_by_number,
    slices_batches,
)
from .transforms import batch_transform
from .validation import NO_BATCHES, check_inputs, refuse_weights

__all__ = [
    "batches_of",
    "drawing_from",
    "encode_as_trained",
    "first_batch",
    "first_rows",
    "input_dtypes",
    "lengths_to_sort",
    "make_iterator",
    "net_rows",
    "prepared_inputs",
    "read_targets",
    "rows_at_once",
    "rows_of",
    "split_rows",
    "zeros_for",
]

# Limits of the batches of predictions where they exceed `batch_size`.
_MOST_ROWS_AT_ONCE = 1024
_BYTES_AT_ONCE = 2**23
# Rows with which the module is tested.
_FEW = 8


class NetRows(Rows, skorch.dataset.Dataset):  # type: ignore[misc] # skorch has no types
    """`Rows` that skorch's callbacks accept as a dataset."""


def rows_of(net: Any, X: Any, y: Any = None, weight: Any = None, *, training: bool) -> Any:
    """Return the source of batches: `Rows`, or a `Dataset` for a `DataLoader`.

    `X` is an ndarray, CSR matrix, dict of ndarray, container as given, or torch Dataset; `y` are
    encoded targets.
    """
    if isinstance(X, Rows):
        return X
    y = None if y is None else net._targets.scale(y)
    if isinstance(X, Dataset) or reads_as_given(net, X):
        dataset = X if isinstance(X, Dataset) else net.get_dataset(X, y)
        return _as_items(net, dataset, y, weight, training=training)
    if not slices_batches(net, training=training):
        rows = NetRows(X, y, dtype=input_dtypes(net))
        return _as_items(net, rows, y, weight, training=training)
    sliced = net_rows(net, X, None if y is None else net._shape_targets(y), weight)
    sliced.balance = _classes_to_balance(net, y)
    return sliced


def net_rows(net: Any, X: Any, y: Any = None, weight: Any = None) -> Rows:
    """Return checked arrays as `Rows`, with targets as the criterion takes them."""
    return NetRows(X, y, weight, dtype=input_dtypes(net), device=net.device_)


def _as_items(net: Any, dataset: Any, y: Any = None, weight: Any = None, *, training: bool) -> Any:
    """Return a dataset as `ItemRows`, or unchanged if its items are not read by number."""
    if reads_by_number(net, dataset, training=training):
        balance = _classes_to_balance(net, y) if training else None
        return ItemRows(dataset, y, weight, balance, device=net.device_)
    if training and getattr(net, "batch_sampler", None) is not None:
        raise ValueError(
            f"batch_sampler={net.batch_sampler!r} needs a torch Dataset of which iterator_train "
            "reads any item by number"
        )
    if weight is not None:
        refuse_weights(net, training)
    return dataset


def _classes_to_balance(net: Any, y: Any) -> Any:
    return None if getattr(net, "batch_sampler", None) is None else y


def input_dtypes(net: Any) -> Any:
    """Return the type of the module's inputs, by name where they are several."""
    floating, keep = floating_dtype(net.module_), wants_integers(net.module_)
    dtypes = {
        name: torch.int64 if keep and was_integer else floating
        for name, was_integer in net._integer_inputs.items()
    }
    return dtypes.get(None, dtypes)


def split_rows(net: Any, dataset: Any, X: Any, y: Any, split_params: Mapping[str, Any]) -> Any:
    """Return the training part, and the part scored after each epoch or None."""
    if overridden(net, "get_split_datasets"):
        return net.get_split_datasets(X, y, **split_params)
    if not net.train_split:
        return dataset, None
    train, valid = net.train_split(dataset, *(() if y is None else (y,)), **split_params)
    all_are_trained_on = train is dataset
    train, valid = (_part_as_rows(net, part, dataset) for part in (train, valid))
    for name in ("weight", "balance") if isinstance(dataset, Rows) else ():
        if getattr(dataset, name) is not None and getattr(train, name, None) is None:
            raise ValueError(
                "sample_weight, class_weight and batch_sampler need a train_split that trains "
                "on a subset (torch.utils.data.Subset) of what it is given, but "
                f"{net.train_split!r} returned a {type(train).__name__} of its own"
            )
    if all_are_trained_on and net._targets_are_encoded:
        # The validation part is another dataset, with the user's targets.
        valid = _with_encoded_targets(net, valid)
    return train, valid


def _part_as_rows(net: Any, part: Any, whole: Any) -> Any:
    """Return the part of `Rows` that `train_split` made as `Rows`."""
    if not isinstance(whole, Rows) or part is whole:
        return part
    index: Any = slice(None)
    source = part
    while isinstance(source, Subset):
        index, source = np.asarray(source.indices)[index], source.dataset
    if source is whole:
        return whole.subset(index)
    if isinstance(part, Rows):
        if part.y is None:
            raise ValueError(
                "train_split must return data with targets, but for "
                f"{net.train_split!r} y is None; pass it the rows of y"
            )
        return net_rows(net, part.X, net._shape_targets(np.asarray(part.y)))
    return part


def _with_encoded_targets(net: Any, valid: Any) -> Any:
    """Return a user's validation set with encoded targets."""
    if valid is None or isinstance(valid, Rows):
        return valid
    if type(valid) is skorch.dataset.Dataset and not reads_as_given(net, valid.X):
        try:
            X, y = check_inputs(net, valid.X, valid.y, reset=False, needs_y=True)
            y = net._check_targets(y, None, False)
        except ValueError as error:
            raise ValueError(
                f"the validation data of train_split must be like X and y, but: {error}"
            ) from error
        return rows_of(net, X, y, training=False)
    return EncodedTargets(valid, partial(encode_as_trained, net))


def encode_as_trained(net: Any, y: Any) -> Any:
    """Encode and scale targets of a `Dataset`."""
    return net._targets.scale(net._targets.encode_items(y))


def read_targets(net: Any, dataset: Any, report: Callable[[int], object] | None = None) -> Any:
    """Read the targets of a dataset once; None if its items have none.

    They are those of the items, or of the batches where code of the user's makes these.
    """
    if collates_plainly(net, training=False) and not isinstance(dataset, IterableDataset):
        workers = vars(net).get("iterator_valid__num_workers", 0)
        return targets_of(dataset, report, num_workers=workers)
    with OwnGenerators(Stream(0, "targets")):
        batches = net.get_iterator(dataset, training=False)
        targets = [np.asarray(unpack(batch)[1]) for batch in batches]
    if not targets:
        raise ValueError(NO_BATCHES)
    return np.concatenate(targets)


def batches_of(net: Any, dataset: Any, *, training: bool) -> Any:
    """Return the batches of what `rows_of` returned."""
    batches = _plain_batches(net, dataset, training=training)
    if net._transforms:
        batches.change = batch_transform(net, training=training)
    return batches


def _plain_batches(net: Any, dataset: Any, *, training: bool) -> Any:
    dataset, makes_batches = _readable(net, dataset, training=training)
    if not makes_batches:
        stream = net._state.streams["forward"] if training else Stream(0, "loader")
        iterator = net.get_iterator(dataset, training=training)
        return LoaderBatches(iterator, stream, partial(_prepared_batch, net))
    settings = net.get_params_for("iterator_train" if training else "iterator_valid")
    batch_size = settings.get("batch_size", net.batch_size)
    any_size = not training and "batch_size" not in settings and batch_size != -1
    if dataset.are_items and dataset.reader.needs_loader:
        any_size = False  # several batches, for several processes
    if batch_size == -1:
        batch_size = len(dataset)
    sparse = _may_skip_zeros(net, dataset)
    if sparse:
        at_once = _sparse_rows_at_once(net) if any_size else batch_size
        sparse = is_worth_it(dataset.source.matrix, at_once)
    if any_size:
        batch_size = at_once if sparse else rows_at_once(net)
    generator = None
    if training and settings.get("shuffle", True):
        generator = net._state.streams["shuffle"].generator()
    return RowBatches(
        dataset,
        batch_size,
        generator,
        bool(training and settings.get("drop_last", False)),
        partial(setattr, net, "_batch_weight"),
        dataset.balance if training else None,
        sparse=sparse,
        lengths=_lengths_to_group(net, dataset) if training else None,
        joins=training,
    )


def _readable(net: Any, dataset: Any, *, training: bool) -> tuple[Any, bool]:
    """Return `Rows` that make batches and True, or what an iterator reads and False."""
    if isinstance(dataset, Rows) and not dataset.are_items:
        if slices_batches(net, training=training):
            return dataset, True
        rows = dataset.on_cpu()
        dataset = ItemRows(rows, weight=rows.weights, balance=rows.balance, device=net.device_)
    elif not isinstance(dataset, Rows):
        dataset = _as_items(net, dataset, training=False)
    if not isinstance(dataset, ItemRows):
        return dataset, False
    if not reads_by_number(net, dataset.dataset, training=training):
        return dataset.given, False
    targets = None
    if isinstance(dataset.encoded, np.ndarray):
        targets = torch.as_tensor(net._shape_targets(dataset.encoded), device=net.device_)
    reader = ItemReader(net, partial(_prepared_batch, net), training=training)
    return dataset.read_by(reader, targets), True


def _lengths_to_group(net: Any, rows: Any) -> Any:
    """Return the lengths by which rows are grouped into batches, None if they are not."""
    if getattr(net, "batch_sampler", None) is not None:
        return None  # which orders the rows
    X = rows.given if rows.are_items else rows.source
    lengths = lengths_to_sort(net, X)
    if lengths is None and net.group_by_length is True:
        raise ValueError(
            "group_by_length=True needs the lengths of sequences: X as a list of them, or a "
            "Dataset with an attribute `lengths`, a number for each item, but X is a "
            f"{type(X).__name__}; set group_by_length=False"
        )
    if lengths is not None and not rows.are_items and rows.index is not None:
        lengths = lengths[rows.index.numpy()]
    return lengths


def lengths_to_sort(net: Any, X: Any) -> NDArray[Any] | None:
    """Return the lengths of sequences that are to be grouped by them, else None."""
    if not net.group_by_length or (net.group_by_length == "auto" and net.collate != "pad"):
        return None
    lengths = lengths_of(X.given if isinstance(X, ItemRows) else X)
    are_equal = lengths is not None and len(lengths) and lengths.min() == lengths.max()
    return None if are_equal and net.group_by_length == "auto" else lengths


def _may_skip_zeros(net: Any, rows: Rows) -> bool:
    """Whether batches may be sparse: the rows can be, and only the module gets them."""
    plain = rows.can_be_sparse and not net.compile and not net.has_own_epochs
    return plain and not net._transforms and net._forward_of_training() is net.module_


def rows_at_once(net: Any) -> int:
    """Return the batch size of predictions.

    `batch_size`, or up to 1,024 if all results of operations together take at most 8 MiB.
    """
    size: int = net.batch_size
    row_bytes: int | None = net._row_bytes
    if not row_bytes:
        return size
    return max(size, min(_MOST_ROWS_AT_ONCE, _BYTES_AT_ONCE // row_bytes))


def _sparse_rows_at_once(net: Any) -> int:
    """Return the same for sparse rows, for which each product reads all weights.

    The results then take as much memory as the weights.
    """
    size: int = net.batch_size
    parameters = list(net.module_.parameters())
    item: int = parameters[0].element_size() if parameters else 1
    results: int = (net._row_bytes or 0) - item * math.prod(net.input_shape_)
    weights: int = sum(p.numel() * p.element_size() for p in parameters)
    return max(size, weights // max(results, item))


def make_iterator(net: Any, dataset: Any, *, training: bool) -> Any:
    """Make the iterator of a dataset, which draws from a stream of the net's."""
    component = "iterator_train" if training else "iterator_valid"
    factory = getattr(net, component)
    if factory is not DataLoader:
        return NeuralNet.get_iterator(net, dataset, training=training)
    kwargs = {"batch_size": net.batch_size, **changed_settings(net, component)}
    if net.collate is not None:
        kwargs["collate_fn"] = collate_of(net, kwargs)
    if kwargs.get("batch_sampler") is not None:
        kwargs.pop("batch_size")
    elif kwargs["batch_size"] == -1:
        kwargs["batch_size"] = len(dataset)
    if kwargs.get("num_workers"):
        kwargs.setdefault("multiprocessing_context", start_method())
    in_any_order = isinstance(dataset, IterableDataset)
    if training and not in_any_order and not ORDERS & set(kwargs):
        kwargs["shuffle"] = True
    # Without a generator a DataLoader draws from torch's global one, even without shuffling.
    stream = net._state.streams["shuffle"] if training else Stream(0, "loader")
    kwargs.setdefault("generator", stream.generator())
    return factory(dataset, **kwargs)


def _prepared_batch(net: Any, batch: Any, *, targets: bool = True) -> tuple[Any, Any]:
    """Return inputs and encoded targets of a loader's batch; None without `targets`."""
    if not targets:
        return prepared_inputs(net, inputs_of(batch)), None
    X, y = unpack(batch)
    return prepared_inputs(net, X), _encoded_batch(net, y)


def _encoded_batch(net: Any, y: Any) -> Any:
    """Return the targets of a loader's batch as the criterion takes them, on the device."""
    device, dtype = net.device_, net._targets.dtype
    if isinstance(y, Mapping):
        made = {name: torch.as_tensor(value) for name, value in y.items()}
        kinds = {True: torch.float32, False: torch.int64}
        return {k: value.to(device, kinds[value.is_floating_point()]) for k, value in made.items()}
    if not net._targets_are_encoded:
        y = encode_as_trained(net, y)
    if net._class_weight_of_loader is not None:
        weight = net._class_weight_of_loader[np.asarray(y)].astype(np.float32)
        net._batch_weight = torch.as_tensor(weight, device=device)
    y = y if dtype is None else torch.as_tensor(y, dtype=dtype, device=device)
    return torch.as_tensor(net._shape_targets(y), device=device)


def drawing_from(net: Any, stream: Stream) -> AbstractContextManager[Any]:
    """Return a context in which forward passes draw from a stream."""
    if net.compile:
        devices = {torch.device("cpu"), torch.zeros(0, device=net.device_).device}
        return LentGenerators(stream, *devices)
    return OwnGenerators(stream)


def prepared_inputs(net: Any, X: Any) -> Any:
    """Return a loader's inputs as the module gets them, apart from transforms."""
    floating = floating_dtype(net.module_)
    X = cast_floats(to_device(X, net.device_), floating)
    if "transform" in net._transforms:  # which may scale bytes
        return X
    return cast_bytes(X, torch.int64 if wants_integers(net.module_) else floating)


def first_batch(net: Any, X: Any, y: Any = None) -> Any:
    """Return a first batch of the module's inputs and the targets, without global generators.

    `X` and `y` are as in `rows_of`.
    """
    if not isinstance(X, Dataset):
        if reads_as_given(net, X):
            X = net.get_dataset(X, y)
        else:
            X, y = first_rows(X), None if y is None else y[:_FEW]
            if slices_batches(net, training=False):
                return X, y
            X = NetRows(X, y)
    few = _few(net, X)
    with OwnGenerators(Stream(0, "first batch")), MayHaveChildren():
        try:
            batch = next(iter(net.get_iterator(few, training=False)), None)
        except RuntimeError as error:
            if "equal size" not in str(error):
                raise
            raise ValueError(
                "rows must have one shape, or iterator_train__collate_fn and "
                "iterator_valid__collate_fn (or collate, such as collate='pad') must make one "
                f"of them, but: {error}"
            ) from error
    if batch is None:
        raise ValueError(NO_BATCHES)
    if few is not X:
        settings = {"batch_size": net.batch_size, **changed_settings(net, "iterator_valid")}
        n_items = len(few)
        if settings["batch_size"] not in (-1, None):
            n_items = min(n_items, settings["batch_size"])
        n_made = row_count(inputs_of(batch)) or n_items
        if n_made != n_items:
            _refuse_to_drop(n_items, n_made)
        _check_training_collates(net, few)
    return unpack(batch)


def _few(net: Any, dataset: Any) -> Any:
    """Return the first rows of a dataset, or all if the loader may read any of them."""
    settings = changed_settings(net, "iterator_valid")
    own = net.iterator_valid is not DataLoader or overridden(net, "get_iterator")
    if own or isinstance(dataset, IterableDataset) or {"sampler", "batch_sampler"} & set(settings):
        return dataset
    return Subset(dataset, range(min(_FEW, len(dataset))))


def _check_training_collates(net: Any, few: Any) -> None:
    """Raise ValueError if what collates items for training drops some of a few."""
    collate = collate_of(net, changed_settings(net, "iterator_train"))
    same = collate_of(net, changed_settings(net, "iterator_valid"))
    if collate is not same and reads_by_number(net, few, training=True):
        try:
            with OwnGenerators(Stream(0, "first batch")):
                X = inputs_of(fetch(few, list(range(len(few))), collate))
        except Exception:
            return  # it may need a whole batch; any other error is raised in training
        if 0 < row_count(X) < len(few):
            _refuse_to_drop(len(few), row_count(X))


def _refuse_to_drop(n_items: int, n_made: int) -> NoReturn:
    raise ValueError(
        f"what collates the items of a Dataset must return a row for each, but of {n_items} items "
        f"it made {n_made} rows; leave items out of the Dataset instead"
    )


def first_rows(X: Any) -> Any:
    """Return a few rows of checked arrays."""
    if isinstance(X, Mapping):
        return {name: value[:_FEW] for name, value in X.items()}
    few = X[:_FEW]
    if isinstance(X, RowSubset):
        return np.asarray(few)
    return few.toarray() if hasattr(few, "toarray") else few


def zeros_for(net: Any) -> Any:
    """Return zeros in place of a few rows, as the module of a built net gets them."""
    shape, dtype = (2, *net.input_shape_), input_dtypes(net)
    few = torch.zeros(shape, dtype=dtype, device=net.device_)
    change = batch_transform(net, training=False) if net._transforms else None
    return few if change is None else change(few)
