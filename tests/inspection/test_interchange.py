"""Tables for pandas, studies for Optuna."""

import logging
import os
import socket
import sys

import numpy as np
import pytest
from scipy.stats import loguniform, norm, randint, uniform
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

from skhpo import HalvingHyperbandSearchCV, SearchCV, log_randint
from skhpo.inspection import read_search, to_optuna, to_pandas
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

optuna = pytest.importorskip("optuna", reason="the extra optuna is not installed")
X, y = load_iris(return_X_y=True)


@pytest.fixture(autouse=True)
def _quiet_optuna():
    optuna.logging.set_verbosity(logging.WARNING)


@pytest.fixture(scope="module")
def hyperband(tmp_path_factory):
    path = tmp_path_factory.mktemp("hyperband") / "run.jsonl"
    search = HalvingHyperbandSearchCV(
        SGDClassifier(),
        [
            {"alpha": loguniform(1e-5, 1), "loss": ["hinge", "log_loss"]},
            {"penalty": ["l1", None], "alpha": loguniform(1e-3, 1e-1)},
        ],
        resource="max_iter",
        max_resources=9,
        cv=3,
        n_repeats=2,
        journal=path,
        random_state=0,
    )
    return search.fit(X, y), path


def test_a_table_has_a_row_for_each_fit(hyperband):
    search, path = hyperband
    frame = to_pandas(path)
    table = search.cv_results_
    n_rows = len(table["params"])
    assert len(frame) == n_rows * 3 * 2
    by_row = frame.groupby("row")
    np.testing.assert_allclose(by_row["score"].mean(), table["mean_test_score"])
    np.testing.assert_allclose(by_row["fit_time"].mean(), table["mean_fit_time"])
    np.testing.assert_array_equal(frame["start"], search.timing_["start"].ravel())
    assert set(frame["worker"]) == {f"{socket.gethostname()}:{os.getpid()}"}
    for ours, theirs in (("resource", "n_resources"), ("candidate", "candidate"), ("iter", "iter")):
        np.testing.assert_array_equal(by_row[ours].first(), table[theirs])
    assert frame["param_alpha"].dtype == float
    has_penalty = np.array(["penalty" in params for params in table["params"]])
    np.testing.assert_array_equal(by_row["param_loss"].first().notna(), ~has_penalty)
    of_search = to_pandas(search)
    assert len(of_search) == len(frame)
    np.testing.assert_allclose(of_search["score"], frame["score"])
    np.testing.assert_allclose(of_search.groupby("row")["score"].mean(), table["mean_test_score"])


def test_a_table_of_several_metrics_and_of_choices_that_are_sequences():
    search = GridSearchCV(
        DecisionTreeClassifier(random_state=0),
        {"class_weight": [{0: 1, 1: 1, 2: 2}, "balanced"], "max_depth": [None, 2]},
        scoring=["accuracy", "f1_macro"],
        refit=False,
        cv=2,
    )
    frame = to_pandas(search.fit(X, y))
    assert {"score_accuracy", "score_f1_macro"} < set(frame)
    assert frame["param_class_weight"][0] == {0: 1, 1: 1, 2: 2}
    assert frame["param_max_depth"].dropna().unique().tolist() == [2]


def test_a_study_has_the_candidates(hyperband):
    search, path = hyperband
    study = to_optuna(path, study_name="ours")
    record = read_search(path)
    assert study.study_name == "ours"
    assert len(study.trials) == len(np.unique(record.candidates))
    largest = record.levels[-1]
    complete = {optuna.trial.TrialState.COMPLETE}
    reached = set(record.candidates[record.resources == largest])
    assert {t.user_attrs["candidate"] for t in study.get_trials(states=complete)} == reached
    best = record.rows()[np.argmax(record.means()[record.rows()])]
    assert study.best_value == record.means()[best]
    assert study.best_params == record.params[best]
    for trial in study.trials:
        rows = trial.user_attrs["rows"]
        found = {int(record.resources[row]): record.means()[row] for row in rows}
        assert trial.intermediate_values == found
        seconds = np.sum(record.fit_seconds[rows] + record.score_seconds[rows])
        assert trial.duration.total_seconds() == pytest.approx(seconds, abs=1e-5)
        assert trial.datetime_start.timestamp() == pytest.approx(
            record.starts[rows].min(), abs=1e-4
        )
    alpha = study.trials[0].distributions["alpha"]
    assert (alpha.low, alpha.high, alpha.log) == (1e-5, 1.0, True)
    assert len(to_optuna(search).trials) == len(study.trials)


def test_distributions_and_what_optuna_makes_of_them(tmp_path):
    space = {
        "max_depth": randint(1, 6),
        "min_samples_leaf": log_randint(1, 21),
        "min_impurity_decrease": uniform(0, 0.01),
        "ccp_alpha": [0.0, 0.001, 0.01],
        "criterion": ["gini", "entropy"],
        "class_weight": [None, {0: 1, 1: 1, 2: 2}],
    }

    def fifteen(space, random_state):
        return FullScheduler(RandomSampler(space, random_state), n_candidates=15)

    search = SearchCV(
        DecisionTreeClassifier(random_state=0), space, scheduler=fifteen, cv=2, random_state=0
    ).fit(X, y)
    study = to_optuna(search, storage=f"sqlite:///{tmp_path / 'run.db'}")
    kinds = optuna.distributions
    assert study.trials[0].distributions == {
        "max_depth": kinds.IntDistribution(1, 5),
        "min_samples_leaf": kinds.IntDistribution(1, 20, log=True),
        "min_impurity_decrease": kinds.FloatDistribution(0.0, 0.01),
        "ccp_alpha": kinds.CategoricalDistribution([0.0, 0.001, 0.01]),
        "criterion": kinds.CategoricalDistribution(["gini", "entropy"]),
        "class_weight": kinds.CategoricalDistribution([None, "{0: 1, 1: 1, 2: 2}"]),
    }
    importances = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
    )
    assert importances.keys() == space.keys()
    with pytest.raises(ValueError, match="metric must be one of"):
        to_optuna(search, metric="f1")


def test_a_study_of_several_objectives_has_their_front():
    search = HalvingHyperbandSearchCV(
        DecisionTreeClassifier(random_state=0),
        {"max_leaf_nodes": randint(2, 30), "min_samples_leaf": randint(1, 40)},
        resource="max_depth",
        max_resources=3,
        sampler="random",
        scoring=["accuracy", "neg_n_parameters"],
        objectives=["accuracy", "neg_n_parameters"],
        constraints={"accuracy": (0.9, None)},
        refit="accuracy",
        cv=2,
        random_state=0,
    ).fit(X, y)
    study = to_optuna(search)
    assert study.directions == [optuna.study.StudyDirection.MAXIMIZE] * 2
    assert study.metric_names == ["accuracy", "neg_n_parameters"]
    table = search.cv_results_
    last = [trial.user_attrs["rows"][-1] for trial in study.trials]
    for row, trial in zip(last, study.trials, strict=True):
        assert trial.values == [table[f"mean_test_{name}"][row] for name in study.metric_names]
    best = {trial.user_attrs["candidate"] for trial in study.best_trials}
    front = set(table["candidate"][[row for row in search.pareto_front_ if row in last]].tolist())
    assert front <= best < {trial.user_attrs["candidate"] for trial in study.trials}
    assert all(trial.values[0] >= 0.9 for trial in study.best_trials)
    one = to_optuna(search, metric="accuracy")
    assert one.best_value == table["mean_test_accuracy"][table["n_resources"] == 3].max()
    assert to_optuna(search, metric=["neg_n_parameters", "accuracy"]).metric_names[1] == "accuracy"


def test_failures_and_endless_ranges():
    def eight(space, random_state):
        return FullScheduler(RandomSampler(space, random_state), n_candidates=8)

    search = SearchCV(SGDClassifier(), {"alpha": norm(0, 1)}, scheduler=eight, cv=2, random_state=0)
    with pytest.warns(FitFailedWarning):
        search.fit(X, y)
    study = to_optuna(search)
    failed = [params["alpha"] < 0 for params in search.cv_results_["params"]]
    assert [trial.state == optuna.trial.TrialState.FAIL for trial in study.trials] == failed
    assert any(failed)
    assert not all(failed)


@pytest.mark.parametrize(("function", "package"), [(to_pandas, "pandas"), (to_optuna, "optuna")])
def test_a_missing_package_is_named(function, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"needs .* skhpo\["):
        function(({}, {}))
