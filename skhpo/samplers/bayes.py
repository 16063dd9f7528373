"""Bayesian optimisation with a Gaussian process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc
from sklearn.utils import check_random_state

from .._compat import StrOptions
from ..arguments import COUNT, NON_NEGATIVE, check_arguments
from ..process import one_thread
from ..space import SearchSpace
from ._gp.acquisition import Acquisition, PerSecond
from ._gp.coordinates import Coordinates
from ._gp.observations import Observations
from ._gp.search import AcquisitionSearch
from ._gp.settings import SETTINGS
from ._gp.surrogates import Surrogates
from ._known import KnownConfigurations
from .base import Sampler
from .prior import Prior, trust
from .random import RandomSampler
from .time_limit import TimeLimit

__all__ = ["BayesSampler"]

Array = NDArray[np.float64]

_CONSTRAINTS = {
    "n_initial_points": [COUNT, StrOptions({"auto"})],
    "acquisition": [StrOptions({"log_ei", "log_ei_per_second"})],
    "stop_tol": [NON_NEGATIVE, None],
    "prior_weight": [NON_NEGATIVE],
}
_ELSEWHERE = -1  # the resource of scores of another task: less than any


class BayesSampler(Sampler):
    """Bayesian optimisation: a Gaussian process, and the point of largest expected improvement.

    The initial points are those of a Sobol sequence; what is asked for beyond them before there is
    a score is random. Later ones maximise the logarithm of the expected improvement over the best
    posterior mean. No configuration is proposed twice.

    Parameters
    ----------
    space : SearchSpace
        Conditional spaces have one model over all their dicts; finite ones are exhausted when all
        configurations were proposed.
    random_state : int, RandomState or None, default=None
        The seed; None draws one.
    n_initial_points : int or "auto", default="auto"
        Before the model is used, other observed ones included; "auto": 6, with 2 objectives 12, 18.
    acquisition : {"log_ei", "log_ei_per_second"}, default="log_ei"
        The acquisition function. "log_ei_per_second" divides the expected improvement by the
        duration expected from the observed `seconds`.
    time_limit : TimeLimit or None, default=None
        Where time is short by it, and durations differ by more than a factor of three (the 10% and
        90% quantiles), the acquisition function is "log_ei_per_second", too.
    stop_tol : float or None, default=None
        Stop when the largest expected improvement is below this many standard deviations of the
        noise of the best score, as observed (unless it is 0) or else as modelled (after Makarova et
        al., 2022, "Automatic termination for hyperparameter optimization"), and there are at least
        twice as many scores as hyperparameters of the model (the coordinates and two). None never
        stops.
    prior : Prior or None, default=None
        What is believed of good values. The first configuration is the likeliest one, half of the
        initial ones are drawn from it, and the expected improvement is multiplied by the prior's
        density to the power of ``prior_weight / n`` for the n-th configuration that the model
        chooses (Hvarfner et al., 2022, "piBO: augmenting acquisition functions with user beliefs
        for Bayesian optimization", equation 5), so that a wrong prior loses its influence; and (not
        in piBO) by the odds, if below 1, that denser configurations have the better scores.
    prior_weight : float, default=5.0
        That of the prior, a tenth of the number of configurations there.

    Attributes
    ----------
    stop_reason : str or None
        Why the last call of `sample` returned fewer configurations than requested.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    See Also
    --------
    skhpo.BayesSearchCV : The search that uses it.

    Notes
    -----
    The kernel is a Matern kernel with smoothness 5/2 on the unit cube, with a length scale for each
    coordinate; choices differ by 0 or 1. Added to it is the share of choices that are the same, so
    that each has an offset (a sum of kernels as in Ru et al., 2020, "Bayesian optimisation over
    multiple continuous and categorical inputs"). Hyperparameters are the maximum a posteriori.
    Scores are transformed first, to reduce the influence of failed fits, outliers and bad regions.
    Where the noise of scores is observed, noisier ones have less weight.

    Each configuration is chosen given the pending ones, so that those sampled together differ from
    those sampled one by one with scores in between. Where some are pending, hyperparameters are
    drawn from the normal distribution around their maximum, for each configuration again,
    because those sampled together would share the errors of a single set (with `stop_tol`:
    fantasies).

    In a space with choices every fifth of them is the best one so far with one choice changed (for
    one objective, without constraints), until all such were tried, because how good a choice can be
    shows only where its numbers are good.

    Of more than 500 scores the model uses 400: the best, those near the very best, and some others
    (after Gramacy and Apley, 2015, "Local Gaussian process approximation for large computer
    experiments"), so that the time of a proposal does not grow with their number. Scores at several
    resources have one model with the resource as a further coordinate, which predicts for the
    largest one.

    Several objectives and constraints (`observe`) have a model each, and fantasies (joint draws of
    the scores) of pending points. Two or three objectives have
    the expected hypervolume improvement, over a reference a little below the worst values, instead
    of the expected improvement; more are improved by random augmented Chebyshev functions (Knowles,
    2006, "ParEGO"). Constraints multiply it by the probability that all hold (Gardner et al., 2014,
    "Bayesian optimization with inequality constraints").

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
        time_limit: TimeLimit | None = None,
        stop_tol: float | None = None,
        prior: Prior | None = None,
        prior_weight: float = 5.0,
    ) -> None:
        super().__init__(space)
        check_arguments(
            "BayesSampler",
            _CONSTRAINTS,
            n_initial_points=n_initial_points,
            acquisition=acquisition,
            stop_tol=stop_tol,
            prior_weight=prior_weight,
        )
        self.n_initial_points = n_initial_points
        self.acquisition = acquisition
        self.time_limit = time_limit
        self.stop_tol = stop_tol
        self.prior = prior
        self.prior_weight = prior_weight
        self.stop_reason: str | None = None
        seed = check_random_state(random_state).randint(2**31 - 1)
        self._rng = np.random.default_rng(seed)
        self._initial = qmc.Sobol(space.n_dims, rng=self._rng)
        self._n_drawn = 0
        self._n_chosen = 0  # by the model
        self._random = RandomSampler(space, seed)
        self._search = AcquisitionSearch(space, self._rng)
        self._coordinates = Coordinates(space)
        self._numbers = np.array([dim.kind != "choice" for dim in space.dimensions])
        self._surrogates = Surrogates(self._coordinates, self._rng)
        self._known = KnownConfigurations(space)
        self._n_repeated = 0
        self._observations = Observations()
        self._is_fitted = False  # whether the models know all observations
        self._n_known = 0  # observations of earlier searches

    def begin(self, n_replayed: int = 0) -> None:
        """Count what is observed from now on as the search that `time_limit` limits.

        Parameters
        ----------
        n_replayed : int, default=0
            How many candidates will be observed first that take no time.
        """
        self._n_known = len(self._observations)
        if self.time_limit is not None:
            self.time_limit.begin(n_replayed)

    def sample(self, n: int) -> list[dict[str, Any]]:
        self.stop_reason = None
        configurations: list[dict[str, Any]] = []
        with one_thread():
            while len(configurations) < n and (params := self._next()) is not None:
                self._known.run(params)
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
        values: NDArray[Any] | None = None,
        value_noise: NDArray[Any] | None = None,
        violations: NDArray[Any] | None = None,
    ) -> None:
        """Observe a score, or the values of several objectives.

        Parameters
        ----------
        params : dict of str to object
            The configuration, proposed or not.
        score : float
            Larger is better; NaN if the fit failed. Not used if there are `values`.
        resource : int or None
            Total resource of the configuration; None for a full fit.
        noise : float or None, default=None
            Variance of the score, such as that of a mean over splits.
        seconds : float or None, default=None
            Duration of its fits.
        values : array-like of shape (n_objectives,) or None, default=None
            Of all objectives, larger is better; a NaN means that the fit failed.
        value_noise : array-like of shape (n_objectives,) or None, default=None
            Variance of each value, NaN if unknown.
        violations : array-like of shape (n_constraints,) or None, default=None
            At most 0 where a constraint holds, NaN if unknown. Without a score, a positive one says
            that there was no fit, so that nothing is known of the objectives.

        Raises
        ------
        ValueError
            If the number of values or violations differs from an earlier one, or there are several
            objectives and `stop_tol`.
        """
        if self.stop_tol is not None and np.size(score if values is None else values) > 1:
            raise ValueError(
                f"stop_tol compares the expected improvement of one score with its noise, so that "
                f"it must be None with several objectives, but it is {self.stop_tol:g}"
            )
        place = self._known.end(params)
        told, noises = (score, noise) if values is None else (values, value_noise)
        self._observations.add(place, told, resource, noises, seconds, violations)
        self._is_fitted = False

    def observe_elsewhere(
        self,
        params: dict[str, Any],
        score: float,
        *,
        noise: float | None = None,
        seconds: float | None = None,
        values: NDArray[Any] | None = None,
        value_noise: NDArray[Any] | None = None,
        violations: NDArray[Any] | None = None,
    ) -> None:
        """Observe a score of another task, which counts as one with less resource than any.

        The best configurations of that task are proposed first. Then the model learns the shift of
        its scores (the median over nearest neighbours) and their correlation with those of this
        task (the length scale along the resource). Of several objectives, the same for each; those
        proposed first have the best `score`.

        Parameters
        ----------
        params, score, noise, seconds, values, value_noise, violations : object
            As in `observe`, at the largest resource of that task.
        """
        place = self._known.note_elsewhere(params, score)
        told, noises = (score, noise) if values is None else (values, value_noise)
        self._observations.add(place, told, _ELSEWHERE, noises, None, violations)
        self._is_fitted = False

    def replace(self, params: dict[str, Any], by: dict[str, Any]) -> None:
        places = self._observations.places
        self._known.replace(params, by, is_observed=lambda number: number in places)

    def adopt(self, params: dict[str, Any], resource: int | None = None) -> None:
        if len(self._known) < self._n_initial:  # else a design would have its points twice
            super().adopt(params, resource)
            return
        is_repeated = self._known.is_elsewhere(params)
        self._n_repeated += is_repeated
        self._n_chosen += not is_repeated
        self._known.run(params)

    def predict(self, configurations: Sequence[dict[str, Any]]) -> tuple[Array, Array]:
        """Predict the scores of configurations.

        Parameters
        ----------
        configurations : sequence of dict
            Configurations of the space.

        Returns
        -------
        mean, std : ndarray of shape (n_configurations,) or (n_configurations, n_objectives)
            Posterior mean and standard deviation of the score without noise; a column for each
            objective if there are several.

        Raises
        ------
        ValueError
            If nothing was observed, or a configuration is not in the space.
        """
        points = [self.space.to_unit(params) for params in configurations]
        u = np.reshape(points, (-1, self.space.n_dims))
        with one_thread():
            if not self._fit() or not len(self._surrogates.rows):
                raise ValueError("there must be a finite score to predict from, but there is none")
            predicted = [surrogate.predict(u) for surrogate in self._surrogates.objectives]
        mean, std = np.stack(predicted, axis=-1)
        return (mean, std) if len(predicted) > 1 else (mean[:, 0], std[:, 0])

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
            scales = [surrogate.relevance for surrogate in self._surrogates.objectives]
        relevance = dict.fromkeys(self.space.names, 0.0)
        for j, place in enumerate(self._coordinates.dimensions):
            name = self.space.dimensions[place].name
            if name is not None:
                most = max(float(scale[j]) for scale in scales)
                relevance[name] = max(relevance[name], most)
        return relevance

    def _next(self) -> dict[str, Any] | None:
        params = None
        if self._known.elsewhere and self._n_repeated < SETTINGS.n_repeated:
            self._n_repeated += 1
            score, best = max(self._known.elsewhere.values(), key=lambda known: known[0])
            params = best if score > -np.inf else None
        elif len(self._known) >= self._n_initial and self._fit():
            params = self._promising()
        elif self._n_drawn < self._n_initial:
            params = self._next_initial()
        if params is not None or self.stop_reason is not None:
            return params
        return self._unseen()

    @property
    def _n_initial(self) -> int:
        if isinstance(self.n_initial_points, str):
            return SETTINGS.n_initial * min(self._observations.n_objectives, 3)
        return int(self.n_initial_points)

    def _next_initial(self) -> dict[str, Any] | None:
        """The next point of the Sobol sequence; None if it is known."""
        if self._n_drawn % 16 == 0:
            self._block = self._initial.random(16)
        u = self._block[self._n_drawn % 16]
        if self.prior is not None and not self._n_drawn:
            params = self.prior.likeliest(u)
        else:
            if self.prior is not None and self._n_drawn % 2 == 0:
                u = self.prior.points(u[None])[0]
            params = self.space.from_unit(u)
        self._n_drawn += 1
        return None if self._known.has(params) or not self.space.allows(params) else params

    def _unseen(self) -> dict[str, Any] | None:
        """A random new configuration."""
        for _ in range(SETTINGS.max_repeats):
            if not (drawn := self._random.sample(1)):
                break
            if not self._known.has(drawn[0]):
                return drawn[0]
        self.stop_reason = "all configurations of the space were tried"
        return None

    def _fit(self) -> bool:
        """Whether there is a model; passes new observations on to it."""
        if not self._is_fitted:
            self._is_fitted = self._surrogates.observe(self._observations, self._known.units)
        return self._is_fitted

    def _promising(self) -> dict[str, Any] | None:
        """The new configuration with the largest acquisition."""
        models = self._surrogates
        running = self._known.units[list(self._known.pending)] if self._known.pending else None
        # The stopping rule needs the most probable model.
        improvement = models.acquisition(running, draws=self.stop_tol is None)
        self._n_chosen += 1
        belief = self._belief(models)
        acquisition: Acquisition | PerSecond = improvement
        if self.acquisition == "log_ei_per_second" or self._is_in_a_hurry():
            acquisition = models.per_second(improvement) or improvement
        centres = models.units_of(models.best(SETTINGS.n_observed_centres))
        if self.prior is not None and len(centres):
            centres = np.vstack([centres, self.space.snap(self.prior.mode(centres[:1]))])

        def value(u: Array) -> Array:
            return acquisition(models.encode(u)) - self._search.edge_penalty(u) + belief(u)

        if self._n_chosen % SETTINGS.choices_every == 0 and models.is_plain:
            other = self._other_choice(value)
            if other is not None:
                return other
        found, _ = self._search.maximise(
            value,
            self._known.are_excluded,
            centres,
            SETTINGS.n_around if running is None else SETTINGS.n_around_running,
        )
        if self._is_enough(improvement, found):
            return None
        for u in found:
            params = self.space.from_unit(u)
            if not self._known.has(params):
                return params
        return None

    def _other_choice(self, value: Callable[[Array], Array]) -> dict[str, Any] | None:
        """The best configuration with another choice, of largest value; None if all were tried.

        Or nearly: one whose choices were tried with about the same numbers is left out, and a
        choice with which two or more fits, and all of them, failed.
        """
        models, known = self._surrogates, self._known.units
        points, dim_of = self._search.other_choices(models.units_of(models.best(1)))
        new = ~self._known.are_excluded(points)
        points, dim_of = points[new], dim_of[new]
        tried = known[self._observations.places]
        failed = np.isnan(self._observations.objectives[:, 0])
        for i in np.argsort(-value(points), kind="stable") if len(points) else ():
            u, j = points[i], dim_of[i]
            with_it = failed[np.abs(tried[:, j] - u[j]) <= 1e-9]
            near = np.abs(known - u) <= np.where(self._numbers, SETTINGS.same_numbers, 1e-9)
            params = self.space.from_unit(u)
            if not (
                near.all(axis=1).any()
                or (len(with_it) > 1 and with_it.all())
                or self._known.has(params)
            ):
                return params
        return None

    def _is_in_a_hurry(self) -> bool:
        """Whether candidates whose fits take less time are worth more."""
        if self.time_limit is None:
            return False
        seconds = self._observations.seconds
        own = seconds[self._n_known :]
        seconds = seconds[seconds > 0.0]
        if not len(seconds) or not self.time_limit.is_short(len(own), own[own > 0.0].sum()):
            return False
        low, high = np.quantile(seconds, [0.1, 0.9])
        return bool(high > SETTINGS.unequal * low)

    def _belief(self, models: Surrogates) -> Callable[[Array], Array | float]:
        """The logarithm of what the acquisition is multiplied by for the prior."""
        prior = self.prior
        if prior is None:
            return lambda u: 0.0
        tried = models.units_of(models.best(len(self._observations)))
        weight = self.prior_weight / self._n_chosen * trust(prior.log_density(tried))
        return lambda u: weight * prior.log_density(u)

    def _is_enough(self, improvement: Acquisition, found: Array) -> bool:
        """Whether the stopping rule holds."""
        models = self._surrogates
        if self.stop_tol is None or not len(found) or not len(models.rows):
            return False
        [surrogate] = models.objectives
        if len(models.rows) < 2 * len(surrogate.theta) or surrogate.transform.is_constant:
            return False
        left = float(np.exp(improvement(models.encode(found)).max())) * surrogate.unit
        variance = self._observations.noise[models.best(1)[0], 0]
        std = surrogate.unit * float(np.sqrt(surrogate.posterior.noise_variance))
        if np.isfinite(variance) and variance > 0.0:
            std = float(np.sqrt(variance))
        if left >= self.stop_tol * std:
            return False
        self.stop_reason = (
            f"the expected improvement left, {left:.3g}, is below stop_tol={self.stop_tol:g} "
            f"times the noise of the best score, {std:.3g}"
        )
        return True
