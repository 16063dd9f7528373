"""Scores as the Gaussian process sees them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

__all__ = ["ScoreTransform"]

Array = NDArray[np.float64]

# Scores further above the median than this many times the distance from the median to the upper
# quartile are moved there.
_WINSOR = 10.0


class ScoreTransform:
    """Failures, outliers and heavy lower tails made harmless; order and upper half kept.

    In this order: failed fits (NaN, infinite) take the worst finite score; scores far above the
    rest are moved nearer (winsorised); those below the median are replaced by normal quantiles of
    their ranks, scaled to join the upper half (half-rank warping; Song et al., 2024, "The
    Vizier Gaussian process bandit algorithm", section 3.2); then mean 0 and variance 1.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        At least one of them is finite.

    Attributes
    ----------
    y : ndarray of shape (n,)
        The transformed scores.
    is_constant : bool
        Whether all scores are the same; then `y` is all zeros.
    """

    def __init__(self, scores: Array) -> None:
        finite = np.isfinite(scores)
        lowest = float(scores[finite].min())
        scores = np.where(finite, scores, lowest)
        median = float(np.median(scores))
        # Halved before subtracting, lest 1e308 - (-1e308) overflows.
        unit = 2.0 * float(np.max(np.abs(scores / 2.0 - median / 2.0)))
        self.is_constant = not unit > 0.0
        self._raw = scores
        self.y = np.zeros(len(scores))
        if self.is_constant:
            return
        upper = scores[scores >= median] / 2.0 - median / 2.0
        spread = float(np.quantile(upper, 0.5))
        if spread == 0.0:
            spread = float(upper[upper > 0].min()) if (upper > 0).any() else 0.0
        deviations = scores / 2.0 - median / 2.0
        if spread > 0.0:
            deviations = np.minimum(deviations, _WINSOR * spread) / spread
        warped = _half_ranks(deviations)
        self.y = (warped - warped.mean()) / warped.std()

    def inverse(self, y: Array) -> Array:
        """Scores that correspond to transformed ones: piecewise linear, on beyond the ends."""
        if self.is_constant:
            return np.full_like(y, self._raw[0])
        known, first = np.unique(self.y, return_index=True)
        raw = self._raw[first]
        out = np.interp(y, known, raw)
        for beyond, end, inner in ((y < known[0], 0, 1), (y > known[-1], -1, -2)):
            slope = (raw[end] - raw[inner]) / (known[end] - known[inner])
            out = np.where(beyond, raw[end] + slope * (y - known[end]), out)
        return np.asarray(out)


def _half_ranks(deviations: Array) -> Array:
    """Deviations from the median, the negative ones by rank."""
    below = deviations < 0.0
    if not below.any():
        return deviations
    above = deviations[~below]
    spread = np.sqrt(np.mean(above**2)) or 1.0
    # A standard normal's upper half has root mean square 1.
    ranks = rankdata(deviations)
    quantiles = ndtri((ranks - 0.5) / len(deviations))
    return np.where(below, spread * np.minimum(quantiles, 0.0), deviations)
