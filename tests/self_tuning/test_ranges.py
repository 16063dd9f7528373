"""Hyperparameters as unconstrained numbers."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from scipy import stats

from skhpo import log_randint
from skhpo.self_tuning._ranges import Ranges, average_values

DISTRIBUTIONS = {
    "uniform": stats.uniform(0.1, 0.8),
    "beta": stats.beta(2, 3),
    "loguniform": stats.loguniform(1e-6, 1e-1),
    "randint": stats.randint(0, 7),
    "log_randint": log_randint(2, 300),
    "halfnorm": stats.halfnorm(0, 2),
    "expon": stats.expon(1, 1),
}


def test_the_ends_are_those_of_the_support():
    ranges = Ranges(DISTRIBUTIONS, {})
    for u, end in ((-200.0, 0), (200.0, 1)):
        values = ranges.as_dict(torch.full((len(ranges),), u))
        for name, value in values.items():
            expected = DISTRIBUTIONS[name].support()[end]
            if np.isfinite(expected):
                assert value == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert all(isinstance(values[name], int) for name in ("randint", "log_randint"))


@given(share=st.floats(0.01, 0.99), name=st.sampled_from(sorted(DISTRIBUTIONS)))
def test_what_starts_somewhere_is_there(share, name):
    value = DISTRIBUTIONS[name].ppf(share)
    value = int(value) if "randint" in name else float(value)
    ranges = Ranges(DISTRIBUTIONS, {name: value})
    assert ranges.as_dict(ranges.start)[name] == pytest.approx(value, rel=2e-2, abs=6e-3)


@pytest.mark.parametrize("name", ["uniform(0, 1)", "loguniform(1e-4, 1)", "halfnorm()"])
def test_what_training_sets_is_not_moved_away_from_an_end(name):
    ranges = Ranges({"lr": eval(name, vars(stats))}, {})
    u = torch.tensor(ranges.unconstrained("lr", 1e-3))
    assert float(ranges.follow("lr", u)) == pytest.approx(1e-3, rel=1e-3)


def test_formulas():
    ranges = Ranges(DISTRIBUTIONS, {})
    u = torch.randn(50, len(ranges), generator=torch.Generator().manual_seed(0), dtype=torch.double)
    values = dict(zip(ranges.names, ranges.values(u.float()).double().T, strict=True))
    u = dict(zip(ranges.names, u.T, strict=True))
    share = {name: torch.sigmoid(column) for name, column in u.items()}
    expected = {
        "uniform": 0.1 + 0.8 * share["uniform"],
        "loguniform": torch.exp(np.log(1e-6) + np.log(1e5) * share["loguniform"]),
        "randint": torch.floor(7 * share["randint"]),
        "log_randint": torch.floor(2 * torch.exp(np.log(150) * share["log_randint"])),
        "halfnorm": torch.nn.functional.softplus(u["halfnorm"]),
        "expon": 1 + torch.nn.functional.softplus(u["expon"]),
    }
    for name, value in expected.items():
        torch.testing.assert_close(values[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("distributions", "initial", "message"),
    [
        ({"a": [1, 2]}, {}, "frozen distributions"),
        ({"a": stats.norm()}, {}, "must be bounded"),
        ({"a": stats.poisson(3)}, {}, "must be bounded"),
        ({"a": stats.uniform}, {}, "frozen"),
        ({"a": stats.uniform(0, 1)}, {"b": 1}, "names among"),
        ({"a": stats.uniform(0, 1)}, {"a": 1.5}, r"\[0, 1\]"),
        ({"a": stats.uniform(0, 1)}, {"a": "x"}, r"\[0, 1\]"),
        ({"a": stats.randint(0, 3)}, {"a": 3}, r"\[0, 2\]"),
        ({"a": stats.randint(0, 3)}, {"a": 0.5}, r"\[0, 2\]"),
        ({"a": stats.loguniform(1e-3, 1)}, {"a": 0}, r"\[0.001, 1\]"),
        ({"a": stats.expon()}, {"a": -1}, r"\[0, inf\]"),
    ],
)
def test_bad_ranges(distributions, initial, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Ranges(distributions, initial)


SHARES = st.lists(st.floats(0.001, 0.999), min_size=1, max_size=5)


def drawn(name, shares):
    values = DISTRIBUTIONS[name].ppf(shares)
    return [int(value) if "randint" in name else float(value) for value in values]


@given(shares=SHARES, name=st.sampled_from(sorted(DISTRIBUTIONS)))
def test_an_average_lies_between_and_needs_no_order(shares, name):
    values = drawn(name, shares)
    found = average_values({name: DISTRIBUTIONS[name]}, [{name: value} for value in values])[name]
    assert type(found) is (int if "randint" in name else float)
    slack = 1e-6 * abs(max(values))
    assert min(values) - slack <= found <= max(values) + slack
    back = average_values({name: DISTRIBUTIONS[name]}, [{name: value} for value in values[::-1]])
    assert back[name] == pytest.approx(found, rel=1e-12)


@given(share=st.floats(1e-9, 1.0), name=st.sampled_from(sorted(DISTRIBUTIONS)))
def test_the_average_of_one_value_is_that_value(share, name):
    (value,) = drawn(name, [share])
    if np.isfinite(value):
        found = average_values({name: DISTRIBUTIONS[name]}, [{name: value}] * 3)[name]
        assert found == pytest.approx(value, rel=1e-6, abs=2e-6)


def test_averages_in_closed_form():
    ranges = {"a": stats.uniform(0, 1), "b": stats.loguniform(1e-4, 1), "c": stats.expon()}
    rows = [{"a": 0.1, "b": 1e-3, "c": 1.0}, {"a": 0.9, "b": 1e-1, "c": 4.0}]
    found = average_values(ranges, rows)
    assert found["a"] == pytest.approx(0.5)
    assert found["b"] == pytest.approx(1e-2)
    u = np.log(np.expm1([1.0, 4.0])).mean()
    assert found["c"] == pytest.approx(np.log1p(np.exp(u)))


@given(
    share=st.floats(0.01, 0.99), scale=st.floats(0, 3), name=st.sampled_from(sorted(DISTRIBUTIONS))
)
def test_a_band_is_around_its_value_and_inside_the_range(share, scale, name):
    (value,) = drawn(name, [share])
    ((low,), (high,)) = Ranges(DISTRIBUTIONS, {}).band(name, [value], [scale])
    start, end = DISTRIBUTIONS[name].support()
    slack = 1e-5 * abs(value) + 1e-6
    assert start - slack <= low <= value + slack
    assert value - slack <= high <= end + slack
    if not scale:
        assert low == pytest.approx(high) == pytest.approx(value, rel=1e-4, abs=1e-6)
