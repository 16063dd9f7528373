"""Transforms of batches: of all rows, and of training rows only."""

import logging
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import TensorDataset

from skhpo import HalvingHyperbandSearchCV, SelfTuningClassifier, TorchClassifier
from skhpo.lockstep import Member, train_together
from skhpo.modules import MLP, ConvNet

rng = np.random.default_rng(0)
X = rng.random((48, 1, 8, 8)).astype(np.float32)
y = np.arange(48) % 2
X[y == 1, :, :, 4:] += 1
SEEN = []


def noise(X, strength=0.5):
    SEEN.append(X.clone())
    return X + strength * torch.randn_like(X)


def doubled(X):
    return 2 * X


class Flip(nn.Module):
    """Like those of torchvision: one draw for all that it gets."""

    per_row = True

    def __init__(self, p=0.5):
        super().__init__()
        self.p = p

    def forward(self, image):
        assert image.ndim == 3
        return image.flip(-1) if torch.rand(1) < self.p else image


class Sees(MLP):
    """Keeps what it gets in training, and cannot be traced."""

    def forward(self, x):
        if self.training and bool(x.isfinite().all()):
            SEEN.append(x.clone())
        return super().forward(x)


@pytest.fixture(autouse=True)
def nothing_seen():
    SEEN.clear()


def net(module=MLP, **settings):
    settings = {"max_epochs": 2, "random_state": 0, "batch_size": 48, **settings}
    return TorchClassifier(module, **settings)


def test_transform_changes_the_rows_of_all():
    plain = net().fit(2 * X, y)
    changed = net(transform=doubled).fit(X, y)
    np.testing.assert_allclose(changed.predict_proba(X), plain.predict_proba(2 * X), rtol=1e-4)
    checked = net(transform=doubled, validation_fraction=0.25).fit(X, y)
    proba = checked.predict_proba(X)
    assert checked.score(X, y) == (proba.argmax(axis=1) == y).mean()


@pytest.mark.parametrize("method", ["partial_fit", "fit"])
def test_transforms_that_are_set_later_take_effect_at_once(method):
    changed, plain = (net(warm_start=True).fit(2 * X, y) for _ in range(2))
    changed.set_params(transform=doubled)
    np.testing.assert_allclose(changed.predict_proba(X), plain.predict_proba(2 * X), rtol=1e-4)
    for one, rows in ((changed, X), (plain, 2 * X)):
        getattr(one, method)(rows, y)
    np.testing.assert_allclose(changed.predict_proba(X), plain.predict_proba(2 * X), rtol=1e-3)
    changed.set_params(transform=None, train_transform=noise)
    np.testing.assert_allclose(changed.predict_proba(X), plain.predict_proba(X), rtol=1e-3)
    assert not SEEN
    getattr(changed.set_params(train_transform__strength=0.0), method)(2 * X, y)
    getattr(plain, method)(2 * X, y)
    assert SEEN
    np.testing.assert_allclose(changed.predict_proba(X), plain.predict_proba(X), rtol=1e-3)


def test_train_transform_changes_training_rows_anew_in_each_epoch():
    fitted = net(Sees, train_transform=noise, iterator_train__shuffle=False).fit(X, y)
    changed = [x for x in SEEN if x.shape == X.shape and not np.array_equal(x, X)]
    assert len(changed) == 2
    assert not torch.equal(*changed)
    difference = changed[0] - torch.tensor(X)
    assert difference.std() == pytest.approx(0.5, rel=0.05)
    SEEN.clear()
    fitted.predict(X)
    fitted.score(X, y)
    assert SEEN == []


def test_other_streams_do_not_shift():
    """Where the strength is zero the network is that without the transform."""
    plain = net(module__dropout=0.5, batch_size=16).fit(X, y)
    other = net(
        module__dropout=0.5, batch_size=16, train_transform=noise, train_transform__strength=0.0
    ).fit(X, y)
    np.testing.assert_allclose(other.predict_proba(X), plain.predict_proba(X), rtol=1e-4)


def test_the_same_seed_gives_the_same_rows_also_after_a_checkpoint(tmp_path):
    settings = {"module": ConvNet, "module__n_layers": 1, "train_transform": Flip, "batch_size": 16}
    whole = net(**settings, max_epochs=4).fit(X, y)
    torch.manual_seed(1)
    half = net(**settings).fit(X, y)
    half.save_checkpoint(tmp_path / "net")
    others = (
        half,
        pickle.loads(pickle.dumps(half)),
        net(**settings).load_checkpoint(tmp_path / "net"),
    )
    for other in others:
        np.testing.assert_array_equal(
            other.partial_fit(X, y).predict_proba(X), whole.predict_proba(X)
        )
    seeded = net(**settings, max_epochs=4, seeds={"augment": 7}).fit(X, y)
    assert not np.array_equal(seeded.predict_proba(X), whole.predict_proba(X))


def test_rows_have_draws_of_their_own():
    net(Sees, train_transform=Flip, max_epochs=1, iterator_train__shuffle=False).fit(X, y)
    changed = next(x for x in SEEN if x.shape == X.shape)
    flipped = [not np.array_equal(one, given) for one, given in zip(changed, X, strict=True)]
    assert 10 < sum(flipped) < 38


def test_batch_normalization_sees_transformed_rows(recwarn):
    settings = {"module__normalization": "batch", "max_epochs": 30, "batch_size": 8}
    net(transform=doubled, validation_fraction=0.25, **settings).fit(X, y)
    assert not [warning for warning in recwarn if "batch normalization" in str(warning.message)]


def test_datasets_and_dicts():
    def both(inputs):
        return {name: 2 * value for name, value in inputs.items()}

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 2)

        def forward(self, a):
            return self.layer(a.flatten(1))

    data = TensorDataset(torch.tensor(X), torch.tensor(y))
    order = {"iterator_train__shuffle": False}
    wanted = net(**order).fit(2 * X, y).predict_proba(2 * X)
    found = net(transform=doubled, **order).fit(data).predict_proba(data)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    of_dict = net(Sum, transform=both).fit({"a": X}, y).predict_proba({"a": X})
    of_array = net(Sum).fit({"a": 2 * X}, y).predict_proba({"a": 2 * X})
    np.testing.assert_allclose(of_dict, of_array, rtol=1e-4)


def test_a_transform_that_changes_the_shape_shapes_the_module():
    fitted = net(transform=lambda images: images[..., :4]).fit(X, y)
    assert fitted.module_.linear_0.in_features == 32
    assert fitted.input_shape_ == (1, 8, 8)
    lazy = net(
        lambda out_features: nn.Sequential(nn.Flatten(), nn.LazyLinear(out_features)),
        transform=lambda images: images[..., :4],
    )
    assert lazy.fit(X, y).module_[1].in_features == 32


class ByAutograd(TorchClassifier):
    def get_loss(self, *args, **kwargs):
        return super().get_loss(*args, **kwargs)


class InPlace:
    """Keeps what it returned, and changes in place what it gets."""

    def __call__(self, X):
        self.last = X.mul_(2).transpose(2, 3)
        return self.last


@pytest.mark.parametrize(
    "params",
    [
        {"train_transform": noise, "transform": lambda X: X[..., :4] / 2},
        {"train_transform": Flip, "transform": InPlace, "accumulate": 2},
    ],
    ids=["shape", "rows"],
)
def test_steps_without_autograd_and_in_lockstep_see_the_same_rows(params, monkeypatch, caplog):
    # 43 and 47 rows: the batches differ in number and length, so that some are filled up.
    params |= {"batch_size": 12, "module__dropout": 0.2, "max_epochs": 3}
    parts = [(X[k:], y[k:]) for k in (1, 5, 2)]
    right = [ByAutograd(random_state=0, **params).fit(*part) for part in parts]
    kept = [one.predict_proba(X) for one in right]
    monkeypatch.setattr(torch.Tensor, "backward", lambda *args: pytest.fail("autograd"))
    dataset = TensorDataset(*map(torch.tensor, parts[0]))
    for data in (parts[0], (dataset,)):
        found = net(**params).fit(*data)
        np.testing.assert_allclose(found.predict_proba(X), kept[0], rtol=1e-3, atol=1e-5)
        losses = found.history_[:, "train_loss"]
        assert losses == pytest.approx(right[0].history_[:, "train_loss"], rel=1e-4)
    nets = [net(**params) for _ in parts]
    with caplog.at_level("DEBUG", logger="skhpo"):
        members = [Member(one, *part) for one, part in zip(nets, parts, strict=True)]
        assert train_together(members) == [None] * 3
    assert "3 nets in lockstep: steps without autograd" in caplog.text
    for one, expected in zip(nets, kept, strict=True):
        np.testing.assert_allclose(one.predict_proba(X), expected, rtol=1e-3, atol=1e-5)


class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(32, 2)

    def forward(self, left, right):
        return self.layer(left.flatten(1)) - self.layer(right.flatten(1))


@pytest.mark.parametrize(
    "transform",
    [
        lambda X: {"left": X[..., :4], "right": X[..., 4:]},
        lambda X: X.split(4, dim=-1),
    ],
    ids=["dict", "tuple"],
)
def test_a_transform_may_make_several_inputs(transform):
    settings = {"module": Halves, "batch_size": 12}
    given = {"left": X[..., :4], "right": X[..., 4:]}
    wanted = net(**settings).fit(given, y).predict_proba(given)
    nets = [net(**settings, transform=transform) for _ in range(2)]
    assert train_together([Member(one, X, y) for one in nets]) == [None] * 2
    for one in (*nets, net(**settings, transform=transform).fit(X, y)):
        np.testing.assert_allclose(one.predict_proba(X), wanted, rtol=1e-4)
    checked = net(**settings, transform=transform).fit(X, y, validation_data=(X, y))
    assert checked.history_[-1]["valid_loss"] == pytest.approx(log_loss(y, wanted), rel=1e-4)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_rows_of_random_shapes_go_on_by_autograd(accumulate):
    def cropped(X):
        return X if torch.rand(()) < 0.7 else X[..., :6]

    # A step whose batches have several shapes is made by autograd as a whole.
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module.append(nn.Linear(2, 2))
    params = {"train_transform": cropped, "batch_size": 8, "max_epochs": 3}
    params |= {"accumulate": accumulate, "random_state": 0}
    for first in (0, 3, 5):
        part = X[first:], y[first:]
        one, other = (kind(module, **params).fit(*part) for kind in (TorchClassifier, ByAutograd))
        np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), rtol=1e-5)
    # A group cannot go on; that is no mistake of which anything warns.
    together = [TorchClassifier(module, **params) for _ in range(2)]
    assert train_together([Member(one, *part) for one in together]) == [None] * 2
    np.testing.assert_allclose(together[0].predict_proba(X), other.predict_proba(X), rtol=1e-4)


@pytest.mark.parametrize("lockstep", ["auto", False])
def test_their_strength_is_searched(lockstep, caplog):
    caplog.set_level(logging.DEBUG, "skhpo")
    grid = {"train_transform__strength": [0.1, 3.0], "lr": [0.01]}
    search = HalvingHyperbandSearchCV(
        net(train_transform=noise, transform=doubled),
        grid,
        max_resources=2,
        factor=2,
        cv=2,
        random_state=0,
        lockstep=lockstep,
    ).fit(X, y)
    assert "train_transform__strength" in search.best_params_
    assert ("nets in lockstep" in caplog.text) is bool(lockstep)
    best = clone(search.estimator).set_params(**search.best_params_)
    oracle = GridSearchCV(best, {"lr": [0.01]}, cv=2).fit(X, y)
    row = search.best_index_
    assert search.cv_results_["mean_test_score"][row] == pytest.approx(oracle.best_score_, abs=0.1)


def test_a_network_is_no_transformer():
    model = make_pipeline(StandardScaler(), net(transform=doubled))
    assert not hasattr(model, "transform")
    assert not hasattr(model[-1], "transform")
    assert model.set_output(transform="pandas")[-1].get_params()["transform"] is doubled
    assert clone(model)[-1].get_params()["transform"] is doubled


def test_parameters():
    made = net(train_transform=noise)
    assert made.get_params()["train_transform__strength"] == 0.5
    assert net(train_transform=Flip).get_params()["train_transform__p"] == 0.5
    with pytest.raises(
        ValueError, match=r"'train_transform__strenth'.* nearest first: train_transform__strength"
    ):
        made.set_params(train_transform__strenth=1)
    with pytest.raises(ValueError, match="needs a class or a function"):
        net(train_transform=Flip()).set_params(train_transform__p=0.1)


@pytest.mark.parametrize("name", ["transform", "train_transform"])
def test_rows_that_are_left_out(name):
    with pytest.raises(
        ValueError, match=f"^{name} must return as many rows as it gets, but made 7 of 8"
    ):
        net(**{name: lambda images: images[1:]}).fit(X, y)


def test_what_the_module_does_not_take_is_known_before_training():
    with pytest.raises(ValueError, match="the module must accept a batch"):
        net(train_transform=lambda images: images[..., :3], callbacks=[]).fit(X, y)


def test_draws_that_have_no_seed():
    def by_numpy(images):
        return images + np.random.rand()  # noqa: NPY002

    with pytest.warns(UserWarning, match="^train_transform must make the same .* not by NumPy"):
        net(train_transform=by_numpy).fit(X, y)


def test_a_self_tuning_network_has_its_own():
    with pytest.raises(ValueError, match="train_transform must be None in a self-tuning network"):
        SelfTuningClassifier(train_transform=noise).fit(X, y)


def test_torchvision():
    v2 = pytest.importorskip("torchvision.transforms.v2")
    flips = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomResizedCrop(8, antialias=True)])
    settings = {"module": ConvNet, "module__n_layers": 1, "max_epochs": 1}
    proba = [net(train_transform=flips, **settings).fit(X, y).predict_proba(X) for _ in range(2)]
    np.testing.assert_array_equal(*proba)
    searched = net(train_transform=v2.RandomRotation, train_transform__degrees=20, **settings)
    assert searched.fit(X, y).n_iter_ == 1


class Counts:
    n = 0

    def __call__(self, X):
        self.n += 1
        return X / self.n


class Averages(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, X):
        self.mean.mul_(0.9).add_(0.1 * X.mean())
        return X - self.mean


class Rarely:
    """Changes what it does after a number of calls."""

    def __init__(self):
        self.n = 0

    def __call__(self, X):
        self.n += 1
        return X if self.n < 7 else -X


def with_generator():
    generator = torch.Generator().manual_seed(0)
    return lambda X: X + torch.randn(X.shape, generator=generator)


@pytest.mark.parametrize("name", ["transform", "train_transform"])
@pytest.mark.parametrize("made", [Counts, Averages, with_generator])
def test_what_depends_on_earlier_calls_causes_a_warning(made, name):
    with pytest.warns(UserWarning, match=f"^{name} must make the same of the same rows"):
        net(**{name: made()}, max_epochs=1).fit(X, y)


@pytest.mark.filterwarnings("ignore:.*must make the same of the same rows")
@pytest.mark.parametrize("made", [Counts, Rarely, Averages, with_generator])
@pytest.mark.parametrize("name", ["transform", "train_transform"])
def test_what_a_transform_keeps_is_the_same_in_lockstep_and_alone(made, name):
    def nets():
        transform = made()  # of both
        return [net(**{name: transform}, batch_size=16, lr=lr) for lr in (0.01, 0.02)]

    alone = [one.fit(X, y) for one in nets()]
    together = nets()
    assert train_together([Member(one, X, y) for one in together]) == [None] * 2
    for one, other in zip(alone, together, strict=True):
        wanted, found = (fitted.history_[:, "train_loss"] for fitted in (one, other))
        assert found == pytest.approx(wanted, rel=1e-4)
    again = [alone[0].fit(X, y).history_[:, "train_loss"] for _ in range(2)]
    if made is not with_generator:  # a function has no copy
        assert again[0] == again[1] == alone[0].history_[:, "train_loss"]
