"""What a fit is continued from survives the way between processes, and into a file and back."""

import io
import threading
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import SGDClassifier
from skorch import NeuralNetClassifier
from torch import nn

from skhpo import HalvingHyperbandSearchCV, TorchClassifier
from skhpo.evaluation._travel import pack

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)
parametrizations = nn.utils.parametrizations


class Plain(nn.Module):
    """Two layers, of which subclasses change the first."""

    def __init__(self, in_features=4, out_features=3):
        super().__init__()
        self.first = self.changed(nn.Linear(in_features, 5))
        self.last = nn.Linear(5, out_features)

    def changed(self, layer):
        return layer

    def forward(self, x):
        return self.last(self.first(x).tanh())


class WeightNorm(Plain):
    def changed(self, layer):
        return parametrizations.weight_norm(layer)


class SpectralNorm(Plain):
    def changed(self, layer):
        return parametrizations.spectral_norm(layer)


class WeightNormByHook(Plain):
    def changed(self, layer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return nn.utils.weight_norm(layer)


class WithLambda(Plain):
    def changed(self, layer):
        self.function = lambda x: x.tanh()
        return layer

    def forward(self, x):
        return self.last(self.function(self.first(x)))


class WithLock(Plain):
    """Can neither be pickled nor copied."""

    def changed(self, layer):
        self.lock = threading.Lock()
        return layer


class Forgetful(Plain):
    """Its pickle has no weights, as of networks that load theirs from elsewhere."""

    def __reduce__(self):
        return Forgetful, ()


class Counting(Plain):
    """Keeps a number that is neither parameter nor buffer."""

    def changed(self, layer):
        self.n_steps = 0
        return layer

    def forward(self, x):
        self.n_steps += self.training
        return super().forward(x) / (1 + self.n_steps)


def local_class():
    class Local(Plain):
        pass

    return Local


MODULES = [
    *(WeightNorm, SpectralNorm, WeightNormByHook, WithLambda, WithLock, Forgetful, Counting),
    local_class(),
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_networks_go_on_as_if_nothing_had_been(module):
    net = TorchClassifier(module, max_epochs=2, batch_size=50, lr=0.05, random_state=0)
    net.fit(X, y)
    file = io.BytesIO()
    net.save_checkpoint(file)
    file.seek(0)
    travelled = [pack(net).unpacked(clone(net)), clone(net).load_checkpoint(file)]
    expected = net.partial_fit(X, y).predict_proba(X)
    for other in travelled:
        np.testing.assert_allclose(other.partial_fit(X, y).predict_proba(X), expected, rtol=1e-6)


def test_what_cannot_travel_is_left_behind():
    kwargs = {"train_split": None, "verbose": 0, "max_epochs": 1}
    net = NeuralNetClassifier(WithLock, criterion=nn.CrossEntropyLoss, **kwargs).fit(X, y)
    assert pack(net) is None
    assert isinstance(pack(SGDClassifier().fit(X, y)).unpacked(None), SGDClassifier)


# Which states travel is seen without processes, above.
@pytest.mark.parametrize(
    "module", [pytest.param(WeightNorm, marks=pytest.mark.slow), WithLock, "skorch"]
)
def test_rungs_in_processes(module):
    if module == "skorch":
        net = NeuralNetClassifier(
            WithLock, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, batch_size=50
        )
        net.set_params(optimizer=torch.optim.SGD)
    else:
        net = TorchClassifier(module, batch_size=50)
    searches = [
        HalvingHyperbandSearchCV(
            net,
            {"lr": [0.1, 0.05, 0.01]},
            max_resources=3,
            n_brackets=1,
            cv=2,
            n_jobs=n_jobs,
            refit=False,
            random_state=0,
        ).fit(X, y)
        for n_jobs in (1, 2)
    ]
    scores = [search.cv_results_["mean_test_score"] for search in searches]
    assert np.isfinite(scores).all()
    if module != "skorch":  # whose weights are drawn from a global generator
        np.testing.assert_allclose(*scores)
