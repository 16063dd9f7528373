"""An asynchronous search: nobody waits, nothing is done twice, and its journal replays it."""

import json
import shutil
import threading
from collections import Counter

import joblib
import numpy as np
import pandas as pd
import pytest
from clocks import clock_ahead_after
from journals import sealed
from scipy.stats import loguniform, uniform
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import HalvingHyperbandSearchCV, TorchClassifier
from skhpo.exceptions import JournalError
from skhpo.schedulers import hyperband_plan

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)
ONE_SPLIT = [(np.arange(0, 150, 2), np.arange(1, 150, 2))]
EPOCHS = []


class Counting(ClassifierMixin, BaseEstimator):
    """Counts the epochs that it is trained, and scores by them."""

    def __init__(self, quality=0.0, max_epochs=10):
        self.quality = quality
        self.max_epochs = max_epochs

    def fit(self, X, y):
        self.epochs_ = 0
        return self.partial_fit(X, y)

    def partial_fit(self, X, y):
        EPOCHS.append(self.max_epochs)
        self.classes_ = np.unique(y)
        self.epochs_ += self.max_epochs
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        if self.quality < 0.1:
            raise RuntimeError("too bad to be scored")
        return self.quality * self.epochs_


@pytest.fixture(autouse=True)
def _no_epochs_yet():
    EPOCHS.clear()


def counting_search(estimator=None, space=None, **kwargs):
    kwargs = {"max_resources": 27, "cv": 2, "random_state": 0, "asynchronous": True} | kwargs
    estimator = Counting() if estimator is None else estimator
    space = {"quality": uniform(0.1, 0.9)} if space is None else space
    return HalvingHyperbandSearchCV(estimator, space, **kwargs)


def frame(search):
    return pd.DataFrame(search.cv_results_)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def epochs_of_plan(n_splits, max_resources=27):
    return n_splits * sum(
        size * (level - before)
        for rungs in hyperband_plan(1, max_resources)
        for (size, level), before in zip(rungs, [0, *(r for _, r in rungs)], strict=False)
    )


def assert_follows_plan(search, max_resources=27):
    rows = frame(search)
    sizes = rows.groupby(["bracket", "iter", "n_resources"]).size()
    assert sizes.to_dict() == {
        (b, i, level): size
        for b, rungs in enumerate(hyperband_plan(1, max_resources))
        for i, (size, level) in enumerate(rungs)
    }
    assert not rows[["candidate", "n_resources"]].duplicated().any()


# --- what is done


@pytest.mark.parametrize("n_jobs", [1, 2, 5])
def test_every_rung_is_filled_and_every_fit_continued(n_jobs):
    with joblib.parallel_config("threading"):
        search = counting_search(n_jobs=n_jobs, refit=False).fit(X, y)
    assert_follows_plan(search)
    assert sum(EPOCHS) == epochs_of_plan(n_splits=2)
    rows = frame(search)
    quality = rows["param_quality"].astype(float)
    np.testing.assert_allclose(rows["mean_test_score"], quality * rows["n_resources"])
    assert rows.groupby("candidate")["param_quality"].nunique().max() == 1
    assert search.best_params_["max_epochs"] == 27


def test_with_worker_processes():
    search = counting_search(n_jobs=2, max_resources=9).fit(X, y)
    assert_follows_plan(search, 9)
    quality = frame(search)["param_quality"].astype(float)
    np.testing.assert_allclose(
        frame(search)["mean_test_score"], quality * frame(search)["n_resources"]
    )


def test_failures_are_never_promoted():
    search = counting_search(space={"quality": uniform(0, 0.2)})
    with pytest.warns(UserWarning, match="too bad to be scored"):
        search.fit(X, y)
    rows = frame(search)
    failed = rows["param_quality"].astype(float) < 0.1
    assert failed.any()
    assert (rows["n_resources"] == 27).any()
    first = rows.groupby("candidate")["n_resources"].transform("size") == 1
    assert first[failed].all()


def test_one_worker_gives_the_same_results_every_time():
    first, second = (counting_search().fit(X, y) for _ in range(2))
    columns = ["candidate", "n_resources", "bracket", "mean_test_score"]
    pd.testing.assert_frame_equal(frame(first)[columns], frame(second)[columns])


# --- nobody waits


class Waiting(Counting):
    """The first fit ends when a fit is continued, which a complete rung would not allow."""

    started = threading.Lock()
    promoted = threading.Event()
    in_time = []

    def partial_fit(self, X, y):
        super().partial_fit(X, y)
        if self.epochs_ > self.max_epochs:
            self.promoted.set()
        elif self.started.acquire(blocking=False):
            self.in_time.append(self.promoted.wait(timeout=60))
        return self


def test_a_slow_fit_keeps_nobody_from_going_on():
    search = counting_search(
        Waiting(), max_resources=9, n_brackets=1, n_jobs=2, cv=ONE_SPLIT, refit=False
    )
    with joblib.parallel_config("threading"):
        search.fit(X, y)
    assert Waiting.in_time == [True]


class Together(Counting):
    """Every fit waits for another one that runs at the same time."""

    both = threading.Barrier(2)

    def partial_fit(self, X, y):
        self.both.wait(timeout=60)
        return super().partial_fit(X, y)


def test_a_slot_that_frees_is_filled_before_anything_else_ends():
    n_fits = sum(size for size, _ in hyperband_plan(1, 3)[0][:1]) + 3
    search = counting_search(
        Together(), max_resources=3, n_brackets=2, n_jobs=2, cv=ONE_SPLIT, refit=False
    )
    with joblib.parallel_config("threading"):
        search.fit(X, y)
    assert len(EPOCHS) == n_fits
    assert not Together.both.broken


class Sees:
    """Notes how far the journal is when transformers are fitted."""

    def __init__(self, path):
        self.path = path

    def on_fit_end(self, search, trial, result):
        if not hasattr(self, "asked"):
            self.asked = sum(event.get("event") == "ask" for event in lines(self.path))


def test_no_more_is_asked_than_there_is_room_for(tmp_path):
    """Fits that wait for their transformers count as well."""
    watch = Sees(tmp_path / "a")
    search = counting_search(
        make_pipeline(StandardScaler(), Counting()),
        {"counting__quality": uniform(0.1, 0.9)},
        resource="counting__max_epochs",
        n_jobs=4,
        journal=watch.path,
        callbacks=[watch],
    )
    with joblib.parallel_config("threading"):
        search.fit(X, y)
    assert watch.asked == 2


# --- the journal


class StopAfter:
    """Presses Ctrl-C after so many fits."""

    def __init__(self, n_fits):
        self.left = n_fits

    def on_fit_end(self, search, trial, result):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def assert_same_results(a, b):
    columns = [name for name in a.cv_results_ if not name.endswith("_time")]
    pd.testing.assert_frame_equal(frame(a)[columns], frame(b)[columns])


SEARCHES = {
    "torch": (
        TorchClassifier(module__n_units=8, module__dropout=0.2, max_epochs=1, batch_size=64),
        {"lr": loguniform(1e-3, 1e-1)},
        "max_epochs",
    ),
    "sgd in a pipeline": (
        make_pipeline(StandardScaler(), SGDClassifier()),
        {"sgdclassifier__alpha": loguniform(1e-5, 1e-1)},
        "sgdclassifier__max_iter",
    ),
    "forest": (RandomForestClassifier(), {"max_samples": uniform(0.1, 0.9)}, "n_estimators"),
}


def search_of(name, **kwargs):
    estimator, space, resource = SEARCHES[name]
    return counting_search(
        clone(estimator), space, resource=resource, **{"max_resources": 9, **kwargs}
    )


@pytest.mark.parametrize("name", SEARCHES)
def test_interrupted_with_one_worker_and_resumed_equals_uninterrupted(name, tmp_path):
    path = tmp_path / "run.jsonl"
    whole = search_of(name).fit(X, y)
    for stop in (3, 16, 8):
        with pytest.warns(UserWarning, match="cut short because it was interrupted"):
            search_of(name, journal=path, callbacks=[StopAfter(stop)]).fit(X, y)
    resumed = search_of(name, journal=path).fit(X, y)
    assert_same_results(resumed, whole)
    assert resumed.best_params_ == whole.best_params_
    fits = [(e["trial"], e["split"]) for e in lines(path)[1:] if e["event"] == "fit"]
    assert len(fits) == len(set(fits)) == 2 * len(whole.cv_results_["params"])
    again = search_of(name, journal=path).fit(X, y)
    assert_same_results(again, whole)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished search of four threads, and its journal."""
    path = tmp_path_factory.mktemp("finished") / "run.jsonl"
    with joblib.parallel_config("threading"):
        search = counting_search(max_resources=9, n_jobs=4, journal=path).fit(X, y)
    return search, path


def prefix_of(journal, n_lines, path):
    content = journal.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(content[:n_lines]))
    shutil.copytree(f"{journal}.files", f"{path}.files")
    return [json.loads(line) for line in content[:n_lines]]


@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize("part", [0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1])
def test_any_beginning_of_a_journal_is_replayed(part, n_jobs, finished, tmp_path):
    whole, journal = finished
    path = tmp_path / "run.jsonl"
    before = prefix_of(journal, max(1, round(part * len(lines(journal)))), path)
    with joblib.parallel_config("threading"):
        search = counting_search(max_resources=9, n_jobs=n_jobs, journal=path, refit=False)
        search.fit(X, y)
    assert_follows_plan(search, 9)
    after = lines(path)
    assert after[: len(before)] == before
    counts = Counter((e["event"], e.get("trial"), e.get("split")) for e in after[1:])
    n_trials = len(whole.cv_results_["params"])
    assert counts.pop(("ask", None, None)) == n_trials
    assert set(counts.values()) == {1}
    assert len(counts) == 3 * n_trials  # two fits and a tell each
    n_new = sum(e["event"] == "fit" for e in after[len(before) :])
    assert len(EPOCHS) >= n_new
    old, new = frame(whole), frame(search)
    columns = [name for name in old if not name.endswith("_time") and "rank" not in name]
    known = sorted({e["trial"] for e in before[1:] if e["event"] == "tell"})
    pd.testing.assert_frame_equal(old.loc[known, columns], new.loc[known, columns])
    if part == 1:
        pd.testing.assert_frame_equal(old, new)
        assert not EPOCHS


def test_a_torn_last_line_is_done_again(finished, tmp_path):
    _, journal = finished
    path = tmp_path / "run.jsonl"
    content = journal.read_bytes()
    prefix_of(journal, 1, path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match="torn"):
        search = counting_search(max_resources=9, journal=path).fit(X, y)
    assert_follows_plan(search, 9)


def test_out_of_time_and_resumed(tmp_path):
    path = tmp_path / "run.jsonl"
    kwargs = {"max_resources": 9, "cv": ONE_SPLIT, "journal": path}
    with (
        clock_ahead_after(1) as clock,
        pytest.warns(UserWarning, match="cut short because max_time was over"),
    ):
        short = counting_search(max_time=1000, callbacks=[clock], **kwargs).fit(X, y)
    assert len(short.cv_results_["params"]) == 1
    assert [event["event"] for event in lines(path)[1:]] == ["ask", "fit", "tell"]
    resumed = counting_search(**kwargs).fit(X, y)
    assert_same_results(resumed, counting_search(**{**kwargs, "journal": None}).fit(X, y))


def test_a_journal_of_a_synchronous_search_is_refused(tmp_path):
    path = tmp_path / "run.jsonl"
    counting_search(max_resources=3, asynchronous=False, journal=path).fit(X, y)
    with pytest.raises(JournalError, match=r"settings\.asynchronous"):
        counting_search(max_resources=3, journal=path).fit(X, y)


def test_a_journal_that_asks_for_other_trials_is_refused(finished, tmp_path):
    _, journal = finished
    path = tmp_path / "run.jsonl"
    events = prefix_of(journal, 20, path)
    asks = [i for i, event in enumerate(events) if event.get("event") == "ask"]
    events[asks[-1]]["trials"] = [99]
    path.write_bytes(sealed(events))
    with pytest.raises(JournalError, match=r"asked for trials .* where the journal has \[99\]"):
        counting_search(max_resources=9, journal=path).fit(X, y)
