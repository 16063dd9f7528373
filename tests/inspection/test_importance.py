"""What matters: against functions whose indices are known, and against integrals."""

import numpy as np
import pytest
from scipy.stats import loguniform, randint, uniform
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

from skhpo import SearchSpace, log_randint
from skhpo.inspection import hyperparameter_importance, read_search
from skhpo.inspection._forests import Forest

METHODS = ["fanova", "gp", "ped_anova", "permutation"]
VARIANCE = ["fanova", "gp"]


def table(space, function, n, seed=0, n_splits=3, noise=0.0):
    """A table of random configurations and their scores."""
    rng = np.random.default_rng(seed)
    own = SearchSpace(space)
    params = own.from_units(rng.random((n, own.n_dims)))
    means = np.array([function(**one) for one in params], dtype=float)
    scores = means[:, None] + noise * rng.standard_normal((n, n_splits))
    columns = {f"split{i}_test_score": column for i, column in enumerate(scores.T)}
    return {"params": params, "mean_test_score": scores.mean(axis=1), **columns}, space


def ishigami(a, b, c):
    return np.sin(a) + 7 * np.sin(b) ** 2 + 0.1 * c**4 * np.sin(a)


CIRCLE = {name: uniform(-np.pi, 2 * np.pi) for name in "abc"}


def importance(found, name):
    return found.importances_mean[found.names.index(name)]


def interaction(found, *names):
    rows = zip(
        found.interactions["first"],
        found.interactions["second"],
        found.interactions["importance"],
        strict=True,
    )
    return next(value for a, b, value in rows if {a, b} == set(names))


@pytest.mark.parametrize(("method", "error"), [("fanova", 0.06), ("gp", 0.04)])
def test_sobol_indices_of_ishigamis_function(method, error):
    found = hyperparameter_importance(
        table(CIRCLE, ishigami, 200), method=method, n_bootstrap=20, random_state=0
    )
    for name, index in {"a": 0.3139, "b": 0.4424, "c": 0.0}.items():
        assert importance(found, name) == pytest.approx(index, abs=error)
    assert interaction(found, "a", "c") == pytest.approx(0.2437, abs=2 * error)
    assert interaction(found, "a", "b") < 0.03
    assert interaction(found, "b", "c") < 0.03


@pytest.mark.parametrize("method", METHODS)
def test_what_has_no_effect_has_no_importance(method):
    space = {
        "lr": loguniform(1e-4, 1),
        "n": log_randint(1, 100),
        "act": ["a", "b", "c"],
        "idle": uniform(0, 1),
        "idle_choice": list("abcdefghij"),
        "fixed": [3],
        "steps": [8, 1, 4, 2],
    }

    def score(lr, n, act, steps, **_):
        return np.log10(lr) + (act == "b") + 0.5 * np.log2(steps) + 0.3 * np.log10(n)

    n = 400 if method == "ped_anova" else 150  # which sees the best tenth
    found = hyperparameter_importance(
        table(space, score, n), method=method, n_bootstrap=20, random_state=0
    )
    assert importance(found, "fixed") == 0
    assert set(found.names[:3]) == {"lr", "act", "steps"}
    assert found.names[0] == "lr"
    assert (
        max(importance(found, "idle"), importance(found, "idle_choice"))
        < importance(found, "lr") / 5
    )
    assert list(found.importances_mean) == sorted(found.importances_mean, reverse=True)
    assert found.importances.shape == (7, 20)
    assert (found.intervals[:, 0] <= found.intervals[:, 1]).all()
    again = hyperparameter_importance(
        table(space, score, n), method=method, n_bootstrap=20, random_state=0
    )
    np.testing.assert_array_equal(found.importances, again.importances)


@pytest.mark.parametrize("method", VARIANCE)
def test_parameters_of_a_conditional_space(method):
    space = [
        {"kernel": ["linear"], "C": uniform(0, 1)},
        {"kernel": ["rbf"], "C": uniform(0, 1), "gamma": uniform(0, 1)},
    ]

    def score(kernel, C, gamma=None):
        return 2.0 * C + (3 * gamma if kernel == "rbf" else 0.0)

    # Variances: C 4/12 in both; gamma and kernel 1/4 * 1.5^2 between the dicts, and gamma
    # half of 9/12 inside the second.
    between, inside, both = 1.5**2 / 4, 9 / 24, 4 / 12
    total = between + inside + both
    found = hyperparameter_importance(
        table(space, score, 200), method=method, n_bootstrap=5, random_state=0
    )
    assert importance(found, "kernel") == pytest.approx(between / total, abs=0.06)
    assert importance(found, "C") == pytest.approx(both / total, abs=0.06)
    assert importance(found, "gamma") == pytest.approx((between + inside) / total, abs=0.06)


@pytest.mark.parametrize("method", ["ped_anova", "permutation"])
def test_conditional_spaces_by_the_other_methods(method):
    space = [
        {"kernel": ["linear"], "C": uniform(0, 1), "idle": uniform(0, 1)},
        {"kernel": ["rbf"], "C": uniform(0, 1), "gamma": uniform(0, 1)},
    ]

    def score(kernel, C, gamma=0.0, **_):
        return C + 4 * (kernel == "rbf") - gamma

    found = hyperparameter_importance(
        table(space, score, 200), method=method, n_bootstrap=10, random_state=0
    )
    # Not to have gamma, or to have "idle", says which kernel it is.
    assert min(importance(found, name) for name in ("gamma", "idle", "kernel")) > 0.05
    assert importance(found, "C") > 0


def test_a_region_asks_what_matters_among_the_best():
    # Far from the best "a" decides, near it "b".
    def score(a, b):
        return min(a, 0.5) * 10 + b * (a > 0.5)

    data = table({"a": uniform(0, 1), "b": uniform(0, 1)}, score, 400)
    whole = hyperparameter_importance(data, method="ped_anova", n_bootstrap=5, random_state=0)
    best = hyperparameter_importance(
        data, method="ped_anova", region=0.3, n_bootstrap=5, random_state=0
    )
    assert importance(best, "b") > importance(best, "a")
    assert importance(best, "b") > importance(whole, "b")
    assert best.importances_mean.sum() == pytest.approx(1)


@pytest.mark.parametrize("choices", [False, True])
def test_a_tree_is_its_mean_over_the_other_coordinates(choices):
    space = SearchSpace(
        {"a": uniform(0, 1), "b": list("pqr") if choices else randint(0, 4), "c": uniform(0, 1)}
    )
    rng = np.random.default_rng(0)
    u = space.snap(rng.random((40, 3)))
    y = np.sin(5 * u[:, 0]) + u[:, 1] * u[:, 2]
    forest = Forest(space, [0, 1, 2], u, y, 1, np.random.default_rng(1))
    own = np.random.default_rng(1)
    rows = own.integers(40, size=40)
    orders = [None, own.permutation(3) if choices else np.arange(4), None]
    from skhpo.inspection._forests import _Tree

    tree = _Tree(forest.cells, orders, u[rows], y[rows], own)
    points = rng.random((400_000, 3))
    values = tree.predict(points)
    assert tree.mean == pytest.approx(values.mean(), abs=0.02)
    for j, cells in enumerate(forest.cells):
        curve = (tree.weights @ tree.shares)[forest._starts[j] : forest._starts[j + 1]]
        at = cells.find(points[:, j])
        means = np.bincount(at, values) / np.bincount(at)
        np.testing.assert_allclose(curve, means, atol=0.06)


def test_rows_of_the_largest_level_count_unless_another_is_asked_for():
    data, space = table({"a": uniform(0, 1), "b": uniform(0, 1)}, lambda a, b: a, 60)
    data["n_resources"] = np.repeat([1, 9], [30, 30])
    data["mean_test_score"][:30] = [params["b"] for params in data["params"][:30]]
    for i in range(3):
        data[f"split{i}_test_score"][:30] = data["mean_test_score"][:30]
    found = hyperparameter_importance((data, space), n_bootstrap=2, random_state=0)
    assert (found.names[0], found.n_rows) == ("a", 30)
    found = hyperparameter_importance((data, space), resource=1, n_bootstrap=2, random_state=0)
    assert (found.names[0], found.n_rows) == ("b", 30)
    found = hyperparameter_importance((data, space), resource="all", n_bootstrap=2, random_state=0)
    assert found.n_rows == 60


def test_shares_of_rows_that_a_search_has_chosen_are_at_most_one():
    # Near the best, so that they vary less than the space.
    data, space = table({name: uniform(0, 1) for name in "abc"}, lambda a, b, c: a, 400)
    rows = [i for i, p in enumerate(data["params"]) if p["a"] > 0.6 or i < 15]
    params = [data["params"][i] for i in rows]
    scores = np.array([-10 * (p["a"] - 0.9) ** 2 - (p["b"] - 0.5) ** 2 for p in params])
    found = hyperparameter_importance(
        ({"params": params, "mean_test_score": scores}, space), n_bootstrap=20, random_state=0
    )
    assert found.names[0] == "a"
    assert (found.importances.sum(axis=0) <= 1 + 1e-9).all()
    assert 0.8 < found.importances_mean.sum() <= 1 + 1e-9


def test_the_share_of_noise():
    def half(a):
        return np.sqrt(12) * a  # of variance 1

    shares = [
        hyperparameter_importance(
            table({"a": uniform(0, 1)}, half, 300, n_splits=4, noise=noise), n_bootstrap=1
        ).noise_share
        for noise in (0.0, 2.0, 6.0)
    ]
    assert shares[0] == pytest.approx(0, abs=1e-9)
    assert shares[1] == pytest.approx(0.5, abs=0.1)
    assert shares[2] == pytest.approx(0.9, abs=0.1)
    single = table({"a": uniform(0, 1)}, half, 20, n_splits=1)
    assert np.isnan(hyperparameter_importance(single, n_bootstrap=1).noise_share)


@pytest.mark.parametrize("method", METHODS)
def test_a_search_of_scikit_learn(method):
    X, y = load_iris(return_X_y=True)
    search = GridSearchCV(
        DecisionTreeClassifier(random_state=0),
        {"max_depth": [1, 2, 3, 4], "criterion": ["gini", "entropy"], "splitter": ["best"]},
        cv=3,
    ).fit(X, y)
    table = search.cv_results_
    found = hyperparameter_importance(
        (
            {key: np.concatenate([table[key]] * 2) for key in table if "test_score" in key}
            | {"params": table["params"] * 2},
            search.param_grid,
        ),
        method=method,
        n_bootstrap=5,
        random_state=0,
    )
    assert found.names[0] == "max_depth"


def test_what_is_refused():
    data, space = table({"a": uniform(0, 1)}, lambda a: a, 9)
    with pytest.raises(ValueError, match=r"method='fanova' needs at least 10 rows .* are 9"):
        hyperparameter_importance((data, space))
    with pytest.raises(ValueError, match="needs at least 100 rows"):
        hyperparameter_importance((data, space), method="ped_anova", region=0.1)
    with pytest.raises(ValueError, match=r"only method=.ped_anova. looks at a region"):
        hyperparameter_importance((data, space), region=0.1)
    with pytest.raises(ValueError, match="method"):
        hyperparameter_importance((data, space), method="shap")
    with pytest.raises(ValueError, match="n_bootstrap"):
        hyperparameter_importance((data, space), n_bootstrap=0)
    with pytest.raises(ValueError, match="metric must be one of"):
        hyperparameter_importance((data, space), metric="f1")
    constant = table({"a": uniform(0, 1)}, lambda a: 0.5, 20)
    with pytest.raises(ValueError, match=r"all 20 rows score 0.5; take another metric"):
        hyperparameter_importance(constant)
    assert read_search(constant).n_rows == 20


@pytest.mark.parametrize(("method", "n_seeds", "n_bootstrap"), [("fanova", 4, 60), ("gp", 2, 30)])
def test_intervals_have_what_a_model_of_few_rows_cannot_see(method, n_seeds, n_bootstrap):
    """Sobol's g-function, whose weak parameters a model of fifty rows misses."""
    a = dict(zip("abcdef", [0, 1, 4.5, 9, 99, 99], strict=True))
    own = {name: 1 / (3 * (1 + value) ** 2) for name, value in a.items()}
    whole = np.prod([1 + value for value in own.values()]) - 1
    inside = []
    for seed in range(n_seeds):
        data = table(
            {name: uniform(0, 1) for name in a},
            lambda **u: np.prod([(abs(4 * u[k] - 2) + a[k]) / (1 + a[k]) for k in u]),
            50,
            seed=seed,
        )
        found = hyperparameter_importance(
            data, method=method, random_state=seed, n_bootstrap=n_bootstrap
        )
        assert (found.intervals[:, 0] <= found.importances_mean).all()
        assert (found.intervals[:, 1] >= found.importances_mean).all()
        for name, (low, high) in zip(found.names, found.intervals, strict=True):
            if name in "cd":
                inside.append(low <= own[name] / whole <= high)
    assert np.mean(inside) > 0.8
