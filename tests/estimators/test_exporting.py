"""A trained network as a plain module, and as a graph in a file."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import uniform
from torch import nn

from skhpo import SelfTuningClassifier
from skhpo.estimators import MLP, TorchClassifier, TorchRegressor

BASE = {"max_epochs": 1, "lr": 0.02, "random_state": 0}


def tensor(X):
    return torch.from_numpy(np.asarray(X, dtype=np.float32))


def predictions(model, batch):
    with torch.no_grad():
        return model.predicting(batch).numpy()


class Named(nn.Module):
    def __init__(self, out_features):
        super().__init__()
        self.net = MLP(8, out_features)

    def forward(self, left, right):
        return self.net(torch.cat([left, right], 1)), left


NETS = {
    "logits": TorchClassifier(**BASE),
    "binary": TorchClassifier(criterion="bce_with_logits", **BASE),
    "averaged": TorchClassifier(average="ema", **BASE),
    "given": TorchClassifier(predict_nonlinearity=torch.sigmoid, **BASE),
    "several": TorchClassifier(**BASE),
    "values": TorchRegressor(**BASE),
    "scaled": TorchRegressor(scale_target="standard", **BASE),
    "outputs": TorchRegressor(scale_target="standard", **BASE),
    "rates": TorchRegressor(criterion="poisson_nll", **BASE),
}


def targets(kind, y):
    return {
        "binary": y > 0,
        "several": np.stack([y > 0, y > 1], 1).astype(int),
        "values": y + 0.5,
        "scaled": 100.0 * y - 3,
        "outputs": np.stack([10.0 * y, 1.0 - y], 1),
    }.get(kind, y)


@pytest.fixture(scope="module", params=list(NETS))
def fitted(request, blobs):
    X, y = blobs
    return NETS[request.param].fit(X, targets(request.param, y))


def predicted(net, X):
    return net.predict_proba(X) if isinstance(net, TorchClassifier) else net.predict(X)


def test_a_plain_module_and_what_is_done_around_it(fitted, blobs):
    X, _ = blobs
    model = fitted.to_torch()
    assert type(model.module) is MLP
    assert model.module is not fitted.module_
    assert not model.module.training
    np.testing.assert_allclose(
        predictions(model, tensor(X)), predicted(fitted, X), rtol=1e-5, atol=1e-6
    )
    if hasattr(fitted, "classes_"):
        np.testing.assert_array_equal(model.classes, fitted.classes_)
    assert "a tensor of float32, shape (n, 8)" in model.before


def test_it_is_written_down(blobs):
    X, y = blobs
    frame = pd.DataFrame(X, columns=[f"column {i}" for i in range(8)])
    model = TorchClassifier(**BASE).fit(frame, np.array(["a", "b", "c"])[y]).to_torch()
    assert "columns column 0, column 1" in model.before
    assert model.after == "softmax over dimension 1"
    assert "classes: ['a', 'b', 'c']" in repr(model)
    scaled = TorchRegressor(scale_target="standard", **BASE).fit(X, 3.0 * y).to_torch()
    assert scaled.after == "times target_scale_, plus target_mean_"
    assert TorchRegressor(**BASE).fit(X, y).to_torch().after == "nothing"


def test_several_inputs_and_outputs(blobs):
    X, y = blobs
    inputs = {"left": X[:, :3], "right": X[:, 3:]}
    net = TorchClassifier(Named, **BASE).fit(inputs, y)
    model = net.to_torch()
    batch = {name: tensor(value) for name, value in inputs.items()}
    np.testing.assert_allclose(predictions(model, batch), net.predict_proba(inputs), rtol=1e-5)
    assert "left: float32, right: float32" in model.before


def test_training_goes_on_after_it(blobs):
    net = TorchClassifier(**BASE).fit(*blobs)
    model = net.to_torch()
    before = predictions(model, tensor(blobs[0]))
    net.partial_fit(*blobs)
    np.testing.assert_array_equal(predictions(model, tensor(blobs[0])), before)


def test_a_self_tuning_network_leaves_without_its_response(blobs):
    ranges = {"dropout_0.p": uniform(0, 0.5)}
    net = SelfTuningClassifier(
        MLP, ranges, module__dropout=0.1, max_epochs=2, warmup_epochs=1, random_state=0
    ).fit(*blobs)
    model = net.to_torch()
    assert type(model.module) is MLP
    np.testing.assert_allclose(
        predictions(model, tensor(blobs[0])), net.predict_proba(blobs[0]), rtol=1e-5
    )


def test_a_program_of_torch_needs_nothing_of_the_package(fitted, blobs):
    # What an ONNX graph is written from; it takes any number of rows.
    X = tensor(blobs[0])
    model = fitted.to_torch()
    rows = torch.export.Dim("rows")
    program = torch.export.export(model.predicting, (X[:4],), dynamic_shapes=({0: rows},))
    with torch.no_grad():
        found = program.module()(X).numpy()
    np.testing.assert_allclose(found, predicted(fitted, blobs[0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fitted", ["binary", "scaled", "several"], indirect=True)
def test_an_onnx_graph_gives_the_same(fitted, blobs, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    import onnxruntime

    path = tmp_path / "net.onnx"
    fitted.to_onnx(path, blobs[0])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for n in (1, 150):
        (found,) = session.run(None, {"X": blobs[0][:n]})
        np.testing.assert_allclose(found, predicted(fitted, blobs[0][:n]), rtol=1e-4, atol=1e-5)


def test_errors(blobs, monkeypatch, tmp_path):
    net = TorchClassifier(**BASE)
    with pytest.raises(Exception, match="not initialized"):
        net.to_torch()
    net.set_params(module__in_features=8, module__out_features=3).initialize()
    with pytest.raises(ValueError, match="the network was only initialized; call fit"):
        net.to_torch()
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="needs the package onnx, which is not installed"):
        net.fit(*blobs).to_onnx(tmp_path / "net.onnx", blobs[0])
