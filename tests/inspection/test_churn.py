"""Churn: what configurations disagree on, counted row by row, beside what seeds alone change."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit

from skhpo import SearchCV
from skhpo.inspection import ChurnDisplay, prediction_churn
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

N = 30
X = np.arange(N)[:, None]  # each row knows its number


def grid(space, random_state):
    return FullScheduler(GridSampler(space), space.size)


class Scripted(ClassifierMixin, BaseEstimator):
    """Predicts what a table says for each row of the data; its seed flips `n_random` rows."""

    def __init__(self, number=0, n_random=0, tables=None, random_state=None):
        self.number = number
        self.n_random = n_random
        self.tables = tables
        self.random_state = random_state

    def fit(self, X, y):
        self.classes_ = np.array(["a", "b", "c"])
        self.first_ = X[0, 0]
        return self

    def predict(self, X):
        table = np.array(self.tables[self.number])
        rng = np.random.RandomState(self.random_state)
        rows = np.arange(N)[: self.n_random]
        table[rows] = rng.randint(2, size=len(rows))
        return self.classes_[table[X[:, 0]]]


class Numbers(RegressorMixin, BaseEstimator):
    def __init__(self, number=0, tables=None):
        self.number = number
        self.tables = tables

    def fit(self, X, y):
        return self

    def predict(self, X):
        return self.tables[self.number][X[:, 0]]


def fitted(tables, true, cv=None, kind=Scripted, **kwargs):
    params = {"n_random": kwargs.pop("n_random")} if "n_random" in kwargs else {}
    search = SearchCV(
        kind(tables=tables, **params),
        {"number": list(range(len(tables)))},
        scheduler=grid,
        cv=cv or KFold(3),
        return_predictions=True,
        random_state=0,
        **kwargs,
    )
    return search.fit(X, true)


def by_row(found, name):
    """Return a matrix in the order of cv_results_."""
    order = np.argsort(found.rows)
    return found[name][np.ix_(order, order)]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=N, max_size=N), min_size=3, max_size=3))
def test_shares_are_those_counted_by_hand(tables):
    true = np.array([0, 1, 2] * (N // 3))
    labels = np.array(["a", "b", "c"])[true]
    found = prediction_churn(fitted(tables, labels))
    churn, both, one = (by_row(found, name) for name in ("churn", "both_wrong", "one_wrong"))
    for i, a in enumerate(np.array(tables)):
        for j, b in enumerate(np.array(tables)):
            if i == j:
                assert np.isnan(churn[i, j])
                continue
            np.testing.assert_allclose(churn[i, j], np.mean(a != b), atol=1e-12)
            np.testing.assert_allclose(both[i, j], np.mean((a != true) & (b != true)), atol=1e-12)
            np.testing.assert_allclose(one[i, j], np.mean((a != true) ^ (b != true)), atol=1e-12)
    assert (np.diff(found.scores) <= 0).all()
    assert len(found.table["churn"]) == 3
    assert np.isnan(found.baseline)
    assert np.isnan(found.fold_churn).all()


def test_seeds_are_the_baseline():
    tables = [[0, 1, 2] * (N // 3)] * 2
    true = np.array(["a", "b", "c"] * (N // 3))
    found = prediction_churn(fitted(tables, true, n_repeats=6, n_random=15))
    # Both are random about half of the rows, which half of the fits see otherwise.
    assert 0.15 < found.baseline < 0.35
    np.testing.assert_allclose(found.churn[0, 1], found.baseline, atol=0.08)
    np.testing.assert_allclose(
        found.table["excess"], found.churn[0, 1] - found.seed_churn.mean(), atol=1e-12
    )
    quiet = prediction_churn(fitted(tables, true, n_repeats=2))
    assert quiet.baseline == 0
    assert quiet.churn.max() == pytest.approx(0, abs=1e-12)


def test_folds_that_test_the_same_rows_are_compared():
    class ByFold(Scripted):
        def predict(self, X):
            return self.classes_[np.full(len(X), self.first_ % 2)]

    true = np.array(["a", "b", "c"] * (N // 3))
    cv = ShuffleSplit(6, test_size=0.5, random_state=0)
    search = fitted([[0]] * 2, true, cv=cv, kind=ByFold)
    firsts = [train[0] % 2 for train, _ in cv.split(X)]
    assert 0 < np.mean(firsts) < 1
    found = prediction_churn(search)
    assert (found.fold_churn > 0.2).all()
    np.testing.assert_allclose(found.churn[0, 1], 0, atol=1e-12)


def test_distances_of_numbers_are_in_units_of_the_residual():
    rng = np.random.RandomState(0)
    noise = np.linalg.qr(rng.normal(size=(N, 3)) - 0)[0].T * np.sqrt(N)
    true = np.arange(N, dtype=float) * 10
    tables = [true + noise[0], true + 3 * noise[1], true + noise[0] + 1e-3 * noise[2]]
    search = fitted(tables, true, kind=Numbers, scoring="neg_root_mean_squared_error")
    found = prediction_churn(search)
    churn = by_row(found, "churn")
    np.testing.assert_allclose(churn[0, 1], np.sqrt(2), rtol=1e-4)  # errors have nothing in common
    np.testing.assert_allclose(churn[0, 2], 1e-3, rtol=0.2)
    assert by_row(found, "error_correlation")[0, 2] > 0.99
    assert found.unit == "residual"
    assert "both_wrong" not in found


def test_some_rows_and_what_cannot_be_read():
    true = np.array(["a", "b", "c"] * (N // 3))
    tables = [[0] * N, [1] * N, [2] * N]
    search = fitted(tables, true)
    assert sorted(prediction_churn(search, [2, 0]).rows) == [0, 2]
    for rows, message in (
        ([0, 3], "from 0 to 2"),
        ([0, 0], "twice"),
        ([0, True], "integers"),
        ([1], "at least 2 rows"),
    ):
        with pytest.raises(ValueError, match=message):
            prediction_churn(search, rows)
    gone = SearchCV(Scripted(tables=tables), {"number": [0, 1]}, scheduler=grid, cv=KFold(3))
    gone.set_params(return_predictions=True, random_state=0).fit(X.copy(), true)
    assert len(prediction_churn(gone).rows) == 2  # X is gone, and is not needed
    with pytest.raises(ValueError, match="y must be what fit got"):
        prediction_churn(search, y=true[:5])
    search.set_params(return_predictions=False).fit(X, true)
    with pytest.raises(ValueError, match="set return_predictions=True"):
        prediction_churn(search)
    with pytest.raises(TypeError, match="of skhpo"):
        prediction_churn(GridSearchCV(LogisticRegression(), {"C": [1]}))
    with pytest.raises(NotFittedError):
        prediction_churn(SearchCV(LogisticRegression(), {"C": [1]}, scheduler=grid))


def test_the_picture_has_the_matrix_and_only_a_known_baseline():
    pytest.importorskip("matplotlib").use("Agg")
    true = np.array(["a", "b", "c"] * (N // 3))
    display = ChurnDisplay.from_search(fitted([[0] * N, [1] * N], true))
    assert display.image_.get_array().shape == (2, 2)
    assert "seeds" not in display.ax_.get_title()
    other = ChurnDisplay.from_search(fitted([[0] * N] * 2, true, n_repeats=2), ax=display.ax_)
    assert other.figure_ is display.figure_
    assert "seeds" in display.ax_.get_title()
