"""Several objectives as one, with random weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["chebyshev"]

Array = NDArray[np.float64]

# Knowles, 2006, equation 2: a small share of the weighted sum, so that of two points that are equal
# in the objective that counts the better one is preferred.
_RHO = 0.05


def chebyshev(values: Array, weights: Array) -> Array:
    """The augmented Chebyshev function of values that are scaled to their ranges.

    Parameters
    ----------
    values : ndarray of shape (n, n_objectives)
        Larger is better.
    weights : ndarray of shape (n_objectives,)
        Non-negative, with sum 1.

    Returns
    -------
    ndarray of shape (n,)
        Larger is better; at most 0.
    """
    best, spans = values.max(axis=0), np.ptp(values, axis=0)
    losses = weights * (best - values) / np.where(spans > 0.0, spans, 1.0)
    return np.asarray(-losses.max(axis=1) - _RHO * losses.sum(axis=1))
