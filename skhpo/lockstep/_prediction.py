"""Outputs of several networks in one forward pass."""

from __future__ import annotations

import numpy as np
import skorch.utils
import torch

from ..estimators.predicting import input_format, nonlinearity_of, predicts_rows, rows_to_predict
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
        if overridden(type(net)) or not predicts_rows(net, X):
            outputs[number] = net.predict_outputs(X)
        else:
            groups.setdefault(_key(net, X), []).append(number)
    for numbers in groups.values():
        members = [nets[number] for number in numbers]
        found = _outputs(members, Xs[numbers[0]])
        for number, output in zip(numbers, found, strict=True):
            outputs[number] = output
    return outputs


def _key(net, X):
    net._set_training(False)
    return (
        id(X),
        structure(net.module_, rated=True),
        input_format(net),
        net.device_,
    )


def _outputs(nets, X):
    if len(nets) > 1:
        try:
            return _together(nets, X)
        except LockstepError as reason:
            log.debug("%d nets predict alone: %s", len(nets), reason)
    return [net.predict_outputs(X) for net in nets]


def _together(nets, X):
    modules = [net.module_ for net in nets]
    rows, at_once = rows_to_predict(nets[0], X)
    few = rows.take(torch.arange(min(_FEWEST_ROWS, len(rows))))[0]
    parameters = Parameters(modules, {}, trained=False)
    passes = Passes(modules, parameters, few.expand(len(nets), *few.shape))
    together = at_once // len(nets)
    found = [[] for _ in nets]
    nonlinearities = [nonlinearity_of(net) for net in nets]
    with torch.no_grad():
        for x, _, _ in RowBatches(rows, max(_FEWEST_ROWS, together)).triples():
            output = passes.forward(x.expand(len(nets), *x.shape))
            output = output.clone(memory_format=torch.contiguous_format)
            for own, nonlinearity, one in zip(found, nonlinearities, output, strict=True):
                own.append(skorch.utils.to_numpy(nonlinearity(one)))
    return [np.concatenate(own) for own in found]
