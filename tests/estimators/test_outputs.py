"""From what a module returns to probabilities, and the weights of samples."""

import numpy as np
import pytest
import torch
from torch import nn

from skhpo.estimators import TorchClassifier, TorchRegressor


class Head(nn.Module):
    def __init__(self, in_features, out_features, last=nn.Identity, flat=False):
        super().__init__()
        self.linear, self.last, self.flat = nn.Linear(in_features, out_features), last(), flat

    def forward(self, x):
        out = self.last(self.linear(x))
        return out[:, 0] if self.flat else out


class LogSoftmax(nn.LogSoftmax):
    def __init__(self):
        super().__init__(dim=1)


class Softmax(nn.Softmax):
    def __init__(self):
        super().__init__(dim=1)


class Focal(nn.Module):
    """A criterion of one's own, on logits."""

    def forward(self, logits, y):
        log_p = torch.log_softmax(logits, 1).gather(1, y[:, None])
        return -((1 - log_p.exp()) ** 2 * log_p).mean()


@pytest.mark.parametrize(
    ("last", "criterion"),
    [
        (nn.Identity, "cross_entropy"),
        (LogSoftmax, "nll"),
        (Softmax, "nll"),
        (nn.Identity, Focal),
        (nn.Identity, "multi_margin"),
    ],
)
def test_probabilities_of_many_classes(blobs, last, criterion):
    X, y = blobs
    net = TorchClassifier(
        Head, module__last=last, criterion=criterion, lr=0.02, max_epochs=20, random_state=0
    ).fit(X, y)
    probabilities = net.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert (probabilities >= 0).all()
    assert net.score(X, y) > 0.7


def test_softmax_and_log_softmax_train_alike(blobs):
    X, y = blobs
    nets = [
        TorchClassifier(Head, module__last=last, criterion="nll", random_state=0, max_epochs=5)
        for last in (LogSoftmax, Softmax)
    ]
    one, other = (net.fit(X, y).predict_proba(X) for net in nets)
    np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    ("last", "criterion"), [(nn.Identity, "bce_with_logits"), (nn.Sigmoid, "bce")]
)
def test_two_classes_with_one_output(blobs, last, criterion, flat):
    X, y = blobs[0], np.array(["no", "yes"])[(blobs[1] > 0).astype(int)]
    net = TorchClassifier(
        Head,
        module__last=last,
        module__flat=flat,
        criterion=criterion,
        lr=0.02,
        max_epochs=20,
        class_weight="balanced",
    ).fit(X, y)
    assert net.module_.linear.out_features == 1
    assert net.predict_proba(X).shape == (150, 2)
    np.testing.assert_allclose(net.predict_proba(X).sum(1), 1, rtol=1e-5)
    assert net.score(X, y) > 0.7


def test_two_classes_have_two_outputs_by_default(blobs):
    net = TorchClassifier(max_epochs=1).fit(blobs[0], blobs[1] > 0)
    assert net.module_.output.out_features == 2


def test_module_that_returns_more_than_its_output(blobs):
    class Verbose(Head):
        def forward(self, x):
            return super().forward(x), x

    class Net(TorchClassifier):
        def get_loss(self, y_pred, y_true, *args, **kwargs):
            return super().get_loss(y_pred[0], y_true, *args, **kwargs)

    net = Net(Verbose, max_epochs=1).fit(*blobs)
    assert net.predict_proba(blobs[0]).shape == (150, 3)


def test_predict_nonlinearity_is_skorchs(blobs):
    net = TorchClassifier(max_epochs=1, predict_nonlinearity=None, random_state=0).fit(*blobs)
    np.testing.assert_array_equal(net.predict_proba(blobs[0]), net.forward(blobs[0]).numpy())


@pytest.mark.parametrize("flat", [False, True])
def test_regression_output_may_be_flat(line, flat):
    X, y = line
    net = TorchRegressor(Head, module__flat=flat, lr=0.05, max_epochs=60, random_state=0)
    assert net.fit(X, y).score(X, y) > 0.9


@pytest.mark.parametrize("cls", [TorchClassifier, TorchRegressor])
def test_zero_weight_is_removal(blobs, cls):
    X, y = blobs
    kept = np.arange(len(X)) % 3 > 0
    weighted = cls(max_epochs=2, random_state=0).fit(X, y, sample_weight=kept)
    removed = cls(max_epochs=2, random_state=0).fit(X[kept], y[kept], sample_weight=kept[kept])
    np.testing.assert_array_equal(weighted.predict(X), removed.predict(X))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_weights_count(blobs, method):
    X, y = blobs
    weight = np.where(y == 1, 100.0, 0.001)
    net = TorchClassifier(max_epochs=15, lr=0.01, random_state=0)
    getattr(net, method)(X, y, sample_weight=weight)
    assert (net.predict(X) == 1).mean() > 0.9


def test_only_the_ratio_of_weights_counts(blobs):
    X, y = blobs
    weight = np.random.RandomState(0).randint(1, 5, len(X))
    one, other = (
        TorchClassifier(max_epochs=2, random_state=0).fit(X, y, sample_weight=weight * scale)
        for scale in (1, 1024)
    )
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


def test_unit_weights_are_no_weights(blobs):
    X, y = blobs
    plain = TorchClassifier(max_epochs=2, random_state=0).fit(X, y)
    ones = TorchClassifier(max_epochs=2, random_state=0).fit(X, y, sample_weight=np.ones(len(X)))
    np.testing.assert_allclose(plain.predict_proba(X), ones.predict_proba(X), atol=1e-5)


def test_class_weights(blobs):
    X, y = blobs
    rare = np.flatnonzero((y != 2) | (np.arange(len(y)) % 10 == 0))
    X, y = X[rare], np.array(["a", "b", "c"])[y[rare]]
    counts = {label: (y == label).sum() for label in "abc"}
    params = {"max_epochs": 3, "random_state": 0}
    balanced = TorchClassifier(class_weight="balanced", **params).fit(X, y)
    by_hand = {label: len(y) / (3 * count) for label, count in counts.items()}
    as_dict = TorchClassifier(class_weight=by_hand, **params).fit(X, y)
    weight = np.array([by_hand[label] for label in y])
    as_sample_weight = TorchClassifier(**params).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(balanced.predict_proba(X), as_dict.predict_proba(X), rtol=1e-4)
    np.testing.assert_allclose(
        balanced.predict_proba(X), as_sample_weight.predict_proba(X), rtol=1e-4
    )
    unweighted = TorchClassifier(**params).fit(X, y)
    assert (balanced.predict(X) == "c").sum() > (unweighted.predict(X) == "c").sum()


def test_multi_output_weights(line):
    X, y = line
    y = np.column_stack([y, -y])
    weight = np.linspace(0, 1, len(y))
    TorchRegressor(max_epochs=1, criterion="huber").fit(X, y, sample_weight=weight)
