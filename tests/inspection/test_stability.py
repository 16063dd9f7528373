"""Rank correlations of explanations, between configurations, seeds and splits."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import SearchCV, TorchClassifier, TorchRegressor
from skhpo.inspection import explanation_stability
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X = np.random.RandomState(0).normal(size=(60, 5))
COEF = np.array([5.0, 4, 3, 2, 1])
y = X @ COEF


def grid(space, random_state):
    return FullScheduler(GridSampler(space), space.size)


class Given(RegressorMixin, BaseEstimator):
    """A linear model with given coefficients, which its seed shuffles where it is told to."""

    def __init__(self, backwards=False, shuffled=False, random_state=None):
        self.backwards = backwards
        self.shuffled = shuffled
        self.random_state = random_state

    def fit(self, X, y):
        self.coef_ = COEF[::-1] if self.backwards else COEF
        if self.shuffled:
            self.coef_ = np.random.RandomState(self.random_state).permutation(COEF)
        return self

    def predict(self, X):
        return X @ self.coef_


def fitted(estimator, space, **kwargs):
    kwargs = {"cv": KFold(3), "keep_models": 9, "random_state": 0, **kwargs}
    return SearchCV(estimator, space, scheduler=grid, **kwargs).fit(X, y)


def of_kind(found, name="correlation"):
    return dict(zip(found.summary["kind"], found.summary[name], strict=True))


def test_a_configuration_that_explains_the_other_way_round():
    search = fitted(Given(), {"backwards": [False, True]}, n_repeats=2)
    # Of a target that all features are in alike, importances are the coefficients.
    new = np.random.RandomState(1).normal(size=(3000, 5))
    found = explanation_stability(search, new, new.sum(axis=1), rows=[0, 1])
    known = of_kind(found)
    assert known["seed"] == pytest.approx(1)
    assert known["split"] == pytest.approx(1)
    assert known["configuration"] < -0.7
    # Two rows, three splits, two repeats.
    assert of_kind(found, "n_pairs") == {"configuration": 12, "seed": 6, "split": 12}
    assert found.explanations.shape == (12, 5)
    assert found.rows.tolist() == [0, 1]


def test_a_seed_that_explains_otherwise_is_the_baseline():
    found = explanation_stability(
        fitted(Given(shuffled=True), {"backwards": [False, True]}, n_repeats=4),
        X,
        y,
        rows=[0, 1],
    )
    known = of_kind(found)
    assert known["seed"] < 0.6
    assert known["configuration"] == pytest.approx(known["seed"], abs=0.35)


def test_only_rows_that_are_as_good_as_the_best_are_compared():
    search = fitted(Given(), {"backwards": [False, True]})
    found = explanation_stability(search, X, y)
    assert found.rows.tolist() == [0]
    known = of_kind(found)
    assert np.isnan(known["configuration"])
    assert np.isnan(known["seed"])
    assert known["split"] == pytest.approx(1)
    assert np.argsort(-found.features["importance"]).tolist() == [0, 1, 2, 3, 4]


class Line(torch.nn.Module):
    def __init__(self, n_inputs=5, n_outputs=1):
        super().__init__()
        self.line = torch.nn.Linear(n_inputs, n_outputs)

    def forward(self, x):
        return self.line(x)


def test_gradients_of_a_linear_network_are_its_weights():
    net = TorchRegressor(Line, max_epochs=2, device="cpu")
    search = fitted(net, {"lr": [0.01, 0.02]})
    found = explanation_stability(search, X.astype(np.float32), method="gradient", rows=[0, 1])
    weights = [
        np.abs(net.module_.line.weight.detach().numpy()[0])
        for row in found.rows
        for net in search.kept_models(row)
    ]
    np.testing.assert_allclose(found.explanations[:, 7], weights, rtol=1e-5)
    at = {tuple(fit): i for i, fit in enumerate(found.fits.tolist())}
    table = found.table
    for i, correlation in enumerate(table["correlation"]):
        a, b = (
            at[tuple(table[f"{name}_{end}"][i] for name in ("row", "split", "repeat"))]
            for end in "ab"
        )
        assert correlation == pytest.approx(spearmanr(weights[a], weights[b]).statistic)


def test_classifiers_in_a_pipeline():
    X, y = load_iris(return_X_y=True)
    net = TorchClassifier(max_epochs=3, device="cpu")
    search = SearchCV(
        make_pipeline(StandardScaler(), net),
        {"torchclassifier__lr": [0.01, 0.1]},
        scheduler=grid,
        cv=2,
        keep_models=2,
        random_state=0,
    ).fit(X, y)
    found = explanation_stability(search, X, method="gradient", rows=[0, 1])
    assert found.explanations.shape == (4, 150, 4)
    assert (found.explanations >= 0).all()
    assert found.explanations.any(axis=(1, 2)).all()
    assert of_kind(found, "n_pairs") == {"configuration": 2, "seed": 0, "split": 2}


def test_what_it_cannot_explain():
    search = fitted(Ridge(), {"alpha": [1.0, 2.0]})
    with pytest.raises(ValueError, match="needs y of as many rows, 60"):
        explanation_stability(search, X)
    with pytest.raises(TypeError, match="needs torch networks"):
        explanation_stability(search, X, method="gradient")
    with pytest.raises(ValueError, match="from 0 to 1"):
        explanation_stability(search, X, y, rows=[2])
    with pytest.raises(TypeError, match="of skhpo"):
        explanation_stability(GridSearchCV(Ridge(), {"alpha": [1]}), X, y)
    with pytest.raises(NotFittedError):
        explanation_stability(SearchCV(Ridge(), {"alpha": [1]}, scheduler=grid), X, y)
    search = fitted(Ridge(), {"alpha": [1.0, 2.0]}, keep_models=1)
    lost = 1 - search.models_.rows[0]
    with pytest.raises(ValueError, match="are not kept"):
        explanation_stability(search, X, y, rows=[lost])
    search = fitted(Ridge(), {"alpha": [1.0, 2.0]}, keep_models=0)
    with pytest.raises(ValueError, match="set keep_models"):
        explanation_stability(search, X, y)
