"""HalvingHyperbandSearchCV from outside: rungs, continuing, the winner, bad input."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_iris, make_classification, make_regression
from sklearn.decomposition import NMF
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback

from skhpo import HalvingHyperbandSearchCV, TorchClassifier
from skhpo.exceptions import SearchStoppedWarning
from skhpo.schedulers import hyperband_plan
from skhpo.testing import EXPECTED_FAILED_CHECKS

X, y = load_iris(return_X_y=True)
EPOCHS = []


class Counting(ClassifierMixin, BaseEstimator):
    """Counts the epochs that it is trained; scores its quality, seen ever more clearly."""

    def __init__(self, quality=0.0, max_epochs=10, fails_from=np.inf):
        self.quality = quality
        self.max_epochs = max_epochs
        self.fails_from = fails_from

    def fit(self, X, y):
        self.epochs_ = 0
        return self.partial_fit(X, y)

    def partial_fit(self, X, y):
        EPOCHS.append(self.max_epochs)
        self.classes_ = np.unique(y)
        self.epochs_ += self.max_epochs
        if self.epochs_ >= self.fails_from:
            raise RuntimeError("diverged")
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        return self.quality * self.epochs_


@pytest.fixture(autouse=True)
def _no_epochs_yet():
    EPOCHS.clear()


def frame(search):
    return pd.DataFrame(search.cv_results_)


def counting_search(**kwargs):
    kwargs = {"max_resources": 9, "cv": 2, "random_state": 0} | kwargs
    return HalvingHyperbandSearchCV(Counting(), {"quality": uniform(0, 1)}, **kwargs)


def test_epochs_trained_are_the_sum_over_rungs():
    search = counting_search(max_resources=27, refit=False).fit(X, y)
    plan = hyperband_plan(1, 27, 3, "all")
    expected = sum(
        n * (level - before)
        for bracket in plan
        for (n, level), before in zip(bracket, [0, *(r for _, r in bracket)], strict=False)
    )
    assert sum(EPOCHS) == 2 * expected
    rows = (
        frame(search)
        .groupby(["bracket", "iter"])
        .agg(n=("candidate", "size"), r=("n_resources", "first"))
    )
    assert [
        [(row.n, row.r) for row in rungs.itertuples()] for _, rungs in rows.groupby("bracket")
    ] == [list(map(tuple, bracket)) for bracket in plan]


def test_the_best_of_a_rung_go_on_and_the_best_at_the_end_wins():
    search = counting_search().fit(X, y)
    results = frame(search)
    for (bracket, rung), rows in results.groupby(["bracket", "iter"]):
        above = (results["bracket"] == bracket) & (results["iter"] == rung + 1)
        promoted = results.loc[above, "candidate"]
        best = rows.sort_values("mean_test_score", ascending=False)["candidate"][: len(promoted)]
        assert set(promoted) == set(best)
    assert search.best_index_ == results["mean_test_score"].idxmax()
    assert search.best_params_ == search.cv_results_["params"][search.best_index_]
    assert search.best_params_["max_epochs"] == 9
    assert type(search.best_params_["quality"]) is float
    assert type(search.best_params_["max_epochs"]) is int
    assert search.best_estimator_.epochs_ == 9


def test_the_best_may_be_one_that_was_better_after_fewer_epochs():
    def early(estimator, X, y):
        return -estimator.epochs_ + estimator.quality

    search = counting_search(scoring=early).fit(X, y)
    results = frame(search)
    assert search.best_index_ == results["mean_test_score"].idxmax()
    assert search.best_params_["max_epochs"] == search.best_estimator_.epochs_ == 1
    top = search.top_estimators(3)
    best = results.groupby("candidate")["mean_test_score"].max().nlargest(3).index
    quality = results.groupby("candidate")["param_quality"].first()
    assert [e.quality for e in top] == quality[best].tolist()
    assert [e.epochs_ for e in top] == results.loc[
        [results.loc[results["candidate"] == c, "mean_test_score"].idxmax() for c in best],
        "n_resources",
    ].tolist()


def test_of_subsamples_the_best_is_among_the_largest():
    def less(estimator, X, y):
        return -float(estimator.tree_.n_node_samples[0])

    search = HalvingHyperbandSearchCV(
        DecisionTreeClassifier(),
        {"max_depth": [1, 2, 3, 4, 5]},
        resource="n_samples",
        cv=2,
        scoring=less,
        random_state=0,
        min_resources=25,
        max_resources=75,
    ).fit(X, y)
    table = search.cv_results_
    assert table["n_resources"][search.best_index_] == 75
    assert search.best_score_ < table["mean_test_score"].max()
    with pytest.raises(ValueError, match=rf"1 <= n <= {(table['n_resources'] == 75).sum()}"):
        search.top_estimators(100)


def test_columns_open_in_pandas():
    results = frame(counting_search(return_train_score=True).fit(X, y))
    for name in (
        "iter",
        "n_resources",
        "bracket",
        "candidate",
        "param_quality",
        "param_max_epochs",
    ):
        assert name in results
    assert results["n_resources"].equals(results["param_max_epochs"].astype(int))
    assert results["split1_train_score"].notna().all()


def test_brackets_and_iterations():
    some = frame(counting_search(n_brackets=1).fit(X, y))
    assert set(some["bracket"]) == {0}
    twice = frame(counting_search(n_iterations=2).fit(X, y))
    assert set(twice["bracket"]) == set(range(6))
    assert (
        twice["candidate"].nunique()
        == 2 * frame(counting_search().fit(X, y))["candidate"].nunique()
    )


def test_a_finite_space_is_never_tried_twice():
    search = HalvingHyperbandSearchCV(
        Counting(), {"quality": [0.1, 0.2, 0.3, 0.4]}, max_resources=9, cv=2, random_state=0
    ).fit(X, y)
    results = frame(search)
    assert results["candidate"].nunique() == results["param_quality"].nunique() == 4
    assert search.best_params_["quality"] == 0.4


def test_failures_are_never_promoted():
    space = {"quality": uniform(0, 1), "fails_from": [1, np.inf]}
    search = HalvingHyperbandSearchCV(Counting(), space, max_resources=9, cv=2, random_state=1)
    with pytest.warns(FitFailedWarning, match=r"(?s)fits failed.*diverged"):
        search.fit(X, y)
    results = frame(search)
    failed = results[results["mean_test_score"].isna()]
    assert len(failed) > 0
    assert not set(failed["candidate"]) & set(results[results["iter"] > 0]["candidate"])


def test_a_candidate_that_fails_late_does_not_win():
    space = {"quality": [0.1, 0.2, 0.9], "fails_from": [9]}
    search = HalvingHyperbandSearchCV(
        Counting(), space, max_resources=9, cv=2, n_brackets=1, refit=False, random_state=0
    )
    with pytest.warns(FitFailedWarning, match="diverged"):
        search.fit(X, y)
    assert search.cv_results_["n_resources"][search.best_index_] == 3
    assert np.isfinite(search.best_score_)


@pytest.mark.parametrize(
    ("estimator", "space", "resource"),
    [
        (SGDClassifier(), {"alpha": loguniform(1e-5, 1e-1)}, "max_iter"),
        (RandomForestClassifier(), {"max_depth": randint(1, 8)}, "n_estimators"),
        (
            make_pipeline(StandardScaler(), SGDClassifier()),
            {"sgdclassifier__alpha": loguniform(1e-5, 1e-1)},
            "sgdclassifier__max_iter",
        ),
        (LogisticRegression(), {"C": loguniform(1e-3, 1e3)}, "n_samples"),
    ],
    ids=["sgd", "forest", "pipeline", "samples"],
)
def test_the_same_whatever_n_jobs(estimator, space, resource):
    limits = (
        {"min_resources": 9, "max_resources": 27}
        if resource == "n_samples"
        else {"max_resources": 9}
    )
    results = [
        frame(
            HalvingHyperbandSearchCV(
                estimator, space, resource=resource, n_jobs=n_jobs, cv=3, random_state=5, **limits
            ).fit(X, y)
        )
        for n_jobs in (1, 2)
    ]
    a, b = (r[[c for c in r if not c.endswith("_time")]] for r in results)
    pd.testing.assert_frame_equal(a, b)


class Fitted(TransformerMixin, BaseEstimator):
    """A transformer that counts its fits, and gives other rows in fit_transform."""

    fits = []

    def __init__(self, shift=0.0):
        self.shift = shift

    def fit(self, X, y=None):
        Fitted.fits.append((self.shift, len(X)))
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X + self.shift

    def fit_transform(self, X, y=None):
        return self.fit(X).transform(X) + 100


class SeesRows(Counting):
    def partial_fit(self, X, y):
        assert X.min() > 50, "fit_transform's result is what the last step is trained on"
        return super().partial_fit(X, y)


def test_transformers_are_fitted_once_per_split_and_setting():
    Fitted.fits.clear()
    pipeline = Pipeline([("shift", Fitted()), ("net", SeesRows())])
    space = {"net__quality": uniform(0, 1), "shift__shift": [0.0, 1.0]}
    search = HalvingHyperbandSearchCV(
        pipeline,
        space,
        resource="net__max_epochs",
        max_resources=9,
        cv=3,
        random_state=0,
        refit=False,
    ).fit(X, y)
    assert search.cv_results_["iter"].max() == 2
    assert sorted(Fitted.fits) == [(0.0, 100)] * 3 + [(1.0, 100)] * 3


def test_a_transformer_that_fails_fails_its_candidates_only():
    pipeline = make_pipeline(StandardScaler(), SGDClassifier())
    space = {
        "standardscaler": [StandardScaler(), BrokenScaler()],
        "sgdclassifier__alpha": uniform(0, 1),
    }
    search = HalvingHyperbandSearchCV(
        pipeline, space, resource="sgdclassifier__max_iter", max_resources=3, cv=2, random_state=0
    )
    with pytest.warns(FitFailedWarning, match="broken scaler"):
        search.fit(X, y)
    assert isinstance(search.best_params_["standardscaler"], StandardScaler)
    assert not isinstance(search.best_params_["standardscaler"], BrokenScaler)


class BrokenScaler(StandardScaler):
    def fit(self, X, y=None, sample_weight=None):
        raise RuntimeError("broken scaler")


def test_samples_as_a_resource_grow_and_keep_every_class():
    seen = []

    class Sees(LogisticRegression):
        def fit(self, X, y, sample_weight=None):
            seen.append((len(X), len(np.unique(y)), len(sample_weight)))
            return super().fit(X, y, sample_weight)

    data, target = make_classification(
        300, n_classes=3, n_informative=5, weights=[0.9, 0.07, 0.03], random_state=0
    )
    search = HalvingHyperbandSearchCV(
        Sees(),
        {"C": loguniform(1e-3, 1e3)},
        resource="n_samples",
        min_resources=10,
        max_resources="auto",
        cv=3,
        refit=False,
        random_state=0,
    )
    search.fit(data, target, sample_weight=np.ones(300))
    assert {n for n, _, _ in seen} == set(search.cv_results_["n_resources"]) == {22, 66, 200}
    assert {n_classes for _, n_classes, _ in seen} == {3}
    assert all(n == n_weights for n, _, n_weights in seen)
    assert "n_samples" not in search.best_params_


def test_boosting_regression_and_all_rows_scored():
    data, target = make_regression(80, 4, random_state=0)
    search = HalvingHyperbandSearchCV(
        GradientBoostingRegressor(),
        {"max_depth": [1, 2, 3]},
        resource="n_estimators",
        max_resources=9,
        cv=2,
        random_state=0,
    ).fit(data, target)
    assert search.best_estimator_.n_estimators_ == 9


def test_several_metrics_and_what_is_promoted():
    def quality(estimator, X, y):
        return {"up": estimator.quality, "down": -estimator.quality}

    up = counting_search(scoring=quality, refit="up").fit(X, y)
    down = counting_search(scoring=quality, refit="down").fit(X, y)
    assert up.best_params_["quality"] > down.best_params_["quality"]
    assert up.multimetric_

    def last(results):
        return len(results["params"]) - 1

    by_hand = counting_search(scoring=quality, refit=last).fit(X, y)
    assert by_hand.best_index_ == len(by_hand.cv_results_["params"]) - 1
    assert not hasattr(by_hand, "best_score_")


def test_callbacks_of_scikit_learn_see_every_fit():
    class Recorder:
        def __init__(self):
            self.names = []

        def setup(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            self.names.append("teardown")

        def on_fit_task_begin(self, estimator, context):
            if context.task_name == "search":
                self.total = context.max_subtasks

        def on_fit_task_end(self, estimator, context):
            self.names.append(context.task_name)

    recorder = Recorder()
    search = counting_search().set_callbacks(recorder).fit(X, y)
    n_fits = 2 * len(search.cv_results_["params"])
    assert recorder.names.count("candidate-split-evaluation") == n_fits == recorder.total
    assert recorder.names[-4:] == ["search", "refit-with-best-params", "fit", "teardown"]


def test_scoring_monitor_does_not_get_in_the_way():
    monitor = ScoringMonitor(scoring="accuracy")
    HalvingHyperbandSearchCV(
        SGDClassifier(), {"alpha": uniform(0, 1)}, resource="max_iter", max_resources=3, cv=2
    ).set_callbacks(monitor).fit(X, y)


def test_verbose_shows_how_far_it_is(capsys):
    search = counting_search(verbose=1).fit(X, y)
    lines = capsys.readouterr().err.splitlines()
    n_fits = 2 * len(search.cv_results_["params"])
    assert lines[-1].startswith(f"{n_fits}/{n_fits} fits, 0:00:00 left")
    assert len(lines) <= 10
    counting_search().fit(X, y)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"param_distributions": {"qualty": [1]}}, "no parameter 'qualty'; did you mean 'quality'"),
        ({"param_distributions": {}}, "at least one parameter"),
        ({"param_distributions": []}, "at least one parameter"),
        ({"param_distributions": {"quality": []}}, "quality"),
        (
            {"param_distributions": {"quality": [1], "max_epochs": [2]}},
            "it is in the space; take it out",
        ),
        ({"resource": "max_iter"}, "no parameter 'max_iter'"),
        ({"param_distributions": {"quality__x": [1]}}, "no parameter 'quality__x'"),
        ({"resource": "net__max_epochs"}, "did you mean 'max_epochs'"),
        ({"min_resources": 10}, r"min_resources.*max_resources.*10.*9"),
        ({"min_resources": 0}, "min_resources"),
        ({"factor": 1}, "factor"),
        ({"n_brackets": 0}, "n_brackets"),
        ({"n_brackets": 7}, "n_brackets"),
        ({"n_iterations": 0}, "n_iterations"),
        ({"resource": "n_samples", "max_resources": 1000, "min_resources": 10}, "1000 and 75 rows"),
        (
            {"resource": "n_samples", "max_resources": 60, "min_resources": 1},
            "min_resources=1 and 3 classes",
        ),
        ({"n_jobs": 0}, "n_jobs == 0"),
        ({"cv": 1}, "n_splits"),
        ({"scoring": "acuracy"}, "scoring"),
        ({"scoring": ["accuracy", "f1_macro"]}, "refit"),
    ],
    ids=str,
)
def test_bad_input_is_told_before_any_training(change, message):
    with pytest.raises(ValueError, match=message):
        counting_search().set_params(**change).fit(X, y)
    assert EPOCHS == []


class CountEpochs(Callback):
    def on_epoch_end(self, net, **kwargs):
        EPOCHS.append(1)


def torch_net():
    return TorchClassifier(module__n_units=4, callbacks=[CountEpochs])


def skorch_net():
    return NeuralNetClassifier(
        torch.nn.Linear,
        module__in_features=4,
        module__out_features=3,
        criterion=torch.nn.CrossEntropyLoss,
        train_split=None,
        verbose=0,
        callbacks=[CountEpochs],
    )


@pytest.mark.parametrize(
    ("estimator", "prefix"),
    [
        (TorchClassifier(module__n_units=4, callbacks=[CountEpochs]), ""),
        (
            make_pipeline(StandardScaler(), TorchClassifier(callbacks=[CountEpochs])),
            "torchclassifier__",
        ),
        (Pipeline([("net", torch_net())]), "net__"),
        (skorch_net(), ""),
        (make_pipeline(StandardScaler(), skorch_net()), "neuralnetclassifier__"),
    ],
    ids=[
        "torch",
        "torch in a pipeline",
        "torch alone in a pipeline",
        "skorch",
        "skorch in a pipeline",
    ],
)
def test_nets_are_continued(estimator, prefix):
    search = HalvingHyperbandSearchCV(
        estimator,
        {prefix + "lr": loguniform(1e-3, 1e-1)},
        resource=prefix + "max_epochs",
        max_resources=9,
        n_brackets=1,
        cv=2,
        refit=False,
        random_state=0,
    )
    search.fit(X.astype(np.float32), y.astype(np.int64))
    assert len(EPOCHS) == 2 * (9 * 1 + 3 * 2 + 1 * 6)


class Pressed(NeuralNetClassifier):
    def notify(self, method_name, **kwargs):
        super().notify(method_name, **kwargs)
        if method_name == "on_batch_begin":
            EPOCHS.append(1)
            if len(EPOCHS) == 5:
                raise KeyboardInterrupt


def test_ctrl_c_over_a_net_of_skorch():
    params = skorch_net().get_params(deep=False) | {"callbacks": None}
    kwargs = {"max_resources": 3, "cv": 2, "enqueue": (), "random_state": 0}
    search = HalvingHyperbandSearchCV(Pressed(**params), {"lr": loguniform(1e-3, 1e-1)}, **kwargs)
    with pytest.warns(SearchStoppedWarning, match="interrupted"):
        search.fit(X.astype(np.float32), y.astype(np.int64))
    assert len(search.cv_results_["params"]) == 2


def test_a_resource_of_a_transformer_is_trained_again():
    pipeline = make_pipeline(MinMaxScaler(clip=True), NMF(2, init="random"), LogisticRegression())
    search = HalvingHyperbandSearchCV(
        pipeline,
        {"logisticregression__C": loguniform(1e-2, 1e2)},
        resource="nmf__max_iter",
        min_resources=20,
        max_resources=60,
        cv=2,
        random_state=0,
    ).fit(X, y)
    assert search.best_estimator_[1].max_iter == 60
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("prefix", ["", "sgdclassifier__"])
def test_the_refit_trains_as_long_as_what_was_scored(prefix):
    estimator = make_pipeline(StandardScaler(), SGDClassifier()) if prefix else SGDClassifier()
    search = HalvingHyperbandSearchCV(
        estimator,
        {prefix + "alpha": loguniform(1e-5, 1e-1)},
        resource=prefix + "max_iter",
        min_resources=9,
        cv=2,
        random_state=0,
    ).fit(X, y)
    best = search.best_estimator_[-1] if prefix else search.best_estimator_
    assert best.t_ == 1 + search.best_params_[prefix + "max_iter"] * len(y)
    assert isinstance(best.random_state, int)
    assert search.score(X, y) > 0.8


def test_samples_as_a_resource_by_themselves():
    search = HalvingHyperbandSearchCV(
        GaussianNB(),
        {"var_smoothing": loguniform(1e-9, 1)},
        resource="n_samples",
        n_brackets=1,
        cv=3,
        random_state=0,
    ).fit(X, y)
    assert search.cv_results_["n_resources"].min() == 11
    assert search.cv_results_["n_resources"].max() == 100


def test_splits_may_be_ranges():
    search = counting_search(cv=[(range(0, 150, 2), range(1, 150, 2))]).fit(X, y)
    assert search.n_splits_ == 1


def test_data_without_rows_are_refused():
    with pytest.raises(TypeError, match=r"splits X by rows.* it holds a dict"):
        counting_search().fit({"a": {"b": X}}, y)
    with pytest.raises(ValueError, match=r"same number of rows.*'a': 150, 'b': 3"):
        counting_search().fit({"a": X, "b": X[:3]}, y)
    with pytest.raises(TypeError, match="is a TensorDataset"):
        counting_search().fit(torch.utils.data.TensorDataset(torch.ones(3, 2)), None)


def test_an_unknown_metric_of_a_callable_is_told_after_the_first_rung():
    calls = []

    def quality(estimator, X, y):
        calls.append(1)
        return {"up": estimator.quality, "down": -estimator.quality}

    with pytest.raises(ValueError, match="refit"):
        counting_search(scoring=quality, refit="sideways", enqueue=()).fit(X, y)
    assert len(calls) == 2 * 9


class Wide(torch.nn.Module):
    def __init__(self, in_features, out_features, width=4):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(in_features, width), torch.nn.Linear(width, out_features)
        )

    def forward(self, x):
        return self.layers(x)


def test_names_that_come_with_a_choice():
    pipeline = Pipeline([("scale", StandardScaler()), ("net", TorchClassifier())])
    space = [
        {"net__module": [Wide], "net__module__width": [2, 8]},
        {"net__module__n_units": [2, 8], "net__lr": [0.1]},
    ]
    kwargs = {"resource": "net__max_epochs", "max_resources": 3, "cv": 2, "random_state": 0}
    search = HalvingHyperbandSearchCV(pipeline, space, **kwargs).fit(X, y)
    assert {*map(len, search.cv_results_["params"])} == {4}  # with epochs and average
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    wrongs = (
        {"net__module__width": [2]},
        {"net__module": [Wide], "net__module__widht": [2]},
        {"net__module": [Wide, torch.nn.Linear], "net__module__width": [2]},
    )
    for wrong in wrongs:
        with pytest.raises(ValueError, match="no parameter 'net__module__wid"):
            HalvingHyperbandSearchCV(pipeline, wrong, **kwargs).fit(X, y)


def test_x_and_y_of_different_length():
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[150, 149\]"):
        counting_search().fit(X, y[:-1])
    assert EPOCHS == []


def test_a_class_that_a_training_part_lacks_is_a_warning():
    rare = np.where(np.arange(len(y)) == 0, 9, y)
    even, odd = np.arange(0, 150, 2), np.arange(1, 150, 2)
    splits = [(odd, even), (even, odd)]
    with pytest.warns(UserWarning, match=r"split 0 lacks the classes \[9\]"):
        counting_search(cv=splits).fit(X, rare)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:Scoring failed:UserWarning")
@pytest.mark.parametrize(
    ("estimator", "space"),
    [(RidgeClassifier(), {"alpha": [0.1, 1.0]}), (Ridge(), {"alpha": [0.1, 1.0]})],
    ids=["classifier", "regressor"],
)
def test_contract_of_scikit_learn(estimator, space):
    search = HalvingHyperbandSearchCV(
        estimator,
        space,
        resource="max_iter",
        min_resources=100,
        max_resources=300,
        n_brackets=1,
        cv=2,
        random_state=0,
    )
    expected = EXPECTED_FAILED_CHECKS.get("HalvingHyperbandSearchCV", {})
    check_estimator(search, expected_failed_checks=expected, on_skip=None)
