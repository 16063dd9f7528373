"""Searches with a log, and what it must hold."""

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from skhpo import HalvingHyperbandSearchCV, SearchCV, TensorBoardLogger
from skhpo.samplers import GridSampler, RandomSampler
from skhpo.schedulers import FullScheduler

X, y = make_classification(n_samples=60, n_features=5, random_state=0)
X = X.astype(np.float32)


class Untrainable(SVC):
    def fit(self, X, y):
        raise ValueError("trained")


def four(space, random_state):
    return FullScheduler(RandomSampler(space, random_state), n_candidates=4)


def all_of_them(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def search_of(log_dir, estimator=None, space=None, scheduler=four, **kwargs):
    kwargs = {"cv": 2, "random_state": 0, "callbacks": [TensorBoardLogger(log_dir)], **kwargs}
    estimator = estimator or DecisionTreeClassifier()
    return SearchCV(estimator, space or {"max_depth": [1, 2, 3, 4]}, scheduler=scheduler, **kwargs)


def hyperband(log_dir, estimator, space, **kwargs):
    kwargs = {
        "max_resources": 4,
        "factor": 2,
        "cv": 2,
        "random_state": 0,
        "callbacks": [TensorBoardLogger(log_dir)],
        **kwargs,
    }
    return HalvingHyperbandSearchCV(estimator, space, **kwargs)


def assert_rows_are_the_table(log, search, resource=None):
    """A session per row of cv_results_, with its parameters and its scores."""
    table = search.cv_results_
    assert len(log.rows) == len(table["params"])
    for number, row in enumerate(log.rows):
        assert row.name.startswith(f"trial-{number:04}")
        assert row.params == pytest.approx(table["params"][number])
        for tag in log.metrics:
            assert row.metrics[tag] == pytest.approx(table[tag][number], rel=1e-6)
        scalars = log.scalars[row.name]
        step = 0 if resource is None else table["n_resources"][number]
        for split in range(search.n_splits_):
            expected = np.float32(table[f"split{split}_test_score"][number])
            assert scalars[f"test_score/split{split}"] == [(step, expected)]
