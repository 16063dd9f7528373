"""Hyperparameters of the Gaussian process: the maximum a posteriori by L-BFGS."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, lapack
from scipy.optimize import minimize

from .coordinates import Coordinates
from .kernel import matern52_slope
from .posterior import cholesky
from .settings import SETTINGS
from .subset import spread

__all__ = ["Hyperparameters", "Laplace", "Prior", "fit", "negative_log_posterior"]

Array = NDArray[np.float64]

# Step of the (logarithmic) hyperparameters in finite differences of the posterior's slope.
_STEP = 1e-2


class Prior:
    """Independent normal priors of theta, and what is given of the kernel.

    Parameters
    ----------
    coordinates : Coordinates
        Of d dimensions. More of them have longer length scales.
    most_noise : float, default=2.0
        Upper bound of the logarithm of the noise variance.
    """

    def __init__(
        self, coordinates: Coordinates, most_noise: float = SETTINGS.noise_bounds[1]
    ) -> None:
        n_dims = coordinates.n_dims
        self.coordinates = coordinates
        length = SETTINGS.length_at_1 + SETTINGS.length_per_log * math.log(max(n_dims, 1))
        noise, scale = SETTINGS.noise_prior, SETTINGS.scale_prior
        self.mean = np.array([length] * n_dims + [noise[0], scale[0]])
        self.std = np.array([1.0] * n_dims + [noise[1], scale[1]])
        noise_bounds = SETTINGS.noise_bounds[0], most_noise
        self.bounds = [SETTINGS.length_bounds] * n_dims + [noise_bounds, SETTINGS.scale_bounds]

    def penalty(self, theta: Array) -> tuple[float, Array]:
        """Negative log density without its constant, and the gradient."""
        standard = (theta - self.mean) / self.std
        return 0.5 * float(standard @ standard), standard / self.std


def negative_log_posterior(
    theta: Array, D: Array, y: Array, noise: Array, prior: Prior
) -> tuple[float, Array]:
    """Negative log of likelihood times prior, without constants.

    Parameters
    ----------
    theta : ndarray of shape (d + 2,)
    D : ndarray of shape (d, n (n - 1) / 2)
    y : ndarray of shape (n,)
    noise : ndarray of shape (n,)
        Relative noise variances, factors of the noise variance in theta.
    prior : Prior

    Returns
    -------
    value : float
    gradient : ndarray of shape (d + 2,)
    """
    d, n = D.shape[0], len(y)
    weights = np.exp(-2.0 * theta[:d])
    noise_variance, scale = np.exp(theta[d:])
    pairs = np.tril_indices(n, -1)
    covariance, slope = matern52_slope(weights @ D)
    variance, choices = prior.coordinates.variance, prior.coordinates.choices
    if choices:  # their offsets
        covariance += prior.coordinates.offset * (1.0 - D[choices]).sum(axis=0)
    K = np.diag(scale * variance + noise_variance * noise)
    K[pairs] = scale * covariance
    L = cholesky(K)
    inverse, _ = lapack.dpotri(L, lower=1)  # the lower triangle only
    alpha = cho_solve((L, True), y, check_finite=False)
    penalty, penalty_gradient = prior.penalty(theta)
    value = 0.5 * float(y @ alpha) + float(np.log(np.diag(L)).sum()) + penalty

    # dvalue/dK, pairs counted twice, then the chain rule to each entry of theta.
    G = inverse[pairs] - alpha[pairs[0]] * alpha[pairs[1]]
    G_diagonal = 0.5 * (np.diag(inverse) - alpha**2)
    gradient = np.empty(d + 2)
    gradient[:d] = -2.0 * scale * weights * (D @ (G * slope))
    gradient[d] = noise_variance * float(G_diagonal @ noise)
    gradient[d + 1] = scale * float(G @ covariance + variance * G_diagonal.sum())
    return value, gradient + penalty_gradient


def fit(D: Array, y: Array, noise: Array, prior: Prior, starts: list[Array]) -> Array:
    """The theta of highest posterior density found from several starts.

    The first start, if no descent gives a finite value.
    """
    best, lowest = starts[0], math.inf
    for start in starts:
        found = minimize(
            negative_log_posterior,
            start,
            args=(D, y, noise, prior),
            jac=True,
            method="L-BFGS-B",
            bounds=prior.bounds,
            options={"maxiter": SETTINGS.max_iterations, "ftol": 1e-7, "gtol": 1e-4},
        )
        if found.fun < lowest:
            best, lowest = found.x, found.fun
    return np.asarray(best)


class Laplace:
    """The normal distribution around a maximum of the posterior of theta, within its bounds.

    Parameters
    ----------
    theta : ndarray of shape (d + 2,)
        The maximum.
    D, y, noise, prior : object
        As in `negative_log_posterior`.
    """

    def __init__(self, theta: Array, D: Array, y: Array, noise: Array, prior: Prior) -> None:
        self._theta = theta
        self._low, self._high = np.array(prior.bounds).T
        slopes = [
            negative_log_posterior(theta + step, D, y, noise, prior)[1]
            - negative_log_posterior(theta - step, D, y, noise, prior)[1]
            for step in _STEP * np.eye(len(theta))
        ]
        curvature = np.array(slopes) / (2.0 * _STEP)
        values, vectors = np.linalg.eigh((curvature + curvature.T) / 2.0)
        # The prior alone has curvature 1 / std^2; less is a numerical error, or a saddle point.
        least = float((1.0 / prior.std**2).min())
        self._roots = vectors / np.sqrt(np.maximum(values, least))

    def draw(self, rng: np.random.Generator, width: float = 1.0) -> Array:
        """Draw a theta, `width` times as far from the maximum."""
        theta = self._theta + width * (self._roots @ rng.standard_normal(len(self._theta)))
        return np.asarray(np.clip(theta, self._low, self._high))


class Hyperparameters:
    """Theta, updated as scores come in; the prior's mean before the first fit.

    `most_noise` is the upper bound of the logarithm of the noise variance.
    """

    def __init__(
        self, coordinates: Coordinates, most_noise: float = SETTINGS.noise_bounds[1]
    ) -> None:
        self._coordinates = coordinates
        self._prior = Prior(coordinates, most_noise)
        self.theta = self._prior.mean
        self._n_fitted = 0
        self._n_fits = 0
        self._known: tuple[Array, Array, Array] | None = None  # what theta was fitted to
        self._distribution: Laplace | None = None

    def update(self, z: Array, y: Array, noise: Array, n_others: int = 0) -> None:
        """Fit theta to points and their transformed scores, if it is out of date.

        `n_others` is the number of scores that are not in the model.
        """
        n = len(y) + n_others
        if (
            n > SETTINGS.most_fitted
            and 0 <= 100 * (n - self._n_fitted) < SETTINGS.refit_percent * n
        ):
            return
        rows = _some_rows(y, SETTINGS.most_fitted)
        starts = [self.theta]
        again = n <= SETTINGS.restart_below or self._n_fits % SETTINGS.restart_every == 0
        if again and self._n_fits:  # the first start is that of the prior
            starts.append(self._prior.mean)
        D = self._coordinates.differences(z[rows])
        self.theta = fit(D, y[rows], noise[rows], self._prior, starts)
        self._known, self._distribution = (z[rows], y[rows], noise[rows]), None
        self._n_fitted = n
        self._n_fits += 1

    def draw(self, rng: np.random.Generator) -> Array:
        """Draw a theta that explains the scores, too; theta itself before a fit."""
        if self._known is None:
            return self.theta
        if self._distribution is None:
            z, y, noise = self._known
            D = self._coordinates.differences(z)
            self._distribution = Laplace(self.theta, D, y, noise, self._prior)
        return self._distribution.draw(rng, SETTINGS.draw_width)


def _some_rows(y: Array, n: int) -> NDArray[np.intp]:
    """Rows of the better half of `n` scores, and as many evenly from the others."""
    if len(y) <= n:
        return np.arange(len(y))
    order = np.argsort(-y, kind="stable")
    best, rest = order[: n // 2], np.sort(order[n // 2 :])
    return np.sort(np.concatenate([best, spread(rest, n - n // 2)]))
