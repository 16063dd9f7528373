"""Variance components of crossed and nested factors by the method of moments.

Notation: y has n values, each factor k divides them into groups (levels). T_k is the sum of squares
of the groups' means over the values. S_k is what of T_k no coarser factor has (a stratum of the
analysis of variance), d_k its degrees of freedom, and E[S_k] is linear in the components.
"""

from __future__ import annotations

import numpy as np

__all__ = ["VarianceComponents"]


class VarianceComponents:
    """Estimates how much of the variance of values each factor has.

    Parameters
    ----------
    y : ndarray of shape (n,)
    factors : dict of str to ndarray of int, shape (n,)
        Level of each value. Factors that divide the values as an earlier one does, not at all, or
        into single ones, are left out.
    residual : str
        Name of the component that each value has for itself.

    Attributes
    ----------
    names : list of str
        Components that can be told.
    variances : ndarray of shape (n_components,)
        Unbiased estimates, which may be negative.
    degrees : ndarray of int, shape (n_components,)

    Notes
    -----
    With balanced groups these are the estimates of the analysis of variance, otherwise those of
    Henderson's first method [1]_.

    References
    ----------
    .. [1] S. R. Searle, G. Casella, C. E. McCulloch. Variance Components. Wiley, 1992, chapters 4
       and 5.3.
    .. [2] S. Weerahandi. Generalized Confidence Intervals. Journal of the American Statistical
       Association 88 (1993).

    Examples
    --------
    Two groups that are far apart:

    >>> import numpy as np
    >>> found = VarianceComponents(np.array([0.0, 1, 10, 11]), {"group": [0, 0, 1, 1]}, "rest")
    >>> dict(zip(found.names, found.variances.tolist(), strict=True))
    {'group': 49.75, 'rest': 0.5}
    """

    def __init__(self, y, factors, residual):
        y = np.asarray(y, dtype=float)
        y = y - y.mean()
        levels = {}
        for name, given in factors.items():
            own = np.unique(given, return_inverse=True)[1]
            known = any(_refines(own, one) and _refines(one, own) for one in levels.values())
            if 1 < own.max() + 1 < len(y) and not known:
                levels[name] = own
        levels[residual] = np.arange(len(y))
        self.names = list(levels)
        coarser = {
            name: [one for one in levels if one != name and _refines(own, levels[one])]
            for name, own in levels.items()
        }
        squares, degrees, expected = {}, {}, {}
        # Coarse ones first, so that what they have is there to be taken off.
        for name in sorted(levels, key=lambda one: len(coarser[one])):
            own = levels[name]
            sizes = np.bincount(own)
            squares[name] = np.sum(np.bincount(own, y) ** 2 / sizes)
            degrees[name] = len(sizes) - 1
            expected[name] = np.array([_trace(own, sizes, levels[one]) for one in self.names])
            for one in coarser[name]:
                squares[name] -= squares[one]
                degrees[name] -= degrees[one]
                expected[name] -= expected[one]
        # A factor whose stratum is empty cannot be told from the others.
        told = [name for name in self.names if degrees[name] > 0]
        keep = [self.names.index(name) for name in told]
        self.names = told
        self.degrees = np.array([degrees[name] for name in told], dtype=int)
        self._mean_squares = np.array([squares[name] for name in told]) / self.degrees
        moments = np.array([expected[name][keep] for name in told]) / self.degrees[:, None]
        self._solve = np.linalg.inv(moments) if told else np.empty((0, 0))
        self.variances = self._solve @ self._mean_squares

    def draw(self, n, rng):
        """Draw variances that the mean squares may come from: generalized pivots [2]_.

        They have the shape (n, n_components), and may be negative.
        """
        chance = rng.chisquare(self.degrees, size=(n, len(self.degrees))) / self.degrees
        return (self._mean_squares / chance) @ self._solve.T


def _refines(fine, coarse):
    """Whether values of one group of `fine` are always in one of `coarse`."""
    first = np.zeros(fine.max() + 1, dtype=int)
    first[fine] = coarse
    return bool(np.array_equal(first[fine], coarse))


def _trace(own, sizes, other):
    """Return the factor of a component in E[T_k - T_0]: the sum of n_ab^2 (1 / n_a - 1 / n)."""
    n = len(own)
    pairs, counts = np.unique(own * (other.max() + 1) + other, return_counts=True)
    of_own = pairs // (other.max() + 1)
    within = np.sum(counts**2 / sizes[of_own])
    return float(within - np.sum(np.bincount(other).astype(float) ** 2) / n)
