"""Batch normalization in both modes, on the same rows."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_multilabel_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import TorchClassifier, TorchRegressor
from skhpo.inspection import batch_norm_gap

X, y = load_digits(n_class=3, return_X_y=True)
X = (X / 16).astype(np.float32)
SORTED = np.argsort(y, kind="stable")
NORMED = {"module__normalization": "batch", "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def net():
    return TorchClassifier(**NORMED, module__dropout=0.5, max_epochs=8).fit(X, y)


def test_of_shuffled_batches_both_modes_agree(net):
    state = {name: value.clone() for name, value in net.module_.state_dict().items()}
    found = batch_norm_gap(net, X, y)
    assert not found.differs
    assert found.changed < 0.05
    assert found.loss_evaluation == pytest.approx(log_loss(y, net.predict_proba(X)), rel=1e-4)
    assert found.layers["layer"].tolist() == ["norm_0"]
    assert found.layers["shift"][0] < 0.2
    assert 0.8 < found.layers["variance_ratio"][0] < 1.25
    assert found.table["n_rows"].sum() == 5 * len(y)
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, state[name])


def test_the_loss_in_training_mode_is_that_of_the_module_without_dropout(net):
    found = batch_norm_gap(net.set_params(batch_size=-1), X, y, n_passes=1)
    net.set_params(batch_size=32)
    module = net.module_
    module.eval()
    norm = dict(module.named_modules())["norm_0"]
    kept = {name: value.clone() for name, value in norm.state_dict().items()}
    norm.train()
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(module(torch.tensor(X)), torch.tensor(y))
    norm.load_state_dict(kept)
    assert found.loss_training == pytest.approx(float(loss), rel=1e-4)


def test_batches_of_one_class_each_leave_averages_of_none():
    net = TorchClassifier(**NORMED, max_epochs=8, iterator_train__shuffle=False)
    found = batch_norm_gap(net.fit(X[SORTED], y[SORTED]), X[SORTED], y[SORTED])
    assert found.differs
    assert found.changed > 0.2
    assert len(found.table["n_rows"]) == -(-len(y) // net.batch_size)  # once, in order


def test_two_sources_and_data_that_have_moved(net):
    found = batch_norm_gap(net, X + 3, y)
    assert found.differs
    assert found.gap > 0
    assert found.layers["shift"][0] > 1


def test_regressors_pipelines_and_several_labels():
    target = X[:, 20] + 0.1 * X[:, 30]
    regressor = TorchRegressor(**NORMED, max_epochs=8)
    pipe = make_pipeline(StandardScaler(), regressor).fit(X, target)
    found = batch_norm_gap(pipe, X, target)
    expected = mean_squared_error(target, pipe.predict(X))
    assert found.loss_evaluation == pytest.approx(expected, rel=1e-3)
    several_X, several_y = make_multilabel_classification(60, 5, n_classes=3, random_state=0)
    net = TorchClassifier(**NORMED, max_epochs=3).fit(several_X.astype(np.float32), several_y)
    found = batch_norm_gap(net, several_X.astype(np.float32), several_y)
    assert np.isfinite([found.gap, found.changed]).all()


def test_what_it_cannot_look_into(net):
    with pytest.raises(ValueError, match="needs a network with batch normalization"):
        batch_norm_gap(TorchClassifier(max_epochs=1, device="cpu").fit(X, y), X, y)
    with pytest.raises(TypeError, match="LogisticRegression"):
        batch_norm_gap(LogisticRegression(max_iter=1000).fit(X, y), X, y)
    with pytest.raises(NotFittedError):
        batch_norm_gap(TorchClassifier(), X, y)
    with pytest.raises(ValueError, match="the same rows, four at least"):
        batch_norm_gap(net, X, y[:5])
    with pytest.raises(ValueError, match="labels that the network does not know: \\[7\\]"):
        batch_norm_gap(net, X, np.where(y == 0, 7, y))
