"""Logarithm of the expected improvement."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, log_ndtr, logsumexp

from .posterior import Posterior

__all__ = ["LogExpectedImprovement", "PerSecond", "log_h"]

Array = NDArray[np.float64]

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


def log_h(x: Array) -> Array:
    """Logarithm of the expected improvement of a standard normal variable over ``-x``.

    ``h(x) = phi(x) + x Phi(x)``, accurate in relative terms for every x (after Ament et al., 2023,
    "Unexpected improvements to expected improvement", section 4.1; the asymptotic series replaces
    their last case).
    """
    x = np.asarray(x, dtype=float)
    out = np.empty_like(x)
    near = x > -1.0
    far = x < -30.0
    middle = ~(near | far)
    a = x[near]
    out[near] = np.log(np.exp(-0.5 * a**2 - _LOG_SQRT_2PI) + a * np.exp(log_ndtr(a)))
    b = x[middle]
    mills = math.sqrt(math.pi / 2.0) * erfcx(-b / math.sqrt(2.0))  # Phi(b) / phi(b)
    out[middle] = -0.5 * b**2 - _LOG_SQRT_2PI + np.log1p(b * mills)
    c = x[far]
    t = 1.0 / c**2
    series = t * (-3.0 + t * (15.0 + t * (-105.0 + t * (945.0 - 10395.0 * t))))
    out[far] = -0.5 * c**2 - _LOG_SQRT_2PI + np.log(t) + np.log1p(series)
    return out


class LogExpectedImprovement:
    """Logarithm of the expected improvement over the best posterior mean, averaged over fantasies.

    Parameters
    ----------
    posterior : Posterior

    Attributes
    ----------
    best : ndarray of shape (s,)
        Highest posterior mean at observed and pending points, by fantasy.
    """

    def __init__(self, posterior: Posterior) -> None:
        self.posterior = posterior
        mean, _ = posterior.predict(posterior.coordinates.wanted(posterior.z))
        self.best = mean.max(axis=0)

    def __call__(self, z: Array) -> Array:
        """Values of shape (m,) at points of shape (m, n_columns)."""
        mean, std = self.posterior.predict(z)
        values = log_h((mean - self.best) / std[:, None]) + np.log(std)[:, None]
        return np.asarray(logsumexp(values, axis=1) - math.log(values.shape[1]))


class PerSecond:
    """Logarithm of an acquisition function divided by the expected duration.

    `log_seconds` is the posterior of the standardised logarithm of the seconds, `spread` the
    standard deviation of that logarithm.
    """

    def __init__(
        self, acquisition: LogExpectedImprovement, log_seconds: Posterior, spread: float
    ) -> None:
        self.acquisition = acquisition
        self.log_seconds = log_seconds
        self.spread = spread

    def __call__(self, z: Array) -> Array:
        """Values of shape (m,), up to a constant, at points of shape (m, n_columns)."""
        mean, _ = self.log_seconds.predict(z)
        return np.asarray(self.acquisition(z) - self.spread * mean[:, 0])
