"""What would fail every fit of a network is told before the first of them."""

import numpy as np
import pytest
from sklearn.metrics import make_scorer, precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, TorchClassifier, TorchRegressor

X = np.random.default_rng(0).normal(size=(30, 3))
Y = np.arange(30) % 3
WORDS = np.array(["a", "b", "c"])[Y]


class NeverFitted(TorchClassifier):
    def _fit(self, *args, **kwargs):
        pytest.fail("was fitted")


class NeverFittedRegressor(TorchRegressor):
    def _fit(self, *args, **kwargs):
        pytest.fail("was fitted")


@pytest.mark.parametrize(
    ("estimator", "X", "y", "fit_params", "message"),
    [
        (NeverFitted(), X[:, 0], Y, {}, "Expected 2D array, got 1D array"),
        (NeverFittedRegressor(), X, WORDS, {}, "not compatible with arrays of bytes/strings"),
        (make_pipeline(StandardScaler(), NeverFittedRegressor()), X, WORDS, {}, "bytes/strings"),
        (NeverFitted(), X, Y, {"sample_weight": np.ones(7)}, r"must have shape \(30,\).* \(7,\)"),
        (NeverFitted(), X, X[:, 0].round(5), {}, "Unknown label type"),
        (NeverFitted(epochs=3), X, Y, {}, "Invalid parameter 'epochs'"),
        (
            make_pipeline(StandardScaler(), NeverFitted()),
            X,
            Y,
            {"neverfitted__sample_weight": -np.ones(30)},
            "sample_weight must be >= 0",
        ),
    ],
)
def test_told_before_the_first_fit(estimator, X, y, fit_params, message):
    name = "lr" if isinstance(estimator, TorchClassifier | TorchRegressor) else None
    name = name or f"{estimator.steps[-1][0]}__lr"
    search = BayesSearchCV(estimator, {name: [0.1, 0.01]}, n_iter=2, cv=2)
    with pytest.raises(ValueError, match=message):
        search.fit(X, y, **fit_params)


def test_what_the_search_sets_is_not_for_fit():
    search = HalvingHyperbandSearchCV(NeverFitted(), {"lr": [0.1, 0.01]}, max_resources=2, cv=2)
    with pytest.raises(ValueError, match="'max_epochs', which is the resource that the search"):
        search.fit(X, Y, max_epochs=3)
    with pytest.raises(ValueError, match="'lr', which is in param_distributions"):
        search.fit(X, Y, lr=0.1)


def test_candidates_may_bring_what_is_missing():
    net = TorchClassifier(max_epochs=1, class_weight={9: 1}, module__n_units=3)
    space = {"class_weight": [None, "balanced"]}
    BayesSearchCV(net, space, n_iter=2, cv=2, error_score="raise").fit(X, Y)
    pipe = make_pipeline(TorchRegressor())
    space = {"torchregressor": [DecisionTreeClassifier(max_depth=d) for d in (1, 2)]}
    BayesSearchCV(pipe, space, n_iter=2, cv=2, error_score="raise").fit(X, WORDS)


def test_a_score_that_a_constant_lacks_is_one(blobs):
    X, y = blobs[0], (blobs[1] == 0).astype(int)
    rare = np.flatnonzero(y)
    train, test = np.r_[rare[:10], np.flatnonzero(y == 0)], rare[10:]
    # NaN where no row is predicted to be of class 1, as by the constant that is best.
    precise = make_scorer(precision_score, zero_division=np.nan)
    search = BayesSearchCV(
        TorchClassifier(lr=0.03, module__n_units=8),
        {"max_epochs": [20]},
        scoring=precise,
        cv=[(train, test)],
        n_iter=1,
        random_state=0,
    ).fit(X, y)
    assert search.cv_results_["mean_test_score"][0] == 1
    search.set_params(scoring="roc_auc")
    with pytest.raises(ValueError, match="no prediction has one"):
        search.fit(X, y)
