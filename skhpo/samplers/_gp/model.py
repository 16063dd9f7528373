"""A Gaussian process of given scores for predictions and draws, without proposals."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...process import one_thread
from ...space import SearchSpace
from .coordinates import Coordinates
from .fitting import Laplace, Prior, fit
from .posterior import Posterior
from .scores import ScoreTransform
from .settings import SETTINGS
from .subset import modelled_rows, spread

__all__ = ["ScoreModel"]

Array = NDArray[np.float64]

# Number of random features of a drawn function. Their error is 1 / sqrt of it; the correction by
# the scores is exact for any number.
_N_FEATURES = 384
# The spectrum of the Matern kernel of smoothness 5/2 is a Student t of so many degrees of freedom.
_DEGREES = 5.0


class ScoreModel:
    """The Gaussian process of `BayesSampler`, fitted to known scores.

    Parameters
    ----------
    space : SearchSpace
    u : ndarray of shape (n, n_dims)
        Snapped points of the unit cube.
    scores : ndarray of shape (n,)
        Larger is better. Outliers are clipped as in `BayesSampler`.
    variances : ndarray of shape (n,) or None, default=None
        Variances of the scores; NaN where unknown.
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
            self._prior = Prior(coordinates)
            self._distribution: Laplace | None = None
            rows = spread(np.arange(len(y)), min(len(y), SETTINGS.most_fitted))
            self._fitted = coordinates.differences(z[rows]), y[rows], noise[rows]
            theta = fit(*self._fitted, self._prior, [self._prior.mean, self._prior.mean - 1.0])
            self._rows = kept = modelled_rows(coordinates, theta, z, y)
            self._posterior = Posterior(coordinates, theta, z[kept], y[kept], noise[kept])

    @property
    def noise_variance(self) -> float:
        """Variance of scores that the configuration does not explain, in squared units."""
        return self._posterior.noise_variance * self._unit**2

    def predict(self, u: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation of the noise-free score at snapped points."""
        with one_thread():
            mean, std = self._posterior.predict(self._coordinates.encode(u))
        return self._centre + self._unit * mean[:, 0], self._unit * std

    def left_out(self) -> tuple[NDArray[np.intp], Array]:
        """Return what is left of each score by a model without it, by its number.

        Returns
        -------
        rows : ndarray of int, shape (m,)
            All, or of many scores those in the model.
        left : ndarray of shape (m,)
        """
        return self._rows, self._unit * self._posterior.left_out()[:, 0]

    def draw(self, u: Array, n: int, rng: np.random.Generator) -> Array:
        """Draw functions from the posterior, and return them at snapped points.

        First, hyperparameters are drawn (one set for all functions of a call) from the normal
        distribution around their maximum. Then functions are drawn from the prior by random
        features, and corrected to agree with the scores (Wilson et al., 2020, "Efficiently sampling
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
            if self._distribution is None:
                theta = self._posterior.theta
                self._distribution = Laplace(theta, *self._fitted, self._prior)
            theta = self._distribution.draw(rng)
            known, noise = self._posterior.z, self._posterior.noise
            z = self._coordinates.encode(u)
            functions = self._draw_prior(np.concatenate([known, z]), theta, n, rng)
            deviation = np.sqrt(np.exp(theta[-2]) * noise)[:, None]
            seen = functions[: len(known)] + deviation * rng.standard_normal((len(known), n))
            left = self._posterior.y[:, :1] - seen
            correction = Posterior(self._coordinates, theta, known, left, noise).predict(z)[0]
            drawn = functions[len(known) :] + correction
        return np.asarray(self._centre + self._unit * drawn)

    def _draw_prior(self, z: Array, theta: Array, n: int, rng: np.random.Generator) -> Array:
        x = self._coordinates.embed(z, theta[: self._coordinates.n_dims])
        tails = np.sqrt(_DEGREES / rng.chisquare(_DEGREES, size=_N_FEATURES))
        frequencies = rng.standard_normal((x.shape[1], _N_FEATURES)) * tails
        features = np.cos(x @ frequencies + rng.uniform(0.0, 2.0 * math.pi, _N_FEATURES))
        weights = rng.standard_normal((_N_FEATURES, n))
        scale = math.sqrt(2.0 * math.exp(theta[-1]) / _N_FEATURES)
        drawn = scale * (features @ weights)
        offset = math.sqrt(math.exp(theta[-1]) * self._coordinates.offset)
        for column in self._coordinates.choice_columns:
            codes, groups = np.unique(z[:, column], return_inverse=True)
            drawn += offset * rng.standard_normal((len(codes), n))[groups]
        return np.asarray(drawn)
