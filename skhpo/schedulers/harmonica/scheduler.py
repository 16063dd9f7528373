"""Harmonica: stages of random samples; each stage restricts the space of the next."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...arguments import check_arguments
from ...samplers import RandomSampler, Sampler
from ...space import SearchSpace
from ...trial import Trial
from ..base import Scheduler
from ..full import FullScheduler
from ._arguments import (
    CONSTRAINTS,
    check_degree,
    check_n_samples,
    check_n_terms,
    check_params,
    check_resource,
    check_work,
    least_samples,
)
from .coding import WHOLE, Factor, code
from .products import Products
from .recovery import recover
from .region import Region
from .restricted import RestrictedSpace
from .sampler import StageSampler
from .system import Term

__all__ = ["Harmonica", "Stage"]

Vector = NDArray[np.float64]

# A sampler proposes nothing that it has heard of: of fewer configurations too few would be left.
_MANY = 10**6
Base = Callable[[SearchSpace, int], Scheduler]


@dataclass(frozen=True, slots=True)
class Stage:
    """Result of a stage of Harmonica.

    Parameters
    ----------
    n_samples, n_failed : int
        Number of configurations that were tried, and of those whose fits failed.
    mean_score, best_score : float
        Of the configurations that did not fail; NaN if all failed.
    intercept : float
        Constant of the polynomial.
    terms : list of Term
        Largest first.
    explained : float
        Share of the variance of the scores that all terms explain together.
    shares : list of float
        The share that would be lost without each term.
    region : Region
        Where the next stage samples.
    """

    n_samples: int
    n_failed: int
    mean_score: float
    best_score: float
    intercept: float
    terms: list[Term]
    explained: float
    shares: list[float]
    region: Region


class Harmonica(Scheduler):
    """Harmonica [1]_: in stages, sample at random, fit a sparse polynomial, restrict the space.

    Each stage draws its configurations at random, all at once. A polynomial with few terms, in
    functions of the parameters (`coding.code`), is fitted to their scores. Later samples are
    drawn only where the values of the terms have the largest sums. After the last stage any
    other scheduler searches the restricted space.

    Parameters
    ----------
    space : SearchSpace
        At least two configurations.
    random_state : int
        The seed.
    base : callable or None, default=None
        Called as ``base(space, random_state)`` with the restricted space after the last stage;
        returns the `Scheduler` that searches it. None tries 100 random configurations. A sampler
        of it that learns hears the scores of the stages, unless these have `params` or the space
        has less than a million configurations. If these are of less than the largest resource, it
        gets the whole space: it knows why the region was good, and learns whether it stays so.
    n_stages : int, default=2
        Number of stages; each restricts the space once.
    n_samples : int or "auto", default="auto"
        Configurations per stage. "auto" grows with the logarithm of the number of possible terms
        and gives the 300 of the paper for its 60 two-valued parameters.
    degree : int or "auto", default="auto"
        Largest number of parameters in a term. "auto" is 3 (or the number of parameters if that is
        smaller), and 2 if there are more than 2.7e8 products of three functions.
    n_terms : int or sequence of int, default=5
        Largest number of terms of a stage; a sequence has one number per stage. Further functions
        of the same parameters can be added to a term and do not count.
    n_restrictions : int, default=1
        Number of patterns of values of the terms that a stage keeps, best first, but at most an
        eighth of the possible ones. Each later sample follows one of them, drawn at random.
    alpha : float or "auto", default="auto"
        Penalty of the Lasso; see `recover`.
    resource : int or None, default=None
        Resource of the samples of the stages; None means the largest resource of the base.
    params : mapping or None, default=None
        Values of parameters of the estimator that are not in the space, for the samples of the
        stages.

    Attributes
    ----------
    space : SearchSpace
        The unrestricted space.
    stages : list of Stage
        Completed stages.

    Raises
    ------
    ValueError
        If the arguments do not fit the space or each other, or if a stage would have too many
        products or need more memory than this machine has.

    Warns
    -----
    UserWarning
        If nothing can be learnt from a stage because it has too few scores or all are equal. The
        base then searches the space as the previous stage left it.

    See Also
    --------
    skhpo.HarmonicaSearchCV : The search that uses it.
    FullScheduler : For the base: full fits.
    Hyperband : For the base: many candidates briefly.

    Notes
    -----
    Trials have the tag ``stage``, from 0, which is ``n_stages`` for trials of the base, and the
    tags of the base, which are -1 in the stages. A stage waits for all its trials, so its result
    does not depend on the order in which their scores arrive.

    References
    ----------
    .. [1] Hazan, Klivans and Yuan, "Hyperparameter optimization: a spectral approach", ICLR 2018,
       algorithms 1 and 2.

    Examples
    --------
    >>> from skhpo.schedulers import Harmonica
    >>> from skhpo.space import SearchSpace
    >>> space = SearchSpace({f"x{i}": [-1, 1] for i in range(20)})
    >>> scheduler = Harmonica(space, 0, n_stages=1)
    >>> while trials := scheduler.ask():
    ...     for trial in trials:
    ...         x = trial.params
    ...         scheduler.tell(trial, score=3 * x["x4"] - 2 * x["x7"] * x["x9"])
    >>> [[f.label for f in term.factors] for term in scheduler.stages[0].terms]
    [[1], [1, 1]]
    >>> x["x4"], x["x7"] * x["x9"]
    (1, -1)
    """

    def __init__(
        self,
        space: SearchSpace,
        random_state: int,
        base: Base | None = None,
        *,
        n_stages: int = 2,
        n_samples: int | Literal["auto"] = "auto",
        degree: int | Literal["auto"] = "auto",
        n_terms: int | Sequence[int] = 5,
        n_restrictions: int = 1,
        alpha: float | Literal["auto"] = "auto",
        resource: int | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        check_arguments(
            "Harmonica",
            CONSTRAINTS,
            n_stages=n_stages,
            n_samples=n_samples,
            degree=degree,
            n_restrictions=n_restrictions,
            alpha=alpha,
            resource=resource,
        )
        rng = np.random.default_rng(random_state)
        seeds = rng.integers(2**31, size=2).tolist()
        self._stage_sampler = StageSampler(space, seeds[0])
        super().__init__(self._stage_sampler)
        if space.size == 1:
            raise ValueError(
                "a search needs at least two configurations to choose from, but the space has one; "
                "list more values, or set the parameters of the estimator"
            )
        self.stages: list[Stage] = []
        self._codes = [code(space, d, WHOLE) for d in range(space.n_dims)]
        self._active = _activity(space)
        self.space = space
        self._region = Region()
        self._n_stages = int(n_stages)
        self._n_restrictions = int(n_restrictions)
        self._n_terms = check_n_terms(n_terms, self._n_stages)
        sizes = [len(factors) for factors in self._codes]
        self._degree = check_degree(degree, sizes)
        self._alpha = alpha
        self._n_samples = check_n_samples(n_samples, max(self._n_terms), sizes, self._degree)
        check_work(sizes, self._degree, self._n_samples)
        self._params = check_params(params, space)
        self._make_base = base or _hundred_at_random
        self._base_seed = seeds[1]
        # A base for the whole space: its tags and resources are those of the later base.
        likely = self._make_base(space, self._base_seed)
        first = likely.ask()
        self._tags = dict.fromkeys(first[0].tags if first else {}, -1)
        self.max_resource = likely.max_resource
        self._resource = check_resource(resource, self.max_resource)
        self.n_trials = None
        is_large = space.size is None or space.size >= _MANY
        self._hears = likely.sampler.learns and not self._params and is_large
        if likely.n_trials is not None:
            self.n_trials = self._n_stages * self._n_samples + likely.n_trials
        self._base: Scheduler | None = None
        self._wrap_base: Callable[[Sampler, int], Sampler] | None = None
        self._own_candidate: list[int] = []  # our number of each candidate of the base
        self._first_of_base = 0  # our number of the base's trial 0
        self._base_trial: dict[int, Trial] = {}
        self._current: list[Trial] = []
        self._scores: dict[int, float] = {}
        self._told: list[int] = []  # trials of completed stages
        self._heard: dict[int, dict[str, Any]] = {}  # what a base that learns hears beside scores
        self._points: list[Vector] = []  # of the stages' candidates, which have one trial each

    @property
    def looks_ahead(self) -> bool:  # type: ignore[override]
        return self._base is not None and self._base.looks_ahead

    @property
    def _is_brief(self) -> bool:
        """Whether the stages have less than the largest resource."""
        amounts = self._resource, self.max_resource
        return None not in amounts and amounts[0] < amounts[1]  # type: ignore[operator]

    def ask(self) -> list[Trial]:
        if self._pending and self._base is None:
            return []
        while self._base is None:
            if self._current:
                self._finish_stage()
            elif len(self.stages) < self._n_stages:
                candidates = self.new_candidates(self._n_samples, self._resource)
                tags = {"stage": len(self.stages), **self._tags}
                self._current = [
                    self.new_trial(candidate, resource=self._resource, tags=tags)
                    for candidate in candidates
                ]
                if self._current:
                    return list(self._current)
                self._start_base()
            else:
                self._start_base()
        return self._ask_base()

    def tell(
        self,
        trial: Trial,
        score: float,
        *,
        noise: float | None = None,
        seconds: float | None = None,
        **more: Any,
    ) -> None:
        super().tell(trial, score, noise=noise, seconds=seconds, **more)
        if self._base is None:
            self._heard[trial.number] = {"noise": noise, "seconds": seconds, **more}
        elif trial.number in self._base_trial:
            told = self._base_trial.pop(trial.number)
            self._base.tell(told, score, noise=noise, seconds=seconds, **more)

    def may_continue(self) -> set[int]:
        if self._base is None:
            return set()
        return {self._first_of_base + number for number in self._base.may_continue()}

    def released(self) -> Collection[int]:
        told, self._newly_told = self._newly_told, []
        if self._base is None:
            return told
        own = [number for number in told if number < self._first_of_base]
        return [*own, *(self._first_of_base + number for number in self._base.released())]

    def record(self, trial: Trial, score: float, **more: Any) -> None:
        self._scores[trial.number] = score

    def wrap_sampler(self, wrap: Callable[[Sampler, int], Sampler]) -> None:
        """Put another sampler around that of the base; draws of the stages hear no scores.

        Parameters
        ----------
        wrap : callable
            As in `Scheduler.wrap_sampler`.
        """
        self._wrap_base = wrap

    def new_candidates(self, n: int, resource: int | None = None) -> list[int]:
        new = super().new_candidates(n, resource)
        for candidate in new:
            params = self._candidates[candidate]
            self._points.append(self._stage_sampler.point_of(params))
            self._candidates[candidate] = {**params, **self._params}
        return new

    def _ask_base(self) -> list[Trial]:
        assert self._base is not None
        trials = []
        for asked in self._base.ask():
            if asked.candidate == len(self._own_candidate):
                self._own_candidate.append(self.add_candidate(dict(asked.params)))
            trial = self.new_trial(
                self._own_candidate[asked.candidate],
                resource=asked.resource,
                tags={"stage": self._n_stages, **asked.tags},
                parent=None if asked.parent is None else self._first_of_base + asked.parent,
                number=self._first_of_base + asked.number,
            )
            self._base_trial[trial.number] = asked
            trials.append(trial)
        return trials

    def _start_base(self) -> None:
        space = self.space
        if self._region.terms and not (self._hears and self._is_brief):
            space = RestrictedSpace(self.space, self._region)
        self._base = self._make_base(space, self._base_seed)
        self._first_of_base = self._next_number
        if self._hears:
            for number in sorted(self._heard):  # samples are numbered as their trials
                params, score = dict(self._candidates[number]), self._scores[number]
                self._base.sampler.observe(params, score, self._resource, **self._heard[number])
        self._heard.clear()
        if self._wrap_base is not None:
            self._base.sampler = self._wrap_base(self._base.sampler, len(self._candidates))

    def _finish_stage(self) -> None:
        """Learn from the samples of a stage, and restrict the space."""
        numbers = [trial.number for trial in self._current]
        exhausted = len(numbers) < self._n_samples
        self._current = []
        self._told += numbers
        _, good = self._known(numbers)
        n_terms = self._n_terms[len(self.stages)]
        points, y = self._samples_of_region()
        problem = None
        if len(y) < least_samples(n_terms):
            problem = (
                f"{len(numbers) - len(good)} of its {len(numbers)} fits failed, and at least "
                f"{least_samples(n_terms)} scores are needed for n_terms={n_terms}"
            )
        elif np.ptp(y) <= 1e-12 * np.abs(y).max():
            problem = f"all scores are {y[0]:g}"
        if problem is None:
            terms, intercept, explained, shares = self._learn(points, y, n_terms)
            region = self._region.restricted(terms, self._n_restrictions)
            if not self._stage_sampler.can_draw(region):
                problem = "all that it would keep is forbidden"
        if problem is not None:
            terms, intercept, explained, shares, region = [], math.nan, 0.0, [], self._region
            if not exhausted:
                warnings.warn(
                    f"nothing can be learnt from stage {len(self.stages)} because {problem}; the "
                    "base searches the space as it is",
                    UserWarning,
                    stacklevel=2,
                )
        self.stages.append(
            Stage(
                n_samples=len(numbers),
                n_failed=len(numbers) - len(good),
                mean_score=float(good.mean()) if len(good) else math.nan,
                best_score=float(good.max()) if len(good) else math.nan,
                intercept=intercept,
                terms=terms,
                explained=explained,
                shares=shares,
                region=region,
            )
        )
        self._region = region
        self._stage_sampler.region = region
        if problem is not None or exhausted:
            self._start_base()

    def _known(self, numbers: list[int]) -> tuple[list[int], Vector]:
        """Return trials with a score, and the scores; infinity becomes the largest finite one.

        NaN and minus infinity are failures.
        """
        scores = [self._scores[number] for number in numbers]
        finite = [score for score in scores if math.isfinite(score)]
        if not finite:
            return [], np.empty(0)
        known = [number for number in numbers if self._scores[number] > -math.inf]
        return known, np.minimum([self._scores[number] for number in known], max(finite))

    def _samples_of_region(self) -> tuple[Vector, Vector]:
        """Return points and scores of all samples in the region so far, without failed ones."""
        numbers, scores = self._known(self._told)
        points = np.array([self._points[number] for number in numbers]).reshape(
            -1, self.space.n_dims
        )
        inside = self._region.contains(points)
        return points[inside], scores[inside]

    def _learn(
        self, points: Vector, y: Vector, n_terms: int
    ) -> tuple[list[Term], float, float, list[float]]:
        known = sum((term(points) for term in self._region.terms), np.zeros(len(y)))
        factors = self._factors(points)
        if not factors:
            return [], float(np.mean(y)), 0.0, []
        active = self._active
        columns = np.empty((len(y), len(factors)), dtype=np.float32)
        for column, factor in zip(columns.T, factors, strict=True):
            column[:] = factor(points[:, factor.dimension])
            for other in active[factor.dimension]:
                column *= other(points[:, other.dimension])
        groups = np.array([f.dimension for f in factors])
        products = Products(columns, groups, self._degree)
        found = recover(products, y - known, n_terms, self._alpha)
        terms = [
            Term(
                float(coefficient),
                tuple(
                    itertools.chain.from_iterable(
                        (factors[i], *active[factors[i].dimension]) for i in term
                    )
                ),
            )
            for term, coefficient in zip(found.terms, found.coefficients, strict=True)
        ]
        return terms, found.intercept, found.explained, found.shares

    def _factors(self, points: Vector) -> list[Factor]:
        """Return the functions of all parameters on their allowed intervals."""
        allowed = self._region.allowed(points)
        return list(
            itertools.chain.from_iterable(
                code(self.space, d, allowed[d]) if d in allowed else whole
                for d, whole in enumerate(self._codes)
            )
        )


def _activity(space: SearchSpace) -> list[tuple[Factor, ...]]:
    """Return factors for each coordinate that are 1 where it is used and 0 in other dicts."""
    n_dicts = space.dimensions[0].n_levels if space.dimensions[0].name is None else 1
    assert n_dicts is not None
    found: list[tuple[Factor, ...]] = []
    for dimension in space.dimensions:
        if len(dimension.dicts) == n_dicts:
            found.append(())
            continue
        ends = np.array(space.level_ends(0))
        values = np.array([float(d in dimension.dicts) for d in range(n_dicts)])
        found.append((Factor(0, ends, values, None),))
    return found


def _hundred_at_random(space: SearchSpace, random_state: int) -> Scheduler:
    return FullScheduler(RandomSampler(space, random_state), n_candidates=100)
