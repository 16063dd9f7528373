"""
A sampler and a scheduler of your own
=====================================

A sampler proposes configurations, a scheduler decides how long each is trained. Both are small
classes. Here are two that the package does not have, a tree-structured Parzen estimator (TPE) and
differential evolution in the rungs of Hyperband (DEHB), each tested by the contract that all
samplers and schedulers of the package pass.
"""

# %%
# A sampler implements `sample`, and `observe` if it learns. Points of the unit cube stand for
# configurations, so that it need not know what a parameter is. This one follows Bergstra et al.,
# "Algorithms for hyper-parameter optimization" (2011): of some proposals near good configurations
# it returns the one with the largest ratio of the densities of good and other ones.

import itertools

import numpy as np

from skhpo.samplers import RandomSampler, Sampler, register


class TPE(Sampler):
    learns = True

    def __init__(self, space, random_state, n_random=10, n_proposals=24):
        super().__init__(space)
        self.n_random = n_random
        self.n_proposals = n_proposals
        self._rng = np.random.default_rng(random_state)
        self._random = RandomSampler(space, random_state)
        self._sampled = set()
        self._seen = {}  # resource -> points and their scores
        self._is_choice = np.array([d.kind == "choice" for d in space.dimensions])

    def sample(self, n):
        proposals = (self._propose() for _ in range(n))
        return [params for params in proposals if params is not None]

    def observe(self, params, score, resource, **more):
        if np.isfinite(score):
            point = np.nan_to_num(self.space.to_unit(params), nan=0.5)
            self._seen.setdefault(resource or 0, []).append((score, point))

    def _propose(self):
        for params in itertools.chain(self._likely(), self._at_random()):
            key = self.space.key(params)
            if key not in self._sampled:
                self._sampled.add(key)
                return params
        return None

    def _at_random(self):
        while drawn := self._random.sample(1):  # none if a finite space is exhausted
            yield drawn[0]

    def _likely(self):
        """Proposals near good configurations, the best first."""
        enough = [r for r, seen in self._seen.items() if len(seen) >= self.n_random]
        if not enough:
            return []
        scores, points = zip(*self._seen[max(enough)], strict=True)
        order = np.argsort(-np.array(scores), kind="stable")
        points = np.array(points)[order]
        n_good = max(2, len(points) // 5)
        good, others = points[:n_good], points[n_good:]
        near = good[self._rng.integers(n_good, size=self.n_proposals)]
        moved = near + self._width(good) * self._rng.standard_normal(near.shape)
        anywhere = self._rng.random(near.shape)
        moved = np.where((moved < 0) | (moved > 1), anywhere, moved)
        kept = self._rng.random(near.shape) < 0.8
        proposals = np.where(self._is_choice, np.where(kept, near, anywhere), moved)
        ratios = self._log_density(proposals, good) - self._log_density(proposals, others)
        return self.space.from_units(proposals[np.argsort(-ratios, kind="stable")])

    def _width(self, points):
        return np.maximum(points.std(axis=0), 0.05) * len(points) ** -0.2

    def _log_density(self, proposals, points):
        # proposals x points x dimensions
        distance = proposals[:, None] - points[None]
        width = self._width(points)
        numbers = np.exp(-0.5 * (distance / width) ** 2) / (width * np.sqrt(2 * np.pi))
        choices = np.where(np.abs(distance) < 1e-9, 5.0, 0.2)
        kernels = np.log(np.where(self._is_choice, choices, numbers) + 1e-3).sum(axis=2)
        return np.log(np.exp(kernels).mean(axis=1) + 1e-12)


# %%
# A test file of your own inherits the contract. It checks, among others, that configurations are in
# the space, that a seed decides everything, that a finite space is exhausted without repetition,
# and that numpy's global generator is left alone.

from skhpo.testing import SamplerContract, SchedulerContract


class TestTPE(SamplerContract):
    def make_sampler(self, space, seed):
        return TPE(space, seed)


# %%
# A registered name can be used like the package's own; `sampler=TPE` works without it.

from scipy.stats import loguniform
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import HalvingHyperbandSearchCV, SearchCV
from skhpo.inspection import IncumbentDisplay

register("tpe", TPE)
X, y = load_breast_cancer(return_X_y=True)
model = make_pipeline(StandardScaler(), SGDClassifier(random_state=0))
space = {
    "sgdclassifier__alpha": loguniform(1e-6, 1),
    "sgdclassifier__penalty": ["l1", "l2"],
    "sgdclassifier__loss": ["hinge", "log_loss", "modified_huber"],
}
hyperband = HalvingHyperbandSearchCV(
    model,
    space,
    resource="sgdclassifier__max_iter",
    max_resources=27,
    sampler="tpe",
    cv=3,
    random_state=0,
)
hyperband.fit(X, y)
print(f"Hyperband with TPE: {hyperband.best_score_:.3f} with {hyperband.best_params_}")

# %%
# A scheduler implements `ask`, which returns the trials to start next, and `record`, which hears
# their scores. In this one, after Awad, Mallik and Hutter, "DEHB" (2021), shortened, each rung of
# Hyperband evolves the population of its level of resource: parents also come from the level below.

from skhpo.schedulers import Scheduler, hyperband_plan


class DEHB(Scheduler):
    def __init__(self, sampler, random_state, *, max_resources=27, n_iterations=3):
        super().__init__(sampler)
        brackets = hyperband_plan(1, max_resources, 3)
        self._rungs = [rung for _ in range(n_iterations) for rungs in brackets for rung in rungs]
        self.n_trials = sum(size for size, _ in self._rungs)
        self.max_resource = max_resources
        self._rng = np.random.default_rng(random_state)
        self._populations = {level: [] for _, level in self._rungs}  # [score, point]
        self._running = {}  # trial number -> level, point, and the member that it may replace
        self._scores = {}

    def ask(self):
        if self._pending:
            return []
        self._select()
        if not self._rungs:
            return []
        size, level = self._rungs.pop(0)
        trials = (self._trial(level, member) for member in range(size))
        return [trial for trial in trials if trial is not None]

    def record(self, trial, score):
        self._scores[trial.number] = score if np.isfinite(score) else -np.inf

    def _trial(self, level, member):
        population = self._populations[level]
        parents = [point for _, point in population]
        below = [p for other, p in self._populations.items() if other < level]
        if below:
            best = sorted(below[-1], key=lambda one: -one[0])[: max(3, len(below[-1]) // 3)]
            parents += [point for _, point in best]
        if member >= len(population) or len(parents) < 4:
            candidates = self.new_candidates(1, level)
            if not candidates:  # the space is exhausted
                return None
            candidate = candidates[0]
            point = self.sampler.space.to_unit(self.params_of(candidate))
            point = np.nan_to_num(point, nan=0.5)
        else:
            a, b, c = self._rng.choice(parents, 3, replace=False)
            mutant = (a + 0.5 * (b - c)) % 1.0
            crossed = self._rng.random(len(mutant)) < 0.5
            point = np.where(crossed, mutant, population[member][1])
            candidate = self.add_candidate(self.sampler.space.from_unit(point))
        trial = self.new_trial(candidate, resource=level, tags={"level": level})
        self._running[trial.number] = level, point, member
        return trial

    def _select(self):
        """Each new configuration replaces its predecessor if it is as good."""
        for number, (level, point, member) in self._running.items():
            score, population = self._scores[number], self._populations[level]
            if member >= len(population):
                population.append([score, point])
            elif score >= population[member][0]:
                population[member] = [score, point]
        self._running.clear()


class TestDEHB(SchedulerContract):
    def make_scheduler(self, seed):
        from skhpo import SearchSpace

        return DEHB(RandomSampler(SearchSpace({"x": loguniform(1e-3, 1)}), seed), seed)


# %%
# `SearchCV` runs any scheduler: with journals, workers and all else that the other searches have.


def dehb(space, random_state):
    return DEHB(RandomSampler(space, random_state), random_state)


search = SearchCV(
    model, space, scheduler=dehb, resource="sgdclassifier__max_iter", cv=3, random_state=0
)
search.fit(X, y)
print(f"DEHB: {search.best_score_:.3f} with {search.best_params_}")

# %%
# The best score so far, against the epochs of all fits:

searches = {"Hyperband with TPE": hyperband, "DEHB": search}
IncumbentDisplay.from_searches(searches, against="resource")
