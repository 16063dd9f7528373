"""A network as it will be built, before there is anything to train."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone, is_classifier

__all__ = ["built_for"]


def built_for(net, X, y):
    """Build a copy of a network for data like these, to see how large it is.

    Parameters
    ----------
    net : TorchClassifier or TorchRegressor
        With its parameters set; not changed.
    X : array-like of shape (n_samples, ...)
        Only its shape and, if it is one of numbers, its type are read: in a pipeline the network
        will get something else, most often of that shape.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)

    Returns
    -------
    net : estimator or None
        Built, but without an optimizer; None where it cannot be built for such data.
    """
    y = np.asarray(y)
    rows = np.arange(min(8, len(y)))
    if is_classifier(net) and y.ndim == 1:
        rows = np.unique(y, return_index=True)[1]
    dtype = getattr(X, "dtype", None)
    numbers = getattr(dtype, "kind", "O") in "fiu"
    few = np.zeros((len(rows), *np.shape(X)[1:]), dtype=dtype if numbers else np.float32)
    net = clone(net)
    # The first optimizer of a process makes torch import for seconds.
    net._initialize_optimizer = lambda reason=None: net
    try:
        inputs, _, _ = net._check_training_data(few, y[rows], None, None, True)
        net._build(inputs, {})
    except Exception:
        return None
    return net
