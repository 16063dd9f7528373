"""Hyperband scores averages of weights unless it is told otherwise, and says so in `params`."""

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import (
    BayesSearchCV,
    HalvingHyperbandSearchCV,
    SelfTuningClassifier,
    TorchClassifier,
    read_journal,
)
from skhpo.inspection import read_search

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)
NET = TorchClassifier(module__n_units=4, batch_size=50)
SPACE = {"lr": loguniform(1e-3, 1e-1)}
SMALL = {"max_resources": 3, "cv": 2, "random_state": 0}


def searched(estimator=NET, space=SPACE, **kwargs):
    return HalvingHyperbandSearchCV(estimator, space, **{**SMALL, **kwargs}).fit(X, y)


def averages(search):
    return {params.get("average") for params in search.cv_results_["params"]}


def assert_same_fits(one, other):
    for column in ("mean_test_score", "n_resources", "param_lr"):
        np.testing.assert_array_equal(one.cv_results_[column], other.cv_results_[column])
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


def test_it_is_that_of_an_estimator_with_averages():
    search = searched()
    own = searched(clone(NET).set_params(average="ema"))
    assert_same_fits(search, own)
    assert averages(search) == {"ema"}
    assert averages(own) == {None}
    assert NET.average is None
    without = searched(average=None)
    assert averages(without) == {None}
    assert without.best_estimator_.average is None
    # The same candidates, with other scores.
    np.testing.assert_array_equal(search.cv_results_["param_lr"], without.cv_results_["param_lr"])
    assert (search.cv_results_["mean_test_score"] != without.cv_results_["mean_test_score"]).any()


def test_what_was_best_can_be_fitted_again_from_its_parameters():
    search = searched(clone(NET).set_params(random_state=1))
    again = clone(search.estimator).set_params(**search.best_params_).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), search.predict_proba(X))
    top = search.top_estimators(2)
    assert {net.average for net in top} == {"ema"}
    assert set(search.cv_results_["param_average"]) == {"ema"}


def test_what_an_estimator_or_a_space_says_stays():
    assert searched(clone(NET).set_params(average="swa")).best_estimator_.average == "swa"
    assert averages(searched(space={**SPACE, "average": [None]})) == {None}
    assert averages(searched(clone(NET).set_params(lr_scheduler="cosine"))) == {None}
    assert averages(searched(space={**SPACE, "lr_scheduler": [None, "cosine"]})) == {None}
    rows = searched(clone(NET).set_params(max_epochs=2), resource="n_samples", max_resources="auto")
    assert averages(rows) == {None}
    conditional = searched(space=[SPACE, {"lr": [0.1], "average": [None]}])
    assert averages(conditional) == {None}


def test_inside_of_a_pipeline_and_of_nothing_else():
    pipeline = make_pipeline(StandardScaler(), NET)
    search = searched(pipeline, {"torchclassifier__lr": SPACE["lr"]})
    assert search.best_params_["torchclassifier__average"] == "ema"
    # A step that is searched may be an estimator of any kind.
    steps = {"torchclassifier": [NET, clone(NET).set_params(lr=0.1)]}
    assert all(len(params) == 2 for params in searched(pipeline, steps).cv_results_["params"])
    steps = {"steps": [pipeline.steps, make_pipeline(NET).steps]}
    assert all(len(params) == 2 for params in searched(pipeline, steps).cv_results_["params"])
    of_others = searched(SGDClassifier(), {"alpha": SPACE["lr"]}, resource="max_iter")
    assert of_others.best_params_.keys() == {"alpha", "max_iter"}
    tuning = SelfTuningClassifier(
        module__n_units=4,
        batch_size=50,
        warmup_epochs=0,
        hyperparameters={"weight_decay": loguniform(1e-4, 1e-1)},
    )
    assert searched(tuning, {"batch_size": [25, 50]}).best_params_.keys() == {
        *("batch_size", "max_epochs")
    }


def test_journals_and_records_know_it(tmp_path):
    search = searched(journal=tmp_path / "run.jsonl")
    table = read_journal(tmp_path / "run.jsonl")
    assert table["params"] == search.cv_results_["params"]
    for source in (search, tmp_path / "run.jsonl", (search.cv_results_, SPACE)):
        record = read_search(source)
        assert record.fixed == {"average": "ema"}
        assert record.resource == "max_epochs"
        assert set(record.params[0]) == {"lr"}
    others = {name: search.cv_results_[name] for name in search.cv_results_ if name != "candidate"}
    with pytest.raises(ValueError, match=r"average.*give the space"):
        read_search((others, SPACE))
    with pytest.raises(ValueError, match=r"estimator.*average"):
        searched(journal=tmp_path / "run.jsonl", average=None)
    of_others = {"space": {"alpha": SPACE["lr"]}, "resource": "max_iter"}
    for average in ("ema", None):  # which changes nothing there
        searched(SGDClassifier(), journal=tmp_path / "sgd.jsonl", average=average, **of_others)
    assert_same_fits(searched(journal=tmp_path / "run.jsonl"), search)


def test_other_searches_take_what_it_found(tmp_path):
    path = tmp_path / "run.jsonl"
    best = searched(journal=path).best_params_
    search = BayesSearchCV(
        clone(NET).set_params(max_epochs=2),
        SPACE,
        n_iter=2,
        enqueue=[best],
        warm_start_from=path,
        cv=2,
        random_state=0,
        refit=False,
    ).fit(X, y)
    assert search.cv_results_["params"][0] == {"lr": best["lr"]}
    again = searched(enqueue=[best], warm_start_from=path, sampler="bayes")
    assert best["lr"] in again.cv_results_["param_lr"]
