"""What the numbers that a module returns mean: told by criterion, last operation and range."""

import functools
import warnings

import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_val_score
from torch import nn
from torch.nn import functional as F

from skhpo import BayesSearchCV
from skhpo.estimators import MLP, TorchClassifier, TorchRegressor
from skhpo.estimators._outputs import last_operations
from skhpo.lockstep import predict_together

FAST = {"max_epochs": 30, "lr": 0.05, "random_state": 0}


@pytest.fixture(scope="module")
def halves():
    X = np.random.default_rng(0).normal(size=(160, 5)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


def ending(function, width=None):
    """Return a module that ends in a function, of any width that is asked for."""

    class Ending(nn.Module):
        def __init__(self, in_features, out_features):
            super().__init__()
            self.linear = nn.Linear(in_features, out_features if width is None else width)

        def forward(self, x):
            return function(self.linear(x))

    return Ending


class Dice(nn.Module):
    def forward(self, p, t):
        p, t = p.reshape(-1), t.reshape(-1).float()
        return 1 - (2 * (p * t).sum() + 1) / ((p + t).sum() + 1)


class OwnBCE(nn.Module):
    def forward(self, p, t):
        return F.binary_cross_entropy(p.reshape(t.shape), t)


class OwnBCEWithLogits(nn.Module):
    def forward(self, p, t):
        return F.binary_cross_entropy_with_logits(p.reshape(t.shape), t)


class OwnNLL(nn.Module):
    """A loss of several classes, on whatever `log` makes log-probabilities of."""

    def __init__(self, log=torch.log):
        super().__init__()
        self.log = log

    def forward(self, p, t):
        return F.nll_loss(self.log(p), t)


def outputs(net, X):
    with torch.no_grad():
        return net.module_(torch.from_numpy(X)).numpy()


@pytest.mark.parametrize(
    ("criterion", "function"),
    [
        (Dice, torch.sigmoid),
        (Dice, lambda x: 1 - torch.sigmoid(x)),
        (Dice, lambda x: torch.stack([torch.sigmoid(x), torch.sigmoid(2 * x)]).mean(0)[:, 0]),
        (OwnBCE, nn.Sigmoid()),
        (OwnBCEWithLogits, lambda x: x),
        (OwnBCEWithLogits, torch.squeeze),
        (OwnBCEWithLogits, torch.tanh),
    ],
)
def test_one_output_under_a_loss_of_ones_own(criterion, function, halves):
    X, y = halves
    net = TorchClassifier(ending(function, width=1), criterion=criterion, **FAST).fit(X, y)
    output = outputs(net, X).ravel()
    second = 1 / (1 + np.exp(-output)) if criterion is OwnBCEWithLogits else output
    np.testing.assert_allclose(net.predict_proba(X)[:, 1], second, rtol=1e-5, atol=1e-6)
    assert net.score(X, y) == ((second > 0.5) == y).mean() > 0.9


@pytest.mark.parametrize(
    ("criterion", "function"), [(OwnBCE, torch.sigmoid), (OwnBCEWithLogits, lambda x: x)]
)
def test_several_labels_under_a_loss_of_ones_own(criterion, function, halves):
    X, Y = halves[0], (halves[0][:, :2] > 0.5).astype(int)
    net = TorchClassifier(ending(function), criterion=criterion, **FAST).fit(X, Y)
    right = outputs(net, X) > (0.5 if criterion is OwnBCE else 0)
    np.testing.assert_array_equal(net.predict(X), right)
    # The mean squared error is least where the output is the probability itself.
    net = TorchClassifier(ending(lambda x: x), criterion="mse", **FAST).fit(X, Y)
    np.testing.assert_array_equal(net.predict(X), outputs(net, X) > 0.5)
    assert 0 <= net.predict_proba(X).min() <= net.predict_proba(X).max() <= 1


@pytest.mark.parametrize(
    ("function", "log", "to_proba"),
    [
        (lambda x: torch.softmax(x, 1), torch.log, lambda p: p),
        (lambda x: x.exp() / x.exp().sum(1, keepdim=True), torch.log, lambda p: p),
        (lambda x: torch.log_softmax(x, 1), nn.Identity(), np.exp),
        (torch.sigmoid, torch.log, lambda p: p / p.sum(1, keepdims=True)),
        (lambda x: x, nn.LogSoftmax(1), lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    ],
)
def test_several_classes_under_a_loss_of_ones_own(function, log, to_proba, blobs):
    X, y = blobs
    net = TorchClassifier(ending(function), criterion=OwnNLL, criterion__log=log, **FAST)
    net.set_params(max_epochs=2).fit(X, y)
    np.testing.assert_allclose(net.predict_proba(X), to_proba(outputs(net, X)), rtol=1e-4)


def test_where_nothing_tells_predict_nonlinearity_is_asked_for(halves, blobs, monkeypatch):
    X, y = halves
    trained = monkeypatch.setattr(torch.Tensor, "backward", lambda *_: pytest.fail("was trained"))
    assert trained is None

    def hidden(x):
        with torch.no_grad():
            return torch.sigmoid(x)

    for function in (hidden, F.softplus, torch.exp):
        net = TorchClassifier(ending(function, width=1), criterion=Dice)
        with pytest.raises(ValueError, match=r"nor the module tells .* set predict_nonlinearity"):
            net.fit(X, y)
    labels = np.stack([y, X[:, 1] > 0], 1).astype(int)
    with pytest.raises(ValueError, match=r"are logits or probabilities; set predict_nonlin"):
        TorchClassifier(ending(F.softplus), criterion=Dice).fit(X, labels)
    monkeypatch.undo()
    for given in (lambda x: x / (1 + x), lambda x: (x / (1 + x))[:, 0]):
        net = TorchClassifier(ending(torch.exp, width=1), criterion=Dice, **FAST)
        net.set_params(predict_nonlinearity=given, max_epochs=1).fit(X, y)
        output = outputs(net, X)
        np.testing.assert_allclose(
            net.predict_proba(X), np.hstack([1 / (1 + output), output / (1 + output)]), rtol=1e-5
        )
    net = TorchClassifier(ending(torch.sigmoid, width=1), criterion=Dice, **FAST)
    net.set_params(predict_nonlinearity=None, max_epochs=1).fit(X, y)
    # In batches or all rows at once, float32 may round otherwise.
    np.testing.assert_allclose(net.predict_proba(X)[:, 1:], outputs(net, X), rtol=1e-5)
    # With an output per class the largest one wins, whatever they mean.
    net = TorchClassifier(ending(torch.exp), criterion=OwnNLL, max_epochs=1, random_state=0)
    with pytest.warns(UserWarning, match=r"predict takes the class with the largest one"):
        net.fit(*blobs)
    np.testing.assert_array_equal(net.predict(blobs[0]), outputs(net, blobs[0]).argmax(1))


def test_flags_of_a_criterion_win(halves):
    class Flagged(nn.Module):
        def __init__(self, from_logits):
            super().__init__()
            self.from_logits = from_logits

        def forward(self, p, t):
            return F.mse_loss(torch.sigmoid(p) if self.from_logits else p, t)

    X, y = halves
    for flag, function in ((True, F.softplus), (False, lambda x: (x / 9 + 0.5).clamp(0, 1))):
        net = TorchClassifier(ending(function, width=1), criterion=Flagged, max_epochs=1)
        second = net.set_params(criterion__from_logits=flag).fit(X, y).predict_proba(X)[:, 1]
        output = torch.from_numpy(outputs(net, X).ravel())
        expected = torch.sigmoid(output) if flag else output
        np.testing.assert_allclose(second, expected, rtol=1e-6)


def softmax(x):
    return torch.softmax(x, 1)


@pytest.mark.parametrize(
    ("function", "criterion", "layer", "fix"),
    [
        (softmax, "cross_entropy", "Softmax", "use criterion='nll'"),
        (torch.sigmoid, "cross_entropy", "Sigmoid", "leave that layer out$"),
        (torch.sigmoid, "bce_with_logits", "Sigmoid", "use criterion='bce'"),
    ],
)
def test_probabilities_for_a_criterion_that_wants_logits(function, criterion, layer, fix, halves):
    net = TorchClassifier(ending(function), criterion=criterion, max_epochs=1, random_state=0)
    with pytest.warns(UserWarning, match=rf"takes logits, but .* after a {layer}, .*{fix}"):
        net.fit(*halves)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fine in (
            *(lambda x: x, lambda x: torch.log_softmax(x, 1), lambda x: 0 * x, torch.tanh),
            lambda x: 10 * torch.sigmoid(x) - 5,
        ):
            if criterion == "cross_entropy" or fine(torch.zeros(2, 1)).shape == (2, 1):
                net.set_params(module=ending(fine)).fit(*halves)


def test_probabilities_of_low_precision_sum_to_one(halves):
    module = ending(lambda x: torch.log_softmax(x, 1))
    net = TorchClassifier(module, criterion="nll", amp=True, max_epochs=1, random_state=0)
    np.testing.assert_allclose(net.fit(*halves).predict_proba(halves[0]).sum(1), 1, atol=1e-2)


def test_values_that_do_not_fit_the_criterion_are_told_before_training(halves, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "backward", lambda *_: pytest.fail("was trained"))
    X, y = halves
    with pytest.raises(ValueError, match=r"BCELoss takes probabilities, .*='bce_with_logits'"):
        TorchClassifier(criterion="bce", random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"log_input=False takes rates >= 0, .* in a Softplus"):
        TorchRegressor(criterion="poisson_nll", criterion__log_input=False, random_state=0).fit(
            X, y
        )
    with pytest.raises(ValueError, match=r"criterion__weight must have a weight for each of 2"):
        TorchClassifier(criterion__weight=torch.ones(3)).fit(X, y)
    with pytest.raises(ValueError, match=r"'gaussian_nll' needs a module that returns a pair"):
        TorchRegressor(criterion=nn.GaussianNLLLoss).fit(X, y)


def test_weights_of_classes_from_numpy(halves):
    net = TorchClassifier(criterion__weight=torch.tensor([1.0, 3.0]), max_epochs=2, random_state=0)
    expected = net.fit(*halves).predict_proba(halves[0])
    net.set_params(criterion__weight=torch.tensor(np.array([1.0, 3.0]))).fit(*halves)
    np.testing.assert_array_equal(net.predict_proba(halves[0]), expected)
    net.set_params(criterion__weight=np.array([1.0, 3.0])).fit(*halves)
    np.testing.assert_array_equal(net.predict_proba(halves[0]), expected)
    assert (
        TorchClassifier(criterion="bce_with_logits", max_epochs=1)
        .set_params(criterion__pos_weight=torch.tensor([3.0], dtype=torch.float64))
        .fit(*halves)
    )


@pytest.fixture(scope="module")
def counts():
    X = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    return X, np.random.default_rng(1).poisson(np.exp(X[:, 0] + 1)).astype(float)


def test_rates_are_predicted_of_log_rates(counts, tmp_path):
    X, y = counts
    net = TorchRegressor(criterion="poisson_nll", **FAST).fit(X, y)
    np.testing.assert_allclose(net.predict(X), np.exp(outputs(net, X)[:, 0]), rtol=1e-5)
    assert net.score(X, y) > 0.4
    assert net.predict(X).min() >= 0
    net.save_checkpoint(tmp_path / "net.pt")
    loaded = TorchRegressor(criterion="poisson_nll").load_checkpoint(tmp_path / "net.pt")
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))
    # The same where the search trains and predicts several together, and scores.
    params = {**FAST, "max_epochs": 5}
    nets = [TorchRegressor(criterion="poisson_nll", **params).fit(X, y) for _ in range(2)]
    for together, one in zip(predict_together(nets, [X, X]), nets, strict=True):
        np.testing.assert_allclose(together[:, 0], one.predict(X), rtol=1e-5)
    alone = cross_val_score(nets[0], X, y, cv=2)
    search = BayesSearchCV(nets[0], {"lr": [0.05, 0.04]}, n_iter=2, cv=2, lockstep=True).fit(X, y)
    row = search.cv_results_["param_lr"].tolist().index(0.05)
    assert search.cv_results_["mean_test_score"][row] == pytest.approx(alone.mean(), abs=1e-4)


def test_rates_are_predicted_of_rates(counts):
    X, y = counts
    net = TorchRegressor(ending(F.softplus), criterion="poisson_nll", **FAST)
    net.set_params(criterion__log_input=False).fit(X, y)
    np.testing.assert_allclose(net.predict(X), outputs(net, X)[:, 0], rtol=1e-5)
    with pytest.warns(UserWarning, match=r"ends in softplus, .* set criterion__log_input=False"):
        net.set_params(criterion__log_input=True, max_epochs=1).fit(X, y)


def test_other_links_of_regressors(halves):
    X, share = halves[0], 1 / (1 + np.exp(-3 * halves[0][:, 0]))
    net = TorchRegressor(criterion="bce_with_logits", **FAST).fit(X, share)
    assert net.predict(X).shape == share.shape
    assert net.score(X, share) > 0.95

    class Both(MLP):
        def forward(self, x):
            mean, variance = super().forward(x).chunk(2, 1)
            return mean, F.softplus(variance)

    for criterion in ("gaussian_nll", nn.GaussianNLLLoss):
        net = TorchRegressor(Both, module__out_features=2, criterion=criterion, **FAST)
        assert net.fit(X, X[:, 0], sample_weight=np.ones(len(X))).score(X, X[:, 0]) > 0.8
    shares = np.column_stack((share, 1 - share))
    module = ending(lambda x: torch.log_softmax(x, 1))
    divergence = nn.KLDivLoss(reduction="batchmean")
    net = TorchRegressor(module, criterion=divergence, max_epochs=1).fit(X, shares)
    np.testing.assert_allclose(net.predict(X).sum(1), 1, rtol=1e-5)
    given = TorchRegressor(criterion="poisson_nll", predict_nonlinearity=None, **FAST)
    given.set_params(max_epochs=1).fit(X, share)
    np.testing.assert_allclose(given.predict(X), outputs(given, X)[:, 0], rtol=1e-5, atol=1e-6)


def test_one_hot_targets_are_told(blobs, halves):
    with pytest.warns(UserWarning, match=r"exactly one 1 in each row, .* 3 labels .* y.argmax"):
        TorchClassifier(max_epochs=1).fit(blobs[0], np.eye(3, dtype=int)[blobs[1]])
    several = np.stack([halves[1], halves[0][:, 1] > 0], 1).astype(int)
    TorchClassifier(max_epochs=1).fit(halves[0], several)


def test_operations_behind_views_and_averages():
    layer, x = nn.Linear(3, 2), torch.ones(4, 3)
    for function, names in (
        (torch.sigmoid, {"sigmoid"}),
        (lambda o: torch.cat([o.relu()[:, :1], F.softplus(o)[:, 1:]], 1), {"relu", "softplus"}),
        (lambda o: (torch.special.expit(o).double() * 0.9 + 0.05).T.contiguous(), {"sigmoid"}),
        (lambda o: o.detach(), set()),
    ):
        assert last_operations(function(layer(x))) == names


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU, nn.ReLU(), F.relu, torch.relu, lambda: nn.ReLU(), functools.partial(F.relu)],
)
def test_activations_of_all_spellings(activation, halves):
    params = {"module__n_layers": 2, "max_epochs": 2, "random_state": 0}
    net = TorchClassifier(module__activation=activation, **params).fit(*halves)
    expected = TorchClassifier(**params).fit(*halves).predict_proba(halves[0])
    np.testing.assert_array_equal(net.predict_proba(halves[0]), expected)
    assert net.module_.activation_0 is not net.module_.activation_1


def test_an_activation_with_weights_is_copied_for_each_layer():
    net = MLP(3, 2, n_layers=2, activation=nn.PReLU(init=0.5))
    assert len({id(p) for p in net.parameters()}) == 8
    assert MLP(3, 2, activation=functools.partial(nn.PReLU, init=0.5)).activation_0.weight == 0.5


@pytest.mark.parametrize("n_classes", [2, 10, 100])
def test_probabilities_of_logits_are_their_softmax(n_classes):
    X, y = np.random.default_rng(0).normal(size=(300, 5)), np.arange(300) % n_classes
    net = TorchClassifier(ending(lambda x: 90 * x), max_epochs=1, random_state=0).fit(X, y)
    logits = torch.cat(list(net.forward_iter(X))).double()
    found = net.predict_proba(X)
    np.testing.assert_allclose(found, torch.softmax(logits, 1), rtol=1e-4, atol=1e-12)
    assert found.shape == (300, n_classes)
