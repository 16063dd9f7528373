"""Networks built without training, to know their size."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone, is_classifier

from ..datasets import DatasetRows
from ..faults import warn_of_mistake

__all__ = ["built_for"]


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
    else:
        few = np.zeros((len(rows), *np.shape(X)[1:]), dtype=dtype if numbers else np.float32)
    net = clone(net)
    # The first optimizer of a process imports parts of torch for seconds.
    net._initialize_optimizer = lambda reason=None: net
    try:
        inputs, *_ = net._check_training_data(few, y[rows], None, None, True)
        net._build(inputs, {})
    except Exception as error:  # the fit raises it again
        warn_of_mistake(error, "the size of a network is not known")
        return None
    return net
