"""What skorch documents works here too."""

import pickle
from typing import NamedTuple

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.feature_selection import SelectKBest
from sklearn.pipeline import make_pipeline
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    InputShapeSetter,
    LRScheduler,
)
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
from torch import nn

from skhpo import BayesSearchCV
from skhpo.estimators import MLP, TorchClassifier, TorchRegressor


class Recorder(Callback):
    def initialize(self):
        self.told = []
        return self

    def on_train_begin(self, net, **kwargs):
        self.told.append("train begin")

    def on_epoch_begin(self, net, **kwargs):
        self.told.append("epoch begin")

    def on_batch_end(self, net, batch, training, loss, **kwargs):
        self.told.append("batch")

    def on_grad_computed(self, net, named_parameters, **kwargs):
        assert all(p.grad is not None for _, p in named_parameters)

    def on_epoch_end(self, net, **kwargs):
        self.told.append("epoch end")

    def on_train_end(self, net, **kwargs):
        self.told.append("train end")


def test_callbacks_are_told(line):
    net = TorchRegressor(max_epochs=2, batch_size=60, callbacks=[("mine", Recorder)]).fit(*line)
    epoch = ["epoch begin", "batch", "batch", "epoch end"]
    assert dict(net.callbacks_)["mine"].told == ["train begin", *epoch, *epoch, "train end"]
    assert len(net.history[0, "batches", :, "train_loss"]) == 2


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_callbacks_do_not_change_the_training(blobs, dropout):
    params = {"max_epochs": 3, "random_state": 0, "module__dropout": dropout}
    plain = TorchClassifier(**params).fit(*blobs)
    watched = TorchClassifier(**params, callbacks=[Recorder]).fit(*blobs)
    # Two loops: float32 may round differently in each.
    outputs = (net.predict_proba(blobs[0]) for net in (plain, watched))
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-6)
    losses = (net.history[:, "train_loss"] for net in (plain, watched))
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_history_of_an_epoch(line):
    net = TorchRegressor(max_epochs=2).fit(*line)
    assert net.history is net.history_
    assert net.history[:, "epoch"] == [1, 2]
    row = net.history[-1]
    assert row.keys() >= {"train_loss", "train_loss_best", "train_batch_count", "dur"}
    assert all(isinstance(row[key], float) for key in ("train_loss", "dur"))


def test_verbose_prints_a_table_and_nothing_by_default(line, capsys):
    TorchRegressor(max_epochs=2).fit(*line)
    assert capsys.readouterr().out == ""
    TorchRegressor(max_epochs=2, verbose=1).fit(*line)
    header, _, first, second = capsys.readouterr().out.rstrip("\n").split("\n")
    assert "train_loss" in header
    assert first.split()[0] == "1"
    assert second.split()[0] == "2"


def test_callback_parameters(line, capsys):
    net = TorchRegressor(max_epochs=1, verbose=1, callbacks__print_log=None).fit(*line)
    net.set_params(callbacks=[("mine", Recorder())], callbacks__mine=None)
    assert "mine" not in dict(net.callbacks_)
    assert capsys.readouterr().out == ""
    assert TorchRegressor(max_epochs=1, callbacks="disable").fit(*line).callbacks_ == []


def test_early_stopping_stops_and_returns(line):
    stopping = EarlyStopping(monitor="train_loss", patience=2, threshold=10.0, sink=lambda *a: None)
    net = TorchRegressor(max_epochs=20, callbacks=[stopping]).fit(*line)
    assert net.n_iter_ == len(net.history) < 20


def test_validation_split_scores_labels_of_any_kind(blobs):
    X, y = blobs[0], np.array(["a", "b", "c"])[blobs[1]]
    scoring = EpochScoring("accuracy", on_train=True, name="train_acc", lower_is_better=False)
    uncached = EpochScoring("roc_auc_ovr", name="auc", use_caching=False, lower_is_better=False)
    net = TorchClassifier(
        train_split=ValidSplit(3, stratified=True),
        callbacks=[scoring, uncached, BatchScoring("accuracy", name="batch_acc")],
        max_epochs=15,
        lr=0.01,
    ).fit(X, y)
    row = net.history[-1]
    assert row["valid_acc"] > 0.6
    assert row["train_acc"] > 0.6
    assert row["auc"] > 0.7
    assert row["valid_loss"] > 0
    assert set(net.predict(X)) <= set("abc")
    assert net.classes_.tolist() == list("abc")


def test_predefined_split(blobs):
    X, y = blobs
    valid = torch.utils.data.TensorDataset(torch.from_numpy(X[:50]), torch.from_numpy(y[:50]))
    net = TorchClassifier(train_split=predefined_split(valid), max_epochs=2).fit(X[50:], y[50:])
    assert len(net.history[:, "valid_loss"]) == 2
    net.set_params(class_weight="balanced").fit(X[50:], y[50:], sample_weight=np.ones(100))
    assert len(net.history[:, "valid_loss"]) == 2


def test_weighted_training_beside_a_validation_split(blobs):
    weight = np.random.RandomState(0).rand(150)
    net = TorchClassifier(train_split=ValidSplit(3), max_epochs=2, class_weight="balanced")
    assert net.fit(*blobs, sample_weight=weight).n_iter_ == 2


def test_schedule_of_a_callback_goes_on(line):
    def rates(net):
        return net.history[:, "event_lr"]

    params = {"random_state": 0, "lr": 0.1, "optimizer": "sgd"}
    params["callbacks"] = [("schedule", LRScheduler("StepLR", step_size=2, gamma=0.5))]
    whole = TorchRegressor(max_epochs=6, **params).fit(*line)
    parts = TorchRegressor(max_epochs=3, **params).fit(*line).partial_fit(*line)
    assert rates(parts) == rates(whole)
    np.testing.assert_array_equal(parts.predict(line[0]), whole.predict(line[0]))


def test_save_and_load_params(blobs, tmp_path):
    files = {
        "f_params": tmp_path / "module.pt",
        "f_optimizer": tmp_path / "optimizer.pt",
        "f_history": tmp_path / "history.json",
    }
    net = TorchRegressor(max_epochs=2).fit(*blobs)
    net.save_params(**files)
    params = {"module__in_features": 8, "module__out_features": 1}
    loaded = TorchRegressor(**params).initialize()
    assert loaded.device == "auto"
    loaded.load_params(**files)
    assert loaded.device == "auto"
    assert loaded.history[:, "train_loss"] == net.history[:, "train_loss"]
    x = torch.from_numpy(blobs[0])
    assert torch.equal(loaded.infer(x), net.infer(x))


def test_initialize_without_data_says_what_is_missing():
    with pytest.raises(ValueError, match="cannot infer module__in_features, module__out_features"):
        TorchRegressor().initialize()


def test_checkpoint_callback(line, tmp_path):
    checkpoint = Checkpoint(monitor="train_loss_best", dirname=str(tmp_path), f_pickle=None)
    TorchRegressor(max_epochs=2, callbacks=[checkpoint]).fit(*line)
    assert (tmp_path / "params.pt").exists()


def small_split(dataset, y=None):
    rows = np.arange(len(dataset))
    return tuple(torch.utils.data.Subset(dataset, part) for part in (rows[:90], rows[90:]))


@pytest.mark.parametrize(
    ("callback", "monitor"),
    [
        (EarlyStopping(), "valid_loss"),
        (
            Checkpoint(f_params=None, f_optimizer=None, f_criterion=None, f_history=None),
            "valid_loss_best",
        ),
        (LRScheduler("ReduceLROnPlateau", monitor="valid_loss"), "valid_loss"),
        (EarlyStopping(monitor="valid_acc"), "valid_acc"),
        (EarlyStopping, "valid_loss"),
    ],
)
def test_what_is_monitored_must_be_recorded(blobs, callback, monitor):
    net = TorchClassifier(max_epochs=2, callbacks=[("watch", callback)])
    rule = f"watch monitors '{monitor}' and train_split=None and validation_fraction=None; set"
    with pytest.raises(ValueError, match=rule):
        net.fit(*blobs)
    assert len(net.history) == 0
    assert net.set_params(train_split=small_split).fit(*blobs).n_iter_ == 2


def test_what_validation_fraction_records_can_be_monitored(blobs):
    params = {"max_epochs": 2, "validation_fraction": 0.2}
    stopping = [("stop", EarlyStopping())]
    assert TorchClassifier(callbacks=stopping, **params).fit(*blobs).n_iter_ == 2
    with pytest.raises(ValueError, match=r"validation_fraction=0\.2 records 'valid_accuracy'"):
        TorchClassifier(callbacks=stopping, monitor="accuracy", **params).fit(*blobs)


def test_what_nothing_records_cannot_be_monitored(blobs):
    net = TorchClassifier(max_epochs=2, train_split=small_split)
    net.set_params(callbacks=[("stop", EarlyStopping("valid_f1"))])
    with pytest.raises(ValueError, match="stop monitors 'valid_f1'; recorded are 'valid_acc'"):
        net.fit(*blobs)
    score = EpochScoring("f1_macro", name="valid_f1", lower_is_better=False)
    net.set_params(callbacks=[score, ("stop", EarlyStopping("valid_f1"))])
    assert net.fit(*blobs).n_iter_ == 2


class Recording(Callback):
    def on_epoch_end(self, net, **kwargs):
        net.history.record("valid_loss", 1.0)


def test_what_the_users_own_code_may_record_is_left_to_it(blobs):
    callbacks = [("mine", Recording()), ("stop", EarlyStopping(patience=2, sink=lambda *a: None))]
    assert TorchClassifier(max_epochs=9, callbacks=callbacks).fit(*blobs).n_iter_ == 3


def test_scoring_without_validation_warns(blobs):
    score = EpochScoring("accuracy", name="acc", lower_is_better=False)
    with pytest.warns(UserWarning, match="EpochScoring scores what train_split holds out"):
        TorchClassifier(max_epochs=1, callbacks=[score]).fit(*blobs)


class NeedsDim(nn.Module):
    def __init__(self, input_dim):
        super().__init__()
        self.out = nn.Linear(input_dim, 3)

    def forward(self, x):
        return self.out(x)


class OwnSetter(Callback):
    def on_train_begin(self, net, X, y, **kwargs):
        net.set_params(module__input_dim=X.shape[1])


@pytest.mark.parametrize("setter", [InputShapeSetter, InputShapeSetter(), OwnSetter()])
def test_callbacks_may_set_the_shape_of_inputs(blobs, setter):
    X, y = blobs
    net = TorchClassifier(NeedsDim, max_epochs=1, callbacks=[setter])
    assert net.fit(X, y).module_.out.in_features == 8
    assert net.fit(X[:, :5], y).module_.out.in_features == 5
    selected = make_pipeline(SelectKBest(), clone(net))
    search = BayesSearchCV(selected, {"selectkbest__k": [3]}, n_iter=1, cv=2).fit(X, y)
    assert search.best_estimator_[-1].module_.out.in_features == 3


class Outputs(NamedTuple):
    logits: torch.Tensor
    features: torch.Tensor


class Several(nn.Linear):
    """Returns more than its prediction."""

    def __init__(self, in_features, out_features, make=Outputs):
        super().__init__(in_features, out_features)
        self.make = make

    def forward(self, x):
        return self.make(super().forward(x), x)


def as_dict(logits, features):
    return {"logits": logits, "features": features}


@pytest.mark.parametrize("make", [Outputs, lambda a, b: (a, b)])
def test_tuples_begin_with_the_prediction(blobs, make):
    params = {"max_epochs": 3, "random_state": 0, "train_split": small_split}
    net = TorchClassifier(Several, module__make=make, **params).fit(*blobs)
    plain = TorchClassifier(nn.Linear, **params).fit(*blobs)
    np.testing.assert_allclose(net.predict_proba(blobs[0]), plain.predict_proba(blobs[0]), 1e-5)
    assert net.history[-1]["valid_acc"] == plain.history[-1]["valid_acc"]


def test_dicts_need_to_be_taken_apart(blobs):
    class Net(TorchClassifier):
        def get_loss(self, y_pred, y_true, **kwargs):
            return super().get_loss(y_pred["logits"], y_true, **kwargs)

    params = {"module": Several, "module__make": as_dict, "max_epochs": 3, "random_state": 0}
    net = Net(**params, predict_nonlinearity=lambda output: output["logits"].softmax(1))
    plain = TorchClassifier(nn.Linear, max_epochs=3, random_state=0).fit(*blobs)
    np.testing.assert_allclose(
        net.fit(*blobs).predict_proba(blobs[0]), plain.predict_proba(blobs[0]), 1e-5
    )
    for other in (Net(**params), TorchClassifier(**params)):
        with pytest.raises(ValueError, match=r"returns a dict with the keys \['logits', "):
            other.fit(*blobs)


class Distance(nn.Module):
    def forward(self, y_pred, y_true):
        return (y_pred - y_true).abs().mean()


def test_custom_criterion(line):
    net = TorchRegressor(criterion=Distance, max_epochs=30, lr=0.01).fit(*line)
    assert net.score(*line) > 0.7


@pytest.mark.parametrize("hook", ["train_step", "train_step_single", "infer", "get_loss"])
def test_overridden_steps_are_called(line, hook):
    called = []

    def step(self, *args, **kwargs):
        called.append(hook)
        return getattr(TorchRegressor, hook)(self, *args, **kwargs)

    net = type("Net", (TorchRegressor,), {hook: step})(max_epochs=1, random_state=0).fit(*line)
    assert len(called) >= net.history[-1]["train_batch_count"]
    plain = TorchRegressor(max_epochs=1, random_state=0).fit(*line)
    # Another loop than the plain one: float32 may round differently.
    np.testing.assert_allclose(net.predict(line[0]), plain.predict(line[0]), rtol=1e-4, atol=1e-6)


def of_skorch(cls, **methods):
    """Return a subclass with a base that is one of skorch's, such as its `AccelerateMixin`."""
    return type("Own", (type("Base", (), {**methods, "__module__": "skorch.hf"}), cls), {})


def without_a_name(cls, **methods):
    """Return a subclass that was made where no module has a name."""
    return type("Own", (cls,), {**methods, "__module__": "builtins"})


@pytest.mark.parametrize("make", [of_skorch, without_a_name])
@pytest.mark.parametrize("method", ["get_iterator", "get_dataset", "train_step_single"])
def test_it_counts_what_overrides_not_where_it_is_from(line, make, method):
    calls = []

    def called(self, *args, **kwargs):
        calls.append(method)
        return getattr(TorchRegressor, method)(self, *args, **kwargs)

    make(TorchRegressor, **{method: called})(max_epochs=1, random_state=0).fit(*line)
    assert calls


def test_epoch_hooks_of_a_subclass(line):
    told = []

    class Net(TorchRegressor):
        def on_epoch_begin(self, net, **kwargs):
            super().on_epoch_begin(net, **kwargs)
            told.append(len(kwargs["dataset_train"]))

        def on_epoch_end(self, net, **kwargs):
            told.append("end")

    Net(max_epochs=2).fit(*line)
    assert told == [120, "end"] * 2


def test_module_of_ones_own_beside_the_first(blobs):
    class Net(TorchClassifier):
        def initialize_module(self):
            super().initialize_module()
            self.shift_ = nn.Linear(8, 3)
            return self

        def infer(self, x, **fit_params):
            return super().infer(x, **fit_params) + self.shift_(x)

    before = torch.get_rng_state()
    nets = [Net(max_epochs=2, random_state=0).fit(*blobs) for _ in range(2)]
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(*(net.predict_proba(blobs[0]) for net in nets))
    assert "shift" in nets[0].prefixes_
    assert "shift" not in TorchClassifier().prefixes_


def test_param_groups(line):
    groups = [("output*", {"lr": 0.5})]
    net = TorchRegressor(max_epochs=1, optimizer__param_groups=groups).fit(*line)
    assert [group["lr"] for group in net.optimizer_.param_groups] == [0.5, 0.001]
    net.set_params(optimizer__param_groups__0__lr=0.25)
    assert net.optimizer_.param_groups[0]["lr"] == 0.25


def test_fit_params_reach_forward(line):
    class Scaled(MLP):
        def forward(self, x, factor=1.0):
            return factor * super().forward(x)

    net = TorchRegressor(Scaled, max_epochs=1).fit(*line, factor=0.0)
    assert not net.history[-1]["train_loss"] < (line[1] ** 2).mean() - 0.1


def test_forward_and_trim(blobs):
    net = TorchClassifier(max_epochs=1).fit(*blobs)
    assert net.forward(blobs[0]).shape == (150, 3)
    before = net.predict_proba(blobs[0])
    net.trim_for_prediction()
    np.testing.assert_array_equal(net.predict_proba(blobs[0]), before)


def test_a_replaced_print_changes_nothing(line, monkeypatch):
    printed = []
    monkeypatch.setattr("builtins.print", lambda *args, **kwargs: printed.append(args))
    net = TorchRegressor(max_epochs=1).fit(*line)
    again = pickle.loads(pickle.dumps(net))
    again.partial_fit(*line)
    assert not printed
    assert len(again.history) == 2
