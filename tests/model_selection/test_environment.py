"""What the environment does is never recorded as what a candidate is worth."""

import errno
import json
import os
import pickle
import random
import re
import signal
import threading
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from scipy.stats import loguniform
from scripted import Scripted
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.neural_network import MLPClassifier
from sklearn.utils.parallel import Parallel, delayed

from skhpo import (
    BayesSearchCV,
    HalvingHyperbandSearchCV,
    SearchCV,
    SelfTuningClassifier,
    TorchClassifier,
)
from skhpo.exceptions import SearchStoppedWarning, StorageError
from skhpo.process import ignoring
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)

everywhere = pytest.mark.parametrize(
    ("backend", "n_jobs"), [("loky", 1), ("loky", 2), ("threading", 2)]
)


def whole_grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def search_of(estimator, space, **kwargs):
    return SearchCV(estimator, space, scheduler=whole_grid, **({"cv": 2, "refit": False} | kwargs))


def hyperband(journal=None, **kwargs):
    return HalvingHyperbandSearchCV(
        TorchClassifier(module__n_units=8),
        {"lr": loguniform(1e-3, 1e-1)},
        resource="max_epochs",
        max_resources=3,
        cv=2,
        random_state=0,
        refit=False,
        journal=journal,
        **kwargs,
    )


def errors_in(journal):
    if not Path(journal).exists():
        return []
    lines = Path(journal).read_text().splitlines()[1:]
    return [event["error"] for event in map(json.loads, lines) if event.get("error")]


class FullDisk:
    """Lets so many files of a search be written."""

    def __init__(self, monkeypatch, n):
        self.n, self.write = n, os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, descriptor, content):
        if os.path.realpath(f"/proc/self/fd/{descriptor}").endswith(".part"):
            self.n -= 1
            if self.n < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.write(descriptor, content)


@pytest.mark.parametrize("lockstep", [False, True])
def test_a_full_disk_stops_the_search_and_costs_no_fit(tmp_path, lockstep):
    whole = hyperband(lockstep=lockstep).fit(X, y).cv_results_["mean_test_score"]
    for n in (1, 12):
        path = tmp_path / f"{n}.jsonl"
        search = hyperband(path, lockstep=lockstep)
        with pytest.MonkeyPatch.context() as patch:
            FullDisk(patch, n)
            with pytest.raises(StorageError, match=r"No space left.*\.files.*make room") as caught:
                search.fit(X, y)
        assert caught.value.errno == errno.ENOSPC
        assert hasattr(search, "cv_results_") == (n > 1)
        if n > 1:
            assert set(search.cv_results_["mean_test_score"]) <= set(whole)
            assert search.stop_reason_ == "a file could not be written"
        assert errors_in(path) == []
        again = search.fit(X, y)
        np.testing.assert_array_equal(again.cv_results_["mean_test_score"], whole)
        assert not list(tmp_path.glob("*.files/*.p*t"))


def refuse_all(number):
    """Have this process write no checkpoint from now on."""

    def write(descriptor, content):
        if os.path.realpath(f"/proc/self/fd/{descriptor}").endswith(".part"):
            raise OSError(number, os.strerror(number))
        return _write(descriptor, content)

    os.write = write


_write = os.write


def test_what_the_system_refuses_of_a_worker_stops_the_search_and_costs_no_fit(tmp_path):
    path = tmp_path / "run.jsonl"
    search = hyperband(path, n_jobs=2)
    with (
        joblib.parallel_config("loky", initializer=refuse_all, initargs=(errno.EDQUOT,)),
        pytest.raises(StorageError, match=r"quota exceeded.*\.files.*make room") as caught,
    ):
        search.fit(X, y)
    assert caught.value.errno == errno.EDQUOT
    assert errors_in(path) == []
    again = search.set_params(n_jobs=None).fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(again, hyperband().fit(X, y).cv_results_["mean_test_score"])


def test_no_room_for_the_data_on_their_way_to_workers():
    resource = pytest.importorskip("resource")
    many = np.zeros((40_000, 8))
    search = search_of(Scripted(), {"i": [0, 1]}, n_jobs=2).fit(X, y)  # starts the workers
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (many.nbytes // 2, before[1]))
    try:
        with pytest.raises(StorageError, match=r"File too large: '/.*raise the") as caught:
            search.fit(many, np.arange(len(many)) % 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    search.fit(many, np.arange(len(many)) % 2)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [0, 1])


def test_a_disk_that_is_full_for_the_candidate_alone_fails_the_fit(tmp_path):
    class Saves(Scripted):
        def fit(self, X, y):
            if self.i == 1:
                raise StorageError(errno.ENOSPC, "No space left on device", "of the candidate")
            return super().fit(X, y)

    with pytest.warns(FitFailedWarning, match=r"(?s)2 of 4 fits.*of the candidate"):
        search = search_of(Saves(), {"i": [0, 1]}).fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [0, np.nan])


class Exits(torch.nn.Module):
    def __init__(self, in_features, out_features, leave=False):
        super().__init__()
        self.linear, self.leave = torch.nn.Linear(in_features, out_features), leave

    def forward(self, X):
        if self.leave and self.training:
            raise SystemExit(3)
        return self.linear(X)


@everywhere
def test_sys_exit_is_a_failed_fit(backend, n_jobs):
    search = search_of(Scripted(), {"act": ["nothing", "exit"]}, n_jobs=n_jobs)
    with (
        joblib.parallel_config(backend),
        pytest.warns(FitFailedWarning, match=r"(?s)2 of 4 fits.*SystemExit: enough"),
    ):
        search.fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [0, np.nan])


def test_sys_exit_in_lockstep_and_in_a_scorer():
    net = TorchClassifier(Exits, max_epochs=1, random_state=0)
    with pytest.warns(FitFailedWarning, match=r"(?s)2 of 4 fits.*SystemExit"):
        search = search_of(net, {"module__leave": [False, True]}, lockstep=True).fit(X, y)
    assert list(np.isnan(search.cv_results_["mean_test_score"])) == [False, True]

    def scorer(estimator, X, y):
        return 1.0 if estimator.i else exit(3)

    with pytest.warns(UserWarning, match=r"(?s)failed in 2 of 4 fits.*SystemExit: 3"):
        search = search_of(Scripted(), {"i": [0, 1]}, scoring=scorer).fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [np.nan, 1])


@pytest.mark.parametrize(
    ("act", "n_jobs"),
    [("swallow_interrupt", 1), ("convert_interrupt", 1), ("swallow_interrupt", 2)],
)
def test_ctrl_c_that_a_library_swallows_or_converts(tmp_path, act, n_jobs):
    path = tmp_path / "run.jsonl"
    split = [(np.arange(0, 150, 2), np.arange(1, 150, 2))]
    search = search_of(Scripted(), [{"i": [0, 1]}, {"act": [act]}], cv=split, journal=path)
    search.set_params(n_jobs=n_jobs)
    if n_jobs == 1:
        with pytest.warns(SearchStoppedWarning, match="interrupted; .* 2 trials"):
            search.fit(X, y)
        assert search.stop_reason_ == "it was interrupted"
    else:
        try:
            with pytest.warns(SearchStoppedWarning, match="interrupted"):
                search.fit(X, y)
        except KeyboardInterrupt:
            assert not hasattr(search, "cv_results_")
    assert errors_in(path) == []
    assert len(path.read_text().splitlines()) <= 3


def test_an_error_raised_while_another_interrupt_is_handled_is_the_candidates():
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        with pytest.warns(FitFailedWarning, match="as told"):
            search_of(Scripted(), {"act": ["nothing", "fail"]}).fit(X, y)


def test_after_a_second_ctrl_c_there_is_no_unfitted_best_estimator():
    class Pressed(Scripted):
        def fit(self, X, y):
            if self.i == 3 or len(X) == 150:
                raise KeyboardInterrupt
            return super().fit(X, y)

    search = search_of(Scripted(), {"i": [1]}, refit=True).fit(X, y)
    assert search.best_estimator_.i == 1
    search.set_params(estimator=Pressed(), param_distributions={"i": list(range(5))})
    with pytest.warns(SearchStoppedWarning, match="3 trials"), pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert search.best_params_ == {"i": 2}
    assert not hasattr(search, "best_estimator_")
    assert not hasattr(search, "refit_time_")


class Raises:
    def on_fit_end(self, search, trial, result):
        raise ValueError("as told")


@pytest.mark.parametrize(
    ("backend", "where"), [("loky", "fit"), ("threading", "fit"), ("threading", "callback")]
)
def test_an_error_is_raised_without_waiting_for_what_runs(tmp_path, backend, where):
    data = str(tmp_path / "file")
    first = "fail" if where == "fit" else "nothing"
    space = [{"act": [first]}, {"act": ["wait"], "data": [data]}]
    split = [(np.arange(0, 150, 2), np.arange(1, 150, 2))]
    search = search_of(Scripted(), space, cv=split, n_jobs=2)
    search.set_params(**{"error_score": "raise"} if where == "fit" else {"callbacks": [Raises()]})
    with joblib.parallel_config(backend), pytest.raises(ValueError, match="as told"):
        search.fit(X, y)
    ended = Path(f"{data}.ended")
    assert not ended.exists()
    Path(f"{data}.go").touch()  # for a thread, which only ends once it runs Python code


def process_state():
    """Return what a search may change for a while, and what must be as before after it."""
    threads = []
    thread = threading.Thread(target=lambda: threads.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return {
        "threads": [torch.get_num_threads(), *threads],
        "numpy": str(np.random.get_state()),  # noqa: NPY002
        "python": random.getstate(),
        "torch": torch.get_rng_state().tolist(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "variables": dict(os.environ),
        "folder": os.getcwd(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)],
        "floating point": np.geterr(),
    }


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_state_of_the_process_is_as_it_was(two_threads):
    def fit(search):
        with joblib.parallel_config("threading"):  # each thread has a configuration of its own
            search.fit(X, y)

    searches = [
        hyperband(n_jobs=2, lockstep=True),
        BayesSearchCV(MLPClassifier(max_iter=1), {"alpha": loguniform(0.1, 1.0)}, n_iter=3),
    ]
    searches[-1].set_params(n_initial_points=2, cv=2)
    for search in searches:
        search.set_params(error_score="raise", refit=True, random_state=0)
        with ignoring(ConvergenceWarning):
            fit(clone(search))  # what is imported for the first time adds filters of its own
        before, filters = process_state(), list(warnings.filters)
        with ignoring(ConvergenceWarning):
            if search is searches[0]:
                fit(search)
            threads = [threading.Thread(target=fit, args=(clone(search),)) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert process_state() == before
        # `catch_warnings` of scikit-learn's, in two threads at once, may leave further filters, and
        # put back a list with filters of this package, which then do nothing.
        assert set(filters) <= set(warnings.filters)
        with pytest.raises(ConvergenceWarning, match="shown"):
            warnings.warn("shown", ConvergenceWarning, stacklevel=1)


def test_a_list_of_filters_that_another_thread_puts_back_ignores_nothing():
    context = ignoring(UserWarning, re.compile("of one"))
    before = warnings.filters
    with context:
        with pytest.raises(UserWarning, match="of another"):
            warnings.warn("of another", UserWarning, stacklevel=1)
        warnings.warn("of one", UserWarning, stacklevel=1)
        inside, sent = warnings.catch_warnings(), pickle.dumps(warnings.filters[0])
        inside.__enter__()
    inside.__exit__(None, None, None)
    try:
        with pytest.raises(UserWarning, match="of one"):
            warnings.warn("of one", UserWarning, stacklevel=1)
        assert pickle.loads(pickle.dumps(warnings.filters[0]))[1].match("of one") is None
    finally:
        warnings.filters[:] = [entry for entry in before if entry is not warnings.filters[0]]
    assert pickle.loads(sent)[1].match("of one and more")


class Watched(torch.nn.Module):
    """A module of somebody's own; who looks into its forward pass lets another thread predict."""

    meanwhile = None

    def __init__(self, in_features, out_features, width=4):
        super().__init__()
        self.a = torch.nn.Linear(in_features, width)
        self.b = torch.nn.Linear(width, out_features)
        self.scale = torch.nn.Parameter(torch.ones(width))

    def forward(self, X):
        if isinstance(X, torch.fx.Proxy):
            thread = threading.Thread(target=self.meanwhile)
            thread.start()
            thread.join()
        return self.b(torch.relu(self.a(X)) * self.scale)


def test_other_networks_predict_while_one_is_looked_into(monkeypatch):
    net = TorchClassifier(max_epochs=1, random_state=0).fit(X, y)
    expected, seen = net.predict_proba(X), []
    monkeypatch.setattr(Watched, "meanwhile", lambda self: seen.append(net.predict_proba(X)))
    search = hyperband(lockstep=True).set_params(estimator=TorchClassifier(Watched))
    scores = search.fit(X, y).cv_results_["mean_test_score"]
    assert not np.isnan(scores).any()
    n_seen = len(seen)
    tuning = SelfTuningClassifier(Watched, max_epochs=2, warmup_epochs=1, random_state=0)
    tuning.set_params(hyperparameters={"weight_decay": loguniform(1e-5, 1e-2)})
    with pytest.warns(UserWarning, match="do not respond"):
        tuning.fit(X, y)
    assert 0 < n_seen < len(seen)
    assert all(np.array_equal(probabilities, expected) for probabilities in seen)


def test_libraries_copy_the_filters():
    with ignoring(UserWarning, re.compile("of one")), ignoring(ConvergenceWarning):
        found = Parallel()(delayed(warnings.warn)("of one") for _ in range(2))
    assert found == [None, None]
