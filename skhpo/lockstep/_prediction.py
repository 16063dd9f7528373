"""Outputs of several networks in one forward pass."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import skorch.utils
import torch

from ..estimators.validation import check_inputs
from ..training.batches import RowBatches
from ..training.structure import structure
from ._errors import LockstepError, log
from ._members import overridden
from ._parameters import Parameters
from ._passes import Passes

__all__ = ["predict_together"]

_FEWEST_ROWS = 32


def predict_together(nets, Xs):
    """Return the outputs of networks, from which they predict.

    Nets that share a graph and the input object are computed jointly, others alone.

    Parameters
    ----------
    nets : list of TorchClassifier or TorchRegressor
        Fitted.
    Xs : list of array-like
        Inputs of each network.

    Returns
    -------
    outputs : list of ndarray of shape (n_samples, ...)
        Outputs of the modules, after the nonlinearity.

    Raises
    ------
    ValueError
        If the numbers of inputs and nets differ.
    """
    if len(nets) != len(Xs):
        raise ValueError(
            "predict_together needs inputs for each net, but got "
            f"{len(nets)} nets and {len(Xs)} inputs; repeat an array that several nets get"
        )
    outputs = [None] * len(nets)
    groups = {}
    for number, (net, X) in enumerate(zip(nets, Xs, strict=True)):
        net.check_is_fitted()
        if _is_apart(net, X):
            outputs[number] = net._predict_outputs(X)
        else:
            groups.setdefault(_key(net, X), []).append(number)
    for numbers in groups.values():
        members = [nets[number] for number in numbers]
        found = _outputs(members, Xs[numbers[0]])
        for number, output in zip(numbers, found, strict=True):
            outputs[number] = output
    return outputs


def _is_apart(net, X):
    return (
        net.compile
        or net._low_precision is not None
        or isinstance(X, torch.utils.data.Dataset | Mapping)
        or net.collate is not None
        or bool(net._transforms)
        or net._reads_as_given(X)
        or None not in net._integer_inputs
        or not net._slices_batches(training=False)
        or bool(overridden(type(net)))
    )


def _key(net, X):
    net._set_training(False)
    return (
        id(X),
        structure(net.module_, rated=True),
        net.input_shape_,
        tuple(getattr(net, "feature_names_in_", ())),
        tuple(net._integer_inputs.items()),
        net.device_,
    )


def _outputs(nets, X):
    if len(nets) > 1:
        try:
            return _together(nets, X)
        except LockstepError as reason:
            log.debug("%d nets predict alone: %s", len(nets), reason)
    return [net._predict_outputs(X) for net in nets]


def _together(nets, X):
    modules = [net.module_ for net in nets]
    X, _ = check_inputs(nets[0], X, None, reset=False, needs_y=False)
    rows = nets[0]._rows(X)
    few = rows.take(torch.arange(min(_FEWEST_ROWS, len(rows))))[0]
    parameters = Parameters(modules, {}, trained=False)
    passes = Passes(modules, parameters, few.expand(len(nets), *few.shape))
    together = nets[0]._rows_at_once() // len(nets)
    found = [[] for _ in nets]
    nonlinearities = [net._get_predict_nonlinearity() for net in nets]
    with torch.no_grad():
        for x, _, _ in RowBatches(rows, max(_FEWEST_ROWS, together)).triples():
            output = passes.forward(x.expand(len(nets), *x.shape))
            output = output.clone(memory_format=torch.contiguous_format)
            for own, nonlinearity, one in zip(found, nonlinearities, output, strict=True):
                own.append(skorch.utils.to_numpy(nonlinearity(one)))
    return [np.concatenate(own) for own in found]
