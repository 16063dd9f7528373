"""Where transformed training parts lie, and how long they are kept."""

import glob
import os
import tempfile

import numpy as np
import pytest
import scipy.sparse
from scipy.stats import uniform
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import BayesSearchCV
from skhpo.evaluation import _transformed
from skhpo.evaluation._blame import Environment
from skhpo.evaluation._tasks import FitGroup, FitTask
from skhpo.evaluation._transformed import Stored, loaded, stored
from skhpo.evaluation._waiting import Waiting
from skhpo.exceptions import StorageError
from skhpo.wrappers import Prepared

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
