"""Checks of the data that a network is trained on: pairs of arrays, and torch datasets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from .._compat import num_samples, safe_indexing
from ..rows import Inputs, as_given
from ..training.loading import LabelledItems, is_pair, probed_items
from ._agreement import check_agreement
from .validation import check_sample_weight

__all__ = ["check_dataset", "check_training_data"]


def check_training_data(net, X, y, sample_weight, classes, reset):
    """Return checked inputs, encoded targets, weights, and a mask of the samples that were kept.

    The last two are None without weights, the mask also where none is zero. With `reset` the net
    learns from the first targets.
    """
    if y is None and not isinstance(X, Dataset) and net._has_own_dataset():
        X = net.get_dataset(X)
    y = Inputs(y) if isinstance(y, Mapping) else y
    net._class_weight_of_loader = None
    if isinstance(X, Dataset):
        X, y = check_dataset(net, X, y, classes, reset)
        return _weighted(net, X, y, sample_weight, None if y is None else num_samples(y))
    if y is None and net.iterator_train is not DataLoader:
        # Not done by default: where y was forgotten, skorch's dataset would yield zeros.
        raise ValueError(
            f"{type(net).__name__} requires y to be passed, but the target y is None; if "
            f"iterator_train={net.iterator_train!r} and iterator_valid yield targets of their "
            "own, pass skorch.dataset.Dataset(X) as X"
        )
    X, y = net._check_inputs(X, y, reset=reset, needs_y=True)
    n_samples = num_samples(y)
    return _weighted(net, X, net._check_targets(y, classes, reset), sample_weight, n_samples)


def _weighted(net, X, y, sample_weight, n_samples):
    """Return checked data without samples of weight zero, and the weights, of mean 1.

    The last item is a mask of the samples that were kept, None for all.
    """
    if sample_weight is None and getattr(net, "class_weight", None) is None:
        return X, y, None, None
    if sample_weight is None and net._class_weight_of_loader is not None:
        return X, y, None, None
    _check_reads_weights(net, X)
    n_samples = len(X) if n_samples is None else n_samples
    weight = net._row_weights(y, check_sample_weight(sample_weight, n_samples))
    if not weight.any():
        raise ValueError("sample_weight times class_weight leaves no sample: all products are zero")
    kept = None
    if not weight.all():
        kept = weight > 0
        X, weight = _kept(X, kept), weight[kept]
        y = None if y is None else y[kept]
    return X, y, (weight / weight.mean()).astype(np.float32), kept


def _check_reads_weights(net, X):
    """Raise ValueError unless batches of data can have weights."""
    slices = net._slices_batches() and not isinstance(X, Dataset)
    if not slices and not net._reads_items(X, training=True):
        net._refuse_weights(training=True)


def check_dataset(net, X, y, classes, reset):
    """Return a dataset of pairs and its encoded targets, as far as they are known."""
    by_number = not isinstance(X, IterableDataset)
    items = probed_items(X) if by_number and y is not None else []
    if y is not None and by_number:
        if num_samples(y) != len(X):
            raise ValueError(
                f"y must have a target for each of the {len(X)} items of the Dataset X, but "
                f"has {num_samples(y)}; leave it out where the Dataset yields pairs (X, y)"
            )
        if not all(is_pair(item) for _, item in items):
            X, items = LabelledItems(X, as_given(y)), []
    encoded = net._check_dataset_targets(X, y, classes, reset)
    check_agreement(net, X, items, y, encoded)
    return X, encoded


def _kept(X, mask):
    """Return the samples of a mask, of checked data."""
    rows = np.flatnonzero(mask)
    if isinstance(X, Dataset):
        return Subset(X, rows.tolist())
    if isinstance(X, Mapping):
        return {name: value[rows] for name, value in X.items()}
    return safe_indexing(X, rows)
