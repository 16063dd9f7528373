"""A Gaussian process of given scores, to be asked about; nothing is proposed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...process import one_thread
from ...space import SearchSpace
from .coordinates import Coordinates
from .fitting import Prior, fit, negative_log_posterior
from .posterior import Posterior
from .scores import ScoreTransform
from .settings import SETTINGS
from .subset import modelled_rows, spread

__all__ = ["ScoreModel"]

Array = NDArray[np.float64]

# Random features of a function that is drawn: their error is 1 / sqrt of that, and what the scores
# say is exact whatever their number.
_N_FEATURES = 384
# The Matern kernel of smoothness 5/2 has a Student t with so many degrees of freedom as spectrum.
_DEGREES = 5.0
# By how much a hyperparameter, a logarithm, is moved to see how the posterior curves.
_STEP = 1e-2


class ScoreModel:
    """The Gaussian process of `BayesSampler` over scores that are known.

    Parameters
    ----------
    space : SearchSpace
    u : ndarray of shape (n, n_dims)
        Snapped points of the unit cube.
    scores : ndarray of shape (n,)
        Larger is better. Outliers are moved nearer, as for `BayesSampler`.
    variances : ndarray of shape (n,) or None, default=None
        Of the scores; NaN where unknown.
    """

    def __init__(
        self, space: SearchSpace, u: Array, scores: Array, variances: Array | None = None
    ) -> None:
        with one_thread():
            self._coordinates = coordinates = Coordinates(space)
            transform = ScoreTransform(scores)
            y = transform.clipped
            self._centre, self._unit = float(y.mean()), float(y.std()) or 1.0
            y = (y - self._centre) / self._unit
            noise = np.ones(len(y))
            if variances is not None:
                noise = transform.relative_noise(variances)
            z = coordinates.encode(u)
            self._roots: Array | None = None
            self._prior = Prior(coordinates.n_dims)
            rows = spread(np.arange(len(y)), min(len(y), SETTINGS.most_fitted))
            self._fitted = coordinates.differences(z[rows]), y[rows], noise[rows]
            theta = fit(*self._fitted, self._prior, [self._prior.mean, self._prior.mean - 1.0])
            kept = modelled_rows(coordinates, theta, z, y)
            self._posterior = Posterior(coordinates, theta, z[kept], y[kept], noise[kept])

    @property
    def noise_variance(self) -> float:
        """What a score varies by beside its configuration, in squared units of the score."""
        return self._posterior.noise_variance * self._unit**2

    def predict(self, u: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the score without noise, at snapped points."""
        with one_thread():
            mean, std = self._posterior.predict(self._coordinates.encode(u))
        return self._centre + self._unit * mean[:, 0], self._unit * std

    def draw(self, u: Array, n: int, rng: np.random.Generator) -> Array:
        """Draw functions from the posterior, and return them at snapped points.

        The hyperparameters are drawn first (one set for all functions of a call), from the normal
        distribution around their maximum. A draw from the prior, by random features, is then
        corrected by what the scores say of it (Wilson et al., 2020, "Efficiently sampling
        functions from Gaussian process posteriors", equation 13).

        Parameters
        ----------
        u : ndarray of shape (m, n_dims)
        n : int
        rng : Generator

        Returns
        -------
        ndarray of shape (m, n)
        """
        with one_thread():
            theta = self._draw_theta(rng)
            known, noise = self._posterior.z, self._posterior.noise
            z = self._coordinates.encode(u)
            functions = self._draw_prior(np.concatenate([known, z]), theta, n, rng)
            deviation = np.sqrt(np.exp(theta[-2]) * noise)[:, None]
            seen = functions[: len(known)] + deviation * rng.standard_normal((len(known), n))
            left = self._posterior.y[:, :1] - seen
            correction = Posterior(self._coordinates, theta, known, left, noise).predict(z)[0]
            drawn = functions[len(known) :] + correction
        return np.asarray(self._centre + self._unit * drawn)

    def _draw_theta(self, rng: np.random.Generator) -> Array:
        """Draw hyperparameters from the normal distribution around their maximum (Laplace)."""
        if self._roots is None:
            self._roots = self._curvature_roots()
        low, high = np.array(self._prior.bounds).T
        theta = self._posterior.theta + self._roots @ rng.standard_normal(len(low))
        return np.asarray(np.clip(theta, low, high))

    def _curvature_roots(self) -> Array:
        theta = self._posterior.theta
        slopes = [
            negative_log_posterior(theta + step, *self._fitted, self._prior)[1]
            - negative_log_posterior(theta - step, *self._fitted, self._prior)[1]
            for step in _STEP * np.eye(len(theta))
        ]
        curvature = np.array(slopes) / (2.0 * _STEP)
        values, vectors = np.linalg.eigh((curvature + curvature.T) / 2.0)
        # The prior alone curves by 1 / std^2; less is an error of the differences, or a saddle.
        least = float((1.0 / self._prior.std**2).min())
        return np.asarray(vectors / np.sqrt(np.maximum(values, least)))

    def _draw_prior(self, z: Array, theta: Array, n: int, rng: np.random.Generator) -> Array:
        x = self._coordinates.embed(z, theta[: self._coordinates.n_dims])
        tails = np.sqrt(_DEGREES / rng.chisquare(_DEGREES, size=_N_FEATURES))
        frequencies = rng.standard_normal((x.shape[1], _N_FEATURES)) * tails
        features = np.cos(x @ frequencies + rng.uniform(0.0, 2.0 * math.pi, _N_FEATURES))
        weights = rng.standard_normal((_N_FEATURES, n))
        scale = math.sqrt(2.0 * math.exp(theta[-1]) / _N_FEATURES)
        return np.asarray(scale * (features @ weights))
