"""What a scheduler and its sampler hear of a trial: its score, the noise in it, and its time."""

import numpy as np
import pytest
from scipy.stats import uniform
from scripted import Scripted
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import ShuffleSplit

from skhpo import SearchCV
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

X, y = load_iris(return_X_y=True)


class Listening(RandomSampler):
    def __init__(self, *args):
        super().__init__(*args)
        self.heard = []

    def observe(self, params, score, resource, *, noise=None, seconds=None):
        self.heard.append((score, noise, seconds))


def fitted(estimator, space, n_candidates=4, sampler_class=Listening, **kwargs):
    """Return a fitted search and what its sampler heard."""
    samplers = []

    def scheduler(space, random_state):
        samplers.append(sampler_class(space, random_state))
        return FullScheduler(samplers[0], n_candidates)

    kwargs = {"cv": 3, "random_state": 0, "refit": False} | kwargs
    search = SearchCV(estimator, space, scheduler=scheduler, **kwargs).fit(X, y)
    return search, samplers[0].heard


def test_noise_is_the_variance_of_the_mean_over_splits():
    search, heard = fitted(SGDClassifier(), {"alpha": uniform(0, 1)})
    table = search.cv_results_
    splits = np.array([table[f"split{i}_test_score"] for i in range(3)])
    scores, noise, seconds = np.array(heard).T
    np.testing.assert_allclose(scores, table["mean_test_score"])
    np.testing.assert_allclose(noise, splits.var(axis=0, ddof=1) / 3)
    np.testing.assert_allclose(seconds, 3 * table["mean_fit_time"])


def test_noise_is_over_splits_and_repeats():
    score = {"accuracy": "accuracy", "f1": "f1_macro"}
    search, heard = fitted(
        SGDClassifier(max_iter=1, tol=None),
        {"alpha": uniform(0, 1)},
        n_repeats=4,
        cv=ShuffleSplit(1, random_state=0),
        scoring=score,
        refit="f1",
    )
    told, noise, _ = np.array(heard).T
    np.testing.assert_allclose(told, search.cv_results_["mean_test_f1"])
    assert (noise > 0).any()


def test_noise_of_a_single_fit_and_of_a_failed_one_is_unknown():
    _, heard = fitted(Scripted(), {"i": [1, 2]}, cv=ShuffleSplit(1, random_state=0))
    assert [noise for _, noise, _ in heard] == [None, None]
    with pytest.warns(FitFailedWarning, match="3 of 6 fits failed"):
        _, heard = fitted(Scripted(), {"act": ["nothing", "out_of_memory"]})
    assert sorted(noise is None for _, noise, _ in heard) == [False, True]
    with pytest.warns(FitFailedWarning, match="3 of 6 fits failed"):
        _, heard = fitted(Scripted(), {"act": ["nothing", "out_of_memory"]}, error_score=-1.0)
    assert [noise for _, noise, _ in heard] == [0.0, 0.0]


def test_a_resumed_search_hears_what_the_journal_says(tmp_path):
    case = SGDClassifier(), {"alpha": uniform(0, 1)}
    _, first = fitted(*case, journal=tmp_path / "a")
    _, again = fitted(*case, journal=tmp_path / "a")
    assert again == first
    _, warm = fitted(*case, warm_start_from=tmp_path / "a")
    assert warm[:4] == first


def test_an_earlier_search_is_heard_by_the_metric_that_guides_this_one(tmp_path):
    case = SGDClassifier(max_iter=2, tol=None), {"alpha": uniform(0, 1)}
    scoring = {"accuracy": "accuracy", "f1": "f1_macro"}
    first, _ = fitted(*case, journal=tmp_path / "a", scoring=scoring, refit="f1")
    _, by_f1 = fitted(*case, warm_start_from=tmp_path / "a", scoring=scoring, refit="f1")
    _, by_first = fitted(*case, warm_start_from=tmp_path / "a")
    for heard, name in ((by_f1, "f1"), (by_first, "accuracy")):
        scores = [score for score, _, _ in heard[:4]]
        np.testing.assert_allclose(scores, first.cv_results_[f"mean_test_{name}"])


def test_a_sampler_that_takes_neither_is_refused_before_training():
    class Deaf(RandomSampler):
        def observe(self, params, score, resource):
            raise AssertionError("is not told")

    with pytest.raises(TypeError, match=r"Deaf\.observe.*add '\*, noise=None, seconds=None'"):
        fitted(Scripted(), {"i": [1, 2]}, sampler_class=Deaf)

    class Any(Listening):
        def observe(self, params, score, resource, **more):
            self.heard.append(more.keys())

    assert fitted(Scripted(), {"i": [1, 2]}, sampler_class=Any)[1][0] == {"noise", "seconds"}
