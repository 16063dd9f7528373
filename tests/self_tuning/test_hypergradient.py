"""Hypergradients of trained networks against closed forms, and what is refused."""

import numpy as np
import pytest
import torch
from scipy.stats import loguniform, uniform
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, TargetEncoder
from torch import nn

from skhpo import SelfTuningClassifier, TorchClassifier, TorchRegressor, hypergradient
from skhpo.self_tuning import HyperValue
from skhpo.self_tuning.gradients._solvers import solve

DECAY, STRENGTH = "weight_decay", 0.5


class Line(nn.Module):
    def __init__(self, in_features, out_features=1):
        super().__init__()
        self.layer = nn.Linear(in_features, out_features, bias=False, dtype=torch.float64)

    def forward(self, x):
        return self.layer(x)


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    X, X_valid = rng.normal(size=(2, 60, 8)).astype(np.float32)
    slope = rng.normal(size=8)
    y, y_valid = (part @ slope + rng.normal(size=60) for part in (X, X_valid))
    return X, y.astype(np.float32), X_valid, y_valid.astype(np.float32)


@pytest.fixture(scope="module")
def ridge(points):
    X, y, *_ = points
    settings = {"optimizer": "sgd", "optimizer__weight_decay": STRENGTH, "lr": 0.2}
    return TorchRegressor(Line, batch_size=-1, max_epochs=100, **settings).fit(X, y)


@pytest.fixture(scope="module")
def logistic(points):
    X, y, *_ = points
    settings = {
        "criterion": "bce_with_logits",
        "optimizer": "sgd",
        "lr": 1.0,
        "label_smoothing": 0.1,
    }
    net = TorchClassifier(Line, batch_size=-1, max_epochs=400, **settings)
    return net.set_params(optimizer__weight_decay=0.2).fit(X, y > 0)


def gradient_of_ridge(X, y, X_valid, y_valid):
    """Return dV/dh = -v^T H^-1 w, with L = mean (Xw - y)^2 + h/2 |w|^2."""
    X, y, X_valid, y_valid = (part.astype(float) for part in (X, y, X_valid, y_valid))
    hessian = 2 * X.T @ X / len(X) + STRENGTH * np.eye(X.shape[1])
    w = np.linalg.solve(hessian, 2 * X.T @ y / len(X))
    v = 2 * X_valid.T @ (X_valid @ w - y_valid) / len(X_valid)
    return -v @ np.linalg.solve(hessian, w)


@pytest.mark.parametrize(("solver", "tolerance"), [("cg", 1e-5), ("neumann", 5e-2)])
def test_ridge(ridge, points, solver, tolerance):
    X, y, *valid = points
    true = gradient_of_ridge(*points)
    found = hypergradient(ridge, X, y, valid, solver=solver)
    assert found.gradient[DECAY] == pytest.approx(true, rel=tolerance)
    error = abs(found.gradient[DECAY] - true)
    assert error < 2 * found.error[DECAY] + 1e-6 * abs(true)
    assert found.values == {DECAY: STRENGTH}
    assert not found.diverged
    assert not found.zero
    assert abs(found.remaining) < 1e-6


def test_the_identity_is_rough_and_the_error_shows_it(ridge, points):
    X, y, *valid = points
    found = hypergradient(ridge, X, y, valid, solver="identity", step_size=0.3)
    error = abs(found.gradient[DECAY] - gradient_of_ridge(*points))
    assert 0.5 * error < found.error[DECAY] < 2 * error


@pytest.mark.parametrize(("solver", "tolerance"), [("cg", 1e-5), ("neumann", 5e-2)])
def test_logistic_regression(logistic, points, solver, tolerance):
    X, y, X_valid, y_valid = (part.astype(float) for part in points)
    y, y_valid = y > 0, y_valid > 0
    names = [DECAY, "label_smoothing", "sample_weight"]
    found = hypergradient(
        *(logistic, points[0], y, (points[2], y_valid), names), solver=solver, n_terms=20
    )
    w = logistic.module_.layer.weight.detach().numpy()[0]
    p, p_valid = (1 / (1 + np.exp(-part @ w)) for part in (X, X_valid))
    target = 0.9 * y + 0.05
    hessian = (X.T * (p * (1 - p))) @ X / len(X) + 0.2 * np.eye(8)
    q = np.linalg.solve(hessian, X_valid.T @ (p_valid - y_valid) / len(X_valid))
    per_row = X @ q * (p - target) / len(X)
    true = {
        DECAY: -q @ w,
        "label_smoothing": (X @ q * (0.5 - y)).mean(),
        # Weights are relative to their mean.
        "sample_weight": -(per_row - per_row.mean()),
    }
    for name, value in true.items():
        error = np.linalg.norm(found.gradient[name] - value) / np.linalg.norm(value)
        assert error < tolerance, name
    assert found.values["label_smoothing"] == 0.1


def test_parts_of_the_data_and_single_weights_add_up(ridge, points):
    X, y, *valid = points
    whole = hypergradient(ridge, X, y, valid).gradient[DECAY]
    parts = hypergradient(ridge, X, y, valid, batch_size=25).gradient[DECAY]
    each = hypergradient(ridge, X, y, valid, ["weight_decay[:]"]).gradient["weight_decay[:]"]
    assert parts == pytest.approx(whole) == each.sum()
    assert each.shape == (8,)


def test_class_weights_are_sums_over_the_rows_of_the_class(points):
    X, y, X_valid, y_valid = points
    net = TorchClassifier(
        Line, optimizer="adam", lr=0.1, max_epochs=30, batch_size=-1, class_weight={0: 1, 1: 3}
    ).fit(X, y > 0)
    args = net, X, y > 0, (X_valid, y_valid > 0)
    found = hypergradient(*args, ["class_weight", "sample_weight"], damping=0.1)
    rows, classes = found.gradient["sample_weight"], found.gradient["class_weight"]
    of_class = [rows[(y > 0) == label].sum() / weight for label, weight in enumerate((1, 3))]
    assert classes == pytest.approx(of_class, rel=1e-5)
    assert found.values["class_weight"] / found.values["class_weight"][0] == pytest.approx([1, 3])


def test_a_series_that_diverges_is_mended_and_reported(ridge, points):
    X, y, *valid = points
    with pytest.warns(UserWarning, match="diverged, and was computed with step"):
        found = hypergradient(ridge, X, y, valid, solver="neumann", step_size=50.0, n_terms=40)
    assert found.diverged
    assert 0 < found.step < 50
    assert found.gradient[DECAY] == pytest.approx(gradient_of_ridge(*points), rel=0.05)


@pytest.mark.parametrize("solver", ["cg", "neumann"])
def test_negative_curvature_is_damped(solver):
    H = torch.diag(torch.tensor([2.0, 1.0, -0.5]))
    found = solve(solver, lambda v: H @ v, torch.ones(3), 100)
    assert found.restarts
    assert found.damping > 0.5
    expected = torch.linalg.solve(H + found.damping * torch.eye(3), torch.ones(3))
    assert torch.allclose(found.x, expected, rtol=0.02)
    assert torch.allclose(found.residual, torch.ones(3) - H @ found.x, atol=1e-5)


class Reader(nn.Module):
    """Recurrent, with a value that it reads itself, and units that are dead."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.lstm = nn.LSTM(1, 3, batch_first=True)
        self.output = nn.Linear(3, out_features)
        self.temperature = HyperValue("temperature", 2.0)
        self.dead = nn.Linear(in_features, out_features)
        nn.init.zeros_(self.dead.weight)
        nn.init.constant_(self.dead.bias, -1e6)

    def forward(self, x):
        last = self.lstm(x.unsqueeze(-1))[0][:, -1]
        return self.output(last) / self.temperature(last) + torch.relu(self.dead(x))


@pytest.fixture(scope="module")
def reader():
    X, y = load_iris(return_X_y=True)
    X = X.astype(np.float32)
    net = TorchClassifier(Reader, optimizer="adam", lr=0.02, max_epochs=2, random_state=0)
    return net.fit(X, y), X, y


def test_recurrent_modules_and_gradients_that_are_zero(reader):
    net, X, y = reader
    names = ["temperature", "input_noise", "lstm.weight_decay", "dead.weight_decay"]
    before = {
        k: v.clone() for k, v in net.module_.state_dict().items() if k != "temperature._extra_state"
    }
    with pytest.warns(UserWarning, match="'dead.weight_decay' is zero"):
        found = hypergradient(
            *(net, X, y, (X, y), names), values={"input_noise": 0.3}, damping=0.5, n_terms=3
        )
    assert found.zero.keys() == {"dead.weight_decay"}
    assert all(found.gradient[name] for name in names[:3])
    assert found.values["temperature"] == 2.0
    for name, weight in before.items():
        assert torch.equal(weight, net.module_.state_dict()[name])
    again = hypergradient(
        *(net, X, y, (X, y), names[:3]), values={"input_noise": 0.3}, damping=0.5, n_terms=3
    )
    assert again.gradient == {name: found.gradient[name] for name in names[:3]}


def test_a_self_tuning_network_knows_its_values(points):
    X, y, X_valid, y_valid = points
    ranges = {"weight_decay": loguniform(1e-4, 1), "dropout_0.p": uniform(0, 0.5)}
    net = SelfTuningClassifier(
        hyperparameters=ranges, max_epochs=3, warmup_epochs=1, module__dropout=0.1, random_state=0
    ).fit(X, y > 0)
    found = hypergradient(net, X, y > 0, (X_valid, y_valid > 0), solver="identity")
    assert found.values == pytest.approx(
        {"weight_decay": net.best_hyperparameters_["weight_decay"]}
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["dropout_0.p"], "variant='implicit' follows rates of dropout layers in training"),
        (["cutout_length"], "variant='stn' or 'delta' follows it"),
        (["lr"], "variant='unrolled' follows it"),
        (["n_units"], "BayesSearchCV"),
        (["weight_decai"], "the nearest first: weight_decay"),
        (["weight_decay", "output.weight_decay"], "two penalties of 'output.weight'"),
        (["label_smoothing", "label_smoothing"], "must differ"),
    ],
)
def test_names_that_are_refused(names, message):
    X, y = load_iris(return_X_y=True)
    net = TorchClassifier(module__dropout=0.1, optimizer="adam", max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match=message):
        hypergradient(net, X, y, (X, y), names)


def test_wrappers_change_the_data(points):
    X, y, X_valid, y_valid = (part[:20] for part in points)
    net = TorchRegressor(Line, optimizer="adam", max_epochs=5, random_state=0)
    whole = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), net), transformer=StandardScaler()
    ).fit(X, y)
    found = hypergradient(whole, X, y, (X_valid, y_valid), solver="identity")
    of_X, of_y = StandardScaler().fit(X), StandardScaler().fit(y[:, None])
    pairs = [
        (of_X.transform(one), of_y.transform(other[:, None])[:, 0])
        for one, other in ((X, y), (X_valid, y_valid))
    ]
    alone = hypergradient(net.fit(*pairs[0]), *pairs[0], pairs[1], solver="identity")
    assert found.gradient == alone.gradient
    columns = hypergradient(
        *(whole.fit(X, y[:, None]), X, y[:, None], (X_valid, y_valid[:, None])), solver="identity"
    )
    assert columns.gradient[DECAY] == pytest.approx(alone.gradient[DECAY])


def test_training_data_that_only_a_fit_knows_is_refused(points):
    X, y = points[0], points[1]
    encoder = ColumnTransformer([("encode", TargetEncoder(), [0])], remainder="passthrough")
    net = TorchClassifier(max_epochs=1, random_state=0)
    fitted = make_pipeline(encoder, net).fit(np.round(X), y > 0)
    with pytest.raises(ValueError, match=r"TargetEncoder is cross-fitted .* pipeline\[-1\]"):
        hypergradient(fitted, X, y > 0, (X, y > 0), ["weight_decay"])


def test_decoupled_decay_is_no_penalty(points):
    X, y, *valid = points
    net = TorchRegressor(Line, max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="train with optimizer='adam'"):
        hypergradient(net, X, y, valid)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"validation_data": 3}, "must be a pair"),
        ({"validation_data": (np.zeros((2, 3)), [0, 0])}, "validation_data must be like"),
        ({"X": np.zeros((2, 3)), "y": [0, 0]}, "X and y must be like"),
        ({"solver": "lu"}, "solver"),
        ({"n_terms": 0}, "n_terms"),
        ({"names": []}, "names must be a list of at least one name"),
        ({"names": "weight_decay"}, "names must be a list of at least one name"),
        ({"values": {"lr": 1}}, "values must be those of"),
        ({"values": {DECAY: [1.0, 2.0]}}, "must be a number"),
    ],
)
def test_arguments_that_are_refused(ridge, points, changed, message):
    X, y, *valid = points
    arguments = {"X": X, "y": y, "validation_data": valid, **changed}
    with pytest.raises(ValueError, match=message):
        hypergradient(ridge, **arguments)
