"""When lockstep is faster, and the size of groups; networks that are built to know their size."""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.base import clone, is_classifier
from torch import nn

from ..datasets import DatasetRows
from ..estimators.fitting import build
from ..estimators.predicting import zeros_for
from ..faults import warn_of_mistake
from ..training.batches import largest_batch
from ..training.device import resolve_device
from ..training.structure import copied
from ._members import obstacle

__all__ = ["built_for", "max_group_size", "pays"]

# Measured (docs/benchmarks/lockstep.md): larger groups gain little, and exceed the cache of a core.
_MOST = {"cpu": 20, "cuda": 256}
# Memory of a group: on a GPU a share of all memory, not of the free one, which differs from run to
# run.
_SHARE = 0.25
_CPU_BYTES = 2**29
# From these sizes on arithmetic takes more time on a CPU than the overhead of operations.
_MOST_PRODUCTS = 8 * 10**6
_MOST_PARAMETERS = 125_000
# Assumed size of a batch of all rows.
_ROWS = 1024
# Values per parameter of a network: itself, its gradient, and two of the optimizer.
_COPIES = 4


def pays(net, n_members):
    """Return how many networks like this one to train jointly; 1 if that would not be faster.

    At most 20 on a CPU and 256 on a GPU, and no more than fit into 512 MiB, or a quarter of the
    GPU's memory. On a CPU 1, if its linear layers and convolutions have more than 8 million
    multiplications in the forward pass of a batch, or it has more than 125,000 parameters.

    Parameters
    ----------
    net : TorchClassifier or TorchRegressor
        Its size is only known if it is built.
    n_members : int
        Number of nets to train.

    Returns
    -------
    size : int
    """
    if obstacle(net) is not None:
        return 1
    if net.initialized_ and net.device_.type == "cpu" and _is_arithmetic(net):
        return 1
    return max(1, min(n_members, _most(net)))


def _is_arithmetic(net):
    batch_size = _ROWS if net.batch_size == -1 else net.batch_size
    n_parameters = sum(p.numel() for p in net.module_.parameters())
    return n_parameters > _MOST_PARAMETERS or batch_size * _products(net) > _MOST_PRODUCTS


def _products(net):
    """Return the multiplications for a row in linear layers and convolutions."""
    if net.input_shape_ is None:
        return 0
    calls = []

    def note(layer, args, output):
        calls.append((layer, output.shape[1:]))

    kinds = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
    try:
        module = copied(net.module_).eval()
        for layer in module.modules():
            if isinstance(layer, kinds):
                layer.register_forward_hook(note)
        with torch.no_grad():
            module(zeros_for(net))
    except Exception as error:  # the error is raised where the net is trained
        warn_of_mistake(error, "the work of a network is not known")
        return 0
    # Each output value is a sum of as many products as a unit has weights.
    return sum(math.prod(shape) * layer.weight[0].numel() for layer, shape in calls)


def max_group_size(net):
    """Return how many networks like this built one go into a group, at least two."""
    return max(2, _most(net))


def _most(net):
    try:
        device = getattr(net, "device_", None) or resolve_device(net.device)
    except ValueError:
        return 1  # fit will raise the error
    most = _MOST.get(device.type, _MOST["cpu"])
    if not net.initialized_:
        return most
    room = _CPU_BYTES
    if device.type == "cuda":
        room = _SHARE * torch.cuda.mem_get_info(device)[1]
    return min(most, int(room / _bytes_of(net)))


def _bytes_of(net):
    """Estimate the memory of a network of a group."""
    batch_size = _ROWS if net.batch_size == -1 else largest_batch(net.batch_size)
    of_row = 4 * math.prod(net.input_shape_ or (1,)) * _COPIES
    of_parameters = sum(p.numel() * p.element_size() for p in net.module_.parameters())
    return max(1, _COPIES * of_parameters + batch_size * of_row)


def built_for(net, X, y):
    """Return a copy of a network, built for such data without an optimizer; None if that fails.

    Only the shape of `X` and its type, if numeric, are used: in a pipeline the network gets other
    data, most often of that shape. Of a dataset a few items are read.
    """
    y = np.asarray(y)
    rows = np.arange(min(8, len(y)))
    if is_classifier(net) and y.ndim == 1:
        rows = np.unique(y, return_index=True)[1]
    dtype = getattr(X, "dtype", None)
    numbers = getattr(dtype, "kind", "O") in "fiu"
    if isinstance(X, DatasetRows):
        few = X[rows].given()
    elif isinstance(X, list | tuple) and _has_lengths(X):
        return None  # sequences of different lengths, which nothing collates: the fit says so
    else:
        few = np.zeros((len(rows), *np.shape(X)[1:]), dtype=dtype if numbers else np.float32)
    net = clone(net)
    try:
        build(net, few, y[rows], optimizer=False)
    except Exception as error:  # the fit raises it again
        warn_of_mistake(error, "the size of a network is not known")
        return None
    return net


def _has_lengths(rows):
    """Whether the rows of a list have different lengths."""
    return len({len(one) if hasattr(one, "__len__") else None for one in rows}) > 1
