"""What a net learns from its first data: shapes, and the module's output for a few rows."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial

import numpy as np
import scipy.sparse
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Subset

from ..rows import RowSubset
from ..training.batches import MayHaveChildren, inputs_of, unpack
from ..training.data import as_dict, sample_shape
from ..training.forwarding import ResultBytes, row_count
from ..training.items import fetch
from ..training.randomness import OwnGenerators, Stream
from ..training.sequences import Sequences
from ..training.structure import is_of_torch
from ._feeding import FeedingMixin, NetRows
from ._items import collate_of
from .settings import changed_settings
from .transforms import batch_transform, seen_by_module, transformed_in_training
from .validation import NO_BATCHES

__all__ = ["FirstLookMixin"]

_FEW = 8


class FirstLookMixin(FeedingMixin):
    """Passes a first batch through the module, as in predictions, before training."""

    def _build(self, X, fit_params, y=None, n_categories=None, once=None, templates=None):
        """Initialize the net for the data, and test the module on a few rows before training.

        `once` is a function of `Findings`, and `templates` are those of its modules.
        """
        few, _ = self._first_batch(X, y)
        self._make_transforms()
        self._transforms_vary = False
        seen = seen_by_module(self, few) if self._transforms else few
        self._inferred = {"out_features": self._out_features()}
        if self._heads is not None:
            self._inferred = {}
        shape = sample_shape(seen)
        if isinstance(seen, Mapping):
            self._infer_width_of_items(seen)
        if shape:
            self._inferred["in_features"] = int(np.prod(shape))
            self._inferred["in_channels"] = shape[0]
            self._inferred["input_shape"] = shape
        if n_categories is not None:
            self._inferred["n_categories"] = n_categories
        self._store_input_format(X, few)
        self._few_inputs, self._templates = seen, templates
        try:
            self.initialize()
            look = partial(self._learn_from, X, few, fit_params)
            look() if once is None or not self._only_looks() else once("look", look)
        except BaseException:
            # This net can neither predict nor continue.
            self.initialized_ = False
            if self._state is not None:
                self._state.parts.pop("module", None)
            raise
        finally:
            self._few_inputs = self._templates = None

    def _only_looks(self):
        """Whether a pass in evaluation changes neither the module nor what transforms its inputs.

        Other modules may keep something of their first batch.
        """
        parts = [getattr(self, name + "_") for name in self._modules + self._criteria]
        return not self._transforms and all(
            isinstance(part, nn.Module) and all(map(is_of_torch, part.modules())) for part in parts
        )

    def _infer_width_of_items(self, few):
        """Infer ``in_features`` from a single input that is a sequence of vectors."""
        single = few.get(0) if {0} >= _plain_keys(few) else None
        values = single.values if isinstance(single, Sequences) else single
        n_before = 1 if isinstance(single, Sequences) else 2
        if values is not None and values.ndim > n_before:
            self._inferred["in_features"] = int(np.prod(values.shape[n_before:]))

    def _learn_from(self, X, few, fit_params):
        """Learn input and output formats of the built module from a first batch."""
        self._store_input_format(X, few)
        inputs = self._test_batch(X, few)
        if "train_transform" in self._transforms:
            self._test_module(transformed_in_training(self, inputs), fit_params)
        output = self._test_module(inputs, fit_params)
        if self._heads is not None:
            self._learn_heads(output)
            return
        output = output[0] if isinstance(output, tuple) else output
        if isinstance(output, torch.Tensor):
            self._infer_output_format(output)
            return
        self._check_is_taken_apart(output)
        self._meaning = "own"
        self._output_shape = tuple(self.predict_nonlinearity(output).shape[1:])

    def _check_is_taken_apart(self, output):
        """Raise ValueError unless user code computes loss and predictions of such an output."""
        of_package = type(self).get_loss.__module__.partition(".")[0] == "skhpo"
        of_torch = type(self.criterion_).__module__.startswith("torch.")
        if callable(self.predict_nonlinearity) and not (of_package and of_torch):
            return
        keys = f" with the keys {list(output)}" if isinstance(output, Mapping) else ""
        raise ValueError(
            "the module must return a tensor, or a tuple that begins with the one that predictions "
            f"are made of, but returns a {type(output).__name__}{keys}; wrap the module, or take "
            "it apart in a criterion (or get_loss) and a predict_nonlinearity of your own"
        )

    def _knowing_format(self, X):
        """Return this net, or if it has seen no data a copy that has learned from `X`."""
        self.check_is_fitted()
        if self._has_seen_data:
            return self
        twin = copy.copy(self)
        if not isinstance(X, torch.utils.data.Dataset):
            X, _ = twin._check_inputs(X, reset=True, needs_y=False)
        twin._learn_classes_alone()
        twin._learn_from(X, twin._first_batch(X)[0], {})
        return twin

    def _learn_classes_alone(self):
        """Learn the classes for predictions of a net that has seen no targets."""

    def _test_module(self, inputs, fit_params):
        self._set_training(False)
        # A separate stream, so that streams of training do not shift. The last operation is read
        # from the graph.
        with torch.enable_grad(), self._drawing_from(Stream(self.seed_, "trial")):
            try:
                output = self._infer_measured(inputs, fit_params)
            except Exception as error:
                named = inputs.items() if isinstance(inputs, Mapping) else [("X", inputs)]
                shapes = ", ".join(f"{name} {_shape(value)}" for name, value in named)
                raise ValueError(
                    f"the module must accept a batch of the data, but for inputs of shape {shapes} "
                    f"it raised {type(error).__name__}: {error}{self._converted(inputs)}"
                ) from error
        return output

    def _converted(self, inputs):
        """Return a note for errors of the module if integers of the data became floats."""
        floats = {name for name, value in as_dict(inputs).items() if _is_floating(value)}
        if not any(was and name in floats for name, was in self._integer_inputs.items()):
            return ""
        return (
            "; integers become floats where the module has no Embedding, so if it needs integers, "
            "convert them in forward (x.long())"
        )

    def _infer_measured(self, inputs, fit_params):
        """Pass a batch through the module, and store the memory that a row needs."""
        self._row_bytes = None
        n_rows = row_count(inputs)
        if self.compile or not n_rows:
            return self.infer(inputs, **fit_params)
        made = ResultBytes()
        made.add(inputs)
        with made:
            output = self.infer(inputs, **fit_params)
        self._row_bytes = made.n_bytes // n_rows
        return output

    def _first_batch(self, X, y=None):
        """Return a first batch of the module's inputs and the targets, without global generators.

        `X` is an ndarray, CSR matrix, dict of ndarray, container as given, or torch Dataset; `y`
        are encoded targets or None.
        """
        if not isinstance(X, torch.utils.data.Dataset) and not self._reads_as_given(X):
            X, y = _first_rows(X), None if y is None else y[:_FEW]
            if self._slices_batches(training=False):
                return X, y
            X = NetRows(X, y)
        elif not isinstance(X, torch.utils.data.Dataset):
            X = self.get_dataset(X, y)
        few = self._few(X)
        with OwnGenerators(Stream(0, "first batch")), MayHaveChildren():
            try:
                batch = next(iter(self.get_iterator(few, training=False)), None)
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
            self._check_is_complete(batch, len(few))
            self._check_training_collates(few)
        return unpack(batch)

    def _check_training_collates(self, few):
        """Raise ValueError if what collates items for training drops some of a few."""
        collate = collate_of(self, changed_settings(self, "iterator_train"))
        same = collate_of(self, changed_settings(self, "iterator_valid"))
        if collate is not same and self._reads_items(few, training=True):
            try:
                with OwnGenerators(Stream(0, "first batch")):
                    X = inputs_of(fetch(few, list(range(len(few))), collate))
            except Exception:
                return  # it may need a whole batch; any other error is raised in training
            if 0 < row_count(X) < len(few):
                raise ValueError(_drops(len(few), row_count(X)))

    def _check_is_complete(self, batch, n_items):
        """Raise ValueError unless a first batch of a few items has a row for each of them."""
        settings = {"batch_size": self.batch_size, **changed_settings(self, "iterator_valid")}
        if settings["batch_size"] not in (-1, None):
            n_items = min(n_items, settings["batch_size"])
        n_made = row_count(inputs_of(batch)) or n_items
        if n_made != n_items:
            raise ValueError(_drops(n_items, n_made))

    def _test_batch(self, X, few):
        """Return a first batch as the built module gets it, on its device."""
        if isinstance(X, torch.utils.data.Dataset) or self._reads_as_given(X):
            inputs = self._prepare_inputs(few)
        else:
            rows = self._as_dataset(_first_rows(X), training=False)
            if not self._slices_batches(training=False):
                return next(iter(self._batches(rows, training=False).inputs()))
            inputs = rows.take(torch.arange(len(rows)))[0]
        change = batch_transform(self, training=False) if self._transforms else None
        return inputs if change is None else change(inputs)

    def _few(self, dataset):
        """Return the first rows of a dataset, or all if the loader may read any of them."""
        orders_itself = {"sampler", "batch_sampler"} & set(changed_settings(self, "iterator_valid"))
        own = self.iterator_valid is not DataLoader
        own = own or type(self).get_iterator is not FeedingMixin.get_iterator
        if isinstance(dataset, IterableDataset) or orders_itself or own:
            return dataset
        return Subset(dataset, range(min(_FEW, len(dataset))))

    def _store_input_format(self, X, few):
        """Store shape and type that later inputs must have; `few` is the first batch of `X`."""
        collated = isinstance(X, torch.utils.data.Dataset) or self._reads_as_given(X)
        of = few if collated else X
        self.input_shape_ = sample_shape(of)
        if collated and not self._slices_batches(training=False):
            # Lengths may differ from batch to batch.
            self.input_shape_ = None
        arrays = of if isinstance(of, Mapping) else {None: of}
        self._integer_inputs = {
            name: not _is_floating(array)
            for name, array in arrays.items()
            if not isinstance(name, tuple)
        }


def _drops(n_items, n_made):
    return (
        f"what collates the items of a Dataset must return a row for each, but of {n_items} items "
        f"it made {n_made} rows; leave items out of the Dataset instead"
    )


def _plain_keys(batch):
    return {name for name in batch if not isinstance(name, tuple)}


def _first_rows(X):
    if scipy.sparse.issparse(X):
        return X[:_FEW].toarray()
    if isinstance(X, RowSubset):
        return np.asarray(X[:_FEW])
    return {k: v[:_FEW] for k, v in X.items()} if isinstance(X, Mapping) else X[:_FEW]


def _is_floating(array):
    if isinstance(array, torch.Tensor):
        return array.is_floating_point()
    return array.dtype.kind == "f" if hasattr(array, "dtype") else True


def _shape(value):
    return tuple(value.shape) if hasattr(value, "shape") else f"({type(value).__name__})"
