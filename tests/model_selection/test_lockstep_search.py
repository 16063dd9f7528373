"""A search that trains networks as one finds what it finds when it trains them one by one."""

import json
import os
import signal
import time

import numpy as np
import pytest
import sklearn
import torch
from scipy.stats import loguniform, uniform
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EpochScoring

import skhpo.lockstep
from skhpo import HalvingHyperbandSearchCV, SearchCV, TorchClassifier, TorchRegressor
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)
UNEQUAL = [
    (np.arange(0, 150, 2), np.arange(1, 150, 2)),
    (np.arange(0, 150, 3), np.arange(1, 150, 3)),
    (np.arange(1, 150), np.arange(0, 150, 5)),
]


def whole_grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


class Empty(TorchClassifier):
    """Overrides nothing."""


class Flattened(TorchClassifier):
    def predict_proba(self, X):
        return (super().predict_proba(X) + 1) / 4


class OwnLoss(TorchClassifier):
    def get_loss(self, *args, **kwargs):
        return super().get_loss(*args, **kwargs)


def net(cls=TorchClassifier, **kwargs):
    defaults = {"module__n_units": 8, "module__n_layers": 1, "batch_size": 32, "max_epochs": 3}
    return cls(**defaults | {"lr": 0.01} | kwargs)


def grid(estimator, space, **kwargs):
    defaults = {"cv": 2, "random_state": 0, "scoring": "neg_log_loss", "refit": False}
    return SearchCV(estimator, space, scheduler=whole_grid, **defaults | kwargs)


def scores(search):
    table = search.cv_results_
    return {
        name: np.asarray(column, dtype=float)
        for name, column in table.items()
        if ("score" in name or name in ("candidate", "n_resources")) and "time" not in name
    }


def assert_close(a, b):
    a, b = scores(a), scores(b)
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_allclose(a[name], b[name], atol=1e-4, err_msg=name)


def assert_lockstep_changes_nothing(make, *data, **fit_params):
    """Compare one worker without lockstep with one and with two in lockstep."""
    data = data or (X, y)
    alone = make(lockstep=False).fit(*data, **fit_params)
    joint = make(lockstep=True).fit(*data, **fit_params)
    assert_close(joint, alone)
    return joint


@pytest.fixture
def group_sizes(monkeypatch):
    """The sizes of the groups that are trained."""
    sizes = []
    train_together = skhpo.lockstep.train_together

    def spy(members):
        sizes.append(len(members))
        return train_together(members)

    monkeypatch.setattr(skhpo.lockstep, "train_together", spy)
    return sizes


@pytest.mark.parametrize(
    ("fixed", "space"),
    [
        ({"optimizer": "sgd", "optimizer__momentum": 0.9}, {"lr": [0.01, 0.1]}),
        ({"optimizer": "adam"}, {"lr": [0.01, 0.03], "module__dropout": [0.1, 0.4]}),
        ({}, {"lr": [0.01, 0.03], "optimizer__weight_decay": [1e-2, 1e-1]}),
    ],
    ids=["sgd", "adam", "adamw"],
)
def test_scores_are_those_of_single_fits(fixed, space, group_sizes):
    scoring = {"scoring": ["accuracy", "neg_log_loss"], "return_train_score": True}

    def make(**kwargs):
        return grid(net(**fixed), space, cv=UNEQUAL, n_repeats=2, **scoring, **kwargs)

    assert_lockstep_changes_nothing(make)
    n_candidates = np.prod([len(choices) for choices in space.values()])
    assert sum(group_sizes) == 6 * n_candidates
    assert max(group_sizes) > 6


def test_architectures_are_kept_apart(group_sizes):
    space = {"module__n_units": [4, 8], "lr": [0.01, 0.03]}
    assert_lockstep_changes_nothing(lambda **kwargs: grid(net(), space, **kwargs))
    assert group_sizes == [4, 4]


@pytest.mark.parametrize("cls", [Empty, Flattened])
def test_subclasses_that_train_alike(cls, group_sizes, caplog):
    space = {"lr": [0.01, 0.03]}
    with caplog.at_level("DEBUG", "skhpo"):
        own = assert_lockstep_changes_nothing(lambda **kwargs: grid(net(cls), space, **kwargs))
    assert group_sizes == [4]
    assert not [message for message in caplog.messages if "alone" in message]
    plain = grid(net(), space, lockstep=True).fit(X, y)
    means = [scores(search)["mean_test_score"] for search in (own, plain)]
    assert np.allclose(*means) is (cls is Empty)


def test_regression(group_sizes):
    regressor = TorchRegressor(module__n_units=8, max_epochs=3, lr=0.01)
    assert_lockstep_changes_nothing(
        lambda **kwargs: grid(regressor, {"lr": [0.01, 0.03]}, scoring="r2", **kwargs),
        X[:, :3],
        X[:, 3],
    )
    assert group_sizes == [4]


def test_pipelines(group_sizes):
    space = {
        "standardscaler__with_std": [True, False],
        "torchclassifier__lr": [0.01, 0.03],
    }

    def make(**kwargs):
        pipeline = make_pipeline(StandardScaler(), net())
        kwargs = {"scoring": None, "return_train_score": True, "cv": UNEQUAL} | kwargs
        return grid(pipeline, space, **kwargs)

    assert_lockstep_changes_nothing(make)
    assert group_sizes == [12]


class Refuses(TransformerMixin, BaseEstimator):
    def __init__(self, always=False):
        self.always = always

    def fit(self, X, y=None):
        if self.always:
            raise RuntimeError("on purpose")
        return self

    def transform(self, X):
        return X


def test_what_fails_takes_nobody_with_it():
    space = [
        {"refuses__always": [False], "torchclassifier__lr": [0.01, float("inf"), 0.03]},
        {"refuses__always": [True], "torchclassifier__lr": [0.02]},
        {"torchclassifier__lr": [0.04], "torchclassifier__label_smoothing": [2.0]},
    ]

    def make(**kwargs):
        pipeline = make_pipeline(Refuses(), net(optimizer="sgd"))
        return grid(pipeline, space, **kwargs)

    with pytest.warns(FitFailedWarning, match="6 of 10 fits failed"):
        search = assert_lockstep_changes_nothing(make)
    means = search.cv_results_["mean_test_score"]
    assert np.isnan(means).tolist() == [False, True, False, True, True]
    with pytest.raises(ValueError, match="'label_smoothing' parameter"):
        grid(net(), {"label_smoothing": [0.1, 2.0]}, lockstep=True, error_score="raise").fit(X, y)


@pytest.mark.parametrize("pipeline", [False, True])
def test_hyperband_goes_on_from_its_groups(pipeline, tmp_path, group_sizes):
    def make(**kwargs):
        prefix = "torchclassifier__" if pipeline else ""
        return HalvingHyperbandSearchCV(
            make_pipeline(StandardScaler(), net()) if pipeline else net(),
            {prefix + "lr": loguniform(1e-3, 1e-1), prefix + "module__dropout": uniform(0.1, 0.5)},
            resource=prefix + "max_epochs",
            max_resources=9,
            cv=2,
            random_state=0,
            **kwargs,
        )

    in_memory = assert_lockstep_changes_nothing(make)
    assert in_memory.best_estimator_.score(X, y) > 0.5
    assert max(group_sizes) > 2
    journal = tmp_path / "run.jsonl"
    saved = make(lockstep=True, journal=journal).fit(X, y)
    assert_close(saved, in_memory)
    whole = journal.read_text().splitlines(keepends=True)
    assert sum(json.loads(line)["event"] == "fit" for line in whole[1:]) == 2 * len(
        saved.cv_results_["params"]
    )
    # A journal of which half is lost; what is asked again is grouped otherwise, or not at all.
    for lockstep in (True, False):
        journal.write_text("".join(whole[: len(whole) // 2]))
        del group_sizes[:]
        assert_close(make(lockstep=lockstep, journal=journal).fit(X, y), saved)
        assert bool(group_sizes) is lockstep
        assert sum(group_sizes) < len(whole) - 1


def test_results_are_the_same_for_any_number_of_workers():
    def make(**kwargs):
        return HalvingHyperbandSearchCV(
            make_pipeline(StandardScaler(), net()),
            {"torchclassifier__lr": loguniform(1e-3, 1e-1)},
            resource="torchclassifier__max_epochs",
            max_resources=3,
            random_state=0,
            scoring="neg_log_loss",
            cv=3,
            lockstep=True,
            **kwargs,
        )

    one, two = make(n_jobs=1).fit(X, y), make(n_jobs=2).fit(X, y)
    for name, column in scores(one).items():
        np.testing.assert_array_equal(column, scores(two)[name], err_msg=name)


def test_an_asynchronous_search_groups_the_folds_of_a_candidate(group_sizes):
    space = {"lr": [0.01, 0.02, 0.03]}
    assert_lockstep_changes_nothing(
        lambda **kwargs: grid(net(), space, cv=3, n_repeats=2, asynchronous=True, **kwargs)
    )
    assert group_sizes == [6, 6, 6]


def test_weights_of_samples_reach_each_net_and_its_scorer(group_sizes):
    weight = np.random.default_rng(0).uniform(0.1, 2, len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = net().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)

        def make(**kwargs):
            return grid(estimator, {"lr": [0.01, 0.03]}, scoring=None, cv=UNEQUAL, **kwargs)

        weighted = assert_lockstep_changes_nothing(make, sample_weight=weight)
        plain = make(lockstep=True).fit(X, y)
    assert group_sizes == [6, 6]
    assert np.any(scores(weighted)["mean_test_score"] != scores(plain)["mean_test_score"])


def test_an_error_says_what_stands_in_the_way_before_anything_is_trained(group_sizes):
    def fit(estimator, **kwargs):
        space = {"lr": [0.1, 0.2]} if hasattr(estimator, "lr") else {"alpha": [0.1]}
        grid(estimator, space, scoring=None, lockstep=True, **kwargs).fit(X, y)

    with pytest.raises(ValueError, match=r"lockstep=True .*SGDClassifier is no torch estimator"):
        fit(SGDClassifier())
    with pytest.raises(ValueError, match=r"lockstep=True .*callbacks .*use lockstep='auto'"):
        fit(net(callbacks=[EpochScoring("accuracy")]))
    with pytest.raises(ValueError, match=r"lockstep=True .*OwnLoss overrides get_loss \("):
        fit(net(OwnLoss))
    with pytest.raises(ValueError, match="'lockstep' parameter of SearchCV must be"):
        grid(net(), {"lr": [0.1]}, lockstep="always").fit(X, y)
    space = [{"lr": [0.1]}, {"lr": [0.2], "callbacks": [[EpochScoring("accuracy")]]}]
    with pytest.raises(ValueError, match=r"lockstep=True .*candidate 1"):
        grid(net(), space, lockstep=True).fit(X, y)
    assert group_sizes == []


def test_left_to_itself_a_search_trains_in_lockstep_what_it_can(group_sizes, caplog):
    space = [
        {"lr": [0.1, 0.2]},
        {"lr": [0.3, 0.4], "callbacks": [[EpochScoring("accuracy", on_train=True)]]},
    ]
    with caplog.at_level("DEBUG", "skhpo"):
        search = grid(net(), space).fit(X, y)
    assert group_sizes == [4]
    assert [m for m in caplog.messages if "not trained in lockstep" in m and "callbacks" in m]
    assert not np.isnan(search.cv_results_["mean_test_score"]).any()
    assert_close(search, grid(net(), space, lockstep=False).fit(X, y))


def test_one_forward_pass_scores_a_group(monkeypatch):
    passes = []
    predict_together = skhpo.lockstep.predict_together

    def spy(nets, Xs, **kwargs):
        passes.append(len(nets))
        return predict_together(nets, Xs, **kwargs)

    monkeypatch.setattr(skhpo.lockstep, "predict_together", spy)
    space = {"lr": [0.01, 0.03]}
    grid(net(), space, lockstep=True, scoring=["accuracy", "roc_auc_ovr", "neg_log_loss"]).fit(X, y)
    assert passes == [4]
    own = {"half": make_scorer(lambda y, p: accuracy_score(y, p) / 2)}
    halved = grid(net(), space, lockstep=True, scoring=own).fit(X, y)
    assert passes == [4, 4]
    alone = grid(net(), space, lockstep=False, scoring=own).fit(X, y)
    assert_close(halved, alone)


def ignores_the_hidden_layer(estimator, X, y):
    """A scorer that changes the network before it looks at what it predicts."""
    with torch.no_grad():
        for parameter in estimator.module_.parameters():
            parameter.zero_()
    return float((estimator.predict_proba(X)[:, 0]).mean())


def test_a_scorer_of_ones_own_sees_the_network_itself():
    search = grid(net(), {"lr": [0.01, 0.03]}, scoring=ignores_the_hidden_layer, lockstep=True)
    np.testing.assert_allclose(search.fit(X, y).cv_results_["mean_test_score"], 1 / 3, atol=1e-6)


def test_a_group_that_is_too_large_for_the_device_is_halved(monkeypatch):
    sizes = []
    train_together = skhpo.lockstep.train_together

    def small_device(members):
        sizes.append(len(members))
        if len(members) > 3:
            return [torch.OutOfMemoryError("CUDA out of memory (as if)")] * len(members)
        return train_together(members)

    monkeypatch.setattr(skhpo.lockstep, "train_together", small_device)
    space = {"lr": [0.01, 0.02, 0.03, 0.04]}
    assert_lockstep_changes_nothing(lambda **kwargs: grid(net(), space, cv=2, **kwargs))
    assert sizes == [8, 4, 4, 2, 2, 2, 2]


def test_a_group_has_the_time_of_all_its_fits():
    endless = grid(net(max_epochs=10**6), {"lr": [0.01, 0.02]}, lockstep=True, fit_timeout=0.2)
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"(?s)All the 4 fits.*longer than fit_timeout=0.2 sec"):
        endless.fit(X, y)
    assert time.monotonic() - start > 4 * 0.2


class Fragile(torch.nn.Module):
    """A network that ends its process if it is made fragile enough."""

    def __init__(self, in_features, out_features, fragility=0.0):
        super().__init__()
        if fragility > 0.5:
            os.kill(os.getpid(), signal.SIGKILL)
        self.linear = torch.nn.Linear(in_features, out_features)

    def forward(self, x):
        return self.linear(x)


@pytest.mark.slow
def test_a_dead_worker_costs_the_guilty_fits_only():
    estimator = TorchClassifier(Fragile, max_epochs=2)
    space = {"module__fragility": [0.1, 0.9]}
    split = [UNEQUAL[0]]
    with pytest.warns(FitFailedWarning, match="1 of 2 fits failed"):
        search = grid(estimator, space, cv=split, n_jobs=2, lockstep=True).fit(X, y)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True]
