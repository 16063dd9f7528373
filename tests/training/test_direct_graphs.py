"""Modules of one's own, traced, against autograd."""

import random

import numpy as np
import pytest
import torch
from test_direct_rules import check, place_of
from torch import nn
from torch.nn import functional as F

from skhpo.training.direct import Unknown
from skhpo.training.direct._layers import make_rule


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(6, 6)
        self.two = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
        self.norm = nn.LayerNorm(6)
        self.relu = nn.ReLU()
        self.inplace = nn.ReLU(inplace=True)
        self.last = nn.Linear(6, 2)


class Residual(Base):
    def forward(self, x):
        x = F.relu(self.one(x))
        x = x + self.two(x)
        return self.last(self.norm(x) - 0.5 * x)


class Gated(Base):
    def forward(self, x):
        x = self.one(x)
        return self.last(torch.sigmoid(x) * x.tanh() * x)


class Joined(Base):
    def forward(self, x):
        one, two = self.one(x), self.two(x)
        return torch.cat([F.gelu(one), two], dim=1).mul(2).add(1)


class Reshaped(Base):
    def forward(self, x, scale=None):
        x = self.inplace(self.one(x)).view(x.size(0), 2, 3)
        x = F.max_pool1d(x, 3).reshape(x.shape[0], -1).unsqueeze(1)
        x = torch.flatten(x, 1).unflatten(1, (2, -1)).squeeze(-1)
        return F.softplus(x)


class Nested(Base):
    def __init__(self):
        super().__init__()
        self.residual = Residual()

    def forward(self, x):
        return self.relu(self.residual(self.one(x)))


class Twice(Base):
    def forward(self, x):
        x = self.one(x)
        return self.relu(x) + (1.0 - x) - self.relu(x)


class Unused(Base):
    def forward(self, x):
        self.one(x)
        return self.last(x)


@pytest.mark.parametrize("kind", [Residual, Gated, Joined, Reshaped, Nested, Twice])
def test_graphs(kind):
    check(kind(), 5, 6)


class Branching(Base):
    def forward(self, x):
        return self.one(x) if x.sum() > 0 else self.two(x)


class Counting(Base):
    n_calls = 0

    def forward(self, x):
        self.n_calls += 1
        return self.last(x)


class CountingInABuffer(Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("n_calls", torch.tensor(0))

    def forward(self, x):
        self.n_calls += 1
        return self.last(x)


class Dropping(Base):
    def forward(self, x):
        return self.last(x) if random.random() < 0.9 else self.last(self.one(x))


class DroppingByNumpy(Base):
    def forward(self, x):
        return self.last(x if np.random.rand() < 0.9 else self.one(x))  # noqa: NPY002


class InPlace(Base):
    def forward(self, x):
        x = self.one(x)
        return self.inplace(x) + x


class Pair(Base):
    def forward(self, x):
        return self.one(x), self.two(x)


class TwoInputs(Base):
    def forward(self, x, z):
        return self.one(x)


class Shared(Base):
    def forward(self, x):
        return self.one(self.one(x))


class AcrossRows(Base):
    def forward(self, x):
        return self.last(x.view(-1, 2, 6).reshape(-1, 6))


class OfParameters(Base):
    def forward(self, x):
        return F.linear(x, self.one.weight)


class Broadcast(Base):
    def forward(self, x):
        return self.one(x) * self.last(x).sum(1, keepdim=True)


class Noisy(Base):
    def forward(self, x):
        return self.one(x) + torch.randn_like(x)


@pytest.mark.parametrize(
    "kind",
    [
        *(Branching, Counting, CountingInABuffer, Dropping, DroppingByNumpy, InPlace, Pair),
        *(TwoInputs, Shared, AcrossRows, OfParameters, Broadcast, Noisy, Unused),
    ],
)
def test_what_has_no_rule(kind):
    with pytest.raises(Unknown):
        make_rule(kind(), place_of(kind(), torch.zeros(4, 6))[0])
