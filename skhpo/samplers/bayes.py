"""Bayesian optimisation with a Gaussian process."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc
from sklearn.utils import check_random_state

from .._compat import StrOptions
from ..arguments import COUNT, NON_NEGATIVE, check_arguments
from ..process import one_thread
from ..space import SearchSpace
from ._gp.acquisition import LogExpectedImprovement, PerSecond
from ._gp.coordinates import Coordinates
from ._gp.fitting import Hyperparameters
from ._gp.levels import LevelCoordinates, at_top, useful_rows
from ._gp.observations import Observations, Rows
from ._gp.posterior import Posterior
from ._gp.scores import ScoreTransform
from ._gp.search import AcquisitionSearch
from ._gp.settings import SETTINGS
from ._gp.subset import modelled_rows, modelled_running
from .base import Sampler
from .random import RandomSampler

__all__ = ["BayesSampler"]

Array = NDArray[np.float64]

_CONSTRAINTS = {
    "n_initial_points": [COUNT, StrOptions({"auto"})],
    "acquisition": [StrOptions({"log_ei", "log_ei_per_second"})],
    "stop_tol": [NON_NEGATIVE, None],
}
_ELSEWHERE = -1  # the resource of scores of another task: less than any


class BayesSampler(Sampler):
    """Bayesian optimisation: a Gaussian process, and the point of largest expected improvement.

    The initial points are those of a Sobol sequence. Later ones maximise the logarithm of the
    expected improvement over the best posterior mean, averaged over fantasies (joint draws of the
    scores) of pending points. No configuration is proposed twice.

    Parameters
    ----------
    space : SearchSpace
        Conditional spaces have one model over all their dicts; finite ones are exhausted when all
        configurations were proposed.
    random_state : int, RandomState or None, default=None
        The seed; None draws one.
    n_initial_points : int or "auto", default="auto"
        Number of configurations before the model is used, including observed ones that were not
        proposed; "auto" means 6.
    acquisition : {"log_ei", "log_ei_per_second"}, default="log_ei"
        The acquisition function. "log_ei_per_second" divides the expected improvement by the
        duration expected from the observed `seconds`.
    stop_tol : float or None, default=None
        Stop when the largest expected improvement is below this many standard deviations of the
        noise of the best score, as observed (unless it is 0) or else as modelled (after Makarova et
        al., 2022, "Automatic termination for hyperparameter optimization"), and there are at least
        twice as many scores as hyperparameters of the model (the coordinates and two). None never
        stops.

    Attributes
    ----------
    stop_reason : str or None
        Why the last call of `sample` returned fewer configurations than requested.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    The kernel is a Matern kernel with smoothness 5/2 on the unit cube, with a length scale for each
    coordinate; choices differ by 0 or 1. Its hyperparameters are the maximum a posteriori. Scores
    are transformed first, to reduce the influence of failed fits, outliers and bad regions. Where
    the noise of scores is observed, noisier ones have less weight.

    Each configuration is chosen given the pending ones, so that those sampled together differ from
    those sampled one by one with scores in between. Of more than 500 scores the model uses 400: the
    best, those near the very best, and some others (after Gramacy and Apley, 2015, "Local Gaussian
    process approximation for large computer experiments"), so that the time of a proposal does not
    grow with their number. Scores at several resources have one model with the resource as a
    further coordinate, which predicts for the largest one.

    The same seed and calls give the same configurations, whatever the number of threads.

    Examples
    --------
    >>> from scipy.stats import uniform
    >>> from skhpo.samplers import BayesSampler
    >>> from skhpo.space import SearchSpace
    >>> sampler = BayesSampler(SearchSpace({"x": uniform(-1, 2)}), random_state=0)
    >>> scores = []
    >>> for _ in range(15):
    ...     [params] = sampler.sample(1)
    ...     scores.append(-params["x"] ** 2)
    ...     sampler.observe(params, scores[-1], None)
    >>> max(scores) > -1e-4
    True
    """

    learns: ClassVar[bool] = True

    def __init__(
        self,
        space: SearchSpace,
        random_state: int | np.random.RandomState | None = None,
        *,
        n_initial_points: int | Literal["auto"] = "auto",
        acquisition: str = "log_ei",
        stop_tol: float | None = None,
    ) -> None:
        super().__init__(space)
        check_arguments(
            "BayesSampler",
            _CONSTRAINTS,
            n_initial_points=n_initial_points,
            acquisition=acquisition,
            stop_tol=stop_tol,
        )
        self.n_initial_points = (
            SETTINGS.n_initial if isinstance(n_initial_points, str) else int(n_initial_points)
        )
        self.acquisition = acquisition
        self.stop_tol = stop_tol
        self.stop_reason: str | None = None
        seed = check_random_state(random_state).randint(2**31 - 1)
        self._rng = np.random.default_rng(seed)
        self._initial = qmc.Sobol(space.n_dims, rng=self._rng)
        self._n_drawn = 0
        self._random = RandomSampler(space, seed)
        self._search = AcquisitionSearch(space, self._rng)
        self._coordinates = Coordinates(space)
        self._numbers = np.array([dim.kind != "choice" for dim in space.dimensions])
        self._model = _Model(self._coordinates)
        self._models = self._model, _Model(LevelCoordinates(self._coordinates))
        self._of_seconds = Hyperparameters(self._coordinates)
        self._places: dict[Hashable, int] = {}
        self._units = Rows(space.n_dims)
        self._place_at: dict[bytes, int] = {}
        # Configurations observed only in another task, by place, with their scores there.
        self._elsewhere: dict[int, tuple[float, dict[str, Any]]] = {}
        self._n_repeated = 0
        self._pending: dict[int, None] = {}  # an ordered set
        self._observations = Observations()
        # Rows of the observations that are transformed; among these, the rows of the posterior;
        # and the latter as rows of the observations.
        self._rows = self._kept = self._modelled = np.empty(0, dtype=np.intp)
        self._posterior: Posterior | None = None
        self._scores: tuple[Posterior, float, float] | None = None
        self._transform: ScoreTransform | None = None

    def sample(self, n: int) -> list[dict[str, Any]]:
        self.stop_reason = None
        configurations: list[dict[str, Any]] = []
        with one_thread():
            self._sample(n, configurations)
        return configurations

    def _sample(self, n: int, configurations: list[dict[str, Any]]) -> None:
        while len(configurations) < n and (params := self._next()) is not None:
            self._run(params)
            configurations.append(params)

    def observe(  # type: ignore[override]
        self,
        params: dict[str, Any],
        score: float,
        resource: int | None,
        *,
        noise: float | None = None,
        seconds: float | None = None,
    ) -> None:
        """Observe a score.

        Parameters
        ----------
        params : dict of str to object
            The configuration, proposed or not.
        score : float
            Larger is better; NaN if the fit failed.
        resource : int or None
            Total resource of the configuration; None for a full fit.
        noise : float or None, default=None
            Variance of the score, such as that of a mean over splits.
        seconds : float or None, default=None
            Duration of its fits.
        """
        place = self._place(params)
        self._pending.pop(place, None)
        self._elsewhere.pop(place, None)
        self._observations.add(place, float(score), resource, noise, seconds)
        self._posterior = None

    def observe_elsewhere(  # type: ignore[override]
        self,
        params: dict[str, Any],
        score: float,
        *,
        noise: float | None = None,
        seconds: float | None = None,
    ) -> None:
        """Observe a score of another task, which counts as one with less resource than any.

        The best configurations of that task are proposed first. Then the model learns the shift of
        its scores (the median over nearest neighbours) and their correlation with those of this
        task (the length scale along the resource).
        """
        is_known = self._is_known(params)
        place = self._place(params)
        if not is_known:
            ordered = -np.inf if np.isnan(score) else float(score)
            before, _ = self._elsewhere.get(place, (-np.inf, params))
            self._elsewhere[place] = max(before, ordered), params
        self._observations.add(place, float(score), _ELSEWHERE, noise, None)
        self._posterior = None

    def replace(self, params: dict[str, Any], by: dict[str, Any]) -> None:
        place = self._place(params)
        self._pending.pop(place, None)
        key = self.space.key(by)
        if key not in self._places and place not in self._observations.places:
            # Forget the proposed configuration.
            del self._places[self.space.key(params)]
            self._places[key] = place
            self._place_at.pop(self._units.values[place].tobytes(), None)
            self._set_unit(place, by)
        self._run(by)

    def _run(self, params: dict[str, Any]) -> None:
        place = self._place(params)
        self._elsewhere.pop(place, None)
        self._pending[place] = None

    def predict(self, configurations: Sequence[dict[str, Any]]) -> tuple[Array, Array]:
        """Predict the scores of configurations.

        Parameters
        ----------
        configurations : sequence of dict

        Returns
        -------
        mean, std : ndarray of shape (n_configurations,)
            Posterior mean and standard deviation of the score without noise.

        Raises
        ------
        ValueError
            If nothing was observed, or a configuration is not in the space.
        """
        u = np.array([self.space.to_unit(params) for params in configurations])
        with one_thread():
            if not self._fit() or self._posterior is None or self._transform is None:
                raise ValueError("there must be a finite score to predict from, but there is none")
            if not len(u):
                return np.empty(0), np.empty(0)
            if self._scores is None:
                self._scores = self._model_of_scores()
            posterior, centre, unit = self._scores
            means, std = posterior.predict(posterior.coordinates.encode(u))
        return centre + unit * means[:, 0], unit * std

    def _model_of_scores(self) -> tuple[Posterior, float, float]:
        """A model of the untransformed scores for predictions, with their centre and unit."""
        assert self._posterior is not None
        assert self._transform is not None
        scores = self._transform.clipped[self._kept]
        largest = np.abs(scores).max() or 1.0  # avoids overflow of squares
        centre, unit = (scores / largest).mean(), (scores / largest).std() or 1.0
        z, y = self._posterior.z, (scores / largest - centre) / unit
        noise, of_scores = self._posterior.noise, self._model.of_scores
        if not self._transform.is_constant:
            of_scores.update(z, y, noise, len(self._rows) - len(y))
        posterior = Posterior(self._model.coordinates, of_scores.theta, z, y, noise)
        return posterior, float(largest * centre), float(largest * unit)

    def relevance(self) -> dict[str, float]:
        """Inverse length scales by parameter: how fast the score changes along each.

        Returns
        -------
        relevance : dict of str to float
            In units of 1 / the parameter's range; 0 for a parameter with one value. The largest one
            for a parameter with several coordinates in a conditional space.
        """
        with one_thread():
            self._fit()
        theta = self._model.hyperparameters.theta
        relevance = dict.fromkeys(self.space.names, 0.0)
        for j, place in enumerate(self._coordinates.dimensions):
            name = self.space.dimensions[place].name
            if name is not None:
                relevance[name] = max(relevance[name], float(np.exp(-theta[j])))
        return relevance

    def _place(self, params: dict[str, Any]) -> int:
        """Number of a configuration, known or new."""
        place = self._places.setdefault(self.space.key(params), len(self._units))
        if place == len(self._units):
            self._units.append(np.nan)
            self._set_unit(place, params)
        return place

    def _set_unit(self, place: int, params: dict[str, Any]) -> None:
        self._units.values[place] = unit = self.space.to_unit(params)
        self._place_at[unit.tobytes()] = place

    def _is_known(self, params: dict[str, Any]) -> bool:
        place = self._places.get(self.space.key(params))
        return place is not None and place not in self._elsewhere

    def _is_known_at(self, unit: Array) -> bool:
        place = self._place_at.get(unit.tobytes())
        return place is not None and place not in self._elsewhere

    def _next(self) -> dict[str, Any] | None:
        params = None
        if self._elsewhere and self._n_repeated < SETTINGS.n_repeated:
            self._n_repeated += 1
            score, best = max(self._elsewhere.values(), key=lambda known: known[0])
            params = best if score > -np.inf else None
        elif len(self._units) >= self.n_initial_points and self._fit():
            params = self._promising()
        elif self._n_drawn < self.n_initial_points:
            params = self._next_initial()
        if params is not None or self.stop_reason is not None:
            return params
        return self._unseen()

    def _next_initial(self) -> dict[str, Any] | None:
        """The next point of the Sobol sequence; None if it is known."""
        if self._n_drawn % 16 == 0:
            self._block = self._initial.random(16)
        u = self._block[self._n_drawn % 16]
        self._n_drawn += 1
        params = self.space.from_unit(u)
        return None if self._is_known(params) else params

    def _unseen(self) -> dict[str, Any] | None:
        """A random new configuration."""
        for _ in range(SETTINGS.max_repeats):
            drawn = self._random.sample(1)
            if not drawn:
                break
            if not self._is_known(drawn[0]):
                return drawn[0]
        self.stop_reason = "all configurations of the space were tried"
        return None

    def _fit(self) -> bool:
        """Whether there is a model; fits it after new observations."""
        if self._posterior is not None:
            return True
        levels, scores = self._observations.levels, self._observations.scores
        rows = useful_rows(levels, scores, self._coordinates.n_dims)
        scores = scores[rows]
        if not np.isfinite(scores).any():
            return False
        u = self._units_of(rows)
        z = self._coordinates.encode(u)
        several = len(np.unique(levels[rows])) > 1
        self._model = self._models[several]
        if several:
            scores, heights = at_top(levels[rows], scores, u)
            z = np.column_stack([z, heights])
        self._transform = ScoreTransform(scores)
        noise = self._transform.relative_noise(self._observations.noise[rows])
        y = self._transform.y
        if not self._transform.is_constant:
            self._model.hyperparameters.update(z, y, noise)
        theta = self._model.hyperparameters.theta
        kept = modelled_rows(self._model.coordinates, theta, z, y)
        self._posterior = Posterior(self._model.coordinates, theta, z[kept], y[kept], noise[kept])
        self._rows, self._kept, self._modelled = rows, kept, rows[kept]
        self._scores = None
        return True

    def _promising(self) -> dict[str, Any] | None:
        """The new configuration with the largest acquisition."""
        posterior = self._posterior
        assert posterior is not None
        n_around = SETTINGS.n_around
        if self._pending:
            n_around = SETTINGS.n_around_running
            running = self._units.values[list(self._pending)]
            posterior = posterior.with_fantasies(
                modelled_running(posterior, posterior.coordinates.encode(running)),
                SETTINGS.n_fantasies,
                self._rng,
            )
        improvement = LogExpectedImprovement(posterior)
        acquisition = self._per_second(improvement) or improvement
        found, _ = self._search.maximise(
            lambda u: acquisition(posterior.coordinates.encode(u)) - self._edge_penalty(u),
            lambda u: np.array([self._is_known_at(row) for row in u], dtype=bool),
            self._units_of(self._best(SETTINGS.n_observed_centres)),
            n_around,
        )
        if self._is_enough(improvement, found):
            return None
        for u in found:
            params = self.space.from_unit(u)
            if not self._is_known(params):
                return params
        return None

    def _edge_penalty(self, u: Array) -> Array:
        """Penalty on the logarithm of the acquisition near the ends of numeric ranges.

        Uncertainty is largest at the ends, so that with much noise all points would be there. A
        large expected improvement at an end outweighs the penalty.
        """
        squares = (2.0 * u[:, self._numbers] - 1.0) ** 2  # ** 4 would take ten times as long
        return np.asarray(SETTINGS.edge_penalty * (squares**2).sum(axis=1))

    def _per_second(self, improvement: LogExpectedImprovement) -> PerSecond | None:
        """The improvement per second, if it is requested and durations are known."""
        if self.acquisition != "log_ei_per_second":
            return None
        rows = self._modelled[self._observations.seconds[self._modelled] > 0.0]
        logs = np.log(self._observations.seconds[rows])
        if len(rows) < 2 or not logs.std() > 0.0:
            return None
        z = self._coordinates.encode(self._units_of(rows))
        y, noise = (logs - logs.mean()) / logs.std(), np.ones(len(rows))
        self._of_seconds.update(z, y, noise, len(self._rows) - len(self._modelled))
        posterior = Posterior(self._coordinates, self._of_seconds.theta, z, y, noise)
        return PerSecond(improvement, posterior, float(logs.std()))

    def _is_enough(self, improvement: LogExpectedImprovement, found: Array) -> bool:
        """Whether the stopping rule holds."""
        assert self._posterior is not None
        assert self._transform is not None
        is_early = len(self._rows) < 2 * len(self._posterior.theta)
        if self.stop_tol is None or is_early or self._transform.is_constant or not len(found):
            return False
        left = float(np.exp(improvement(self._model.coordinates.encode(found)).max()))
        left *= self._transform.unit
        variance = self._observations.noise[self._best(1)[0]]
        std = self._transform.unit * float(np.sqrt(self._posterior.noise_variance))
        if np.isfinite(variance) and variance > 0.0:
            std = float(np.sqrt(variance))
        if left >= self.stop_tol * std:
            return False
        self.stop_reason = (
            f"the expected improvement left, {left:.3g}, is below stop_tol={self.stop_tol:g} "
            f"times the noise of the best score, {std:.3g}"
        )
        return True

    def _best(self, n: int) -> list[int]:
        """The rows of the best scores in the model, one of each configuration."""
        assert self._transform is not None
        assert self._posterior is not None
        rows, y = self._rows, self._transform.y
        if self._model is not self._models[0]:
            top = self._model.coordinates.wanted(self._posterior.z)
            rows, y = self._modelled, self._posterior.predict(top)[0][:, 0]
        places = self._observations.places
        by_place: dict[int, int] = {}
        for row in rows[np.argsort(-y, kind="stable")].tolist():
            by_place.setdefault(int(places[row]), row)
            if len(by_place) == n:
                break
        return list(by_place.values())

    def _units_of(self, rows: Sequence[int] | NDArray[np.intp]) -> Array:
        return self._units.values[self._observations.places[rows]]


class _Model:
    """Coordinates, with hyperparameters for transformed and for untransformed scores."""

    def __init__(self, coordinates: Coordinates) -> None:
        self.coordinates = coordinates
        self.hyperparameters = Hyperparameters(coordinates, SETTINGS.most_noise)
        self.of_scores = Hyperparameters(coordinates)
