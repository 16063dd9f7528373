"""Hyperband's candidates from a prior, at random, and around the best."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from ..space import SearchSpace
from .base import Sampler
from .prior import Prior, active_coordinates
from .random import RandomSampler

__all__ = ["PriorBandSampler"]

Array = NDArray[np.float64]

# Of a candidate around the best, each coordinate changes with this probability, a number by a
# normal step of this standard deviation (Mallik et al., 2023, appendix D.2).
_MOVED = 0.5
_STEP = 0.25

# After so many repeated draws in a row a finite space is nearly exhausted.
_MAX_REPEATS = 1000


class PriorBandSampler(Sampler):
    """Candidates for Hyperband from what is believed, from the space, and around the best [1]_.

    At the lowest level of resource, half of the candidates are drawn from the space, at higher
    levels a smaller part: one in ``1 + factor ** rung``. The others are drawn from the prior, and,
    as soon as there are ``factor`` scores at one level, around the best configuration. The better
    the prior explains the best scores, compared with the density around the best one, the more of
    these are drawn from it, so that a wrong prior is given up. The first candidate is the
    likeliest one. What breaks a constraint is never the best.

    Parameters
    ----------
    space : SearchSpace
        Where candidates come from.
    random_state : int, RandomState or None, default=None
        The seed; None draws one.
    prior : Prior
        What is believed.
    min_resources : int, default=1
        That of the scheduler.
    factor : float, default=3
        That of the scheduler.

    See Also
    --------
    BayesSampler : Also takes a prior, and learns from all scores.
    skhpo.HalvingHyperbandSearchCV : Makes this sampler of `priors`.

    References
    ----------
    .. [1] Mallik, Bergman, Hvarfner, Stoll, Janowski, Lindauer, Nardi and Hutter, "PriorBand:
       practical hyperparameter optimization in the age of deep learning", NeurIPS 2023,
       algorithms 1 to 3.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from skhpo import SearchSpace
    >>> from skhpo.samplers import Prior, PriorBandSampler
    >>> space = SearchSpace({"lr": loguniform(1e-5, 1)})
    >>> prior = Prior(space, {"lr": 1e-3})
    >>> sampler = PriorBandSampler(space, 0, prior=prior)
    >>> round(sampler.sample(1)[0]["lr"], 3)
    0.001
    """

    learns: ClassVar[bool] = True

    def __init__(
        self,
        space: SearchSpace,
        random_state: int | np.random.RandomState | None = None,
        *,
        prior: Prior,
        min_resources: int = 1,
        factor: float = 3,
    ) -> None:
        super().__init__(space)
        self.prior = prior
        self._least = min_resources
        self._factor = float(factor)
        seed = check_random_state(random_state).randint(2**31 - 1)
        self._rng = np.random.default_rng(seed)
        self._random = RandomSampler(space, seed)
        self._is_choice = np.array([dim.kind == "choice" for dim in space.dimensions])
        self._drawn: set[Hashable] = set()
        self._is_first = True
        # The scores at each level, with their points.
        self._scores: dict[float, list[tuple[float, Array]]] = {}

    def sample(self, n: int, *, resource: int | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        shares = self._shares(resource)
        if n and self._is_first:
            self._is_first = False
            found += self._new([self.prior.likeliest(self._rng.random(self.space.n_dims))])
        for _ in range(_MAX_REPEATS):
            if len(found) == n:
                return found
            points = np.array([self._point(*shares) for _ in range(n - len(found))])
            found += self._new(self.space.from_units(points))
        # What is left is drawn too rarely, or nothing is.
        while len(found) < n and (drawn := self._random.sample(1)):
            found += self._new(drawn)
        return found

    def observe(
        self, params: dict[str, Any], score: float, resource: int | None, **more: Any
    ) -> None:
        violations = more.get("violations")
        breaks_a_constraint = violations is not None and bool((np.asarray(violations) > 0).any())
        if math.isfinite(score) and not breaks_a_constraint:
            level = math.inf if resource is None else float(resource)
            self._scores.setdefault(level, []).append((score, self.space.to_unit(params)))

    def _new(self, drawn: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [params for params in drawn if self.space.allows(params) and self._is_new(params)]

    def _is_new(self, params: dict[str, Any]) -> bool:
        if self.space.size is None:
            return True
        n_before = len(self._drawn)
        self._drawn.add(self.space.key(params))
        return len(self._drawn) > n_before

    def _shares(self, resource: int | None) -> tuple[float, float, Array | None]:
        """The share of candidates at random, that around the best of the others, and the best."""
        rung = 0 if resource is None else math.log(resource / self._least, self._factor)
        at_random = 1.0 / (1.0 + self._factor ** max(round(rung), 0))
        best = self._best()
        return at_random, 0.0 if best is None else self._share_around(best), best

    def _point(self, at_random: float, around: float, best: Array | None) -> Array:
        uniform = self._rng.random((1, self.space.n_dims))
        kind, other = self._rng.random(2)
        if kind < at_random:
            return np.asarray(uniform[0])
        if best is None or other >= around:
            return np.asarray(self.prior.points(uniform)[0])
        return self._around(best[0], uniform[0])

    def _best(self) -> Array | None:
        """Points of the best at the highest level with enough scores, the best first."""
        n = math.ceil(self._factor)
        for level in sorted(self._scores, reverse=True):
            scores = self._scores[level]
            if len(scores) >= n:
                order = sorted(range(len(scores)), key=lambda i: -scores[i][0])[:n]
                return np.array([scores[i][1] for i in order])
        return None

    def _share_around(self, best: Array) -> float:
        """The share of candidates around the best one, by how the two explain the best scores."""
        weights = np.arange(len(best), 0, -1.0)
        by_prior = float(weights @ np.exp(self.prior.log_density(best)))
        by_best = float(weights @ np.exp(self._log_density_around(best[0], best)))
        return by_best / (by_best + by_prior)

    def _log_density_around(self, centre: Array, u: Array) -> Array:
        """The logarithm of the density with which points are drawn around a centre."""
        total = np.zeros(len(u))
        is_active = active_coordinates(self.space, u)
        for j, is_choice in enumerate(self._is_choice):
            distance = np.abs(u[:, j] - centre[j])
            if is_choice:
                n = self.space.dimensions[j].n_levels or 1
                density = np.where(distance < 1e-9, _MOVED / n + 1.0 - _MOVED, _MOVED / n) * n
            else:
                bell = np.exp(-0.5 * (distance / _STEP) ** 2) / (_STEP * math.sqrt(2 * math.pi))
                density = bell / _inside(centre[j])
            total += np.where(is_active[:, j], np.log(density), 0.0)
        return total

    def _around(self, centre: Array, anywhere: Array) -> Array:
        moved = self._rng.random(len(centre)) < _MOVED
        moved[self._rng.integers(len(centre))] = True
        steps = np.abs(centre + _STEP * self._rng.standard_normal(len(centre)))
        steps = np.clip(np.where(steps > 1.0, 2.0 - steps, steps), 0.0, 1.0)
        return np.where(moved, np.where(self._is_choice, anywhere, steps), centre)


def _inside(centre: float) -> float:
    """The probability that a step from a centre ends in the unit interval."""
    scale = _STEP * math.sqrt(2.0)
    return 0.5 * (math.erf((1.0 - centre) / scale) + math.erf(centre / scale))
