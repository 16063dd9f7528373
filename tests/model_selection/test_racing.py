"""Racing over folds: who is stopped, what is fitted, told, kept and resumed."""

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import parallel_config
from scipy.stats import uniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import KFold, ShuffleSplit

from skhpo import BayesSearchCV, SearchCV, read_journal
from skhpo.evaluation import raised_by
from skhpo.evaluation._tasks import Failure, failure
from skhpo.inspection import read_search
from skhpo.model_selection import one_standard_error
from skhpo.model_selection._goals import Told
from skhpo.model_selection._race import Race
from skhpo.results import mean_score, variance_of_mean
from skhpo.samplers import GridSampler, RandomSampler
from skhpo.schedulers import FullScheduler
from skhpo.trial import FitResult, Trial

N_SPLITS = 4
# Scores of each candidate on each split.
SCORES = np.round(
    np.random.default_rng(14).normal(0.7, 0.05, (14, 1))
    + np.random.default_rng(1014).normal(0.0, 0.05, (14, N_SPLITS)),
    3,
)
MANY = np.random.default_rng(0).normal(0.5, 0.2, (24, 1)) + np.random.default_rng(1).normal(
    0.0, 0.02, (24, N_SPLITS)
)
TABLES = {"few": SCORES, "many": MANY}
X = np.arange(8.0)[:, None]
y = np.tile([0, 1], 4)
FITS = []


class Scripted(ClassifierMixin, BaseEstimator):
    """Scores what a table has for its candidate and split, and notes that it was fitted."""

    def __init__(self, candidate=0, table="few", fails=()):
        self.candidate = candidate
        self.table = table
        self.fails = fails

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        left_out = set(range(8)) - set(X[:, 0].astype(int))
        self.split_ = min(left_out) // 2 if left_out else -1
        if self.split_ >= 0:
            FITS.append((self.candidate, self.split_))
        if (self.candidate, self.split_) in self.fails:
            raise ValueError("no")
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)

    def score(self, X, y):
        return float(TABLES[self.table][self.candidate, self.split_])


def on_grid(space, random_state):
    return FullScheduler(GridSampler(space), len(SCORES), batch_size=1)


def race_of_grid(scheduler=on_grid, estimator=None, n=14, **arguments):
    settings = {"cv": KFold(N_SPLITS), "racing": "auto", "random_state": 0, **arguments}
    FITS.clear()
    search = SearchCV(
        estimator or Scripted(), {"candidate": list(range(n))}, scheduler=scheduler, **settings
    )
    return search.fit(X, y)


def expected_splits(scores, first_of_round=lambda i: i):
    """Return on how many splits each row is fitted, by the rule of the paper."""
    n_splits, whole = [], []
    for i, row in enumerate(scores):
        known = [j for j in whole if j < first_of_round(i)]
        best = max(known, key=lambda j: (scores[j].mean(), -j), default=None)
        done = len(row)
        if best is not None:
            worse = [k for k in range(1, len(row)) if not row[:k].mean() >= scores[best].min()]
            done = min(worse, default=done)
        n_splits.append(done)
        if done == len(row):
            whole.append(i)
    return n_splits


@pytest.fixture(scope="module")
def raced():
    search = race_of_grid()
    return search, list(FITS)


def test_stops_below_the_worst_split_of_the_best_so_far(raced):
    search, fits = raced
    expected = expected_splits(SCORES)
    assert set(expected) == {1, 2, 3, 4}
    table = search.cv_results_
    assert table["n_splits_done"].tolist() == expected
    assert fits == [(i, split) for i, n in enumerate(expected) for split in range(n)]
    for i, n in enumerate(expected):
        scores = [table[f"split{split}_test_score"][i] for split in range(N_SPLITS)]
        np.testing.assert_array_equal(scores[:n], SCORES[i, :n])
        assert np.isnan(scores[n:]).all()
        assert table["mean_test_score"][i] == pytest.approx(SCORES[i, :n].mean())
        assert table["std_test_score"][i] == pytest.approx(SCORES[i, :n].std())


def test_large_batches_are_compared_in_rounds():
    found = []
    for n_jobs in (1, 3):
        with parallel_config("threading"):
            search = race_of_grid(at_once, Scripted(table="many"), n=24, n_jobs=n_jobs)
        found.append(search.cv_results_["n_splits_done"].tolist())
    assert found[0] == expected_splits(MANY, lambda i: i - i % 10)
    assert found[1] == found[0]
    assert sum(found[0]) < 24 * N_SPLITS


def test_rows_that_were_stopped_rank_last_and_never_win(raced):
    search, _ = raced
    table = search.cv_results_
    whole = table["n_splits_done"] == N_SPLITS
    assert table["rank_test_score"][whole].max() < table["rank_test_score"][~whole].min()
    assert table["rank_test_score"][search.best_index_] == 1
    # Best by another metric, and by a rule.
    upside_down = race_of_grid(
        scoring={"up": _score, "down": _minus_score}, refit="up", error_score=0.0
    )
    assert whole[np.argmin(upside_down.cv_results_["rank_test_down"])]
    assert whole[race_of_grid(refit=one_standard_error("candidate")).best_index_]
    assert len(search.top_estimators(2)) == 2
    with pytest.raises(ValueError, match="1 <= n <="):
        search.top_estimators(int(whole.sum()) + 1)


def _score(estimator, X, y):
    return estimator.score(X, y)


def _minus_score(estimator, X, y):
    return -estimator.score(X, y)


def test_a_failed_fit_ends_a_candidate_once_there_is_another():
    with pytest.warns(Warning, match="1 of 30 fits failed"):
        search = race_of_grid(estimator=Scripted(fails=[(5, 0)]))
    assert search.cv_results_["n_splits_done"][5] == 1
    assert np.isnan(search.cv_results_["mean_test_score"][5])


AWAITED = {"fits": 0}


class FirstIsLast(Scripted):
    """Whose very first fit ends after so many have begun."""

    def fit(self, X, y):
        super().fit(X, y)
        end = time.monotonic() + 20
        while (
            self.candidate == self.split_ == 0
            and len(FITS) < AWAITED["fits"]
            and time.monotonic() < end
        ):
            time.sleep(0.001)
        return self


def _name(event):
    return event.get("candidate"), event.get("split")


def at_once(space, random_state):
    return FullScheduler(GridSampler(space), 24)


def test_what_waits_for_its_turn_is_in_the_journal(tmp_path, monkeypatch):
    monkeypatch.setitem(AWAITED, "fits", 60)  # 40 are those of the first round
    path = tmp_path / "run.jsonl"
    arguments = {"scheduler": at_once, "n": 24, "journal": path, "return_predictions": "predict"}
    late = FirstIsLast(table="many")
    with parallel_config("threading"):
        whole = race_of_grid(estimator=late, n_jobs=3, **arguments)
    AWAITED["fits"] = 0
    lines = path.read_text().splitlines(keepends=True)
    events = [json.loads(line) for line in lines]
    early = [i for i, event in enumerate(events) if event.get("early")]
    first_raced = next(i for i, event in enumerate(events) if "skipped" in event)
    assert len(early) >= 6
    assert early[0] < first_raced
    seconds = {_name(events[i]): events[i]["fit_time"] for i in early}
    unused = {_name(event) for event in events if "skipped" in event} & set(seconds)
    assert unused
    names = ("n_splits_done", "mean_test_score", "rank_test_score")
    of_file = read_journal(path)
    assert whole.cv_results_["n_splits_done"].tolist() == expected_splits(
        MANY, lambda i: i - i % 10
    )
    for name in names:
        np.testing.assert_array_equal(of_file[name], whole.cv_results_[name])
    for n_lines in (first_raced, early[-1] + 1, len(lines) - 1):
        path.write_text("".join(lines[:n_lines]))
        there = {_name(event) for event in events[1:n_lines] if "skipped" not in event}
        again = race_of_grid(estimator=late, **arguments)
        assert there.isdisjoint(FITS)
        # What was not used is in the costs of the search, however often it was interrupted.
        for event in map(json.loads, path.read_text().splitlines()):
            if "skipped" in event and _name(event) in there & unused:
                assert event["fit_time"] == seconds[_name(event)]
        for name in names:
            np.testing.assert_array_equal(again.cv_results_[name], whole.cv_results_[name])
        rows = again.predictions_.rows
        assert rows == whole.predictions_.rows
        np.testing.assert_array_equal(
            again.out_of_fold_predictions(rows[0]), whole.out_of_fold_predictions(rows[0])
        )


@pytest.mark.parametrize("asynchronous", [False, True])
def test_resumes_wherever_it_was_cut(tmp_path, raced, asynchronous):
    path = tmp_path / "run.jsonl"
    arguments = {"asynchronous": asynchronous, "journal": path, "cv": KFold(N_SPLITS)}
    whole = race_of_grid(**arguments)
    n_fits = len(FITS)
    np.testing.assert_array_equal(
        whole.cv_results_["n_splits_done"], raced[0].cv_results_["n_splits_done"]
    )
    lines = path.read_text().splitlines(keepends=True)
    for n_lines in (2, len(lines) // 3, len(lines) // 2, len(lines) - 2):
        path.write_text("".join(lines[:n_lines]))
        n_known = sum(
            event.get("event") == "fit" and "skipped" not in event
            for event in map(json.loads, lines[:n_lines])
        )
        again = race_of_grid(**arguments)
        assert len(FITS) == n_fits - n_known
        for name in ("n_splits_done", "mean_test_score", "rank_test_score"):
            np.testing.assert_array_equal(again.cv_results_[name], whole.cv_results_[name])
    of_file = read_journal(path)
    np.testing.assert_array_equal(of_file["n_splits_done"], whole.cv_results_["n_splits_done"])
    for record in (read_search(path), read_search(whole)):
        assert record.has_fit.sum() == n_fits


def test_resumes_where_the_journal_ends_among_the_repeats_of_a_split(tmp_path):
    path = tmp_path / "run.jsonl"
    whole = race_of_grid(journal=path, n_repeats=2)
    n_fits = len(FITS)
    lines = path.read_text().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if "skipped" in json.loads(line))
    path.write_text("".join(lines[: first + 1]))
    again = race_of_grid(journal=path, n_repeats=2)
    assert len(FITS) == n_fits - sum(json.loads(line)["event"] == "fit" for line in lines[1:first])
    for name in ("n_splits_done", "mean_test_score"):
        np.testing.assert_array_equal(again.cv_results_[name], whole.cv_results_[name])


def test_a_journal_without_racing_is_that_of_another_search(tmp_path):
    path = tmp_path / "run.jsonl"
    race_of_grid(journal=path, racing=None)
    assert "racing" not in json.loads(path.read_text().splitlines()[0])["fingerprint"]["settings"]
    with pytest.raises(ValueError, match="racing"):
        race_of_grid(journal=path)


def test_the_sampler_hears_more_noise_of_a_stopped_candidate():
    heard = []

    class Listening(GridSampler):
        def observe(self, params, score, resource=None, *, noise=None, seconds=None):
            heard.append((score, noise))
            super().observe(params, score, resource)

    def listening(space, random_state):
        return FullScheduler(Listening(space), len(SCORES), batch_size=1)

    search = race_of_grid(listening)
    n_done = search.cv_results_["n_splits_done"]
    for i, (score, noise) in enumerate(heard):
        assert score == search.cv_results_["mean_test_score"][i]
        best = max(
            (j for j in range(i + 1) if n_done[j] == N_SPLITS), key=lambda j: SCORES[j].mean()
        )
        own = SCORES[i, : n_done[i]].var(ddof=1) if n_done[i] > 1 else 0.0
        if n_done[i] < N_SPLITS:
            own = max(own, SCORES[best].var(ddof=1))
        assert noise == pytest.approx(own / n_done[i])


def test_kept_predictions_and_ensembles_leave_stopped_rows_out():
    search = race_of_grid(return_predictions="predict")
    whole = np.flatnonzero(search.cv_results_["n_splits_done"] == N_SPLITS)
    assert search.predictions_.rows == whole.tolist()
    stopped = int(np.argmin(search.cv_results_["n_splits_done"]))
    with pytest.raises(ValueError, match="racing stopped"):
        search.out_of_fold_predictions(stopped)


class Own(ValueError):
    """Whose arguments are its own."""


class RaisesOwn(FirstIsLast):
    def fit(self, X, y):
        try:
            return super().fit(X, y)
        except ValueError:
            raise Own(f"no: {self.candidate}, {self.split_}") from None


@pytest.mark.parametrize("counts", [True, False])
def test_an_error_is_raised_where_its_fit_counts_whatever_n_jobs(counts, monkeypatch):
    n_done = expected_splits(MANY, lambda i: i - i % 10)
    stopped = next(i for i in range(10, 24) if n_done[i] == 1)
    broken = RaisesOwn(table="many", fails=[(stopped, 0 if counts else 3)])
    for n_jobs in (1, 4):
        monkeypatch.setitem(AWAITED, "fits", 40 if n_jobs > 1 else 0)
        with parallel_config("threading"):
            arguments = {"estimator": broken, "n": 24, "n_jobs": n_jobs, "error_score": "raise"}
            if counts:
                with pytest.raises(Own, match=f"no: {stopped}, 0"):
                    race_of_grid(at_once, **arguments)
            else:
                search = race_of_grid(at_once, **arguments)
                assert search.cv_results_["n_splits_done"].tolist() == n_done


def test_an_error_of_another_process_has_its_traceback_once():
    result = FitResult(0, 0, error=Failure("Traceback of a worker", Own("no")))
    raised_by(result)
    assert raised_by(result).__notes__ == ["Traceback of a worker"]


def test_an_error_whose_class_is_from_the_users_script_is_raised():
    # In a worker such a class is sent by value, and is no attribute of its module.
    own = type("OwnError", (ValueError,), {"__module__": "__main__"})("too large")
    text = failure(own, "Traceback of a worker", SimpleNamespace(keep_errors=True))
    assert raised_by(FitResult(0, 0, error=text)) is own


def test_scores_of_a_raced_journal_have_the_same_noise_elsewhere(tmp_path, raced):
    heard = []

    class Listening(GridSampler):
        def observe(self, params, score, resource=None, *, noise=None, seconds=None):
            heard.append((params["candidate"], noise))

    race_of_grid(journal=tmp_path / "run.jsonl")
    race_of_grid(
        lambda space, _: FullScheduler(Listening(space), 1),
        warm_start_from=tmp_path / "run.jsonl",
        racing=None,
    )
    n_done = raced[0].cv_results_["n_splits_done"]
    best = SCORES[raced[0].best_index_].var(ddof=1)
    for i, noise in heard[: len(SCORES)]:
        own = SCORES[i, : n_done[i]].var(ddof=1) if n_done[i] > 1 else 0.0
        expected = max(own, best) if n_done[i] < N_SPLITS else own
        assert noise == pytest.approx(expected / n_done[i])


def test_bayes_gives_the_same_with_any_number_of_jobs():
    found = []
    for n_jobs in (1, 3):
        with parallel_config("threading"):
            search = BayesSearchCV(
                Scripted(),
                {"candidate": list(range(len(SCORES)))},
                n_iter=10,
                n_points=2,
                n_repeats=2,
                racing="auto",
                cv=KFold(N_SPLITS),
                random_state=0,
                n_jobs=n_jobs,
            ).fit(X, y)
        found.append(search)
    one, three = (search.cv_results_ for search in found)
    assert one["params"] == three["params"]
    np.testing.assert_array_equal(one["n_splits_done"], three["n_splits_done"])
    np.testing.assert_array_equal(one["mean_test_score"], three["mean_test_score"])
    assert one["n_splits_done"].min() < N_SPLITS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cv": ShuffleSplit(1, random_state=0)}, "needs two at least"),
        ({"scoring": ["accuracy", "f1"], "objectives": ["accuracy", "f1"], "refit": False}, "one "),
        ({"lockstep": True}, "lockstep=True trains the splits"),
        ({"racing": "yes"}, "racing"),
    ],
)
def test_refuses_what_cannot_be_raced(arguments, message):
    with pytest.raises(ValueError, match=message):
        race_of_grid(**arguments)
    assert not FITS


def test_refuses_a_scheduler_with_a_resource():
    def with_levels(space, random_state):
        return FullScheduler(RandomSampler(space, random_state), 3, resource=2)

    search = SearchCV(
        Scripted(),
        {"fails": [()]},
        scheduler=with_levels,
        resource="candidate",
        racing="auto",
        cv=2,
    )
    with pytest.raises(ValueError, match="up to 2 of the resource"):
        search.fit(X, y)


def test_splits_that_are_trained_as_one_are_all_done():
    from skhpo.estimators import TorchClassifier
    from skhpo.modules import MLP

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 3)).astype("float32")
    labels = (rows[:, 0] > 0).astype(int)
    n_done = {}
    for lockstep in ("auto", False):
        net = TorchClassifier(MLP, max_epochs=3, optimizer="adam", random_state=0)
        search = BayesSearchCV(
            net,
            {"lr": uniform(1e-9, 0.1)},
            n_iter=4,
            enqueue=[{"lr": 0.05}, {"lr": 1e-9}],
            cv=3,
            racing="auto",
            lockstep=lockstep,
            random_state=0,
            refit=False,
        )
        n_done[lockstep] = search.fit(rows, labels).cv_results_["n_splits_done"]
    assert (n_done["auto"] == 3).all()
    assert n_done[False].min() < 3


def test_large_data_with_transformers_are_raced(monkeypatch):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from skhpo.estimators import TorchClassifier
    from skhpo.evaluation import _grouping
    from skhpo.modules import MLP

    monkeypatch.setattr(_grouping, "_LARGE", 0)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 3)).astype("float32")
    labels = (rows[:, 0] > 0).astype(int)
    net = TorchClassifier(MLP, max_epochs=3, optimizer="adam", random_state=0)
    search = BayesSearchCV(
        make_pipeline(StandardScaler(), net),
        {"torchclassifier__lr": uniform(1e-9, 0.1)},
        n_iter=3,
        enqueue=[{"torchclassifier__lr": 0.05}, {"torchclassifier__lr": 1e-9}],
        cv=3,
        racing="auto",
        random_state=0,
        refit=False,
    )
    assert search.fit(rows, labels).cv_results_["n_splits_done"].min() < 3


class Pending:
    """In the place of an evaluator: fits that end in any order."""

    known = {}

    def __init__(self):
        self.left = []

    def withdraw(self, names):
        self.left = [name for name in self.left if name not in names]

    def trains_splits_together(self, trial):
        return False


def told(results):
    return Told(mean_score(results, "score", np.nan), variance_of_mean(results, "score", 0.0), 0.0)


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(
        st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), min_size=3, max_size=3),
        min_size=12,
        max_size=23,
    ),
    order=st.randoms(use_true_random=False),
)
def test_what_is_stopped_does_not_depend_on_the_order_in_which_fits_end(scores, order):
    evaluator = Pending()
    race = Race(evaluator, told, 3, 1, asynchronous=False)
    trials = [Trial(i, i, {}) for i in range(len(scores))]
    race.start(trials)
    evaluator.left = [(i, split, 0) for i in range(len(scores)) for split in range(3)]
    rows = [[] for _ in scores]
    while evaluator.left:
        name = evaluator.left.pop(order.randrange(len(evaluator.left)))
        result = FitResult(*name, test_scores={"score": scores[name[0]][name[1]]})
        for one in race.take([result]):
            rows[one.trial].append(one)
    found = [sum(not result.is_left_out for result in row) for row in rows]
    assert found == expected_splits(np.array(scores), lambda i: i - i % 10)
    assert all([result.split for result in row] == [0, 1, 2] for row in rows)
