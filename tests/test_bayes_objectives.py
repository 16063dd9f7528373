"""The Gaussian-process sampler with several objectives and constraints."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skhpo import SearchSpace
from skhpo.objectives import hypervolume
from skhpo.samplers import BayesSampler, RandomSampler
from skhpo.samplers._gp.settings import Settings

quick = settings(deadline=None, max_examples=15)

SQUARE = SearchSpace({"x": stats.uniform(), "y": stats.uniform()})
CUBE = SearchSpace({"x": stats.uniform(), "y": stats.uniform(), "z": stats.uniform()})


def run(sampler, function, n, **observed):
    """Values of `n` configurations, one after another, and the configurations."""
    asked, values = [], []
    for _ in range(n):
        for params in sampler.sample(1):
            asked.append(params)
            values.append(function(params))
            sampler.observe(params, values[-1][0], None, values=values[-1], **observed)
    return asked, np.array(values)


def near(*corners):
    """Objectives: minus the squared distances to corners."""
    return lambda params: [
        -sum((value - c) ** 2 for value, c in zip(params.values(), corner, strict=True))
        for corner in corners
    ]


TWO = near((0.2, 0.2, 0.5), (0.8, 0.2, 0.5))
THREE = near((0.2, 0.2, 0.5), (0.8, 0.2, 0.5), (0.5, 0.8, 0.5))
FOUR = near((0.2, 0.2, 0.5), (0.8, 0.2, 0.5), (0.5, 0.8, 0.5), (0.5, 0.5, 0.9))


@pytest.mark.parametrize(
    ("function", "n_random"), [(TWO, 66), (THREE, 66), (FOUR, 33)], ids=["two", "three", "four"]
)
def test_hypervolume_is_larger_than_of_more_random_points(function, n_random):
    reference = np.full(len(function({"x": 0.0, "y": 0.0, "z": 0.0})), -0.5)
    _, ours = run(BayesSampler(CUBE, 0, n_initial_points=6), function, 22)
    random = [run(RandomSampler(CUBE, seed), function, n_random)[1] for seed in range(3)]
    best = max(hypervolume(values, reference) for values in random)
    assert hypervolume(ours, reference) > best


def test_the_front_is_covered():
    """Between the two corners, all along the line."""
    asked, values = run(BayesSampler(CUBE, 0, n_initial_points=6), TWO, 30)
    on_line = [p["x"] for p in asked if abs(p["y"] - 0.2) < 0.1 and abs(p["z"] - 0.5) < 0.1]
    assert np.diff(np.sort([0.2, *on_line, 0.8])).max() < 0.2
    assert values.max(axis=0).min() > -0.02


def test_units_and_shifts_of_objectives_do_not_matter():
    plain, _ = run(BayesSampler(CUBE, 0, n_initial_points=6), TWO, 14)
    scaled, _ = run(
        BayesSampler(CUBE, 0, n_initial_points=6),
        lambda p: [TWO(p)[0] * 1024.0, TWO(p)[1] - 2.0],
        14,
    )
    for one, other in zip(plain, scaled, strict=True):
        assert list(one.values()) == pytest.approx(list(other.values()), abs=0.05)


@pytest.mark.parametrize(
    "distributions",
    [
        {"a": [1, 2, 3], "b": ["x", [None]], "c": stats.randint(0, 3)},
        [{"a": ["p", "q"], "x": stats.loguniform(1e-3, 1)}, {"n": stats.poisson(3)}],
    ],
    ids=["finite", "conditional"],
)
def test_other_spaces(distributions):
    """New configurations until there is none, also after a pickle."""
    space = SearchSpace(distributions)
    sampler, keys = BayesSampler(space, 0, n_initial_points=3), []
    for i in range(20):
        for params in sampler.sample(1):
            keys.append(space.key(params))
            score = space.to_unit(params).sum()
            values, violations = [score, -score], [score - 1.0]
            sampler.observe(params, score, None, values=values, violations=violations)
        if i == 12:
            copy = pickle.loads(pickle.dumps(sampler))
            assert copy.sample(2) == pickle.loads(pickle.dumps(sampler)).sample(2)
    assert len(keys) == len(set(keys)) == min(space.size or 20, 20)


@pytest.mark.parametrize(("function", "n"), [(TWO, 12), (FOUR, 18)], ids=["two", "four"])
def test_more_initial_points_for_more_objectives(function, n):
    spread = BayesSampler(CUBE, 0, n_initial_points=30).sample(n + 1)
    asked, _ = run(BayesSampler(CUBE, 0), function, n + 1)
    assert asked[:n] == spread[:n]
    assert asked[n] != spread[n]


# --- constraints


def constrained(sampler, n):
    """Maximise x + y inside a circle; return configurations, and which are feasible."""
    asked = []
    for _ in range(n):
        for params in sampler.sample(1):
            asked.append([params["x"], params["y"]])
            broken = asked[-1][0] ** 2 + asked[-1][1] ** 2 - 0.25
            sampler.observe(params, sum(asked[-1]), None, violations=[broken, -1.0])
    asked = np.array(asked)
    return asked, (asked**2).sum(axis=1) <= 0.25


def test_best_feasible_configuration_is_found():
    asked, feasible = constrained(BayesSampler(SQUARE, 0), 25)
    assert asked[feasible].sum(axis=1).max() == pytest.approx(math.sqrt(0.5), abs=0.01)
    assert feasible[6:].mean() > 0.7


def test_a_constraint_cuts_the_front():
    sampler = BayesSampler(CUBE, 0, n_initial_points=6)
    for _ in range(16):
        for params in sampler.sample(1):
            violations = [params["x"] - 0.5]
            sampler.observe(params, 0.0, None, values=TWO(params), violations=violations)
    last = np.array([params["x"] for params in sampler.sample(3)])
    assert (last < 0.55).all()


def branin_currin(params):
    """Branin's and Currin's functions, which are to be small, and a disk; see benchmarks."""
    x, y = params["x"], params["y"]
    a, b = 15.0 * x - 5.0, 15.0 * y
    branin = (b - 5.1 / (4.0 * math.pi**2) * a**2 + 5.0 / math.pi * a - 6.0) ** 2
    branin += 10.0 * (1.0 - 1.0 / (8.0 * math.pi)) * math.cos(a) + 10.0
    currin = 1.0 - math.exp(-0.5 / max(y, 1e-9))
    currin *= 2300.0 * x**3 + 1900.0 * x**2 + 2092.0 * x + 60.0
    currin /= 100.0 * x**3 + 500.0 * x**2 + 4.0 * x + 20.0
    return [-branin, -currin], [(a - 2.5) ** 2 + (b - 7.5) ** 2 - 50.0]


def srinivas(params):
    """Srinivas and Deb's functions, which are to be small, on a square; 15% of it is feasible."""
    x, y = 40.0 * params["x"] - 20.0, 40.0 * params["y"] - 20.0
    values = [-2.0 - (x - 2.0) ** 2 - (y - 1.0) ** 2, (y - 1.0) ** 2 - 9.0 * x]
    return values, [(x**2 + y**2) / 225.0 - 1.0, (x - 3.0 * y + 10.0) / 10.0]


def test_a_front_of_which_few_feasible_points_show_a_part_is_found():
    sampler, values, violations = BayesSampler(SQUARE, 101), [], []
    for _ in range(30):
        for params in sampler.sample(1):
            both, broken = srinivas(params)
            sampler.observe(params, 0.0, None, values=both, violations=broken)
            values.append(both)
            violations.append(max(broken))
    feasible = np.array(violations) <= 0.0
    assert hypervolume(np.array(values)[feasible], [-250.0, -50.0]) > 0.9 * 42_600.0  # of all


def test_few_candidates_break_a_constraint_on_whose_limit_the_front_lies():
    """At most a third of the share of random ones, of which three in ten do."""
    sampler, values, violations = BayesSampler(SQUARE, 0), [], []
    for _ in range(36):
        for params in sampler.sample(1):
            both, broken = branin_currin(params)
            sampler.observe(params, 0.0, None, values=both, violations=broken)
            values.append(both)
            violations += broken
    feasible = np.array(violations) <= 0.0
    assert feasible[12:].mean() > 0.9
    assert hypervolume(np.array(values)[feasible], [-80.0, -12.0]) > 0.97 * 608.4  # of all


def test_feasible_region_is_found_from_violations_alone():
    """Nothing is fitted before a constraint holds."""
    sampler, found = BayesSampler(CUBE, 0, n_initial_points=6), []
    for _ in range(18):
        [params] = sampler.sample(1)
        found.append(sum((value - 0.8) ** 2 for value in params.values()) - 0.01)
        missing = [math.nan, math.nan]
        sampler.observe(params, math.nan, None, values=missing, violations=[found[-1]])
    assert min(found) <= 0


def test_what_was_not_fitted_is_no_failure():
    """Left out where x > 0.5, in which region nothing is learned of the objective."""
    left_out, failed = (BayesSampler(SQUARE, 0) for _ in range(2))
    for x in np.linspace(0.05, 0.95, 10):
        params = {"x": float(x), "y": float((7 * x) % 1)}
        score = float(x) if x < 0.5 else math.nan
        left_out.observe(params, score, None, violations=[x - 0.5])
        failed.observe(params, score, None, violations=[-1.0])
    there = [{"x": 0.9, "y": 0.3}]
    assert left_out.predict(there)[0][0] > failed.predict(there)[0][0] + 0.1


# --- failures, noise, seconds, resources, pending points


@pytest.mark.parametrize("lost", [[0, 1], [1]], ids=["all", "one"])
def test_failed_regions_are_left(lost):
    def function(params):
        values = TWO(params)
        for place in lost if params["z"] > 0.6 else ():
            values[place] = math.nan
        return values

    asked, values = run(BayesSampler(CUBE, 0, n_initial_points=6), function, 26)
    assert np.isnan(values[14:]).any(axis=1).sum() <= 4
    assert sum(params["z"] > 0.6 for params in asked) >= 1


def test_noisy_values_count_less():
    def predicted(noise):
        sampler = BayesSampler(SearchSpace({"x": stats.uniform()}), 0)
        rng = np.random.default_rng(0)
        for x in np.linspace(0.02, 0.98, 20):
            values = [float(x + 0.05 * rng.standard_normal()), -float(x)]
            sampler.observe({"x": float(x)}, 0.0, None, values=values, value_noise=[1.0, math.nan])
        values = [1.5, -0.55]
        sampler.observe({"x": 0.55}, 0.0, None, values=values, value_noise=[noise, math.nan])
        return sampler.predict([{"x": 0.55}])[0][0]

    assert predicted(100.0)[0] < predicted(1.0)[0]


def test_per_second_prefers_quick_fits():
    def spent(acquisition):
        sampler, seconds = BayesSampler(CUBE, 0, acquisition=acquisition, n_initial_points=6), []
        for _ in range(18):
            [params] = sampler.sample(1)
            seconds.append(math.exp(6 * params["z"]))
            values = near((0.2, 0.2), (0.8, 0.2))({"x": params["x"], "y": params["y"]})
            sampler.observe(params, 0.0, None, values=values, seconds=seconds[-1])
        return sum(seconds[9:])

    assert spent("log_ei_per_second") < 0.5 * spent("log_ei")


def test_several_resources_have_one_model():
    """At a lower level all values are worse, and the trade-off is the same."""
    sampler = BayesSampler(CUBE, 0, n_initial_points=6)
    rng = np.random.default_rng(0)
    for i in range(24):
        params = CUBE.from_unit(rng.random(3))
        for resource in (1, 9) if i % 3 == 0 else (1,):
            values = np.array(TWO(params)) - 1.0 / resource
            violations = [params["x"] - 0.6]
            sampler.observe(params, 0.0, resource, values=values, violations=violations)
    new = [{"x": 0.3, "y": 0.2, "z": 0.5}, {"x": 0.6, "y": 0.4, "z": 0.5}]
    mean, _ = sampler.predict(new)
    expected = np.array([TWO(params) for params in new]) - 1 / 9
    assert np.abs(mean - expected).max() < 0.15
    asked = sampler.sample(3)
    assert all(params["x"] < 0.7 and params["y"] < 0.6 for params in asked)


@pytest.mark.parametrize("function", [TWO, FOUR], ids=["two", "four"])
def test_points_together_are_apart(function):
    sampler = BayesSampler(CUBE, 0, n_initial_points=6)
    run(sampler, function, 10)
    u = np.array([list(params.values()) for params in sampler.sample(5)])
    gaps = np.abs(u[:, None] - u).max(axis=2)[np.triu_indices(5, 1)]
    assert gaps.min() > 1e-2


def test_predictions_have_a_column_for_each_objective():
    sampler = BayesSampler(CUBE, 0, n_initial_points=6)
    run(sampler, lambda params: [1000 + 50 * params["x"], -params["y"]], 14)
    new = [{"x": 0.5, "y": 0.5, "z": 0.1}, {"x": 0.1, "y": 0.9, "z": 0.5}]
    mean, std = sampler.predict(new)
    assert mean == pytest.approx(np.array([[1025.0, -0.5], [1005.0, -0.9]]), rel=0.05)
    assert std.shape == (2, 2)
    assert [part.shape for part in sampler.predict([])] == [(0, 2), (0, 2)]
    relevance = sampler.relevance()
    assert min(relevance["x"], relevance["y"]) > relevance["z"]


def test_of_many_observations_a_part_is_modelled(monkeypatch):
    small = Settings(most_modelled=40, n_modelled=30)
    for module in ("subset", "surrogates"):
        monkeypatch.setattr(f"skhpo.samplers._gp.{module}.SETTINGS", small)
    sampler = BayesSampler(CUBE, 0, n_initial_points=6)
    rng = np.random.default_rng(0)
    for u in rng.random((80, 3)):
        params = CUBE.from_unit(u)
        sampler.observe(params, 0.0, None, values=TWO(params), violations=[params["x"] - 0.5])
    for params in sampler.sample(3):
        assert params["x"] < 0.6
        assert abs(params["y"] - 0.2) < 0.3
        assert abs(params["z"] - 0.5) < 0.3


value = st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf, -1e300, 1.7e308, 2.0])


@given(st.sampled_from([2, 3, 4]), st.integers(0, 2), st.integers(0, 99), st.data())
@quick
def test_any_values_are_survived(n_objectives, n_constraints, seed, data):
    sampler, asked = BayesSampler(CUBE, seed, n_initial_points=2), []
    for _ in range(data.draw(st.integers(0, 5))):
        new = sampler.sample(data.draw(st.integers(1, 2)))
        asked += new
        for params in new[: data.draw(st.integers(0, 2))]:
            values = [data.draw(value) for _ in range(n_objectives)]
            broken = [data.draw(value) for _ in range(n_constraints)]
            given = {"values": np.array(values)} | ({"violations": broken} if broken else {})
            sampler.observe(params, values[0], None, **given)
    keys = [CUBE.key(params) for params in asked]
    assert len(keys) == len(set(keys))


# --- bad input


def test_numbers_of_values_that_differ():
    sampler = BayesSampler(SQUARE, 0)
    params = {"x": 0.1, "y": 0.1}
    sampler.observe(params, math.nan, None)  # a failure has no values
    sampler.observe(params, 1.0, None, values=[1.0, 2.0], violations=[0.0])
    sampler.observe(params, math.nan, None)
    for values in ([1.0], [1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match=rf"{len(values)} values after 2"):
            sampler.observe(params, 1.0, None, values=values)
    with pytest.raises(ValueError, match="2 violations after 1"):
        sampler.observe(params, 1.0, None, values=[1.0, 2.0], violations=[0.0, 0.0])


def test_stopping_rule_is_for_one_objective():
    sampler = BayesSampler(SQUARE, 0, stop_tol=0.1)
    with pytest.raises(ValueError, match=r"must be None with several objectives, but it is 0\.1"):
        sampler.observe({"x": 0.1, "y": 0.1}, 1.0, None, values=[1.0, 2.0])
