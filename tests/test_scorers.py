"""Scorers of cost, of the worst class and of groups."""

import time

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skhpo import TorchClassifier
from skhpo.scorers import (
    CalibrationError,
    Memory,
    PredictTime,
    _costs,
    get_scorer,
    get_scorer_names,
    make_group_scorer,
    n_parameters,
    resolved,
    worst_class_recall,
)


class Slow(ClassifierMixin, BaseEstimator):
    """Takes a given time, and memory, and notes how many rows it was asked for."""

    def __init__(self, seconds=0.0, n_bytes=0):
        self.seconds = seconds
        self.n_bytes = n_bytes

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.asked_ = []
        return self

    def predict(self, X):
        time.sleep(self.seconds)
        held = np.zeros(self.n_bytes, dtype=np.uint8)
        self.asked_.append(len(X) + 0 * len(held))
        return np.zeros(len(X), dtype=int)


X = np.arange(20.0)[:, None]
Y = np.arange(20) % 2


@pytest.mark.parametrize(
    ("name", "n_rows"), [("neg_predict_time", 1000), ("neg_predict_latency", 1)]
)
def test_time_is_of_a_stated_number_of_rows_repeated_and_per_row(name, n_rows):
    model = Slow(seconds=0.01).fit(X, Y)
    score = get_scorer(name)(model, X, Y)
    assert score <= -0.01 / n_rows
    assert set(model.asked_) == {n_rows}
    assert len(model.asked_) >= 3


def test_the_shortest_of_several_predictions_counts():
    class Sometimes(Slow):
        def predict(self, X):
            self.seconds = 0.0 if self.asked_ and not self.seconds else 0.02 * (not self.asked_)
            return super().predict(X)

    assert PredictTime(batch_size=10)(Sometimes().fit(X, Y), X) > -0.02 / 10


class Clocks:
    """Clocks of a thread whose calls last three seconds, one of them on a processor."""

    def __init__(self, waits, slower):
        self.waits, self.slower = waits, slower
        self.elapsed = self.used = self.n_waits = 0.0

    def call(self):
        self.elapsed += 3.0
        self.used += 1.0 * self.slower
        self.n_waits += self.waits

    def reference(self):
        return 0.25 * self.slower

    def install(self, monkeypatch):
        monkeypatch.setattr(_costs.time, "perf_counter", lambda: self.elapsed)
        monkeypatch.setattr(_costs.time, "thread_time", lambda: self.used)
        monkeypatch.setattr(_costs, "_n_waits", lambda: self.n_waits)
        monkeypatch.setattr(_costs, "_reference", self.reference)
        monkeypatch.setattr(_costs, "_best_reference", lambda best=[0.25]: best)


@pytest.mark.parametrize(
    ("waits", "slower", "seconds"),
    [
        pytest.param(0, 1.0, 1.0, id="processor time where others had the processor"),
        pytest.param(0, 1.5, 1.0, id="as fast as the reference at its best"),
        pytest.param(1, 1.0, 3.0, id="all of the time where the call waited by itself"),
    ],
)
def test_time_is_that_of_a_machine_without_other_work(monkeypatch, waits, slower, seconds):
    clocks = Clocks(waits, slower)
    with monkeypatch.context() as patch:
        clocks.install(patch)
        assert _costs.seconds_alone(clocks.call) == pytest.approx(seconds)


def test_memory_is_what_a_prediction_holds_at_its_peak():
    small, large = (Memory()(Slow(n_bytes=n).fit(X, Y), X) for n in (10**5, 10**6))
    assert -1.2e6 < large < -1e6 < -1.2e5 < small < -1e5


def test_memory_of_a_network_grows_with_its_layers(blobs):
    scores = []
    for n_units in (64, 128):
        net = TorchClassifier(module__n_units=n_units, max_epochs=1).fit(*blobs)
        scores.append(Memory()(net, blobs[0]))
        assert scores[-1] < -1000 * n_units * 4
    assert scores[1] < 1.5 * scores[0]


def test_parameters_are_counted_inside_of_wrappers(blobs):
    X, y = blobs
    net = make_pipeline(StandardScaler(), TorchClassifier(max_epochs=1, module__n_units=5))
    n_net = (8 + 1) * 5 + (5 + 1) * 3
    assert n_parameters(net.fit(X, y)) == n_net == -get_scorer("neg_n_parameters")(net, X, y)
    mlp = MLPClassifier((5,), max_iter=1, early_stopping=False)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        assert n_parameters(mlp.fit(X, y)) == n_net
    forest = RandomForestClassifier(3, random_state=0).fit(X, y)
    assert n_parameters(forest) == sum(tree.tree_.node_count for tree in forest.estimators_)
    with pytest.raises(TypeError, match="a SVC has none; give it an attribute n_parameters_"):
        n_parameters(SVC().fit(X, y))


def test_fit_time_is_known_in_a_search_only(blobs):
    with pytest.raises(ValueError, match="known while a search scores"):
        get_scorer("neg_fit_time")(LogisticRegression(max_iter=500).fit(*blobs), *blobs)


def test_worst_class_recall():
    assert worst_class_recall(["a", "a", "b", "b", "c"], ["a", "a", "b", "a", "c"]) == 0.5
    assert worst_class_recall([0, 0, 1], [0, 2, 1]) == 0.5
    assert worst_class_recall([[1, 0], [1, 1]], [[1, 1], [1, 0]]) == 0.0


class Sure(ClassifierMixin, BaseEstimator):
    def __init__(self, p):
        self.p = p
        self.classes_ = np.array(["a", "b"])

    def predict_proba(self, X):
        return np.tile([self.p, 1 - self.p], (len(X), 1))


def test_calibration_error_is_confidence_less_accuracy():
    y = np.array(["a"] * 7 + ["b"] * 3)
    for p in (0.5, 0.7, 0.99, 1.0):
        score = CalibrationError()(Sure(p), np.zeros((10, 1)), y)
        assert score == pytest.approx(-abs(p - 0.7))
    assert CalibrationError()(Sure(0.2), np.zeros((10, 1)), y) == pytest.approx(-0.5)


def test_bins_do_not_cancel_each_other():
    class Two(Sure):
        def predict_proba(self, X):
            return np.where(X > 0, [[0.9, 0.1]], [[0.6, 0.4]])

    X = np.array([[0.0], [0.0], [1.0], [1.0]])
    score = CalibrationError()(Two(0), X, np.array(["a", "a", "a", "b"]))
    assert score == pytest.approx(-(0.4 + 0.4) / 2)


def test_group_scorer_scores_groups_apart(blobs):
    X, y = blobs
    model = LogisticRegression(max_iter=500).fit(X, y)
    groups = np.where(X[:, 0] > 0, "high", "low")
    scores = [model.score(X[groups == g], y[groups == g]) for g in ("high", "low")]
    worst = make_group_scorer("accuracy", "side")
    gap = make_group_scorer("accuracy", "side", how="gap")
    assert worst(model, X, y, side=groups) == min(scores)
    assert gap(model, X, y, side=groups) == min(scores) - max(scores)
    with pytest.raises(ValueError, match="'side' was not passed; call sklearn"):
        worst(model, X, y)
    with pytest.raises(ValueError, match="a group for each of 150 rows, but has shape \\(3,\\)"):
        worst(model, X, y, side=[1, 2, 3])


def test_group_scorer_gets_its_groups_by_metadata_routing(blobs):
    X, y = blobs
    groups = (X[:, 0] > 0).astype(int)
    with config_context(enable_metadata_routing=True):
        scoring = {"accuracy": "accuracy", "worst": make_group_scorer("accuracy", "side")}
        search = GridSearchCV(
            LogisticRegression(max_iter=500), {"C": [1e-3, 1]}, scoring=scoring, refit="worst", cv=2
        ).fit(X, y, side=groups)
    table = search.cv_results_
    assert (table["mean_test_worst"] <= table["mean_test_accuracy"]).all()
    assert not np.isnan(table["mean_test_worst"]).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("accuracy", "side", "mean"), "how must be one of"),
        (("accuracy", [0, 1]), "name of the metadata"),
        (("acuracy", "side"), "acuracy"),
        ((3, "side"), "a name or a callable"),
    ],
    ids=["how", "groups", "name", "scorer"],
)
def test_wrong_arguments_of_a_group_scorer(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_group_scorer(*arguments)


def test_names_are_those_of_scikit_learn_and_ours():
    assert {"accuracy", "neg_memory", "worst_class_recall"} <= set(get_scorer_names())
    with pytest.raises(ValueError, match="got 'neg_predict_tme'; nearest are 'neg_predict_time', "):
        get_scorer("neg_predict_tme")
    for scoring in ("acuracy", ["acuracy"], {"a": "acuracy"}):
        with pytest.raises(ValueError, match="got 'acuracy'; nearest are 'accuracy', "):
            resolved(scoring)
