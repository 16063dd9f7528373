"""How much memory an update of variant="implicit" takes, in multiples of the weights."""

import weakref

import numpy as np
import torch
from scipy.stats import uniform
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skhpo import SelfTuningClassifier


class Peak(TorchDispatchMode):
    """Counts the bytes of all tensors that operations return, as long as they live."""

    def __init__(self):
        super().__init__()
        self.sizes, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.sizes:
                    self.sizes[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self.forget, storage._cdata)
        return out

    def forget(self, key):
        self.now -= self.sizes.pop(key, 0)


def peak_of(**params):
    X, y = np.random.default_rng(0).normal(size=(64, 400)).astype(np.float32), np.arange(64) % 2
    net = SelfTuningClassifier(variant="implicit", module__n_units=500, random_state=0, **params)
    net.set_params(warmup_epochs=0, max_epochs=2, batch_size=4, train_steps=2)
    with Peak() as counted:
        net.fit(X, y)
    return counted.peak / sum(4 * p.numel() for p in net.module_.parameters())


def test_an_update_keeps_two_vectors_and_a_longer_series_three():
    """Beside the weights, their gradients and the optimizer's state."""
    plain = peak_of(hyperparameters={"weight_decay": 0.1})
    for n_terms, most in ((1, 2.5), (3, 3.5)):
        tuned = peak_of(hyperparameters={"weight_decay": uniform(0, 1)}, n_terms=n_terms)
        assert 0 < tuned - plain < most
