"""Modules with sparse buffers, as graph networks have, and with other kinds of tensors."""

import copy
import io
import logging
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from torch import nn

from skhpo import SelfTuningClassifier, TorchClassifier
from skhpo.fingerprint import describe
from skhpo.lockstep import Member, pays, predict_together, train_together

# Torch warns of the first tensor of these kinds.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Sparse [CB]S[RC] tensor support:UserWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning"),
]

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 8)).astype(np.float32)
Y = np.arange(24) % 2
MATRIX = torch.tensor(RNG.integers(0, 2, size=(8, 8)), dtype=torch.float32)


class Marked(torch.Tensor):
    """A tensor of a class of its own."""


# Buffers, and how to compute with them: a matrix of shape (8, 8).
KINDS = {
    "coo": (lambda: MATRIX.to_sparse(), lambda A, x: torch.sparse.mm(A, x.T).T),
    "csr": (lambda: MATRIX.to_sparse_csr(), lambda A, x: torch.sparse.mm(A, x.T).T),
    "csc": (lambda: MATRIX.to_sparse_csc(), lambda A, x: x @ A.to_dense()),
    "bsr": (lambda: MATRIX.to_sparse_bsr((2, 2)), lambda A, x: x @ A.to_dense()),
    "quantized": (
        lambda: torch.quantize_per_tensor(MATRIX, 0.5, 0, torch.qint8),
        lambda A, x: x @ A.dequantize(),
    ),
    "expanded": (lambda: torch.ones(1, 1).expand(8, 8), lambda A, x: x @ A),
    "complex": (lambda: torch.complex(MATRIX, -MATRIX), lambda A, x: x @ A.real),
    "half": (lambda: MATRIX.half(), lambda A, x: x @ A.float()),
    "eighth": (lambda: MATRIX.to(torch.float8_e4m3fn), lambda A, x: x @ A.float()),
    "subclass": (lambda: MATRIX.as_subclass(Marked), lambda A, x: x @ A.as_subclass(torch.Tensor)),
    "empty": (lambda: torch.empty(0, 8), lambda A, x: x + A.sum()),
}
OTHERS = {"coo", "csr", "csc", "bsr", "quantized", "eighth"}


class Graph(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.register_buffer("A", KINDS[kind][0]())
        self.hidden, self.out = nn.Linear(8, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.hidden(KINDS[self.kind][1](self.A, x))))


def net_of(kind, **params):
    settings = {"optimizer": "sgd", "lr": 0.1, "batch_size": -1, "max_epochs": 4}
    settings |= {"random_state": 0, "device": "cpu", **params}
    return TorchClassifier(Graph, module__kind=kind, **settings)


def by_hand(kind):
    module = net_of(kind).initialize().module_
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    inputs, targets = torch.from_numpy(X), torch.from_numpy(Y)
    for _ in range(4):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(inputs), targets).backward()
        optimizer.step()
    with torch.no_grad():
        return module(inputs).softmax(1).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_a_buffer_of_any_kind_is_kept(kind, caplog):
    expected = by_hand(kind)

    def check(net):
        np.testing.assert_allclose(net.predict_proba(X), expected, atol=1e-5)

    net = net_of(kind)
    assert describe(net.initialize().module_) == describe(clone(net).initialize().module_)
    check(net.fit(X, Y))
    check(clone(net).fit(X, Y))
    if kind != "eighth":  # which torch cannot pickle
        check(pickle.loads(pickle.dumps(net)))
    if kind != "subclass":  # which torch does not read from files
        half, file = net_of(kind, max_epochs=2).fit(X, Y), io.BytesIO()
        half.save_checkpoint(file)
        file.seek(0)
        check(clone(half).load_checkpoint(file).partial_fit(X, Y))
    with caplog.at_level(logging.DEBUG, "skhpo"):
        nets = [net_of(kind), net_of(kind), net_of(kind, random_state=1)]
        assert train_together([Member(one, X, Y) for one in nets]) == [None] * 3
    assert ("the buffer 'A' is no plain tensor" in caplog.text) == (kind in OTHERS)
    check(nets[0])
    np.testing.assert_allclose(predict_together(nets, [X] * 3)[0], expected, atol=1e-5)


@pytest.mark.parametrize("params", [{}, {"average": "ema", "validation_fraction": 0.25}])
@pytest.mark.parametrize("kind", ["coo", "csr", "csc", "bsr"])
def test_networks_with_sparse_buffers_are_copied(kind, params):
    net = net_of(kind, **params).fit(X, Y)
    expected = net.predict_proba(X)
    again = TorchClassifier(net.module_, classes=[0, 1], device="cpu").initialize()
    np.testing.assert_array_equal(again.predict_proba(X), expected)
    step = make_pipeline(again)
    for other in (
        copy.deepcopy(net),
        *(one(step)[0].initialize() for one in (clone, copy.deepcopy)),
    ):
        np.testing.assert_array_equal(other.predict_proba(X), expected)
        other.module_.A.values().zero_()
    assert torch.equal(net.module_.A.to_dense(), MATRIX)
    assert pays(net, 3) == 3
    assert torch.equal(net.to_torch().module.A.to_dense(), MATRIX)
    tuned = SelfTuningClassifier(Graph, module__kind=kind, warmup_epochs=0, max_epochs=1)
    assert tuned.fit(X, Y).predict_proba(X).shape == (24, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_checks_and_averages_load_a_buffer_of_any_kind(kind):
    net = net_of(kind, validation_fraction=0.25, average="ema", max_epochs=2).fit(X, Y)
    assert torch.equal(
        KINDS[kind][1](net.module_.A, torch.eye(8)), KINDS[kind][1](KINDS[kind][0](), torch.eye(8))
    )
