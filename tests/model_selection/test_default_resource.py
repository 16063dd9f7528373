"""One rule says what the resource of a search is where none is named."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skhpo import HalvingHyperbandSearchCV, HarmonicaSearchCV, SearchCV, TorchClassifier
from skhpo.inspection import read_search
from skhpo.samplers import GridSampler, RandomSampler
from skhpo.schedulers import FullScheduler, Hyperband

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)
NET = TorchClassifier(module__n_units=4, batch_size=50, max_epochs=2)
PIPELINE = make_pipeline(StandardScaler(), NET)
CV = {"cv": 2, "random_state": 0, "refit": False}


def hyperband(estimator, space, **kwargs):
    return HalvingHyperbandSearchCV(estimator, space, max_resources=3, **CV, **kwargs).fit(X, y)


def harmonica(estimator, space, **kwargs):
    small = {"n_samples": 4, "n_stages": 1, "n_terms": 1, "n_iter": 1, "max_resources": 3}
    return HarmonicaSearchCV(estimator, space, **CV, **small, **kwargs).fit(X, y)


def with_scheduler(make, space=None):
    return SearchCV(NET, space or {"lr": [0.1, 0.01]}, scheduler=make, **CV).fit(X, y)


def test_it_counts_the_epochs_of_the_network_inside():
    space = {"torchclassifier__lr": [0.3, 0.1, 0.03]}
    search = hyperband(PIPELINE, space)
    assert search.resource_ == read_search(search).resource == "torchclassifier__max_epochs"
    named = hyperband(PIPELINE, space, resource="torchclassifier__max_epochs")
    for column in ("mean_test_score", "n_resources"):
        np.testing.assert_array_equal(search.cv_results_[column], named.cv_results_[column])
    assert search.cv_results_["params"] == named.cv_results_["params"]


def test_without_epochs_hyperband_asks_for_a_name():
    with pytest.raises(ValueError, match=r"SVC has no parameter .* name another one .*'n_samples'"):
        hyperband(SVC(), {"C": [1, 10]})
    with pytest.raises(ValueError, match="or it is in the space"):
        hyperband(NET, {"max_epochs": [1, 2]})


def test_where_it_is_not_needed_there_may_be_none():
    assert harmonica(NET, {"lr": [0.1, 0.01], "batch_size": [16, 32]}).resource_ == "max_epochs"
    assert harmonica(SVC(), {"C": [1, 10], "gamma": [0.1, 1]}).resource_ is None


def test_a_base_of_full_fits_needs_no_resource():
    space = {"lr": [0.1, 0.01], "batch_size": [16, 32]}
    small = {"cv": 2, "n_samples": 4, "n_stages": 1, "n_terms": 1, "n_iter": 1, "refit": False}
    search = HarmonicaSearchCV(NET, space, base="random", **small).fit(X, y)
    assert search.resource_ is None
    assert "n_resources" not in search.cv_results_


def full_fits(space, seed):
    return FullScheduler(GridSampler(space), 1)


class TakesEpochs(DummyClassifier):
    def __init__(self, constant=0, max_epochs=1):
        super().__init__(strategy="constant", constant=constant)
        self.max_epochs = max_epochs

    def fit(self, X, y, max_epochs=None):
        self.epochs_ = max_epochs or self.max_epochs
        return super().fit(X, y)


def test_what_the_scheduler_does_not_set_may_be_passed():
    space = {"constant": [0, 1]}
    search = SearchCV(TakesEpochs(), space, scheduler=full_fits, cv=2).fit(X, y, max_epochs=3)
    assert search.best_estimator_.epochs_ == 3
    with pytest.raises(ValueError, match="fit must not be passed 'max_epochs', which is the res"):
        HalvingHyperbandSearchCV(TakesEpochs(), space).fit(X, y, max_epochs=3)


def test_journals_of_full_fits_are_continued(tmp_path):
    search = SearchCV(NET, {"lr": [0.1]}, scheduler=full_fits, journal=tmp_path / "run", **CV)
    clone(search).set_params(resource=None).fit(X, y)
    seen = []
    search.set_params(callbacks=[Seen(seen)]).fit(X, y)
    assert seen == [0]  # trials that were known


class Seen:
    def __init__(self, seen):
        self.seen = seen

    def on_search_begin(self, search, start):
        self.seen += sorted({trial for trial, _, _ in start.known})


@pytest.mark.parametrize("resource", ["auto", None])
def test_what_a_scheduler_gives_needs_a_name(resource):
    search = SearchCV(
        SVC(),
        {"C": [1, 10]},
        scheduler=lambda space, seed: Hyperband(RandomSampler(space, seed), max_resources=3),
        resource=resource,
        **CV,
    )
    with pytest.raises(ValueError, match=r"Hyperband gives its trials a resource, but .* name one"):
        search.fit(X, y)


def test_of_any_scheduler_it_is_what_its_trials_have():
    search = with_scheduler(lambda space, seed: FullScheduler(GridSampler(space), 2))
    assert search.resource_ is None
    assert "n_resources" not in search.cv_results_
    search = with_scheduler(
        lambda space, seed: FullScheduler(GridSampler(space), 2), {"max_epochs": [1, 2]}
    )
    assert search.resource_ is None
    search = with_scheduler(
        lambda space, seed: Hyperband(RandomSampler(space, seed), max_resources=3, n_brackets=1)
    )
    assert search.resource_ == "max_epochs"
    assert set(search.cv_results_["n_resources"]) == {1, 3}
