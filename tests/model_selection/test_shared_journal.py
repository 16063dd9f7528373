"""Processes that share a journal work on one search: nothing is lost, nothing is done twice."""

import errno
import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
from scipy.stats import randint, uniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from skhpo import (
    BayesSearchCV,
    HalvingHyperbandSearchCV,
    SearchCV,
    SearchSpace,
    files,
    fingerprint,
)
from skhpo.__main__ import main
from skhpo.evaluation import Setting, SharedEvaluator
from skhpo.exceptions import JournalError, StorageError
from skhpo.journal import Journal, Recorded, SharedJournal, _locks, _workers, fit_event
from skhpo.model_selection._resume import replayed
from skhpo.model_selection._shared import SharedSampler
from skhpo.samplers import BayesSampler, RandomSampler
from skhpo.schedulers import FullScheduler
from skhpo.trial import FitResult, Trial

X, y = np.zeros((12, 1)), np.tile([0, 1], 6)
HANGS = "SKHPO_TEST_HANGS"  # the file to make then

pytestmark = pytest.mark.skipif(not files.HAS_LOCKS, reason="it needs locks of whole files")


class Fit(ClassifierMixin, BaseEstimator):
    """Scores its parameter. In a process whose environment says so the longest fits hang."""

    def __init__(self, quality=0.0, max_epochs=1):
        self.quality = quality
        self.max_epochs = max_epochs

    def fit(self, X, y):
        self.classes_ = np.array([0, 1])
        time.sleep(0.005)
        if self.max_epochs == 3 and HANGS in os.environ:
            Path(os.environ[HANGS]).touch()
            time.sleep(60)
        return self

    def partial_fit(self, X, y):
        return self.fit(X, y)

    def predict(self, X):
        return np.zeros(len(X), dtype=int)

    def score(self, X, y):
        return self.quality * self.max_epochs


def at_random(space, random_state):
    return FullScheduler(RandomSampler(space, random_state), 6)


def search_of(journal=None, **how):
    how = {
        "cv": 2,
        "refit": False,
        "random_state": 0,
        "max_resources": 3,
        "journal": journal,
        **how,
    }
    return HalvingHyperbandSearchCV(Fit(), {"quality": uniform(0, 1)}, **how)


def table(search):
    results = search.cv_results_
    return {name: list(results[name]) for name in results if not name.endswith("_time")}


def events(path, kind="fit"):
    lines = Path(path).read_bytes().split(b"\n")[1:-1]
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def fits(path):
    return [(event["trial"], event["split"], event["repeat"]) for event in events(path)]


def work(journal, out, environment, how):
    os.environ.update(environment)
    search = search_of(journal, shared=True, **how).fit(X, y)
    Path(out).write_bytes(pickle.dumps(table(search)))
    os._exit(0)


def start(journal, out, environment=(), **how):
    if not hasattr(os, "fork"):
        pytest.skip("forks")
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=work, args=(journal, out, environment, how))
    process.start()
    return process


def wait_for(path):
    for _ in range(2000):
        if path.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} does not come")


@pytest.mark.parametrize(
    "how",
    [{}, {"asynchronous": True}, {"sampler": "bayes"}],
    ids=["in batches", "asynchronous", "with a sampler that learns"],
)
def test_processes_of_which_one_is_killed_do_each_fit_once(tmp_path, how):
    journal = tmp_path / "j"

    hangs = tmp_path / "hangs"
    first = start(journal, tmp_path / "first", {HANGS: str(hangs)}, **how)
    wait_for(hangs)
    others = [start(journal, tmp_path / f"{i}", **how) for i in range(2)]
    while len(set(workers_of(journal))) < 2:  # another one works beside the one that hangs
        time.sleep(0.01)
    before = fits(journal)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    for process in others:
        process.join()
    assert [process.exitcode for process in others] == [0, 0]
    after = fits(journal)
    alone = table(search_of(**how).fit(X, y))
    assert len(after) == len(set(after)) == 2 * len(alone["params"])
    assert set(before) <= set(after)
    tables = [pickle.loads((tmp_path / f"{i}").read_bytes()) for i in range(2)]
    assert tables[0] == tables[1]
    if "asynchronous" not in how:
        assert tables[0] == alone
    leased = [tuple(fit) for event in events(journal, "lease") for fit in event["fits"]]
    assert sorted(set(leased)) == sorted(after)
    assert len(leased) > len(set(leased))  # what the dead one was at was taken by another one
    assert sorted(path.name for path in tmp_path.glob("j*")) == ["j", "j.files"]


def workers_of(journal):
    return [event["worker"] for event in events(journal, "lease")]


def in_threads(*searches):
    """Fit searches at the same time; each has a journal of its own to the file."""
    errors = []

    def fit(search):
        try:
            with joblib.parallel_config("threading"):
                search.fit(X, y)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=fit, args=(search,)) for search in searches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_what_is_kept_is_kept_for_all(tmp_path):
    how = {"return_predictions": "predict", "shared": True}
    both = [search_of(tmp_path / "j", n_jobs=n_jobs, **how) for n_jobs in (1, 2)]
    in_threads(*both)
    assert len(set(workers_of(tmp_path / "j"))) == 2
    alone = search_of(**(how | {"shared": False})).fit(X, y)
    for search in both:
        assert table(search) == table(alone)
        assert search.predictions_.rows == alone.predictions_.rows
        best = search.best_index_
        np.testing.assert_array_equal(
            search.predictions_.out_of_fold(best), alone.predictions_.out_of_fold(best)
        )
        assert table(pickle.loads(pickle.dumps(search))) == table(alone)


def test_predictions_that_are_lost_are_made_again_by_who_misses_them(tmp_path):
    search_of(tmp_path / "j", shared=True, return_predictions="predict").fit(X, y)
    for path in (tmp_path / "j.files").glob("predictions-*.bin"):
        path.unlink()
    with pytest.warns(UserWarning, match="trained again"):
        search = search_of(tmp_path / "j", shared=True, return_predictions="predict").fit(X, y)
    assert np.isfinite(search.predictions_.out_of_fold(search.best_index_)).all()


def test_a_shared_journal_goes_on_with_one_process_and_the_other_way_round(tmp_path):
    with pytest.warns(UserWarning, match="max_cost"):
        search_of(tmp_path / "j", max_cost={"epochs": 12}).fit(X, y)
    alone = table(search_of().fit(X, y))
    n_before = len(fits(tmp_path / "j"))
    assert table(search_of(tmp_path / "j", shared=True).fit(X, y)) == alone
    assert 0 < n_before < len(fits(tmp_path / "j"))
    assert table(search_of(tmp_path / "j").fit(X, y)) == alone


def test_callbacks_do_not_keep_others_from_the_journal(tmp_path):
    class Looks:
        n_free = 0

        def on_fit_end(self, search, trial, result):
            with open(tmp_path / "j", "rb") as other:
                self.n_free += files.lock(other.fileno(), tmp_path / "j")

    looks = Looks()
    search_of(tmp_path / "j", shared=True, callbacks=[looks]).fit(X, y)
    assert looks.n_free == len(fits(tmp_path / "j"))


def test_a_process_that_joins_late_keeps_nobody_waiting_while_it_replays(tmp_path):
    def many(space, random_state):
        return FullScheduler(RandomSampler(space, random_state), 20)

    class Looks:
        n_free = 0

        def on_fit_end(self, search, trial, result):
            with open(tmp_path / "j", "rb") as other:
                self.n_free += files.lock(other.fileno(), tmp_path / "j")

    how = {"cv": 2, "random_state": 0, "refit": False, "journal": tmp_path / "j", "shared": True}
    how |= {"scheduler": many, "asynchronous": True}
    space = {"quality": uniform(0, 1)}
    first = SearchCV(Fit(), space, **how).fit(X, y)
    looks = Looks()
    late = SearchCV(Fit(), space, callbacks=[looks], **how).fit(X, y)
    assert table(late) == table(first)
    assert looks.n_free == len(fits(tmp_path / "j")) == 40


def counted(monkeypatch):
    """Return a list of the samplers whose models chose a configuration, one entry for each."""
    choose, chose = BayesSampler._promising, []

    def counting(sampler):
        chose.append(sampler)
        return choose(sampler)

    monkeypatch.setattr(BayesSampler, "_promising", counting)
    return chose


def test_what_one_process_proposes_no_other_one_computes(tmp_path, monkeypatch):
    def search(**how):
        how = {"cv": 2, "refit": False, "random_state": 0, "n_initial_points": 4, **how}
        return BayesSearchCV(Fit(), {"quality": uniform(0, 1)}, n_iter=13, n_points=3, **how)

    chose = counted(monkeypatch)
    alone = search().fit(X, y)
    n_chosen = len(chose)
    assert n_chosen >= 8
    monkeypatch.setattr(sys.modules["skhpo.model_selection._shared"], "_PATIENCE", 60.0)
    both = [search(journal=tmp_path / "j", shared=True, n_jobs=n) for n in (1, 2)]
    in_threads(*both)
    assert len(set(workers_of(tmp_path / "j"))) == 2
    assert len(chose) == 2 * n_chosen
    assert len(set(chose)) == 2  # that of the search alone, and one of both
    for shared in both:
        assert table(shared) == table(alone)
        assert shared.stop_reason_ is None
        scores = [one.predict_score({"quality": 0.5})[0] for one in (shared, alone)]
        assert scores[0] == pytest.approx(scores[1], abs=0.05)


@pytest.fixture
def proposing(tmp_path, monkeypatch):
    """Return a function that makes one more sampler for the same journal."""
    monkeypatch.setattr(_workers, "_FRESH", 0.0)
    journals = []

    def make():
        recorded = Recorded()
        journal = SharedJournal(tmp_path / "p", recorded.take)
        journals.append(journal)
        if journal.header is None:
            journal.start(HEADER)
        own = replayed(recorded, SPACE, BayesSampler(SPACE, 0, n_initial_points=3))
        return SharedSampler(own, journal, recorded, SPACE), journal

    yield make
    for journal in journals:
        journal.close()


SPACE = SearchSpace({"x": uniform(0, 1), "n": randint(1, 9), "c": [1, 1.0, True, None, "1", len]})


def in_rounds(sampler, n):
    """Yield the configurations of rounds of three, whose scores the sampler hears."""
    for _ in range(n):
        proposed = sampler.sample(3)
        yield proposed
        for params in proposed:
            sampler.observe(params, -((params["x"] - 0.3) ** 2), None, noise=None, seconds=None)


@pytest.mark.parametrize("left_by", ["its end", "a fit that it does", "nothing for too long"])
def test_another_process_goes_on_with_proposals_as_one_would(left_by, proposing, monkeypatch):
    expected = list(in_rounds(BayesSampler(SPACE, 0, n_initial_points=3), 6))
    (first, journal), (second, _) = proposing(), proposing()
    ours, theirs = in_rounds(first, 6), in_rounds(second, 6)
    chose = counted(monkeypatch)
    for number in range(4):
        for rounds in (ours, theirs):
            assert repr(next(rounds)) == repr(expected[number])
    assert len(set(chose)) == 1
    if left_by == "its end":
        journal.close()
    elif left_by == "a fit that it does":
        journal.lease([(0, 0, 0)])
    else:
        monkeypatch.setattr(sys.modules["skhpo.model_selection._shared"], "_PATIENCE", 0.01)
    assert [repr(proposed) for proposed in theirs] == list(map(repr, expected[4:]))


def test_each_process_refits_for_itself(tmp_path):
    space = {"C": [0.1, 1.0, 10.0]}
    rows = np.random.default_rng(0).normal(size=(12, 2))

    def search():
        return SearchCV(
            LogisticRegression(),
            space,
            scheduler=at_random,
            cv=2,
            random_state=0,
            journal=tmp_path / "j",
            shared=True,
        )

    first, second = search().fit(rows, y), search().fit(rows, y)
    np.testing.assert_array_equal(first.best_estimator_.coef_, second.best_estimator_.coef_)


def fit_of(trial):
    return fit_event(Trial(trial, trial, {}), FitResult(trial, 0, test_scores={"score": 0.5}))


HEADER = {
    "search": "SearchCV",
    "seed": 1,
    "resource": None,
    "n_repeats": 1,
    "n_splits": 2,
    "return_train_score": False,
    "asynchronous": False,
    "fingerprint": {},
}


def evaluator_of(path):
    """Return an evaluator of the shared journal, which keeps states in memory."""
    recorded = Recorded()
    journal = SharedJournal(path, recorded.take)
    if journal.header is None:
        journal.start(HEADER)
    setting = Setting(Fit(), lambda estimator, X, y: 0.5, seed=0, resource="max_epochs")
    rows = [(np.arange(6), np.arange(6, 12))]
    return SharedEvaluator(setting, X, y, rows, known=recorded.results, journal=journal), journal


def test_of_a_rung_a_process_first_continues_what_it_trained(tmp_path):
    made = [evaluator_of(tmp_path / "j") for _ in range(2)]
    rungs = [
        [Trial(i, i, {"quality": 0.1 * i}, resource=1) for i in range(4)],
        [Trial(i + 4, i, {"quality": 0.1 * i}, resource=3, parent=i) for i in range(4)],
    ]
    did = [[], []]
    for rung in rungs:
        for evaluator, _ in made:
            evaluator.__enter__()
            evaluator.submit(rung)
        for turn in (0, 0, 1, 1) if rung is rungs[0] else (1, 0, 1, 0):
            evaluator, journal = made[turn]
            own = [r for r in evaluator.next() if r.name not in evaluator.known]
            while not own:
                own = [r for r in evaluator.next() if r.name not in evaluator.known]
            (result,) = own
            did[turn].append(result.trial)
            journal.append(fit_event(rung[result.trial % 4], result))
    for evaluator, journal in made:
        evaluator.__exit__(None, None, None)
        journal.close()
    assert did == [[0, 1, 4, 5], [2, 3, 6, 7]]


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens the same journal once more, shared."""
    journals = []

    def open_it(settings=None, take=lambda event: None):
        journal = SharedJournal(tmp_path / "j", take, settings)
        journals.append(journal)
        if journal.header is None:
            journal.start(HEADER)
        return journal

    yield open_it
    for journal in journals:
        journal.close()


def test_a_lease_lasts_as_long_as_its_process(opened, monkeypatch):
    monkeypatch.setattr(_workers, "_FRESH", 0.0)
    first, second = opened(), opened()
    first.lease([(0, 0, 0), (0, 1, 0)])
    with second.turn():
        assert second.is_leased((0, 1, 0))
        assert not second.is_leased((1, 0, 0))
    first.close()
    with second.turn():
        assert not second.is_leased((0, 1, 0))


def test_the_command_says_who_works_on_what(tmp_path, capsys):
    search_of(tmp_path / "j").fit(X, y)
    with SharedJournal(tmp_path / "j", lambda event: None) as journal:
        journal.lease([(99, 0, 0), (99, 1, 0)])
        main(["show", str(tmp_path / "j")])
        assert f"{journal.workers.name} works on trial 99 on split 0, 1" in capsys.readouterr().out
    main(["show", str(tmp_path / "j")])
    assert "works on" not in capsys.readouterr().out


def test_a_process_without_a_sign_of_life_is_dead_though_its_file_is_locked(opened, monkeypatch):
    monkeypatch.setattr(_workers, "_FRESH", 0.0)
    first, second = opened(), opened()
    first.lease([(0, 0, 0)])
    with second.turn():
        assert second.is_leased((0, 0, 0))
        monkeypatch.setattr(_workers, "_SILENCE", 0.0)
        assert not second.is_leased((0, 0, 0))
        os.utime(second.workers.folder / f"{first.workers.name}.worker", (1, 1))
        assert second.is_leased((0, 0, 0))


def test_a_process_that_was_taken_for_dead_comes_back(opened, monkeypatch):
    monkeypatch.setattr(_workers, "_FRESH", 0.0)
    monkeypatch.setattr(_workers, "_BEAT_EVERY", 0.01)
    first, second = opened(), opened()
    own = first.workers.folder / f"{first.workers.name}.worker"
    own.unlink()  # as the last one does that leaves
    wait_for(own)
    with second.workers.door():  # when it is whole
        assert second.workers.others() == [first.workers.name]
    first.close()
    second.close()
    assert not own.parent.exists()


def test_files_of_others_are_kept_as_long_as_one_is_at_work_or_has_left_lines(opened):
    first, second = opened(), opened()
    for number in range(3):
        (first.files / f"{number}-0-0.pt").touch()
    first.checkpoints.sweep({(0, 0, 0)})
    assert len(list(first.files.glob("*.pt"))) == 3
    second.append(fit_of(1))
    second.close()
    first.checkpoints.sweep({(0, 0, 0)})
    assert sorted(path.name for path in first.files.glob("*.pt")) == ["0-0-0.pt", "1-0-0.pt"]


def test_the_folder_of_processes_holds_nothing_else(opened, tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "j.workers").symlink_to(tmp_path / "victim")
    with pytest.raises(JournalError, match="is a link or a file"):
        opened()
    (tmp_path / "j.workers").unlink()
    (tmp_path / "j.workers").mkdir()
    for name in ("notes.worker", "door"):
        (tmp_path / "j.workers" / name).write_text("of the user")
    os.mkfifo(tmp_path / "j.workers" / "pipe-1-abcdef.worker")
    with opened() as journal:
        assert journal.is_alone
    left = sorted(path.name for path in (tmp_path / "j.workers").iterdir())
    assert left == ["door", "notes.worker", "pipe-1-abcdef.worker"]


def test_a_process_that_cannot_join_leaves_no_trace(opened, tmp_path, monkeypatch):
    def full(descriptor, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(_workers, "write_all", full)
        with pytest.raises(StorageError, match="No space left"):
            opened()
    assert not list(tmp_path.iterdir())


def test_a_look_at_a_new_process_is_not_taken_for_missing_locks(tmp_path):
    with open(tmp_path / "new", "w") as own, open(tmp_path / "new") as other:
        assert files.lock(other.fileno(), "new", shared=True)
        threading.Timer(0.1, files.unlock, [other.fileno()]).start()
        _locks.check_locks(own.fileno(), tmp_path / "new")


def test_the_line_that_a_dead_process_left_unfinished_is_cut_off(opened):
    seen = []
    first, second = opened(), opened(take=seen.append)
    first.append({"event": "propose", "candidates": {"0": {}}})
    with open(first.path, "ab") as file:
        file.write(b'{"n": 2, "event": "prop')
    with second.turn():
        assert [event["candidates"] for event in seen] == [{"0": {}}]
    assert first.path.read_bytes().endswith(b"\n")


def test_ctrl_c_in_a_turn_neither_keeps_it_nor_loses_the_place(opened, monkeypatch):
    shared = sys.modules["skhpo.journal._shared"]
    file = sys.modules["skhpo.journal._file"]
    first, second = opened(), opened()

    def interrupted(function):
        def do(*args, **kwargs):
            function(*args, **kwargs)
            raise KeyboardInterrupt

        return do

    for module, name in ((shared, "lock"), (file, "write_all")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupted(getattr(module, name)))
            with pytest.raises(KeyboardInterrupt):
                first.append({"event": "propose", "candidates": {"0": {}}})
        with open(first.path, "rb") as other:
            assert files.lock(other.fileno(), first.path)
    assert len(events(first.path, "propose")) == 1  # the second time it came behind the line
    with monkeypatch.context() as patch:
        patch.setattr(first._reader, "move_to", interrupted(lambda *place: None))
        with pytest.raises(KeyboardInterrupt):
            first.append({"event": "propose", "candidates": {"3": {}}})
    second.append({"event": "propose", "candidates": {"1": {}}})
    first.append({"event": "propose", "candidates": {"2": {}}})
    assert [event["n"] for event in events(first.path, "propose")] == [1, 2, 3, 4]


def test_a_line_that_could_not_be_written_may_be_another_process_own(opened, monkeypatch):
    def full(descriptor, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    first, second = opened(), opened()
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["skhpo.journal._file"], "write_all", full)
        with pytest.raises(StorageError, match="No space left"):
            first.append({"event": "propose", "candidates": {"0": {}}})
    second.append({"event": "propose", "candidates": {"0": {}}})
    first.append({"event": "propose", "candidates": {"1": {}}})
    assert [event["n"] for event in events(first.path, "propose")] == [1, 2]


def stop_in_a_turn(path):
    with SharedJournal(path, lambda event: None) as journal, journal.turn():
        os.kill(os.getpid(), signal.SIGSTOP)


def hold_alone(path, ready):
    with Journal(path):
        ready.touch()
        time.sleep(60)


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="the system lists no locks")
def test_who_has_the_lock_is_known(opened, tmp_path, monkeypatch):
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(_workers, "_BEAT_EVERY", 0.02)
    monkeypatch.setattr(_locks, "PATIENCE", 0.05)
    journal = opened()
    stopped = fork.Process(target=stop_in_a_turn, args=(journal.path,))
    stopped.start()
    while not _locks.is_stopped(stopped.pid):
        time.sleep(0.01)
    end = threading.Timer(0.3, os.kill, [stopped.pid, signal.SIGKILL])
    end.start()
    with pytest.warns(UserWarning, match=rf"-{stopped.pid}-.*'kill -CONT {stopped.pid}'"):
        journal.append({"event": "propose", "candidates": {"0": {}}})
    stopped.join()
    journal.close()
    # A search that does not share is refused at once, also where several wait for it.
    alone = fork.Process(target=hold_alone, args=(journal.path, tmp_path / "ready"))
    alone.start()
    wait_for(tmp_path / "ready")
    monkeypatch.setattr(sys.modules["skhpo.journal._shared"], "_ALONE", 0.0)
    monkeypatch.setattr(SharedJournal, "is_alone", False)
    with pytest.raises(JournalError, match="in use by another process"):
        opened()
    alone.kill()
    alone.join()


def test_a_wait_is_reported_where_warnings_are_errors_and_signs_of_life_go_on(
    opened, monkeypatch, caplog
):
    monkeypatch.setattr(_workers, "_BEAT_EVERY", 0.01)
    monkeypatch.setattr(_locks, "PATIENCE", 0.0)
    workers = opened().workers
    own = workers.folder / f"{workers.name}.worker"
    with warnings.catch_warnings(), workers.waiting():
        warnings.simplefilter("error")
        for _ in range(500):
            if caplog.records:
                break
            time.sleep(0.01)
        own.unlink()
        wait_for(own)  # which the thread that shows life makes again
    assert "for the lock of" in caplog.text


def test_a_process_that_joins_others_at_work_waits_in_their_queue(opened, monkeypatch):
    """Tries in between would find the journal free too seldom, the busier the others are."""
    shared = sys.modules["skhpo.journal._shared"]
    first, queued = opened(), []
    turn = first.turn()
    wait = shared.wait_for_lock

    def waits(*args):
        queued.append(args)
        turn.__exit__(None, None, None)
        return wait(*args)

    def polls(seconds):
        raise AssertionError("it tries again and again")

    monkeypatch.setattr(shared, "wait_for_lock", waits)
    monkeypatch.setattr(shared.time, "sleep", polls)
    turn.__enter__()
    second = opened()
    assert len(queued) == 1
    second.append({"event": "propose", "candidates": {"0": {}}})


def test_processes_with_other_arguments_are_refused(opened):
    opened({"n_iter": 10})
    with pytest.raises(JournalError, match="n_iter is 20 here and 10 in the process"):
        opened({"n_iter": 20})


def test_other_versions_and_other_data_are_refused(tmp_path, monkeypatch):
    search_of(tmp_path / "j", shared=True).fit(X, y)
    with pytest.raises(JournalError, match=r"data\.X"):
        search_of(tmp_path / "j", shared=True).fit(X + 1, y)
    monkeypatch.setattr(fingerprint, "versions", lambda *names: {"skhpo": "0.0"})
    with pytest.raises(JournalError, match=r"versions\.skhpo"):
        search_of(tmp_path / "j", shared=True).fit(X, y)


def test_a_journal_is_shared_by_all_or_by_none(opened, tmp_path, monkeypatch):
    shared = opened()
    with pytest.raises(JournalError, match="set shared=True here, too"):
        Journal(tmp_path / "j")
    shared.close()
    monkeypatch.setattr(sys.modules["skhpo.journal._shared"], "_ALONE", 0.0)
    with Journal(tmp_path / "j"), pytest.raises(JournalError, match="in use by another process"):
        opened()
    assert not list(tmp_path.glob("*.workers"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"journal": None}, "journal is None; give the path"),
        ({"confirm": 2}, "confirm=2 fits rows again"),
        ({"racing": "auto"}, "racing='auto' holds results back"),
    ],
)
def test_what_cannot_be_shared_is_told_before_anything_is_done(arguments, message, tmp_path):
    search = search_of(shared=True)
    if "racing" in arguments:
        search = SearchCV(Fit(), {"quality": uniform(0, 1)}, scheduler=at_random, shared=True)
    search.set_params(**{"journal": tmp_path / "j", **arguments})
    with pytest.raises(ValueError, match=message):
        search.fit(X, y)
    assert not list(tmp_path.iterdir())


def test_locks_that_others_do_not_see_are_found(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", lambda descriptor, kind: None)
        with pytest.raises(JournalError, match="gives the same lock twice"):
            search_of(tmp_path / "j", shared=True).fit(X, y)

    def refused(descriptor, kind):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refused)
        with pytest.raises(JournalError, match="must be on a file system with locks"):
            search_of(tmp_path / "j", shared=True).fit(X, y)
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "22 27 0:21 / / rw,relatime - ext4 /dev/vda rw\n"
        f"40 27 0:40 / {os.path.realpath(tmp_path)} rw - nfs server:/x rw,local_lock=flock\n"
    )
    monkeypatch.setattr(_locks, "_MOUNTS", str(mounts))
    with pytest.raises(JournalError, match="mounted with local_lock=flock"):
        search_of(tmp_path / "j", shared=True).fit(X, y)
    monkeypatch.setattr(_workers, "HAS_LOCKS", False)
    with pytest.raises(JournalError, match="leave it out, and use n_jobs"):
        search_of(tmp_path / "j", shared=True).fit(X, y)
    assert not (tmp_path / "j").exists()
