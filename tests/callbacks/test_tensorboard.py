"""The log of a search, read by TensorBoard's own HParams plugin."""

import inspect
import warnings

import numpy as np
import pytest
from scipy.stats import loguniform, norm
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDClassifier
from sklearn.tree import DecisionTreeClassifier

pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")

from dashboard import choices, interval, read
from logged import (
    Untrainable,
    X,
    all_of_them,
    assert_rows_are_the_table,
    four,
    search_of,
    y,
)

import skhpo
from skhpo import (
    HarmonicaSearchCV,
    SelfTuningSearchCV,
    TensorBoardLogger,
    TorchClassifier,
)
from skhpo.model_selection._base import BaseTrialSearchCV


def test_the_sessions_are_the_rows_of_cv_results(tmp_path):
    search = search_of(tmp_path, return_train_score=True).fit(X, y)
    log = read(tmp_path)
    assert log.metrics == ["mean_test_score", "mean_train_score", "mean_fit_time"]
    assert_rows_are_the_table(log, search)
    assert [row.status for row in log.rows] == ["SUCCESS"] * 4
    assert choices(log.hparams["max_depth"]) == [1, 2, 3, 4]
    assert all(row.seconds > 0 for row in log.rows)
    assert log.scalars["trial-0000"].keys() == {
        *log.metrics,
        *(f"{part}_score/split{i}" for part in ("test", "train") for i in (0, 1)),
    }


SEARCHES = [
    name
    for name in skhpo.__all__
    if isinstance(cls := getattr(skhpo, name), type)
    and issubclass(cls, BaseTrialSearchCV)
    and cls is not SelfTuningSearchCV  # it takes other estimators and spaces
]


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("torch", [True, False])
def test_every_search_class(tmp_path, name, torch):
    options = {
        "scheduler": four,
        "n_iter": 3,
        "n_stages": 1,
        "n_samples": 4,
        "n_terms": 1,
        "max_resources": 3,
        "resource": "max_epochs" if torch else "max_iter",
    }
    cls = getattr(skhpo, name)
    options = {k: v for k, v in options.items() if k in inspect.signature(cls).parameters}
    if name == "SearchCV":
        del options["resource"]
    model = TorchClassifier(max_epochs=2) if torch else SGDClassifier(max_iter=1)
    space = {
        "lr" if torch else "alpha": loguniform(1e-4, 1e-2),
        "batch_size" if torch else "penalty": [16, 32] if torch else ["l1", "l2"],
    }
    search = cls(
        model,
        space,
        cv=2,
        random_state=0,
        callbacks=[TensorBoardLogger(tmp_path)],
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(X, y)
    log = read(tmp_path)
    assert_rows_are_the_table(log, search, resource=getattr(search, "resource_", None))
    assert {row.status for row in log.rows} == {"SUCCESS"}
    assert set(log.hparams) == {*space, *({getattr(search, "resource_", None)} - {None})}
    curves = {tag for tags in log.scalars.values() for tag in tags if tag[:5] == "epoch"}
    assert bool(curves) == torch


def test_runs_of_self_tuning_networks(tmp_path):
    net = TorchClassifier(optimizer="adam", max_epochs=3)
    search = SelfTuningSearchCV(
        net,
        {"optimizer__weight_decay": loguniform(1e-6, 1)},
        n_iter=2,
        cv=2,
        random_state=0,
        callbacks=[TensorBoardLogger(tmp_path)],
    ).fit(X, y)
    log = read(tmp_path)
    assert_rows_are_the_table(log, search)
    tags = set(log.scalars["trial-0001"])
    assert {"epoch_hyperparameters/weight_decay/mean", "epoch_valid_loss/mean"} <= tags


def test_parameters_that_only_the_stages_of_a_search_have(tmp_path):
    search = HarmonicaSearchCV(
        DecisionTreeClassifier(),
        {"max_depth": [1, 2, 3, 4], "min_samples_leaf": [1, 2]},
        stage_params={"splitter": "random"},
        n_stages=1,
        n_samples=4,
        n_terms=1,
        n_iter=2,
        cv=2,
        random_state=0,
        callbacks=[TensorBoardLogger(tmp_path)],
    )
    search.fit(X, y)
    log = read(tmp_path)
    assert_rows_are_the_table(log, search)
    assert sum(row.params.get("splitter") == "random" for row in log.rows) == 4


def test_domains_and_types(tmp_path):
    space = [
        {
            "kernel": ["rbf"],
            "C": loguniform(1e-2, 10),
            "gamma": ["scale", 0.1, None],
            "shrinking": [True, False],
            "tol": norm(0, 1),
            "class_weight": [{0: 1, 1: 2}, None],
        },
        {"kernel": ["linear"], "C": [20, 30], "tol": [np.inf, 1.0]},
    ]
    with pytest.raises(ValueError, match="trained"):
        search_of(tmp_path, Untrainable(), space).fit(X, y)
    log = read(tmp_path)
    assert choices(log.hparams["kernel"]) == ["rbf", "linear"]
    assert interval(log.hparams["C"]) == (1e-2, 30)
    assert choices(log.hparams["gamma"]) == ["scale", "0.1", "None"]
    assert choices(log.hparams["shrinking"]) == [True, False]
    assert choices(log.hparams["class_weight"]) == ["{0: 1, 1: 2}", "None"]
    assert interval(log.hparams["tol"]) is None


def test_values_of_several_types_are_strings_in_sessions_too(tmp_path):
    space = {"max_depth": [1, None], "max_features": [0.5, "sqrt"], "ccp_alpha": norm(1, 1e-6)}
    search_of(tmp_path, space=space).fit(X, y)
    for row in read(tmp_path).rows:
        assert row.params["max_depth"] in {"1", "None"}
        assert row.params["max_features"] in {"0.5", "sqrt"}
        assert isinstance(row.params["ccp_alpha"], float)


def test_a_trial_with_a_failed_fit_is_a_failure(tmp_path):
    space = {"max_depth": [2, "nonsense"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search_of(tmp_path, space=space, scheduler=all_of_them).fit(X, y)
    good, bad = read(tmp_path).rows
    assert (good.params["max_depth"], good.status) == ("2", "SUCCESS")
    assert (bad.params["max_depth"], bad.status) == ("nonsense", "FAILURE")
    assert "mean_test_score" not in bad.metrics


def test_several_metrics_and_metrics_that_only_a_callable_knows(tmp_path):
    def both(estimator, X, y):
        return {"a": 0.25, "b": estimator.max_depth}

    search_of(tmp_path / "names", scoring=["accuracy", "f1"], refit="f1").fit(X, y)
    search_of(tmp_path / "callable", scoring=both, refit="a").fit(X, y)
    assert read(tmp_path / "names").metrics == [
        "mean_test_accuracy",
        "mean_test_f1",
        "mean_fit_time",
    ]
    log = read(tmp_path / "callable")
    assert log.metrics == ["mean_test_a", "mean_test_b", "mean_fit_time"]
    assert [row.metrics["mean_test_b"] for row in log.rows] == [
        row.params["max_depth"] for row in log.rows
    ]


def test_repeats_are_averaged_and_processes_write_the_same_log(tmp_path):
    model = TorchClassifier(max_epochs=2, batch_size=32)
    logs = []
    for n_jobs in (1, 2):
        folder = tmp_path / str(n_jobs)
        search = search_of(folder, model, {"lr": [0.01, 0.1, 1.0, 3.0]}, n_repeats=2, n_jobs=n_jobs)
        search.fit(X, y)
        logs.append(read(folder))
        assert_rows_are_the_table(logs[-1], search)
    for run, tags in logs[0].scalars.items():
        for tag in tags.keys() - {"mean_fit_time"}:
            assert logs[1].scalars[run][tag] == tags[tag]


def test_a_search_with_a_logger_can_be_cloned(tmp_path):
    search = clone(search_of(tmp_path)).fit(*load_iris(return_X_y=True))
    assert_rows_are_the_table(read(tmp_path), search)
