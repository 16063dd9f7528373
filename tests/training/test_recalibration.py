"""New statistics of batch normalization after training, and a warning without them."""

import io
import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from torch import nn
from torch.utils.data import TensorDataset

from skhpo import HalvingHyperbandSearchCV, SelfTuningClassifier, TorchClassifier, TorchRegressor
from skhpo.exceptions import BatchNormWarning
from skhpo.lockstep import Member, train_together

X, y = load_digits(n_class=4, return_X_y=True)
X, y = (X[:121] / 16).astype(np.float32), y[:121]  # a row more than whole batches have
NET = TorchClassifier(
    module__normalization="batch",
    module__dropout=0.5,
    lr=1e-2,
    batch_size=20,
    max_epochs=2,
    recalibrate=True,
    random_state=0,
    device="cpu",
)
CHECKED = {"validation_fraction": 0.2, "check_every": 2}
VARIANTS = {
    "direct": NET,
    "checks": clone(NET).set_params(**CHECKED),
    "hooked": clone(NET).set_params(callbacks=[], iterator_train__collate_fn=None),
    "self-tuning": SelfTuningClassifier(
        hyperparameters={"weight_decay": loguniform(1e-6, 0.1)},
        warmup_epochs=1,
        **{k: v for k, v in NET.get_params(deep=False).items() if "module__" in k},
        **{k: getattr(NET, k) for k in ("lr", "batch_size", "max_epochs", "random_state")},
        recalibrate=True,
        device="cpu",
    ),
    "refit": None,  # of a self-tuning network
}
VARIANTS["refit"] = clone(VARIANTS["self-tuning"]).set_params(refit="final")


def weights(net):
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def norm_of(net):
    return next(m for m in net.module_.modules() if isinstance(m, nn.BatchNorm1d))


def what_goes_into(net, X):
    """Return the inputs of the first normalization for all rows, without dropout."""
    found, module = [], net.module_.eval()
    handle = norm_of(net).register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    with torch.no_grad():
        module(torch.tensor(X))
    handle.remove()
    return found[0]


@pytest.mark.parametrize("name", ["direct", "hooked", "self-tuning"])
def test_the_statistics_are_those_of_all_training_rows(name):
    net = clone(VARIANTS[name])
    known = {"validation_data": (X[:40], y[:40])} if name == "self-tuning" else {}
    net.fit(X, y, **known)
    inputs, norm = what_goes_into(net, X), norm_of(net)
    torch.testing.assert_close(norm.running_mean, inputs.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, inputs.var(0), rtol=1e-4, atol=1e-5)
    with warnings.catch_warnings(action="ignore", category=BatchNormWarning):
        other = clone(net).set_params(recalibrate=False).fit(X, y, **known)
    assert not torch.allclose(norm_of(other).running_mean, norm.running_mean, rtol=0.01)
    # The weights are the same: training knows nothing of it.
    for key, value in weights(other).items():
        assert torch.equal(value, weights(net)[key]) == ("running_" not in key)
    assert net.history[:, "train_loss"] == other.history[:, "train_loss"]


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("between", ["nothing", "a pickle", "a checkpoint"])
def test_training_goes_on_as_if_nothing_had_been(name, between):
    net = clone(VARIANTS[name])
    whole = clone(net).set_params(max_epochs=4, refit=None) if name == "refit" else clone(net)
    whole.set_params(max_epochs=4).fit(X, y)
    net.fit(X, y)
    if between == "a pickle":
        net = pickle.loads(pickle.dumps(net))
    elif between == "a checkpoint":
        file = io.BytesIO()
        net.save_checkpoint(file)
        file.seek(0)
        net = clone(net).load_checkpoint(file)
    net.set_params(max_epochs=2, **({"refit": None} if name == "refit" else {})).partial_fit(X, y)
    assert_equal(weights(net), weights(whole))
    assert net.history[:, "train_loss"] == whole.history[:, "train_loss"]


def test_the_best_weights_are_recalibrated():
    net = clone(VARIANTS["checks"]).set_params(max_epochs=6, lr=0.1).fit(X, y)
    plain = clone(net).set_params(recalibrate=False).fit(X, y)
    assert net.best_epoch_ == plain.best_epoch_
    for key, value in weights(plain).items():
        assert torch.equal(value, weights(net)[key]) == ("running_" not in key)


def test_in_lockstep_as_alone():
    nets = [clone(NET).set_params(random_state=i, max_epochs=2 + i) for i in range(3)]
    nets += [clone(VARIANTS["checks"]).set_params(random_state=i) for i in range(2)]
    alone = [clone(net).fit(X, y) for net in nets]
    assert train_together([Member(net, X, y) for net in nets]) == [None] * 5
    for net, other in zip(nets, alone, strict=True):
        # Not the weights: what a bias before a normalization becomes is rounding.
        np.testing.assert_allclose(net.predict_proba(X), other.predict_proba(X), atol=1e-3)
        inputs = what_goes_into(net, X)
        if net.validation_fraction is None:
            torch.testing.assert_close(
                norm_of(net).running_mean, inputs.mean(0), rtol=1e-4, atol=1e-5
            )


def test_rungs_go_on_from_the_moving_averages(tmp_path):
    def search(**more):
        return HalvingHyperbandSearchCV(
            clone(NET).set_params(max_epochs=50),
            {"lr": loguniform(1e-3, 1e-1)},
            max_resources=3,
            cv=2,
            random_state=0,
            refit=False,
            **more,
        )

    found = search(journal=tmp_path / "run.jsonl", lockstep=False).fit(X, y)
    row = int(np.flatnonzero(found.cv_results_["iter"])[0])  # after a checkpoint
    train, test = next(StratifiedKFold(2).split(X, y))
    again = clone(NET).set_params(**found.cv_results_["params"][row]).fit(X[train], y[train])
    assert again.score(X[test], y[test]) == found.cv_results_["split0_test_score"][row]
    jointly = search().fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_allclose(jointly, found.cv_results_["mean_test_score"], atol=0.05)


class Sometimes(nn.Module):
    """Two normalizations, of which one keeps its averages while it is trained."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.frozen, self.norm = nn.BatchNorm1d(in_features), nn.BatchNorm1d(in_features)
        self.linear = nn.Linear(in_features, out_features)

    def train(self, mode=True):
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x):
        return self.linear(self.norm(self.frozen(x)))


def test_frozen_normalizations_stay_and_others_see_a_dataset():
    data = TensorDataset(torch.tensor(X), torch.tensor(y))
    net = TorchClassifier(
        Sometimes, recalibrate=True, batch_size=20, max_epochs=1, random_state=0, device="cpu"
    )
    net.fit(data)
    assert torch.equal(net.module_.frozen.running_mean, torch.zeros(64))
    rows = net.module_.frozen(torch.tensor(X)).detach()
    torch.testing.assert_close(net.module_.norm.running_mean, rows.mean(0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(net.module_.norm.running_var, rows.var(0), rtol=1e-3, atol=1e-6)


def test_without_batch_normalization_nothing_happens():
    net = TorchRegressor(max_epochs=1, recalibrate=True, random_state=0, device="cpu")
    other = clone(net).set_params(recalibrate=False)
    assert_equal(weights(net.fit(X, X[:, 3])), weights(other.fit(X, X[:, 3])))
    with pytest.raises(ValueError, match="'recalibrate' parameter"):
        net.set_params(recalibrate="yes").fit(X, y)


def test_a_fit_warns_when_averages_lag_behind():
    net = clone(NET).set_params(
        recalibrate=False, max_epochs=1, batch_size=32, validation_fraction=0.2
    )
    with pytest.warns(BatchNormWarning, match=r"higher with them.*recalibrate=True"):
        net.fit(X, y)
    before = weights(net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clone(net).set_params(recalibrate=True).fit(X, y)
        clone(net).set_params(max_epochs=40, module__dropout=0.0).fit(X, y)
        # Early rungs are short on purpose.
        HalvingHyperbandSearchCV(
            net, {"lr": [1e-2, 1e-3]}, max_resources=2, factor=2, cv=2, random_state=0, refit=False
        ).fit(X, y)
    with pytest.warns(BatchNormWarning):
        again = clone(net).fit(X, y)
    assert_equal(before, weights(again))
