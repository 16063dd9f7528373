"""Samplers that are told which level of resource their configurations start at."""

import math

import numpy as np
import pytest
from scipy.stats import uniform

from skhpo import SearchSpace
from skhpo.samplers import EnqueuedSampler, RandomSampler, ReplayedSampler, Sampler
from skhpo.schedulers import AsynchronousHyperband, FullScheduler, Hyperband

SPACE = SearchSpace({"x": uniform(0, 1)})


class Evolving(Sampler):
    """Each level has a population of its own, which moves away from the best of the level below.

    That is how DEHB uses levels, without the rest of it.
    """

    learns = True

    def __init__(self, space, random_state=0):
        super().__init__(space)
        self.rng = np.random.default_rng(random_state)
        self.scores = {}
        self.asked = []

    def sample(self, n, *, resource=None):
        self.asked.append((n, resource))
        below = [level for level in self.scores if resource is not None and level <= resource]
        best = max(self.scores[max(below)])[1] if below else None
        out = []
        for _ in range(n):
            u = self.rng.random(self.space.n_dims)
            if best is not None:
                u = np.clip(self.space.to_unit(best) + 0.05 * (u - 0.5), 0, 1)
            out.append(self.space.from_unit(u))
        return out

    def observe(self, params, score, resource, *, noise=None, seconds=None):
        if not math.isnan(score) and resource is not None:
            self.scores.setdefault(resource, []).append((score, params))


def levels_of(scheduler):
    """Run a search; return how many candidates started at which level, in order."""
    found = []
    while batch := scheduler.ask():
        for trial in batch:
            if trial.parent is None:
                found.append(trial.resource)
            scheduler.tell(trial, -((trial.params["x"] - 0.3) ** 2))
    return found


def told(sampler):
    return [level for n, level in sampler.asked for _ in range(n)]


@pytest.mark.parametrize("kind", [Hyperband, AsynchronousHyperband])
def test_a_sampler_hears_the_level_at_which_each_candidate_starts(kind):
    sampler = Evolving(SPACE)
    started = levels_of(kind(sampler, max_resources=9))
    assert set(started) == {1, 3, 9}
    assert told(sampler) == started


def test_the_level_of_full_fits():
    for resource in (None, 27):
        sampler = Evolving(SPACE)
        assert levels_of(FullScheduler(sampler, 4, resource=resource)) == [resource] * 4
        assert told(sampler) == [resource] * 4


def test_later_levels_gather_around_the_best_of_earlier_ones():
    sampler = Evolving(SPACE)
    scheduler = Hyperband(sampler, max_resources=27)
    first, last = [], []
    while batch := scheduler.ask():
        for trial in batch:
            (first if trial.tags["bracket"] == 0 else last).append(trial)
            scheduler.tell(trial, -((trial.params["x"] - 0.3) ** 2))
    spread = [
        np.ptp([t.params["x"] for t in trials if t.parent is None]) for trials in (first, last)
    ]
    assert spread[1] < 0.2 < spread[0]


def test_what_stands_before_a_sampler_passes_the_level_on():
    inner = Evolving(SPACE)
    sampler = ReplayedSampler(
        EnqueuedSampler(inner, [{"x": 0.5}]), {}, lambda proposed, _: proposed
    )
    started = levels_of(Hyperband(sampler, max_resources=9))
    assert told(inner) == started[1:]


def test_other_samplers_are_asked_as_before():
    plain = EnqueuedSampler(RandomSampler(SPACE, 0), [{"x": 0.5}])
    assert len(levels_of(Hyperband(plain, max_resources=9))) == 9 + 5 + 3
