"""Whether the targets that are given with a `Dataset` are those of its items."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..datasets import stored_targets
from ..rows import Inputs
from ..training.data import as_array
from ..training.randomness import OwnGenerators, Stream

__all__ = ["check_agreement"]


def check_agreement(net, dataset, items, y, encoded):
    """Raise ValueError unless targets are those of the items of a dataset.

    They are compared with a few items, and with all targets that the dataset stores, where these
    are what the items have.

    Parameters
    ----------
    net : TorchClassifier or TorchRegressor
    dataset : torch.utils.data.Dataset
    items : list of (int, tuple)
        Numbers of some items, and the items, pairs of inputs and target.
    y, encoded : array-like, or Inputs
        The targets as they are given, and as the net encodes them.
    """
    for number, (_, target) in items:
        if isinstance(y, Inputs):
            given = {k: as_array(v)[0] for k, v in y[[number]].arrays.items()}
        else:
            given = np.asarray(y)[number]
        if not _agrees(net, target, given if isinstance(y, Inputs) else encoded[number]):
            _raise(number, given, target)
    if not items or isinstance(y, Inputs):
        return
    stored = stored_targets(dataset)
    # Images as targets are too many numbers.
    if stored is None or len(stored) != len(dataset) or stored.ndim > 2:
        return
    if all(np.array_equal(np.asarray(item[1]), stored[i]) for i, item in items):
        own = np.asarray(net._encode_of_dataset(stored), np.float32)
        n = len(dataset)
        same = own.reshape(n, -1) == np.asarray(encoded, np.float32).reshape(n, -1)
        for number in np.flatnonzero(~same.all(axis=1))[:1].tolist():
            with OwnGenerators(Stream(0, "probe")):
                _, target = dataset[number]
            if not _agrees(net, target, encoded[number]):
                _raise(number, np.asarray(y)[number], target)


def _agrees(net, target, encoded):
    """Whether the target of an item is what was encoded, or given as a dict."""
    if isinstance(target, Mapping) or isinstance(encoded, Mapping):
        if not isinstance(target, Mapping) or not isinstance(encoded, Mapping):
            return False
        return target.keys() == encoded.keys() and all(
            np.array_equal(as_array(value), as_array(encoded[name]))
            for name, value in target.items()
        )
    try:
        own = net._encode_of_dataset(np.asarray([target]))[0]
    except ValueError:  # an unknown label
        return False
    own, encoded = (np.ravel(value).astype(np.float32) for value in (own, encoded))
    return np.array_equal(own, encoded)


def _raise(number, given, target):
    raise ValueError(
        "y must agree with the targets of the Dataset X, on which the network is trained, but for "
        f"item {number} y is {given!r} and the Dataset yields {target!r}; leave y out, or let "
        "items be inputs only"
    )
