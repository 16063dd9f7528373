"""Bad values, and settings that exclude each other, are refused before any training."""

import numpy as np
import pytest
import torch
from skorch.dataset import ValidSplit

from skhpo import exceptions
from skhpo.estimators import MLP, ConvNet, TorchClassifier, TorchRegressor
from skhpo.limits import FitTimeoutError, limited

X = np.random.RandomState(0).rand(24, 3)
Y = np.arange(24) % 3


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"validation_fraction": 1.0}, r"'validation_fraction' .* \(0.0, 1.0\) or None. Got 1.0"),
        ({"patience": 3}, "patience=3 needs rows to check on, but validation_fraction=None"),
        ({"check_every": 3}, "check_every=3 needs rows to check on"),
        (
            {"validation_fraction": 0.2, "patience": 0},
            r"'patience' .* an int in the range \[1, inf\)",
        ),
        (
            {"validation_fraction": 0.2, "check_every": 1.5},
            r"'check_every' .* an int in .* Got 1.5",
        ),
        ({"min_epochs": -1}, r"'min_epochs' .* an int in the range \[0, inf\)"),
        ({"monitor": "acuracy"}, "monitor must be .* 'acuracy'; the nearest: 'accuracy'"),
        (
            {"validation_fraction": 0.2, "train_split": ValidSplit(3)},
            "validation_fraction=0.2 and train_split=.* both hold data out",
        ),
        ({"lr_scheduler": "cosin"}, "lr_scheduler must be .* known: 'cosine'"),
        ({"lr_scheduler__gamma": 0.5}, "lr_scheduler__gamma is set, but lr_scheduler=None"),
        ({"lr_scheduler": "cosine", "schedule_epochs": 0}, "'schedule_epochs' .* an int in"),
        ({"lr_scheduler": "plateau"}, "'plateau' waits .* validation_fraction=None"),
        ({"init": "kaimin_normal"}, "init must be one of 'kaiming_normal'"),
        ({"init_gain": 0}, r"'init_gain' .* a float in the range \(0.0, inf\)"),
        ({"init": "zeros", "module": MLP(3, 3)}, "init='zeros' .* an instance given as module"),
        ({"lr_multipliers": [("a", 1)]}, "lr_multipliers must be None or a dict"),
        ({"lr_multipliers": {"*": -1}}, r"lr_multipliers\['\*'\]. parameter .* \[0.0, inf\)"),
        (
            {"lr_multipliers": {"*": 1}, "optimizer__param_groups": [("output*", {})]},
            "lr_multipliers and optimizer__param_groups both group",
        ),
        (
            {"freeze": {"output.*": 1.5}},
            r"freeze\['output.\*'\]. parameter .* an int in the range \[0, inf\)",
        ),
        ({"max_norm": 0}, r"'max_norm' .* a float in the range \(0.0, inf\)"),
        ({"label_smoothing": 1}, r"'label_smoothing' .* a float in the range \[0.0, 1.0\)"),
        (
            {"label_smoothing": 0.1, "criterion__label_smoothing": 0.1},
            "label_smoothing and criterion__label_smoothing are the same",
        ),
        ({"label_smoothing": 0.1, "criterion": "nll"}, "label_smoothing=0.1 needs criterion"),
        ({"batch_sampler": "balancd"}, r"'batch_sampler' .* a str among {'balanced'} or None"),
        (
            {"batch_sampler": "balanced", "iterator_train__sampler": range(12)},
            "batch_sampler='balanced' needs a torch Dataset of which iterator_train reads any item",
        ),
        (
            {"batch_sampler": "balanced", "iterator_train__shuffle": False},
            "batch_sampler='balanced' orders .* iterator_train__shuffle=False",
        ),
        (
            {"lr": -1.0},
            "'lr' parameter of TorchClassifier must be a float in the range .* Got -1.0",
        ),
        ({"lr": np.nan}, "'lr' parameter .* Got nan"),
        ({"lr": "a"}, "'lr' parameter .* Got 'a'"),
        ({"verbose": "a"}, "'verbose' parameter .* Got 'a'"),
        ({"warm_start": "a"}, "'warm_start' parameter .* Got 'a'"),
        ({"predict_nonlinearity": "a"}, "'predict_nonlinearity' parameter .* Got 'a'"),
        ({"callbacks": 5}, "'callbacks' parameter .* Got 5"),
        ({"compile": "a"}, "'compile' parameter .* Got 'a'"),
        ({"classes": []}, "classes must be a list of at least one label"),
        ({"amp": "yes"}, "'amp' .* a str among {'auto'}"),
        ({"seeds": {"inti": 1}}, "seeds must have keys among 'init', .* 'inti'"),
        ({"seeds": {"init": -1}}, r"seeds\['init'\]. parameter .* an int in the range \[0, inf\)"),
        ({"seeds": 7}, "'seeds' .* an instance of 'dict' or None"),
        ({"seeds__inti": 1}, "nearest first: seeds__init"),
        ({"module": ConvNet}, r"ConvNet needs images .* shape \(3,\); reshape X"),
    ],
)
def test_bad_settings(params, message, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("trained")

    monkeypatch.setattr(torch.Tensor, "backward", fail)
    with pytest.raises(ValueError, match=message):
        TorchClassifier(**params).fit(X, Y)


def test_settings_that_need_rows_by_number():
    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([(X[0], 0), (X[1], 1)])

    for params, message in (
        ({"validation_fraction": 0.2}, "by number, but X is a Endless, an IterableDataset"),
        ({"batch_sampler": "balanced"}, "needs a torch Dataset of which iterator_train reads any"),
    ):
        with pytest.raises(ValueError, match=message):
            TorchClassifier(**params).fit(Endless())


def test_batch_normalization_of_single_rows():
    for data, batch_size in (((X, Y), 1), ((X[:1], Y[:1]), 32)):
        net = TorchRegressor(module__normalization="batch", batch_size=batch_size)
        with pytest.raises(ValueError, match=f"at least two rows in .* batch_size={batch_size}"):
            net.fit(*data)


@pytest.mark.parametrize("callbacks", [None, "hooked"])
def test_time_and_losses_without_end(callbacks, monkeypatch):
    from skorch.callbacks import Callback

    params = {"callbacks": callbacks and [Callback()], "random_state": 0}
    net = TorchRegressor(**params, optimizer="sgd", lr=1e10, max_epochs=50)
    with pytest.raises(exceptions.NonFiniteLossError, match="must be finite, but is"):
        net.fit(X, Y)
    net = TorchRegressor(**params, max_epochs=10**9)
    with limited(seconds=0.0), pytest.raises(FitTimeoutError, match=r"fit_timeout=0\.0 seconds"):
        net.fit(X, Y)
    assert net.n_iter_ == len(net.history) == 0
