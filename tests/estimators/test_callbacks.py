"""scikit-learn's callbacks, and its metadata routing."""

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo.estimators import TorchClassifier, TorchRegressor


class Recorder:
    """Notes what it is told, and says stop after some epochs."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.told = []
        self.predictions = []

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, metadata=None):
        self.told.append(f"begin {context.task_name} of {context.max_subtasks}")
        self.metadata = metadata

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.told.append(f"end {context.task_name} {context.task_id}")
        self.predictions.append(fitted_estimator.predict(X))
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after


def test_epochs_are_subtasks(line):
    recorder = Recorder()
    net = TorchRegressor(max_epochs=2, random_state=0).set_callbacks(recorder).fit(*line)
    epochs = [message for i in range(2) for message in ("begin epoch of 0", f"end epoch {i}")]
    assert recorder.told == ["setup", "begin fit of 2", *epochs, "end fit 0", "teardown"]
    np.testing.assert_array_equal(recorder.predictions[-1], net.predict(line[0]))
    assert not np.array_equal(recorder.predictions[0], recorder.predictions[1])
    assert not hasattr(net, "_callback_fit_ctx")
    net.partial_fit(*line)
    assert "begin partial_fit of 2" in recorder.told


def test_callbacks_do_not_change_the_training(line):
    plain = TorchRegressor(max_epochs=2, random_state=0, module__dropout=0.1)
    watched = clone(plain).set_callbacks(Recorder())
    np.testing.assert_array_equal(
        plain.fit(*line).predict(line[0]), watched.fit(*line).predict(line[0])
    )


def test_stop_is_honoured(line):
    net = TorchRegressor(max_epochs=9).set_callbacks(Recorder(stop_after=3)).fit(*line)
    assert net.n_iter_ == len(net.history) == 3


def test_metadata_reaches_the_callback(line):
    recorder = Recorder()
    weight = np.ones(len(line[1]))
    TorchRegressor(max_epochs=1).set_callbacks(recorder).fit(*line, sample_weight=weight)
    assert recorder.metadata == {"sample_weight": weight}


def test_teardown_after_a_failure(line):
    recorder = Recorder()
    net = TorchRegressor(max_epochs=1, module__in_features=99).set_callbacks(recorder)
    with pytest.raises(ValueError, match="accept a batch"):
        net.fit(*line)
    net.set_params(module__in_features=None).fit(*line)
    assert recorder.told.count("setup") == recorder.told.count("teardown")


def test_progress_bar_shows_epochs(line, capsys):
    pytest.importorskip("rich")
    TorchRegressor(max_epochs=3).set_callbacks(ProgressBar()).fit(*line)
    out = capsys.readouterr().out
    assert "TorchRegressor" in out
    assert "100%" in out


def test_scoring_monitor_scores_epochs(blobs):
    pytest.importorskip("pandas")
    monitor = ScoringMonitor(scoring="accuracy")
    y = np.array(["a", "b", "c"])[blobs[1]]
    net = TorchClassifier(max_epochs=4, lr=0.01, random_state=0).set_callbacks(monitor)
    net.fit(blobs[0], y)
    log = monitor.get_logs().data_as_pandas
    scores = log.loc[log["task_name"] == "epoch", "accuracy"].tolist()
    assert len(scores) == 4
    assert scores[-1] == net.score(blobs[0], y)
    assert scores[-1] > scores[0]


def test_under_a_search(blobs):
    recorder = Recorder()
    net = TorchClassifier(max_epochs=2).set_callbacks(recorder)
    GridSearchCV(net, {"lr": [0.1, 0.01]}, cv=2).fit(*blobs)
    assert recorder.told.count("begin fit of 2") == 5


@pytest.mark.parametrize("cls", [TorchClassifier, TorchRegressor])
def test_sample_weight_without_routing(blobs, cls):
    net = make_pipeline(StandardScaler(), cls(max_epochs=1))
    weight = {f"{cls.__name__.lower()}__sample_weight": np.ones(150)}
    cross_validate(net, *blobs, cv=2, params=weight, error_score="raise")


@pytest.mark.parametrize("cls", [TorchClassifier, TorchRegressor])
def test_sample_weight_with_routing(blobs, cls):
    seen = []

    class Watching(cls):
        def _row_weights(self, y, sample_weight):
            seen.append(sample_weight)
            return sample_weight

    with sklearn.config_context(enable_metadata_routing=True):
        net = Watching(max_epochs=1).set_fit_request(sample_weight=True)
        net.set_partial_fit_request(sample_weight=True)
        net.set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        search = GridSearchCV(make_pipeline(scaler, net), {}, cv=2)
        search.fit(*blobs, sample_weight=np.ones(150))
        assert len(seen) == 3
        assert all(weight is not None for weight in seen)
        refusing = GridSearchCV(Watching(max_epochs=1), {}, cv=2)
        with pytest.raises(ValueError, match="sample_weight"):
            refusing.fit(*blobs, sample_weight=np.ones(150))
        Watching(max_epochs=1).fit(*blobs, sample_weight=np.ones(150))
