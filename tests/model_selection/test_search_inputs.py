"""What a search is given: whatever GridSearchCV takes has the scores that it has there."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.exceptions import DataConversionWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch.helper import SliceDataset, SliceDict

from skhpo import HalvingHyperbandSearchCV, SearchCV, TorchClassifier, TorchRegressor
from skhpo.rows import Inputs
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X, y = load_iris(return_X_y=True)


def whole_grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def grid(estimator, space, *data, **kwargs):
    return SearchCV(estimator, space, scheduler=whole_grid, random_state=0, **kwargs).fit(*data)


def scores(search):
    return search.cv_results_["mean_test_score"]


def assert_like_grid_search(estimator, space, *data, **kwargs):
    ours = grid(estimator, space, *data, **kwargs)
    theirs = GridSearchCV(estimator, space, **kwargs).fit(*data)
    np.testing.assert_allclose(scores(ours), scores(theirs))
    return ours


def net(**kwargs):
    return TorchClassifier(max_epochs=2, lr=0.05, random_state=0, **kwargs)


@pytest.mark.parametrize("convert", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array])
def test_sparse_rows_score_as_dense_ones(convert):
    space = {"lr": [0.05, 0.2]}
    dense = grid(net(), space, X, y, cv=3, lockstep=True, return_train_score=True)
    search = grid(net(), space, convert(X), y, cv=3, lockstep=True, return_train_score=True)
    np.testing.assert_allclose(scores(search), scores(dense))
    np.testing.assert_allclose(
        search.cv_results_["mean_train_score"], dense.cv_results_["mean_train_score"]
    )


def test_texts_become_sparse_rows_in_a_pipeline():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    words = ["red", "blue", "green", "gold"]
    texts = [" ".join(rng.choice(words[k : k + 3], 5)) for k in labels]
    pipeline = make_pipeline(TfidfVectorizer(), net())
    for lockstep in (False, True):
        search = grid(
            pipeline, {"torchclassifier__lr": [0.1, 0.3]}, texts, labels, lockstep=lockstep
        )
        other = GridSearchCV(pipeline, {"torchclassifier__lr": [0.1, 0.3]}).fit(texts, labels)
        np.testing.assert_allclose(scores(search), scores(other))


@pytest.mark.parametrize("kind", ["sparse", "nullable", "one-hot", "lazy"])
def test_frames_and_lazy_rows(kind):
    frame = pd.DataFrame(X.astype(np.float32)).add_prefix("c")
    estimator, labels = net(), y
    if kind == "sparse":
        frame = frame.astype(pd.SparseDtype("float32", 0))
    elif kind == "nullable":
        frame, labels = frame.astype("Float64"), pd.Series(y, dtype="Int64")
    elif kind == "one-hot":
        frame = frame.assign(c0=np.where(frame["c0"] > 5.8, "long", "short"))
        onehot = make_column_transformer(
            (OneHotEncoder(), ["c0"]), remainder="passthrough", sparse_threshold=1
        )
        estimator = make_pipeline(onehot, estimator)
    else:
        rows = torch.utils.data.TensorDataset(torch.tensor(frame.values), torch.as_tensor(y))
        frame, labels = SliceDataset(rows, idx=0), SliceDataset(rows, idx=1)
    prefix = "torchclassifier__" if kind == "one-hot" else ""
    space = {prefix + "lr": [0.05], prefix + "max_epochs": [4]}
    kwargs = {"cv": 3, "scoring": "neg_log_loss"}
    expected = GridSearchCV(estimator, space, **kwargs).fit(frame, labels)
    for lockstep in (False, True):
        search = grid(estimator, space, frame, labels, lockstep=lockstep, **kwargs)
        np.testing.assert_allclose(scores(search), scores(expected), rtol=1e-4)


class TwoInputs(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.of_numbers = torch.nn.Linear(3, width)
        self.of_codes = torch.nn.Embedding(10, width)
        self.out = torch.nn.Linear(width, 2)

    def forward(self, num, code):
        return self.out(torch.relu(self.of_numbers(num) + self.of_codes(code)))


class SeesTypes:
    """A callback of scikit-learn that notes what the data of fits are."""

    def __init__(self):
        self.types = set()

    def setup(self, estimator, context):
        pass

    teardown = setup

    def on_fit_task_begin(self, estimator, context, *, X=None):
        if X is not None:
            self.types.add(type(X))

    on_fit_task_end = on_fit_task_begin


@pytest.mark.parametrize("wrap", [lambda net: net, make_pipeline])
def test_a_dict_of_arrays_is_split_by_rows(wrap):
    rng = np.random.default_rng(0)
    parts = {"num": rng.normal(size=(60, 3)), "code": rng.integers(0, 10, 60)}
    labels = (parts["code"] > 4).astype(int)
    estimator = wrap(net(module=TwoInputs))
    prefix = "" if wrap is not make_pipeline else "torchclassifier__"
    space = {prefix + "module__width": [2, 4]}
    expected = GridSearchCV(estimator, space, cv=3).fit(SliceDict(**parts), labels)
    seen = []

    def accuracy(estimator, X, y):
        seen.append(type(X))
        return estimator.score(X, y)

    frame = {"num": pd.DataFrame(parts["num"]), "code": torch.as_tensor(parts["code"])}
    for given in (SliceDict(**parts), parts, frame):
        search = grid(estimator, space, given, labels, cv=3, scoring=accuracy)
        np.testing.assert_allclose(scores(search), scores(expected))
        np.testing.assert_array_equal(search.predict(given), expected.predict(SliceDict(**parts)))
        assert {*seen} == {type(given)}
        del seen[:]
    assert len(search.top_estimators(2, parts, labels)) == 2
    callback = SeesTypes()
    search.set_callbacks(callback).fit(parts, labels)
    assert callback.types == {dict}
    search = HalvingHyperbandSearchCV(
        estimator, space, resource="n_samples", max_resources=30, cv=3, random_state=0
    ).fit(parts, labels, **{prefix + "sample_weight": np.ones(60)})
    assert search.cv_results_["n_resources"].max() == 30
    with pytest.raises(ValueError, match="X is a dict"):
        grid(estimator, space, parts, labels, lockstep=True)
    travelled = pickle.loads(pickle.dumps(Inputs(parts)[10:20]))
    np.testing.assert_array_equal(travelled["num"], parts["num"][10:20])


class TakesTwo(ClassifierMixin, BaseEstimator):
    """Takes a list of two arrays, as Keras' models do."""

    def __init__(self, k=1):
        self.k = k

    def fit(self, X, y):
        assert type(X) is list
        self.n_rows_ = [len(one) for one in X]
        return self

    def score(self, X, y):
        assert type(X) is list
        assert [len(one) for one in X] == [len(y)] * 2
        return float((X[0][:, 0] == X[1][:, 0]).all())


def test_a_list_of_as_many_arrays_as_inputs_and_not_as_samples():
    search = grid(TakesTwo(), {"k": [1, 2]}, [X, X[:, :1]], y, cv=3)
    assert scores(search).tolist() == [1, 1]
    assert search.best_estimator_.n_rows_ == [150, 150]
    for samples in ([X[0], X[1]], list(X[:149])):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            grid(TakesTwo(), {"k": [1]}, samples, y)


class ReturnsNothing(LogisticRegression):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)


class NoTarget(ClassifierMixin, BaseEstimator):
    def __init__(self, k=1):
        self.k = k

    def fit(self, X):
        self.mean_ = X.mean()
        return self

    def score(self, X, y=None):
        return float(self.k * (X.mean() - self.mean_))


class MakesItsTargets(TorchRegressor):
    """Learns to return its inputs."""

    def fit(self, X, y=None):
        return super().fit(X, X)

    def score(self, X, y=None):
        return super().score(X, X)


def test_fit_may_return_nothing_and_take_no_target():
    search = assert_like_grid_search(ReturnsNothing(max_iter=300), {"C": [0.1, 1]}, X, y)
    assert search.best_estimator_.score(X, y) > 0.9
    assert_like_grid_search(NoTarget(), {"k": [1, 2]}, X)
    with pytest.raises(ValueError, match=r"^SGDClassifier requires y to be passed"):
        grid(make_pipeline(SGDClassifier()), {"sgdclassifier__alpha": [1.0]}, X)
    network = make_pipeline(StandardScaler(), TorchClassifier())
    with pytest.raises(ValueError, match=r"^TorchClassifier requires y to be passed"):
        grid(network, {"torchclassifier__lr": [0.1]}, X)
    clusters = make_pipeline(StandardScaler(), KMeans(n_init=1, random_state=0))
    assert_like_grid_search(clusters, {"kmeans__n_clusters": [2, 3]}, X)
    decoder = MakesItsTargets(max_epochs=1, random_state=0)
    assert_like_grid_search(decoder, {"lr": [0.1, 0.01]}, X)
    piped = make_pipeline(StandardScaler(), decoder)
    assert_like_grid_search(piped, {"makesitstargets__lr": [0.1, 0.01]}, X)


def test_a_column_of_labels_is_a_list_of_labels():
    kwargs = {"max_resources": 9, "cv": 3, "random_state": 0, "refit": True}
    for resource in ("n_samples", "max_iter"):
        flat, column = (
            HalvingHyperbandSearchCV(
                SGDClassifier(random_state=0),
                {"alpha": [1e-4, 1e-3, 1e-2]},
                resource=resource,
                **kwargs,
            )
            for _ in range(2)
        )
        flat.fit(X, y)
        with pytest.warns(DataConversionWarning):
            column.fit(X, y.reshape(-1, 1))
        np.testing.assert_array_equal(scores(column), scores(flat))
        np.testing.assert_array_equal(column.predict(X), flat.predict(X))


def test_parts_of_splits_may_be_masks_and_slices():
    test = np.arange(150) % 3 == 0
    expected = scores(
        grid(LogisticRegression(max_iter=300), {"C": [1.0]}, X, y, cv=[(~test, test)])
    )
    numbers = np.flatnonzero(~test), np.flatnonzero(test)
    for split in (
        numbers,
        ((~test).tolist(), pd.Series(test)),
        (numbers[0] - 150, slice(0, None, 3)),
    ):
        search = grid(LogisticRegression(max_iter=300), {"C": [1.0]}, X, y, cv=[split])
        np.testing.assert_array_equal(scores(search), expected)
    for wrong in (np.ones(10, dtype=bool), [150], [0.5]):
        with pytest.raises(IndexError, match="must yield row numbers of X, which has 150 rows"):
            grid(LogisticRegression(), {"C": [1.0]}, X, y, cv=[(wrong, numbers[1])])
