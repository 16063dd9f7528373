"""Layers have lockstep forms that train as the layers do."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skhpo import TorchClassifier
from skhpo.estimators import MLP, ConvNet
from skhpo.lockstep import Member, predict_together, train_together

RNG = np.random.default_rng(0)
FLAT = RNG.normal(size=(90, 8))
IMAGES = RNG.normal(size=(90, 2, 6, 6))
SERIES = RNG.normal(size=(90, 2, 9))
WORDS = RNG.integers(0, 7, size=(90, 5))
Y = np.arange(90) % 3
pytestmark = pytest.mark.usefixtures("nothing_falls_back")
# Adam makes anything of the gradient of a bias before a normalization, which is rounding.
SGD = {"optimizer": "sgd", "optimizer__momentum": 0.9}


class Double(nn.Sequential):
    def __init__(self, *layers, out_features=3):
        super().__init__(*layers)
        self.double()


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x):
        out = F.relu(self.norm(self.first(x)))
        out = F.dropout(out, 0.3, training=self.training)
        return out * self.scale + x


class Gated(nn.Module):
    """Draws between functions that have no rule, so that vmap cannot take all of it."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 6), nn.Linear(6, 3)
        self.scale = nn.Parameter(torch.ones(6))
        self.register_buffer("shift", torch.linspace(0, 1, 6))

    def forward(self, x):
        x = torch.sin(self.first(x)) * self.scale
        x = F.dropout(x, 0.3, training=self.training)
        return self.last(torch.amax(x, 1, keepdim=True) - x + self.shift)


class Attention(nn.Module):
    """Words to classes, by functions and methods with dimensions."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.query = nn.Linear(4, 4)
        self.place = nn.Parameter(torch.zeros(5, 4))
        self.out = nn.Linear(20, 3)

    def forward(self, x):
        x = self.embed(x) + self.place
        weights = torch.softmax(self.query(x) @ x.transpose(1, 2), dim=-1)
        x = torch.cat([(weights @ x)[:, :3], x[:, 3:]], dim=1)
        return self.out(x.reshape(x.size(0), -1))


class Untraceable(nn.Module):
    """Goes through vmap."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(8, 3)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x):
        return self.norm(torch.einsum("bi,oi->bo", x, self.one.weight) + self.one.bias)


class LateUntraceable(Untraceable):
    """Goes through vmap after layers that have forms."""

    def forward(self, x):
        return super().forward(self.first(x))

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)


def flat():
    return Double(
        nn.Linear(8, 6, bias=False),
        nn.BatchNorm1d(6),
        nn.PReLU(),
        nn.Linear(6, 6),
        nn.LayerNorm(6),
        nn.GELU(),
        nn.Dropout(0.3),
        nn.Linear(6, 3),
    )


def images():
    return Double(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout2d(0.2),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False),
        nn.GroupNorm(1, 4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def series():
    return Double(nn.Conv1d(2, 4, 3), nn.Tanh(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(12, 3))


def words():
    return Double(nn.Embedding(7, 3, padding_idx=0), nn.Flatten(), nn.Linear(15, 3))


CASES = {
    "flat": (flat, FLAT),
    "images": (images, IMAGES),
    "series": (series, SERIES),
    "words": (words, WORDS),
    "residual": (lambda: Double(nn.Linear(8, 6), Residual(6), nn.Linear(6, 3)), FLAT),
    "gated": (lambda: Gated().double(), FLAT),
    "attention": (lambda: Attention().double(), WORDS),
    "vmap": (lambda: Untraceable().double(), FLAT),
    "vmap after layers": (lambda: LateUntraceable().double(), FLAT),
}


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("case", CASES)
def test_a_group_trains_as_its_nets_alone(case, optimizer):
    make_module, X = CASES[case]
    rows = [np.arange(60 + 3 * (k % 2)) + 5 * k for k in range(3)]

    def fresh(k):
        return TorchClassifier(
            make_module,
            optimizer=optimizer,
            lr=0.01,
            batch_size=16,
            max_epochs=5,
            random_state=k,
            device="cpu",
        )

    members = [Member(fresh(k), X[rows[k]], Y[rows[k]]) for k in range(3)]
    assert train_together(members) == [None] * 3
    nets = [member.net for member in members]
    together = predict_together(nets, [X] * 3)
    turned = X[::-1].copy()
    of_others = predict_together(nets, [turned, X, turned])
    for k, net in enumerate(nets):
        found = of_others[k] if k == 1 else of_others[k][::-1]
        np.testing.assert_allclose(found, together[k], atol=1e-10)
        alone = fresh(k).fit(X[rows[k]], Y[rows[k]])
        np.testing.assert_allclose(together[k], net.predict_proba(X), atol=1e-10)
        np.testing.assert_allclose(together[k], alone.predict_proba(X), atol=1e-8)
        for (name, a), b in zip(
            net.module_.state_dict().items(), alone.module_.state_dict().values(), strict=True
        ):
            if not _has_no_gradient(case, name):
                assert torch.linalg.vector_norm((a - b).double()) <= 1e-8, name


def _has_no_gradient(case, name):
    """A bias before a normalization, and the mean that it shifts."""
    before = {"residual": ("1.first.bias", "1.norm.running_mean")}
    vmap = ("one.bias", "norm.running_mean")
    before |= {"vmap": vmap, "vmap after layers": vmap, "attention": ("query.bias",)}
    return name in before.get(case, ())


@pytest.mark.parametrize(
    ("module", "params", "X"),
    [
        (MLP, {"module__normalization": "batch", "module__n_layers": 2}, FLAT),
        (MLP, {"module__n_units": 2048, "module__dropout": 0.1}, FLAT),
        (MLP, {"module__normalization": "layer", "module__input_dropout": 0.1}, IMAGES),
        (ConvNet, {"module__normalization": "batch", "module__dropout": 0.2, **SGD}, IMAGES),
        (ConvNet, {"module__n_channels": 4}, IMAGES[:, 0]),
    ],
)
def test_the_modules_of_the_package_are_trained_in_lockstep(module, params, X):

    def fresh(k):
        settings = {"batch_size": 16, "max_epochs": 3, "random_state": k, "device": "cpu"}
        return TorchClassifier(module, **settings, **params)

    members = [Member(fresh(k), X[k:], Y[k:]) for k in range(3)]
    assert train_together(members) == [None] * 3
    for k, member in enumerate(members):
        expected = fresh(k).fit(X[k:], Y[k:]).predict_proba(X)
        np.testing.assert_allclose(member.net.predict_proba(X), expected, atol=1e-3)
