"""A search over a torch Dataset has the scores of one over the same rows as arrays."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, ShuffleSplit, TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from skhpo import (
    BayesSearchCV,
    HalvingHyperbandSearchCV,
    SearchCV,
    TorchClassifier,
    TorchRegressor,
)
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

N = 60
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 5)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
SPACE = {"lr": [0.02, 0.1], "module__dropout": [0.0, 0.3]}


class Pairs(Dataset):
    """Shows its targets item by item only, and counts what is read."""

    def __init__(self, X=X, y=Y):
        self.data, self.labels, self.n_read = X, y, 0

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        assert type(i) is int
        self.n_read += 1
        return self.data[i], self.labels[i]


class Inputs(Pairs):
    def __getitem__(self, i):
        return super().__getitem__(i)[0]


class Shifted(Pairs):
    """What it stores as targets is not what it yields, as where there is a target_transform."""

    def __init__(self):
        super().__init__()
        self.targets = Y + 7


def whole_grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def grid(estimator=None, space=SPACE, cv=3, **kwargs):
    net = TorchClassifier(max_epochs=2, module__n_units=8) if estimator is None else estimator
    return SearchCV(net, space, scheduler=whole_grid, cv=cv, random_state=0, **kwargs)


def assert_same(search, expected):
    found, right = search.cv_results_, expected.cv_results_
    for name in (name for name in right if name.endswith("_test_score")):
        np.testing.assert_allclose(found[name], right[name], rtol=1e-4, err_msg=name)


def tensors(n=slice(None)):
    return TensorDataset(torch.from_numpy(X[n]), torch.from_numpy(Y[n]))


@pytest.fixture(scope="module")
def arrays():
    return grid(scoring="neg_log_loss").fit(X, Y)


@pytest.mark.parametrize(
    "data",
    [
        lambda: (Pairs(),),
        lambda: (Pairs(), Y),
        lambda: (tensors(),),
        lambda: (ConcatDataset([tensors(slice(20)), tensors(slice(20, None))]),),
        lambda: (Subset(Pairs(np.vstack([X, X]), np.append(Y, Y)), range(N, 2 * N)),),
        lambda: (Inputs(), Y),
        lambda: (Shifted(),),
    ],
    ids=["pairs", "targets given", "tensors", "several", "part", "inputs only", "other targets"],
)
def test_any_dataset_scores_as_arrays(arrays, data):
    data = data()
    search = grid(scoring="neg_log_loss").fit(*data)
    assert_same(search, arrays)
    np.testing.assert_allclose(search.predict_proba(data[0]), arrays.predict_proba(X), rtol=1e-4)
    np.testing.assert_allclose(search.score(*data), arrays.score(X, Y), rtol=1e-4)


@pytest.mark.parametrize("cv", [GroupKFold(3), TimeSeriesSplit(2), ShuffleSplit(2, random_state=0)])
def test_splitters_see_rows_and_targets(cv):
    groups = {"groups": np.arange(N) // 6} if isinstance(cv, GroupKFold) else {}
    space = {"lr": [0.1]}
    expected = grid(space=space, cv=cv, refit=False).fit(X, Y, **groups)
    assert_same(grid(space=space, cv=cv, refit=False).fit(Pairs(), **groups), expected)


@pytest.mark.parametrize("resource", ["max_epochs", "n_samples"])
def test_rungs_continue_on_datasets(resource):
    limits = {"max_epochs": (1, 3), "n_samples": (10, 30)}[resource]

    def search():
        net = TorchClassifier(max_epochs=2, module__n_units=8)
        kwargs = {"resource": resource, "min_resources": limits[0], "max_resources": limits[1]}
        return HalvingHyperbandSearchCV(net, SPACE, cv=2, random_state=0, **kwargs)

    assert_same(search().fit(Pairs()), search().fit(X, Y))


def test_a_regressor_and_a_sampler_that_learns():
    values = X[:, :2].sum(1)

    def search():
        net = TorchRegressor(max_epochs=2, module__n_units=8)
        return BayesSearchCV(net, {"lr": [0.01, 0.1]}, n_iter=3, cv=2, random_state=0)

    found = search().fit(Pairs(y=values))
    assert_same(found, search().fit(X, values))
    assert found.score(Pairs(y=values)) == pytest.approx(found.score(X, values), rel=1e-4)


@pytest.mark.parametrize("net", [TorchClassifier, TorchRegressor])
@pytest.mark.parametrize(
    ("params", "fit_params"),
    [
        ({}, {"sample_weight": RNG.integers(0, 3, N)}),
        ({"class_weight": {0: 3, 1: 1}}, {"sample_weight": RNG.uniform(1, 2, N)}),
        ({"batch_sampler": "balanced"}, {}),
        ({}, {"validation_data": np.arange(N) % 5 == 0, "sample_weight": np.arange(N) % 3}),
    ],
    ids=["weights", "classes", "balanced", "checked"],
)
def test_rows_of_a_dataset_count_as_those_of_arrays(net, params, fit_params):
    if not set(params) <= set(net().get_params()):
        return
    target = Y if net is TorchClassifier else X[:, 0]
    net = net(max_epochs=2, module__n_units=8, random_state=0, **params)
    expected = net.fit(X, target, **fit_params).predict_outputs(X)
    checks = [row.get("valid_loss", 0) for row in net.history_]
    for data in ((Pairs(y=target),), (Inputs(y=target), target)):
        found = net.fit(*data, **fit_params).predict_outputs(data[0])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        found = [row.get("valid_loss", 0) for row in net.history_]
        np.testing.assert_allclose(found, checks, rtol=1e-4)
    dataset = Pairs(y=target)
    splits = [(np.arange(40), np.arange(40, N))]
    given = {name: value for name, value in fit_params.items() if name == "sample_weight"}
    searches = [grid(net, {"lr": [0.1]}, cv=splits, refit=False) for _ in range(2)]
    assert_same(searches[0].fit(dataset, **given), searches[1].fit(X, target, **given))


def test_rows_are_held_out_by_number():
    net = TorchClassifier(max_epochs=3, module__n_units=8, validation_fraction=0.3, random_state=0)
    rows = [X[i : i + 1] for i in range(N)]
    sequences = TorchClassifier(Flat, collate="pad").set_params(
        **{name: getattr(net, name) for name in ("max_epochs", "validation_fraction")},
        random_state=0,
    )
    for one, data in ((net, (Pairs(),)), (net, (Inputs(), Y)), (sequences, (rows, Y))):
        losses = [one.fit(*data).history_[:, ("train_loss", "valid_loss")] for _ in range(2)]
        assert losses[0] == losses[1]
        assert np.isfinite(losses[0]).all()
    dataset = Pairs()
    net.fit(dataset, Y)
    dataset.n_read = 0
    net.set_params(max_epochs=1).fit(dataset, Y)
    assert dataset.n_read < N + 60  # each is trained on or checked, never both


class Together(Pairs):
    """Reads many items at once, and no single one beyond the first looks."""

    def __getitems__(self, numbers):
        self.n_calls = getattr(self, "n_calls", 0) + 1
        return [self[i] for i in numbers]


class InputsTogether(Together):
    def __getitem__(self, i):
        return super().__getitem__(i)[0]


def test_items_are_read_together_where_a_dataset_can():
    net = TorchClassifier(max_epochs=1, module__n_units=8, random_state=0)
    few = {"data": (Together(), Y), "inputs": (InputsTogether(), Y), "pairs": (Together(),)}
    for data in few.values():
        valid = Together()
        net.fit(*data, validation_data=valid)
        assert data[0].n_calls >= 2  # its two batches
        assert valid.n_calls >= 1


class Ragged(Pairs):
    """Has arrays of arrays, which have no truth value when they are compared."""

    def __getitem__(self, i):
        parts = np.empty(2, dtype=object)
        parts[:] = np.full(2, i), np.full(3, i)
        return parts, self.labels[i]


def test_items_may_be_of_any_type():
    def joined(items):
        X = np.stack([np.concatenate(parts) for parts, _ in items])
        return torch.as_tensor(X, dtype=torch.float32), torch.as_tensor([y for _, y in items])

    net = TorchClassifier(max_epochs=1, module__n_units=8, collate=joined)
    assert net.fit(Ragged()).predict(Ragged()).shape == (N,)


class ByNumPy(Pairs):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x + RNG.normal(), y


def test_draws_that_have_no_seed():
    net = TorchClassifier(max_epochs=1, module__n_units=8)
    with pytest.warns(UserWarning, match="must be the same when it is read again"):
        net.fit(ByNumPy())


class Stored(Pairs):
    targets = Y


def test_targets_that_differ_from_those_of_any_item_are_an_error():
    y = Y.copy()
    y[N // 2 + 1] = 1 - y[N // 2 + 1]  # no item that is read before
    for data in (Stored(), tensors()):
        with pytest.raises(ValueError, match=f"for item {N // 2 + 1} y is"):
            grid().fit(data, y)


class Seeding(Pairs):
    def __getitem__(self, i):
        torch.manual_seed(i)
        x, y = super().__getitem__(i)
        return torch.from_numpy(x) + torch.randn(1), y


def test_items_that_seed_the_global_generator_cause_a_warning():
    state = torch.get_rng_state()
    with pytest.warns(UserWarning, match=r"this Seeding seeds torch's global generator"):
        TorchClassifier(max_epochs=1, module__n_units=8).fit(Seeding())
    torch.set_rng_state(state)


class Disturbed(Pairs):
    """While an item is read, another thread draws from torch's generator."""

    def __getitem__(self, i):
        if self.n_read == N:
            other = threading.Thread(target=torch.rand, args=(1,))
            other.start()
            other.join()
        return super().__getitem__(i)


def test_draws_of_other_threads_are_left_alone():
    net = TorchClassifier(max_epochs=2, module__n_units=8, random_state=0)
    state = torch.get_rng_state()
    try:
        torch.manual_seed(0)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(net.fit, Disturbed(), Y).result()
        found = torch.rand(1)
        torch.manual_seed(0)
        assert found == torch.rand(2)[1]
    finally:
        torch.set_rng_state(state)


class Flat(torch.nn.Linear):
    def __init__(self):
        super().__init__(5, 2)

    def forward(self, x, mask):
        return super().forward(x[:, 0])


def test_networks_on_datasets_train_without_autograd_and_in_lockstep(monkeypatch, caplog):
    monkeypatch.setattr(torch.Tensor, "backward", lambda *args: pytest.fail("autograd"))
    net = TorchClassifier(max_epochs=2, module__n_units=8, module__dropout=0.2, random_state=0)
    expected = net.fit(X, Y).predict_proba(X)
    for data in (Pairs(), tensors()):
        np.testing.assert_allclose(net.fit(data).predict_proba(X), expected, rtol=1e-4)
    with caplog.at_level("DEBUG", logger="skhpo"):
        found = grid(scoring="neg_log_loss", lockstep=True).fit(Noisy())
    assert "nets in lockstep: steps without autograd" in caplog.text
    monkeypatch.undo()
    assert_same(found, grid(scoring="neg_log_loss", lockstep=False).fit(Noisy()))


class Noisy(Pairs):
    """Draws while items are read."""

    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return torch.from_numpy(x) + 0.1 * torch.randn(5), y


class TwoSizes(Pairs):
    """Images of two sizes, of which batches have one each."""

    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return torch.from_numpy(x)[None, None].repeat(1, 3 + i % 2, 1), y


def test_batches_of_several_shapes_go_on_by_autograd():
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    module.append(torch.nn.Linear(4, 2))
    net = TorchClassifier(module, batch_size=1, max_epochs=2, random_state=0)
    net.set_params(iterator_valid__batch_size=1)
    found = net.fit(TwoSizes()).history_[:, ("train_batch_count", "train_loss")]
    assert [n for n, _ in found] == [N, N]
    by_autograd = TorchClassifier(module, batch_size=1, max_epochs=2, random_state=0)
    by_autograd.get_loss = lambda *args, **kwargs: TorchClassifier.get_loss(
        by_autograd, *args, **kwargs
    )
    by_autograd.set_params(iterator_valid__batch_size=1)
    right = by_autograd.fit(TwoSizes()).history_[:, "train_loss"]
    np.testing.assert_allclose([loss for _, loss in found], right, rtol=1e-4)


def test_targets_are_read_once_and_items_only_for_batches(arrays):
    dataset, space = Pairs(), {"lr": [0.1]}
    search = grid(space=space, cv=2, refit=False).fit(dataset)
    # In two fits each item is trained on in two epochs of one, and scored in the other.
    first_looks = 200
    assert dataset.n_read < N + 3 * N + first_looks
    dataset = Pairs()
    search.set_params(cv=2).fit(dataset, Y)
    assert dataset.n_read < 3 * N + first_looks
    del dataset
    with pytest.raises(ValueError, match="the data of fit"):
        search.top_estimators(1)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python >= 3.12, with threads
def test_loaders_with_workers_draw_the_same_batches():
    workers = {"iterator_train__num_workers": 1, "iterator_valid__num_workers": 1}
    kwargs = {"cv": [(range(45), range(45, N))], "scoring": "neg_log_loss", "refit": False}
    net = TorchClassifier(max_epochs=2, module__n_units=8, module__dropout=0.2)
    expected = grid(net, {"lr": [0.1]}, **kwargs).fit(X, Y)
    net.set_params(**workers)
    assert_same(grid(net, {"lr": [0.1]}, **kwargs).fit(Pairs()), expected)


def test_names_of_classes_for_positions_in_a_dataset():
    names = np.array(["no", "yes"])
    net = TorchClassifier(max_epochs=2, classes=names[::-1])
    search = grid(net, {"lr": [0.1]}).fit(Pairs(y=1 - Y))
    assert_same(search, grid(net, {"lr": [0.1]}).fit(X, names[Y]))
    assert set(search.predict(Pairs())) <= {"no", "yes"}


class NeverFitted(TorchClassifier):
    def _run_epochs(self, *args, **kwargs):
        pytest.fail("was fitted")


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


class NoLength(Dataset):
    def __getitem__(self, i):
        return X[i], Y[i]


class Uneven(Pairs):
    def __getitem__(self, i):
        return super().__getitem__(i) if i < 30 else {"x": X[i]}


class Ends(Pairs):
    def __getitem__(self, i):
        return X[:50][i], Y[i]


def drop_odd(items):
    return torch.utils.data.default_collate([item for item in items if item[1] == 0])


@pytest.mark.parametrize(
    ("data", "params", "error", "message"),
    [
        ((Stream(),), {}, TypeError, r"map style\), but is a Stream, an IterableDataset; give"),
        ((NoLength(),), {}, TypeError, r"map style\), but NoLength has no length"),
        ((Pairs(X[:0], Y[:0]),), {}, TypeError, "must have items, but this Pairs has none"),
        ((Uneven(),), {}, ValueError, "item 0 is .*1 dimension, a number.* and item 34 is {'x': "),
        ((Ends(),), {}, ValueError, "the items 0 to 59, but for item 51 this Ends raised IndexErr"),
        ((Pairs(), Y[:59]), {}, ValueError, "each of the 60 items of the Dataset X, but has 59"),
        ((Pairs(), 1 - Y), {}, ValueError, "y must agree .* for item 0 y is .* Dataset yields"),
        ((Inputs(),), {}, TypeError, "whose items are no pairs; give y"),
        ((Pairs(),), {"groups": np.ones(7)}, ValueError, "each of the 60 rows of X, but has 7"),
        ((Pairs(),), {"sample_weight": -np.ones(N)}, ValueError, "sample_weight must be >= 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_data_are_refused_before_any_training(data, params, error, message):
    with pytest.raises(error, match=message):
        grid(NeverFitted(), {"lr": [0.1]}).fit(*data, **params)


@pytest.mark.parametrize(
    ("estimator", "name", "message"),
    [
        (LogisticRegression(), "C", "LogisticRegression takes arrays and X is a torch Dataset"),
        (make_pipeline(StandardScaler(), NeverFitted()), "neverfitted__lr", "transformers of a"),
    ],
)
def test_estimators_that_take_arrays_are_told(estimator, name, message):
    with pytest.raises(TypeError, match=message):
        grid(estimator, {name: [0.1]}).fit(Pairs())


def test_what_drops_rows_is_told(arrays):
    both = {f"iterator_{part}__collate_fn": drop_odd for part in ("train", "valid")}
    with pytest.raises(ValueError, match=r"of 8 items it made [0-7] rows"):
        NeverFitted(**both).fit(Pairs(), Y)
    with pytest.raises(ValueError, match=r"of 8 items it made [0-7] rows"):
        NeverFitted(iterator_train__collate_fn=drop_odd).fit(Pairs(), Y)
    net = TorchClassifier(max_epochs=1).fit(Pairs(), Y)
    net.set_params(iterator_valid__collate_fn=drop_odd)
    with pytest.raises(ValueError, match=r"a row for each, but of 60 items it made \d+ rows"):
        net.predict(Pairs())
