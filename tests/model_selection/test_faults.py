"""What breaks costs the fits that broke it, and nothing else."""

import threading
import time
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from clocks import clock_ahead_after
from scipy.stats import loguniform
from scripted import Scripted
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import SGDClassifier

from skhpo import HalvingHyperbandSearchCV, SearchCV, TorchClassifier
from skhpo.exceptions import SearchStoppedWarning
from skhpo.limits import current_slot
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)


def whole_grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def search_of(estimator, space, **kwargs):
    return SearchCV(estimator, space, scheduler=whole_grid, **({"cv": 2} | kwargs))


def test_a_worker_that_dies_costs_one_retry_of_its_fits(tmp_path):
    log = tmp_path / "log"
    space = [
        {"i": [0, 1, 2, 3], "log": [str(log)]},
        {"i": [4], "act": ["die"], "log": [str(log)]},
        {"i": [5, 6, 7], "log": [str(log)]},
    ]
    split = [(np.arange(0, 150, 2), np.arange(1, 150, 2))]
    with pytest.warns(FitFailedWarning, match="1 of 8 fits failed"):
        search = search_of(Scripted(), space, n_jobs=2, cv=split).fit(X, y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], [0, 1, 2, 3, np.nan, 5, 6, 7]
    )
    fits = log.read_text().splitlines()
    assert fits.count("4 die") == 2
    assert all(1 <= fits.count(f"{i} nothing") <= 2 for i in (0, 1, 2, 3, 5, 6))


def test_a_device_out_of_memory_is_tried_once_more(tmp_path):
    log = tmp_path / "log"
    space = {"act": ["nothing", "out_of_memory", "out_of_memory_once"], "log": [str(log)]}
    with pytest.warns(FitFailedWarning, match=r"(?s)2 of 6 fits failed.*CUDA out of memory"):
        search = search_of(Scripted(), space).fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [0, np.nan, 0])
    fits = log.read_text().splitlines()
    assert [fits.count(f"0 {act}") for act in space["act"]] == [3, 4, 3]  # and the refit


def test_a_net_that_diverges_fails_at_once():
    space = {"lr": [1e-2, 1e38], "optimizer": ["sgd"]}
    net = TorchClassifier(module__n_units=8, max_epochs=20, random_state=0)
    with pytest.warns(FitFailedWarning, match="loss must be finite"):
        search = search_of(net, space).fit(X, y)
    assert list(np.isnan(search.cv_results_["mean_test_score"])) == [False, True]


class Slow(torch.nn.Module):
    """A network whose every forward pass in training takes a while, if it is told so."""

    def __init__(self, in_features, out_features, delay=0.0):
        super().__init__()
        self.linear = torch.nn.Linear(in_features, out_features)
        self.delay = delay

    def forward(self, x):
        end = time.monotonic() + self.delay
        while time.monotonic() < end:
            torch.ones(10).sum()
        return self.linear(x)


def test_a_net_over_its_time_fails():
    net = TorchClassifier(Slow, max_epochs=1000, batch_size=8)
    space = {"module__delay": [0.0, 1.0], "max_epochs": [2]}
    TorchClassifier(max_epochs=1).fit(X, y)  # the first one of a process takes seconds
    # What a module does beside its arithmetic is not done again for each batch of a group.
    search = search_of(net, space, fit_timeout=0.9, lockstep=False)
    with pytest.warns(FitFailedWarning, match="longer than fit_timeout=0.9 seconds"):
        search.fit(X, y)
    assert list(np.isnan(search.cv_results_["mean_test_score"])) == [False, True]


def test_max_time_keeps_what_is_done_and_refits_the_best():
    search = search_of(Scripted(), {"i": list(range(10))}, max_time=1000, error_score="raise")
    with clock_ahead_after(5) as clock, pytest.MonkeyPatch.context() as patch:
        patch.setattr("skhpo.evaluation._evaluator._LONG_ENOUGH", 0)
        with pytest.warns(SearchStoppedWarning, match="max_time was over.* 2 trials"):
            search.set_params(callbacks=[clock]).fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [0, 1])
    assert search.best_params_ == {"i": 1}
    assert search.best_estimator_.i == 1


def test_max_time_over_before_anything_is_done():
    with pytest.raises(ValueError, match="no trial was finished: max_time was over"):
        search_of(Scripted(), {"i": [0, 1]}, max_time=1e-9).fit(X, y)


class Interrupt:
    def __init__(self, after):
        self.after = after

    def on_fit_end(self, search, trial, result):
        self.after -= 1
        if self.after == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("backend", "n_jobs"), [("loky", 1), ("loky", 2), ("threading", 2)])
def test_ctrl_c_keeps_what_is_done(backend, n_jobs):
    search = search_of(Scripted(), {"i": list(range(30))}, n_jobs=n_jobs)
    search.set_params(callbacks=[Interrupt(20)])
    with (
        joblib.parallel_config(backend),
        pytest.warns(SearchStoppedWarning, match="cut short because it was interrupted"),
    ):
        search.fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert 0 < len(scores) < 30
    assert search.best_score_ == scores.max()
    assert search.best_estimator_.i == search.best_params_["i"]


def test_ctrl_c_of_a_running_fit_and_a_second_one_in_the_refit():
    presses = []

    class Pressed(Scripted):
        def fit(self, X, y):
            if self.i == 3 or len(X) == len(y) == 150:
                presses.append(len(X))
                raise KeyboardInterrupt
            return super().fit(X, y)

    search = search_of(Pressed(), {"i": list(range(5))})
    with pytest.warns(SearchStoppedWarning, match="3 trials"), pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert presses == [75, 150]


def test_ctrl_c_before_anything_is_done():
    with pytest.raises(KeyboardInterrupt):
        search_of(Scripted(), {"i": [0, 1]}, callbacks=[Interrupt(1)]).fit(X, y)


def test_what_cannot_be_pickled_is_named_before_any_fit():
    class Holder(Scripted):
        def __init__(self, lock=None):
            self.lock = lock

        def __sklearn_clone__(self):
            return self

    search = search_of(Holder(lock=threading.Lock()), {"lock": [1]}, n_jobs=2)
    filters = list(warnings.filters)
    with pytest.raises(TypeError, match=r"picklable, but lock=<.*> is not.*threads"):
        search.fit(X, y)
    assert warnings.filters == filters  # the workers that were asked for are given back
    with joblib.parallel_config("threading"):
        search.set_params(param_distributions={"lock": [1]})
        with pytest.raises(ValueError, match="All the 2 fits failed"):  # it has no `act`
            search.fit(X, y)


def test_lambdas_and_local_classes_go_to_processes():
    class Local(Scripted):
        pass

    search = search_of(Local(), {"i": [0, 1]}, n_jobs=2, scoring=lambda e, X, y: e.i)
    assert search.fit(X, y).best_params_ == {"i": 1}


class SlotScore(SGDClassifier):
    def score(self, X, y, sample_weight=None):
        return float(current_slot().rpartition(":")[2])


def test_fits_run_on_the_slots_of_this_machine():
    devices = ["meta:1", "meta:2"]
    for backend, n_jobs in [("threading", 2), ("loky", 2), ("loky", 1)]:
        search = HalvingHyperbandSearchCV(
            SlotScore(),
            {"alpha": loguniform(1e-5, 1e-1)},
            resource="max_iter",
            max_resources=9,
            cv=2,
            devices=devices,
            n_jobs=n_jobs,
        )
        with joblib.parallel_config(backend):
            results = pd.DataFrame(search.fit(X, y).cv_results_)
        used = {*results["split0_test_score"], *results["split1_test_score"]}
        assert used <= ({1.0, 2.0} if n_jobs == 2 else {1.0})


@pytest.mark.parametrize(
    ("devices", "message"),
    [([], "at least one"), ("gpu", "'gpu' is none"), (["cuda:99"], "has 'cuda:99'")],
)
def test_devices_that_do_not_exist(devices, message):
    with pytest.raises(ValueError, match=message):
        search_of(Scripted(), {"i": [0]}, devices=devices).fit(X, y)
