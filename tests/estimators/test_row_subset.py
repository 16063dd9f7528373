"""Rows of a large array are read where they are."""

import numpy as np
import pytest
from sklearn.pipeline import Pipeline

from skhpo import SearchCV, TorchClassifier
from skhpo.evaluation import _setup
from skhpo.rows import RowSubset
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler


class Reluctant(RowSubset):
    """Refuses to be copied as a whole."""

    def __array__(self, dtype=None, copy=None):
        assert len(self) <= 16
        return super().__array__(dtype, copy)

    def __getitem__(self, index):
        return Reluctant(self.array, self.rows[index])

    def chunks(self):
        return (np.asarray(self[i : i + 16]) for i in range(0, len(self), 16))


def assert_close(read, copied):
    """Compare what was computed of rows in other places of the memory: float32 may round it."""
    np.testing.assert_allclose(read, copied, rtol=1e-5, atol=1e-6)


def net():
    return TorchClassifier(module__n_units=4, max_epochs=2, batch_size=16, random_state=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_it_is_as_if_the_rows_had_been_copied(blobs, dtype):
    X, y = blobs
    X = (10 * X).astype(dtype)
    rows = np.random.default_rng(0).permutation(len(X))[:100]
    X.setflags(write=False)
    read, copied = net().fit(Reluctant(X, rows), y[rows]), net().fit(X[rows], y[rows])
    assert_close(read.predict_proba(X), copied.predict_proba(X))
    assert_close(read.predict_proba(Reluctant(X, rows)), copied.predict_proba(X[rows]))
    weight = (np.arange(100) % 3).astype(float)
    read = net().fit(Reluctant(X, rows), y[rows], sample_weight=weight)
    copied = net().fit(X[rows], y[rows], sample_weight=weight)
    assert_close(read.predict_proba(X), copied.predict_proba(X))


def test_bad_values_are_found_in_every_part(blobs):
    X, y = blobs
    X = X.copy()
    X[70, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        net().fit(Reluctant(X, np.arange(100)), y[:100])
    with pytest.raises(ValueError, match="8 features"):
        net().fit(X[:50], y[:50]).predict(RowSubset(X[:, :7], np.arange(9)))


@pytest.mark.parametrize(
    ("scoring", "wrapped"),
    [(None, False), (None, True), ("neg_log_loss", False), (["accuracy", "neg_log_loss"], False)],
)
def test_a_search_reads_large_arrays_in_place(blobs, monkeypatch, tmp_path, scoring, wrapped):
    X, y = blobs
    X = np.ascontiguousarray(X)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")

    def grid(space, random_state):
        return FullScheduler(GridSampler(space), n_candidates=2)

    def scores():
        refit = "accuracy" if isinstance(scoring, list) else True
        estimator, name = (Pipeline([("net", net())]), "net__lr") if wrapped else (net(), "lr")
        search = SearchCV(
            estimator, {name: [1e-3, 1e-2]}, scheduler=grid, scoring=scoring, refit=refit, cv=3
        )
        return search.fit(mapped, y).cv_results_

    copied = scores()
    monkeypatch.setattr(_setup, "_LARGE", 0)
    monkeypatch.setattr(_setup, "RowSubset", Reluctant)
    read = scores()
    for name in read:
        if "score" in name and "time" not in name:
            assert_close(read[name], copied[name])
