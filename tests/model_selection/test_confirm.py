"""The best rows are fitted once more under other seeds, and a lucky one does not win twice."""

import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GroupKFold, ShuffleSplit, StratifiedKFold
from sklearn.svm import SVC

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, SearchCV, TorchClassifier
from skhpo.exceptions import SearchStoppedWarning
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X = np.zeros((30, 1), dtype=np.float32)
X[:, 0] = np.arange(30)
y = np.tile([0, 1], 15)


class Dice(ClassifierMixin, BaseEstimator):
    """Scores at random around its level, by its seed."""

    calls = []

    def __init__(self, level=0.5, luck=1.0, fails=False, random_state=None):
        self.level = level
        self.luck = luck
        self.fails = fails
        self.random_state = random_state

    def fit(self, X, y):
        self.calls.append((self.level, self.random_state, tuple(X[:, 0])))
        if self.fails and len(self.calls) > 6:
            raise RuntimeError("no")
        self.classes_ = np.unique(y)
        self.score_ = self.level + self.luck * np.random.RandomState(self.random_state).rand()
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)

    def score(self, X, y):
        return self.score_


def grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def search_of(estimator=None, space=None, **kwargs):
    space = space or {"level": [0.1, 0.2, 0.3]}
    kwargs = {"cv": 2, "random_state": 0, "refit": False, "confirm": 2, **kwargs}
    return SearchCV(estimator or Dice(), space, scheduler=grid, **kwargs)


@pytest.fixture(autouse=True)
def _no_calls():
    Dice.calls.clear()


@pytest.mark.parametrize("seed", range(4))
def test_the_best_by_all_scores_wins(seed):
    search = search_of(random_state=seed, n_repeats=2).fit(X, y)
    table = search.cv_results_
    first, again = table["mean_test_score"], table["confirm_mean_test_score"]
    assert set(np.flatnonzero(~np.isnan(again))) == set(np.argsort(-first)[:2])
    both = np.where(np.isnan(again), -np.inf, first + again)
    assert search.best_index_ == both.argmax()
    assert search.best_score_ == first[search.best_index_]
    assert search.best_params_ == table["params"][search.best_index_]
    assert np.isfinite(table["confirm_std_test_score"][search.best_index_])


def test_seeds_are_others():
    search_of(n_repeats=2).fit(X, y)
    seeds = [seed for _, seed, _ in Dice.calls]
    assert len(seeds) == (3 + 2) * 2 * 2
    assert len(set(seeds)) == len(seeds)
    Dice.calls.clear()
    search_of(Dice(random_state=5)).fit(X, y)
    assert len({seed for _, seed, _ in Dice.calls[:6]}) == 1
    assert 5 not in {seed for _, seed, _ in Dice.calls[6:]}


@pytest.mark.parametrize(
    ("cv", "others"),
    [
        (2, False),
        (StratifiedKFold(2, shuffle=True, random_state=0), True),
        (ShuffleSplit(2, random_state=3), True),
    ],
    ids=["fixed", "shuffled", "random"],
)
def test_splits_are_others_where_cv_gives_some(cv, others):
    search_of(cv=cv).fit(X, y)
    rows = [rows for _, _, rows in Dice.calls]
    assert (not set(rows[:6]) & set(rows[6:])) == others
    assert not others or cv.random_state in (0, 3)


def test_the_search_itself_is_the_same_and_does_not_depend_on_n_jobs():
    plain = search_of(confirm=0).fit(X, y)
    confirmed = search_of(cv=ShuffleSplit(2, random_state=0)).fit(X, y)
    parallel = search_of(cv=ShuffleSplit(2, random_state=0), n_jobs=2).fit(X, y)
    for key in ("confirm_mean_test_score", "mean_test_score"):
        np.testing.assert_array_equal(parallel.cv_results_[key], confirmed.cv_results_[key])
    assert "confirm_mean_test_score" not in plain.cv_results_
    with_two = search_of().fit(X, y)
    np.testing.assert_array_equal(
        plain.cv_results_["mean_test_score"], with_two.cv_results_["mean_test_score"]
    )


def test_a_journal_continues_it(tmp_path):
    path = tmp_path / "run.jsonl"
    plain = search_of(confirm=0, journal=path).fit(X, y)
    assert len(Dice.calls) == 6
    Dice.calls.clear()
    search = search_of(journal=path).fit(X, y)
    assert len(Dice.calls) == 4
    lines = path.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["event"] for line in lines[1:]] == ["fit"] * 6 + ["confirm"] * 4
    path.write_bytes(b"".join(lines[:-2]))
    Dice.calls.clear()
    resumed = search_of(journal=path).fit(X, y)
    assert len(Dice.calls) == 2
    for key in ("confirm_mean_test_score", "confirm_std_test_score"):
        np.testing.assert_array_equal(resumed.cv_results_[key], search.cv_results_[key])
    assert resumed.best_index_ == search.best_index_
    Dice.calls.clear()
    again = search_of(confirm=0, journal=path).fit(X, y)
    assert not Dice.calls
    assert again.best_index_ == plain.best_index_


def test_fits_that_fail_leave_the_best_as_it_was():
    with pytest.warns(FitFailedWarning, match="4 fits of confirm=2 failed"):
        search = search_of(Dice(fails=True), refit=False).fit(X, y)
    assert search.best_index_ == np.argmax(search.cv_results_["mean_test_score"])
    assert np.isnan(search.cv_results_["confirm_mean_test_score"]).all()


def test_no_time_is_left():
    search = search_of(max_time=1e-9)
    with pytest.raises(ValueError, match="no trial was finished"):
        search.fit(X, y)


def test_a_search_that_was_cut_short_keeps_what_it_found():
    stops = SimpleNamespace(on_trial_end=lambda *_: True)

    def one_by_one(space, random_state):
        return FullScheduler(GridSampler(space), n_candidates=space.size, batch_size=1)

    search = search_of(callbacks=[stops]).set_params(scheduler=one_by_one)
    with pytest.warns(SearchStoppedWarning, match="confirm=2 was left out because a callback"):
        search.fit(X, y)
    assert search.best_index_ == np.argmax(search.cv_results_["mean_test_score"])
    assert np.isnan(search.cv_results_["confirm_mean_test_score"]).all()


@pytest.mark.parametrize("make", [BayesSearchCV, HalvingHyperbandSearchCV])
def test_networks_of_other_searches(make, blobs):
    kwargs = {"n_iter": 3} if make is BayesSearchCV else {"max_resources": 3, "factor": 3}
    net = TorchClassifier(max_epochs=2, batch_size=64)
    search = make(net, {"lr": [0.1, 0.01, 0.001]}, cv=2, random_state=0, confirm=2, **kwargs)
    search.fit(*blobs)
    again = search.cv_results_["confirm_mean_test_score"]
    assert np.isfinite(again).sum() == 2
    assert search.best_index_ in np.flatnonzero(np.isfinite(again))
    assert search.best_estimator_.lr == search.best_params_["lr"]
    assert pickle.loads(pickle.dumps(search)).best_index_ == search.best_index_


def test_several_metrics():
    scoring = {"a": lambda e, X, y: e.score_, "b": lambda e, X, y: -e.score_}
    search = search_of(scoring=scoring, refit="b").fit(X, y)
    table = search.cv_results_
    np.testing.assert_allclose(table["confirm_mean_test_a"], -table["confirm_mean_test_b"])
    assert np.isfinite(table["confirm_mean_test_b"][search.best_index_])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"refit": lambda table: 0}, "chooses the best row itself"),
        (
            {"scoring": {"a": "accuracy", "b": "accuracy"}},
            "by which of several metrics",
        ),
        ({"estimator": SVC(random_state=0)}, None),
        ({"estimator": "no seed"}, "has no random_state and cv=2"),
        ({"estimator": "no seed", "cv": GroupKFold(2)}, "always gives the same splits"),
        ({"estimator": "no seed", "cv": ShuffleSplit(2)}, None),
    ],
    ids=["rule", "metrics", "seed", "no seed", "groups", "shuffled"],
)
def test_what_makes_no_sense_is_said_before_any_training(changed, message):
    from sklearn.neighbors import KNeighborsClassifier

    changed = dict(changed)
    space = None
    if changed.get("estimator") == "no seed":
        changed["estimator"], space = KNeighborsClassifier(), {"n_neighbors": [1, 2]}
    elif "estimator" in changed:
        space = {"C": [1, 2]}
    search = search_of(space=space, **changed)
    if message is None:
        search.fit(X, y)
        return
    with pytest.raises(ValueError, match=message):
        search.fit(X, y, groups=np.arange(30) % 4 if "cv" in changed else None)
    assert not Dice.calls


def test_metadata_and_groups():
    with sklearn.config_context(enable_metadata_routing=True):
        groups = np.arange(30) % 4
        search = search_of(cv=GroupKFold(2, shuffle=True, random_state=0))
        search.fit(X, y, groups=groups)
    rows = [rows for _, _, rows in Dice.calls]
    assert not set(rows[:6]) & set(rows[6:])


class Costly(Dice):
    """What it costs depends on its seed, too."""

    def fit(self, X, y):
        super().fit(X, y)
        self.cost_ = np.random.RandomState(self.random_state).rand()
        return self


def test_constraints_hold_in_the_mean_of_all_fits():
    matters = 0
    for seed in range(6):
        search = search_of(
            Costly(luck=0.01),
            {"level": [0.1, 0.2, 0.3, 0.4]},
            random_state=seed,
            confirm=4,
            constraints={"cost_": (None, 0.55)},
        ).fit(X, y)
        table = search.cv_results_
        again = table["confirm_constraint_cost_"]
        confirmed = np.flatnonzero(~np.isnan(again))
        assert table["feasible"][confirmed].all()
        excess = np.maximum((table["constraint_cost_"] + again) / 2 - 0.55, 0)[confirmed]
        scores = (table["mean_test_score"] + table["confirm_mean_test_score"])[confirmed]
        least = excess <= excess.min()
        assert search.best_index_ == confirmed[least][np.argmax(scores[least])]
        matters += search.best_index_ != confirmed[np.argmax(scores)]
    assert matters
