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

__all__ = ["Hyperparameters", "Prior", "fit", "negative_log_posterior"]

Array = NDArray[np.float64]


class Prior:
    """Independent normal priors of theta.

    Parameters
    ----------
    n_dims : int
        Number of coordinates, d. More coordinates have longer length scales.
    most_noise : float, default=2.0
        Upper bound of the logarithm of the noise variance.
    """

    def __init__(self, n_dims: int, most_noise: float = SETTINGS.noise_bounds[1]) -> None:
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
    correlation, slope = matern52_slope(weights @ D)
    K = np.diag(scale + noise_variance * noise)
    K[pairs] = scale * correlation
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
    gradient[d + 1] = scale * float(G @ correlation + G_diagonal.sum())
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


class Hyperparameters:
    """Theta, updated as scores come in; the prior's mean before the first fit.

    `most_noise` is the upper bound of the logarithm of the noise variance.
    """

    def __init__(
        self, coordinates: Coordinates, most_noise: float = SETTINGS.noise_bounds[1]
    ) -> None:
        self._coordinates = coordinates
        self._prior = Prior(coordinates.n_dims, most_noise)
        self.theta = self._prior.mean
        self._n_fitted = 0
        self._n_fits = 0

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
        if n <= SETTINGS.restart_below or self._n_fits % SETTINGS.restart_every == 0:
            starts.append(self._prior.mean)
        D = self._coordinates.differences(z[rows])
        self.theta = fit(D, y[rows], noise[rows], self._prior, starts)
        self._n_fitted = n
        self._n_fits += 1


def _some_rows(y: Array, n: int) -> NDArray[np.intp]:
    """Rows of the better half of `n` scores, and as many evenly from the others."""
    if len(y) <= n:
        return np.arange(len(y))
    order = np.argsort(-y, kind="stable")
    best, rest = order[: n // 2], np.sort(order[n // 2 :])
    return np.sort(np.concatenate([best, spread(rest, n - n // 2)]))
