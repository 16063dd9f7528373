"""Effects against functions that are known, comparisons against formulas."""

import numpy as np
import pytest
from scipy.stats import loguniform, norm, randint, ttest_rel, uniform
from test_importance import table

from skhpo.inspection import compare, effects

SPACE = {
    "lr": loguniform(1e-4, 1),
    "depth": randint(1, 6),
    "act": ["relu", "tanh"],
    "drop": uniform(0, 1),
}


def score(lr, depth, act, drop):
    return -((np.log10(lr) + 2) ** 2) + 0.2 * depth + (act == "tanh") * drop


def test_an_effect_is_the_mean_over_the_other_parameters():
    data = table(SPACE, score, 120)
    found = effects(data, "lr", random_state=0)
    assert (found.params, found.scales) == (["lr"], ["log"])
    lr = np.array(found.grid_values[0])
    assert (lr[0], lr[-1]) == pytest.approx((1e-4, 1))
    expected = -((np.log10(lr) + 2) ** 2) + 0.2 * 3 + 0.25
    np.testing.assert_allclose(found.mean, expected, atol=0.25)
    assert ((found.low <= expected + 0.15) & (expected - 0.15 <= found.high)).mean() > 0.9
    assert (found.low <= found.high).all()
    assert found.individual.shape == (30, len(lr))
    assert found.tried[0] == [params["lr"] for params in data[0]["params"]]
    np.testing.assert_array_equal(found.scores, data[0]["mean_test_score"])
    found = effects(data, "depth", random_state=0)
    assert found.grid_values == [[1, 2, 3, 4, 5]]
    assert found.scales == ["linear"]
    np.testing.assert_allclose(np.diff(found.mean), 0.2, atol=0.1)


def test_an_effect_of_a_pair():
    found = effects(table(SPACE, score, 120), ("act", "drop"), random_state=0)
    assert found.grid_values[0] == ["relu", "tanh"]
    assert found.scales == ["choice", "linear"]
    assert found.mean.shape == found.low.shape == (2, 17)
    np.testing.assert_allclose(found.mean[1] - found.mean[0], found.grid_values[1], atol=0.25)


def test_effects_in_conditional_and_endless_spaces():
    space = [
        {"kernel": ["linear"], "C": loguniform(1e-2, 1e2)},
        {"kernel": ["rbf"], "C": loguniform(1e-1, 1e3), "gamma": norm(0, 1)},
    ]

    def of(kernel, C, gamma=0.0):
        return np.log10(C) + 3 * (kernel == "rbf") + gamma

    data = table(space, of, 100)
    found = effects(data, "gamma", random_state=0)
    assert len(found.tried[0]) < 100
    assert np.polyfit(found.grid_values[0], found.mean, 1)[0] == pytest.approx(1, abs=0.1)
    found = effects(data, "C", random_state=0)
    assert found.grid_values[0] == sorted(found.grid_values[0])
    assert (found.grid_values[0][0], found.grid_values[0][-1]) == pytest.approx((1e-2, 1e3))
    assert not np.isnan(found.mean).any()
    found = effects(data, ("kernel", "gamma"), random_state=0)
    assert np.isnan(found.mean[0]).all()
    assert not np.isnan(found.mean[1]).any()


def test_what_effects_refuse():
    data = table(SPACE, score, 20)
    with pytest.raises(ValueError, match=r"one of \['lr', .*\], but got 'learning_rate'"):
        effects(data, "learning_rate")
    with pytest.raises(ValueError, match="one parameter or two different ones"):
        effects(data, ["lr", "lr"])
    with pytest.raises(ValueError, match="an effect needs at least 10 rows"):
        effects(table(SPACE, score, 5), "lr")
    with pytest.raises(ValueError, match="all 20 rows score"):
        effects(table({"a": uniform(0, 1)}, lambda a: 1.0, 20), "a")


def rows_of(*scores):
    scores = np.array(scores, dtype=float)
    columns = {f"split{i}_test_score": column for i, column in enumerate(scores.T)}
    params = [{"a": i} for i in range(len(scores))]
    return {"params": params, "mean_test_score": scores.mean(axis=1), **columns}, {
        "a": list(range(len(scores)))
    }


def test_the_corrected_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 10))
    found = compare(rows_of(a, b), 0, 1)
    plain = ttest_rel(a, b)
    assert found.difference == pytest.approx((a - b).mean())
    # The variance is (1/n + n_test/n_train) instead of 1/n.
    assert found.t == pytest.approx(plain.statistic * np.sqrt(0.1 / (0.1 + 1 / 9)))
    assert found.p_value > plain.pvalue
    assert found.interval[0] < found.difference < found.interval[1]
    other = compare(rows_of(a, b), 0, 1, test_share=0.5)
    assert other.t == pytest.approx(plain.statistic * np.sqrt(0.1 / 1.1))
    swapped = compare(rows_of(a, b), 1, 0)
    assert swapped.t == pytest.approx(-found.t)
    assert swapped.better == pytest.approx(found.worse, abs=0.01)


def test_probabilities():
    base = np.linspace(0.7, 0.8, 10)
    better = compare(rows_of(base + 0.05, base), 0, 1)
    assert better.better > 0.99
    same = compare(rows_of(base + 0.001, base), 0, 1)
    assert same.equivalent > 0.99
    assert same.p_value == pytest.approx(0)
    none = compare(rows_of(base, base), 0, 1, rope=0)
    assert (none.t, none.p_value, none.equivalent) == (0, 1, 1)
    for found in (better, same, none):
        assert found.better + found.equivalent + found.worse == pytest.approx(1)


def test_what_is_not_compared():
    data = rows_of([0.1, 0.2], [0.3, np.nan])
    with pytest.raises(ValueError, match="row must be below 2, the number of rows, but got 2"):
        compare(data, 0, 2)
    with pytest.raises(ValueError, match="an integer from 0, but got 'best'"):
        compare(data, "best", 0)
    with pytest.raises(ValueError, match=r"row 1 has .* compare another row"):
        compare(data, 0, 1)
    with pytest.raises(ValueError, match="at least 2 splits"):
        compare(rows_of([0.1], [0.2]), 0, 1)
    with pytest.raises(ValueError, match="rope"):
        compare(data, 0, 0, rope=-1)
