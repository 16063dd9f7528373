"""Networks whose number of parameters breaks a constraint are not trained, whoever makes them."""

import warnings

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from skhpo import KerasClassifier, SearchCV
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler
from skhpo.scorers import n_parameters

X = np.random.RandomState(0).normal(size=(40, 3)).astype(np.float32)
TARGETS = {
    "binary": np.arange(40) % 2,
    "three classes": np.arange(40) % 3,
    "three labels": np.random.RandomState(1).randint(0, 2, (40, 3)),
    "a number": X[:, 0],
    "two numbers": X[:, :2],
}


def grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def table_of(estimator, space, y, most):
    search = SearchCV(
        estimator,
        space,
        scheduler=grid,
        constraints={"n_parameters": (None, most)},
        refit=False,
        cv=2,
        random_state=0,
        error_score="raise",
    )
    with warnings.catch_warnings(action="ignore"):
        return search.fit(X, y).cv_results_


@pytest.mark.parametrize("kind", list(TARGETS))
def test_multilayer_perceptrons_of_scikit_learn(kind):
    y = TARGETS[kind]
    made = []

    class Counted(MLPRegressor if "number" in kind else MLPClassifier):
        def fit(self, X, y):
            made.append(self.hidden_layer_sizes)
            return super().fit(X, y)

    net = make_pipeline(PolynomialFeatures(2), Counted(max_iter=1, random_state=0))
    sizes = [(2,), (40, 7), 60]
    table = table_of(net, {"counted__hidden_layer_sizes": sizes}, y, 60)
    assert set(made) == {(2,)}
    np.testing.assert_array_equal(table["feasible"], [True, False, False])
    expected = []
    for size in sizes:
        net.set_params(counted__hidden_layer_sizes=size)
        with warnings.catch_warnings(action="ignore"):
            expected.append(n_parameters(net.fit(X, y)))
    np.testing.assert_array_equal(table["constraint_n_parameters"], expected)


@pytest.mark.xdist_group("keras")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_keras_models():
    made = []

    class Counted(KerasClassifier):
        def fit(self, X, y, **fit_params):
            made.append(self.n_units)
            return super().fit(X, y, **fit_params)

    net = Counted(n_layers=1, epochs=1, random_state=0)
    table = table_of(net, {"n_units": [4, 100]}, TARGETS["three classes"], 100)
    assert set(made) == {4}
    units = np.array([4, 100])
    np.testing.assert_array_equal(table["constraint_n_parameters"], 4 * units + 3 * (units + 1))
    np.testing.assert_array_equal(table["feasible"], units < 100)
