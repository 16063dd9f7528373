"""What a search found is the same record, wherever it is read from."""

import json
import os

import numpy as np
import pytest
from scipy.stats import loguniform, randint, uniform
from sklearn.datasets import load_iris
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, SearchCV, log_randint
from skhpo.exceptions import JournalError
from skhpo.inspection import read_search
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

X, y = load_iris(return_X_y=True)
TREE = DecisionTreeClassifier(random_state=0)
CONDITIONAL = [
    {"alpha": loguniform(1e-5, 1), "loss": ["hinge", "log_loss"]},
    {"penalty": ["l1", None], "alpha": [1e-3], "class_weight": [None, {0: 1, 1: 2, 2: 1}]},
]


def twelve(space, random_state):
    return FullScheduler(RandomSampler(space, random_state), n_candidates=12)


def same(a, b):
    assert a.metric == b.metric
    assert a.resource == b.resource
    assert a.best_row() == b.best_row()
    assert a.levels == b.levels
    assert a.tags.keys() == b.tags.keys()
    np.testing.assert_array_equal(a.candidates, b.candidates)
    np.testing.assert_allclose(a.means(), b.means())
    np.testing.assert_allclose(a.units(range(a.n_rows)), b.units(range(b.n_rows)))


@pytest.fixture(scope="module")
def hyperband(tmp_path_factory):
    path = tmp_path_factory.mktemp("hyperband") / "run.jsonl"
    search = HalvingHyperbandSearchCV(
        SGDClassifier(),
        CONDITIONAL,
        resource="max_iter",
        max_resources=9,
        cv=3,
        n_repeats=2,
        journal=path,
        random_state=0,
    )
    return search.fit(X, y), path


def test_a_grid_is_read_as_its_table_says():
    search = GridSearchCV(TREE, {"max_depth": [3, 1, 2], "criterion": ["gini", "entropy"]}, cv=3)
    record = read_search(search.fit(X, y))
    table = search.cv_results_
    assert record.params == table["params"]
    assert record.levels == []
    assert record.best_row() == search.best_index_
    np.testing.assert_array_equal(record.scores["score"][:, 1, 0], table["split1_test_score"])
    np.testing.assert_array_equal(record.fit_seconds[:, 2, 0], table["mean_fit_time"])
    kinds = {dim.name: (dim.kind, dim.n_levels) for dim in record.space.dimensions}
    assert kinds == {"criterion": ("choice", 2), "max_depth": ("integer", 3)}
    u = record.units(range(6))[:, 1]
    assert sorted(range(6), key=lambda i: u[i]) == sorted(
        range(6), key=lambda i: table["params"][i]["max_depth"]
    )
    same(record, read_search((table, search.param_grid)))
    assert read_search(record) is record


@pytest.mark.parametrize("resource", ["n_samples", "n_estimators"])
@pytest.mark.parametrize("kind", [HalvingGridSearchCV, HalvingRandomSearchCV])
def test_halving_of_scikit_learn_has_levels(kind, resource):
    space = {"ccp_alpha": uniform(0, 0.01) if kind is HalvingRandomSearchCV else [0.0, 0.01, 0.02]}
    more = {} if resource == "n_samples" else {"max_resources": 9, "min_resources": 1}
    search = kind(
        ExtraTreesClassifier(n_estimators=3, random_state=0),
        space,
        resource=resource,
        random_state=0,
        cv=3,
        **more,
    ).fit(X, y)
    record = read_search(search)
    assert record.resource == resource
    assert record.levels == sorted(set(search.cv_results_["n_resources"]))
    assert all(set(params) == {"ccp_alpha"} for params in record.params)
    assert record.best_row() == search.best_index_
    assert set(record.resources[record.rows()]) == {record.levels[-1]}
    assert len(record.rows(resource="all")) == record.n_rows
    assert len(np.unique(record.candidates)) == search.n_candidates_[0]
    assert read_search((search.cv_results_, space)).params == record.params


def test_a_journal_says_what_its_search_says(hyperband):
    search, path = hyperband
    record, read = read_search(search), read_search(path)
    same(record, read)
    same(record, read_search(str(path)))
    assert read.scores["score"].shape == (read.n_rows, 3, 2)
    assert read.is_finished.all()
    assert read.facts["seed"] == json.loads(path.read_text().splitlines()[0])["seed"]
    np.testing.assert_allclose(
        read.fit_seconds.mean(axis=(1, 2)), search.cv_results_["mean_fit_time"]
    )
    np.testing.assert_array_equal(read.fit_seconds, record.fit_seconds)
    np.testing.assert_array_equal(read.starts, record.starts)
    np.testing.assert_array_equal(read.workers, record.workers)
    assert read_search((search.cv_results_, CONDITIONAL)).starts is None


def test_every_kind_of_distribution_comes_back_from_a_journal(tmp_path):
    from optuna.distributions import FloatDistribution
    from skopt.space import Categorical

    space = {
        "max_depth": randint(1, 6),
        "min_samples_leaf": log_randint(1, 20),
        "min_impurity_decrease": uniform(0, 0.01),
        "ccp_alpha": FloatDistribution(0.0, 0.01, step=0.002),
        "criterion": Categorical(["gini", "entropy"], prior=[0.9, 0.1]),
        "max_features": [None, 1, 1.0, "sqrt", np.float64(0.5)],
        "class_weight": [None, {0: 1, 1: 1, 2: 2}],
    }
    search = SearchCV(
        TREE, space, scheduler=twelve, cv=2, random_state=0, journal=tmp_path / "run.jsonl"
    )
    record, read = read_search(search.fit(X, y)), read_search(tmp_path / "run.jsonl")
    for own, other in zip(record.space.dimensions, read.space.dimensions, strict=True):
        assert (own.name, own.kind) == (other.name, other.kind)
        if own.name != "class_weight":  # whose choices a journal has as text, once they were seen
            assert own.n_levels == other.n_levels
    same(record, read)
    u = np.random.default_rng(0).random((50, record.space.n_dims))
    for own, other in zip(record.space.from_units(u), read.space.from_units(u), strict=True):
        own.pop("class_weight"), other.pop("class_weight")
        assert own == other


def test_a_journal_that_is_being_written_is_read_up_to_its_last_whole_line(hyperband, tmp_path):
    _, path = hyperband
    lines = path.read_bytes().splitlines(keepends=True)
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines[0])
    empty = read_search(path)
    assert (empty.n_rows, empty.metrics, empty.best_row()) == (0, ["score"], None)
    assert list(empty.rows()) == []
    with pytest.raises(
        ValueError, match="at least 5 rows with finite scores on all splits, but there are 0"
    ):
        empty.enough_rows(5, "this")
    path.write_bytes(b"".join(lines[:9]) + lines[9][:40])
    record = read_search(path)
    assert record.has_fit.sum() == 8
    assert record.is_finished.sum() == 1
    assert np.isnan(record.means()[1:]).all()
    assert record.best_row() == 0


def test_a_journal_of_another_version_is_refused(hyperband, tmp_path):
    _, path = hyperband
    first, rest = path.read_bytes().split(b"\n", 1)
    header = json.loads(first)
    other = tmp_path / "run.jsonl"
    other.write_bytes(json.dumps({**header, "skhpo": 99}).encode() + b"\n" + rest)
    with pytest.raises(JournalError, match="format 99, and this version"):
        read_search(other)


def test_failures_have_their_tracebacks(tmp_path):
    search = BayesSearchCV(
        GaussianNB(),
        {"var_smoothing": [1e-9, 1e-3, -1.0]},
        n_iter=3,
        cv=2,
        enqueue=(),
        journal=tmp_path / "run.jsonl",
        random_state=0,
    )
    with pytest.warns(FitFailedWarning):
        search.fit(X, y)
    record = read_search(tmp_path / "run.jsonl")
    [row] = np.flatnonzero(np.isnan(record.means()))
    assert record.params[row] == {"var_smoothing": -1.0}
    assert {(failure.row, failure.split) for failure in record.failures} == {(row, 0), (row, 1)}
    assert "var_smoothing" in record.failures[0].error
    assert list(record.rows()) == [i for i in range(3) if i != row]
    assert len(record.rows(finite=False)) == 3


def test_several_metrics(tmp_path):
    search = RandomizedSearchCV(
        TREE,
        {"max_depth": randint(1, 6)},
        n_iter=4,
        cv=2,
        random_state=0,
        scoring=["accuracy", "f1_macro"],
        refit="f1_macro",
    )
    record = read_search(search.fit(X, y))
    assert record.metric == "f1_macro"
    assert record.metrics == ["accuracy", "f1_macro"]
    np.testing.assert_allclose(record.means("accuracy"), search.cv_results_["mean_test_accuracy"])
    with pytest.raises(ValueError, match=r"one of \['f1_macro', 'accuracy'\], but got 'f1'"):
        record.means("f1")


def test_what_is_no_search_is_refused(tmp_path):
    search = GridSearchCV(TREE, {"max_depth": [1, 2]}, cv=2)
    with pytest.raises(NotFittedError, match="GridSearchCV is not fitted"):
        read_search(search)
    for other in (TREE, GridSearchCV, 3, None):
        with pytest.raises(TypeError, match="fitted search of skhpo or scikit-learn, the path"):
            read_search(other)
    search.fit(X, y)
    with pytest.raises(TypeError, match="give both"):
        read_search(search.cv_results_)
    with pytest.raises(ValueError, match=r"row 0 is not.*give the space that was searched"):
        read_search((search.cv_results_, {"max_depth": [5, 6]}))
    with pytest.raises(ValueError, match="mean_test_<metric>"):
        read_search(({"params": []}, {"max_depth": [5, 6]}))
    with pytest.raises(JournalError, match="No such file"):
        read_search(tmp_path / "missing.jsonl")
    (tmp_path / "other").write_text("text")
    with pytest.raises(JournalError, match="no journal"):
        read_search(os.fspath(tmp_path / "other"))


def test_levels_and_parameters_that_are_not_there(hyperband):
    _, path = hyperband
    record = read_search(path)
    assert record.levels == [1, 3, 9]
    with pytest.raises(ValueError, match=r"one of the levels \[1, 3, 9\] of max_iter, but got 5"):
        record.rows(resource=5)
    with pytest.raises(ValueError, match=r"one of \['alpha', .*\], but got 'alhpa'"):
        record.checked_names("alhpa")
    n = len(record.rows(resource=1))
    assert n > len(record.rows())
    with pytest.raises(ValueError, match=f"with max_iter=9; ask for a level .*resource=1 has {n}"):
        record.enough_rows(n, "this")
