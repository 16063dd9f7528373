"""The best candidates of a search, fitted when they are asked for."""

import gc
import pickle

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skhpo import HalvingHyperbandSearchCV, SearchCV, TorchClassifier
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X, y = make_classification(n_samples=80, n_features=5, flip_y=0.2, random_state=0)
X = X.astype(np.float32)


class Counting(DecisionTreeClassifier):
    """Notes every fit on all data."""

    fits = []

    def fit(self, X, y, sample_weight=None):
        if len(X) == 80:
            self.fits.append((self.max_depth, sample_weight is not None))
        return super().fit(X, y, sample_weight=sample_weight)


def grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def search_of(estimator=None, space=None, **kwargs):
    kwargs = {"cv": 2, "random_state": 0, **kwargs}
    space = space or {"max_depth": [1, 2, 3, 4]}
    return SearchCV(estimator or Counting(), space, scheduler=grid, **kwargs)


@pytest.fixture(autouse=True)
def _no_fits():
    Counting.fits.clear()


def by_score(search):
    order = np.argsort(-search.cv_results_["mean_test_score"], kind="stable")
    return [search.cv_results_["params"][row]["max_depth"] for row in order]


def test_the_best_come_first_and_are_fitted_once():
    search = search_of().fit(X, y)
    Counting.fits.clear()
    assert search.top_estimators(1) == [search.best_estimator_]
    assert Counting.fits == []
    top = search.top_estimators(3)
    assert [estimator.max_depth for estimator in top] == by_score(search)[:3]
    assert top[0] is search.best_estimator_
    assert len(Counting.fits) == 2
    again = search.top_estimators(4)
    assert all(a is b for a, b in zip(again, top, strict=False))
    assert len(Counting.fits) == 3
    search.fit(X, y)
    assert search.top_estimators(2)[1] is not top[1]


def test_without_refit_the_first_is_fitted_too():
    search = search_of(refit=False).fit(X, y)
    assert Counting.fits == []
    assert [estimator.max_depth for estimator in search.top_estimators(2)] == by_score(search)[:2]


def test_the_metric_is_the_one_that_refit_names_and_a_callable_choice_comes_first():
    scoring = {"depth": lambda e, X, y: e.max_depth, "shallow": lambda e, X, y: -e.max_depth}
    depths = {}
    for refit in ("depth", "shallow", lambda table: 2):
        search = search_of(scoring=scoring, refit=refit).fit(X, y)
        depths[str(refit)[:5]] = [e.max_depth for e in search.top_estimators(4)]
    assert list(depths.values()) == [[4, 3, 2, 1], [1, 2, 3, 4], [3, 4, 2, 1]]


@pytest.mark.parametrize("make", [TorchClassifier, SGDClassifier])
def test_each_candidate_at_its_best_resource_and_as_the_refit_would_be(make):
    resource = "max_epochs" if make is TorchClassifier else "max_iter"
    name = "lr" if make is TorchClassifier else "alpha"
    model = make_pipeline(StandardScaler(), make())
    step = model.steps[-1][0]
    search = HalvingHyperbandSearchCV(
        model,
        {f"{step}__{name}": loguniform(1e-4, 1e-1)},
        resource=f"{step}__{resource}",
        max_resources=4,
        factor=2,
        cv=2,
        random_state=0,
    ).fit(X, y)
    table = search.cv_results_
    n = len(set(table["candidate"]))
    top = search.top_estimators(2)
    with pytest.raises(ValueError, match=rf"1 <= n <= {n}, the number of candidates"):
        search.top_estimators(n + 1)
    second = top[1].get_params()
    (row,) = np.flatnonzero(
        (table[f"param_{step}__{name}"] == second[f"{step}__{name}"])
        & (table["n_resources"] == second[f"{step}__{resource}"])
    )
    first = table["candidate"] == table["candidate"][search.best_index_]
    assert table["mean_test_score"][row] == table["mean_test_score"][~first].max()
    chosen = clone(search).set_params(refit=lambda table: row).fit(X, y).best_estimator_
    output = "predict_proba" if make is TorchClassifier else "decision_function"
    np.testing.assert_array_equal(getattr(chosen, output)(X), getattr(top[1], output)(X))


def test_data_that_nobody_keeps_must_be_given_again():
    own, labels = X.copy(), y.copy()
    search = search_of().fit(own, labels)
    kept = search.top_estimators(2)
    copy = pickle.loads(pickle.dumps(search))
    assert [e.max_depth for e in copy.top_estimators(2)] == [e.max_depth for e in kept]
    for gone in (copy, search):
        if gone is search:
            del own, labels
            gc.collect()
        with pytest.raises(ValueError, match=r"give them: top_estimators\(n, X, y\)"):
            gone.top_estimators(3)
        assert len(gone.top_estimators(3, X, y)) == 3
    listed = search_of().fit(X.tolist(), y)
    with pytest.raises(ValueError, match="give them"):
        listed.top_estimators(2)


def test_what_fit_got_besides_is_used():
    weight = np.ones(len(X))
    search = search_of().fit(X, y, sample_weight=weight)
    Counting.fits.clear()
    search.top_estimators(2)
    assert Counting.fits[0][1]
    search.top_estimators(3, X, y, sample_weight=weight)
    assert Counting.fits[1][1]


def test_errors():
    with pytest.raises(NotFittedError):
        search_of().top_estimators(1)
    search = search_of().fit(X, y)
    for n in (0, 5, 1.5, "all", True):
        with pytest.raises(ValueError, match="1 <= n <= 4"):
            search.top_estimators(n)
