"""From checked data to the batches that a network is fed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import numpy as np
import scipy.sparse
import skorch.dataset
import torch
from skorch import NeuralNet
from skorch.utils import to_device
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset, default_collate

from ._data import RowBatches, Rows, wants_integers
from ._defaults import changed_settings
from ._randomness import OwnGenerators, Stream
from ._validation import check_inputs

__all__ = ["FeedingMixin", "LoaderBatches", "first_batch", "read_targets", "targets_at_hand"]

# Settings of `iterator_train` that need no DataLoader.
_ITERATOR_SETTINGS = {"batch_size", "shuffle", "drop_last"}
_PREDICTED_VALUES_AT_ONCE = 2**20


class LoaderBatches:
    """Iterates over a `DataLoader`, with targets encoded and everything on the device.

    Parameters
    ----------
    net : estimator
    loader : iterable of (X, y)
    stream : Stream
        What the dataset draws in this thread (augmentation) comes from here.
    """

    def __init__(self, net, loader, stream):
        self.net = net
        self.loader = loader
        self.drawing = OwnGenerators(stream)
        if getattr(loader, "num_workers", 0):
            # Workers are seeded by the loader, each differently; a mode would be copied to them.
            self.drawing = contextlib.nullcontext()

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        with self.drawing:
            batches = iter(self.loader)
        while True:
            with self.drawing:
                batch = next(batches, None)
            if batch is None:
                return
            yield self.net._prepare_batch(batch)


class EncodedTargets(torch.utils.data.Dataset):
    """A dataset of the user's whose targets become what those of `X` and `y` are.

    Parameters
    ----------
    dataset : torch Dataset
    encode : callable
        From an array of targets to their encoding.
    """

    def __init__(self, dataset, encode):
        self.dataset = dataset
        self.encode = encode

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        X, y, *rest = self.dataset[i]
        return X, self.encode(np.asarray([y]))[0], *rest


class FeedingMixin:
    """Datasets and iterators of an estimator: slices of tensors, or skorch's where it asks."""

    def _as_dataset(self, X, y, weight):
        """Return what batches are taken from: `Rows`, or a `Dataset` for a `DataLoader`."""
        if isinstance(X, torch.utils.data.Dataset):
            self._refuse_balance("X as an array, but X is a torch Dataset")
            return X
        targets = self._shape_targets(y)
        if self._slices_batches():
            rows = self._rows(X, targets, weight)
            rows.balance = self._classes_to_balance(y)
            return rows
        self._refuse_balance("dataset and iterator_train at their defaults")
        if weight is not None:
            raise ValueError(
                "sample_weight and class_weight need the default `dataset` and `iterator_train`, "
                f"but got dataset={self.dataset!r} and iterator_train={self.iterator_train!r} with "
                f"the arguments {sorted(self._iterator_arguments())}; leave those at their defaults"
            )
        if scipy.sparse.issparse(X):
            raise ValueError(
                "a sparse X needs the default `dataset` and `iterator_train`, but got "
                f"dataset={self.dataset!r} and iterator_train={self.iterator_train!r} with the "
                f"arguments {sorted(self._iterator_arguments())}; leave those at their defaults"
            )
        inputs, _, _ = self._rows(X).take(torch.arange(len(y)))
        return self.get_dataset(to_device(inputs, "cpu"), y)

    def _classes_to_balance(self, y):
        return None

    def _refuse_balance(self, needed):
        if getattr(self, "batch_sampler", None) is not None:
            raise ValueError(f"batch_sampler={self.batch_sampler!r} needs {needed}")

    def _rows(self, X, y=None, weight=None):
        return Rows(X, y, weight, dtype=self._input_dtypes(), device=self.device_)

    def _input_dtypes(self):
        floating = (p.dtype for p in self.module_.parameters() if p.is_floating_point())
        floating = next(floating, torch.get_default_dtype())
        keep = wants_integers(self.module_)
        dtypes = {
            name: torch.int64 if keep and was_integer else floating
            for name, was_integer in self._integer_inputs.items()
        }
        return dtypes.get(None, dtypes)

    def _slices_batches(self):
        """Tell whether nothing asks for skorch's own `Dataset` or for a `DataLoader`."""
        cls = type(self)
        return (
            self.dataset is skorch.dataset.Dataset
            and self.iterator_train is DataLoader
            and not changed_settings(self, "dataset")
            and self._iterator_arguments() <= _ITERATOR_SETTINGS
            and cls.get_dataset is NeuralNet.get_dataset
            and cls.get_iterator is FeedingMixin.get_iterator
            and cls.get_split_datasets is NeuralNet.get_split_datasets
        )

    def _iterator_arguments(self):
        return set(changed_settings(self, "iterator_train"))

    def _split(self, dataset, y, fit_params):
        if not self.train_split:
            return dataset, None
        if isinstance(dataset, Rows):
            train, valid = self.train_split(dataset, y, **fit_params)
        else:
            train, valid = self.get_split_datasets(dataset, y, **fit_params)
        valid = _part_as_rows(valid)
        if train is dataset and self._targets_are_encoded:
            # All rows are trained on: those to check on come from elsewhere, as they are.
            valid = self._encoded(valid)
        return _part_as_rows(train), valid

    def _encoded(self, valid):
        """Return a validation set of the user's with encoded targets."""
        if valid is None or isinstance(valid, Rows):
            return valid
        if type(valid) is skorch.dataset.Dataset:
            try:
                X, y = check_inputs(self, valid.X, valid.y, reset=False, needs_y=True)
                y = self._check_targets(y, None, False)
            except ValueError as error:
                raise ValueError(
                    f"the validation data of train_split must be like X and y, but: {error}"
                ) from error
            return self._as_dataset(X, y, None)
        return EncodedTargets(valid, self._encode_of_dataset)

    def _encode_of_dataset(self, y):
        """Return targets of a `Dataset` as those of an array are after `_check_targets`."""
        return y

    def _batches(self, dataset, *, training):
        if not isinstance(dataset, Rows):
            stream = self._streams["forward"] if training else Stream(0, "loader")
            return LoaderBatches(self, self.get_iterator(dataset, training=training), stream)
        settings = self.get_params_for("iterator_train" if training else "iterator_valid")
        batch_size = settings.get("batch_size", self.batch_size)
        if batch_size == -1:
            batch_size = len(dataset)
        elif not training and "batch_size" not in settings:
            batch_size = max(batch_size, self._prediction_batch_size())
        generator = None
        if training and settings.get("shuffle", True):
            generator = self._streams["shuffle"].generator()
        drop_last = bool(training and settings.get("drop_last", False))
        balance = dataset.balance if training else None
        return RowBatches(
            dataset, batch_size, generator, drop_last, self._set_batch_weight, balance
        )

    def _set_batch_weight(self, weight):
        self._batch_weight = weight

    def _prediction_batch_size(self):
        values = int(np.prod(self.input_shape_)) if self.input_shape_ else 1024
        return min(1024, max(1, _PREDICTED_VALUES_AT_ONCE // max(1, values)))

    def get_iterator(self, dataset, training=False):
        """Make the `DataLoader` of a dataset. In training it shuffles, unless told otherwise.

        Parameters
        ----------
        dataset : torch Dataset
        training : bool, default=False
            Whether `iterator_train` is used, or `iterator_valid`.

        Returns
        -------
        iterator : iterable of batches
        """
        component = "iterator_train" if training else "iterator_valid"
        factory = getattr(self, component)
        if factory is not DataLoader:
            return NeuralNet.get_iterator(self, dataset, training=training)
        kwargs = {"batch_size": self.batch_size, **changed_settings(self, component)}
        if kwargs.get("batch_sampler") is not None:
            kwargs.pop("batch_size")
        elif kwargs["batch_size"] == -1:
            kwargs["batch_size"] = len(dataset)
        orders_itself = {"sampler", "batch_sampler", "shuffle"} & set(kwargs)
        if training and not orders_itself and not isinstance(dataset, IterableDataset):
            kwargs["shuffle"] = True
        # Without a generator a DataLoader draws from torch's default one, even in order.
        stream = self._streams["shuffle"] if training else Stream(0, "loader")
        kwargs.setdefault("generator", stream.generator())
        return factory(dataset, **kwargs)

    def _prepare_batch(self, batch):
        X, y = skorch.dataset.unpack_data(batch)
        return to_device(X, self.device_), self._encode_batch(y)


def first_batch(dataset):
    """Return the first rows of a dataset as `(X, y)`; global generators are left alone."""
    with OwnGenerators(Stream(0, "first batch")):
        if isinstance(dataset, IterableDataset):
            loader = DataLoader(dataset, batch_size=2, generator=torch.Generator())
            return skorch.dataset.unpack_data(next(iter(loader)))
        rows = [dataset[i] for i in range(min(8, len(dataset)))]
        return skorch.dataset.unpack_data(default_collate(rows))


def targets_at_hand(dataset):
    """Return the targets of a dataset as an array if it holds them, else None."""
    if isinstance(dataset, Subset):
        y = targets_at_hand(dataset.dataset)
        return None if y is None else y[np.asarray(dataset.indices)]
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        return np.asarray(dataset.tensors[1])
    y = getattr(dataset, "y", getattr(dataset, "targets", None))
    return None if y is None or isinstance(y, Mapping) else np.asarray(y)


def read_targets(loader):
    """Read all batches for the sake of their targets; global generators are left alone."""
    with OwnGenerators(Stream(0, "targets")):
        return np.concatenate([np.asarray(y) for _, y in loader])


def _part_as_rows(dataset):
    """Return a part of `Rows`, as `train_split` makes it, as `Rows`."""
    if isinstance(dataset, Subset) and isinstance(dataset.dataset, Rows):
        return dataset.dataset.subset(dataset.indices)
    return dataset
