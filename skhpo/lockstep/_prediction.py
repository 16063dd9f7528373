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

    Nets that share a graph, with inputs of one shape, are computed jointly, others alone.

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
        found = _outputs(members, [Xs[number] for number in numbers])
        for number, output in zip(numbers, found, strict=True):
            outputs[number] = output
    return outputs


def _key(net, X):
    net._set_training(False)
    return (
        getattr(X, "shape", id(X)),
        structure(net.module_, rated=True),
        input_format(net),
        net.device_,
    )


def _outputs(nets, Xs):
    if len(nets) > 1:
        try:
            return _together(nets, Xs)
        except LockstepError as reason:
            log.debug("%d nets predict alone: %s", len(nets), reason)
    return [net.predict_outputs(X) for net, X in zip(nets, Xs, strict=True)]


def _together(nets, Xs):
    modules = [net.module_ for net in nets]
    distinct = {id(X): X for X in Xs}
    places = [[*distinct].index(id(X)) for X in Xs]
    rows, at_once = zip(*(rows_to_predict(nets[0], X) for X in distinct.values()), strict=True)

    def joined(parts):
        if len(parts) == 1:
            return parts[0].expand(len(nets), *parts[0].shape)
        return torch.stack([parts[place] for place in places])

    n_few = min(_FEWEST_ROWS, len(rows[0]))
    parameters = Parameters(modules, {}, trained=False)
    passes = Passes(modules, parameters, joined([one.take(torch.arange(n_few))[0] for one in rows]))
    together = max(_FEWEST_ROWS, min(at_once) // len(nets))
    found = [[] for _ in nets]
    nonlinearities = [nonlinearity_of(net) for net in nets]
    with torch.no_grad():
        batches = [RowBatches(one, together, joins=False).triples() for one in rows]
        for parts in zip(*batches, strict=True):
            output = passes.forward(joined([x for x, _, _ in parts]))
            output = output.clone(memory_format=torch.contiguous_format)
            for own, nonlinearity, one in zip(found, nonlinearities, output, strict=True):
                own.append(skorch.utils.to_numpy(nonlinearity(one)))
    return [np.concatenate(own) for own in found]
