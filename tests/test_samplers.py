import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.model_selection import ParameterGrid

from skhpo import SearchSpace, log_randint
from skhpo.samplers import EnqueuedSampler, GridSampler, RandomSampler, Sampler
from skhpo.testing import SamplerContract

quick = settings(deadline=None, max_examples=40)


class TestRandomSampler(SamplerContract):
    def make_sampler(self, space, seed):
        return RandomSampler(space, random_state=seed)


SPACES = {
    "choices": {"a": list(range(7)), "b": ["x", "y", None]},
    "numbers": {"x": stats.norm(), "n": stats.poisson(2)},
    "conditional": [{"a": [1, 2]}, {"a": [3], "b": stats.randint(0, 5)}],
    "wide": {"n": stats.randint(0, 10**9)},
}


@pytest.mark.parametrize("space", SPACES.values(), ids=list(SPACES))
@given(sizes=st.lists(st.integers(0, 9), max_size=6))
@quick
def test_random_does_not_depend_on_how_many_are_asked_for_at_a_time(space, sizes):
    space = SearchSpace(space)
    in_parts, at_once = RandomSampler(space, 0), RandomSampler(space, 0)
    parts = [params for n in sizes for params in in_parts.sample(n)]
    assert parts == at_once.sample(sum(sizes))


def test_random_accepts_a_random_state():
    space = SearchSpace({"x": stats.uniform()})
    drawn = RandomSampler(space, np.random.RandomState(3)).sample(4)
    assert drawn == RandomSampler(space, 3).sample(4)
    assert len(RandomSampler(space).sample(2)) == 2


@pytest.mark.parametrize(
    "distribution",
    [stats.loguniform(1e-4, 1), stats.norm(1, 2), stats.beta(2, 5)],
    ids=lambda distribution: distribution.dist.name,
)
def test_random_numbers_follow_their_distribution(distribution):
    drawn = RandomSampler(SearchSpace({"x": distribution, "y": [1, 2]}), 0).sample(2000)
    values = [params["x"] for params in drawn]
    assert stats.kstest(values, distribution.cdf).pvalue > 0.01


@pytest.mark.parametrize("distribution", [stats.poisson(3), stats.geom(0.4)])
def test_random_integers_follow_their_distribution(distribution):
    drawn = RandomSampler(SearchSpace({"n": distribution}), 0).sample(3000)
    values = np.minimum([params["n"] for params in drawn], 7)
    k = np.arange(8)
    expected = distribution.pmf(k)
    expected[-1] = 1 - distribution.cdf(6)
    observed = np.bincount(values, minlength=8)
    used = expected > 0
    assert stats.chisquare(observed[used], 3000 * expected[used]).pvalue > 0.01


@pytest.mark.parametrize("distribution", [stats.binom(6, 0.3), log_randint(1, 9)])
def test_first_draw_of_a_finite_space_follows_its_distribution(distribution):
    space = SearchSpace({"n": distribution})
    low, high = distribution.support()
    k = np.arange(low, high + 1)
    rng = np.random.RandomState(0)
    first = [RandomSampler(space, rng).sample(1)[0]["n"] for _ in range(2000)]
    observed = np.bincount(np.array(first) - low, minlength=len(k))
    enough = 2000 * distribution.pmf(k) > 5
    assert observed[~enough].sum() <= 15
    expected = distribution.pmf(k[enough])
    observed = observed[enough]
    assert stats.chisquare(observed, observed.sum() * expected / expected.sum()).pvalue > 0.01


def test_second_draw_excludes_the_first():
    # P(second = j) = sum over i != j of p_i p_j / (1 - p_i)
    space = SearchSpace({"a": ["x"] * 6 + ["y"] * 3 + ["z"]})
    p = np.array([0.6, 0.3, 0.1])
    second = np.array([sum(p[i] * p[j] / (1 - p[i]) for i in range(3) if i != j) for j in range(3)])
    rng = np.random.RandomState(0)
    drawn = ["xyz".index(RandomSampler(space, rng).sample(2)[1]["a"]) for _ in range(2000)]
    assert stats.chisquare(np.bincount(drawn, minlength=3), 2000 * second).pvalue > 0.01


def test_each_dict_is_equally_likely():
    space = SearchSpace([{"a": [1]}, {"x": stats.norm()}, {"n": stats.poisson(9), "b": [1, 2]}])
    drawn = [min(params) for params in RandomSampler(space, 0).sample(3000)]
    observed = [drawn.count(name) for name in "axb"]
    assert stats.chisquare(observed).pvalue > 0.01


def test_rest_of_a_space_comes_in_order_of_likelihood():
    # Nearly all mass is on 0 and 1, so that drawing finds little else.
    space = SearchSpace({"n": stats.binom(40, 0.001)})
    rng = np.random.RandomState(0)
    thirds = [RandomSampler(space, rng).sample(3)[2]["n"] for _ in range(20)]
    assert thirds.count(2) >= 18
    values = [params["n"] for params in RandomSampler(space, 0).sample(100)]
    assert sorted(values) == [space.nth(i)["n"] for i in range(space.size)]


def test_huge_finite_space_is_neither_listed_nor_repeated():
    space = SearchSpace({f"p{i}": range(1000) for i in range(6)})
    sampler = RandomSampler(space, 0)
    tracemalloc.start()
    drawn = sampler.sample(500)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len({space.key(params) for params in drawn}) == 500
    assert peak < 5e6


def test_huge_finite_space_with_next_to_all_mass_on_one_point_ends():
    space = SearchSpace({f"p{i}": stats.binom(30, 1e-9) for i in range(10)})
    drawn = RandomSampler(space, 0).sample(10)
    assert drawn == [{f"p{i}": 0 for i in range(10)}]


def test_overlapping_dicts_are_drawn_once():
    space = SearchSpace([{"a": [1, 2]}, {"a": [2, 3]}])
    drawn = [params["a"] for params in RandomSampler(space, 0).sample(10)]
    assert sorted(drawn) == [1, 2, 3]


# --- grid


@pytest.mark.parametrize("grid", [{"b": [1, 2], "a": [3, 4, 5]}, [{"a": [1]}, {"b": [1, 2]}]])
def test_grid_has_the_order_of_scikit_learn(grid):
    sampler = GridSampler(SearchSpace(grid))
    assert sampler.sample(2) + sampler.sample(100) == list(ParameterGrid(grid))
    assert sampler.sample(1) == []


def test_grid_of_a_huge_space_is_not_listed():
    sampler = GridSampler(SearchSpace({f"p{i}": range(1000) for i in range(6)}))
    assert sampler.sample(2)[1] == {"p0": 0, "p1": 0, "p2": 0, "p3": 0, "p4": 0, "p5": 1}


def test_grid_of_an_infinite_space():
    with pytest.raises(ValueError, match=r"\['lr'\] have infinitely many values"):
        GridSampler(SearchSpace({"lr": stats.uniform(), "a": [1]}))


# --- the base class


def test_sampler_without_sample_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Sampler(SearchSpace({"a": [1]}))


class TestContractOnForgetfulSampler:
    """A sampler that breaks the contract fails its tests."""

    class Repeating(Sampler):
        def sample(self, n):
            return [self.space.from_unit([0.5] * self.space.n_dims)] * n

    class Contract(SamplerContract):
        def make_sampler(self, space, seed):
            return TestContractOnForgetfulSampler.Repeating(space)

    @pytest.mark.parametrize(
        "check",
        [
            "test_finite_space_is_exhausted_without_repetition",
            "test_other_seed_other_configurations",
        ],
    )
    def test_fails(self, check):
        with pytest.raises(AssertionError):
            getattr(self.Contract(), check)()


def test_a_part_of_a_configuration_finds_its_dict():
    space = SearchSpace([{"a": stats.uniform(), "c": ["x"]}, {"b": [1, 2], "c": ["y"]}])
    sampler = EnqueuedSampler(RandomSampler(space, 0), [{"c": "y"}, {"c": "x"}], random_state=0)
    first, second = sampler.sample(2)
    assert first.keys() == {"b", "c"}
    assert second.keys() == {"a", "c"}


def test_what_is_enqueued_twice_is_tried_once():
    sampler = EnqueuedSampler(
        RandomSampler(SearchSpace({"a": stats.uniform()}), 0), [{"a": 0.5}, {"a": 0.25}, {"a": 0.5}]
    )
    assert [params["a"] for params in sampler.sample(2)] == [0.5, 0.25]
    assert len({params["a"] for params in sampler.sample(9)} | {0.5, 0.25}) == 11


def test_what_is_in_no_dict_is_refused():
    space = SearchSpace([{"a": stats.uniform(), "c": ["x"]}, {"b": [1, 2], "c": ["y"]}])
    with pytest.raises(ValueError, match="must lie in the space, but"):
        EnqueuedSampler(RandomSampler(space, 0), [{"c": "z"}])
