"""Predictions of fits for the rows that they had not seen: kept, and right or refused."""

import copy
import gc
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config
from optuna.distributions import FloatDistribution
from scipy import sparse
from scipy.stats import uniform
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    ShuffleSplit,
    TimeSeriesSplit,
    cross_val_predict,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from skopt.space import Categorical

from skhpo import (
    BayesSearchCV,
    HalvingHyperbandSearchCV,
    HarmonicaSearchCV,
    SearchCV,
    SelfTuningSearchCV,
    TorchClassifier,
    TorchRegressor,
    ordered,
)
from skhpo.model_selection import _kept
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X, y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X).astype(np.float32)
NAMES = np.array(["setosa", "versicolor", "virginica"])[y]
FEATURE = X[:, 0].astype(float)
MIXED = KFold(3, shuffle=True, random_state=0)
MULTI_X, MULTI_Y = make_multilabel_classification(80, 5, n_classes=3, random_state=0)


def grid(space, random_state):
    return FullScheduler(GridSampler(space), space.size)


def kept(estimator, space=None, X=X, y=y, **kwargs):
    """Return a fitted search of one candidate, or of those of a space."""
    kwargs = {"scheduler": grid, "cv": MIXED, "return_predictions": True, **kwargs}
    groups = {"groups": kwargs.pop("groups")} if "groups" in kwargs else {}
    if space is None:
        name, value = next(iter(estimator.get_params().items()))
        space = {name: [value]}
    return SearchCV(estimator, space, **kwargs).fit(X, y, **groups)


@pytest.mark.parametrize(
    ("estimator", "method", "X", "y"),
    [
        (LogisticRegression(), "predict_proba", X, NAMES),
        (make_pipeline(StandardScaler(), SVC()), "decision_function", X, NAMES),
        (SVC(decision_function_shape="ovo"), "decision_function", X, y),
        (SVC(), "decision_function", X[:100], NAMES[:100]),
        (SGDClassifier(random_state=0), "decision_function", sparse.csr_matrix(X), y),
        (Ridge(), "predict", X, X[:, 0] ** 2),
        (Ridge(), "predict", X, X[:, :2] ** 2),
        (TransformedTargetRegressor(Ridge(), func=np.exp, inverse_func=np.log), "predict", X, y),
        (LogisticRegression(), "predict_proba", pd.DataFrame(X), pd.Series(NAMES)),
        (OneVsRestClassifier(LogisticRegression()), "predict_proba", MULTI_X, MULTI_Y),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_they_are_those_of_cross_val_predict(estimator, method, X, y):
    search = kept(estimator, X=X, y=y)
    expected = cross_val_predict(estimator, X, y, cv=MIXED, method=method)
    found = search.out_of_fold_predictions()
    assert search.predictions_.method == method
    assert found.shape == (1, *expected.shape)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)


def test_of_several_labels_those_of_a_forest_are_the_probabilities_of_1():
    forest = RandomForestClassifier(5, random_state=0)
    search = kept(forest, X=MULTI_X, y=MULTI_Y)
    expected = cross_val_predict(forest, MULTI_X, MULTI_Y, cv=MIXED, method="predict_proba")
    np.testing.assert_allclose(
        search.out_of_fold_predictions()[0], np.transpose([p[:, 1] for p in expected]), rtol=1e-5
    )


def test_several_outputs_with_several_classes_are_side_by_side():
    targets = np.column_stack([y, y == 1])
    forest = RandomForestClassifier(5, random_state=0)
    with pytest.warns(UserWarning, match="scores are non-finite|Scoring failed"):
        kept(forest, X=X, y=targets, scoring="roc_auc", refit=False)
    search = kept(forest, X=X, y=targets, scoring=lambda est, X, y: 0.0)
    expected = cross_val_predict(forest, X, targets, cv=MIXED, method="predict_proba")
    np.testing.assert_allclose(search.out_of_fold_predictions()[0], np.hstack(expected), rtol=1e-5)
    assert [list(labels) for labels in search.predictions_.classes] == [[0, 1, 2], [0, 1]]


def test_predicted_labels_are_votes():
    search = kept(LogisticRegression(), y=NAMES, return_predictions="predict")
    votes = search.out_of_fold_predictions()[0]
    labels = search.classes_[votes.argmax(axis=1)]
    assert (labels == cross_val_predict(LogisticRegression(), X, NAMES, cv=MIXED)).all()
    assert set(np.unique(votes)) == {0, 1}


def test_a_class_that_a_fold_lacks_has_probability_0():
    with pytest.warns(UserWarning, match=r"split 0 lacks .*of 3 such splits the first") as told:
        search = kept(LogisticRegression(), y=NAMES, cv=KFold(3))
    assert len(told) == 1
    found = search.out_of_fold_predictions()[0]
    assert (found[np.arange(150), y] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_a_decision_function_without_a_class_is_refused():
    with (
        pytest.warns(UserWarning, match="lacks the classes"),
        pytest.raises(ValueError, match=r"training part of split 0 lacks \['setosa'\]"),
    ):
        kept(SVC(), y=NAMES, cv=KFold(3))


def test_rows_that_several_splits_test_are_averaged_and_others_are_nan():
    cv = ShuffleSplit(4, test_size=0.3, random_state=0)
    search = kept(Ridge(), y=X[:, 0] ** 2, cv=cv)
    total, count = np.zeros(150), np.zeros(150)
    for train, test in cv.split(X):
        total[test] += Ridge().fit(X[train], X[train, 0] ** 2).predict(X[test])
        count[test] += 1
    assert {0, 1, 2} <= set(count)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(search.out_of_fold_predictions()[0], total / count, rtol=1e-5)


@pytest.mark.parametrize("cv", [TimeSeriesSplit(3), ShuffleSplit(1, random_state=0)])
def test_what_no_split_tests_is_nan(cv):
    search = kept(Ridge(), y=X[:, 0], cv=cv)
    tested = np.unique(np.concatenate([test for _, test in cv.split(X)]))
    there = ~np.isnan(search.out_of_fold_predictions()[0])
    assert np.array_equal(np.flatnonzero(there), tested)


def test_groups_are_split_as_ever():
    groups = np.arange(150) % 7
    search = kept(Ridge(), y=X[:, 0] ** 2, cv=GroupKFold(3), groups=groups)
    expected = cross_val_predict(Ridge(), X, X[:, 0] ** 2, cv=GroupKFold(3), groups=groups)
    np.testing.assert_allclose(search.out_of_fold_predictions()[0], expected, rtol=1e-5)


@pytest.mark.parametrize("target", [1e9 + y + FEATURE, 1e300 * FEATURE, 2000 + 10 * FEATURE])
def test_targets_are_as_precise_as_they_must_be(target):
    wide, scale = X.astype(float), np.abs(target).max()
    expected = cross_val_predict(Ridge(), wide, target, cv=MIXED) / scale
    search = kept(Ridge(), X=wide, y=target, scoring=lambda *_: 0.0)
    found = search.out_of_fold_predictions()[0] / scale
    assert np.abs(found - expected).max() < 1e-5 * expected.std()


class Odd(RegressorMixin, BaseEstimator):
    """Predicts what it is told to."""

    def __init__(self, answer="number"):
        self.answer = answer

    def fit(self, X, y):
        return self

    def predict(self, X):
        n = len(X)
        answers = {"number": 1.0, "infinite": np.inf, "nan": np.nan, "text": "one"}
        if self.answer == "fewer":
            return np.ones(n - 1)
        if self.answer == "raises":
            raise RuntimeError("no prediction")
        return np.full(n, answers[self.answer])

    def score(self, X, y):
        return 0.5


@pytest.mark.parametrize("answer", ["infinite", "nan", "text", "fewer", "raises"])
def test_what_cannot_be_kept_costs_the_predictions_not_the_fit(answer):
    with pytest.warns(UserWarning, match="predictions of 3 of 6 fits are not kept"):
        search = kept(Odd(), {"answer": ["number", answer]}, y=X[:, 0])
    assert search.cv_results_["mean_test_score"].tolist() == [0.5, 0.5]
    assert search.predictions_.rows == [0]
    assert (search.out_of_fold_predictions(0) == 1).all()
    with pytest.raises(ValueError, match="row 1 are not kept: 3 of its 3 fits have none"):
        search.out_of_fold_predictions(1)


def test_it_is_raised_where_errors_are():
    with pytest.raises(ValueError, match="must be finite, but 50 of the 50"):
        kept(Odd("nan"), y=X[:, 0], error_score="raise")


class Counting(ClassifierMixin, BaseEstimator):
    """Counts how often its probabilities are asked for."""

    asked = 0

    def __init__(self, a=1):
        self.a = a

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        type(self).asked += 1
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


@pytest.mark.parametrize("scoring", ["neg_log_loss", "accuracy", ["neg_log_loss", "roc_auc_ovr"]])
def test_what_a_scorer_asked_for_is_not_computed_again(scoring):
    Counting.asked = 0
    search = kept(Counting(), scoring=scoring, refit=False)
    assert Counting.asked == 3
    assert not np.isnan(search.out_of_fold_predictions(0)).any()
    Counting.asked = 0
    kept(Counting(), scoring=lambda est, X, y: 0.0, refit=False)
    assert Counting.asked == 3


class Module(torch.nn.Module):
    passes = 0

    def __init__(self, in_features, out_features, width=4):
        super().__init__()
        self.layer = torch.nn.Linear(in_features, out_features)

    def forward(self, X):
        type(self).passes += not torch.is_grad_enabled()
        return self.layer(X)


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss", None])
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_a_network_passes_the_test_part_once(scoring, in_pipeline):
    net = TorchClassifier(Module, max_epochs=1, random_state=0)
    name = "lr"
    if in_pipeline:
        net, name = make_pipeline(StandardScaler(), net), "torchclassifier__lr"

    def passes(**kwargs):
        Module.passes = 0
        kept(net, {name: [0.1]}, scoring=scoring, refit=False, lockstep=False, **kwargs)
        return Module.passes

    assert passes() == passes(return_predictions=False)


def test_of_several_inputs_they_are_kept_too():
    class Two(torch.nn.Module):
        def __init__(self, out_features=3):
            super().__init__()
            self.layer = torch.nn.Linear(4, out_features)

        def forward(self, a, b):
            return self.layer(torch.cat([a, b], 1))

    net = TorchClassifier(Two, max_epochs=1, random_state=0)
    parts = {"a": X[:, :2], "b": X[:, 2:]}
    search = kept(net, {"lr": [0.1, 0.2]}, X=parts, refit=False)
    found = search.out_of_fold_predictions(0)
    assert found.shape == (1, 150, 3)
    np.testing.assert_allclose(found.sum(axis=2), 1, rtol=1e-5)


SEARCHES = {
    "serial": {},
    "lockstep": {"lockstep": True},
    "processes": {"n_jobs": 2},
    "threads": {"n_jobs": 2},
    "asynchronous": {"n_jobs": 2, "asynchronous": True},
}


@pytest.mark.parametrize("how", SEARCHES)
@pytest.mark.parametrize("scoring", [None, "neg_log_loss"])
def test_wherever_fits_run_they_are_the_same(how, scoring):
    def search(**kwargs):
        return HalvingHyperbandSearchCV(
            make_pipeline(StandardScaler(), TorchClassifier(module__n_units=4, batch_size=32)),
            {"torchclassifier__lr": [0.3, 0.03]},
            resource="torchclassifier__max_epochs",
            max_resources=3,
            n_brackets=1,
            n_repeats=2,
            scoring=scoring,
            random_state=0,
            cv=2,
            return_predictions=True,
            **{"lockstep": False, **kwargs},
        ).fit(X, NAMES)

    expected = search()
    with parallel_config("threading" if how == "threads" else "loky"):
        found = search(**SEARCHES[how])
    row = expected.predictions_.rows[-1]
    assert found.predictions_.rows == expected.predictions_.rows
    np.testing.assert_allclose(
        found.out_of_fold_predictions(row), expected.out_of_fold_predictions(row), atol=1e-4
    )
    labels = found.classes_[found.out_of_fold_predictions(row)[1].argmax(axis=1)]
    scores = found.cv_results_
    if scoring is None:
        tests = found.predictions_.test_rows
        for split, test in enumerate(tests):
            score = np.mean(labels[test] == NAMES[test])
            assert scores[f"split{split}_repeat1_test_score"][row] == pytest.approx(score)


def test_scores_of_repeats_have_columns():
    search = kept(
        TorchClassifier(max_epochs=1), {"lr": [0.1]}, n_repeats=3, return_train_score=True
    )
    table = search.cv_results_
    for part in ("test", "train"):
        each = [table[f"split1_repeat{i}_{part}_score"][0] for i in range(3)]
        assert table[f"split1_{part}_score"][0] == pytest.approx(np.mean(each))
    assert not any("repeat" in name for name in kept(Ridge(), y=X[:, 0]).cv_results_)


class BestAt:
    """A scorer whose best score is at some number of trees."""

    def __init__(self, n):
        self.n = n

    def __call__(self, estimator, X, y):
        return -abs(estimator.n_estimators - self.n) - estimator.max_depth


def forests(best_at, **kwargs):
    return HalvingHyperbandSearchCV(
        RandomForestClassifier(),
        {"max_depth": [1, 2, 3]},
        resource="n_estimators",
        min_resources=1,
        max_resources=9,
        factor=3,
        n_brackets=1,
        cv=2,
        random_state=0,
        scoring=BestAt(best_at),
        return_predictions=True,
        **kwargs,
    ).fit(X, y)


@pytest.mark.parametrize("best_at", [9, 3, 1])
def test_rows_with_the_largest_resource_and_the_best_one_are_kept(best_at):
    search = forests(best_at)
    levels = search.cv_results_["n_resources"]
    expected = {*np.flatnonzero(levels == 9), search.best_index_}
    assert set(search.predictions_.rows) == expected
    assert search.out_of_fold_predictions().shape == (1, 150, 3)
    (other,) = set(np.flatnonzero(levels == 1)[:1]) - expected or {None}
    if other is not None:
        with pytest.raises(ValueError, match="set keep_from=1"):
            search.out_of_fold_predictions(other)


def test_rows_that_are_confirmed_are_kept():
    search = forests(1, confirm=2)
    assert not np.isnan(search.cv_results_["confirm_mean_test_score"]).all()
    assert search.best_index_ in search.predictions_.rows
    confirmed = ~np.isnan(search.cv_results_["confirm_mean_test_score"])
    assert set(np.flatnonzero(confirmed)) <= set(search.predictions_.rows)


def test_from_a_resource_on_all_are_kept():
    search = forests(9, keep_from=3)
    levels = search.cv_results_["n_resources"]
    assert search.predictions_.rows == np.flatnonzero(levels >= 3).tolist()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"keep_from": 10}, "got keep_from=10, and its largest is 9"),
        ({"return_predictions": "decision_function"}, "has no decision_function; it has"),
        ({"return_predictions": "transform"}, "return_predictions"),
        ({"return_predictions": False, "keep_from": 3}, "return_predictions=False"),
    ],
)
def test_wrong_arguments_are_refused_before_any_training(kwargs, message):
    search = HalvingHyperbandSearchCV(
        RandomForestClassifier(),
        {"max_depth": [1, 2]},
        resource="n_estimators",
        max_resources=9,
        **{"return_predictions": True, **kwargs},
    )
    with pytest.raises(ValueError, match=message):
        search.fit(X, y)


def test_there_is_no_level_where_there_is_no_resource():
    with pytest.raises(ValueError, match="got keep_from=1, and there is none"):
        kept(Ridge(), y=X[:, 0], keep_from=1)


def test_the_method_is_one_that_all_candidates_have():
    space = {"loss": ["log_loss", "hinge"]}
    assert kept(SGDClassifier(), space).predictions_.method == "decision_function"
    space = {"loss": ["log_loss", "modified_huber"]}
    assert kept(SGDClassifier(), space).predictions_.method == "predict_proba"
    pipeline = make_pipeline(StandardScaler(), "passthrough")
    space = {"passthrough": [DecisionTreeClassifier(), LogisticRegression()]}
    search = SearchCV(
        pipeline, space, scheduler=grid, return_predictions="predict", cv=2, scoring="accuracy"
    )
    assert not np.isnan(search.fit(X, X[:, 0] > 0).out_of_fold_predictions()).any()


@pytest.mark.parametrize(
    "values",
    [
        [0.1, 1.0],
        (0.1, 1.0),
        np.array([0.1, 1.0]),
        ordered([0.1, 1.0]),
        uniform(0.1, 1.0),
        Categorical([0.1, 1.0], prior=[0.2, 0.8]),
        FloatDistribution(0.1, 1.1, step=1.0),
    ],
    ids=lambda values: type(values).__name__,
)
def test_whatever_values_a_space_has_they_are_kept(values):
    search = BayesSearchCV(
        LogisticRegression(), {"C": values}, n_iter=2, confirm=2, keep_models=1, cv=MIXED
    ).set_params(return_predictions=True, random_state=0)
    search.fit(X, y)
    assert search.predictions_.method == "predict_proba"
    assert not np.isnan(search.out_of_fold_predictions()).any()


def test_a_candidate_without_the_method_lacks_predictions():
    space = {"loss": ["log_loss", "hinge"]}
    with pytest.warns(UserWarning, match="3 of 6 fits are not kept"):
        search = kept(SGDClassifier(), space, return_predictions="predict_proba")
    assert search.predictions_.rows == [0]


def test_what_was_not_kept_says_what_to_set():
    search = SearchCV(Ridge(), {"alpha": [1]}, scheduler=grid)
    with pytest.raises(NotFittedError):
        search.out_of_fold_predictions()
    search.fit(X, X[:, 0])
    with pytest.raises(ValueError, match="set return_predictions=True"):
        search.out_of_fold_predictions()


@pytest.mark.parametrize("row", [-1, 2, 0.0, True, "best"])
def test_a_row_is_one_of_the_table(row):
    search = kept(Ridge(), {"alpha": [1, 2]}, y=X[:, 0])
    with pytest.raises(ValueError, match="row must be an integer from 0 to 1"):
        search.out_of_fold_predictions(row)


def test_without_a_best_row_one_must_be_named():
    search = kept(Ridge(), y=X[:, 0], scoring=["r2", "neg_max_error"], refit=False)
    with pytest.raises(ValueError, match="give a row from 0 to 0"):
        search.out_of_fold_predictions()


def test_a_fit_that_failed_is_said_by_name():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search = kept(Ridge(), {"alpha": [1, -1]}, y=X[:, 0])
    assert search.predictions_.rows == [0]
    with pytest.raises(ValueError, match=r"row 1 are not kept: 3 of its 3 fits(.|\n)*alpha"):
        search.out_of_fold_predictions(1)


@pytest.mark.parametrize("limit", [0, 2**28])
def test_they_go_with_pickles_and_copies(monkeypatch, limit):
    monkeypatch.setattr(_kept, "_MOST_IN_MEMORY", limit)
    search = kept(LogisticRegression(), {"C": [0.1, 1]})
    expected = search.out_of_fold_predictions(1)
    for other in (pickle.loads(pickle.dumps(search)), copy.deepcopy(search)):
        assert np.array_equal(other.out_of_fold_predictions(1), expected)


def test_beyond_a_limit_they_lie_in_files_that_go_with_the_search(monkeypatch, tmp_path):
    monkeypatch.setattr(_kept, "_MOST_IN_MEMORY", 4 * 50 * 3 * 2)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    search = kept(LogisticRegression(), {"C": [0.1, 1]})
    (path,) = tmp_path.rglob("predictions-*.bin")
    assert path.read_bytes().count(b"skhpo predictions ") == 4
    expected = cross_val_predict(LogisticRegression(C=0.1), X, y, cv=MIXED, method="predict_proba")
    np.testing.assert_allclose(search.out_of_fold_predictions(0)[0], expected, rtol=1e-5)
    del search
    gc.collect()
    assert not path.exists()


def test_a_search_without_them_has_no_file_and_no_attribute(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    search = kept(Ridge(), y=X[:, 0]).set_params(return_predictions=False).fit(X, X[:, 0])
    assert not hasattr(search, "predictions_")
    assert not list(Path(tmp_path).rglob("skhpo-kept*"))


@pytest.mark.parametrize(
    "search",
    [
        BayesSearchCV(TorchRegressor(max_epochs=1), {"lr": [0.1, 0.01]}, n_iter=2),
        HarmonicaSearchCV(
            TorchRegressor(max_epochs=1),
            {"lr": [0.1, 0.01], "batch_size": [16, 32]},
            n_samples=4,
            n_stages=1,
            n_terms=1,
            n_iter=1,
            resource=None,
        ),
        SelfTuningSearchCV(
            TorchRegressor(max_epochs=2, optimizer="adam"),
            {"module__dropout": uniform(0, 0.5)},
        ),
    ],
    ids=lambda search: type(search).__name__,
)
def test_every_search_keeps_them(search):
    search.set_params(return_predictions=True, cv=2, random_state=0)
    search.fit(X, X[:, 1])
    assert search.predictions_.rows == list(range(len(search.cv_results_["params"])))
    found = search.out_of_fold_predictions()
    assert found.shape == (1, 150)
    assert not np.isnan(found).any()
