"""Sparse rows train and predict as dense ones do, in linear layers without their zeros."""

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from skhpo import TorchClassifier, TorchRegressor
from skhpo.estimators import feeding
from skhpo.training import sparse
from skhpo.training.sparse import SparseBatch


def random_csr(n, width, density, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return scipy.sparse.random(n, width, density, "csr", random_state=rng).astype(dtype)


@pytest.fixture
def dense_made(monkeypatch):
    """Have all CSR matrices trained on as they are; list what is made dense of them."""
    made, to_dense = [], SparseBatch.to_dense
    monkeypatch.setattr(feeding, "is_worth_it", lambda matrix, batch_size: True)
    monkeypatch.setattr(SparseBatch, "to_dense", lambda self: made.append(self) or to_dense(self))
    return made


@given(
    n=st.integers(1, 9),
    width=st.integers(1, 40),
    n_units=st.integers(1, 5),
    density=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_a_linear_layer_and_its_gradients_are_those_of_dense_rows(
    n, width, n_units, density, bias, seed
):
    matrix = random_csr(n, width, density, seed, np.float64)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(n_units, width, dtype=torch.float64, generator=generator)
    parameters = [weight.requires_grad_()]
    if bias:
        parameters.append(torch.randn(n_units, dtype=torch.float64).requires_grad_())
    found = []
    for x in (SparseBatch(matrix), torch.from_numpy(matrix.toarray())):
        out = F.linear(x, *parameters)
        first = torch.autograd.grad(out.exp().sum(), parameters, create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), parameters)
        found.append((out, *first, *second))
    for of_sparse, of_dense in zip(*found, strict=True):
        torch.testing.assert_close(of_sparse, of_dense)


def test_values_given_twice_are_added():
    matrix = scipy.sparse.csr_matrix(
        (np.ones(3, np.float32), np.array([1, 1, 4]), np.array([0, 2, 3])), (2, 9)
    )
    weight = torch.arange(18.0).view(2, 9)
    expected = F.linear(torch.from_numpy(matrix.toarray()), weight)
    torch.testing.assert_close(F.linear(SparseBatch(matrix), weight), expected)


OPERATIONS = {
    "arithmetic": lambda x: 2 * x + 1,
    "methods": lambda x: x.flatten(1).sum(0),
    "joined": lambda x: torch.cat([x, torch.ones(len(x), 2)], 1),
    "functions": lambda x: F.relu(x - 0.2),
    "written_into": lambda x: F.linear(x.mul_(3), torch.eye(30)),
    "written_into_before": lambda x: (x.clamp_(max=0.1), F.linear(x, torch.eye(30)))[1],
    "part": lambda x: x[:, 3:5],
    "array": lambda x: torch.from_numpy(x.numpy()),
    "shape": lambda x: torch.tensor([x.ndim, *x.shape, x.size(0), x.dtype is torch.float32]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_any_other_operation_sees_all_values(name):
    matrix = random_csr(6, 30, 0.2)
    found = OPERATIONS[name](SparseBatch(matrix))
    expected = OPERATIONS[name](torch.from_numpy(matrix.toarray()))
    assert type(found) is torch.Tensor
    torch.testing.assert_close(found, expected)


def test_gradients_of_the_input_itself():
    matrix, weight = random_csr(4, 12, 0.3), torch.randn(3, 12)
    found = []
    for x in (SparseBatch(matrix), torch.from_numpy(matrix.toarray())):
        x.requires_grad_()
        found.append(torch.autograd.grad(F.linear(x, weight).square().sum(), x)[0])
    torch.testing.assert_close(*found)


class TwoPaths(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.hidden, self.linear = nn.Linear(in_features, 5), nn.Linear(in_features, out_features)
        self.output = nn.Linear(5, out_features)

    def forward(self, x):
        return self.output(torch.tanh(self.hidden(x))) + self.linear(x)


class Counts(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.output = nn.Linear(in_features + 1, out_features)

    def forward(self, x):
        return self.output(torch.cat([x, (x > 0).sum(1, keepdim=True)], 1))


class WithoutRule(nn.CrossEntropyLoss):
    pass


def normalized(in_features, out_features):
    return nn.Sequential(nn.BatchNorm1d(in_features), nn.Linear(in_features, out_features))


# Modules, and whether all that they do with X is to multiply.
MODULES = {
    "mlp": ({"module__n_units": 6, "module__dropout": 0.2}, True),
    "two_paths": ({"module": TwoPaths}, True),
    "no_bias": ({"module": lambda in_features, out_features: nn.Linear(30, 2, bias=False)}, True),
    "input_dropout": ({"module__input_dropout": 0.3}, False),
    "normalization_first": ({"module": normalized}, False),
    "counts": ({"module": Counts}, False),
}


@pytest.mark.parametrize("by_autograd", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_training_and_predictions_are_those_of_dense_rows(dense_made, name, by_autograd):
    params, multiplies = MODULES[name]
    if by_autograd:
        params = {**params, "criterion": WithoutRule}
    X = random_csr(50, 30, 0.1)
    y = np.arange(50) % 2
    nets = []
    for data in (X, X.toarray()):
        net = TorchClassifier(
            **params, max_epochs=3, batch_size=8, random_state=0, validation_fraction=0.2
        )
        nets.append(net.fit(data, y))
    assert bool(dense_made) is not multiplies
    of_sparse, of_dense = nets
    for one, other in zip(
        of_sparse.module_.parameters(), of_dense.module_.parameters(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        of_sparse.predict_proba(X), of_dense.predict_proba(X.toarray()), rtol=1e-4
    )
    assert bool(dense_made) is not multiplies


def test_callbacks_and_overridden_methods_get_dense_batches(dense_made):
    seen = []

    class Looks(TorchRegressor):
        def infer(self, x, **fit_params):
            seen.append(type(x))
            return super().infer(x, **fit_params)

    X = random_csr(40, 30, 0.1)
    Looks(max_epochs=1).fit(X, np.arange(40.0)).predict(X)
    assert set(seen) == {torch.Tensor}


@pytest.mark.parametrize(
    ("width", "density", "batch_size", "expected"),
    [
        (5000, 0.001, 128, True),
        (5000, 0.02, 128, False),
        (100, 0.001, 128, False),
        (5000, 0.01, 5000, True),  # all weights are read anyway
        (5000, 0.1, 5000, False),
    ],
)
def test_many_values_or_few_columns_are_multiplied_as_they_were(
    width, density, batch_size, expected
):
    assert sparse.is_worth_it(random_csr(10, width, density), batch_size) is expected


@pytest.mark.parametrize("batch_size", [4, -1])
def test_sparse_rows_are_predicted_many_at_a_time(dense_made, batch_size):
    sizes = []

    class Notes(nn.Linear):
        def forward(self, x):
            sizes.append(len(x))
            return super().forward(x)

    X = random_csr(64, 3000, 0.01)
    net = TorchRegressor(Notes, module__out_features=1, batch_size=batch_size, max_epochs=1)
    net.fit(X, np.arange(64.0))
    sizes.clear()
    net.predict(X)
    assert sizes == [64]
