import math

import pytest
from scipy import stats

from skhpo import SearchSpace
from skhpo.samplers import BayesSampler
from skhpo.testing import SamplerContract


class TestBayesSampler(SamplerContract):
    def make_sampler(self, space, seed):
        return BayesSampler(space, random_state=seed, n_initial_points=4)


def run(sampler, score, n):
    scores = []
    for _ in range(n):
        for params in sampler.sample(1):
            scores.append(score(params))
            sampler.observe(params, scores[-1], None)
    return scores


def test_better_than_random_on_a_quadratic():
    space = SearchSpace({"x": stats.uniform(), "y": stats.uniform(), "z": stats.uniform()})

    def score(params):
        return -sum((value - 0.37) ** 2 for value in params.values())

    best = [max(run(BayesSampler(space, seed), score, 20)) for seed in range(3)]
    assert min(best) > -1e-3


@pytest.mark.parametrize("value", [math.nan, 0.0, -math.inf, 1e300])
def test_scores_that_say_nothing(value):
    space = SearchSpace({"x": stats.uniform(), "c": ["a", ["b"], None]})
    scores = run(BayesSampler(space, 0, n_initial_points=1), lambda params: value, 6)
    assert len(scores) == 6
