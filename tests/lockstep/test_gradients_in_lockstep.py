"""Modules whose outputs in lockstep are right, but whose gradients would not be."""

import numpy as np
import pytest
import torch
from unusual_modules import MODULES

from skhpo import TorchClassifier
from skhpo.lockstep import Member, train_together

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = np.arange(60) % 3


@pytest.mark.parametrize("module", MODULES)
def test_gradients_are_those_of_nets_alone(module):
    settings = {"batch_size": 16, "max_epochs": 2, "device": "cpu", "optimizer": "sgd", "lr": 0.1}
    nets = [TorchClassifier(module, **settings, random_state=k) for k in range(3)]
    together = [Member(TorchClassifier(**net.get_params(deep=False)), X, Y) for net in nets]
    assert train_together(together) == [None] * 3
    for net, member in zip(nets, together, strict=True):
        expected = net.fit(X, Y).module_.state_dict()
        for name, value in member.net.module_.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
