"""Devices: choosing one, and living on one."""

import pickle

import numpy as np
import pytest
import torch

from skhpo.estimators import TorchClassifier
from skhpo.training.forwarding import resolve_device

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize(
    ("n_cuda", "mps", "chosen"), [(0, False, "cpu"), (2, False, "cuda"), (0, True, "mps")]
)
def test_auto_takes_the_first_there_is(monkeypatch, n_cuda, mps, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto") == torch.device(chosen)
    if n_cuda:
        assert resolve_device("cuda:1") == torch.device("cuda:1")
        with pytest.raises(ValueError, match=r"got 'cuda:2'; there are: 'cpu', 'cuda:0', 'cuda:1'"):
            resolve_device("cuda:2")


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), None])
def test_cpu(blobs, device):
    net = TorchClassifier(device=device, max_epochs=1).fit(*blobs)
    assert net.device_ == torch.device("cpu")
    assert net.device is device


def test_parameter_stays_auto(blobs):
    assert TorchClassifier(max_epochs=1).fit(*blobs).device == "auto"


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("params", [{}, {"module__dropout": 0.3, "class_weight": "balanced"}])
def test_cuda(blobs, params, tmp_path):
    X, y = blobs
    before = torch.cuda.get_rng_state()
    net = TorchClassifier(device="cuda", max_epochs=10, lr=0.01, random_state=0, **params)
    net.fit(X, y)
    assert next(net.module_.parameters()).is_cuda
    assert net.score(X, y) > 0.7
    assert torch.equal(torch.cuda.get_rng_state(), before)
    twin = pickle.loads(pickle.dumps(net))
    loaded = TorchClassifier(**net.get_params(deep=False))
    net.save_checkpoint(tmp_path / "net.pt")
    loaded.load_checkpoint(tmp_path / "net.pt")
    for other in (twin, loaded):
        np.testing.assert_allclose(other.predict_proba(X), net.predict_proba(X), rtol=1e-5)
    reference = net.partial_fit(X, y).predict_proba(X)
    for other in (twin, loaded):
        np.testing.assert_allclose(other.partial_fit(X, y).predict_proba(X), reference, rtol=1e-3)
