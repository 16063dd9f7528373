"""From checked data to the batches of a network, in training and in prediction."""

from __future__ import annotations

import math

import numpy as np
import skorch.dataset
import torch
from skorch import NeuralNet
from skorch.utils import to_device
from torch.utils.data import DataLoader, IterableDataset, Subset

from ..training.batches import LoaderBatches, RowBatches, inputs_of, start_method, unpack
from ..training.data import Rows, as_container, is_read_by_rows, wants_integers
from ..training.forwarding import cast_bytes, cast_floats
from ..training.items import EncodedTargets, ItemRows, targets_of
from ..training.randomness import OwnGenerators, Stream
from ..training.sequences import lengths_of
from ..training.sparse import is_worth_it
from ._inputs import arranged
from ._items import ORDERS, ItemReader, collate_of, orders_batches
from .settings import TRANSFORMS, HiddenParameter, changed_settings
from .transforms import batch_transform, made_transforms
from .validation import NO_BATCHES, check_container, check_inputs

__all__ = ["FeedingMixin", "NetRows"]

# Settings of an iterator that need no DataLoader: slices of tensors implement the first line, and
# the others do not change the batches.
_ITERATOR_SETTINGS = {
    *("batch_size", "shuffle", "drop_last"),
    *("num_workers", "persistent_workers", "prefetch_factor", "multiprocessing_context"),
    *("pin_memory", "pin_memory_device", "timeout"),
}
# Limits of the batches of predictions where they exceed `batch_size`.
_MOST_ROWS_AT_ONCE = 1024
_BYTES_AT_ONCE = 2**23


class NetRows(Rows, skorch.dataset.Dataset):
    """`Rows` that skorch's callbacks accept as a dataset."""


class FeedingMixin:
    """Datasets and iterators of an estimator: slices of tensors, or skorch's if they are needed.

    Training, checks, predictions and the first batch use the same way from data to the module:
    ``_check_inputs``, ``_as_dataset``, ``_batches``. It has three forms.

    * Arrays are `Rows`, of which batches are slices.
    * The items of a torch `Dataset`, or of one that is made of the data as given (``dataset``,
      ``get_dataset``, a lazy sequence), are `ItemRows`, read batch by batch; also `Rows` that an
      iterator has to collate.
    * An iterator of the user's, or one with an order of its own, makes the batches itself.

    What `transform` and `train_transform` make of the inputs is applied to batches as they come.
    """

    transform = HiddenParameter()
    _transforms = {}
    _transforms_vary = False

    @property
    def transforms_vary(self):
        """Whether what transforms make of rows is known to depend on earlier calls."""
        return self._transforms_vary

    def _make_transforms(self):
        """Make the functions that change batches; those without effect are left out."""
        given = [name for name in TRANSFORMS if vars(self).get(name) is not None]
        self._transforms = made_transforms(self, given) if given else {}

    def _check_inputs(self, X, y=None, *, reset, needs_y):
        """Check `X` and `y` as far as possible."""
        if self._has_own_dataset():
            return check_container(self, X, y, reset=reset)
        is_plain = isinstance(X, np.ndarray) and X.dtype != object
        if self.collate == "pad" or not is_plain:
            X = arranged(self, X, y, reset=reset)
            if is_read_by_rows(X):
                return check_container(self, as_container(X), y, reset=reset)
        return check_inputs(self, X, y, reset=reset, needs_y=needs_y)

    def _as_dataset(self, X, y=None, weight=None, *, training):
        """Return the source of batches: `Rows`, or a `Dataset` for a `DataLoader`.

        `X` is an ndarray, CSR matrix, dict of ndarray, container as given, or torch Dataset; `y`
        are encoded targets.
        """
        if isinstance(X, Rows):
            return X
        y = None if y is None else self._scale_targets(y)
        is_dataset = isinstance(X, torch.utils.data.Dataset)
        if not is_dataset and not self._reads_as_given(X):
            if not self._slices_batches(training=training):
                rows = NetRows(X, y, dtype=self._input_dtypes())
                return self._as_items(rows, y, weight, training=training)
            rows = self._rows(X, None if y is None else self._shape_targets(y), weight)
            rows.balance = None if y is None else self._classes_to_balance(y)
            return rows
        dataset = X if is_dataset else self.get_dataset(X, y)
        return self._as_items(dataset, y, weight, training=training)

    def _as_items(self, dataset, y=None, weight=None, *, training):
        """Return a dataset as `ItemRows`, or unchanged if its items are not read by number."""
        if self._reads_items(dataset, training=training):
            balance = self._classes_to_balance(y) if training else None
            return ItemRows(dataset, y, weight, balance, device=self.device_)
        if training:
            self._refuse_balance("a torch Dataset of which iterator_train reads any item by number")
        if weight is not None:
            self._refuse_weights(training)
        return dataset

    def _reads_items(self, dataset, *, training):
        """Whether batches are made of items that this net asks for by number."""
        plain = type(self).get_iterator is FeedingMixin.get_iterator
        return plain and orders_batches(self, dataset, training=training)

    def _scale_targets(self, y):
        """Scale checked targets, where that is wanted."""
        return y

    def _refuse_weights(self, training):
        name = "iterator_train" if training else "iterator_valid"
        raise ValueError(
            "sample_weight and class_weight need rows that are read by number, but "
            f"{name}={getattr(self, name)!r} with the arguments "
            f"{sorted(changed_settings(self, name))} chooses them itself; leave it at its default, "
            "or override get_loss"
        )

    def _classes_to_balance(self, y):
        return None

    def _refuse_balance(self, needed):
        if getattr(self, "batch_sampler", None) is not None:
            raise ValueError(f"batch_sampler={self.batch_sampler!r} needs {needed}")

    def _rows(self, X, y=None, weight=None):
        return NetRows(X, y, weight, dtype=self._input_dtypes(), device=self.device_)

    def _input_dtypes(self):
        floating = self._floating_dtype()
        keep = wants_integers(self.module_)
        dtypes = {
            name: torch.int64 if keep and was_integer else floating
            for name, was_integer in self._integer_inputs.items()
        }
        return dtypes.get(None, dtypes)

    def _floating_dtype(self):
        floating = (p.dtype for p in self.module_.parameters() if p.is_floating_point())
        return next(floating, torch.get_default_dtype())

    def _has_own_dataset(self):
        return (
            self.dataset is not skorch.dataset.Dataset
            or bool(changed_settings(self, "dataset"))
            or type(self).get_dataset is not NeuralNet.get_dataset
        )

    def _reads_as_given(self, X):
        """Whether `X` is passed to a `Dataset` as given, whose rows may have any type."""
        return self._has_own_dataset() or is_read_by_rows(X)

    def _slices_batches(self, *, training=True):
        """Whether no setting needs a `Dataset` or a `DataLoader`."""
        return (
            self._collates_plainly(training=training)
            and not (training and self._splits_itself())
            and not self._has_own_dataset()
        )

    def _collates_plainly(self, *, training):
        """Whether a batch is what torch makes of the items, by a `DataLoader` or without one."""
        name = "iterator_train" if training else "iterator_valid"
        return (
            getattr(self, name) is DataLoader
            and set(changed_settings(self, name)) <= _ITERATOR_SETTINGS
            and type(self).get_iterator is FeedingMixin.get_iterator
            and not callable(self.collate)
        )

    def _splits_itself(self):
        return type(self).get_split_datasets is not NeuralNet.get_split_datasets

    def _split(self, dataset, X, y, split_params):
        """Return the training part, and the part scored after each epoch or None."""
        if self._splits_itself():
            return self.get_split_datasets(X, y, **split_params)
        if not self.train_split:
            return dataset, None
        train, valid = self.train_split(dataset, *(() if y is None else (y,)), **split_params)
        all_are_trained_on = train is dataset
        train, valid = self._part_as_rows(train, dataset), self._part_as_rows(valid, dataset)
        for name in ("weight", "balance") if isinstance(dataset, Rows) else ():
            if getattr(dataset, name) is not None and getattr(train, name, None) is None:
                raise ValueError(
                    "sample_weight, class_weight and batch_sampler need a train_split that trains "
                    "on a subset (torch.utils.data.Subset) of what it is given, but "
                    f"{self.train_split!r} returned a {type(train).__name__} of its own"
                )
        if all_are_trained_on and self._targets_are_encoded:
            # The validation part is another dataset, with the user's targets.
            valid = self._encoded(valid)
        return train, valid

    def _part_as_rows(self, part, whole):
        """Return the part of `Rows` that `train_split` made as `Rows`."""
        if not isinstance(whole, Rows) or part is whole:
            return part
        index, source = slice(None), part
        while isinstance(source, Subset):
            index, source = np.asarray(source.indices)[index], source.dataset
        if source is whole:
            return whole.subset(index)
        if isinstance(part, Rows):
            if part.y is None:
                raise ValueError(
                    "train_split must return data with targets, but for "
                    f"{self.train_split!r} y is None; pass it the rows of y"
                )
            return self._rows(part.X, self._shape_targets(np.asarray(part.y)))
        return part

    def _encoded(self, valid):
        """Return a user's validation set with encoded targets."""
        if valid is None or isinstance(valid, Rows):
            return valid
        if type(valid) is skorch.dataset.Dataset and not self._reads_as_given(valid.X):
            try:
                X, y = check_inputs(self, valid.X, valid.y, reset=False, needs_y=True)
                y = self._check_targets(y, None, False)
            except ValueError as error:
                raise ValueError(
                    f"the validation data of train_split must be like X and y, but: {error}"
                ) from error
            return self._as_dataset(X, y, training=False)
        return EncodedTargets(valid, self._encode_as_trained)

    def _read_targets(self, dataset, report=None):
        """Read the targets of a dataset once; None if its items have none.

        They are those of the items, or of the batches where code of the user's makes these.
        """
        if self._collates_plainly(training=False) and not isinstance(dataset, IterableDataset):
            workers = vars(self).get("iterator_valid__num_workers", 0)
            return targets_of(dataset, report, num_workers=workers)
        with OwnGenerators(Stream(0, "targets")):
            batches = self.get_iterator(dataset, training=False)
            targets = [np.asarray(unpack(batch)[1]) for batch in batches]
        if not targets:
            raise ValueError(NO_BATCHES)
        return np.concatenate(targets)

    def _labels_of_dataset(self, dataset, report=None):
        """Return the targets of a dataset as predictions have them; None if its items have none."""
        return self._read_targets(dataset, report)

    def _encode_as_trained(self, y):
        return self._scale_targets(self._encode_of_dataset(y))

    def _encode_of_dataset(self, y):
        """Encode targets of a `Dataset`, as `_check_targets` does those of an array."""
        return y

    def _batches(self, dataset, *, training):
        batches = self._plain_batches(dataset, training=training)
        if self._transforms:
            batches.change = batch_transform(self, training=training)
        return batches

    def _plain_batches(self, dataset, *, training):
        dataset, makes_batches = self._readable(dataset, training=training)
        if not makes_batches:
            stream = self._state.streams["forward"] if training else Stream(0, "loader")
            iterator = self.get_iterator(dataset, training=training)
            return LoaderBatches(iterator, stream, self._prepare_batch)
        settings = self.get_params_for("iterator_train" if training else "iterator_valid")
        batch_size = settings.get("batch_size", self.batch_size)
        any_size = not training and "batch_size" not in settings and batch_size != -1
        if dataset.are_items and dataset.reader.needs_loader:
            any_size = False  # several batches, for several processes
        if batch_size == -1:
            batch_size = len(dataset)
        sparse = self._may_skip_zeros(dataset)
        if sparse:
            at_once = self._sparse_rows_at_once() if any_size else batch_size
            sparse = is_worth_it(dataset.source.matrix, at_once)
        if any_size:
            batch_size = at_once if sparse else self._rows_at_once()
        generator = None
        if training and settings.get("shuffle", True):
            generator = self._state.streams["shuffle"].generator()
        drop_last = bool(training and settings.get("drop_last", False))
        balance = dataset.balance if training else None
        set_weight = self._set_batch_weight
        lengths = self._lengths_to_group(dataset) if training else None
        return RowBatches(
            *(dataset, batch_size, generator, drop_last, set_weight, balance),
            sparse=sparse,
            lengths=lengths,
            joins=training,
        )

    def _readable(self, dataset, *, training):
        """Return `Rows` that make batches and True, or what an iterator reads and False."""
        if isinstance(dataset, Rows) and not dataset.are_items:
            if self._slices_batches(training=training):
                return dataset, True
            rows = dataset.on_cpu()
            dataset = ItemRows(rows, weight=rows.weights, balance=rows.balance, device=self.device_)
        elif not isinstance(dataset, Rows):
            dataset = self._as_items(dataset, training=False)
        if not isinstance(dataset, ItemRows):
            return dataset, False
        if not self._reads_items(dataset.dataset, training=training):
            return dataset.given, False
        targets = None
        if isinstance(dataset.encoded, np.ndarray):
            targets = torch.as_tensor(self._shape_targets(dataset.encoded), device=self.device_)
        return dataset.read_by(ItemReader(self, training=training), targets), True

    def _lengths_to_group(self, rows):
        """Return the lengths by which rows are grouped into batches, None if they are not."""
        if getattr(self, "batch_sampler", None) is not None:
            return None  # which orders the rows
        X = rows.given if rows.are_items else rows.source
        lengths = self._lengths_of(X)
        if lengths is None and self.group_by_length is True:
            raise ValueError(
                "group_by_length=True needs the lengths of sequences: X as a list of them, or a "
                "Dataset with an attribute `lengths`, a number for each item, but X is a "
                f"{type(X).__name__}; set group_by_length=False"
            )
        if lengths is not None and not rows.are_items and rows.index is not None:
            lengths = lengths[rows.index.numpy()]
        return lengths

    def _lengths_of(self, X):
        """Return the lengths of sequences that are to be grouped by them, else None."""
        if not self.group_by_length or (self.group_by_length == "auto" and self.collate != "pad"):
            return None
        lengths = lengths_of(X.given if isinstance(X, ItemRows) else X)
        are_equal = lengths is not None and len(lengths) and lengths.min() == lengths.max()
        return None if are_equal and self.group_by_length == "auto" else lengths

    def _may_skip_zeros(self, rows):
        """Whether batches may be sparse: the rows can be, and only the module gets them."""
        plain = rows.can_be_sparse and not self.compile and not self.has_own_epochs
        plain = plain and not self._transforms
        return plain and self._forward_of_training() is self.module_

    def _set_batch_weight(self, weight):
        self._batch_weight = weight

    def _rows_at_once(self):
        """Return the batch size of predictions.

        `batch_size`, or up to 1,024 if all results of operations together take at most 8 MiB.
        """
        if not self._row_bytes:
            return self.batch_size
        return max(self.batch_size, min(_MOST_ROWS_AT_ONCE, _BYTES_AT_ONCE // self._row_bytes))

    def _sparse_rows_at_once(self):
        """Return the same for sparse rows, for which each product reads all weights.

        The results then take as much memory as the weights.
        """
        parameters = list(self.module_.parameters())
        item = parameters[0].element_size() if parameters else 1
        results = (self._row_bytes or 0) - item * math.prod(self.input_shape_)
        weights = sum(p.numel() * p.element_size() for p in parameters)
        return max(self.batch_size, weights // max(results, item))

    def get_iterator(self, dataset, training=False):
        """Make the `DataLoader` of a dataset. In training it shuffles, unless set otherwise.

        Parameters
        ----------
        dataset : torch Dataset
            Rows to read.
        training : bool, default=False
            Whether `iterator_train` is used, or `iterator_valid`.

        Returns
        -------
        iterator : iterable of batches
            A `DataLoader`, unless `iterator_train` or `iterator_valid` is another class.
        """
        component = "iterator_train" if training else "iterator_valid"
        factory = getattr(self, component)
        if factory is not DataLoader:
            return NeuralNet.get_iterator(self, dataset, training=training)
        kwargs = {"batch_size": self.batch_size, **changed_settings(self, component)}
        if self.collate is not None:
            kwargs["collate_fn"] = collate_of(self, kwargs)
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
        stream = self._state.streams["shuffle"] if training else Stream(0, "loader")
        kwargs.setdefault("generator", stream.generator())
        return factory(dataset, **kwargs)

    def _prepare_batch(self, batch, *, targets=True):
        """Return inputs and encoded targets of a loader's batch; None without `targets`."""
        if not targets:
            return self._prepare_inputs(inputs_of(batch)), None
        X, y = unpack(batch)
        return self._prepare_inputs(X), self._encode_batch(y)

    def _prepare_inputs(self, X):
        X = cast_floats(to_device(X, self.device_), self._floating_dtype())
        if "transform" in self._transforms:  # which may scale bytes
            return X
        return cast_bytes(
            X, torch.int64 if wants_integers(self.module_) else self._floating_dtype()
        )
