"""The transformation of scores, and of violations of constraints, for the Gaussian process."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from .settings import SETTINGS

__all__ = ["ObjectiveTransform", "ScoreTransform", "SlackTransform"]

Array = NDArray[np.float64]


class ScoreTransform:
    """Reduces the influence of failures, outliers and bad scores; keeps order and upper half.

    In this order: failed fits (NaN, minus infinity) get the worst finite score; infinite and
    absurdly high scores, which a search treats as the best like `GridSearchCV`, the best of the
    others; scores far from the rest are winsorised; those below the median are replaced by normal
    quantiles of their ranks, scaled to join the upper half (half-rank warping; Song et al., 2024,
    "The Vizier Gaussian process bandit algorithm", section 3.2); then mean 0 and variance 1.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        At least one of them is finite.

    Attributes
    ----------
    y : ndarray of shape (n,)
        The transformed scores.
    clipped : ndarray of shape (n,)
        The untransformed scores, with winsorised failures and outliers.
    is_constant : bool
        Whether all scores are the same; then `y` is all zeros.
    unit : float
        One unit of `y` in units of scores, above the median.
    """

    def __init__(self, scores: Array) -> None:
        finite = scores[np.isfinite(scores)]
        scores = np.where(
            np.isnan(scores), finite.min(), np.clip(scores, finite.min(), finite.max())
        )
        # Halved before subtracting to avoid overflow of 1e308 - (-1e308).
        middle = float(np.median(scores / 2.0))
        deviations = scores / 2.0 - middle
        absurd = _is_absurd(deviations, middle)
        if absurd.any():
            scores = np.where(absurd, scores[~absurd].max(), scores)
            middle = float(np.median(scores / 2.0))
            deviations = scores / 2.0 - middle
        self.is_constant = not np.any(deviations)
        self.clipped = scores
        self.unit = 1.0
        self.y = np.zeros(len(scores))
        if self.is_constant:
            return
        above, below = _spread(deviations), _spread(-deviations)
        with np.errstate(over="ignore"):
            far = SETTINGS.winsor
            nearer = np.clip(deviations, -far * below or -np.inf, far * above or np.inf)
            self.clipped = 2.0 * (middle + nearer)
        warped = self._warp(deviations, nearer, above, below)
        self.y = (warped - warped.mean()) / warped.std()
        if above > 0.0:
            self.unit = 2.0 * above * float(warped.std())

    def _warp(self, deviations: Array, nearer: Array, above: float, below: float) -> Array:
        """Change values below the median.

        Parameters
        ----------
        deviations, nearer : ndarray of shape (n,)
            From the median, and winsorised.
        above, below : float
            The typical deviation above and below the median; 0 if there is none.

        Returns
        -------
        ndarray of shape (n,)
            In units of `above`, unless it is 0.
        """
        if above > 0.0:
            # Scores below the median are only ranked.
            deviations = np.where(deviations > 0.0, np.maximum(nearer, 0.0) / above, deviations)
        return _half_ranks(deviations)

    @property
    def preference(self) -> Array:
        """The better a score, the more it matters."""
        return self.y

    def relative_noise(self, variances: Array) -> Array:
        """Noise variances of the transformed scores, relative to their median; 1 if unknown (NaN).

        A variance is an estimate from as few as two splits, and inflated by splits that are hard
        for all configurations; so its square root is used, limited to a factor of 10.
        """
        noise = np.ones(len(variances))
        # Slope of the transformation: the chord to the median.
        halves = self.clipped / 2.0
        with np.errstate(all="ignore"):
            stretch = (self.y - np.median(self.y)) / (2.0 * (halves - np.median(halves)))
            transformed = variances * stretch**2
        known = np.isfinite(transformed) & (transformed > 0.0)
        if known.sum() > 1:
            ratios = transformed[known] / np.median(transformed[known])
            most = SETTINGS.noise_limit
            noise[known] = np.clip(ratios**SETTINGS.noise_power, 1.0 / most, most)
        return noise


class ObjectiveTransform(ScoreTransform):
    """The transformation of one of several objectives, most of whose values keep their shape.

    A value that is bad in one objective may be on the front, and volumes count it as it is: only
    far below the median, where failed fits and bad regions are, values grow by their logarithm.
    """

    def _warp(self, deviations: Array, nearer: Array, above: float, below: float) -> Array:
        far = SETTINGS.tail
        with np.errstate(over="ignore"):
            scaled = nearer / (above or below)
        excess = np.clip(-scaled / far, 1.0, SETTINGS.gap)
        return np.where(excess > 1.0, -far * (1.0 + np.log(excess)), scaled)


class SlackTransform:
    """Reduces the influence of large violations of a constraint; keeps which are feasible.

    Violations become slack, larger is better, in units of the median size. Near the limit they
    keep their shape, because that is where the model must be exact; sizes of more than
    `Settings.slack_tail` units grow by their logarithm. Then mean 0 and variance 1. (The logarithm
    everywhere, as in Eriksson and Poloczek, 2021, "Scalable constrained Bayesian optimization",
    section 3.2, bends at the limit, which the model explains as noise.)

    Parameters
    ----------
    violations : ndarray of shape (n,)
        Without NaN; at most 0 where the constraint holds.

    Attributes
    ----------
    y : ndarray of shape (n,)
        The slack.
    is_constant : bool
        Whether all violations are the same; then `y` is all zeros.
    limit : float
        The least slack that is feasible.
    """

    def __init__(self, violations: Array) -> None:
        sizes = np.abs(violations)
        is_size = np.isfinite(sizes) & (sizes > 0.0)
        # Halved, as the mean of two sizes may overflow.
        half = float(np.median(sizes[is_size] / 2.0)) if is_size.any() else 0.5
        with np.errstate(over="ignore"):
            relative = np.minimum(sizes / 2.0 / (half or 1.0), SETTINGS.gap)
        tail = SETTINGS.slack_tail
        far = np.maximum(relative / tail, 1.0)
        slack = -np.sign(violations) * np.where(far > 1.0, tail * (1.0 + np.log(far)), relative)
        mean, std = float(slack.mean()), float(slack.std())
        self.is_constant = not std > 0.0
        self.y = (slack - mean) / (std or 1.0)
        self.limit = -mean / (std or 1.0)

    @property
    def preference(self) -> Array:
        """The nearer to the limit, the more a violation matters."""
        return np.asarray(-np.abs(self.y - self.limit))

    def relative_noise(self, variances: Array) -> Array:
        """1 for each violation: their noise is not known."""
        return np.ones(len(variances))


def _is_absurd(deviations: Array, middle: float) -> NDArray[np.bool_]:
    """Which scores are absurdly far above the others, relative to deviations and median."""
    size = max(float(np.median(np.abs(deviations))), abs(middle))
    return np.asarray(deviations / SETTINGS.gap > size) if size > 0.0 else deviations > np.inf


def _spread(deviations: Array) -> float:
    """The median of the non-negative deviations, or if it is 0 of the positive ones."""
    upper = deviations[deviations >= 0.0]
    if not (upper > 0.0).any():
        return 0.0
    return float(np.median(upper)) or float(np.median(upper[upper > 0.0]))


def _half_ranks(deviations: Array) -> Array:
    """Deviations from the median; negative ones are replaced by quantiles of ranks."""
    below = deviations < 0.0
    if not below.any():
        return deviations
    above = deviations[~below]
    spread = np.sqrt(np.mean(above**2)) or 1.0
    # A standard normal's upper half has root mean square 1.
    ranks = rankdata(deviations)
    quantiles = ndtri((ranks - 0.5) / len(deviations))
    return np.where(below, spread * np.minimum(quantiles, 0.0), deviations)
