"""Names and values of parameters."""

import inspect
import numbers
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skhpo._compat import Interval
from skhpo.estimators import MLP, TorchClassifier, TorchRegressor
from skhpo.lockstep import group_key, obstacle


def make_tower(in_features, out_features, width=3):
    return nn.Sequential(nn.Linear(in_features, width), nn.Linear(width, out_features))


class Subclass(TorchClassifier):
    """As skorch's documentation makes subclasses."""

    def __init__(self, *args, extra=1, **kwargs):
        super().__init__(*args, **kwargs)
        self.extra = extra


def test_arguments_of_the_parts_are_parameters():
    params = TorchClassifier(module__n_units=5).get_params()
    assert params["module__n_units"] == 5
    assert params["module__n_layers"] == 1
    assert params["module__in_features"] is None
    assert params["optimizer__weight_decay"] == 0.01
    assert params["criterion__label_smoothing"] == 0.0
    assert "optimizer__params" not in params
    shallow = TorchClassifier(module__n_units=5).get_params(deep=False)
    assert shallow.keys() >= {"module", "lr", "module__n_units"}
    assert "module__n_layers" not in shallow


def test_arguments_follow_the_component():
    params = TorchRegressor(module=make_tower, optimizer="sgd", criterion="huber").get_params()
    assert params["module__width"] == 3
    assert params["optimizer__momentum"] == 0
    assert params["criterion__delta"] == 1.0
    assert "module__n_units" not in params


@pytest.mark.parametrize(
    "net",
    [
        TorchClassifier(),
        TorchClassifier(module__n_units=7, optimizer__betas=(0.8, 0.9), random_state=3),
        TorchClassifier(nn.Linear(3, 2), criterion=nn.CrossEntropyLoss()),
        TorchRegressor(make_tower, module__width=4, iterator_train__drop_last=True),
        Subclass(extra=5, module__n_layers=2),
    ],
)
def test_clone_pickle_and_repr(net):
    twin = clone(net)
    assert type(twin) is type(net)
    assert twin.get_params(deep=False).keys() == net.get_params(deep=False).keys()
    assert (
        pickle.loads(pickle.dumps(net)).get_params(deep=False).keys()
        == twin.get_params(deep=False).keys()
    )
    assert repr(net).startswith(type(net).__name__ + "(")
    assert type(net).__name__ in net._repr_html_()
    net.set_params(lr=0.5, module__n_units=9) if isinstance(net.module, type) else None


def test_repr_shows_what_was_changed():
    assert repr(TorchClassifier(module__n_units=7, lr=0.1)) == (
        "TorchClassifier(lr=0.1, module__n_units=7)"
    )


def test_repr_of_functions_has_no_address():
    whole = make_pipeline(StandardScaler(), TorchClassifier(transform=partial(np.clip, a_max=1)))
    assert "transform=partial(clip, a_max=1)" in repr(whole)


def test_subclass_has_all_parameters():
    params = Subclass(extra=5).get_params()
    assert params["extra"] == 5
    assert params["lr"] == 1e-3
    assert clone(Subclass(extra=5)).extra == 5


def test_constraints_of_a_subclass_hold_for_defaults_too(line):
    class Short(TorchRegressor):
        _parameter_constraints = {
            **TorchRegressor._parameter_constraints,
            "batch_size": [Interval(numbers.Integral, 1, 5, closed="both")],
        }

    with pytest.raises(ValueError, match=r"'batch_size' parameter of Short must be an int in"):
        Short(max_epochs=1).fit(*line)
    assert Short(max_epochs=1, batch_size=5).fit(*line).n_iter_ == 1


def test_a_search_may_vary_what_was_never_set(blobs):
    net = make_pipeline(StandardScaler(), TorchClassifier(max_epochs=1, random_state=0))
    grid = {
        "torchclassifier__module__n_units": [4, 8],
        "torchclassifier__optimizer__weight_decay": [0.0, 0.1],
    }
    search = GridSearchCV(net, grid, cv=2).fit(*blobs)
    assert search.best_params_.keys() == grid.keys()
    best = search.best_estimator_[-1]
    assert (
        best.module_.linear_0.out_features
        == search.best_params_["torchclassifier__module__n_units"]
    )


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("module__n_unit", "module__n_units"),
        ("optimizer__weight_decoy", "optimizer__weight_decay"),
        ("criterion__label_smothing", "criterion__label_smoothing"),
        ("iterator_train__batchsize", "iterator_train__batch_size"),
        ("max_epoch", "max_epochs"),
        ("modul__n_units", "module__n_units"),
        ("callbacks__print_logg", "callbacks__print_log"),
    ],
)
def test_unknown_names_list_the_nearest(blobs, name, nearest):
    message = rf"Invalid parameter '{name}' .* nearest first: {nearest}"
    with pytest.raises(ValueError, match=message):
        TorchClassifier().set_params(**{name: 1})
    with pytest.raises(ValueError, match=message):
        TorchClassifier(**{name: 1}).fit(*blobs)


def test_unknown_names_survive_clone_until_fit_refuses_them(blobs):
    with pytest.raises(ValueError, match="Invalid parameter 'n_units'"):
        clone(TorchClassifier(n_units=3)).fit(*blobs)


def test_names_are_those_of_the_new_module():
    net = TorchRegressor().set_params(module=make_tower, module__width=4)
    assert net.module__width == 4
    with pytest.raises(ValueError, match="Invalid parameter 'module__n_units'"):
        net.set_params(module__n_units=3)


def test_any_name_goes_to_open_signatures(line):
    def make(in_features, out_features, **kwargs):
        assert kwargs == {"anything": 3}
        return nn.Linear(in_features, out_features)

    TorchRegressor(make, max_epochs=1).set_params(module__anything=3).fit(*line)


def test_set_params_after_fit_is_quiet_and_waits(blobs, capsys):
    X, y = blobs
    net = TorchClassifier(max_epochs=1, random_state=0, verbose=1).fit(X, y)
    capsys.readouterr()
    before = net.predict_proba(X)
    module = net.module_
    net.set_params(module__n_units=3, criterion__label_smoothing=0.1, max_epochs=2)
    net.set_params(optimizer__eps=1e-6, module__in_features=None, batch_size=7)
    assert capsys.readouterr().out == ""
    assert net.module_ is module
    assert (net.predict_proba(X) == before).all()
    net.partial_fit(X, y)
    assert net.module_ is module
    assert net.fit(X, y).module_.linear_0.out_features == 3


def test_learning_rate_takes_effect_at_once(blobs):
    net = TorchClassifier(max_epochs=1).fit(*blobs)
    net.set_params(lr=0.5, optimizer__weight_decay=0.25)
    assert net.optimizer_.param_groups[0]["lr"] == 0.5
    assert net.optimizer_.param_groups[0]["weight_decay"] == 0.25
    assert net.get_params()["lr"] == 0.5


@pytest.mark.parametrize("spelling", ["adamw", "AdamW", "ADAMW", torch.optim.AdamW])
def test_optimizer_by_name_or_class(line, spelling):
    net = TorchRegressor(optimizer=spelling, max_epochs=1).fit(*line)
    assert type(net.optimizer_) is torch.optim.AdamW


@pytest.mark.parametrize("spelling", ["smooth_l1", "SmoothL1Loss", nn.SmoothL1Loss])
def test_criterion_by_name_or_class(line, spelling):
    net = TorchRegressor(criterion=spelling, criterion__beta=0.5, max_epochs=1).fit(*line)
    assert type(net.criterion_) is nn.SmoothL1Loss
    assert net.criterion_.beta == 0.5


@pytest.mark.parametrize(
    ("params", "fused"),
    [
        ({"optimizer": "adam"}, True),
        ({"optimizer": "adamw"}, True),
        ({"optimizer": "sgd", "optimizer__momentum": 0.9}, True),
        ({"optimizer": "sgd", "optimizer__momentum": 0.9, "optimizer__dampening": 0.1}, None),
        ({"optimizer": "sgd"}, None),
        ({"optimizer": "adam", "optimizer__fused": False}, False),
        ({"optimizer": "adam", "optimizer__foreach": True}, None),
    ],
)
def test_fused_where_it_helps_and_nobody_chose(line, params, fused):
    net = TorchRegressor(max_epochs=1, **params).fit(*line)
    assert net.optimizer_.param_groups[0]["fused"] is fused


@pytest.mark.parametrize("optimizer", ["adagrad", "nadam", "rmsprop", "rprop", "asgd", "lbfgs"])
def test_every_optimizer_trains(line, optimizer):
    net = TorchRegressor(optimizer=optimizer, max_epochs=4, lr=0.01, random_state=0).fit(*line)
    losses = net.history[:, "train_loss"]
    assert losses[-1] < losses[0]


def test_module_instance_is_copied(blobs):
    instance = MLP(8, 3)
    before = {name: value.clone() for name, value in instance.state_dict().items()}
    net = TorchClassifier(instance, max_epochs=2).fit(*blobs)
    assert net.module_ is not instance
    for name, value in instance.state_dict().items():
        assert torch.equal(value, before[name])
        assert not torch.equal(net.module_.state_dict()[name], before[name])


def make_by_run(hp, in_features, out_features, bias=True):
    width = hp.Int("width", 2, 8, default=4)
    layers = [nn.Linear(in_features, width, bias=bias)]
    if hp.Choice("normalization", [None, "batch"]) == "batch":
        layers.append(nn.BatchNorm1d(width, momentum=hp.Float("momentum", 0.1, 0.9)))
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(width, out_features))


def batches_and_optimizer(net):
    return [(len(row["batches"]), sorted(row)) for row in net.history], repr(net.optimizer_)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"optimizer": "adam", "label_smoothing": 0.1, "lr_multipliers": {"output.*": 2}},
        {"optimizer": "sgd", "optimizer__momentum": 0.9, "lr_scheduler": "one_cycle"},
        {"module": make_by_run, "lr_scheduler": "linear", "iterator_train__drop_last": True},
        {"module": make_tower, "lr_scheduler": "cosine", "callbacks__print_log": None},
        {"lr_scheduler": "polynomial", "verbose": 1},
        {
            **{"lr_scheduler": "plateau", "lr_scheduler__patience": 0, "lr_scheduler__cooldown": 1},
            **{"validation_fraction": 0.3, "monitor": "accuracy", "patience": 1},
        },
    ],
)
def test_a_parameter_set_to_its_value_changes_nothing(blobs, params):
    net = TorchClassifier(max_epochs=3, random_state=0, **params)
    same = clone(net).set_params(**net.get_params(deep=True))
    loader = inspect.signature(torch.utils.data.DataLoader).parameters
    unset = set(loader) - {"dataset", "batch_size", "shuffle"} - {k[16:] for k in params}
    same.set_params(**{f"iterator_train__{name}": loader[name].default for name in unset})
    same.set_params(iterator_train__batch_size=32, iterator_train__shuffle=True)
    same.set_params(dataset__length=None)
    X, y = blobs
    # One code path, so that not a bit differs.
    np.testing.assert_array_equal(
        clone(same).fit(X, y).predict_proba(X), net.fit(X, y).predict_proba(X)
    )
    assert batches_and_optimizer(same.fit(X, y)) == batches_and_optimizer(net)
    assert group_key(same) == group_key(net)
    assert obstacle(same) == obstacle(net)


def test_a_criterion_set_to_its_defaults_suits_several_labels(blobs):
    X, y = blobs
    net = TorchClassifier(max_epochs=1, random_state=0)
    same = clone(net).set_params(**net.get_params(deep=True))
    y = np.stack([y > 0, y > 1], axis=1).astype(int)
    np.testing.assert_array_equal(same.fit(X, y).predict_proba(X), net.fit(X, y).predict_proba(X))


def test_a_loader_that_is_set_to_its_defaults_shuffles_by_the_seed(line):
    class Plain(torch.utils.data.Dataset):
        def __init__(self, X, y):
            self.X, self.y = X, y

        def __len__(self):
            return len(self.y)

        def __getitem__(self, i):
            return self.X[i], self.y[i]

    nothing = {"sampler": None, "batch_sampler": None, "generator": None, "num_workers": 0}
    settings = [{}, {f"iterator_train__{name}": value for name, value in nothing.items()}]
    nets = [TorchRegressor(max_epochs=2, random_state=0, dataset=Plain, **s) for s in settings]
    np.testing.assert_array_equal(*(net.fit(*line).predict(Plain(*line)) for net in nets))
