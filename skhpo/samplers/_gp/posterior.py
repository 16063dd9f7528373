"""The posterior of the Gaussian process, with fantasies of pending points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, lapack
from scipy.linalg import cholesky as scipy_cholesky

from .coordinates import Coordinates

__all__ = ["Posterior", "cholesky"]

Array = NDArray[np.float64]


def cholesky(K: Array) -> Array:
    """Lower Cholesky factor; jitter on the diagonal grows tenfold until it exists."""
    jitter = 0.0
    while True:
        try:
            raised = K + jitter * np.eye(len(K)) if jitter else K
            return np.asarray(scipy_cholesky(raised, lower=True, check_finite=False))
        except LinAlgError:
            jitter = 10.0 * jitter or 1e-10 * float(np.mean(np.diag(K)))


class Posterior:
    """Mean and variance of the noise-free score at any point.

    Parameters
    ----------
    coordinates : Coordinates
    theta : ndarray of shape (d + 2,)
        Logarithms of length scales, noise variance and signal variance.
    z : ndarray of shape (n, n_columns)
        Observed points.
    y : ndarray of shape (n,) or (n, s)
        Their scores, with s fantasies.
    noise : ndarray of shape (n,)
        Relative noise variances.
    """

    def __init__(
        self, coordinates: Coordinates, theta: Array, z: Array, y: Array, noise: Array
    ) -> None:
        self.coordinates = coordinates
        self.theta = theta
        self.z = z
        self.y = y[:, None] if y.ndim == 1 else y
        self.noise = noise
        K = self._kernel(z, z)
        K[np.diag_indices(len(z))] += self.noise_variance * noise
        L = cholesky(K)
        self._alpha = cho_solve((L, True), self.y, check_finite=False)
        # For thousands of points a product with the inverse is much faster than solving.
        self._inverse, _ = lapack.dtrtri(L, lower=1)

    @property
    def scale(self) -> float:
        """Signal variance."""
        return float(np.exp(self.theta[-1]))

    @property
    def noise_variance(self) -> float:
        """Noise variance of a score with relative noise 1."""
        return float(np.exp(self.theta[-2]))

    def predict(self, z: Array) -> tuple[Array, Array]:
        """Mean of shape (m, s), and standard deviation of shape (m,)."""
        k = self._kernel(self.z, z)
        half = self._inverse @ k
        variance = self.scale * self.coordinates.variance - np.einsum("nm,nm->m", half, half)
        return k.T @ self._alpha, np.sqrt(np.maximum(variance, 1e-12 * self.scale))

    def left_out(self) -> Array:
        """Return observed scores less the mean that a posterior without each predicts for it.

        In closed form (Rasmussen and Williams, 2006, equation 5.12).

        Returns
        -------
        ndarray of shape (n, s)
        """
        return np.asarray(
            self._alpha / np.einsum("ij,ij->j", self._inverse, self._inverse)[:, None]
        )

    def choice_spreads(self) -> Array:
        """How far the means of each choice's offsets are apart; 0 for numbers, of shape (d,)."""
        spreads = np.zeros(self.coordinates.n_dims)
        columns = zip(self.coordinates.choices, self.coordinates.choice_columns, strict=True)
        for j, column in columns:
            _, groups = np.unique(self.z[:, column], return_inverse=True)
            offsets = np.bincount(groups, weights=self._alpha.mean(axis=1))
            spreads[j] = self.scale * self.coordinates.offset * np.ptp(offsets)
        return spreads

    def with_fantasies(self, z: Array, n_fantasies: int, rng: np.random.Generator) -> Posterior:
        """Condition on joint draws of the scores of pending points, of shape (m, n_columns).

        All fantasies share one Cholesky factor.
        """
        k = self._kernel(self.z, z)
        half = self._inverse @ k
        covariance = self._kernel(z, z) - half.T @ half
        covariance[np.diag_indices(len(z))] += self.noise_variance
        draws = cholesky(covariance) @ rng.standard_normal((len(z), n_fantasies))
        known = np.repeat(self.y[:, :1], n_fantasies, axis=1)
        return self._with(z, np.vstack([known, k.T @ self._alpha[:, :1] + draws]))

    def with_means(self, z: Array) -> Posterior:
        """Condition on the means at pending points: no mean changes, only what is uncertain."""
        return self._with(z, np.vstack([self.y, self._kernel(self.z, z).T @ self._alpha]))

    def _with(self, z: Array, y: Array) -> Posterior:
        noise = np.concatenate([self.noise, np.ones(len(z))])
        return Posterior(self.coordinates, self.theta, np.vstack([self.z, z]), y, noise)

    def _kernel(self, a: Array, b: Array) -> Array:
        log_length = self.theta[: self.coordinates.n_dims]
        return self.scale * self.coordinates.covariance(a, b, log_length)
