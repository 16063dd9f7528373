"""Self-tuning estimators: what is tuned, what predicts, what is refused."""

import pickle

import numpy as np
import pytest
import torch
from scipy.stats import loguniform, randint, uniform
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from skhpo import SelfTuningClassifier, SelfTuningRegressor
from skhpo.self_tuning import HyperValue
from skhpo.self_tuning._module_conversion import fold_into

RANGES = {
    "dropout_0.p": uniform(0, 0.9),
    "weight_decay": loguniform(1e-6, 1e-1),
    "input_noise": uniform(0, 2),
    "label_smoothing": uniform(0, 0.4),
}
PARAMS = {
    "module__dropout": 0.1,
    "module__n_units": 16,
    "warmup_epochs": 1,
    "max_epochs": 4,
    "lr": 0.01,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:300] / 16).astype(np.float32), y[:300]


@pytest.fixture(scope="module")
def fitted(digits):
    return SelfTuningClassifier(hyperparameters=RANGES, **PARAMS).fit(*digits)


def test_schedule(fitted):
    assert list(fitted.schedule_) == list(RANGES)
    for name, values in fitted.schedule_.items():
        low, high = RANGES[name].support()
        assert len(values) == fitted.n_iter_ == 4
        assert all(low <= value <= high for value in values)
        assert values[0] == values[0] != values[-1], "warm-up, then moving"
        assert len(fitted.scales_[name]) == 4
    assert fitted.schedule_["dropout_0.p"][0] == pytest.approx(0.1)
    best = fitted.best_epoch_
    losses = fitted.history[:, "valid_loss"]
    assert losses[best - 1] == min(losses)
    assert fitted.best_hyperparameters_ == {k: v[best - 1] for k, v in fitted.schedule_.items()}


class _Losses(Callback):
    def on_train_begin(self, net, **kwargs):
        self.seen = []

    def on_epoch_end(self, net, **kwargs):
        self.seen.append(net.history[-1]["valid_loss"])


@pytest.mark.parametrize("refit", [None, "final"])
def test_callbacks_see_each_epoch(digits, refit):
    net = SelfTuningClassifier(
        hyperparameters=RANGES, callbacks=[("losses", _Losses())], refit=refit, **PARAMS
    ).fit(*digits)
    assert dict(net.callbacks_)["losses"].seen == net.history[:, "valid_loss"]


def test_a_callback_may_stop_it(digits):
    stops = EarlyStopping("valid_loss", patience=1, threshold=10, sink=lambda text: None)
    net = SelfTuningClassifier(hyperparameters=RANGES, callbacks=[stops], **PARAMS).fit(*digits)
    assert net.n_iter_ == len(net.history) < 4


def test_collapsed_equals_hyper_net_at_the_position(digits):
    net = SelfTuningClassifier(hyperparameters=RANGES, **PARAMS, monitor="accuracy").fit(*digits)
    converted, response = net.tuning_.module.double().eval(), net.tuning_.center().double()
    plain = type(net.module_)(64, 10, n_units=16, dropout=0.1).double().eval()
    fold_into(plain, converted, response)
    net.tuning_.context.response = response
    X = torch.from_numpy(digits[0]).double()
    torch.testing.assert_close(plain(X), converted(X), atol=1e-9, rtol=1e-9)


def test_collapse_is_a_plain_module_that_predicts(fitted, digits):
    module = fitted.collapse()
    assert {type(layer) for layer in module.children()} == {nn.Linear, nn.ReLU, nn.Dropout}
    assert module.dropout_0.p == fitted.best_hyperparameters_["dropout_0.p"]
    with torch.no_grad():
        proba = module(torch.from_numpy(digits[0])).softmax(1).numpy()
    # The module gets all rows where they are, not in batches: float32 may round otherwise.
    np.testing.assert_allclose(proba, fitted.predict_proba(digits[0]), rtol=1e-4, atol=1e-6)


def test_it_finds_noise_when_it_helps(digits):
    """Validation data is noisy, training data is not: noise must go up from near nothing."""
    X, y = digits
    noisy = X + np.random.default_rng(0).normal(0, 0.8, X.shape).astype(np.float32)
    net = SelfTuningClassifier(
        hyperparameters={"input_noise": uniform(0, 2)},
        module__n_units=32,
        lr=0.01,
        max_epochs=40,
        random_state=0,
    )
    net.fit(X[:200], y[:200], validation_data=(noisy[200:], y[200:]))
    assert net.schedule_["input_noise"][0] == pytest.approx(0.1, abs=0.02)
    assert net.schedule_["input_noise"][-1] > 0.3


@pytest.mark.parametrize("way", ["nothing", "pickle", "checkpoint"])
def test_continuing_is_exact(digits, way, tmp_path):
    whole = SelfTuningClassifier(hyperparameters=RANGES, **PARAMS).fit(*digits)
    parts = SelfTuningClassifier(hyperparameters=RANGES, **{**PARAMS, "max_epochs": 2})
    parts.fit(*digits)
    if way == "pickle":
        parts = pickle.loads(pickle.dumps(parts))
    elif way == "checkpoint":
        parts.save_checkpoint(tmp_path / "net.pt")
        torch.load(tmp_path / "net.pt", weights_only=True)
        before = parts.predict_proba(digits[0])
        parts = clone(parts).load_checkpoint(tmp_path / "net.pt")
        np.testing.assert_array_equal(parts.predict_proba(digits[0]), before)
    parts.partial_fit(*digits)
    assert parts.schedule_ == whole.schedule_
    assert parts.scales_ == whole.scales_
    np.testing.assert_array_equal(parts.predict_proba(digits[0]), whole.predict_proba(digits[0]))


def test_a_parameter_set_to_its_value_changes_nothing(fitted, digits):
    net = SelfTuningClassifier(hyperparameters=RANGES, **PARAMS)
    net.set_params(**net.get_params(deep=True)).fit(*digits)
    # One code path, so that not a bit differs.
    assert net.schedule_ == fitted.schedule_
    np.testing.assert_array_equal(net.predict_proba(digits[0]), fitted.predict_proba(digits[0]))


def test_seeds(digits):
    nets = [
        SelfTuningClassifier(hyperparameters=RANGES, **{**PARAMS, "random_state": seed})
        for seed in (0, 0, 1)
    ]
    before = torch.get_rng_state()
    first, again, other = (net.fit(*digits).schedule_ for net in nets)
    assert first == again != other
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.filterwarnings("ignore:nothing was tuned")
def test_tuning_draws_nothing_from_the_streams_of_training(digits):
    """With a learning rate of next to nothing tuning changes no weight."""
    params = {**PARAMS, "hyper_lr": 1e-30, "entropy_weight": 0}
    tuned = SelfTuningClassifier(hyperparameters=RANGES, **params).fit(*digits)
    still = SelfTuningClassifier(hyperparameters=RANGES, **{**params, "warmup_epochs": 9})
    still.fit(*digits)
    # Only one of them has steps of tuning in between: float32 may round otherwise.
    assert tuned.history[:, "train_loss"] == pytest.approx(still.history[:, "train_loss"], rel=1e-5)


def test_warming_up_to_the_end_is_warned_of(digits):
    net = SelfTuningClassifier(hyperparameters=RANGES, **{**PARAMS, "warmup_epochs": 9})
    with pytest.warns(UserWarning, match="nothing was tuned.*warmup_epochs=9; raise max_epochs"):
        net.fit(*digits)


def test_fixed_scales(digits):
    net = SelfTuningClassifier(
        hyperparameters=RANGES, **PARAMS, tune_scales=False, init_scale=0.5
    ).fit(*digits)
    assert np.allclose(list(net.scales_.values()), 0.5)


def test_regressor_in_a_pipeline():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 5))
    y = X @ np.arange(5.0) / 5
    net = SelfTuningRegressor(
        hyperparameters={"weight_decay": loguniform(1e-6, 1), "input_noise": uniform(0, 1)},
        **{**PARAMS, "max_epochs": 20},
    )
    model = make_pipeline(StandardScaler(), net).fit(X, y)
    assert model.score(X, y) > 0.8


class Warm(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.temperature = HyperValue("temperature", 2.0)

    def forward(self, x):
        return self.linear(x) / self.temperature(x)


def test_a_hyperparameter_of_ones_own(digits):
    net = SelfTuningClassifier(
        Warm, {"temperature": uniform(0.5, 4)}, lr=0.01, max_epochs=4, warmup_epochs=1
    ).fit(*digits)
    assert net.collapse().temperature.value == net.best_hyperparameters_["temperature"]


def test_a_value_of_ones_own_goes_with_the_weights(digits, tmp_path):
    """The best epoch is not the last one here."""
    ranges = {"temperature": uniform(0.5, 4)}
    params = {"lr": 0.3, "max_epochs": 8, "warmup_epochs": 1, "random_state": 0}
    net = SelfTuningClassifier(Warm, ranges, **params).fit(*digits)
    values = net.schedule_["temperature"]
    assert net.best_epoch_ < 8
    assert net.module_.temperature.value == values[net.best_epoch_ - 1] != values[-1]
    with torch.no_grad():
        proba = net.collapse()(torch.from_numpy(digits[0])).softmax(1).numpy()
    predicted = net.predict_proba(digits[0])
    # All rows where they are, not in batches: float32 may round otherwise.
    np.testing.assert_allclose(proba, predicted, rtol=1e-4, atol=1e-6)
    net.save_checkpoint(tmp_path / "net.pt")
    again = clone(net).load_checkpoint(tmp_path / "net.pt")
    np.testing.assert_array_equal(again.predict_proba(digits[0]), predicted)


def test_by_default_dropout_and_weight_decay_are_tuned(digits):
    net = SelfTuningClassifier(module__dropout=0.2, max_epochs=1, warmup_epochs=0).fit(*digits)
    assert set(net.schedule_) == {"dropout_0.p", "weight_decay"}


def test_one_range_for_several_layers(digits):
    net = SelfTuningClassifier(
        hyperparameters={"dropout_*.p": uniform(0, 0.9)}, module__n_layers=2, **PARAMS
    ).fit(*digits)
    assert [layer.name for layer in (net.tuning_.module[2], net.tuning_.module[5])] == [
        "dropout_*.p",
        "dropout_*.p",
    ]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"hyperparameters": {"lr": loguniform(1e-4, 1)}}, "BayesSearchCV, or follow 'lr' by"),
        ({"hyperparameters": {"optimizer__momentum": uniform(0, 1)}}, "or follow 'momentum' by"),
        ({"hyperparameters": {"optimizer__weight_decay": uniform(0, 1)}}, "called 'weight_decay'"),
        ({"hyperparameters": {"linear_0.out_features": randint(1, 9)}}, "there is no inner loop"),
        ({"hyperparameters": {"dropout_0.p": uniform(0, 2)}}, r"must lie in \[0, 1\].*\[0, 2\]"),
        ({"hyperparameters": {"input_noise": uniform(-1, 2)}}, r"must lie in \[0, inf\)"),
        ({"hyperparameters": {"label_smoothing": uniform(0, 2)}}, r"must lie in \[0, 1\]"),
        ({"hyperparameters": {"batch_size": randint(1, 9)}}, "there is no inner loop"),
        ({"hyperparameters": {"module__n_units": randint(1, 9)}}, "there is no inner loop"),
        ({"hyperparameters": {"max_epochs": randint(1, 9)}}, "there is no inner loop"),
        ({"hyperparameters": {"drop1.p": uniform(0, 1)}}, "the nearest first: dropout_0.p"),
        ({"hyperparameters": {}}, "must not be empty"),
        ({"hyperparameters": ["lr"]}, "None or a dict"),
        (
            {"hyperparameters": {"dropout_0.p": uniform(), "dropout_*.p": uniform()}},
            "two ranges for one thing",
        ),
        (
            {"hyperparameters": {"weight_decay": uniform(), "output.weight_decay": uniform()}},
            "two ranges for one thing",
        ),
        ({"initial": {"input_noise": 3}}, r"range is \[0, 2\]"),
        ({"optimizer": "adamw"}, "optimizer__weight_decay=0"),
        ({"validation_fraction": None}, "validation_data"),
        ({"label_smoothing": 0.1}, "label_smoothing"),
        ({"amp": True}, "amp must be False"),
        ({"max_norm": 1.0}, "max_norm must be None"),
        ({"train_steps": 0}, r"'train_steps' parameter.* an int in the range \[1"),
        ({"hyper_lr": 0}, r"'hyper_lr' parameter.* a float in the range \(0"),
        ({"entropy_weight": -1}, "'entropy_weight' parameter.*Got -1"),
        (
            {"entropy_weight": np.nan},
            r"'entropy_weight' parameter.* a float in the range \[0.*Got nan",
        ),
        ({"response_lr": -1.0}, "'response_lr' parameter .* Got -1.0"),
        ({"tune_scales": "a"}, "'tune_scales' parameter .* Got 'a'"),
        ({"init_scale": np.inf}, r"'init_scale' parameter.* a float in the range \(0.*Got inf"),
        ({"variant": "sgd"}, "'variant' parameter.*'delta'.*Got 'sgd'"),
        ({"convert": True}, "'convert' parameter.*'auto'.*Got True"),
        ({"convert": False}, "no layer of the module responds"),
        ({"hyper_optimizer": "nothing"}, "hyper_optimizer"),
        ({"optimizer": "lbfgs"}, "lbfgs"),
    ],
)
def test_bad_input(digits, params, message):
    net = SelfTuningClassifier(**{"hyperparameters": RANGES, **PARAMS, **params})
    with pytest.raises(ValueError, match=message):
        net.fit(*digits)


@pytest.mark.parametrize(
    ("validation_data", "message"),
    [
        (lambda X, y: X, "must be a pair"),
        (lambda X, y: (X[:, 1:], y), "must be like X and y.*63 features"),
        (lambda X, y: (X, y[1:]), "must be like X and y"),
        (lambda X, y: (X, y + 1), "must be like X and y.*labels"),
    ],
)
def test_bad_validation_data(digits, validation_data, message):
    net = SelfTuningClassifier(hyperparameters=RANGES, **PARAMS)
    with pytest.raises(ValueError, match=message):
        net.fit(*digits, validation_data=validation_data(*digits))


class Scaled(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.gamma = HyperValue("gamma", 1.0)

    def forward(self, x):
        return self.linear(x * self.gamma(x))


def test_ones_own_may_have_any_name_and_range(digits):
    net = SelfTuningClassifier(Scaled, {"gamma": uniform(-2, 4)}, max_epochs=1, warmup_epochs=0)
    net.fit(*digits)
    assert list(net.schedule_) == ["gamma"]


def test_a_regressor_smooths_no_labels():
    net = SelfTuningRegressor(hyperparameters={"label_smoothing": uniform(0, 1)})
    with pytest.raises(ValueError, match="there are no labels"):
        net.fit(np.zeros((20, 2)), np.zeros(20))


def test_a_dataset_is_refused(digits):
    dataset = torch.utils.data.TensorDataset(*map(torch.as_tensor, digits))
    with pytest.raises(ValueError, match="needs X as an array"):
        SelfTuningClassifier().fit(dataset)


class _SelfNormalizing(nn.Module):
    def __init__(self, in_features, out_features, plain_width=4):
        super().__init__()
        self.hidden = nn.Linear(in_features, plain_width)
        self.drop = nn.AlphaDropout(0.1)
        self.output = nn.Linear(plain_width, out_features)

    def forward(self, x):
        return self.output(self.drop(torch.selu(self.hidden(x))))


@pytest.mark.parametrize("variant", ["stn", "implicit"])
@pytest.mark.parametrize("name", ["plain_width", "module__plain_width"])
def test_a_width_of_a_users_module_is_for_another_search(digits, variant, name):
    net = SelfTuningClassifier(_SelfNormalizing, {name: uniform(2, 9)}, variant=variant)
    with pytest.raises(ValueError, match="search 'module__plain_width' with BayesSearchCV"):
        net.fit(*digits)


def test_the_rate_of_alpha_dropout_is_not_tuned(digits):
    with pytest.raises(ValueError, match="an AlphaDropout keeps its rate"):
        SelfTuningClassifier(_SelfNormalizing, {"drop.p": uniform(0, 0.5)}).fit(*digits)


def test_squares_larger_than_the_image_are_refused(digits):
    X, y = digits
    net = SelfTuningClassifier(hyperparameters={"cutout_length": randint(0, 20)}, max_epochs=1)
    with pytest.raises(ValueError, match=r"'cutout_length' must lie in \[0, 8\]"):
        net.fit(X.reshape(-1, 8, 8), y)
