"""Planning a search: whatever is wrong is raised before anything is changed."""

import pytest
from scipy.stats import uniform
from sklearn.datasets import load_iris
from sklearn.linear_model import SGDClassifier
from sklearn.svm import SVC

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, SearchCV
from skhpo.exceptions import JournalError
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

X, y = load_iris(return_X_y=True)
SPACE = {"C": uniform(1, 9)}


def fitted(search):
    return {name: value for name, value in vars(search).items() if name.endswith("_")}


def bayes(**params):
    return BayesSearchCV(SVC(), SPACE, n_iter=2, cv=2, random_state=0, **params)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_initial_points": 9},
        {"enqueue": [{"C": 99.0}]},
        {"param_distributions": {"D": [1, 2]}},
        {"cv": []},
        {"warm_start_from": "nowhere.jsonl"},
        {"callbacks": [object()]},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_is_refused_changes_neither_the_search_nor_the_disk(wrong, tmp_path):
    search = bayes().fit(X, y)
    before = fitted(search)
    search.set_params(journal=tmp_path / "run.jsonl", **wrong)
    with pytest.raises((ValueError, TypeError, JournalError)):
        search.fit(X, y)
    assert fitted(search).keys() == before.keys()
    assert all(fitted(search)[name] is before[name] for name in before)
    assert not list(tmp_path.iterdir())


def two_at_random(space, random_state):
    return FullScheduler(RandomSampler(space, random_state), n_candidates=2)


@pytest.mark.parametrize("make", [BayesSearchCV, HalvingHyperbandSearchCV])
def test_a_class_in_place_of_an_estimator_is_named(make):
    with pytest.raises(TypeError, match=r"instance, but is the class SVC; give SVC\(\)"):
        make(SVC, SPACE).fit(X, y)


def test_a_scheduler_is_made_once_under_the_seed_of_the_journal(tmp_path, monkeypatch):
    seeds = []
    make = SearchCV._make_scheduler

    def noting(search, plan):
        seeds.append(plan.random_state)
        return make(search, plan)

    monkeypatch.setattr(SearchCV, "_make_scheduler", noting)
    arguments = {"scheduler": two_at_random, "cv": 2, "journal": tmp_path / "run.jsonl"}
    first, second = (SearchCV(SVC(), SPACE, **arguments).fit(X, y) for _ in range(2))
    assert seeds == [seeds[0]] * 2
    assert first.cv_results_["params"] == second.cv_results_["params"]


def test_the_refit_to_a_fixed_number_of_epochs_does_not_warn():
    search = HalvingHyperbandSearchCV(
        SGDClassifier(), {"alpha": [1e-4, 1e-2]}, resource="max_iter", max_resources=3, cv=2
    )
    assert search.fit(X, y).best_estimator_.max_iter in (1, 3)
