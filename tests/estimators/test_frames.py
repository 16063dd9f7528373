"""Frames with columns of several types are never made one array as a whole."""

import pickle
import tracemalloc

import numpy as np
import pytest
import torch

from skhpo import TorchClassifier, TorchRegressor
from skhpo import rows as rows_module
from skhpo.rows import FrameRows

pandas = pytest.importorskip("pandas")


def frame(n=400, seed=0):
    rng = np.random.default_rng(seed)
    return pandas.DataFrame(
        {
            "a": rng.normal(size=n).astype(np.float32),
            "b": rng.integers(-5, 5, n),
            "c": rng.normal(size=n),
            "d": rng.random(n) > 0.5,
            "e": rng.integers(0, 9, n).astype(np.int8),
        }
    )


@pytest.fixture
def in_chunks(monkeypatch):
    monkeypatch.setattr(rows_module, "_CHUNK_BYTES", 1000)


@pytest.mark.parametrize(
    "params", [{}, {"validation_fraction": 0.2}, {"iterator_train__sampler": None}]
)
def test_a_frame_trains_what_its_array_does(in_chunks, params):
    X = frame()
    y = (X["a"] > X["c"]).astype(int)
    assert FrameRows.fits(X)
    nets = []
    for data in (X, X.to_numpy(np.float64)):
        net = TorchClassifier(max_epochs=2, random_state=0, **params)
        nets.append(net.fit(data, y, sample_weight=np.arange(400) % 3))
    of_frame, of_array = nets
    assert list(of_frame.feature_names_in_) == list(X.columns)
    for one, other in zip(
        of_frame.module_.parameters(), of_array.module_.parameters(), strict=True
    ):
        np.testing.assert_array_equal(one.detach(), other.detach())
    np.testing.assert_array_equal(
        of_frame.predict_proba(X), of_array.predict_proba(X.to_numpy(np.float64))
    )


def test_what_is_wrong_with_a_later_row_or_the_names_is_said(in_chunks):
    X, y = frame(), np.arange(400.0)
    bad = X.copy()
    bad.loc[399, "c"] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        TorchRegressor().fit(bad, y)
    net = TorchRegressor(max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="feature names"):
        net.predict(X.rename(columns={"a": "other"}))


def test_no_array_of_all_rows_is_made_but_the_one_that_is_trained_on(monkeypatch):
    monkeypatch.setattr(rows_module, "_CHUNK_BYTES", 2**16)
    X = frame(50_000)
    net = TorchRegressor(max_epochs=1, batch_size=5000)
    net.fit(X[:5000], X["c"][:5000])
    tracemalloc.start()
    try:
        net.fit(X, X["c"])  # torch's own memory is not seen
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    as_array = X.shape[0] * X.shape[1] * 8
    assert peak < 0.8 * as_array


@pytest.mark.parametrize(
    "X",
    [
        frame()[["a"]],
        frame().assign(f=pandas.Categorical(["x"] * 400)),
        frame().astype({"b": "Int64"}),
        frame().to_numpy(np.float64),
        frame()["a"],
    ],
    ids=["one_type", "categories", "nullable", "array", "series"],
)
def test_what_stays_as_it_is(in_chunks, X):
    assert not FrameRows.fits(X)


class ImageAndTable(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.output = torch.nn.Linear(4 + 2, 2)

    def forward(self, image, table):
        return self.output(torch.cat([image, table], 1))


def test_columns_of_a_frame_in_a_dict_stay_as_they_were(tmp_path):
    table, y = frame()[["a", "b"]], np.arange(400) % 2
    X = {"image": np.ones((400, 4)), "table": table}
    net = TorchClassifier(ImageAndTable, max_epochs=1, random_state=0).fit(X, y)
    net.save_checkpoint(tmp_path / "net")
    again = TorchClassifier(ImageAndTable).load_checkpoint(tmp_path / "net")
    other = {**X, "table": table[["b", "a"]]}
    for one in (net, again, pickle.loads(pickle.dumps(net))):
        with pytest.raises(ValueError, match=r"table must have the columns \['a', 'b'\] as in fit"):
            one.predict(other)
    np.testing.assert_array_equal(
        net.predict_proba({**X, "table": table.to_numpy(float)}), net.predict_proba(X)
    )
