"""The kinds of data that people have."""

import functools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from skhpo.estimators import TorchClassifier, TorchRegressor
from skhpo.lockstep import predict_together
from skhpo.training import data as data_module
from skhpo.training.batches import RowBatches, batch_sizes, largest_batch
from skhpo.training.data import Rows

CPU = torch.device("cpu")


def fit(X, y, cls=TorchClassifier, **params):
    return cls(**{"max_epochs": 2, "random_state": 0, **params}).fit(X, y)


def assert_close(one, other):
    """Compare what was computed of equal rows on two ways from the data to the batches.

    They lie elsewhere in memory, which may change how float32 is rounded.
    """
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


class Pictures(nn.Module):
    def __init__(self, in_channels, out_features):
        super().__init__()
        self.body = nn.Conv2d(in_channels, 4, 3)
        self.head = nn.Linear(4, out_features)

    def forward(self, x):
        return self.head(self.body(x).relu().mean((2, 3)))


class Words(nn.Module):
    def __init__(self, out_features, n_words=10):
        super().__init__()
        self.table = nn.EmbeddingBag(n_words, 4)
        self.head = nn.Linear(4, out_features)

    def forward(self, x):
        return self.head(self.table(x))


class TwoInputs(nn.Module):
    def __init__(self, out_features):
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.head = nn.Linear(7, out_features)

    def forward(self, numbers, word):
        return self.head(torch.cat([numbers, self.table(word)], 1))


def test_all_forms_of_one_table_are_one(blobs):
    pd = pytest.importorskip("pandas")
    X, y = blobs
    reference = fit(X, y).predict_proba(X)
    forms = [X.tolist(), X.astype(np.float64), np.asfortranarray(X), X[::-1][::-1]]
    forms += [X.astype(">f4"), pd.DataFrame(X), torch.from_numpy(X)]
    for form in forms:
        net = fit(form, y.tolist())
        assert net.n_features_in_ == 8
        assert_close(net.predict_proba(form), reference)


def test_feature_names(blobs):
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(blobs[0], columns=list("abcdefgh"))
    net = fit(X, pd.Series(blobs[1]))
    assert net.feature_names_in_.tolist() == list("abcdefgh")
    with pytest.raises(ValueError, match="feature names"):
        net.predict(X.rename(columns={"a": "z"}))


@pytest.mark.parametrize(
    "labels",
    [["x", "yy", "z"], [True, False], [10, -3, 7], [1.0, 2.0], np.array(["p", "q"], dtype=object)],
)
def test_labels_of_any_kind(blobs, labels):
    X, y = blobs
    y = np.asarray(labels)[y % len(labels)]
    net = fit(X, y, max_epochs=20, lr=0.01)
    np.testing.assert_array_equal(net.classes_, np.unique(y))
    assert net.predict(X).dtype == y.dtype
    assert net.score(X, y) > 0.6


def test_integers_become_floats(blobs):
    X = (blobs[0] * 10).astype(int)
    integers, floats = fit(X, blobs[1]), fit(X.astype(float), blobs[1])
    assert_close(integers.predict_proba(X), floats.predict_proba(X))


def test_integers_stay_integers_for_a_lookup():
    X = np.random.RandomState(0).randint(0, 10, (60, 5))
    net = fit(X, X[:, 0] > 4, module=Words)
    assert net.predict(X).shape == (60,)
    assert net.predict(X.astype(float)).shape == (60,)


class OneHot(nn.Module):
    def __init__(self, converts=True):
        super().__init__()
        self.head, self.converts = nn.Linear(20, 2), converts

    def forward(self, x):
        x = x.long() if self.converts else x
        return self.head(nn.functional.one_hot(x, 10).float().flatten(1))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_integers_are_converted_back_in_forward(dtype):
    X = np.random.RandomState(0).randint(0, 10, (60, 2)).astype(dtype)
    y = (X[:, 0] > 4).astype(int)
    net = fit(X, y, module=OneHot)
    pairs = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    assert_close(fit(pairs, None, module=OneHot).predict_proba(pairs), net.predict_proba(X))
    with pytest.raises(ValueError, match=r"needs integers, convert them in forward \(x.long\(\)\)"):
        fit(X, y, module=OneHot, module__converts=False)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_images(dtype):
    X = np.random.RandomState(0).randint(0, 255, (40, 3, 8, 8)).astype(dtype)
    y = np.arange(40) % 2
    assert fit(X, y, module=Pictures).predict_proba(X).shape == (40, 2)
    net = fit(X, y)
    assert net.module_.linear_0.in_features == 192
    assert net.input_shape_ == (3, 8, 8)
    with pytest.raises(ValueError, match=r"shape \(3, 8, 8\) as in fit, but got \(3, 8, 7\)"):
        net.predict(X[..., :7])


def test_dict_of_arrays_is_passed_by_name():
    rng = np.random.RandomState(0)
    X = {"numbers": rng.rand(50, 3), "word": rng.randint(0, 10, 50)}
    y = rng.rand(50)
    net = fit(X, y, TorchRegressor, module=TwoInputs)
    assert net.predict(X).shape == (50,)
    with pytest.raises(ValueError, match="must have the keys"):
        net.predict({"numbers": X["numbers"]})
    with pytest.raises(ValueError, match="inconsistent"):
        net.fit({**X, "word": X["word"][:9]}, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_read_only_memory_map(blobs, tmp_path, dtype):
    np.save(tmp_path / "X.npy", blobs[0].astype(dtype))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = fit(X, blobs[1])
        assert_close(net.predict_proba(X), fit(*blobs).predict_proba(np.asarray(blobs[0])))


def test_fitting_arrays_are_not_copied(tmp_path):
    np.save(tmp_path / "X.npy", np.ones((10, 3), dtype=np.float32))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    rows = Rows(X, dtype=torch.float32, device=CPU)
    assert rows.source.data_ptr() == X.__array_interface__["data"][0]


def test_large_arrays_are_converted_batch_by_batch(blobs, monkeypatch):
    X = blobs[0].astype(np.float64)
    at_once = fit(X, blobs[1]).predict_proba(X)
    monkeypatch.setattr(data_module, "MAX_CONVERTED_BYTES", 100)
    rows = Rows(X, dtype=torch.float32, device=CPU)
    assert rows.source.dtype is torch.float64
    assert rows.source.data_ptr() == X.__array_interface__["data"][0]
    assert_close(fit(X, blobs[1]).predict_proba(X), at_once)


def test_chunks_do_not_change_the_batches(blobs, monkeypatch):
    whole = fit(*blobs).predict_proba(blobs[0])
    monkeypatch.setattr(data_module, "CHUNK_BYTES", {"cpu": 1})
    assert_close(fit(*blobs).predict_proba(blobs[0]), whole)


def test_a_module_that_writes_into_its_input_cannot_reach_the_data(blobs):
    class Writing(nn.Linear):
        def forward(self, x):
            return super().forward(x.mul_(0))

    X = blobs[0].copy()
    fit(X, blobs[1], module=Writing).predict(X)
    np.testing.assert_array_equal(X, blobs[0])


@pytest.mark.parametrize(
    ("n", "size", "sizes"),
    [
        (10, 5, [5, 5]),
        (12, 5, [5, 5, 2]),
        (11, 5, [5, 6]),
        (4 * 16 + 3, 16, [16, 16, 16, 19]),
        (4 * 16 + 4, 16, [16, 16, 16, 16, 4]),
        (3, 5, [3]),
        (1, 5, [1]),
        (3, 1, [1] * 3),
    ],
)
def test_last_batch(n, size, sizes):
    assert batch_sizes(n, size) == sizes


def test_largest_batch():
    for size in (1, 2, 3, 4, 5, 8, 15, 16, 17, 32):
        found = max(max(batch_sizes(n, size)) for n in range(1, 3 * size))
        assert largest_batch(size) == found


@given(st.integers(0, 300), st.integers(1, 40))
def test_batches_of_predictions_have_at_most_batch_size_rows(n, size):
    sizes = batch_sizes(n, size, joins=False)
    assert sum(sizes) == n
    assert len(sizes) == -(-n // size)
    assert max(sizes, default=0) <= size
    assert n < 2 or size < 3 or min(sizes) > 1


class Squeezing(nn.Linear):
    def __init__(self, in_features):
        super().__init__(in_features, 1)
        self.sizes = []

    def forward(self, x):
        if not self.training:
            self.sizes.append(len(x))
        return super().forward(x).squeeze()


def as_dataset(X):
    return TensorDataset(torch.from_numpy(X), torch.zeros(len(X)))


@pytest.mark.parametrize("form", [np.asarray, list, as_dataset])
def test_batch_size_of_predictions_is_a_limit(line, form):
    X, y = line[0][:101], line[1][:101]
    limit = {"batch_size": 10, "iterator_valid__batch_size": 50}
    net = TorchRegressor(Squeezing, max_epochs=2, random_state=0, **limit)
    net.fit(X, y, validation_data=np.arange(101) < 52)
    sizes = net.module_.sizes
    assert sizes[-4:] == [50, 2] * 2
    sizes.clear()
    assert net.predict(form(X)).shape == (101,)
    assert sizes == [50, 49, 2]
    together = predict_together([net, net], [X, X])
    np.testing.assert_allclose(together[1], net.predict_outputs(X), atol=1e-6)


def test_batches_hold_each_row_once():
    X = np.arange(23, dtype=np.float32)[:, None]
    rows = Rows(X, np.arange(23), np.arange(23.0), dtype=torch.float32, device=CPU)
    batches = RowBatches(rows, 5, torch.Generator().manual_seed(0))
    for _ in range(2):
        Xs, ys, weights = zip(*batches.triples(), strict=True)
        assert len(Xs) == len(batches) == 5
        assert sorted(torch.cat(ys).tolist()) == list(range(23))
        assert torch.equal(torch.cat(Xs)[:, 0], torch.cat(ys).float())
        assert torch.equal(torch.cat(weights), torch.cat(ys).double())


def test_batch_normalization_survives_a_single_last_row(line):
    X, y = line
    fit(X[:97], y[:97], TorchRegressor, batch_size=32, module__normalization="batch")


@pytest.mark.parametrize("batch_size", [-1, 1000])
def test_all_rows_in_one_batch(line, batch_size):
    net = fit(*line, TorchRegressor, batch_size=batch_size)
    assert net.history[-1]["train_batch_count"] == 1


def test_iterator_settings_need_no_loader(line):
    net = fit(*line, TorchRegressor, iterator_train__drop_last=True, batch_size=50)
    assert net.history[-1]["train_batch_count"] == 2
    seen = []

    class Watching(TorchRegressor):
        def get_loss(self, y_pred, y_true, *args, **kwargs):
            seen.append(y_true)
            return super().get_loss(y_pred, y_true, *args, **kwargs)

    fit(*line, Watching, iterator_train__shuffle=False, max_epochs=1)
    np.testing.assert_allclose(torch.cat(seen)[:, 0], line[1], rtol=1e-6)


def test_regression_targets(line):
    X, y = line
    one, column, two = y, y[:, None], np.column_stack([y, -y])
    for target in (one, column, two):
        net = fit(X, target, TorchRegressor, max_epochs=30, lr=0.01)
        assert net.predict(X).shape == target.shape
        assert net.predict(X).dtype == np.float32
        assert net.score(X, target) > 0.8
    assert net.module_.output.out_features == 2


class Stream(IterableDataset):
    def __init__(self, X, y):
        self.rows = list(zip(X, y, strict=True))

    def __iter__(self):
        return iter(self.rows)


class Once(Stream):
    """Cannot be read a second time."""

    def __init__(self, X, y):
        super().__init__(X, y)
        self.left = iter(self.rows)

    def __iter__(self):
        return self.left


@pytest.mark.parametrize("cls", [TorchClassifier, TorchRegressor])
def test_a_dataset_without_batches_is_told(blobs, cls):
    X, y = torch.from_numpy(blobs[0]), torch.from_numpy(blobs[1])
    nothing = Stream(X[:0], y[:0])
    for dataset in (nothing, Once(X, y)) if cls is TorchClassifier else (nothing,):
        with pytest.raises(ValueError, match=r"at least one batch.*start again each time"):
            fit(dataset, None, cls)


class Plain(torch.utils.data.Dataset):
    """Shows its targets row by row only."""

    def __init__(self, X, y):
        self.data, self.labels = X, y

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.data[i] + 0 * torch.rand(1), self.labels[i]


@pytest.mark.parametrize("scale_target", [None, "standard"])
@pytest.mark.parametrize("make", [TensorDataset, Plain])
def test_rows_of_a_dataset_are_checked_on_as_those_of_arrays(blobs, make, scale_target):
    X, y = blobs[0], blobs[0][:, :1] * 3 + 1
    rows = np.arange(20, len(X), 3)  # beyond the first batch
    losses = []
    for data in [(X, y), (make(torch.from_numpy(X), torch.from_numpy(y)), None)]:
        net = TorchRegressor(patience=2, scale_target=scale_target, max_epochs=2, random_state=0)
        losses.append(net.fit(*data, validation_data=rows).history_[:, "valid_loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize("make", [TensorDataset, Plain, Stream])
def test_torch_datasets(blobs, make):
    X, y = torch.from_numpy(blobs[0]), torch.from_numpy(blobs[1] + 5)
    before = torch.get_rng_state()
    net = fit(make(X, y), None, max_epochs=10, lr=0.01)
    assert torch.equal(torch.get_rng_state(), before)
    assert net.classes_.tolist() == [5, 6, 7]
    assert net.n_iter_ == 10
    predicted = net.predict(make(X, y))
    assert (predicted == y.numpy()).mean() > 0.7
    assert net.predict_proba(blobs[0]).shape == (150, 3)
    regressor = fit(make(X, X[:, :2]), None, TorchRegressor, max_epochs=1)
    assert regressor.predict(make(X, y)).shape == (150, 2)


def test_dataset_continues_exactly(blobs):
    X, y = map(torch.from_numpy, blobs)
    whole = fit(Plain(X, y), None, max_epochs=4, module__dropout=0.3)
    parts = fit(Plain(X, y), None, max_epochs=2, module__dropout=0.3).partial_fit(Plain(X, y))
    np.testing.assert_array_equal(whole.predict_proba(blobs[0]), parts.predict_proba(blobs[0]))


class Noise(torch.utils.data.Dataset):
    """Draws its rows."""

    def __len__(self):
        return 8

    def __getitem__(self, i):
        return torch.rand(2), torch.tensor(i % 2)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python >= 3.12, with threads
@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_a_dataset_draws_belongs_to_the_fit(num_workers):
    seen = []

    class Watching(TorchClassifier):
        def infer(self, x, **fit_params):
            if self.module_.training:
                seen.append(x.clone())
            return super().infer(x, **fit_params)

    params = {"batch_size": 4, "iterator_train__num_workers": num_workers, "classes": [0, 1]}
    before = torch.get_rng_state()
    for _ in range(2):
        fit(Noise(), None, Watching, **params)
    assert torch.equal(torch.get_rng_state(), before)
    first, second = torch.cat(seen[:4]), torch.cat(seen[4:])
    assert torch.equal(first, second)
    assert len(first.unique(dim=0)) == len(first) == 16


def test_items_are_read_once_whether_they_draw_or_not():
    class Counting(Noise):
        n_read = 0

        def __init__(self, *, draws):
            self.draws = draws

        def __getitem__(self, i):
            self.n_read += 1
            return torch.rand(2) if self.draws else torch.ones(2), torch.tensor(i % 2)

    datasets = [Counting(draws=draws) for draws in (True, False)]
    for dataset in datasets:
        fit(dataset, None, batch_size=4, classes=[0, 1]).predict(dataset)
    assert datasets[0].n_read == datasets[1].n_read


def test_named_classes_of_a_dataset(blobs):
    X, y = map(torch.from_numpy, blobs)
    net = fit(Plain(X, y), None, classes=["ant", "bee", "cat"], class_weight=None)
    assert set(net.predict(X)) <= {"ant", "bee", "cat"}


def test_class_weight_with_a_dataset(blobs):
    X, y = map(torch.from_numpy, blobs)
    weight = {0: 1e-6, 1: 1.0, 2: 1e-6}
    net = fit(TensorDataset(X, y), None, class_weight=weight, max_epochs=20, lr=0.01)
    assert (net.predict(X) == 1).mean() > 0.9


def test_weights_of_classes_outlive_no_dataset(blobs):
    X, y = blobs
    dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    net = TorchClassifier(max_epochs=1, class_weight={0: 9, 1: 1, 2: 1}, random_state=0)
    net.set_params(iterator_train__sampler=range(len(y))).fit(dataset)
    net.set_params(iterator_train__sampler=None)
    expected = clone(net).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(net.fit(X, y).predict_proba(X), expected)


def test_own_iterator_and_dataset(blobs):
    class Loader(DataLoader):
        used = 0

        def __iter__(self):
            Loader.used += 1
            return super().__iter__()

    net = fit(blobs[0], blobs[1] + 5, iterator_train=Loader, iterator_train__shuffle=True)
    assert Loader.used == 2
    assert set(net.predict(blobs[0])) <= {5, 6, 7}


def test_partial_module_keeps_what_was_fixed(line):
    make = functools.partial(nn.Linear, out_features=1, bias=False)
    assert fit(*line, TorchRegressor, module=make).module_.bias is None


def test_lazy_layers(blobs):
    def make(out_features):
        return nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.Linear(6, out_features))

    nets = [fit(*blobs, module=make) for _ in range(2)]
    assert nets[0].module_[0].in_features == 8
    assert nets[0].n_parameters_ == 8 * 6 + 6 + 6 * 3 + 3
    np.testing.assert_array_equal(*(net.predict_proba(blobs[0]) for net in nets))


def test_double_precision_modules(line):
    def make(in_features, out_features):
        return nn.Linear(in_features, out_features).double()

    X, y = line
    net = fit(X, y, TorchRegressor, module=make)
    assert net.forward(X).dtype is torch.float64
