"""One way from the data to the module, in training, checks, prediction and joint training."""

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import EpochScoring
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import SliceDataset
from torch import nn
from torch.utils.data import DataLoader, default_collate

from skhpo import BayesSearchCV
from skhpo.estimators import TorchClassifier, TorchRegressor
from skhpo.lockstep import Member, predict_together, train_together

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 5)).astype("float32")
Y = (X[:, 0] > 0).astype(int)
GRID = {"lr": [0.1]}


class Mirrored(Dataset):
    def transform(self, X, y):
        X, y = super().transform(X, y)
        return -torch.as_tensor(X), y


class MirroringNet(TorchClassifier):
    def get_dataset(self, X, y=None):
        return X if isinstance(X, torch.utils.data.Dataset) else Mirrored(X, y)


def mirror(batch):
    X, y = default_collate(batch)
    return -X, y


WAYS = {
    "dataset": (TorchClassifier, {"dataset": Mirrored}),
    "get_dataset": (MirroringNet, {}),
    "collate_fn": (
        TorchClassifier,
        {"iterator_train__collate_fn": mirror, "iterator_valid__collate_fn": mirror},
    ),
}


def linear(in_features, out_features):
    return nn.Linear(in_features, out_features)


@pytest.mark.parametrize("way", WAYS)
def test_what_prepares_samples_does_so_everywhere(way):
    cls, params = WAYS[way]
    params = {"module": linear, "lr": 0.3, "max_epochs": 5, "random_state": 0, **params}
    plain = {k: v for k, v in params.items() if not k.startswith(("dataset", "iterator"))}
    net = cls(**params).fit(X, Y)
    expected = TorchClassifier(**plain, iterator_train__collate_fn=default_collate).fit(-X, Y)
    np.testing.assert_allclose(net.predict_proba(X), expected.predict_proba(-X), atol=1e-5)
    assert net.score(X, Y) > 0.9
    split = cls(**params, train_split=ValidSplit(3, stratified=True)).fit(X, Y)
    assert split.history[-1]["valid_acc"] > 0.9
    checked = cls(**params, validation_fraction=0.3, monitor="accuracy").fit(X, Y)
    assert checked.history[-1]["valid_accuracy"] > 0.9
    ours = BayesSearchCV(cls(**params), {"lr": [0.3]}, n_iter=1, cv=2).fit(X, Y)
    assert ours.best_score_ > 0.9


@pytest.mark.parametrize("way", WAYS)
def test_joint_training_leaves_prepared_samples_alone(way):
    cls, params = WAYS[way]
    nets = [cls(linear, max_epochs=2, random_state=k, **params) for k in range(2)]
    assert train_together([Member(net, X, Y) for net in nets]) == [None, None]
    for k, output in enumerate(predict_together(nets, [X, X])):
        expected = cls(linear, max_epochs=2, random_state=k, **params).fit(X, Y)
        np.testing.assert_allclose(output, expected.predict_proba(X), atol=1e-6)


def test_an_iterator_of_one_kind_alone_changes_nothing():
    plain = TorchClassifier(max_epochs=2, random_state=0, iterator_train__shuffle=False)
    expected = plain.fit(X, Y).predict_proba(X)
    for name in ("iterator_train__collate_fn", "iterator_valid__collate_fn"):
        net = TorchClassifier(
            max_epochs=2, random_state=0, iterator_train__shuffle=False, **{name: default_collate}
        )
        np.testing.assert_allclose(net.fit(X, Y).predict_proba(X), expected, atol=1e-6)
        # Integers become real numbers on either way.
        assert net.fit((10 * X).astype(int), Y).predict((10 * X).astype(int)).shape == (120,)
    with pytest.raises(ValueError, match="rows in their order, but iterator_valid__shuffle=True"):
        TorchClassifier(iterator_valid__shuffle=True).fit(X, Y)


class Parsed(Dataset):
    """Rows are texts."""

    def transform(self, X, y):
        _, y = super().transform(0, y)
        return torch.tensor([float(number) for number in X.split()]), y


def test_rows_of_an_own_dataset_may_be_anything():
    texts = np.array([" ".join(map(str, row)) for row in X])
    net = TorchClassifier(dataset=Parsed, max_epochs=3, lr=0.05, random_state=0)
    right = GridSearchCV(net, GRID, cv=2).fit(texts, Y)
    ours = BayesSearchCV(net, GRID, n_iter=1, cv=2, random_state=0).fit(texts, Y)
    assert min(right.best_score_, ours.best_score_) > 0.8
    assert ours.best_estimator_.module_.linear_0.in_features == 5
    weight = RNG.integers(0, 3, 120)
    expected = TorchClassifier(max_epochs=3, lr=0.05, random_state=0)
    expected = expected.fit(X, Y, sample_weight=weight).predict_proba(X)
    found = net.fit(texts, Y, sample_weight=weight).predict_proba(texts)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert "valid_loss" in net.set_params(validation_fraction=0.2).fit(texts, Y).history_[-1]


LENGTHS = RNG.integers(2, 7, 60)
LABELS = np.arange(60) % 2
SEQUENCES = [
    RNG.normal(k, 0.5, (n, 3)).astype("float32") for k, n in zip(LABELS, LENGTHS, strict=True)
]


class Sequences(torch.utils.data.Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, i):
        return torch.from_numpy(SEQUENCES[i]), int(LABELS[i])


def pad(batch):
    xs, ys = zip(*batch, strict=True)
    xs = [torch.as_tensor(x) for x in xs]
    return nn.utils.rnn.pad_sequence(xs, batch_first=True), torch.tensor(ys)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.rnn(x)[0].mean(1))


def test_sequences_of_various_lengths():
    params = {"max_epochs": 4, "lr": 0.1, "random_state": 0, "batch_size": 16}
    padding = {"iterator_train__collate_fn": pad, "iterator_valid__collate_fn": pad}
    net = TorchClassifier(Recurrent, **params, **padding)
    assert net.fit(Sequences()).score(Sequences(), LABELS) > 0.9
    as_objects = np.empty(60, dtype=object)
    as_objects[:] = SEQUENCES
    assert net.predict(as_objects[:3]).shape == (3,)
    for form in (as_objects, SEQUENCES, [torch.from_numpy(one) for one in SEQUENCES]):
        search = BayesSearchCV(net, {"lr": [0.1]}, n_iter=1, cv=2, refit=False).fit(form, LABELS)
        assert search.cv_results_["mean_test_score"][0] > 0.8
    with pytest.raises(ValueError, match="rows must have one shape, or iterator_train__collate_fn"):
        TorchClassifier(Recurrent, **params).fit(SEQUENCES, LABELS)


class Noisy(torch.utils.data.Dataset):
    drawn = 0

    def __len__(self):
        return 60

    def __getitem__(self, i):
        Noisy.drawn += 1
        return torch.tensor(X[i]) + 0.1 * torch.randn(5), int(Y[i])


def test_rows_of_a_lazy_sequence_are_asked_for_in_every_epoch():
    Noisy.drawn = 0
    lazy = SliceDataset(Noisy(), 0)
    net = TorchClassifier(max_epochs=5, lr=0.05, random_state=0).fit(lazy, Y[:60])
    assert Noisy.drawn >= 5 * 60
    search = BayesSearchCV(net, {"lr": [0.05]}, n_iter=1, cv=2).fit(lazy, Y[:60])
    right = GridSearchCV(net, {"lr": [0.05]}, cv=2).fit(lazy, Y[:60])
    assert min(search.best_score_, right.best_score_) > 0.7
    net.set_params(validation_fraction=0.2).fit(lazy, Y[:60])
    assert net.history_[-1, "train_batch_count"] == 2  # 48 of 60 rows


class Pairs(torch.utils.data.Dataset):
    """Inputs in a structure of the dataset's."""

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 40

    def __getitem__(self, i):
        return self.make(X[i].astype(float), X[i]), int(Y[i])


class Sum(nn.Module):
    def __init__(self, out_features):
        super().__init__()
        self.linear = nn.Linear(5, out_features)

    def forward(self, a, b=0):
        a, b = a if isinstance(a, list) else (a, b)
        return self.linear(a + b)


@pytest.mark.parametrize("make", [lambda a, b: (a, b), lambda a, b: {"a": a, "b": b}])
def test_structures_of_inputs(make):
    net = TorchClassifier(Sum, max_epochs=10, lr=0.1, random_state=0).fit(Pairs(make))
    assert net.score(Pairs(make), Y[:40]) > 0.8


class Triples(Pairs):
    def __getitem__(self, i):
        return X[i], X[i], int(Y[i])


@pytest.mark.parametrize("params", [{}, {"classes": [0, 1]}])
def test_datasets_of_three_items_are_refused(params):
    with pytest.raises(ValueError, match=r"yield pairs \(X, y\), but yields a list of 3 items"):
        TorchClassifier(**params).fit(Triples(None))


def test_train_split_may_make_datasets_of_the_kind_it_is_given():
    def as_subsets(dataset, y):
        rows = np.arange(len(dataset))
        return (torch.utils.data.Subset(dataset, rows[part]) for part in (rows < 80, rows >= 80))

    def anew(dataset, y):
        rows = np.arange(len(dataset))
        parts = rows < 80, rows >= 80
        return (type(dataset)(dataset.X[part], dataset.y[part]) for part in parts)

    for cls, target in ((TorchClassifier, Y), (TorchRegressor, X[:, 0])):
        params = {"max_epochs": 2, "random_state": 0}
        right = cls(train_split=as_subsets, **params).fit(X, target)
        net = cls(train_split=anew, **params).fit(X, target)
        assert net.history[:, "valid_loss"] == right.history[:, "valid_loss"]
        with pytest.raises(ValueError, match="need a train_split that trains on a subset"):
            net.fit(X, target, sample_weight=np.ones(120))


def test_data_to_validate_on_needs_targets():
    net = TorchRegressor(train_split=lambda dataset, y: (dataset, type(dataset)(dataset.X)))
    with pytest.raises(ValueError, match=r"must return data with targets, .* y is None"):
        net.fit(X, X[:, 0])


def test_get_split_datasets_is_called_without_train_split():
    class Net(TorchClassifier):
        def get_split_datasets(self, X, y=None, **params):
            return Dataset(X[:80], y[:80]), Dataset(X[80:], y[80:])

    net = Net(max_epochs=2).fit(X.astype(float), Y)
    assert len(net.history[:, "valid_loss"]) == 2


class Watched(nn.Module):
    """Notes the rows it gets; makes much of few numbers."""

    def __init__(self, in_features, out_features, width=1):
        super().__init__()
        self.linear, self.width, self.rows = nn.Linear(in_features, out_features), width, []

    def forward(self, x):
        self.rows.append(len(x))
        return (self.linear(x)[..., None] * torch.ones(self.width)).mean(-1)


@pytest.mark.parametrize(
    ("params", "most"),
    [
        ({}, 1024),
        ({"module__width": 200_000}, 16),
        ({"iterator_valid__batch_size": 41}, 41),
        ({"module__width": 200_000, "batch_size": -1}, 40),
    ],
)
def test_rows_that_predictions_take_at_once(params, most, tmp_path):
    many = np.tile(X, (13, 1))[:1500]
    params = {"max_epochs": 1, "batch_size": 16, **params}
    net = TorchClassifier(Watched, **params).fit(X[:16], Y[:16]).save_checkpoint(tmp_path / "net")
    loaded = clone(net).load_checkpoint(tmp_path / "net")
    for one in (net, loaded):
        one.module_.rows.clear()
        one.predict(many[:40] if most == 40 else many)
        assert max(one.module_.rows) == most


def test_rows_that_checks_take_at_once():
    params = {"module__width": 200_000, "max_epochs": 1, "validation_fraction": 0.5}
    net = TorchClassifier(Watched, batch_size=16, **params).fit(X, Y)
    assert max(net.module_.rows) <= 17


def _read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("split", [{"train_split": ValidSplit(4)}, {"validation_fraction": 0.25}])
@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_matrix, lambda X: {"input": X}])
def test_scorers_of_callbacks_get_arrays_of_the_part_they_score(make, split):
    seen = []

    def accuracy(net, inputs, y):
        inputs_of = inputs if isinstance(inputs, dict) else {None: inputs}
        kinds = np.ndarray, scipy.sparse.csr_matrix
        assert all(isinstance(part, kinds) for part in (*inputs_of.values(), y))
        if make is np.asarray and "validation_fraction" not in split:
            assert inputs.flags.writeable  # a part is a copy
        seen.append((next(iter(inputs_of.values())).shape, y.shape))
        return float((net.predict(inputs) == y).mean())

    params = {"use_caching": False, "lower_is_better": False, "target_extractor": lambda y: y}
    callbacks = [EpochScoring(accuracy, name="of_training", on_train=True, **params)]
    if "train_split" in split:
        callbacks.append(EpochScoring(accuracy, name="of_rest", **params))
    params = {"module__in_features": 5, "module__out_features": 2, "lr": 0.1, "max_epochs": 2}
    net = TorchClassifier(module=nn.Linear, callbacks=callbacks, **params, **split)
    net.fit(make(_read_only(X)), Y)
    assert seen[: len(callbacks)] == [((90, 5), (90,)), ((30, 5), (30,))][: len(callbacks)]
    assert net.history[-1, "of_training"] > 0.5


def test_how_a_loader_works_changes_no_batch():
    weight = RNG.uniform(0.1, 2.0, size=len(X))
    how = {"num_workers": 2, "pin_memory": True, "persistent_workers": True}
    how = {f"iterator_{part}__{k}": v for part in ("train", "valid") for k, v in how.items()}
    net = TorchClassifier(module=linear, max_epochs=2, class_weight="balanced", random_state=0)
    expected = net.fit(X, Y, sample_weight=weight).predict_proba(X)
    net = clone(net).set_params(**how).fit(X, Y, sample_weight=weight)
    np.testing.assert_allclose(net.predict_proba(X), expected, rtol=1e-6)


class LabelsItself(DataLoader):
    def __iter__(self):
        return ((x, (x[:, 0] > 0).long()) for x, _ in super().__iter__())


def test_iterators_may_bring_the_targets():
    net = TorchClassifier(module=linear, max_epochs=20, lr=0.1, random_state=0)
    net.set_params(iterator_train=LabelsItself, iterator_valid=LabelsItself)
    with pytest.raises(ValueError, match=r"y is None; if iterator_train=.*Dataset\(X\) as X"):
        net.fit(X)
    assert net.fit(Dataset(X)).score(X, Y) > 0.9


def test_weights_do_not_count_for_the_memory_that_rows_need():
    sizes = []

    class Notes(torch.nn.Linear):
        def forward(self, x):
            sizes.append(len(x))
            return super().forward(x)

    X = np.random.default_rng(0).normal(size=(600, 3000)).astype(np.float32)
    net = TorchRegressor(Notes, module__out_features=100, batch_size=10, max_epochs=1)
    net.fit(X[:20], np.ones((20, 100)))
    sizes.clear()
    net.predict(X)
    assert sizes == [600]  # 7 MB, and 700 kB of what comes out
