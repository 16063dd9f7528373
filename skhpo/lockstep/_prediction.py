"""Outputs of several networks in one forward pass."""

from __future__ import annotations

import itertools
import math

import skorch.utils
import torch

from ..estimators.predicting import input_format, nonlinearity_of, predicts_rows, rows_to_predict
from ..training.batches import RowBatches
from ..training.forwarding import as_float32
from ..training.modes import usual_modes
from ..training.structure import structure
from ._members import overridden
from ._passes import Parameters, Passes
from ._registry import LockstepError, log

__all__ = ["predict_together"]

_FEWEST_ROWS = 32
# Largest number of values of different inputs that are converted at the same time.
_MOST_VALUES = 2**25


@usual_modes()
def predict_together(nets, Xs, *, return_exceptions=False):
    """Return the outputs of networks, from which they predict.

    Nets that share a graph, with inputs of one shape, are computed jointly, others alone.

    Parameters
    ----------
    nets : list of TorchClassifier or TorchRegressor
        Fitted.
    Xs : list of array-like
        Inputs of each network.
    return_exceptions : bool, default=False
        Whether the outputs of a net that cannot predict for its inputs are the exception; the
        others are computed jointly nevertheless.

    Returns
    -------
    outputs : list of ndarray of shape (n_samples, ...)
        Outputs of the modules, after the nonlinearity.

    Raises
    ------
    ValueError
        If the numbers of inputs and nets differ.
    Exception
        What the first net raises that cannot predict, with a note of its number.
    """
    if len(nets) != len(Xs):
        raise ValueError(
            "predict_together needs inputs for each net, but got "
            f"{len(nets)} nets and {len(Xs)} inputs; repeat an array that several nets get"
        )
    outputs = [None] * len(nets)
    groups, alone = {}, []
    for number, (net, X) in enumerate(zip(nets, Xs, strict=True)):
        net.check_is_fitted()
        in_low_precision = torch.is_autocast_enabled(net.device_.type)
        if in_low_precision or overridden(type(net)) or not predicts_rows(net, X):
            alone.append(number)
        else:
            groups.setdefault(_key(net, X), []).append(number)
    for group in groups.values():
        for numbers in _in_portions(group, Xs):
            found = _jointly([nets[number] for number in numbers], [Xs[n] for n in numbers])
            for number, output in zip(numbers, found, strict=True):
                outputs[number] = output
    for number in alone:
        outputs[number] = _alone(nets[number], Xs[number])
    failed = [n for n, output in enumerate(outputs) if isinstance(output, Exception)]
    if failed and not return_exceptions:
        error = outputs[failed[0]]
        error.add_note(f"predict_together: Xs[{failed[0]}] and its net")
        raise error
    return outputs


def _key(net, X):
    net._set_training(False)
    return (
        getattr(X, "shape", id(X)),
        structure(net.module_, rated=True),
        input_format(net),
        net.device_,
    )


def _in_portions(numbers, Xs):
    """Divide nets with inputs of one shape so that few different inputs are converted at once."""
    nets_of = {}
    for number in numbers:
        nets_of.setdefault(id(Xs[number]), []).append(number)
    most = max(1, _MOST_VALUES // max(1, math.prod(getattr(Xs[numbers[0]], "shape", ()))))
    parts = iter(nets_of.values())
    while part := list(itertools.islice(parts, most)):
        yield list(itertools.chain.from_iterable(part))


def _jointly(nets, Xs):
    """Return the outputs of nets with inputs of one shape, exceptions for some of them."""
    if len(nets) == 1:
        return [_alone(nets[0], Xs[0])]
    ready = {}
    for net, X in zip(nets, Xs, strict=True):
        if id(X) not in ready:
            ready[id(X)] = _attempt(rows_to_predict, net, X)
    good = [i for i, X in enumerate(Xs) if not isinstance(ready[id(X)], Exception)]
    outputs = [ready[id(X)] for X in Xs]
    try:
        found = _together([nets[i] for i in good], [ready[id(Xs[i])] for i in good])
    except LockstepError as reason:
        log.debug("%d nets predict alone: %s", len(good), reason)
        found = [_alone(nets[i], Xs[i]) for i in good]
    for i, output in zip(good, found, strict=True):
        outputs[i] = output
    return outputs


def _alone(net, X):
    return _attempt(type(net).predict_outputs, net, X)


def _attempt(function, *args):
    """Return the value of a function, or the exception that it raises."""
    try:
        return function(*args)
    except Exception as error:
        return error


def _together(nets, ready):
    """Return the outputs of nets, given their rows and how many they take at once."""
    if not nets:
        return []
    modules = [net.module_ for net in nets]
    distinct = {id(one): one for one in ready}
    places = [[*distinct].index(id(one)) for one in ready]
    rows, at_once = zip(*distinct.values(), strict=True)

    def joined(parts):
        if len(parts) == 1:
            return parts[0].expand(len(nets), *parts[0].shape)
        return torch.stack([parts[place] for place in places])

    n_few = min(_FEWEST_ROWS, len(rows[0]))
    parameters = Parameters(modules, {}, trained=False)
    passes = Passes(modules, parameters, joined([one.take(torch.arange(n_few))[0] for one in rows]))
    together = max(_FEWEST_ROWS, min(at_once) // len(nets))
    with torch.no_grad():
        batches = [RowBatches(one, together, joins=False).triples() for one in rows]
        found = [
            passes.forward(joined([x for x, _, _ in parts])).clone()
            for parts in zip(*batches, strict=True)
        ]
        outputs = zip(nets, as_float32(torch.cat(found, 1)), strict=True)
        return [skorch.utils.to_numpy(nonlinearity_of(net)(output)) for net, output in outputs]
