"""The Gaussian processes of all objectives and constraints, and the acquisition from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...objectives import promotion_order, total_violation
from .acquisition import Acquisition, Equal, Feasible, LogExpectedImprovement, PerSecond
from .coordinates import Coordinates
from .fitting import Hyperparameters
from .hypervolume import LogExpectedHypervolumeImprovement
from .levels import LevelCoordinates, heights_of, useful_rows
from .observations import Observations
from .posterior import Posterior
from .scores import ObjectiveTransform, SlackTransform
from .settings import SETTINGS
from .subset import modelled_running
from .surrogate import Surrogate

__all__ = ["Surrogates", "chebyshev"]

Array = NDArray[np.float64]

# Knowles, 2006, equation 2: a small share of the weighted sum, so that of two points that are equal
# in the objective that counts the better one is preferred.
_RHO = 0.05
Places = NDArray[np.intp]

# So many objectives have a model each; the boxes of more are too many.
_MOST_MODELLED = 3


def chebyshev(values: Array, weights: Array) -> Array:
    """The augmented Chebyshev function of values that are scaled to their ranges.

    Parameters
    ----------
    values : ndarray of shape (n, n_objectives)
        Larger is better.
    weights : ndarray of shape (n_objectives,)
        Non-negative, with sum 1.

    Returns
    -------
    ndarray of shape (n,)
        Larger is better; at most 0.
    """
    best, spans = values.max(axis=0), np.ptp(values, axis=0)
    losses = weights * (best - values) / np.where(spans > 0.0, spans, 1.0)
    return np.asarray(-losses.max(axis=1) - _RHO * losses.sum(axis=1))


class Surrogates:
    """Models of what was observed.

    Parameters
    ----------
    coordinates : Coordinates
    rng : Generator
        For fantasies and weights.

    Attributes
    ----------
    objectives : list of Surrogate
    rows : ndarray of int
        Rows of the observations that the objectives model; none without finite values.
    """

    def __init__(self, coordinates: Coordinates, rng: np.random.Generator) -> None:
        self._coordinates = coordinates
        self._levelled = coordinates, LevelCoordinates(coordinates)
        self._rng = rng
        self._of_seconds = Hyperparameters(coordinates)
        self._reduced = Surrogate(coordinates)
        self._constraints: list[Surrogate] = []
        self._slack: list[Surrogate] = []  # of those with known violations
        self._useful: Places = np.empty(0, dtype=np.intp)
        self._heights: Array | None = None
        self._order: Places | None = None
        self.objectives = [Surrogate(coordinates)]
        self.rows = self._useful

    def observe(self, observations: Observations, units: Array) -> bool:
        """Set what is known, and return whether there is something to model.

        Parameters
        ----------
        observations : Observations
        units : ndarray of shape (n_places, n_dims)
            Snapped points of the configurations.
        """
        known, self._observations = observations, observations
        self._units, self._order, self._slack = units, None, []
        useful = useful_rows(known.levels, known.objectives[:, 0], self._coordinates.n_dims)
        levels = known.levels[useful]
        self._useful = useful
        self._heights = heights_of(levels) if len(np.unique(levels)) > 1 else None
        is_measured = known.is_measured[useful]
        if not np.isfinite(known.objectives[useful[is_measured]]).any(axis=0).all():
            is_measured[:] = False
        self.rows = useful[is_measured]
        if len(self.objectives) < known.n_objectives:
            self.objectives = [
                Surrogate(self._coordinates, ObjectiveTransform) for _ in range(known.n_objectives)
            ]
        while len(self._constraints) < known.n_constraints:
            self._constraints.append(Surrogate(self._coordinates, SlackTransform))
        if len(self.rows):
            values, noise = known.objectives[self.rows].T, known.noise[self.rows].T
            for surrogate, column, variances in zip(self.objectives, values, noise, strict=True):
                self._set_values(surrogate, is_measured, column, variances)
        for surrogate, column in zip(self._constraints, known.violations[useful].T, strict=True):
            is_known = ~np.isnan(column)
            if is_known.any():
                self._set_values(surrogate, is_known, column[is_known])
                self._slack.append(surrogate)
        if len(self.rows) > SETTINGS.most_modelled and not self.is_plain:
            preference = np.empty(len(useful))
            preference[self._ordered()] = -np.arange(len(useful))
            for surrogate in self.objectives:
                surrogate.preference = preference[is_measured]
        return bool(len(self.rows) or self._slack)

    def _set_values(
        self,
        surrogate: Surrogate,
        chosen: NDArray[np.bool_],
        values: Array,
        variances: Array | None = None,
    ) -> None:
        """Set values of some of the useful rows."""
        heights = None if self._heights is None else self._heights[chosen]
        rows = self._useful[chosen]
        if variances is None:
            variances = np.full(len(rows), np.nan)
        levels = self._observations.levels[rows]
        surrogate.set_values(self.units_of(rows), levels, heights, values, variances)

    @property
    def is_plain(self) -> bool:
        """Whether there is one objective and no constraint."""
        return len(self.objectives) == 1 and not self._constraints

    # --- acquisition

    def encode(self, u: Array) -> Array:
        """Snapped points for the acquisition function, at the top level."""
        return self._levelled[self._heights is not None].encode(u)

    def acquisition(self, running: Array | None = None, draws: bool = True) -> Acquisition:
        """The acquisition function, given pending points.

        Candidates that run together would all suffer from the same wrong hyperparameters, where
        those that are chosen one by one have new ones for each. So with pending points they are
        drawn, for one objective without constraints, and the mean there is what is imagined of the
        pending points. Otherwise there are fantasies.

        Parameters
        ----------
        running : ndarray of shape (m, n_dims) or None, default=None
        draws : bool, default=True
            Whether hyperparameters are drawn; else they are the most probable ones, and there are
            fantasies: what is left to gain is less where pending points may gain it.
        """
        surrogates = self._targets() + self._slack
        posteriors = [surrogate.posterior for surrogate in surrogates]
        nothing = self.encode(self._units[:0])
        if running is None:
            return self._combine(posteriors, nothing)
        z = modelled_running(
            max(len(posterior.z) for posterior in posteriors),
            self.encode(running),
            lambda: self._combine(posteriors, nothing),
        )
        if self.is_plain and draws:
            posterior = self.objectives[0].drawn_posterior(self._rng)
            return LogExpectedImprovement(posterior.with_means(z))
        n = SETTINGS.n_fantasies
        imagined = [posterior.with_fantasies(z, n, self._rng) for posterior in posteriors]
        return self._combine(imagined, z)

    def _targets(self) -> list[Surrogate]:
        """Surrogates of what is improved: the objectives, or a random function of many."""
        if not len(self.rows):
            return []
        if len(self.objectives) <= _MOST_MODELLED:
            return self.objectives
        weights = self._rng.dirichlet(np.ones(len(self.objectives)))
        y = np.column_stack([surrogate.transform.y for surrogate in self.objectives])
        noise = [
            surrogate.transform.relative_noise(variances)
            for surrogate, variances in zip(
                self.objectives, self._observations.noise[self.rows].T, strict=True
            )
        ]
        chosen = np.isin(self._useful, self.rows)
        self._set_values(self._reduced, chosen, chebyshev(y, weights), weights**2 @ noise)
        return [self._reduced]

    def _combine(self, posteriors: Sequence[Posterior], running: Array) -> Acquisition:
        """The acquisition from posteriors of targets and slack, which know the pending points."""
        n = len(posteriors) - len(self._slack)
        targets, slack = posteriors[:n], posteriors[n:]
        if self.is_plain:
            return LogExpectedImprovement(targets[0])
        limits = [surrogate.limit for surrogate in self._slack]
        improvement = self._improvement(targets, slack, limits, running)
        if not slack:
            return improvement
        return Feasible(improvement, slack, limits, SETTINGS.unsure_penalty)

    def _improvement(
        self,
        targets: Sequence[Posterior],
        slack: Sequence[Posterior],
        limits: Sequence[float],
        running: Array,
    ) -> Acquisition:
        """The improvement over feasible points; all are equal where none is known."""
        n_fantasies = (*targets, *slack)[0].y.shape[1]
        rows = self._leading(SETTINGS.most_front)
        if not targets or not len(rows) + len(running):
            return Equal(n_fantasies)
        points = np.vstack([self.encode(self.units_of(rows)), running])
        feasible = np.ones((len(points), n_fantasies), dtype=bool)
        if slack:
            feasible[: len(rows)] = self._observations.is_feasible[rows, None]
        for posterior, limit in zip(slack, limits, strict=True):
            feasible[len(rows) :] &= posterior.predict(running)[0] >= limit
        if len(targets) == 1:
            return LogExpectedImprovement(targets[0], points, feasible)
        return LogExpectedHypervolumeImprovement(targets, points, feasible)

    def per_second(self, acquisition: Acquisition) -> PerSecond | None:
        """The acquisition per second, if durations are known."""
        seconds = self._observations.seconds
        modelled = self.rows[self.objectives[0].kept] if len(self.rows) else self.rows
        rows = modelled[seconds[modelled] > 0.0]
        logs = np.log(seconds[rows])
        if len(rows) < 2 or not logs.std() > 0.0:
            return None
        z = self._coordinates.encode(self.units_of(rows))
        y, noise = (logs - logs.mean()) / logs.std(), np.ones(len(rows))
        self._of_seconds.update(z, y, noise, len(self.rows) - len(modelled))
        posterior = Posterior(self._coordinates, self._of_seconds.theta, z, y, noise)
        return PerSecond(acquisition, posterior, float(logs.std()))

    # --- the best observations

    def best(self, n: int) -> Places:
        """The rows of the best observations, one of each configuration."""
        rows = self._leading(len(self._useful)) if not self.is_plain else self._by_score()
        _, first = np.unique(self._observations.places[rows], return_index=True)
        return rows[np.sort(first)[:n]]

    def _by_score(self) -> Places:
        [surrogate] = self.objectives
        rows, y = self.rows, surrogate.transform.y
        if self._heights is not None:
            top = surrogate.posterior.coordinates.wanted(surrogate.posterior.z)
            rows, y = self.rows[surrogate.kept], surrogate.posterior.predict(top)[0][:, 0]
        return rows[np.argsort(-y, kind="stable")]

    def _leading(self, n: int) -> Places:
        """Rows in the order of promotion: front by front, in each apart, then infeasible ones."""
        return self._useful[self._ordered()[:n]]

    def _ordered(self) -> Places:
        if self._order is None:
            # Clipped, so that sums do not overflow.
            violations = np.clip(self._observations.violations[self._useful], -1e300, 1e300)
            if len(self.rows):
                y = np.full((len(self._useful), len(self.objectives)), np.nan)
                y[np.isin(self._useful, self.rows)] = np.column_stack(
                    [surrogate.transform.y for surrogate in self.objectives]
                )
                failed = np.isnan(self._observations.objectives[self._useful]).any(axis=1)
                y[failed] = np.nan
                self._order = promotion_order(y, violations)
            else:
                self._order = np.argsort(total_violation(violations), kind="stable")
        return self._order

    def units_of(self, rows: Places) -> Array:
        """Points of the configurations of rows."""
        return self._units[self._observations.places[rows]]
