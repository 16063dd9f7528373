"""The configuration that promises most, after a Gaussian process of what was observed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc
from sklearn.utils import check_random_state  # type: ignore[import-untyped]

from ..space import SearchSpace
from ._gp.acquisition import LogExpectedImprovement
from ._gp.coordinates import Coordinates
from ._gp.fitting import Prior, fit
from ._gp.posterior import Posterior
from ._gp.scores import ScoreTransform
from ._gp.search import AcquisitionSearch
from .base import Sampler
from .random import RandomSampler

__all__ = ["BayesSampler"]

Array = NDArray[np.float64]

_ACQUISITIONS = ("log_ei", "log_ei_per_second")
_N_INITIAL = 10
_N_FANTASIES = 8
_MAX_REPEATS = 1000


@dataclass(frozen=True, slots=True)
class _Observation:
    place: int  # of the configuration, in the order in which they became known
    score: float
    resource: int | None
    noise: float | None
    seconds: float | None


class BayesSampler(Sampler):
    """Bayesian optimisation: a Gaussian process, and the point of largest expected improvement.

    The first points are those of a Sobol sequence. Later ones maximise the logarithm of the
    expected improvement over the best posterior mean, averaged over joint draws of the scores of
    what still runs. No configuration is proposed twice.

    Parameters
    ----------
    space : SearchSpace
        Any: conditional ones have one model over all their dicts, finite ones end when all
        configurations were proposed.
    random_state : int, RandomState or None, default=None
        The seed; None draws one.
    n_initial_points : int or "auto", default="auto"
        Number of configurations before the model is asked, including those observed that were
        not proposed; "auto" means 10.
    acquisition : {"log_ei", "log_ei_per_second"}, default="log_ei"
        What is maximised.
    stop_tol : float or None, default=None
        End once the largest expected improvement is below this many standard deviations of
        the best score's noise. None never does.

    Attributes
    ----------
    stop_reason : str or None
        Why the last call of `sample` gave fewer configurations than asked for.

    Examples
    --------
    >>> from scipy.stats import uniform
    >>> from skhpo.samplers import BayesSampler
    >>> from skhpo.space import SearchSpace
    >>> sampler = BayesSampler(SearchSpace({"x": uniform(-1, 2)}), random_state=0)
    >>> for _ in range(20):
    ...     [params] = sampler.sample(1)
    ...     sampler.observe(params, -params["x"] ** 2, None)
    >>> abs(params["x"]) < 0.01
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
        if acquisition not in _ACQUISITIONS:
            raise ValueError(f"acquisition must be one of {_ACQUISITIONS}, but got {acquisition!r}")
        self.n_initial_points = _N_INITIAL if n_initial_points == "auto" else n_initial_points
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
        self._prior = Prior(self._coordinates.n_dims)
        self._theta = self._prior.mean
        self._places: dict[Hashable, int] = {}
        self._units: list[Array] = []
        self._pending: dict[int, None] = {}  # an ordered set
        self._observations: list[_Observation] = []
        self._posterior: Posterior | None = None
        self._transform: ScoreTransform | None = None

    def sample(self, n: int) -> list[dict[str, Any]]:
        self.stop_reason = None
        configurations: list[dict[str, Any]] = []
        while len(configurations) < n and (params := self._next()) is not None:
            self._pending[self._place(params)] = None
            configurations.append(params)
        return configurations

    def observe(
        self,
        params: dict[str, Any],
        score: float,
        resource: int | None,
        *,
        noise: float | None = None,
        seconds: float | None = None,
    ) -> None:
        """Take note of a score.

        Parameters
        ----------
        params : dict of str to object
            The configuration, proposed or not.
        score : float
            Larger is better; NaN where the fit failed.
        resource : int or None
            What it was given in total; None for a full fit.
        noise : float or None, default=None
            Variance of the score: that of the mean over splits, say.
        seconds : float or None, default=None
            Duration of its fits.
        """
        place = self._place(params)
        self._pending.pop(place, None)
        self._observations.append(_Observation(place, float(score), resource, noise, seconds))
        self._posterior = None

    def replace(self, params: dict[str, Any], by: dict[str, Any]) -> None:
        self._pending.pop(self._place(params), None)
        self._pending[self._place(by)] = None

    def predict(self, configurations: Sequence[dict[str, Any]]) -> tuple[Array, Array]:
        """What the model expects of configurations.

        Parameters
        ----------
        configurations : sequence of dict

        Returns
        -------
        mean, std : ndarray of shape (n_configurations,)
            Of the score without noise, in units of the score.

        Raises
        ------
        ValueError
            If nothing was observed, or a configuration is not in the space.
        """
        u = np.array([self.space.to_unit(params) for params in configurations])
        if not self._fit() or self._posterior is None or self._transform is None:
            raise ValueError("there must be a finite score to predict from, but there is none")
        if not len(u):
            return np.empty(0), np.empty(0)
        means, std = self._posterior.predict(self._coordinates.encode(u))
        mean, inverse = means[:, 0], self._transform.inverse
        return inverse(mean), (inverse(mean + std) - inverse(mean - std)) / 2.0

    def relevance(self) -> dict[str, float]:
        """Inverse length scales by parameter: how fast the score changes along each.

        Returns
        -------
        relevance : dict of str to float
            In units of 1 / the parameter's whole range; 0 for one of a single value. Of a
            parameter that has several coordinates in a conditional space, the largest.
        """
        self._fit()
        relevance = dict.fromkeys(self.space.names, 0.0)
        for j, place in enumerate(self._coordinates.dimensions):
            name = self.space.dimensions[place].name
            if name is not None:
                relevance[name] = max(relevance[name], float(np.exp(-self._theta[j])))
        return relevance

    def _place(self, params: dict[str, Any]) -> int:
        """Number of a configuration, which is new or known."""
        place = self._places.setdefault(self.space.key(params), len(self._units))
        if place == len(self._units):
            self._units.append(self.space.to_unit(params))
        return place

    def _is_known(self, params: dict[str, Any]) -> bool:
        return self.space.key(params) in self._places

    def _next(self) -> dict[str, Any] | None:
        params = None
        if len(self._units) >= self.n_initial_points and self._fit():
            params = self._promising()
        elif self._n_drawn < self.n_initial_points:
            params = self._next_initial()
        return params or self._unseen()

    def _next_initial(self) -> dict[str, Any] | None:
        """The next point of the Sobol sequence that is not known yet."""
        if self._n_drawn % 16 == 0:
            self._block = self._initial.random(16)
        u = self._block[self._n_drawn % 16]
        self._n_drawn += 1
        params = self.space.from_unit(u)
        return None if self._is_known(params) else params

    def _unseen(self) -> dict[str, Any] | None:
        """A random configuration that is not known yet."""
        for _ in range(_MAX_REPEATS):
            drawn = self._random.sample(1)
            if not drawn:
                break
            if not self._is_known(drawn[0]):
                return drawn[0]
        self.stop_reason = "all configurations of the space were tried"
        return None

    def _fit(self) -> bool:
        """Whether there is a model; fits it where something new was observed."""
        if self._posterior is not None:
            return True
        rows = self._level()
        scores = np.array([self._observations[row].score for row in rows])
        if not np.isfinite(scores).any():
            return False
        self._transform = ScoreTransform(scores)
        u = np.array([self._units[self._observations[row].place] for row in rows])
        z = self._coordinates.encode(u)
        noise = np.ones(len(rows))
        y = self._transform.y
        if not self._transform.is_constant:
            D = self._coordinates.differences(z)
            starts = [self._theta, self._prior.mean]
            self._theta = fit(D, y, noise, self._prior, starts)
        self._posterior = Posterior(self._coordinates, self._theta, z, y, noise)
        return True

    def _level(self) -> list[int]:
        """The observations at the largest resource that has more finite scores than coordinates."""
        levels: dict[float, list[int]] = {}
        for row, observation in enumerate(self._observations):
            resource = np.inf if observation.resource is None else float(observation.resource)
            levels.setdefault(resource, []).append(row)
        n_finite = {
            resource: sum(np.isfinite(self._observations[row].score) for row in rows)
            for resource, rows in levels.items()
        }
        for resource in sorted(levels, reverse=True):
            if n_finite[resource] > self._coordinates.n_dims:
                return levels[resource]
        # The one that has most; of those, the largest.
        return levels[max(levels, key=lambda level: (n_finite[level], level))] if levels else []

    def _promising(self) -> dict[str, Any] | None:
        """The configuration of largest acquisition that is not known yet."""
        posterior = self._posterior
        assert posterior is not None
        if self._pending:
            running = np.array([self._units[place] for place in self._pending])
            posterior = posterior.with_fantasies(
                self._coordinates.encode(running), _N_FANTASIES, self._rng
            )
        acquisition = LogExpectedImprovement(posterior)
        known = {u.tobytes() for u in self._units}
        centres = np.array(self._best_units())
        found = self._search.maximise(
            lambda u: acquisition(self._coordinates.encode(u)),
            lambda u: np.array([row.tobytes() in known for row in u], dtype=bool),
            centres,
        )
        for u in found:
            params = self.space.from_unit(u)
            if not self._is_known(params):
                return params
        return None

    def _best_units(self) -> list[Array]:
        assert self._transform is not None
        rows = self._level()
        best = np.argsort(-self._transform.y, kind="stable")[:5]
        return [self._units[self._observations[rows[i]].place] for i in best]
