"""The outputs of a network from which it predicts, by itself and beside others."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import skorch.utils
from skorch.utils import to_device
from torch.utils.data import Dataset, IterableDataset, Subset

from ..rows import take_rows
from ..training.forwarding import as_float32, plain_tuple
from ..training.modes import usual_modes
from ._inputs import arranged
from ._numbers import as_heads
from ._outputs import learn_from, store_input_format
from .feeding import (
    batches_of,
    first_batch,
    lengths_to_sort,
    net_rows,
    rows_at_once,
    rows_of,
)
from .held_out import Measure
from .settings import NetPart, reads_as_given, slices_batches
from .validation import check_dataset, check_inputs, check_sample_weight, checked_inputs

__all__ = [
    "PredictingMixin",
    "input_format",
    "nonlinearity_of",
    "predicts_rows",
    "rows_to_predict",
    "score_of_heads",
]


class PredictingMixin(NetPart):  # type: ignore[misc] # skorch has no types
    """Outputs of the module for samples, batch by batch."""

    def forward_iter(self, X: Any, training: bool = False, device: Any = "cpu") -> Iterator[Any]:
        """Yield the outputs of the module, batch by batch.

        Parameters
        ----------
        X : array-like, dict of str to array-like, or torch Dataset
            Samples.
        training : bool, default=False
            Whether the module is in training mode, with dropout active.
        device : str, default="cpu"
            Device of the outputs.

        Yields
        ------
        output : Tensor or tuple of Tensor
        """
        self.check_is_fitted()
        net = self if self._has_seen_data else copy.copy(self)
        if not isinstance(X, Dataset):
            X, _ = checked_inputs(net, X, reset=net is not self, needs_y=False)
        if net is not self:
            store_input_format(net, X, first_batch(net, X)[0])
        dataset = rows_of(net, X, training=False)
        for inputs in batches_of(net, dataset, training=False).inputs():
            output = self.evaluation_step((inputs, None), training=training)
            yield to_device(plain_tuple(output), device=device)

    def predict_outputs(self, X: Any) -> Any:
        """Return the outputs of the module that predictions are made of.

        Parameters
        ----------
        X : array-like, dict of str to array-like, or torch Dataset
            Samples.

        Returns
        -------
        outputs : ndarray of shape (n_samples, ...)
            After the nonlinearity: probabilities of a classifier, values of a regressor, in the
            units in which it was trained. Of several heads what the module returns, as arrays.
        """
        if not self.group_by_length:
            return self._outputs_for(X)
        of_dataset = isinstance(X, Dataset)
        X = X if of_dataset else arranged(self, X, None, reset=False)
        lengths = lengths_to_sort(self, X)
        if lengths is None:
            return self._outputs_for(X)
        order = np.argsort(lengths, kind="stable")
        if of_dataset:
            X = Subset(X, order.tolist())
        else:
            X = {name: take_rows(value, order) for name, value in X.items()}
        return _in_order(self._outputs_for(X), order)

    @usual_modes()
    def _outputs_for(self, X: Any) -> Any:
        nonlinearity = self._get_predict_nonlinearity()
        outputs = []
        if getattr(self._targets, "are_heads", False):
            return _joined([nonlinearity(as_float32(output)) for output in self.forward_iter(X)])
        for output in self.forward_iter(X):
            output = output[0] if isinstance(output, tuple) else output
            outputs.append(skorch.utils.to_numpy(nonlinearity(as_float32(output))))
        predictions = np.concatenate(outputs, axis=0)
        by_number = isinstance(X, Dataset) and not isinstance(X, IterableDataset)
        if by_number and len(X) != len(predictions):
            raise ValueError(
                "what collates the items of a Dataset must return a row for each, but for "
                f"{len(X)} items there are {len(predictions)} predictions"
            )
        return predictions


def knowing_format(net: Any, X: Any) -> Any:
    """Return a net, or if it has seen no data a copy that has learned from `X`."""
    net.check_is_fitted()
    if net._has_seen_data:
        return net
    twin = copy.copy(net)
    if not isinstance(X, Dataset):
        X, _ = checked_inputs(twin, X, reset=True, needs_y=False)
    twin._learn_targets_alone()
    learn_from(twin, X, first_batch(twin, X)[0], {})
    return twin


def predicts_rows(net: Any, X: Any) -> bool:
    """Whether predictions for `X` are those of the module alone, for slices of one array."""
    return not (
        net.compile
        or net._low_precision is not None
        or isinstance(X, Dataset | Mapping)
        or net.collate is not None
        or net._transforms
        or reads_as_given(net, X)
        or None not in net._integer_inputs
        or not slices_batches(net, training=False)
    )


def input_format(net: Any) -> Any:
    """Return a hashable description of the arrays that a net takes."""
    names = tuple(getattr(net, "feature_names_in_", ()))
    return net.input_shape_, names, tuple(net._integer_inputs.items())


def rows_to_predict(net: Any, X: Any) -> Any:
    """Return an array as `Rows` of a net, checked, and how many of them it takes at once."""
    X, _ = check_inputs(net, X, None, reset=False, needs_y=False)
    return net_rows(net, X), rows_at_once(net)


def nonlinearity_of(net: Any) -> Any:
    """Return the function from outputs of the module to those that predictions are made of."""
    return net._get_predict_nonlinearity()


def _joined(outputs: Any) -> Any:
    """Join the outputs of batches, dicts or tuples of tensors, as arrays."""
    if isinstance(outputs[0], Mapping):
        return {name: _joined([one[name] for one in outputs]) for name in outputs[0]}
    if isinstance(outputs[0], tuple | list):
        return tuple(map(_joined, zip(*outputs, strict=True)))
    return np.concatenate([skorch.utils.to_numpy(one) for one in outputs])


def _in_order(outputs: Any, order: Any) -> Any:
    """Return predictions of rows that were sorted by `order` in the order of the rows."""
    if isinstance(outputs, Mapping):
        return {name: _in_order(value, order) for name, value in outputs.items()}
    if isinstance(outputs, tuple):
        return tuple(_in_order(value, order) for value in outputs)
    given = np.empty_like(outputs)
    given[order] = outputs
    return given


@usual_modes()
def score_of_heads(net: Any, X: Any, y: Any, sample_weight: Any) -> Any:
    """Return minus the mean of the criterion over batches, for a dict of targets."""
    y = None if y is None else as_heads(y)
    if sample_weight is not None:
        sample_weight = check_sample_weight(sample_weight, len(X) if y is None else len(y))
        sample_weight = sample_weight.astype(np.float32)
    if isinstance(X, Dataset):
        (X, _), y = check_dataset(net, X, y, None, False), None
    else:
        X, _ = checked_inputs(net, X, y, reset=False, needs_y=True)
        y = net._check_targets(y, None, False)
    return -Measure(net, rows_of(net, X, y, sample_weight, training=False), None, None)()
