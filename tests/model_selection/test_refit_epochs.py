"""The refit for the epochs that the fits on the folds found."""

import itertools
import logging
import re

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ShuffleSplit, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, Checkpoint, EarlyStopping
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, default_collate

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, SearchCV, TorchClassifier, TorchRegressor
from skhpo.model_selection import with_found_epochs
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler
from skhpo.searchable import search_tags

NET = TorchClassifier(
    module__n_units=8, lr=0.1, max_epochs=12, batch_size=16, validation_fraction=0.2, patience=3
)


def grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def search_over(estimator, space, **kwargs):
    kwargs = {"scheduler": grid, "cv": 3, "random_state": 0, "refit_epochs": "median", **kwargs}
    return SearchCV(estimator, space, **kwargs)


@pytest.fixture(scope="module")
def searched(blobs):
    return search_over(clone(NET).set_params(lr_scheduler="cosine"), {"lr": [0.1, 0.3]}).fit(*blobs)


def found(search, name="best_epoch"):
    table = search.cv_results_
    return [table[f"split{i}_{name}"][search.best_index_] for i in range(search.n_splits_)]


def test_the_refit_has_all_rows_and_the_median_epoch(searched, blobs):
    best = searched.best_estimator_
    assert len(set(found(searched))) > 1
    assert best.n_iter_ == searched.refit_epochs_ == np.median(found(searched)) < 12
    assert best.validation_fraction is None
    assert "valid_loss" not in best.history_[-1]
    # 150 rows in batches of 16; 120 with a fifth held out.
    assert best.history_[-1]["train_batch_count"] == 10
    again = TorchClassifier(**best.get_params()).fit(*blobs)
    np.testing.assert_array_equal(again.predict_proba(blobs[0]), best.predict_proba(blobs[0]))


def test_by_default_it_is_the_median_where_fits_hold_rows_out(searched, blobs, caplog):
    caplog.set_level(logging.INFO, "skhpo")
    net = clone(NET).set_params(lr_scheduler="cosine")
    default = search_over(net, {"lr": [0.1, 0.3]}, refit_epochs="auto").fit(*blobs)
    assert SearchCV(net, {}, scheduler=grid).refit_epochs == "auto"
    assert default.refit_epochs_ == searched.refit_epochs_
    ours, theirs = (one.predict_proba(blobs[0]) for one in (default, searched))
    np.testing.assert_array_equal(ours, theirs)
    assert "refit_epochs='auto' is 'median'" in caplog.text


class Own(Callback):
    def on_epoch_end(self, net, **kwargs):
        net.history_[-1]["valid_loss"]


class Watching(TorchClassifier):
    def on_epoch_end(self, net, *args, **kwargs):
        super().on_epoch_end(net, *args, **kwargs)
        self.history_[-1]["valid_loss"]


def at_best(net):
    return net.history_[-1]["valid_loss_best"]


SAVING = Checkpoint(at_best, None, None, None, None, sink=lambda text: None)


@pytest.mark.parametrize(
    ("params", "kwargs", "given", "reason"),
    [
        ({"validation_fraction": None, "patience": None}, {}, {}, "holds no rows out"),
        ({"validation_fraction": None}, {}, {"validation_data": range(0, 150, 5)}, "passed val"),
        ({"callbacks": [Own]}, {}, {}, r"callbacks of your own \(Own\) may need"),
        ({"callbacks": [SAVING]}, {}, {}, "monitors by a function may need"),
        ({"lr_scheduler": "plateau"}, {}, {}, "waits for the monitored value to stall"),
        ({}, {"cv": ShuffleSplit(2, train_size=0.2)}, {}, "less than a third of the rows"),
    ],
    ids=["no checks", "given rows", "own callback", "function", "plateau", "few rows"],
)
def test_and_else_what_the_fits_were(params, kwargs, given, reason, blobs, caplog):
    caplog.set_level(logging.DEBUG, "skhpo")
    net = clone(NET).set_params(max_epochs=3, **params)
    search = search_over(net, {"lr": [0.3]}, refit_epochs="auto", **kwargs)
    search.fit(*blobs, **{name: np.array(rows) for name, rows in given.items()})
    assert not hasattr(search, "refit_epochs_")
    best = search.best_estimator_
    for name in ("max_epochs", "schedule_epochs", "validation_fraction", "patience"):
        assert getattr(best, name) == getattr(net, name)
    assert ("valid_loss" in best.history_[-1]) == (reason != "holds no rows out")
    assert any(re.search(f"is 'same': .*{reason}", line) for line in caplog.messages)


@pytest.mark.parametrize(
    ("own", "params", "is_known"),
    [
        (EarlyStopping("valid_loss"), {"callbacks__x__monitor": "train_loss"}, True),
        (EarlyStopping, {"callbacks__x__monitor": "train_loss"}, True),
        (EarlyStopping("valid_loss"), {"callbacks__x": None}, True),
        (EarlyStopping("train_loss"), {"callbacks__x__monitor": "valid_loss"}, False),
        (EarlyStopping("train_loss"), {"callbacks__x": EarlyStopping("valid_loss")}, False),
        (Checkpoint(None, None, None, None, None), {"callbacks__x__monitor": at_best}, False),
    ],
)
def test_callbacks_are_looked_at_with_what_parameters_set_of_them(own, params, is_known, blobs):
    net = clone(NET).set_params(max_epochs=2, patience=None, callbacks=[("x", own)], **params)
    search = search_over(net, {"lr": [0.3]}, refit_epochs="auto", cv=2).fit(*blobs)
    assert (search.best_estimator_.validation_fraction is None) == is_known


def test_a_class_of_the_user_may_need_the_rows(blobs):
    net = Watching(**NET.get_params(deep=False) | {"max_epochs": 2})
    search = search_over(net, {"module__n_units": [8]}, refit_epochs="auto").fit(*blobs)
    assert search.best_estimator_.validation_fraction == 0.2


def test_each_row_has_its_own_way(blobs):
    space = {"lr_scheduler": ["cosine", "plateau"]}
    search = search_over(clone(NET).set_params(max_epochs=3), space, refit_epochs="auto")
    ways = {
        net.lr_scheduler: net.validation_fraction
        for net in search.fit(*blobs).top_estimators(2, *blobs)
    }
    assert ways == {"cosine": None, "plateau": 0.2}


def test_estimators_that_count_no_epochs_are_refitted_as_ever(blobs):
    search = search_over(LogisticRegression(), {"C": [1.0]}, refit_epochs="auto").fit(*blobs)
    right = LogisticRegression(C=1.0).fit(*blobs)
    np.testing.assert_array_equal(search.best_estimator_.coef_, right.coef_)


def test_the_schedule_keeps_its_length(searched):
    # Half of a cosine of twelve epochs, not a whole one.
    rates = searched.best_estimator_.history_[:, "lr"]
    start, n = searched.best_params_["lr"], len(rates)
    expected = start * (1 + np.cos(np.pi * np.arange(n) / 12)) / 2
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_columns_have_what_each_fit_found(blobs):
    # The attribute of the fit of each split, as cross-validation leaves it.
    net = clone(NET).set_params(random_state=0)
    search = search_over(net, {"lr": [0.1]}, refit_epochs="same").fit(*blobs)
    fits = cross_validate(net, *blobs, cv=3, return_estimator=True)["estimator"]
    assert found(search) == [fit.best_epoch_ for fit in fits]
    # 100 rows, 80 without those held out, in batches of 16.
    assert found(search, "best_step") == [5 * fit.best_epoch_ for fit in fits]
    assert search.best_estimator_.validation_fraction == 0.2
    assert not hasattr(search, "refit_epochs_")


def test_no_columns_where_nothing_is_checked(blobs):
    net = clone(NET).set_params(validation_fraction=None, patience=None, max_epochs=1)
    search = search_over(net, {"lr": [0.1]}, refit_epochs="same").fit(*blobs)
    assert not any("best" in name for name in search.cv_results_)
    assert search.best_estimator_.best_epoch_ == 1


@pytest.mark.parametrize(("batch_size", "per_epoch"), [(16, 10), (-1, 1)])
def test_scaled_trains_for_as_many_steps(blobs, batch_size, per_epoch):
    net = clone(NET).set_params(batch_size=batch_size)
    search = search_over(net, {"lr": [0.3]}, refit_epochs="scaled").fit(*blobs)
    steps = np.median(found(search, "best_step"))
    assert search.best_estimator_.n_iter_ == max(1, np.floor(steps / per_epoch + 0.5))
    assert search.best_estimator_.history_[-1]["train_batch_count"] == per_epoch


class Loader(DataLoader):
    """An iterator of the user's."""


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(
    "kind", ["rows", "sequences", "items", "dataset", "balanced", "loader", "generator"]
)
def test_steps_per_epoch_are_those_of_a_fit(blobs, kind, drop_last):
    params = {
        "sequences": {"collate": "pad"},
        "items": {"collate": default_collate},
        "balanced": {"batch_sampler": "balanced"},
        "loader": {"iterator_train": Loader},
        "generator": {"iterator_train__generator": torch.Generator()},
    }.get(kind, {})
    for n, accumulate in itertools.product((32, 33, 35, 36, 40, 15), (1, 3)):
        if drop_last and n < 16:
            continue  # there would be no batch
        X, y = blobs[0][:n], blobs[1][:n]
        net = TorchClassifier(
            max_epochs=1, batch_size=16, accumulate=accumulate, iterator_train__drop_last=drop_last
        ).set_params(**params)
        if kind == "sequences":
            X = [row[: 2 + i % 5, None] for i, row in enumerate(X)]
            net.set_params(module=Last)
        if kind == "dataset":
            X, y = TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), None
        steps = search_tags(net).end_of_training.steps_per_epoch(n)
        net.fit(X, y)
        assert steps == next(iter(net.optimizer_.state.values()))["step"], (n, accumulate)


class Last(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, x):
        return self.linear(x[:, -1])


def test_in_a_pipeline_under_hyperband(blobs):
    search = HalvingHyperbandSearchCV(
        make_pipeline(StandardScaler(), clone(NET).set_params(patience=None)),
        {"torchclassifier__lr": [0.1, 0.3, 1.0]},
        resource="torchclassifier__max_epochs",
        max_resources=9,
        cv=2,
        random_state=0,
    ).fit(*blobs)
    net = search.best_estimator_[-1]
    assert net.n_iter_ == np.floor(np.median(found(search)) + 0.5)
    assert net.schedule_epochs == 9


def test_others_of_the_best_are_fitted_alike(blobs):
    search = search_over(NET, {"lr": [0.1, 0.3]}, keep_models=0).fit(*blobs)
    table, order = search.cv_results_, np.argsort(search.cv_results_["rank_test_score"])
    for net, row in zip(search.top_estimators(2, *blobs), order, strict=True):
        epochs = [table[f"split{i}_best_epoch"][row] for i in range(3)]
        assert net.n_iter_ == np.median(epochs)
        assert net.validation_fraction is None


def test_regression_and_a_table_of_a_resumed_search(line, tmp_path):
    net = TorchRegressor(lr=0.05, max_epochs=4, validation_fraction=0.2)
    kwargs = {"n_iter": 2, "cv": 2, "random_state": 0, "journal": tmp_path / "run.jsonl"}
    first = BayesSearchCV(net, {"lr": [0.05, 0.1]}, refit_epochs="same", **kwargs).fit(*line)
    # The journal has what was found, and another refit needs no other search.
    again = BayesSearchCV(net, {"lr": [0.05, 0.1]}, **kwargs).fit(*line)
    assert found(again) == found(first)
    assert again.best_estimator_.n_iter_ == again.refit_epochs_


@pytest.mark.parametrize("how", ["median", "scaled"])
def test_the_helper_for_cross_validation(blobs, how):
    net = make_pipeline(StandardScaler(), clone(NET).set_params(random_state=0))
    fits = cross_validate(net, *blobs, cv=3, return_estimator=True)["estimator"]
    final = with_found_epochs(net, fits, how, n_samples=150)[-1]
    median = np.median([fit[-1].best_epoch_ for fit in fits])
    assert final.max_epochs == (median if how == "median" else max(1, np.floor(median / 2 + 0.5)))
    assert final.schedule_epochs == net[-1].max_epochs == 12


def test_a_row_that_found_nothing_is_refitted_as_it_is(blobs):
    net = clone(NET).set_params(max_epochs=1, patience=None)
    search = search_over(net, {"validation_fraction": [None]})
    with pytest.warns(UserWarning, match="none with .*validation_fraction.* was"):
        search.fit(*blobs)
    assert search.best_estimator_.n_iter_ == 1


@pytest.mark.parametrize(
    ("estimator", "space", "message"),
    [
        (LogisticRegression(), {"C": [1.0]}, "counts epochs .* a LogisticRegression"),
        (CalibratedClassifierCV(NET), {"estimator__lr": [1.0]}, "got a CalibratedClassifierCV"),
        (clone(NET).set_params(validation_fraction=None), {"lr": [1]}, "set its validation_frac"),
        (NET, {"lr_scheduler": ["cosine", "plateau"]}, "lr_scheduler='plateau' waits"),
        (clone(NET).set_params(callbacks=[EarlyStopping]), {"lr": [1]}, "monitors 'valid_loss'"),
    ],
    ids=["no epochs", "unknown wrapper", "no checks", "plateau", "callback"],
)
def test_errors_before_any_training(estimator, space, message, blobs):
    with pytest.raises(ValueError, match=message):
        search_over(estimator, space).fit(*blobs)


def test_errors_of_the_helper(blobs):
    net = TorchClassifier(max_epochs=1)
    with pytest.raises(ValueError, match="none of 1 was; set validation_fraction"):
        with_found_epochs(net, [clone(net).fit(*blobs)])
    with pytest.raises(ValueError, match="needs n_samples"):
        with_found_epochs(net, [], "scaled")
    with pytest.raises(ValueError, match="must be 'median' or 'scaled'"):
        with_found_epochs(net, [], "mean")
