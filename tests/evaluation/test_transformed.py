"""Where transformed training parts lie, and how long they are kept."""

import glob
import os
import tempfile
import threading
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.sparse
from joblib import parallel_config
from scipy.stats import randint, uniform
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, TorchClassifier, rows
from skhpo.evaluation import _evaluator, _setup, _transformed
from skhpo.evaluation._planning import Waiting
from skhpo.evaluation._tasks import Environment, FitGroup, FitTask
from skhpo.evaluation._travel import Stored, loaded, stored
from skhpo.exceptions import StorageError
from skhpo.training import data
from skhpo.wrappers import Prepared, fit_wrappers

LARGE = np.random.default_rng(0).normal(size=(1000, 300))


def prepared(X, y=None):
    return Prepared(("net",), StandardScaler(), X, y, {})


@pytest.mark.parametrize("kind", ["array", "across", "sparse", "frame", "dict"])
def test_large_arrays_lie_in_a_file_that_is_mapped(tmp_path, kind):
    pandas = pytest.importorskip("pandas")
    X = {
        "array": LARGE,
        "across": np.asfortranarray(LARGE),
        "sparse": scipy.sparse.csr_matrix(LARGE),
        "frame": pandas.DataFrame(LARGE),
        "dict": {"a": LARGE, "b": LARGE[:, 0]},
    }[kind]
    there = stored(prepared(X, np.arange(1000)), str(tmp_path))
    assert isinstance(there, Stored)
    assert there.n_bytes >= LARGE.nbytes
    assert len(os.listdir(tmp_path)) == 1
    found = loaded(there)
    there.remove()
    assert not os.listdir(tmp_path)

    def as_array(X):
        X = X["a"] if isinstance(X, dict) else X
        return X.toarray() if scipy.sparse.issparse(X) else np.asarray(X)

    np.testing.assert_array_equal(as_array(found.X), LARGE)
    np.testing.assert_array_equal(found.y, np.arange(1000))
    if kind in ("array", "across"):
        assert not found.X.flags.writeable
        assert found.X.flags.f_contiguous == (kind == "across")


def test_small_ones_need_no_file(tmp_path):
    small = prepared(LARGE[:10])
    assert stored(small, str(tmp_path)) is small
    assert loaded(small) is small
    assert not os.listdir(tmp_path)


def test_a_file_that_the_system_refuses_is_nobodys_fault(tmp_path):
    with pytest.raises(Environment) as caught:
        stored(prepared(LARGE), str(tmp_path / "missing"))
    assert isinstance(caught.value.error, StorageError)


class Shift(TransformerMixin, BaseEstimator):
    def __init__(self, by=0.0):
        self.by = by

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X + self.by


def left_behind():
    folders = ("/dev/shm", tempfile.gettempdir())
    return [path for folder in folders for path in glob.glob(f"{folder}/skhpo-{os.getpid()}-*/*")]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_parts_of_candidates_that_are_done_are_let_go_of(monkeypatch, n_jobs):
    counts, take = [], Waiting.take_transformed

    def counted(self, key, transformed, needed):
        gone = take(self, key, transformed, needed)
        counts.append(len(self.transformed))
        assert isinstance(transformed, Stored) == (n_jobs > 1)
        return gone

    monkeypatch.setattr(Waiting, "take_transformed", counted)
    search = BayesSearchCV(
        Pipeline([("shift", Shift()), ("dummy", DummyClassifier())]),
        {"shift__by": uniform(0, 1)},
        n_iter=12,
        n_initial_points=12,
        n_points=4,
        cv=2,
        n_jobs=n_jobs,
        refit=False,
        random_state=0,
    )
    search.fit(LARGE, np.arange(1000) % 2)
    assert len(counts) == 24
    assert max(counts) <= 4
    assert not left_behind()


def fit_task(candidate, key, levels=(None,)):
    return FitTask(candidate, candidate, 0, 0, {}, levels, key=(0, None, key))


def take_all(waiting, tasks):
    """Have fits come and go one after another; return the settings of transformers that stay."""
    for task in tasks:
        waiting.add(FitGroup([task]))
        if len(waiting.take().tasks) == 0:
            waiting.take_transformed(task.key, prepared(LARGE), [FitGroup([task])])
            waiting.take()
    keys = {task.key for task in tasks}
    return {key[-1] for key in keys if key in waiting.transformed}


def test_settings_that_come_again_are_kept_the_latest_in_a_share_of_the_memory(monkeypatch):
    repeated = [fit_task(i, i % 5) for i in range(10)]
    single = [fit_task(20, "a"), fit_task(21, "b")]
    assert take_all(Waiting(), repeated + single) == {0, 1, 2, 3, 4, "a", "b"}
    assert take_all(Waiting(), [fit_task(i, i) for i in range(5)]) == {4}  # none has come again
    assert take_all(Waiting(), [fit_task(i, i) for i in range(2)]) == {0, 1}  # who knows
    # A quarter of what is free without two of them is room for one.
    monkeypatch.setattr(_transformed, "_free_memory", lambda: 4 * LARGE.nbytes)
    assert take_all(Waiting(), repeated + single) == {"a", "b"}


def test_those_of_candidates_that_may_go_on_are_kept():
    tasks = [fit_task(0, "goes on", (1,)), fit_task(1, "done", (1, 3)), fit_task(2, "last", (3,))]
    assert take_all(Waiting(max_level=3), tasks) == {"goes on", "last"}
    assert take_all(Waiting(), tasks) == {"last"}


@pytest.mark.parametrize("max_epochs", [1, 3])
@pytest.mark.parametrize("scoring", [None, "neg_log_loss"])
def test_rows_of_large_data_are_scaled_where_they_are_read(monkeypatch, max_epochs, scoring):
    X = np.random.default_rng(0).normal(size=(6000, 5)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    n_rows, scale = [], StandardScaler.transform

    def counted(self, X, copy=None):
        n_rows.append(len(X))
        return scale(self, X, copy)

    monkeypatch.setattr(StandardScaler, "transform", counted)
    # what is read at once
    monkeypatch.setattr(rows, "_CHUNK_BYTES", 1000 * X[0].nbytes)
    monkeypatch.setattr(data, "CHUNK_BYTES", {"cpu": 1000 * X[0].nbytes})
    net = TorchClassifier(module__n_units=4, batch_size=500)
    pipeline = Pipeline([("scale", StandardScaler()), ("none", None), ("net", net)])
    scores = []
    for large in (2**26, 1):
        monkeypatch.setattr(_setup, "_LARGE", large)
        monkeypatch.setattr(rows, "_CHUNK_BYTES", 50 * X[0].nbytes)
        search = HalvingHyperbandSearchCV(
            pipeline,
            {"net__lr": uniform(0.001, 0.1)},
            resource="net__max_epochs",
            max_resources=max_epochs,
            scoring=scoring,
            return_train_score=True,
            cv=2,
            refit=False,
            random_state=0,
        ).fit(X, y)
        scores.append([search.cv_results_[f"mean_{part}_score"] for part in ("test", "train")])
        # A training part as a whole, once for each split; all else in parts when it is large.
        assert n_rows.count(3000) == (2 if large == 1 else len(n_rows))
        n_rows.clear()
    np.testing.assert_allclose(*scores, rtol=1e-5)


class Centre(StandardScaler):
    """May do anything with all rows: a subclass."""

    def transform(self, X, copy=None):
        return X - X.mean(axis=0)


def test_what_may_look_at_all_rows_gets_them(monkeypatch):
    monkeypatch.setattr(_setup, "_LARGE", 1)
    X = np.random.default_rng(0).normal(size=(60, 5))
    inside = [("net", TorchClassifier())]
    at = np.arange(0, 60, 2)
    with_subclass = fit_wrappers(Pipeline([("centre", Centre()), *inside]), X, X[:, 0] > 0, {})
    assert with_subclass.inner_rows(X, at) is None
    of_frames = Pipeline([("scale", StandardScaler()), *inside]).set_output(transform="pandas")
    assert fit_wrappers(of_frames, X, X[:, 0] > 0, {}).inner_rows(X, at) is None
    scaled = fit_wrappers(Pipeline([("scale", StandardScaler()), *inside]), X, X[:, 0] > 0, {})
    expected, _ = scaled.inner_data(X[at])
    found = scaled.inner_rows(X, at)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(np.asarray(found), expected)
    np.testing.assert_array_equal(np.concatenate(list(found[3:9].chunks())), expected[3:9])
    assert np.asarray(found[:0]).shape == (0, 5)


class Counted(TransformerMixin, BaseEstimator):
    """Is fitted twice; where `meet`, both times at once."""

    meet: ClassVar[Any]
    both: ClassVar[threading.Event]
    running: ClassVar[list[int]]
    most: ClassVar[list[int]]

    def fit(self, X, y=None):
        Counted.running.append(1)
        Counted.most.append(len(Counted.running))
        if Counted.meet is not None:
            Counted.meet.wait()
        if len(Counted.most) == 2:
            Counted.both.set()
        Counted.running.pop()
        return self

    def transform(self, X):
        return X


class Patient(DummyClassifier):
    """Waits for both to be fitted."""

    def fit(self, X, y, sample_weight=None):
        assert Counted.both.wait(20)
        return super().fit(X, y)


@pytest.mark.parametrize("large", [False, True])
def test_a_fit_starts_rather_than_further_transformers_of_large_data(monkeypatch, large):
    monkeypatch.setattr(_evaluator, "_LARGE", LARGE.nbytes if large else LARGE.nbytes + 1)
    Counted.meet = None if large else threading.Barrier(2, timeout=20)
    Counted.both, Counted.running, Counted.most = threading.Event(), [], []
    search = BayesSearchCV(
        Pipeline([("count", Counted()), ("dummy", Patient(strategy="uniform"))]),
        {"dummy__random_state": randint(0, 1000)},
        n_iter=4,
        n_initial_points=4,
        cv=2,
        n_jobs=2,
        refit=False,
    )
    with parallel_config(backend="threading"):
        search.fit(LARGE, np.arange(1000) % 2)
    assert Counted.most == ([1, 1] if large else [1, 2])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
