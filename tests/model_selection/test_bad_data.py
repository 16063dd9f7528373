"""Data that a network cannot take: the error names the rule, the value and the fix."""

import numpy as np
import pytest
import torch
from sklearn.metrics import make_scorer
from torch import nn
from torch.utils.data import Dataset, default_collate

from skhpo import BayesSearchCV, SearchCV, TorchClassifier, TorchRegressor
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

N = 48
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 5)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
NET = TorchClassifier(max_epochs=1, module__n_units=4, random_state=0)


class Items(Dataset):
    """Stores its targets, so that few items are read before training; one is made by `odd`."""

    def __init__(self, odd=lambda item: item, number=17):
        self.targets, self.odd, self.number = Y, odd, number

    def __len__(self):
        return N

    def __getitem__(self, i):
        item = torch.from_numpy(X[i]), int(Y[i])
        return self.odd(item) if i == self.number else item


def search(net=NET, **kwargs):
    def grid(space, random_state):
        return FullScheduler(GridSampler(space), n_candidates=space.size)

    return SearchCV(net, {"lr": [0.1]}, scheduler=grid, cv=2, error_score="raise", **kwargs)


@pytest.mark.parametrize(
    ("odd", "found"),
    [
        (lambda item: (*item, 1), r"item 17 is \(an array of shape \(5,\), a number, a number\)"),
        (lambda item: (item[0][:3], item[1]), r"item 17 is \(an array of shape \(3,\), a number"),
    ],
    ids=["parts", "width"],
)
def test_the_item_that_is_of_another_kind_is_named(odd, found):
    for fit in (NET.fit, search().fit):
        with pytest.raises(ValueError, match=found):
            fit(Items(odd))


def all_but_one(items):
    return default_collate(items[:-1] if len(items) > 8 else items)


def positive_ones(items):
    return default_collate([item for item in items if item[0][0] > 0])


@pytest.mark.parametrize("collate", [all_but_one, positive_ones])
@pytest.mark.parametrize("name", ["collate", "iterator_train__collate_fn"])
def test_no_row_is_dropped_in_silence(collate, name):
    net = TorchClassifier(max_epochs=1, module__n_units=4, **{name: collate})
    for data in ((Items(),), (X, Y)):
        with pytest.raises(ValueError, match="must return a row for each, but of"):
            net.fit(*data)


def twice(items):
    return default_collate([*items, *items])


def test_a_batch_of_training_may_have_further_rows():
    net = TorchClassifier(max_epochs=1, module__n_units=4, iterator_train__collate_fn=twice)
    assert net.fit(Items()).predict(Items()).shape == (N,)
    with pytest.raises(ValueError, match="must return a row for each, but of"):
        net.fit(Items(), sample_weight=np.arange(N))


def whole(items):
    assert len(items) == 16  # as for a loss within batches
    return default_collate(items)


def test_a_batch_of_training_may_have_to_be_whole():
    settings = {"iterator_train__collate_fn": whole, "batch_size": 16}
    net = TorchClassifier(max_epochs=1, module__n_units=4, **settings)
    assert net.fit(Items()).predict(Items()).shape == (N,)
    net.set_params(batch_size=32)
    with pytest.raises(AssertionError):
        net.fit(Items())


def test_texts_without_a_way_to_collate_them():
    texts = [[1] * n for n in RNG.integers(1, 9, N)]
    net = TorchClassifier(nn.EmbeddingBag, max_epochs=1)
    with pytest.raises(ValueError, match="or collate, such as collate='pad'"):
        BayesSearchCV(net, {"lr": [0.1, 0.2]}, n_iter=2, cv=2, error_score="raise").fit(texts, Y)


class Bytes(Items):
    def __getitem__(self, i):
        return torch.from_numpy(X[i] > 0).to(torch.uint8), int(Y[i])


class Float8(Items):
    def __getitem__(self, i):
        return torch.from_numpy(X[i] > 0).to(torch.float8_e4m3fn), int(Y[i])


@pytest.mark.parametrize("data", [Bytes(), Float8()], ids=["bytes", "float8"])
@pytest.mark.parametrize("transform", [None, lambda X: X])
def test_small_types_train_as_numbers_do(data, transform):
    net = TorchClassifier(module__n_units=4, max_epochs=2, random_state=0, transform=transform)
    right = net.fit((X > 0).astype(np.float32), Y).predict_proba((X > 0).astype(np.float32))
    np.testing.assert_allclose(net.fit(data).predict_proba(data), right, rtol=1e-5)


def test_a_transform_gets_bytes_as_they_are():
    def scaled(images):
        return images.float() / 255 if images.dtype is torch.uint8 else images

    net = TorchClassifier(module__n_units=4, max_epochs=1, random_state=0, transform=scaled)
    X_small = (X > 0).astype(np.float32) / 255
    right = net.fit(X_small, Y).predict_proba(X_small)
    np.testing.assert_allclose(net.fit(Bytes()).predict_proba(Bytes()), right, rtol=1e-5)


def mean_of(y, predicted):
    return float(np.mean(predicted))


def test_metrics_that_take_no_images():
    images = np.ones((N, 1, 4, 4), np.float32)
    net = TorchRegressor(nn.Conv2d, max_epochs=1).set_params(
        module__in_channels=1, module__out_channels=1, module__kernel_size=1
    )
    with pytest.raises(ValueError, match="take targets of one or two dimensions, but y has the sh"):
        search(net, scoring="r2").fit(images, images)
    search(net, scoring=make_scorer(mean_of)).fit(images, images)


def test_texts_in_a_dict_need_an_encoder():
    words = np.array(["a", "b"])[Y].astype(object)[:, None]
    with pytest.raises(ValueError, match=r"table must be of numbers, but .*TableEncoder"):
        search(NET).fit({"image": X, "table": words}, Y)


def test_a_dataset_without_a_length():
    class NoLength(Dataset):
        def __getitem__(self, i):
            return X[i], Y[i]

    with pytest.raises(TypeError, match="must have a length, but NoLength has none"):
        NET.fit(NoLength())
