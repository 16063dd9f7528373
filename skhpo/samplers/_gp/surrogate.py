"""A Gaussian process of one objective or one constraint, whose values become more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .coordinates import Coordinates
from .fitting import Hyperparameters
from .levels import LevelCoordinates, at_top
from .posterior import Posterior
from .scores import ScoreTransform, SlackTransform
from .settings import SETTINGS
from .subset import modelled_rows

__all__ = ["Surrogate"]

Array = NDArray[np.float64]


class Surrogate:
    """A Gaussian process of transformed values, with hyperparameters that are kept between fits.

    Parameters
    ----------
    coordinates : Coordinates
    transform : type, default=ScoreTransform
        `ScoreTransform`, `ObjectiveTransform` or `SlackTransform`.

    Attributes
    ----------
    transform : ScoreTransform or SlackTransform
        Of the values that were set last; there is none before.
    preference : ndarray of shape (n,)
        Values with a large one matter more to the model where there are too many.
    """

    transform: ScoreTransform | SlackTransform
    preference: Array

    def __init__(
        self,
        coordinates: Coordinates,
        transform: type[ScoreTransform] | type[SlackTransform] = ScoreTransform,
    ) -> None:
        self._new_transform = transform
        self._models = _Model(coordinates), _Model(LevelCoordinates(coordinates))
        self._model = self._models[0]
        self._fitted: tuple[Posterior, NDArray[np.intp]] | None = None
        self._scores: tuple[Posterior, float, float] | None = None

    def set_values(
        self,
        u: Array,
        levels: Array,
        heights: Array | None,
        values: Array,
        variances: Array,
    ) -> None:
        """Replace the values, to which the process is fitted when that is needed.

        Parameters
        ----------
        u : ndarray of shape (n, n_dims)
        levels : ndarray of shape (n,)
            Resources.
        heights : ndarray of shape (n,) or None
            Heights of the levels (`at_top`); None if all values have one level.
        values : ndarray of shape (n,)
            One of them is finite.
        variances : ndarray of shape (n,)
        """
        self._model = self._models[heights is not None]
        self._z = self._models[0].coordinates.encode(u)
        if heights is not None:
            values, _ = at_top(levels, values, u)
            self._z = np.column_stack([self._z, heights])
        self.transform = self._new_transform(values)
        self._noise = self.transform.relative_noise(variances)
        self.preference = self.transform.preference
        self._fitted = self._scores = None

    @property
    def theta(self) -> Array:
        """Hyperparameters, those of the prior before values were set."""
        if hasattr(self, "transform"):
            self._fit()
        return self._model.hyperparameters.theta

    @property
    def relevance(self) -> Array:
        """Inverse length scales; what a choice adds counts like a distance with the same effect."""
        theta = self.theta
        inverse = np.exp(-theta[: self._model.coordinates.n_dims])
        if not hasattr(self, "transform"):
            return inverse
        # Two scores at a short distance r differ by 5/3 r^2 of the signal variance.
        squares = 0.6 * self.posterior.choice_spreads() ** 2 / self.posterior.scale
        return np.asarray(np.sqrt(inverse**2 + squares))

    @property
    def unit(self) -> float:
        """One unit of the transformed values in units of scores, above the median."""
        assert isinstance(self.transform, ScoreTransform)
        return self.transform.unit

    @property
    def posterior(self) -> Posterior:
        """The posterior of transformed values."""
        return self._fit()[0]

    def drawn_posterior(self, rng: np.random.Generator) -> Posterior:
        """The posterior with hyperparameters that are drawn from their distribution."""
        known = self.posterior
        theta = self._model.hyperparameters.draw(rng)
        return Posterior(known.coordinates, theta, known.z, known.y, known.noise)

    @property
    def kept(self) -> NDArray[np.intp]:
        """Rows of the posterior among those of the values."""
        return self._fit()[1]

    @property
    def limit(self) -> float:
        """The least transformed value that is feasible."""
        assert isinstance(self.transform, SlackTransform)
        return self.transform.limit

    def predict(self, u: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the score without noise, at snapped points."""
        if self._scores is None:
            self._scores = self._model_of_scores()
        posterior, centre, unit = self._scores
        means, std = posterior.predict(posterior.coordinates.encode(u))
        return centre + unit * means[:, 0], unit * std

    def _fit(self) -> tuple[Posterior, NDArray[np.intp]]:
        if self._fitted is None:
            model, z, y, noise = self._model, self._z, self.transform.y, self._noise
            if not self.transform.is_constant:
                model.hyperparameters.update(z, y, noise)
            theta = model.hyperparameters.theta
            kept = modelled_rows(model.coordinates, theta, z, self.preference)
            posterior = Posterior(model.coordinates, theta, z[kept], y[kept], noise[kept])
            self._fitted = posterior, kept
        return self._fitted

    def _model_of_scores(self) -> tuple[Posterior, float, float]:
        """A model of the untransformed scores for predictions, with their centre and unit."""
        assert isinstance(self.transform, ScoreTransform)
        fitted, kept = self._fit()
        scores = self.transform.clipped[kept]
        largest = np.abs(scores).max() or 1.0  # avoids overflow of squares
        centre, unit = (scores / largest).mean(), (scores / largest).std() or 1.0
        z, y = fitted.z, (scores / largest - centre) / unit
        of_scores = self._model.of_scores
        if not self.transform.is_constant:
            of_scores.update(z, y, fitted.noise, len(self._z) - len(y))
        posterior = Posterior(self._model.coordinates, of_scores.theta, z, y, fitted.noise)
        return posterior, float(largest * centre), float(largest * unit)


class _Model:
    """Coordinates, with hyperparameters for transformed and for untransformed scores."""

    def __init__(self, coordinates: Coordinates) -> None:
        self.coordinates = coordinates
        self.hyperparameters = Hyperparameters(coordinates, SETTINGS.most_noise)
        self.of_scores = Hyperparameters(coordinates)
