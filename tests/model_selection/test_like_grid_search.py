"""Under a scheduler that runs a grid the shared loop does what GridSearchCV does."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.datasets import load_iris, make_classification, make_regression
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, ParameterGrid, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator

from skhpo import SearchCV
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X, y = load_iris(return_X_y=True)


def whole_grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def both(estimator, grid, X, y, fit_params=None, **kwargs):
    theirs = GridSearchCV(estimator, grid, **kwargs).fit(X, y, **(fit_params or {}))
    ours = SearchCV(estimator, grid, scheduler=whole_grid, **kwargs).fit(X, y, **(fit_params or {}))
    return ours, theirs


def assert_same(ours, theirs):
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    for name, expected in theirs.cv_results_.items():
        got = ours.cv_results_[name]
        assert len(got) == len(expected)
        if name.endswith("_time"):
            assert (np.asarray(got) >= 0).all()
        elif name == "params":
            assert got == expected
        elif name.startswith("param_"):
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(got, expected)
        else:
            assert got.dtype == expected.dtype
            np.testing.assert_allclose(got, expected)
    for name in ("best_index_", "best_score_", "best_params_", "n_splits_", "multimetric_"):
        assert hasattr(ours, name) == hasattr(theirs, name)
        if hasattr(theirs, name):
            np.testing.assert_equal(getattr(ours, name), getattr(theirs, name))
    pd.DataFrame(ours.cv_results_)


def scores_as_dict(estimator, X, y):
    accuracy = accuracy_score(y, estimator.predict(X))
    return {"accuracy": accuracy, "error": 1 - accuracy}


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"cv": 3, "return_train_score": True},
        {"scoring": "f1_macro"},
        {"scoring": ["accuracy", "f1_macro"], "refit": "f1_macro"},
        {"scoring": ["accuracy", "f1_macro"], "refit": False},
        {"scoring": scores_as_dict, "refit": "accuracy"},
        {"scoring": make_scorer(accuracy_score), "refit": lambda results: 2},
        {"cv": ShuffleSplit(n_splits=2, random_state=0)},
        {"refit": False},
    ],
    ids=lambda kwargs: ", ".join(kwargs) or "defaults",
)
def test_cv_results_are_those_of_grid_search(kwargs):
    ours, theirs = both(SVC(), {"C": [0.01, 1, 100], "kernel": ["linear", "rbf"]}, X, y, **kwargs)
    assert_same(ours, theirs)
    if theirs.refit:
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
        assert ours.score(X, y) == theirs.score(X, y)


def test_a_list_of_dicts():
    grid = [{"kernel": ["linear"], "C": [1, 10]}, {"kernel": ["rbf"], "gamma": [0.1, 1.0]}]
    assert_same(*both(SVC(), grid, X, y))


def test_a_pipeline_and_choices_that_are_estimators():
    pipeline = make_pipeline(StandardScaler(), SVC())
    grid = {"standardscaler": ["passthrough", StandardScaler()], "svc__C": [0.1, 1]}
    ours, theirs = both(pipeline, grid, X, y)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )
    assert repr(ours.best_params_) == repr(theirs.best_params_)


def test_another_last_step_brings_its_own_parameters():
    pipeline = make_pipeline(StandardScaler(), SVC())
    space = [
        {"svc": [DecisionTreeClassifier(random_state=0)], "svc__max_depth": [1, 3]},
        {"svc": [SVC()], "svc__C": [1, 10]},
    ]
    ours, theirs = both(pipeline, space, X, y)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )


def test_groups_are_for_the_splitter():
    groups = np.arange(len(y)) % 7
    kwargs = {"cv": GroupKFold(3), "fit_params": {"groups": groups}}
    assert_same(*both(SVC(), {"C": [0.01, 1]}, X, y, **kwargs))


def test_sample_weight_goes_to_fit_and_scorer():
    weight = np.random.default_rng(0).uniform(0, 5, len(y)) * (np.arange(len(y)) % 3 == 0)
    grid = {"C": [0.001, 0.01]}
    ours, theirs = both(LogisticRegression(), grid, X, y, fit_params={"sample_weight": weight})
    assert_same(ours, theirs)
    unweighted, _ = both(LogisticRegression(), grid, X, y)
    assert not np.allclose(
        ours.cv_results_["mean_test_score"], unweighted.cv_results_["mean_test_score"]
    )


def test_sample_weight_of_a_pipeline_step():
    weight = np.random.default_rng(0).uniform(0, 5, len(y))
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    params = {"standardscaler__sample_weight": weight, "logisticregression__sample_weight": weight}
    grid = {"logisticregression__C": [0.001, 0.01]}
    assert_same(*both(pipeline, grid, X, y, fit_params=params))


def test_metadata_routing():
    weight = np.random.default_rng(0).uniform(0, 5, len(y))
    groups = np.arange(len(y)) % 7
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=True),
            LogisticRegression().set_fit_request(sample_weight=True),
        )
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        assert_same(
            *both(
                pipeline,
                {"logisticregression__C": [0.001, 0.01]},
                X,
                y,
                scoring=scorer,
                cv=GroupKFold(3),
                fit_params={"sample_weight": weight, "groups": groups},
            )
        )


def test_precomputed_kernels_are_split_on_both_axes():
    K = X @ X.T
    assert_same(*both(SVC(kernel="precomputed"), {"C": [0.01, 1]}, K, y))


def test_regression_with_several_targets_and_a_frame():
    data, target = make_regression(60, 4, n_targets=2, random_state=0)
    frame = pd.DataFrame(data, columns=list("abcd"))
    ours, theirs = both(Ridge(), {"alpha": [0.1, 1.0]}, frame, target)
    assert_same(ours, theirs)
    assert list(ours.feature_names_in_) == list("abcd")
    assert ours.n_features_in_ == 4


def test_without_a_target():
    from sklearn.neighbors import KernelDensity

    ours, theirs = both(KernelDensity(), {"bandwidth": [0.3, 1.0]}, X, None)
    assert_same(ours, theirs)


@pytest.mark.parametrize("error_score", [np.nan, 0.25])
def test_a_failing_fit_scores_error_score_and_warns_once(error_score):
    grid = {"C": [-1.0, 1.0]}
    kwargs = {"scheduler": whole_grid, "error_score": error_score}
    with pytest.warns(
        FitFailedWarning, match=r"(?s)5 of 10 fits failed.*must be a float"
    ) as warned:
        search = SearchCV(SVC(), grid, **kwargs).fit(X, y)
    assert len(warned) == 1
    scores = search.cv_results_["mean_test_score"]
    np.testing.assert_equal(scores[0], error_score)
    assert search.best_index_ == 1
    np.testing.assert_array_equal(search.cv_results_["rank_test_score"], [2, 1])


def test_a_failing_fit_can_raise():
    with pytest.raises(ValueError, match="'C' parameter of SVC"):
        SearchCV(SVC(), {"C": [-1.0]}, scheduler=whole_grid, error_score="raise").fit(X, y)


def test_all_fits_failing_raises():
    with pytest.raises(ValueError, match=r"(?s)All the 5 fits failed.*'C' parameter of SVC"):
        SearchCV(SVC(), {"C": [-1.0]}, scheduler=whole_grid).fit(X, y)


def test_one_metric_failing_leaves_the_others():
    def broken(estimator, X, y):
        raise RuntimeError("no such luck")

    scoring = {"good": make_scorer(accuracy_score), "bad": broken}
    search = SearchCV(SVC(), {"C": [1.0]}, scheduler=whole_grid, scoring=scoring, refit="good")
    with pytest.warns(UserWarning, match=r"(?s)Scoring failed in 5 of 5 fits.*no such luck"):
        search.fit(X, y)
    assert search.best_score_ > 0.9
    assert np.isnan(search.cv_results_["mean_test_bad"]).all()


def test_a_score_that_is_no_number():
    search = SearchCV(
        SVC(), {"C": [1.0]}, scheduler=whole_grid, scoring=lambda estimator, X, y: [1, 2]
    )
    with pytest.raises(ValueError, match="scoring must return a number"):
        search.fit(X, y)


def test_arguments_are_left_alone_and_the_search_is_cloned_and_pickled():
    import pickle

    estimator = DecisionTreeClassifier()
    grid = {"max_depth": [1, 2]}
    search = SearchCV(estimator, grid, scheduler=whole_grid)
    search.fit(X, y)
    assert search.estimator is estimator
    assert estimator.random_state is None
    assert not hasattr(estimator, "tree_")
    assert grid == {"max_depth": [1, 2]}
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict(X), search.predict(X))
    assert sklearn.clone(search).get_params()["estimator__max_depth"] is None


@pytest.mark.parametrize("n_jobs", [2])
def test_the_same_whatever_n_jobs(n_jobs):
    data, target = make_classification(200, random_state=0)
    grid = {"max_features": [1, 2, 3], "min_samples_leaf": [1, 2]}
    searches = [
        SearchCV(
            DecisionTreeClassifier(), grid, scheduler=whole_grid, n_jobs=jobs, random_state=3
        ).fit(data, target)
        for jobs in (1, n_jobs)
    ]
    assert_same(*searches)
    np.testing.assert_array_equal(*(search.predict(data) for search in searches))


def test_seeds_differ_between_candidates_and_splits_and_searches():
    class Seeds(DecisionTreeClassifier):
        def score(self, X, y, sample_weight=None):
            return float(self.random_state)

    grid = {"max_depth": [1, 2, 3]}

    def seeds(random_state):
        search = SearchCV(
            Seeds(), grid, scheduler=whole_grid, cv=2, random_state=random_state, refit=False
        )
        results = search.fit(X, y).cv_results_
        return {*results["split0_test_score"], *results["split1_test_score"]}

    assert len(seeds(0)) == 6
    assert seeds(0) == seeds(0)
    assert not seeds(0) & seeds(1)


def test_a_seed_of_the_user_is_kept():
    search = SearchCV(
        DecisionTreeClassifier(random_state=7), {"max_depth": [1]}, scheduler=whole_grid
    )
    assert search.fit(X, y).best_estimator_.random_state == 7


def test_grid_order():
    grid = {"b": [1, 2], "a": ["x", "y"]}
    from skhpo import SearchSpace

    space = SearchSpace(grid)
    assert GridSampler(space).sample(4) == list(ParameterGrid(grid))


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:Scoring failed:UserWarning")
def test_contract_of_scikit_learn():
    search = SearchCV(Ridge(), {"alpha": [1.0]}, scheduler=whole_grid, cv=2)
    check_estimator(search, on_skip=None)
