"""Matern kernel with smoothness 5/2."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["matern52", "matern52_slope"]

Array = NDArray[np.float64]


def matern52(r2: Array) -> Array:
    """Correlation at squared distances (Rasmussen and Williams, 2006, equation 4.17)."""
    root = np.sqrt(5.0 * r2)
    out = root / 3.0  # in place, because arrays are large: 1 + root + root^2 / 3
    out += 1.0
    out *= root
    out += 1.0
    np.negative(root, out=root)
    out *= np.exp(root, out=root)
    return np.asarray(out)


def matern52_slope(r2: Array) -> tuple[Array, Array]:
    """Correlation, and its derivative with respect to the squared distance."""
    root = np.sqrt(5.0 * r2)
    decay = np.exp(-root)
    return (
        np.asarray((1.0 + root + (5.0 / 3.0) * r2) * decay),
        np.asarray((-5.0 / 6.0) * (1.0 + root) * decay),
    )
