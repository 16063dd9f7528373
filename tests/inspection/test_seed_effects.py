"""What scores vary with: components of tables that were made with known ones."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV

from skhpo import SearchCV
from skhpo.inspection import SeedEffectsDisplay, read_search, seed_effects
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X, y = load_iris(return_X_y=True)
# Standard deviations that tables are made with.
KNOWN = {"configuration": 2.0, "split": 1.5, "rest": 0.8, "seed": 1.0}


def grid(space, random_state):
    return FullScheduler(GridSampler(space), space.size)


def simulated(rng, n_rows=20, n_splits=5, n_repeats=3, **known):
    known = {**KNOWN, **known}
    scores = known["configuration"] * rng.normal(size=(n_rows, 1, 1))
    scores = scores + known["split"] * rng.normal(size=(1, n_splits, 1))
    scores = scores + known["rest"] * rng.normal(size=(n_rows, n_splits, 1))
    return scores + known["seed"] * rng.normal(size=(n_rows, n_splits, n_repeats))


def source(scores, params=None, space=None):
    """Return a table with scores of shape (n_rows, n_splits, n_repeats), and its space."""
    n_rows, n_splits, n_repeats = scores.shape
    params = params or [{"a": i} for i in range(n_rows)]
    table = {"params": params, "mean_test_score": scores.mean(axis=(1, 2))}
    for split in range(n_splits):
        table[f"split{split}_test_score"] = scores[:, split].mean(axis=1)
        for repeat in range(n_repeats if n_repeats > 1 else 0):
            table[f"split{split}_repeat{repeat}_test_score"] = scores[:, split, repeat]
    return table, space or {"a": list(range(n_rows))}


def column(found, name="variance"):
    return dict(zip(found.table["component"], found.table[name], strict=True))


def test_components_are_the_known_ones_in_the_mean_and_intervals_cover_them():
    rng = np.random.default_rng(0)
    found = [
        seed_effects(source(simulated(rng)), n_bootstrap=400, random_state=i) for i in range(120)
    ]
    for name, std in KNOWN.items():
        estimates = np.array([column(one)[name] for one in found])
        error = estimates.std() / np.sqrt(len(estimates))
        assert abs(estimates.mean() - std**2) < 4 * error, name
        low = np.array([column(one, "variance_low")[name] for one in found])
        high = np.array([column(one, "variance_high")[name] for one in found])
        covered = np.mean((low <= std**2) & (std**2 <= high))
        assert covered >= 0.88, (name, covered)
        assert np.median(high) < 100 * std**2


def test_they_are_those_of_the_analysis_of_variance():
    scores = simulated(np.random.default_rng(1))
    n_rows, n_splits, n_repeats = scores.shape
    found = column(seed_effects(source(scores)))
    cells, rows, splits = scores.mean(2), scores.mean((1, 2)), scores.mean((0, 2))
    within = scores.var(axis=2, ddof=1).mean()
    left = cells - rows[:, None] - splits + scores.mean()
    both = n_repeats * (left**2).sum() / (n_rows - 1) / (n_splits - 1)
    expected = {
        "seed": within,
        "rest": (both - within) / n_repeats,
        "configuration": rows.var(ddof=1) - both / n_splits / n_repeats,
        "split": splits.var(ddof=1) - both / n_rows / n_repeats,
    }
    for name, variance in expected.items():
        assert found[name] == pytest.approx(variance), name


def test_without_repeats_seeds_are_in_the_rest():
    found = seed_effects(source(simulated(np.random.default_rng(2), n_rows=60, n_repeats=1)))
    known = column(found)
    assert np.isnan(known["seed"])
    assert known["rest"] == pytest.approx(0.8**2 + 1, rel=0.3)
    assert np.isnan(found.std_of_seed)
    assert found.differences["n_repeats"].tolist() == [1]
    assert sum(x for x in column(found, "share").values() if x == x) == pytest.approx(1)


def test_pinned_streams_have_their_share():
    """Each configuration has five initial weights, which move its score on all splits alike."""
    rng = np.random.default_rng(3)
    params = [{"lr": lr, "net__seeds__init": i} for lr in range(30) for i in range(5)]
    space = {"lr": list(range(30)), "net__seeds__init": list(range(5))}
    scores = simulated(rng, n_rows=150, configuration=0, rest=0.01)
    scores += 2 * np.repeat(rng.normal(size=(30, 1, 1)), 5, axis=0)
    scores += 1.2 * rng.normal(size=(150, 1, 1))
    found = column(seed_effects(source(scores, params, space)))
    assert list(found) == ["configuration", "split", "init", "seed", "rest"]
    assert found["init"] == pytest.approx(1.44, rel=0.35)
    assert found["configuration"] == pytest.approx(4, rel=0.6)
    assert found["seed"] == pytest.approx(1, rel=0.15)
    assert found["rest"] < 0.1


def test_differences_between_equals_are_smaller_in_95_of_100_cases():
    rng = np.random.default_rng(4)
    beyond = []
    for _ in range(60):
        scores = simulated(rng, configuration=0, rest=0.0, n_rows=12)
        found = seed_effects(source(scores), n_bootstrap=10)
        means = scores.mean((1, 2))
        beyond.append(abs(means[0] - means[1]) > found.smallest_difference)
        smaller = found.differences["smallest_difference"]
        assert (np.diff(smaller) <= 0).all()
    assert np.mean(beyond) <= 0.12


def test_a_search_says_what_its_repeats_do():
    search = SearchCV(
        RandomForestClassifier(2),
        {"max_depth": [1, 2, 3]},
        scheduler=grid,
        n_repeats=3,
        cv=3,
        random_state=0,
    ).fit(X, y)
    assert read_search(search).scores["score"].shape == (3, 3, 3)
    found = seed_effects(search, random_state=0)
    scores = read_search(search).scores["score"]
    assert found.std_of_seed == pytest.approx(np.sqrt(scores.var(axis=2, ddof=1).mean()))
    assert found.scores[0] == pytest.approx(search.best_score_)
    again = seed_effects(search, random_state=0)
    np.testing.assert_array_equal(found.table["low"], again.table["low"])


def test_of_one_score_nothing_is_known_and_equal_scores_have_no_variance():
    with pytest.raises(ValueError, match="needs two scores at least"):
        seed_effects(source(np.ones((1, 1, 1))))
    equal = seed_effects(source(np.ones((4, 3, 2))))
    assert set(equal.table["variance"]) == {0.0}
    assert equal.smallest_difference == 0
    with pytest.raises(ValueError, match="at least 1 rows with finite scores on all splits"):
        seed_effects(source(np.full((2, 2, 1), np.nan)))
    with pytest.raises(ValueError, match="metric must be one of"):
        seed_effects(source(np.ones((4, 3, 2))), metric="accuracy")


def test_the_picture_counts_who_is_as_good_as_the_best():
    pytest.importorskip("matplotlib").use("Agg")
    search = GridSearchCV(
        RandomForestClassifier(3), {"max_depth": [1, 3], "random_state": [0, 1, 2]}, cv=3
    ).fit(X, y)
    display = SeedEffectsDisplay.from_search(search, random_state=0)
    labels = [text.get_text() for text in display.ax_[0].get_yticklabels()]
    assert labels == ["configuration", "split", "random_state", "rest"]
    assert "of 6 rows" in display.ax_[1].get_title()
    assert all(tick == round(tick) for tick in display.ax_[1].get_xticks())
    assert SeedEffectsDisplay.from_search(search, ax=display.ax_).figure_ is display.figure_
