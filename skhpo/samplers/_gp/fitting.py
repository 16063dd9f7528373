"""Hyperparameters of the Gaussian process: the maximum a posteriori by L-BFGS."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.optimize import minimize

from .kernel import matern52_slope
from .posterior import cholesky

__all__ = ["Prior", "fit", "negative_log_posterior"]

Array = NDArray[np.float64]

_MAX_ITERATIONS = 60
_NOISE = (-5.0, 1.5)
_SCALE = (0.0, 0.7)
_BOUNDS = ((-5.0, 6.0), (-14.0, 2.0), (-5.0, 5.0))  # length, noise, scale


class Prior:
    """Independent normal priors of theta.

    Parameters
    ----------
    n_dims : int
        Number of coordinates, d. The more there are, the longer the length scales.
    """

    def __init__(self, n_dims: int) -> None:
        length = -0.3 + 0.5 * math.log(max(n_dims, 1))
        self.mean = np.array([length] * n_dims + [_NOISE[0], _SCALE[0]])
        self.std = np.array([1.0] * n_dims + [_NOISE[1], _SCALE[1]])
        self.bounds = [_BOUNDS[0]] * n_dims + [_BOUNDS[1], _BOUNDS[2]]

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
    D : ndarray of shape (d, n, n)
    y : ndarray of shape (n,)
    noise : ndarray of shape (n,)
        Relative noise variances: the noise variance in theta times these is what each score has.
    prior : Prior

    Returns
    -------
    value : float
    gradient : ndarray of shape (d + 2,)
    """
    d, n = D.shape[0], len(y)
    weights = np.exp(-2.0 * theta[:d])
    noise_variance, scale = np.exp(theta[d:])
    flat = D.reshape(d, n * n)
    correlation, slope = matern52_slope((weights @ flat).reshape(n, n))
    K = scale * correlation
    K[np.diag_indices(n)] += noise_variance * noise
    L = cholesky(K)
    inverse, _ = lapack.dpotri(L, lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    alpha = inverse @ y
    penalty, penalty_gradient = prior.penalty(theta)
    value = 0.5 * float(y @ alpha) + float(np.log(np.diag(L)).sum()) + penalty

    # dvalue/dK, then the chain rule to each entry of theta.
    G = 0.5 * (inverse - np.outer(alpha, alpha))
    gradient = np.empty(d + 2)
    gradient[:d] = -2.0 * scale * weights * (flat @ (G * slope).ravel())
    gradient[d] = noise_variance * float(np.diag(G) @ noise)
    gradient[d + 1] = scale * float((G * correlation).sum())
    return value, gradient + penalty_gradient


def fit(D: Array, y: Array, noise: Array, prior: Prior, starts: list[Array]) -> Array:
    """The theta of highest posterior density found from some starts.

    Parameters
    ----------
    D, y, noise, prior
        As for `negative_log_posterior`.
    starts : list of ndarray of shape (d + 2,)

    Returns
    -------
    theta : ndarray of shape (d + 2,)
        The first start where no descent gave a finite value.
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
            options={"maxiter": _MAX_ITERATIONS},
        )
        if found.fun < lowest:
            best, lowest = found.x, found.fun
    return np.asarray(best)
