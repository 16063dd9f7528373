"""Acquisition functions, as logarithms: expected improvement, feasibility, cost."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfcx, log_ndtr, ndtr

from .posterior import Posterior
from .settings import SETTINGS

__all__ = [
    "Acquisition",
    "Equal",
    "Feasible",
    "LogExpectedImprovement",
    "PerSecond",
    "log_h",
    "log_sums",
]

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
    out[near] = np.log(np.exp(-0.5 * a**2 - _LOG_SQRT_2PI) + a * ndtr(a))
    b = x[middle]
    mills = math.sqrt(math.pi / 2.0) * erfcx(-b / math.sqrt(2.0))  # Phi(b) / phi(b)
    out[middle] = -0.5 * b**2 - _LOG_SQRT_2PI + np.log1p(b * mills)
    c = x[far]
    t = 1.0 / c**2
    series = t * (-3.0 + t * (15.0 + t * (-105.0 + t * (945.0 - 10395.0 * t))))
    out[far] = -0.5 * c**2 - _LOG_SQRT_2PI + np.log(t) + np.log1p(series)
    return out


def log_sums(logs: Array, starts: ArrayLike) -> Array:
    """Logarithms of sums over groups of columns, by the first of each group; without overflow.

    scipy's `logsumexp` takes several times as long for arrays as small as these.
    """
    starts = np.asarray(starts)
    largest = np.maximum.reduceat(logs, starts, axis=1)
    largest[np.isneginf(largest)] = 0.0
    sizes = np.diff(starts, append=logs.shape[1])
    scaled = np.exp(logs - np.repeat(largest, sizes, axis=1))
    with np.errstate(divide="ignore"):
        return np.asarray(largest + np.log(np.add.reduceat(scaled, starts, axis=1)))


class Acquisition(ABC):
    """The logarithm of an expectation, averaged over fantasies."""

    @abstractmethod
    def by_fantasy(self, z: Array) -> Array:
        """Values of shape (m, s) at points of shape (m, n_columns)."""

    def __call__(self, z: Array) -> Array:
        """Values of shape (m,) at points of shape (m, n_columns)."""
        values = self.by_fantasy(z)
        return log_sums(values, [0])[:, 0] - math.log(values.shape[1])


class LogExpectedImprovement(Acquisition):
    """Logarithm of the expected improvement over the best posterior mean.

    Parameters
    ----------
    posterior : Posterior
    points : ndarray of shape (n, n_columns) or None, default=None
        Where the best mean is looked for; None for the points of the posterior.
    feasible : ndarray of bool, shape (n, s), or None, default=None
        Which of the points count, by fantasy; None for all. Where none does, the values are 0, so
        that only the probability of feasibility matters.

    Attributes
    ----------
    best : ndarray of shape (s,)
        The best mean by fantasy, minus infinity where no point is feasible.
    """

    def __init__(
        self,
        posterior: Posterior,
        points: Array | None = None,
        feasible: NDArray[np.bool_] | None = None,
    ) -> None:
        self.posterior = posterior
        points = posterior.z if points is None else points
        mean, _ = posterior.predict(posterior.coordinates.wanted(points))
        if feasible is not None:
            mean = np.where(feasible, mean, -np.inf)
        self.best = mean.max(axis=0)

    def by_fantasy(self, z: Array) -> Array:
        mean, std = self.posterior.predict(z)
        values = np.zeros(mean.shape)
        known = np.isfinite(self.best)
        x = (mean[:, known] - self.best[known]) / std[:, None]
        values[:, known] = log_h(x) + np.log(std)[:, None]
        return values


class Equal(Acquisition):
    """Every point is worth the same; with `n_fantasies`."""

    def __init__(self, n_fantasies: int) -> None:
        self.n_fantasies = n_fantasies

    def by_fantasy(self, z: Array) -> Array:
        return np.zeros((len(z), self.n_fantasies))


class Feasible(Acquisition):
    """An acquisition function times the probability that all constraints hold.

    For expected improvement, this is the constrained expected improvement of Gardner et al. (2014,
    "Bayesian optimization with inequality constraints", equation 6), less a penalty on points of
    which one cannot be sure. Beyond a front that ends at a limit, unlikely points promise so much
    more than what is left to gain between known ones that they would be tried one after another.

    Parameters
    ----------
    acquisition : Acquisition
    slack : sequence of Posterior
        Of each constraint.
    limits : sequence of float
        The least slack that is feasible.
    penalty : float, default=0.0
        On the logarithm, for each standard deviation that is missing from `Settings.sure`.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        slack: Sequence[Posterior],
        limits: Sequence[float],
        penalty: float = 0.0,
    ) -> None:
        self.acquisition = acquisition
        self.slack = slack
        self.limits = limits
        self.penalty = penalty

    def by_fantasy(self, z: Array) -> Array:
        values = self.acquisition.by_fantasy(z)
        for posterior, limit in zip(self.slack, self.limits, strict=True):
            mean, std = posterior.predict(z)
            distance = (mean - limit) / std[:, None]
            unsure = np.minimum(distance - SETTINGS.sure, 0.0)
            values = values + log_ndtr(distance) + self.penalty * unsure
        return values


class PerSecond:
    """Logarithm of an acquisition function divided by the expected duration.

    `log_seconds` is the posterior of the standardised logarithm of the seconds, `spread` the
    standard deviation of that logarithm.
    """

    def __init__(self, acquisition: Acquisition, log_seconds: Posterior, spread: float) -> None:
        self.acquisition = acquisition
        self.log_seconds = log_seconds
        self.spread = spread

    def __call__(self, z: Array) -> Array:
        """Values of shape (m,), up to a constant, at points of shape (m, n_columns)."""
        mean, _ = self.log_seconds.predict(z)
        return np.asarray(self.acquisition(z) - self.spread * mean[:, 0])
