"""The simplest row that is about as good as the best."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from skhpo import SearchCV, TorchClassifier
from skhpo.model_selection import one_standard_error
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)


def grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def table(scores, **columns):
    scores = np.array(scores, dtype=float)
    splits = {f"split{i}_test_score": column for i, column in enumerate(scores.T)}
    params = [{"row": row} for row in range(len(scores))]
    return {**splits, "mean_test_score": scores.mean(axis=1), "params": params, **columns}


SIZES = {"param_size": np.ma.array([4, 3, 2, 1])}


def test_the_smallest_of_those_that_are_as_good():
    # Behind the best by 0; by 0.01 +- 0.01; by 0.1 in each split; by 0.1 on average, with luck.
    best = [0.9, 0.7, 0.8]
    rows = [best, [0.87, 0.7, 0.8], [0.8, 0.6, 0.7], [0.55, 0.75, 0.8]]
    rule = one_standard_error("size")
    assert rule(table(rows, **SIZES)) == 3
    assert rule(table(rows[:3], param_size=np.ma.array([4, 3, 2]))) == 1


def test_splits_are_compared_in_pairs():
    # The splits differ by far more than the rows, which differ by the same in each split.
    rows = [[0.9, 0.5], [0.89, 0.49]]
    assert one_standard_error("size")(table(rows, param_size=np.ma.array([2, 1]))) == 0


def test_of_equal_complexity_the_better_one():
    rows = [[0.8, 0.9], [0.81, 0.9], [0.7, 0.99]]
    sizes = {"param_size": np.ma.array([1, 1, 2])}
    assert one_standard_error("size")(table(rows, **sizes)) == 1


def test_a_function_of_parameters_and_a_column():
    rows = [[0.8, 0.9], [0.81, 0.9]]
    assert one_standard_error(lambda params: -params["row"])(table(rows)) == 1
    times = {"mean_fit_time": np.array([1.0, 9.0])}
    assert one_standard_error("mean_fit_time")(table(rows, **times)) == 0


def test_rows_that_failed_cannot_win():
    rows = [[np.nan, 0.9], [0.8, 0.9]]
    assert one_standard_error("size")(table(rows, param_size=np.ma.array([1, 2]))) == 1


def test_where_no_row_has_all_splits_those_with_most_are_compared():
    nan = np.nan
    scores = [[0.9, 0.8, nan], [0.88, 0.82, nan], [0.99, nan, nan]]
    rule = one_standard_error("size")
    found = table(scores, size=np.array([3, 2, 1]))
    assert rule({**found, "n_splits_done": np.array([2, 2, 1])}) == 1
    scores = [[0.9, nan, nan], [0.88, nan, nan]]
    found = table(scores, size=np.array([2, 1]))
    assert rule({**found, "n_splits_done": np.array([1, 1])}) == 0


def test_only_the_largest_subsamples_may_win():
    rows = [[0.8, 0.9], [0.8, 0.9]]
    levels = {"n_resources": np.array([10, 30]), "param_size": np.ma.array([1, 1])}
    assert one_standard_error("size")(table(rows, **levels)) == 1
    epochs = {**levels, "param_max_epochs": np.ma.array([10, 30])}
    assert one_standard_error("max_epochs")(table(rows, **epochs)) == 0


@pytest.mark.parametrize("kind", ["bare", "pipeline"])
def test_the_size_of_networks_is_noted_by_our_searches(kind):
    net = TorchClassifier(max_epochs=20, lr=0.02, random_state=0)
    space = {"module__n_units": [64, 4, 16]}
    if kind == "pipeline":
        net = make_pipeline(StandardScaler(), net)
        space = {f"torchclassifier__{name}": values for name, values in space.items()}
    search = SearchCV(
        net, space, scheduler=grid, refit=one_standard_error(), cv=3, n_repeats=2
    ).fit(X, y)
    sizes = search.cv_results_["split0_n_parameters_"]
    assert (np.argsort(sizes) == [1, 2, 0]).all()
    assert "split3_n_parameters_" not in search.cv_results_
    assert search.best_index_ == one_standard_error()(search.cv_results_)
    fitted = search.best_estimator_[-1] if kind == "pipeline" else search.best_estimator_
    assert fitted.n_parameters_ == sizes[search.best_index_]
    assert pickle.loads(pickle.dumps(search)).best_index_ == search.best_index_


def test_scikit_learns_search_takes_it():
    search = GridSearchCV(
        DecisionTreeClassifier(random_state=0),
        {"max_depth": [8, 3, 1]},
        refit=one_standard_error("max_depth"),
    )
    assert search.fit(X, y).best_params_ == {"max_depth": 3}


def test_what_cannot_be_compared_is_said():
    with pytest.raises(TypeError, match="complexity must be the name"):
        one_standard_error(3)
    one_split = table([[0.8]], param_size=np.ma.array([1]))
    with pytest.raises(ValueError, match="two splits at least"):
        one_standard_error("size")(one_split)
    with pytest.raises(ValueError, match="'width' is none"):
        one_standard_error("width")(table([[0.8, 0.9]], **SIZES))
    words = {"param_kernel": np.ma.array(["a"], dtype=object)}
    with pytest.raises(ValueError, match="complexity must be a number"):
        one_standard_error("kernel")(table([[0.8, 0.9]], **words))
    two = {**table([[0.8, 0.9]], **SIZES), "mean_test_other": np.array([1.0])}
    with pytest.raises(ValueError, match="which score counts"):
        one_standard_error("size")(two)
    masked = {"param_size": np.ma.array([1.0], mask=[True])}
    with pytest.raises(ValueError, match="must be known of every row"):
        one_standard_error("size")(table([[0.8, 0.9]], **masked))


def test_an_attribute_that_estimators_lack_ends_the_search():
    search = SearchCV(SVC(), {"C": [1, 2]}, scheduler=grid, refit=one_standard_error())
    with pytest.raises(ValueError, match="'n_parameters_' of a fitted SVC is None"):
        search.fit(X, y)
