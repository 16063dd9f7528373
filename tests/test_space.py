import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid, ParameterSampler
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skhpo import SearchSpace, log_randint, ordered
from skhpo.space import Dimension

quick = settings(deadline=None, max_examples=60)

DISCRETE = [
    stats.randint(-3, 8),
    stats.randint(0, 10**9),
    stats.randint(5, 6),
    stats.bernoulli(0.2),
    stats.binom(12, 0.1),
    stats.betabinom(30, 2, 3),
    stats.zipfian(1.1, 40),
    stats.rv_discrete(values=([0, 2, 7], [0.2, 0.3, 0.5]))(),
    stats.poisson(4),
    stats.geom(0.3),
    *([stats.Binomial(n=6, p=0.3)] if hasattr(stats, "Binomial") else []),  # from SciPy 1.16 on
    log_randint(1, 100),
    log_randint(3, 10**7),
]
CONTINUOUS = [
    stats.uniform(-1, 3),
    stats.loguniform(1e-5, 1),
    stats.norm(2, 5),
    stats.expon(),
    stats.beta(2, 3),
    stats.cauchy(),
    stats.truncnorm(-1, 2),
    stats.Normal(mu=1.0, sigma=2.0),
]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from([np.float64(0.1), np.int64(3), np.str_("a"), np.bool_(True), len, int]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=4,
)
names = st.sampled_from(["a", "b", "net__lr", "net__module__n_units", "z"])
dicts = st.dictionaries(
    names,
    st.lists(values, min_size=1, max_size=5) | st.sampled_from(DISCRETE + CONTINUOUS),
    min_size=1,
    max_size=4,
)
spaces = st.builds(SearchSpace, dicts | st.lists(dicts, min_size=1, max_size=3))


def same(a, b):
    """Equal, to rounding for floats."""
    if isinstance(a, float):
        return type(b) is float and (a is b or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9))
    return a is b or a == b


# --- spaces and the unit cube


@given(spaces, st.data())
@quick
def test_round_trip(space, data):
    u = data.draw(st.lists(st.floats(0.001, 0.999), min_size=space.n_dims, max_size=space.n_dims))
    params = space.from_unit(u)
    point = space.to_unit(params)
    assert point.shape == (space.n_dims,)
    assert ((point >= 0) & (point <= 1)).all()
    again = space.from_unit(point)
    assert list(again) == list(params) == sorted(params)
    # A number that an earlier dict has as well, as 2 and not as 2.0, lies in that one.
    elsewhere = not np.allclose(space.snap([u])[0], point)
    assert elsewhere or all(same(params[name], again[name]) for name in params)


def test_a_number_of_two_dicts_is_that_of_the_first():
    space = SearchSpace([{"a": stats.randint(-3, 8)}, {"a": stats.norm(2, 5)}])
    params = space.from_unit([0.75, 0.5, 0.5])
    assert params == {"a": 2.0}
    assert space.from_unit(space.to_unit(params)) == params
    assert space.key(params) == space.key({"a": 2})


@given(spaces, st.integers(0, 2**32 - 1))
@quick
def test_snapped_points_are_the_same_configurations(space, seed):
    points = np.random.default_rng(seed).random((5, space.n_dims))
    snapped = space.snap(points)
    assert space.snap(snapped) == pytest.approx(snapped, abs=1e-9)
    for before, after in zip(points, snapped, strict=True):
        first, second = space.from_unit(before), space.from_unit(after)
        assert list(first) == list(second)
        assert all(same(first[name], second[name]) for name in first)


@pytest.mark.parametrize("distribution", DISCRETE + CONTINUOUS)
def test_snapping_many_points_is_as_one_by_one(distribution):
    space = SearchSpace([{"x": distribution, "c": ["a", "b", [1]]}, {"c": ["d"]}])
    points = np.random.default_rng(0).random((40, space.n_dims))
    points[:2] = [[0.0] * space.n_dims, [1.0] * space.n_dims]
    expected = [space.to_unit(space.from_unit(u)) for u in points]
    assert space.snap(points) == pytest.approx(np.array(expected), abs=1e-9)


@given(spaces)
@quick
def test_corners_of_the_cube_are_configurations(space):
    for corner in (0.0, 1.0, -1e-12, 1 + 1e-12):
        space.to_unit(space.from_unit(np.full(space.n_dims, corner)))


@pytest.mark.parametrize("distribution", DISCRETE + CONTINUOUS)
def test_ends_of_a_distribution(distribution):
    space = SearchSpace({"x": distribution})
    low, high = distribution.support()
    ends = [space.from_unit([u])["x"] for u in (0, 1)]
    assert all(map(math.isfinite, ends))
    assert ends[0] == low or not math.isfinite(low)
    assert ends[1] == high or not math.isfinite(high)
    assert [space.from_unit([u])["x"] for u in (-0.1, 1.1)] == ends


@given(spaces)
@quick
def test_describes_its_dimensions(space):
    assert len(space.dimensions) == space.n_dims
    assert space.names == sorted({d.name for d in space.dimensions if d.name is not None})
    levels = [d.n_levels for d in space.dimensions]
    if space.dimensions[0].name is not None:
        assert space.size == (None if None in levels else math.prod(levels))
    assert all((d.kind == "continuous") <= (d.n_levels is None) for d in space.dimensions)


@given(spaces)
@quick
def test_numbering_visits_every_configuration_once(space):
    if space.size is None or space.size > 300:
        return
    for index in range(space.size):
        params = space.nth(index)
        assert space.key(space.from_unit(space.to_unit(params))) == space.key(params)
    total = {space.key(p): space.probability(p) for p in map(space.nth, range(space.size))}
    assert sum(total.values()) == pytest.approx(1)


@pytest.mark.parametrize("distribution", DISCRETE)
def test_integers_follow_their_distribution(distribution):
    space = SearchSpace({"n": distribution})
    ppf = getattr(distribution, "ppf", None) or distribution.icdf
    for u in np.random.default_rng(0).uniform(size=200):
        n = space.from_unit([u])["n"]
        assert type(n) is int
        assert n == ppf(u)
        assert space.probability({"n": n}) == pytest.approx(float(distribution.pmf(n)), rel=1e-6)
        low, high = distribution.cdf(np.array([n - 1.0, n]))
        assert space.to_unit({"n": n})[0] == pytest.approx((low + high) / 2)


@pytest.mark.parametrize("distribution", CONTINUOUS)
def test_numbers_follow_their_distribution(distribution):
    space = SearchSpace({"x": distribution})
    ppf = getattr(distribution, "ppf", None) or distribution.icdf
    for u in np.random.default_rng(0).uniform(size=20):
        x = space.from_unit([u])["x"]
        assert type(x) is float
        assert x == pytest.approx(float(ppf(u)))
        assert space.to_unit({"x": x})[0] == pytest.approx(u)
        assert space.probability({"x": x}) == 0


def test_unbounded_distributions_stay_finite_and_ordered():
    space = SearchSpace({"x": stats.norm()})
    low, high = space.from_unit([0])["x"], space.from_unit([1])["x"]
    assert low < -8 < 8 < high
    assert math.isfinite(high - low)


def test_every_value_of_a_table_comes_back():
    space = SearchSpace({"n": stats.binom(1000, 0.3)})
    reachable = [space.nth(i)["n"] for i in range(space.size)]
    assert set(range(100, 400)) <= set(reachable)
    for n in reachable:
        assert space.from_unit(space.to_unit({"n": n})) == {"n": n}


def test_gaps_of_a_distribution_are_not_in_the_space():
    space = SearchSpace({"n": stats.rv_discrete(values=([0, 2, 7], [0.2, 0.3, 0.5]))()})
    assert [space.nth(i)["n"] for i in range(space.size)] == [0, 2, 7]
    with pytest.raises(ValueError, match="n=1 is not in the space"):
        space.to_unit({"n": 1})


# --- values


def test_two_numbers_are_two_choices():
    space = SearchSpace({"lr": [0.1, 1.0], "n": (2, 9)})
    assert space.size == 4
    assert {space.from_unit([u, u])["lr"] for u in np.linspace(0, 1, 50)} == {0.1, 1.0}


@pytest.mark.parametrize(
    "values", [range(10**9), range(-(10**9), 1), range(10**9, 0, -1), range(2**16 + 1)]
)
def test_a_long_range_is_integers_that_are_not_listed(values):
    space = SearchSpace({"n": values})
    low, high = min(values[0], values[-1]), max(values[0], values[-1])
    (dimension,) = space.dimensions
    assert (dimension.kind, space.size) == ("integer", high - low + 1)
    assert space.bounds("n") == (low, high)
    randint = SearchSpace({"n": stats.randint(low, high + 1)})
    for u in np.linspace(0, 1, 7):
        params = space.from_unit([u])
        assert params == randint.from_unit([u])
        assert type(params["n"]) is int
        assert params["n"] in values
        assert space.key(params) == space.key(space.from_unit(space.to_unit(params)))


def test_a_short_range_is_choices():
    space, listed = SearchSpace({"n": range(999)}), SearchSpace({"n": [*range(999)]})
    assert space.dimensions == listed.dimensions
    assert space.dimensions[0].kind == "choice"
    assert space.from_unit([0.3]) == listed.from_unit([0.3])


@pytest.mark.parametrize(
    ("make", "fix"),
    [
        (lambda: SearchSpace({"n": range(0, 10**9, 5)}), r"larger step, or .*randint\(0, 99.*96\)"),
        (lambda: SearchSpace({"n": range(10**30)}), "64 bits.*exponent"),
        (lambda: SearchSpace({"n": stats.randint(0, 10**30)}), "bounds that fit into 64 bits"),
        (lambda: SearchSpace({"n": stats.loguniform(0.1, math.inf)}), "median .* 'n' is inf"),
        (lambda: ordered(range(10**9)), r"use scipy.stats.randint\(0, 1000000000\)"),
    ],
    ids=["steps", "large", "large distribution", "endless", "ordered"],
)
def test_numbers_that_cannot_be_listed_are_an_error_that_names_the_fix(make, fix):
    with pytest.raises(ValueError, match=fix):
        make()


def test_choices_are_handed_back_as_they_are():
    class Module:
        pass

    array = np.arange(3)
    choices = [None, (1, 2), [1, 2], {"a": 1}, len, Module, StandardScaler(), array, "None", {1}]
    space = SearchSpace({"value": choices})
    for i, choice in enumerate(choices):
        u = (i + 0.5) / len(choices)
        assert space.from_unit([u])["value"] is choice
        assert space.to_unit({"value": choice})[0] == pytest.approx(u)
        assert isinstance(hash(space.key({"value": choice})), int)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0.1, 0.2]), float),
        (np.arange(3), int),
        (np.array(["a", "b"]), str),
        (np.array([True, False]), bool),
        ([np.float32(0.5)], float),
        (np.logspace(-3, 0, 4), float),
        (range(4), int),
        (stats.randint(0, 5), int),
        (stats.uniform(), float),
        (log_randint(1, 9), int),
    ],
)
def test_scalars_come_back_as_plain_python(values, expected):
    space = SearchSpace({"a": values})
    assert type(space.from_unit([0.4])["a"]) is expected


def test_types_tell_choices_apart():
    # To max_features of a forest, 1 is a count and 1.0 a fraction.
    space = SearchSpace({"max_features": [1, 1.0, True, "1"]})
    assert space.size == 4
    assert space.to_unit({"max_features": 1.0})[0] == 0.375
    assert space.to_unit({"max_features": True})[0] == 0.625


def test_numbers_of_the_other_type_are_found():
    # A column of integers with a gap is a column of floats.
    space = SearchSpace({"a": [8, 16], "b": [0.0, 1.0], "n": stats.randint(0, 9)})
    params = {"a": 16.0, "b": 1, "n": np.float64(3.0)}
    assert space.key(params) == space.key({"a": 16, "b": 1.0, "n": 3})
    with pytest.raises(ValueError, match=r"a=8\.5"):
        space.key({**params, "a": 8.5})
    with pytest.raises(ValueError, match="b=True"):
        space.key({**params, "b": True})


def test_values_are_found_by_equality():
    space = SearchSpace(
        {
            "scaler": [StandardScaler(), MinMaxScaler(), MinMaxScaler((0, 2))],
            "x": [math.nan, 1.0],
            "array": [np.arange(3), np.arange(4), np.array([1.0, np.nan])],
            "sizes": [[8], (8,), [8, math.nan]],
            "weight": [None, torch.ones(2), torch.tensor([1.0, 2.0])],
        }
    )
    params = space.from_unit([0.9, 0.9, 0.9, 0.9, 0.1])
    other = {
        "scaler": clone(params["scaler"]),
        "x": float("nan"),
        "array": params["array"].copy(),
        "sizes": [8, float("nan")],
        "weight": params["weight"].clone(),
    }
    assert space.key(other) == space.key(params)
    assert space.to_unit(other).tolist() == space.to_unit(params).tolist()


def test_estimators_with_equal_parameters_are_different_choices():
    # One may be fitted.
    space = SearchSpace({"scaler": [StandardScaler(), StandardScaler().fit([[1.0]])]})
    assert space.size == 2
    first, second = space.nth(0), space.nth(1)
    assert space.key(first) != space.key(second)


def test_repeated_choices_are_one_of_twice_the_weight():
    space = SearchSpace({"a": ["x", "y", "x", math.nan, float("nan")]})
    assert space.size == 3
    assert space.probability({"a": "x"}) == pytest.approx(0.4)
    assert space.probability({"a": math.nan}) == pytest.approx(0.4)
    assert space.from_unit([0.39])["a"] == "x"
    assert space.from_unit([0.41])["a"] == "y"


# --- conditional spaces


def test_each_dict_is_equally_likely():
    space = SearchSpace([{"kernel": ["linear"]}, {"kernel": ["rbf"], "gamma": [1, 2, 3]}])
    us = np.random.default_rng(0).uniform(size=(2000, space.n_dims))
    share = np.mean([space.from_unit(u)["kernel"] == "rbf" for u in us])
    assert share == pytest.approx(0.5, abs=0.05)
    assert space.size == 4


def test_same_parameter_of_several_dicts_has_one_coordinate():
    lr = stats.loguniform(1e-4, 1)
    space = SearchSpace(
        [
            {"optimizer": ["sgd"], "lr": lr, "n": log_randint(1, 9), "momentum": [0, 0.9]},
            {"optimizer": ["adam"], "lr": lr, "n": log_randint(1, 9)},
            {"optimizer": ["adam"], "lr": stats.loguniform(1e-4, 1)},
        ]
    )
    assert space.dimensions == (
        Dimension(None, "choice", 3, (0, 1, 2)),
        Dimension("lr", "continuous", None, (0, 1)),
        Dimension("momentum", "choice", 2, (0,)),
        Dimension("n", "integer", 8, (0, 1)),
        Dimension("optimizer", "choice", 1, (0,)),
        Dimension("optimizer", "choice", 1, (1, 2)),
        Dimension("lr", "continuous", None, (2,)),
    )
    u = space.to_unit({"optimizer": "adam", "lr": 0.01, "n": 3})
    assert u[0] == 0.5
    assert u[1] == pytest.approx(0.5)
    assert u[2] == 0.5  # no meaning here


def test_configuration_in_several_dicts_has_one_key():
    space = SearchSpace([{"a": [1, 2]}, {"a": [2, 3]}])
    assert space.key(space.nth(1)) == space.key(space.nth(2))
    assert space.probability({"a": 2}) == pytest.approx(0.5)
    assert space.probability({"a": 3}) == pytest.approx(0.25)


# --- finite spaces


@pytest.mark.parametrize(
    "grid",
    [
        {"b": [1, 2, 3], "a": ["x", "y"], "c": [None]},
        [{"a": [1, 2]}, {"b": [3, 4], "a": [5]}],
    ],
)
def test_numbers_configurations_as_scikit_learn_does(grid):
    space = SearchSpace(grid)
    assert [space.nth(i) for i in range(space.size)] == list(ParameterGrid(grid))


def test_huge_finite_space_is_not_materialised():
    space = SearchSpace({f"p{i:02d}": range(10) for i in range(12)})
    assert space.size == 10**12
    assert list(space.nth(123456789012).values()) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]
    with pytest.raises(IndexError, match="0 <= index < 1000000000000"):
        space.nth(10**12)


def test_infinite_space_has_no_numbers():
    with pytest.raises(TypeError, match="infinite"):
        SearchSpace({"x": stats.norm()}).nth(0)
    assert SearchSpace({"n": stats.poisson(3)}).size is None


def test_wide_integers_are_numbered():
    space = SearchSpace({"n": stats.randint(5, 10**12)})
    assert space.size == 10**12 - 5
    assert space.nth(7) == {"n": 12}


# --- bad input


@pytest.mark.parametrize(
    ("param_distributions", "error", "match"),
    [
        ({}, ValueError, "at least one parameter"),
        ([], ValueError, "at least one parameter"),
        ([{"a": [1]}, {}], ValueError, "at least one parameter"),
        ({"a": []}, ValueError, r"at least one value.*a=\[\]"),
        ({"a": np.array([])}, ValueError, "at least one value"),
        ({"a": "relu"}, TypeError, r"a='relu'.*\[value\]"),
        ({"a": 3}, TypeError, "list of choices or a frozen"),
        ({"a": {1, 2}}, TypeError, "list of choices or a frozen"),
        ({"a": iter([1])}, TypeError, "list of choices or a frozen"),
        ({"a": stats.uniform}, TypeError, "frozen.*'a'.*'uniform'"),
        ({"a": stats.randint}, TypeError, "frozen.*'randint'"),
        ({"a": stats.multivariate_normal([0, 0])}, TypeError, "univariate"),
        ({"a": stats.uniform([0, 1], 1)}, ValueError, "univariate"),
        ({"a": stats.uniform(0, -1)}, ValueError, "check the arguments"),
        ({"a": stats.randint(5, 2)}, ValueError, "check the arguments"),
        ({"a": stats.rv_discrete(values=([0.5, 1], [0.5, 0.5]))()}, ValueError, "over integers"),
        ({"a": np.ones((2, 2))}, ValueError, r"one-dimensional.*\(2, 2\)"),
        ({1: [1]}, TypeError, "names must be strings, but got 1"),
        ("abc", TypeError, "a dict or a list of dicts"),
        ([["a", 1]], TypeError, "a dict or a list of dicts"),
        (None, TypeError, "a dict or a list of dicts"),
    ],
)
def test_bad_spaces(param_distributions, error, match):
    with pytest.raises(error, match=match):
        SearchSpace(param_distributions)


def test_object_with_only_rvs_is_no_distribution():
    class OnlyRvs:
        def rvs(self, random_state=None):
            return 1

    with pytest.raises(TypeError, match="frozen univariate"):
        SearchSpace({"a": OnlyRvs()})


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"a": 3, "n": 1, "x": 0.5}, r"a=3 is not in the space; its values are: 1, 2$"),
        ({"a": 1, "n": 99, "x": 0.5}, "n=99"),
        ({"a": 1, "n": 1.5, "x": 0.5}, "n=1.5"),
        ({"a": 1, "n": True, "x": 0.5}, "n=True"),
        ({"a": 1, "n": 1, "x": 2}, "x=2 .*numbers from 0 to 1"),
        ({"a": 1, "n": 1, "x": math.nan}, "x=nan"),
        ({"a": 1, "n": 1, "x": "0.5"}, "x='0.5'"),
        ({"a": 1, "n": 1}, r"\['a', 'n', 'x'\], but got \['a', 'n'\]"),
        ({"a": 1, "n": 1, "x": 0.5, "y": 1}, r"\['a', 'n', 'x'\]"),
    ],
)
def test_configurations_that_are_not_in_the_space(params, match):
    space = SearchSpace({"a": [1, 2], "n": stats.poisson(3, loc=-100), "x": stats.uniform()})
    if params.get("n") == 99:
        space = SearchSpace({"a": [1, 2], "n": stats.randint(0, 10**6, loc=100), "x": [0.5]})
    for method in (space.to_unit, space.key, space.probability):
        with pytest.raises(ValueError, match=match):
            method(params)


@pytest.mark.parametrize("u", [[0.5], [0.5] * 3, 0.5, [math.nan, 0.5]])
def test_points_that_are_not_in_the_cube(u):
    with pytest.raises(ValueError, match="2 numbers in"):
        SearchSpace({"a": [1], "b": [1]}).from_unit(u)


# --- the object


def test_leaves_its_input_alone_and_does_not_depend_on_it():
    choices = [[1], [2]]
    given_ = {"b": choices, "a": stats.norm()}
    before = copy.copy(given_)
    space = SearchSpace(given_)
    assert list(given_.items()) == list(before.items())
    choices.append([3])
    given_["c"] = [1]
    assert space.names == ["a", "b"]
    assert space.dimensions[1].n_levels == 2


def test_survives_a_pickle():
    space = SearchSpace(
        [{"a": [{1, 2}, {3}], "b": log_randint(1, 9)}, {"c": stats.norm(), "d": [len]}]
    )
    again = pickle.loads(pickle.dumps(space))
    assert again.dimensions == space.dimensions
    for u in np.random.default_rng(0).uniform(size=(20, space.n_dims)):
        params = again.from_unit(u)
        assert params == space.from_unit(u)
        assert isinstance(hash(again.key(params)), int)


def test_repr():
    assert repr(SearchSpace({"a": [1, 2]})) == "SearchSpace(names=['a'], n_dims=1, size=2)"


# --- log_randint


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.floats(0, 1))
@quick
def test_log_randint_is_log_uniform(low, width, q):
    high = low + width
    distribution = log_randint(low, high)
    exact = stats.loguniform(low, high)
    k = np.unique(np.linspace(low, high - 1, 7).astype(int))
    np.testing.assert_allclose(distribution.cdf(k), exact.cdf(k + 1), atol=1e-9)
    np.testing.assert_allclose(
        distribution.pmf(k), np.log((k + 1) / k) / np.log(high / low), rtol=1e-9
    )
    x = distribution.ppf(q)
    assert low - 1 <= x <= high - 1
    assert distribution.cdf(x) >= min(q, 1 - 1e-15)
    assert x == low - 1 or distribution.cdf(x - 1) < q


def test_log_randint_beyond_its_bounds():
    distribution = log_randint(2, 10)
    assert distribution.support() == (2, 9)
    assert distribution.pmf([1, 2.5, 10, -3]).tolist() == [0, 0, 0, 0]
    assert distribution.cdf([-5, 1, 9, 50]).tolist() == [0, 0, 1, 1]
    assert distribution.pmf(np.arange(2, 10)).sum() == pytest.approx(1)
    assert distribution.ppf([0, 1]).tolist() == [1, 9]
    assert np.isnan(distribution.ppf([-0.1, 1.1])).all()


def test_log_randint_draws():
    distribution = log_randint(1, 50)
    draws = distribution.rvs(size=20_000, random_state=0)
    k = np.arange(1, 50)
    observed = np.array([(draws == i).sum() for i in k])
    assert observed.sum() == draws.size
    assert stats.chisquare(observed, 20_000 * distribution.pmf(k)).pvalue > 0.01
    assert type(distribution.rvs(random_state=1)) is int
    assert distribution.rvs((2, 3), np.random.default_rng(0)).shape == (2, 3)
    assert distribution.rvs(random_state=3) == distribution.rvs(random_state=3)


def test_log_randint_in_a_search_of_scikit_learn():
    configurations = list(ParameterSampler({"n": log_randint(4, 64)}, 20, random_state=0))
    assert all(4 <= params["n"] < 64 for params in configurations)
    assert len({params["n"] for params in configurations}) > 5


def test_log_randint_is_a_value():
    distribution = log_randint(np.int64(1), 9)
    assert distribution == log_randint(1, 9) != log_randint(1, 8)
    assert repr(distribution) == "log_randint(low=1, high=9)"
    assert pickle.loads(pickle.dumps(distribution)) == distribution


@pytest.mark.parametrize("bounds", [(0, 5), (-1, 5), (5, 5), (6, 5)])
def test_log_randint_with_bad_bounds(bounds):
    low, high = bounds
    with pytest.raises(ValueError, match=rf"low < high must hold.*\(low={low}, high={high}\)"):
        log_randint(low, high)


def test_log_randint_with_fractional_bounds():
    with pytest.raises(TypeError, match=r"integers, but got high=2\.5"):
        log_randint(1, 2.5)


@pytest.mark.parametrize(
    "distribution", [stats.pareto(0.01), stats.lognorm(500), stats.geom(1e-30), stats.zipf(1.5)]
)
def test_heavy_tails_are_cut_at_numbers_that_can_be_represented(distribution):
    space = SearchSpace({"p": distribution})
    values = [space.from_unit([u])["p"] for u in (0.0, 0.5, 1 - 1e-16, 1.0)]
    assert values == sorted(values)
    assert values[-1] == np.float64(values[-1]) < np.inf
    assert isinstance(values[-1], float) or values[-1] < 2**63
    space.to_unit({"p": values[-1]})


def test_a_tail_that_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match=r"at most 1% .* above 65536, but of that of 'p' 9\.7% do"):
        SearchSpace({"p": stats.zipf(1.2)})
