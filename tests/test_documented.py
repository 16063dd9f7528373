"""Every attribute that a fit leaves is in the docstring of its class."""

import numpy as np
import pytest
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_iris

from skhpo import (
    BayesSearchCV,
    HalvingHyperbandSearchCV,
    HarmonicaSearchCV,
    SearchCV,
    SelfTuningClassifier,
    SelfTuningRegressor,
    SelfTuningSearchCV,
    TorchClassifier,
    TorchRegressor,
)
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)
NET = TorchClassifier(max_epochs=1, lr_scheduler="cosine", validation_fraction=0.2)
SPACE = {"lr": [0.1, 0.05], "batch_size": [16, 32]}
DECAY = {"optimizer__weight_decay": loguniform(1e-6, 1)}
NOISE = {"input_noise": uniform(0, 1)}


def two(space, random_state):
    return FullScheduler(RandomSampler(space, random_state), 2)


@pytest.mark.parametrize(
    "search",
    [
        SearchCV(NET, SPACE, scheduler=two, cv=2),
        HalvingHyperbandSearchCV(NET, SPACE, max_resources=2, factor=2, cv=2),
        BayesSearchCV(NET, SPACE, n_iter=2, cv=2),
        HarmonicaSearchCV(NET, SPACE, n_samples=4, n_stages=1, n_terms=1, n_iter=1, cv=2),
        SelfTuningSearchCV(TorchClassifier(max_epochs=2, optimizer="adam"), DECAY, cv=2),
    ],
    ids=lambda search: type(search).__name__,
)
def test_searches(search, undocumented):
    assert undocumented(search.fit(X, y)) == set()


@pytest.mark.parametrize(
    "estimator",
    [
        NET,
        TorchRegressor(max_epochs=1, validation_fraction=0.2),
        SelfTuningClassifier(hyperparameters=NOISE, max_epochs=2, warmup_epochs=1, refit="final"),
        SelfTuningRegressor(hyperparameters=NOISE, max_epochs=2, warmup_epochs=1),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_estimators(estimator, undocumented):
    assert undocumented(estimator.fit(X, y)) == set()
