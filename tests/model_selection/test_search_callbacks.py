"""Those who watch a search, and what an earlier search knew."""

import numpy as np
import pytest
from scipy.stats import uniform
from scripted import Scripted
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_iris

from skhpo import SearchCV
from skhpo.callbacks import TensorBoardLogger
from skhpo.exceptions import JournalError
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

X, y = load_iris(return_X_y=True)


class Listening(RandomSampler):
    heard = []

    def observe(self, params, score, resource, *, noise=None, seconds=None):
        self.heard.append((params, score, resource))


def five(space, random_state):
    return FullScheduler(Listening(space, random_state), n_candidates=5)


def search_of(space, **kwargs):
    return SearchCV(Scripted(), space, scheduler=five, cv=2, random_state=0, **kwargs)


@pytest.fixture(autouse=True)
def _nothing_heard():
    Listening.heard.clear()


def test_search_callbacks_are_told_of_fits_trials_and_the_end():
    class Everything:
        def __init__(self):
            self.told = []

        def on_fit_end(self, search, trial, result):
            self.told.append(("fit", trial.number, result.split))

        def on_trial_end(self, search, trial, results, score):
            assert [result.split for result in results] == [0, 1]
            assert score == trial.params["i"]
            self.told.append(("trial", trial.number))

        def on_search_end(self, search):
            self.told.append(("end", search.best_estimator_.i == search.best_params_["i"]))

    class OnlyTheEnd:
        def on_search_end(self, search):
            self.n = len(search.cv_results_["params"])

    everything, only = Everything(), OnlyTheEnd()
    search_of({"i": uniform(0, 1)}, callbacks=[everything, only]).fit(X, y)
    fits = [(kind, *rest) for kind, *rest in everything.told if kind == "fit"]
    assert sorted(fits) == [("fit", trial, split) for trial in range(5) for split in (0, 1)]
    assert everything.told[-6:] == [*(("trial", i) for i in range(5)), ("end", True)]
    assert only.n == 5


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_callback_that_returns_true_stops_the_search(asynchronous, tmp_path):
    class Enough:
        told = 0

        def on_trial_end(self, search, trial, results, score):
            self.told += 1
            return self.told == 3

        def on_search_end(self, search):
            self.best = search.best_params_

    class Counting:
        told = 0

        def on_trial_end(self, search, trial, results, score):
            self.told += 1
            return 1  # which is not True

    def one_by_one(space, random_state):
        sampler = RandomSampler(space, random_state)
        return FullScheduler(sampler, 20, 1, asynchronous=asynchronous)

    enough, counting = Enough(), Counting()
    search = SearchCV(
        Scripted(),
        {"i": uniform(0, 1)},
        scheduler=one_by_one,
        cv=2,
        random_state=0,
        asynchronous=asynchronous,
        callbacks=[enough, counting],
        journal=tmp_path / "run.jsonl",
    )
    search.fit(X, y)  # without a warning: it was asked for
    assert 3 <= len(search.cv_results_["params"]) < 6
    assert search.stop_reason_ == "a callback stopped it"
    assert enough.best == search.best_params_
    assert counting.told == enough.told
    # The journal goes on where it stopped.
    search.set_params(callbacks=[]).fit(X, y)
    assert len(search.cv_results_["params"]) == 20
    assert search.stop_reason_ is None


def test_search_callbacks_are_told_of_the_beginning(tmp_path):
    class Beginning:
        def __init__(self):
            self.told = []

        def on_search_begin(self, search, start):
            assert not hasattr(search, "cv_results_")
            self.told.append(start)

        def on_fit_end(self, search, trial, result):
            self.told.append("fit")

    def start_of(space, **kwargs):
        callback = Beginning()
        search_of(space, callbacks=[callback], **kwargs).fit(X, y)
        start, *others = callback.told
        assert others == ["fit"] * 10
        return start

    space, other = {"i": uniform(0, 1)}, {"i": uniform(0, 2)}
    first = start_of(space, journal=tmp_path / "a")
    assert first.space.names == ["i"]
    assert first.metrics == ("score",)
    assert not first.known
    again = start_of(space, journal=tmp_path / "a", n_jobs=1)
    assert sorted(again.known) == [(trial, split, 0) for trial in range(5) for split in (0, 1)]
    assert again.identity == first.identity
    assert start_of(other).identity != first.identity
    assert start_of(space, scoring=["accuracy", "f1_macro"], refit=False).metrics == (
        "accuracy",
        "f1_macro",
    )
    unknown = start_of(space, scoring=lambda estimator, X, y: {"a": 1.0}, refit="a")
    assert unknown.metrics is None


def test_a_sampler_starts_from_what_an_earlier_search_knew(tmp_path):
    space = {"i": uniform(0, 1), "act": ["nothing"], "data": [(1, 2), len]}
    first = search_of(space, journal=tmp_path / "a").fit(X, y)
    Listening.heard.clear()
    search_of(space, warm_start_from=tmp_path / "a").fit(X, y)
    earlier = Listening.heard[:5]
    assert [params for params, _, _ in earlier] == first.cv_results_["params"]
    np.testing.assert_array_equal(
        [score for _, score, _ in earlier], first.cv_results_["mean_test_score"]
    )
    assert len(Listening.heard) == 10


def test_a_journal_of_another_space_is_refused(tmp_path):
    search_of({"i": [1, 2, 3]}, journal=tmp_path / "a").fit(X, y)
    with pytest.raises(JournalError, match="same space"):
        search_of({"i": [1, 2]}, warm_start_from=tmp_path / "a").fit(X, y)
    with pytest.raises(JournalError, match="cannot read"):
        search_of({"i": [1, 2]}, warm_start_from=tmp_path / "missing").fit(X, y)
    header = (tmp_path / "a").read_bytes().split(b"\n")[0]
    (tmp_path / "a").write_bytes(header + b"\n")
    with pytest.raises(JournalError, match="must be the journal of a search that has finished tri"):
        search_of({"i": [1, 2, 3]}, warm_start_from=tmp_path / "a").fit(X, y)


@pytest.mark.parametrize(
    ("callback", "fix"),
    [
        (5, "leave it out"),
        ("print", "leave it out"),
        (TensorBoardLogger, r"call it: TensorBoardLogger\(\)"),
        (ScoringMonitor(scoring="accuracy"), "set by set_callbacks"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_callback_is_refused_before_training(callback, fix, tmp_path):
    log = tmp_path / "log"
    search = search_of({"log": [str(log)]}, callbacks=[callback])
    with pytest.raises(TypeError, match=f"must have a method on_search_begin, .*; .*{fix}"):
        search.fit(X, y)
    assert not log.exists()
