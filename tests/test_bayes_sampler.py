import itertools
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skhpo import SearchSpace, log_randint
from skhpo.samplers import BayesSampler, EnqueuedSampler, RandomSampler
from skhpo.samplers._gp.surrogates import Surrogates
from skhpo.samplers.time_limit import TimeLimit
from skhpo.testing import SamplerContract

quick = settings(deadline=None, max_examples=15)

CUBE = SearchSpace({"x": stats.uniform(), "y": stats.uniform(), "z": stats.uniform()})


class TestBayesSampler(SamplerContract):
    def make_sampler(self, space, seed):
        return BayesSampler(space, random_state=seed, n_initial_points=4)


def run(sampler, score, n, **observed):
    """Scores of `n` configurations, one after another."""
    scores = []
    for _ in range(n):
        for params in sampler.sample(1):
            scores.append(score(params))
            sampler.observe(params, scores[-1], None, **observed)
    return scores


def bowl(params):
    return -sum((value - 0.37) ** 2 for value in params.values())


def points(configurations, space):
    return np.array([space.to_unit(params) for params in configurations])


# --- what is proposed


def test_better_than_random_on_a_quadratic():
    ours = [max(run(BayesSampler(CUBE, seed), bowl, 20)) for seed in range(3)]
    random = [max(run(RandomSampler(CUBE, seed), bowl, 200)) for seed in range(3)]
    assert min(ours) > max(random)
    assert min(ours) > -1e-3


def test_choices_integers_and_logarithms():
    space = SearchSpace(
        {
            "kind": ["a", ["b"], None],
            "n": log_randint(1, 1000),
            "lr": stats.loguniform(1e-6, 1),
        }
    )

    def score(params):
        distance = math.log10(params["lr"]) + 3
        return -(distance**2) - math.log(params["n"] / 30) ** 2 - 3 * (params["kind"] != ["b"])

    assert max(run(BayesSampler(space, 0), score, 35)) > -0.05


def test_conditional_space():
    space = SearchSpace(
        [
            {"kernel": ["rbf"], "C": stats.uniform(), "gamma": stats.uniform()},
            {"kernel": ["linear"], "C": stats.uniform()},
        ]
    )

    def score(params):
        return -((params["C"] - 0.6) ** 2) - (params.get("gamma", 1.0) - 0.2) ** 2

    sampler = BayesSampler(space, 1)
    assert max(run(sampler, score, 30)) > -1e-3
    assert set(sampler.relevance()) == {"kernel", "C", "gamma"}


@pytest.mark.parametrize("value", [math.nan, 0.0, -math.inf, 1e300, -1.7e308])
def test_scores_that_say_nothing(value):
    space = SearchSpace({"x": stats.uniform(), "c": ["a", ["b"], None]})
    scores = run(BayesSampler(space, 0, n_initial_points=1), lambda params: value, 5)
    assert len(scores) == 5


@pytest.mark.parametrize("outlier", [math.nan, -math.inf, math.inf, -1e300, 1e300, 1.7e308])
def test_one_mad_score_does_no_harm(outlier):
    sampler = BayesSampler(CUBE, 0)
    sampler.observe({"x": 0.9, "y": 0.1, "z": 0.9}, outlier, None)
    sampler.observe({"x": 0.1, "y": 0.9, "z": 0.9}, -1.7e308, None)
    assert max(run(sampler, bowl, 25)) > -0.02


def test_failed_regions_are_left():
    def score(params):
        return math.nan if params["x"] > 0.5 else bowl(params)

    sampler = BayesSampler(CUBE, 0)
    scores = run(sampler, score, 30)
    assert sum(map(math.isnan, scores[15:])) <= 5
    assert np.nanmax(scores) > -1e-3


axes = st.sampled_from(
    [
        ["a", "b", "c"],
        [[1], [2]],
        [None],
        stats.randint(0, 4),
        stats.binom(5, 0.3),
        stats.uniform(-1, 2),
        stats.loguniform(1e-3, 1e3),
        stats.poisson(2),
        log_randint(1, 10**6),
    ]
)
parts = st.dictionaries(st.sampled_from("abc"), axes, min_size=1, max_size=3)


@given(parts | st.lists(parts, min_size=1, max_size=3), st.integers(0, 99), st.data())
@quick
def test_proposals_are_new_ones_of_the_space(distributions, seed, data):
    space = SearchSpace(distributions)
    sampler = BayesSampler(space, seed, n_initial_points=3)
    asked, running = [], []
    for n in data.draw(st.lists(st.integers(0, 4), max_size=5)):
        new = sampler.sample(n)
        assert len(new) <= n
        asked += new
        running += new
        for params in running[: data.draw(st.integers(0, len(running)))]:
            running.remove(params)
            score = data.draw(st.sampled_from([0.0, 1.0, math.nan, -1e300, 2.0]))
            sampler.observe(params, score, None)
    keys = [space.key(params) for params in asked]
    assert len(keys) == len(set(keys))


def test_finite_space_ends_and_says_so():
    space = SearchSpace({"a": ["x", "y", [1]], "n": stats.randint(0, 5)})
    sampler = BayesSampler(space, 0, n_initial_points=4)
    assert len(run(sampler, lambda params: params["n"], 20)) == space.size == 15
    assert sampler.stop_reason == "all configurations of the space were tried"


def test_best_of_a_finite_space_is_found_early():
    space = SearchSpace({name: stats.randint(0, 8) for name in "abc"})
    scores = run(BayesSampler(space, 0), lambda p: -sum((v - 5) ** 2 for v in p.values()), 30)
    assert max(scores) == 0


def test_distribution_with_all_mass_on_one_value_ends():
    sampler = BayesSampler(SearchSpace({"n": stats.poisson(1e-12)}), 0)
    assert run(sampler, lambda params: 1.0, 4) == [1.0]


def test_high_choice_counts():
    space = SearchSpace({"a": range(3000), "b": range(2000)})
    run(BayesSampler(space, 0), lambda params: params["a"], 12)


def test_in_noise_the_best_are_followed_and_predictions_are_not_fooled():
    """A model that may call all scores noise would look at the ends of the space instead."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        tried = [CUBE.from_unit(rng.random(CUBE.n_dims)) for _ in range(25)]
        scores = rng.standard_normal(25)
        sampler = BayesSampler(CUBE, seed)
        for params, score in zip(tried, scores, strict=True):
            sampler.observe(params, score, None)
        best = tried[int(scores.argmax())]
        asked, there = points([*sampler.sample(1), best], CUBE)
        assert np.abs(asked - there).max() < 0.4
        mean, _ = sampler.predict([best])
        assert mean[0] < 0.75 * scores.max()


# --- several at a time


def test_points_together_are_apart():
    sampler = BayesSampler(CUBE, 0)
    run(sampler, bowl, 10)
    u = points(sampler.sample(6), CUBE)
    gaps = [np.abs(a - b).max() for a, b in itertools.combinations(u, 2)]
    assert min(gaps) > 1e-2


def test_pending_points_are_avoided():
    alone, beside = (BayesSampler(CUBE, 0) for _ in range(2))
    for sampler in (alone, beside):
        run(sampler, bowl, 15)
    first, second = beside.sample(2)
    assert alone.sample(1) == [first]
    alone.observe(first, bowl(first), None)
    assert second != first
    assert np.abs(np.diff(points([first, second], CUBE), axis=0)).max() > 1e-3


def test_candidates_of_a_round_have_hyperparameters_of_their_own(monkeypatch):
    used = []

    def acquisition(self, running=None, draws=True):
        found = original(self, running, draws)
        used.append(tuple(found.posterior.theta))
        return found

    original = Surrogates.acquisition
    monkeypatch.setattr(Surrogates, "acquisition", acquisition)
    for stop_tol, n_different in ((None, 4), (1e-9, 1)):
        sampler = BayesSampler(CUBE, 0, stop_tol=stop_tol)
        run(sampler, bowl, 12)
        del used[:]
        sampler.sample(4)
        # The first has the most probable ones, and so have all where they decide on the end.
        assert len(set(used)) == n_different
        assert used[0] == tuple(sampler._surrogates.objectives[0].theta)


def test_other_choices_are_tried_at_the_numbers_of_the_best():
    space = SearchSpace({"x": stats.uniform(), "kind": ["a", "b", "c"], "on": [True, False]})
    sampler, seen, others = BayesSampler(space, 0), [], []
    for i in range(36):
        [params] = sampler.sample(1)
        if i >= 6 and (i - 5) % 5 == 0:
            best, _ = max(seen, key=lambda pair: pair[1])
            if params["x"] == best["x"]:
                others.append((params["kind"], params["on"]))
                assert sum(params[name] != best[name] for name in ("kind", "on")) == 1
        score = -((params["x"] - 0.4) ** 2) - (params["kind"] != "b") - 0.1 * params["on"]
        seen.append((params, score))
        sampler.observe(params, score, None)
    # Each of the neighbours ("b", False) has is tried near the best, and not again and again.
    assert 2 <= len(others) <= 6
    assert {("a", False), ("c", False), ("b", True)} <= {
        (params["kind"], params["on"]) for params, _ in seen if abs(params["x"] - 0.4) < 0.1
    }


@pytest.mark.parametrize("fails", [False, True])
def test_a_choice_with_which_all_fits_failed_is_not_tried_again_and_again(fails):
    space = SearchSpace({"kind": ["good", "bad"], "x": stats.uniform()})
    sampler = BayesSampler(space, 0)
    found = []
    for i in range(4):  # the best moves, so that its neighbour was not tried
        best, other = [{"kind": kind, "x": 0.1 + 0.2 * i} for kind in ("good", "bad")]
        sampler.observe(best, float(i), None)
        sampler.predict([best])
        found.append(sampler._other_choice(lambda u: u[:, 0]))
        assert found[-1] is None or found[-1]["kind"] == "bad"
        sampler.observe(other, math.nan if fails else -1.0, None)
    assert [params is None for params in found] == [False, False, fails, fails]


def test_of_very_many_choices_some_are_compared():
    sampler = BayesSampler(SearchSpace({"kind": list(range(20_000)), "x": stats.uniform()}), 0)
    run(sampler, lambda params: params["x"], 8)
    compared = []

    def value(u):
        compared.append(len(u))
        return u[:, 0]

    assert sampler._other_choice(value)["kind"] > 19_000
    assert 500 < compared[0] <= 1024


def test_eight_at_a_time_find_the_best_too():
    sampler = BayesSampler(CUBE, 0)
    best = -math.inf
    for _ in range(5):
        batch = sampler.sample(8)
        for params in reversed(batch):
            sampler.observe(params, bowl(params), None)
            best = max(best, bowl(params))
    assert best > -1e-3


def test_observes_what_another_sampler_proposed():
    given_first = [{"x": 0.1, "y": 0.2, "z": 0.3}, {"x": 0.37, "y": 0.37, "z": 0.37}]
    sampler = EnqueuedSampler(BayesSampler(CUBE, 0), given_first)
    assert sampler.sample(2) == given_first
    for params in given_first:
        sampler.observe(params, bowl(params), None)
    rest = sampler.sample(3)
    assert not any(params in given_first for params in rest)


def test_a_replaced_point_runs_no_more():
    first, second = (BayesSampler(CUBE, 0) for _ in range(2))
    for sampler in (first, second):
        run(sampler, bowl, 12)
    [params] = first.sample(1)
    [proposed] = second.sample(1)
    by = {**params, "x": params["x"] + 1e-13}
    second.replace(proposed, by)
    expected, found = points(first.sample(3), CUBE), points(second.sample(3), CUBE)
    assert found == pytest.approx(expected, abs=1e-3)
    second.observe(by, 0.0, None)
    assert proposed not in second.sample(2)


def test_observed_points_count_as_initial_ones():
    # Along x alone the score changes: a model would go there, a Sobol sequence does not.
    sampler = BayesSampler(CUBE, 0, n_initial_points=10)
    for x in np.linspace(0, 0.9, 12):
        params = {"x": float(x), "y": 0.5, "z": 0.5}
        sampler.observe(params, float(x), None)
    assert np.mean([params["x"] for params in sampler.sample(3)]) > 0.85


# --- predictions


def test_predictions_interpolate_in_units_of_the_score():
    sampler = BayesSampler(CUBE, 0)
    scores = run(sampler, lambda params: 1000 + 50 * bowl(params), 30)
    new = [CUBE.from_unit(u) for u in np.random.default_rng(0).uniform(0.2, 0.6, (20, 3))]
    mean, std = sampler.predict(new)
    expected = np.array([1000 + 50 * bowl(params) for params in new])
    assert np.abs(mean - expected).max() < 0.1 * np.std(scores)
    assert (std > 0).all()
    assert std.max() < np.std(scores)
    assert [part.shape for part in sampler.predict([])] == [(0,), (0,)]


def test_relevance_is_large_along_what_matters():
    space = SearchSpace({"x": stats.uniform(), "y": stats.uniform(), "fixed": [3]})
    sampler = BayesSampler(space, 0)
    run(sampler, lambda params: math.sin(9 * params["x"]), 25)
    relevance = sampler.relevance()
    assert relevance["x"] > 3 * relevance["y"]
    assert relevance["fixed"] == 0.0


def test_a_choice_that_shifts_all_scores_is_relevant():
    space = SearchSpace({"x": stats.uniform(), "shifts": ["a", "b"], "nothing": ["a", "b"]})
    sampler = BayesSampler(space, 0)
    run(sampler, lambda params: math.sin(5 * params["x"]) + 2 * (params["shifts"] == "b"), 30)
    relevance = sampler.relevance()
    assert relevance["shifts"] > 3 * relevance["nothing"]


def test_how_deep_a_valley_is_with_another_choice_is_known_from_two_scores():
    space = SearchSpace({"x": stats.uniform(0, 4), "kind": ["a", "b"]})
    sampler = BayesSampler(space, 0)
    for x in np.linspace(0, 4, 21):
        sampler.observe({"x": x, "kind": "a"}, math.sin(3 * x), None)
    for x in (0.2, 3.9):
        sampler.observe({"x": x, "kind": "b"}, math.sin(3 * x) - 5, None)
    new = np.linspace(0.5, 3.5, 9)
    mean, _ = sampler.predict([{"x": x, "kind": "b"} for x in new])
    assert mean == pytest.approx(np.sin(3 * new) - 5, abs=0.7)


def test_nothing_to_predict_from():
    sampler = BayesSampler(CUBE, 0)
    assert set(sampler.relevance()) == {"x", "y", "z"}
    for _ in range(2):
        with pytest.raises(ValueError, match="there must be a finite score"):
            sampler.predict([{"x": 0.5, "y": 0.5, "z": 0.5}])
        sampler.observe({"x": 0.1, "y": 0.5, "z": 0.5}, math.nan, None)


def test_configuration_outside_the_space():
    with pytest.raises(ValueError, match="not in the space"):
        BayesSampler(CUBE, 0).predict([{"x": 2.0, "y": 0.5, "z": 0.5}])


# --- noise, seconds, stopping


def test_noisy_scores_count_less():
    def predicted(noise):
        sampler = BayesSampler(SearchSpace({"x": stats.uniform()}), 0)
        rng = np.random.default_rng(0)
        for x in np.linspace(0.02, 0.98, 20):
            sampler.observe({"x": float(x)}, float(x + 0.05 * rng.standard_normal()), None, noise=1)
        sampler.observe({"x": 0.55}, 1.5, None, noise=noise)
        return sampler.predict([{"x": 0.55}])[0][0]

    assert predicted(100.0) < predicted(1.0)


def test_noise_that_is_unknown_or_zero():
    for noise in (None, 0.0, math.nan):
        assert max(run(BayesSampler(CUBE, 0), bowl, 20, noise=noise)) > -0.01


def test_per_second_prefers_quick_fits():
    space = SearchSpace({"x": stats.uniform(), "slow": stats.uniform()})

    def spent(acquisition):
        sampler = BayesSampler(space, 0, acquisition=acquisition)
        seconds = []
        for _ in range(25):
            [params] = sampler.sample(1)
            seconds.append(math.exp(6 * params["slow"]))
            sampler.observe(params, math.sin(6 * params["x"]), None, seconds=seconds[-1])
        return sum(seconds[10:])

    assert spent("log_ei_per_second") < 0.5 * spent("log_ei")


def test_quick_fits_are_preferred_only_while_time_is_short():
    space = SearchSpace({"x": stats.uniform(), "slow": stats.uniform()})

    def proposed(steepness, **limit):
        sampler = BayesSampler(space, 0, **limit)
        slow = []
        for _ in range(25):
            [params] = sampler.sample(1)
            slow.append(params["slow"])
            seconds = math.exp(steepness * params["slow"])
            sampler.observe(params, math.sin(6 * params["x"]), None, seconds=seconds)
        return slow

    # 25 fits would take some 25 * 67 s.
    plain = proposed(6)
    assert proposed(6, time_limit=TimeLimit(25, worked=1e9, elapsed=1e9)) == plain
    assert proposed(1, time_limit=TimeLimit(25, worked=1.0)) == plain  # times are much alike
    per_second = proposed(6, acquisition="log_ei_per_second")
    assert sum(per_second) < 0.7 * sum(plain)
    for limit in (TimeLimit(25, worked=1.0), TimeLimit(25, elapsed=1e-9)):
        assert proposed(6, time_limit=limit)[10:] != plain[10:]
        assert sum(proposed(6, time_limit=limit)) < 0.7 * sum(plain)


def test_time_is_short_if_more_of_it_is_used_than_of_the_candidates():
    limit = TimeLimit(50, worked=100.0)
    assert [limit.is_short(10, seconds) for seconds in (0.0, 20.0, 20.1)] == [False, False, True]


def test_replayed_candidates_take_no_time(monkeypatch):
    now = 0.0
    monkeypatch.setattr("skhpo.samplers.time_limit.time.monotonic", lambda: now)
    limit = TimeLimit(50, elapsed=100.0)
    limit.begin(30)
    now = 10.0
    assert not limit.is_short(25, 1e9)
    assert not limit.is_short(30, 1e9)
    now = 10.0 + 90.0 * 5 / 20  # five of twenty new ones, in the 90 seconds that are left
    assert not limit.is_short(35, 1e9)
    now += 0.1
    assert limit.is_short(35, 1e9)
    assert not limit.is_short(36, 1e9)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_scores_of_an_earlier_search_are_no_share_of_the_candidates(elsewhere):
    shares = []

    class Limit(TimeLimit):
        def is_short(self, n_observed, seconds):
            shares.append((n_observed, seconds))
            return super().is_short(n_observed, seconds)

    sampler = BayesSampler(CUBE, 0, time_limit=Limit(10, worked=100.0))
    for params in BayesSampler(CUBE, 1).sample(12):
        if elsewhere:
            sampler.observe_elsewhere(params, bowl(params), seconds=50.0)
        else:
            sampler.observe(params, bowl(params), None, seconds=50.0)
    sampler.begin()
    run(sampler, bowl, 4, seconds=7.0)
    assert shares[-1] == (3, 21.0)


def test_per_second_without_seconds_is_plain():
    first, second = (
        run(BayesSampler(CUBE, 0, acquisition=acquisition), bowl, 10)
        for acquisition in ("log_ei", "log_ei_per_second")
    )
    assert first == second


def test_stopping_rule():
    sampler = BayesSampler(CUBE, 0, stop_tol=1.0)
    scores = run(sampler, bowl, 60, noise=1e-4)
    assert 6 <= len(scores) < 60
    assert max(scores) > -0.03
    assert "is below stop_tol=1 times the noise of the best score, 0.01" in sampler.stop_reason
    assert sampler.sample(1) == []


def test_without_stopping_rule_it_goes_on():
    sampler = BayesSampler(CUBE, 0)
    assert len(run(sampler, bowl, 30, noise=10.0)) == 30
    assert sampler.stop_reason is None


# --- arguments and reproducibility


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_initial_points": 0}, r"an int in the range \[1, inf\) or a str among {'auto'}. Got 0"),
        ({"n_initial_points": 2.5}, "Got 2.5"),
        ({"n_initial_points": "all"}, "Got 'all'"),
        ({"acquisition": "ei"}, "'acquisition' parameter.*'log_ei_per_second'.*Got 'ei'"),
        ({"stop_tol": -1.0}, r"'stop_tol' parameter.* a float in the range \[0.* or None.*Got -1"),
        ({"stop_tol": math.nan}, "Got nan"),
        ({"stop_tol": "1"}, "Got '1'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        BayesSampler(CUBE, 0, **arguments)


def test_initial_points_are_spread():
    u = points(BayesSampler(CUBE, 0, n_initial_points=8).sample(8), CUBE)
    for column in u.T:
        assert sorted(np.floor(column * 8)) == list(range(8))


def test_accepts_a_random_state():
    first = BayesSampler(CUBE, np.random.RandomState(3)).sample(3)
    assert first == BayesSampler(CUBE, np.random.RandomState(3)).sample(3)
    assert len(BayesSampler(CUBE).sample(2)) == 2


PROGRAM = """
import json, math
from scipy import stats
from skhpo import SearchSpace
from skhpo.samplers import BayesSampler
space = SearchSpace({f"x{i}": stats.uniform() for i in range(8)})
sampler = BayesSampler(space, 0)
for i in range(70):
    params = space.from_unit([(0.37 * (i + 1) * (j + 1)) % 1 for j in range(8)])
    sampler.observe(params, math.sin(sum(params.values()) * 3), None)
print(json.dumps(sampler.sample(2)))
"""


def test_number_of_threads_does_not_matter(monkeypatch):
    found = []
    for n_threads in ("1", "4"):
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.setenv(variable, n_threads)
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True
        )
        found.append(json.loads(process.stdout))
    assert found[0] == found[1]
