"""Searches with several objectives and with constraints."""

import math
import pickle
import warnings
from functools import wraps
from itertools import cycle

import numpy as np
import pytest
from joblib import parallel_config
from scipy.stats import uniform
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skhpo import (
    HalvingHyperbandSearchCV,
    HarmonicaSearchCV,
    SearchCV,
    TorchClassifier,
    read_journal,
)
from skhpo.exceptions import JournalError
from skhpo.inspection import read_search
from skhpo.model_selection import knee_point, one_standard_error, scalarize
from skhpo.objectives import hypervolume, pareto_ranks, promotion_order
from skhpo.samplers import BayesSampler, GridSampler, RandomSampler
from skhpo.schedulers import FullScheduler, Hyperband

X, Y = np.arange(40.0)[:, None], np.arange(40) % 2


class Traded(ClassifierMixin, BaseEstimator):
    """What is better in one score is worse in the other one."""

    def __init__(self, a=0.5, b=0.5, max_epochs=1):
        self.a = a
        self.b = b
        self.max_epochs = max_epochs

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.cost_ = 10 * self.a
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


def gain(estimator, X, y):
    return estimator.a - estimator.b**2 + 0.01 * estimator.max_epochs + 0.001 * len(X)


def saving(estimator, X, y):
    return math.nan if estimator.b > 0.9 else -(estimator.a**2)


def doubled(estimator):
    return 2 * estimator.cost_


SPACE = {"a": uniform(0, 1), "b": uniform(0, 1)}
SCORING = {"gain": gain, "saving": saving}


def hyperband(**kwargs):
    arguments = {
        "estimator": Traded(),
        "param_distributions": SPACE,
        "scoring": SCORING,
        "objectives": ["gain", "saving"],
        "refit": "gain",
        "max_resources": 9,
        "sampler": "random",  # how candidates are promoted is tested, not which are proposed
        "cv": 2,
        "random_state": 0,
        **kwargs,
    }
    return HalvingHyperbandSearchCV(**arguments)


@pytest.fixture(scope="module")
def fitted():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="One or more of the test scores are non-finite")
        return hyperband().fit(X, Y)


def values_of(search, names=("gain", "saving")):
    return np.column_stack([search.cv_results_[f"mean_test_{name}"] for name in names])


def test_the_front_is_of_all_rows_and_ordered_by_the_first_objective(fitted):
    values = values_of(fitted)
    ranks = pareto_ranks(values)
    np.testing.assert_array_equal(fitted.cv_results_["pareto_rank"], ranks)
    front = fitted.pareto_front_
    np.testing.assert_array_equal(np.sort(front), np.flatnonzero(ranks == 1))
    assert len(front) > 3
    assert (np.diff(values[front, 0]) <= 0).all()
    assert fitted.best_index_ == front[0]
    known = values[~np.isnan(values).any(axis=1)]
    assert len(known) < len(values)
    np.testing.assert_array_equal(fitted.reference_point_, known.min(axis=0))
    assert fitted.hypervolume_ == hypervolume(values, known.min(axis=0)) > 0


def test_each_rung_promotes_along_its_fronts(fitted):
    table, values = fitted.cv_results_, values_of(fitted)
    n_promoted = 0
    for bracket in np.unique(table["bracket"]):
        for rung in np.unique(table["iter"]):
            here = np.flatnonzero((table["bracket"] == bracket) & (table["iter"] == rung))
            above = (table["bracket"] == bracket) & (table["iter"] == rung + 1)
            order = [
                i for i in here[promotion_order(values[here])] if not np.isnan(values[i]).any()
            ]
            promoted = table["candidate"][above]
            expected = table["candidate"][order[: len(promoted)]]
            np.testing.assert_array_equal(promoted, expected)
            n_promoted += len(promoted)
    assert n_promoted


def test_top_estimators_are_spread_along_the_front(fitted):
    rows = fitted.cv_results_["params"]
    front = [rows[row] for row in fitted.pareto_front_]
    best, *more = fitted.top_estimators(4, X, Y)
    assert best is fitted.best_estimator_
    assert all({"a": net.a, "b": net.b, "max_epochs": net.max_epochs} in front for net in more)
    ends = {front[0]["a"], front[-1]["a"]}
    assert ends <= {best.a, *(net.a for net in more)}


def test_searches_are_the_same_for_any_number_of_workers_and_after_a_journal(fitted, tmp_path):
    path = tmp_path / "journal"
    for _ in range(2):
        with pytest.warns(UserWarning, match="non-finite"), parallel_config("threading"):
            again = hyperband(journal=path, n_jobs=2).fit(X, Y)
        for key in ("pareto_rank", "candidate", "mean_test_gain", "mean_test_saving"):
            np.testing.assert_array_equal(again.cv_results_[key], fitted.cv_results_[key])


def test_asynchronous_brackets_have_the_same_work(fitted):
    with pytest.warns(UserWarning, match="non-finite"):
        search = hyperband(asynchronous=True).fit(X, Y)
    for key in ("bracket", "iter"):
        found, expected = (np.sort(one.cv_results_[key]) for one in (search, fitted))
        np.testing.assert_array_equal(found, expected)
    assert (search.cv_results_["pareto_rank"][search.pareto_front_] == 1).all()


def test_a_missing_value_is_worse_than_everything(fitted):
    table = fitted.cv_results_
    lacking = np.isnan(table["mean_test_saving"])
    assert lacking.any()
    assert (table["pareto_rank"][lacking] == table["pareto_rank"].max()).all()
    assert not set(table["candidate"][lacking]) & set(table["candidate"][table["iter"] == 1])


class Listening(RandomSampler):
    def __init__(self, *args):
        super().__init__(*args)
        self.heard = []

    def observe(self, params, score, resource, **more):
        self.heard.append({"score": score, **more})


def random_search(sampler_class=Listening, **kwargs):
    samplers = []

    def scheduler(space, random_state):
        samplers.append(sampler_class(space, random_state))
        return FullScheduler(samplers[0], 6)

    kwargs = {"scoring": SCORING, "refit": "saving", "cv": 2, "random_state": 0, **kwargs}
    search = SearchCV(Traded(), {"a": uniform(0, 1)}, scheduler=scheduler, **kwargs)
    return search, samplers


def test_a_sampler_hears_all_values_their_noise_and_violations(tmp_path):
    constraints = {"gain": (0.2, 0.9), "cost_": (None, 0)}
    kwargs = {"objectives": ["gain", "saving"], "constraints": constraints}
    search, samplers = random_search(**kwargs, journal=tmp_path / "a")
    with pytest.warns(UserWarning, match="none of 6 rows keeps"):
        table = search.fit(X, Y).cv_results_
    for i, heard in enumerate(samplers[0].heard):
        gains = [table[f"split{split}_test_gain"][i] for split in range(2)]
        cost = 10 * search.cv_results_["params"][i]["a"]
        assert heard["score"] == table["mean_test_saving"][i]
        np.testing.assert_allclose(heard["values"], [np.mean(gains), table["mean_test_saving"][i]])
        np.testing.assert_allclose(heard["value_noise"], [np.var(gains, ddof=1) / 2, 0], atol=1e-15)
        expected = [(0.2 - np.mean(gains)) / 0.2, (np.mean(gains) - 0.9) / 0.9, cost]
        np.testing.assert_allclose(heard["violations"], expected)
    # A later search is told the same at its start.
    later, told = random_search(**kwargs, warm_start_from=tmp_path / "a")
    with pytest.warns(UserWarning, match="none of 6 rows keeps"):
        later.fit(X, Y)
    for one, other in zip(samplers[0].heard, told[0].heard[:6], strict=True):
        assert one.keys() == other.keys()
        np.testing.assert_array_equal(one["violations"], other["violations"])
    other_scoring = {"gain": gain, "other": saving}
    lacking, _ = random_search(
        scoring=other_scoring,
        objectives=["gain", "other"],
        refit="gain",
        warm_start_from=tmp_path / "a",
    )
    with pytest.raises(JournalError, match="has no 'other', only"):
        lacking.fit(X, Y)


def test_what_is_made_for_one_objective_is_refused_only_where_it_would_lack_something():
    class Single(Listening):
        def observe(self, params, score, resource, *, noise=None, seconds=None):
            self.heard.append(score)

    random_search(Single)[0].fit(X, Y)
    for kwargs, lacking in (
        ({"objectives": ["gain"]}, "values=None, value_noise=None"),
        ({"constraints": {"cost_": (None, 5)}}, "violations=None"),
    ):
        search, _ = random_search(Single, **kwargs)
        with pytest.raises(TypeError, match=rf"Single\.observe.*add '\*, {lacking}'"):
            search.fit(X, Y)


def test_infeasible_rows_never_win():
    constraints = {"cost_": (2, 6), doubled: (None, 11.0)}
    search, _ = random_search(constraints=constraints)
    table = search.fit(X, Y).cv_results_
    cost = 10 * np.array([row["a"] for row in table["params"]])
    np.testing.assert_allclose(table["constraint_cost_"], cost)
    np.testing.assert_allclose(table["constraint_doubled"], 2 * cost)
    feasible = (cost >= 2) & (cost <= 5.5)
    np.testing.assert_array_equal(table["feasible"], feasible)
    assert 0 < feasible.sum() < 6
    best = np.flatnonzero(feasible)[np.argmax(table["mean_test_saving"][feasible])]
    assert search.best_index_ == best
    assert search.top_estimators(int(feasible.sum()), X, Y)
    with pytest.raises(ValueError, match="candidates that have a score"):
        search.top_estimators(6, X, Y)
    assert not hasattr(search, "pareto_front_")


def test_where_nothing_is_feasible_the_least_infeasible_row_is_refitted():
    search, _ = random_search(constraints={"cost_": (20, None)}, refit=True, scoring=gain)
    with pytest.warns(UserWarning, match="none of 6 rows keeps the constraints.*cost_="):
        search.fit(X, Y)
    costs = [row["a"] for row in search.cv_results_["params"]]
    assert search.best_index_ == np.argmax(costs)
    assert not search.cv_results_["feasible"].any()


@pytest.mark.parametrize("error_score", [np.nan, 0.0])
def test_networks_with_too_many_parameters_are_not_fitted(blobs, tmp_path, error_score):
    n_made = []

    class Counted(TorchClassifier):
        def fit(self, X, y=None, **fit_params):
            n_made.append(self.module__n_units)
            return super().fit(X, y, **fit_params)

    arguments = {
        "max_resources": 2,
        "factor": 2,
        "cv": 2,
        "random_state": 0,
        "scoring": ["accuracy", "neg_n_parameters", "neg_fit_time"],
        "objectives": ["accuracy", "neg_n_parameters"],
        "constraints": {"n_parameters": (None, 200)},
        "refit": "accuracy",
        "error_score": error_score,
        "lockstep": False,
        "enqueue": (),
    }
    space = {"module__n_units": [4, 8, 500, 1000]}
    net = Counted(module__n_units=4)
    for _ in range(2):  # the second time by the journal
        search = HalvingHyperbandSearchCV(net, space, **arguments, journal=tmp_path / "a")
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            table = search.fit(*blobs).cv_results_
        units = np.array([row["module__n_units"] for row in table["params"]])
        np.testing.assert_array_equal(table["constraint_n_parameters"], 9 * units + 3 * (units + 1))
        np.testing.assert_array_equal(table["feasible"], units < 100)
        np.testing.assert_array_equal(np.isnan(table["mean_test_accuracy"]), units > 100)
        made = table["mean_test_neg_n_parameters"][units < 100]
        np.testing.assert_array_equal(made, -table["constraint_n_parameters"][units < 100])
        assert (table["mean_test_neg_fit_time"][units < 100] < 0).all()
        assert set(n_made) == {4, 8}
        assert (units > 100).any()
        assert not set(search.pareto_front_) & set(np.flatnonzero(units > 100))
    shown = read_journal(tmp_path / "a")
    np.testing.assert_array_equal(
        shown["constraint_n_parameters"], table["constraint_n_parameters"]
    )
    np.testing.assert_array_equal(shown["mean_test_accuracy"], table["mean_test_accuracy"])


@pytest.mark.parametrize(
    ("lockstep", "n_jobs"), [(True, 1), (False, 2)], ids=["in lockstep", "two workers"]
)
def test_networks_in_pipelines_are_counted_before_they_are_trained(blobs, lockstep, n_jobs):
    def n_inputs(pipeline):
        return pipeline[-1].n_features_in_

    with parallel_config("threading"):
        search = SearchCV(
            make_pipeline(PolynomialFeatures(), StandardScaler(), TorchClassifier(max_epochs=1)),
            {"torchclassifier__module__n_units": [2, 4, 500, 1000]},
            scheduler=lambda space, seed: FullScheduler(GridSampler(space), 4),
            scoring=["accuracy", "neg_predict_time", "neg_n_parameters"],
            objectives=["accuracy", "neg_predict_time"],
            constraints={"n_parameters": (None, 1000), n_inputs: (45, 45)},
            refit=scalarize({"accuracy": 1, "neg_predict_time": 1e-3}),
            lockstep=lockstep,
            n_jobs=n_jobs,
            cv=2,
        ).fit(*blobs)
    table, units = search.cv_results_, np.array([2, 4, 500, 1000])
    sizes = (45 + 1) * units + (units + 1) * 3  # of 8 columns, 45 are made
    np.testing.assert_array_equal(table["constraint_n_parameters"], sizes)
    np.testing.assert_array_equal(table["feasible"], units < 100)
    np.testing.assert_array_equal(table["mean_fit_time"] > 0, units < 100)
    np.testing.assert_array_equal(table["constraint_n_inputs"], [45, 45, np.nan, np.nan])
    assert (table["mean_test_neg_predict_time"][:2] < 0).all()
    assert search.best_index_ in search.pareto_front_
    assert set(search.pareto_front_) <= {0, 1}


def test_networks_trained_together_are_measured_alone(blobs, monkeypatch):
    rows = []
    predict = TorchClassifier.predict

    @wraps(predict)
    def counting(self, X):
        rows.append(len(X))
        return predict(self, X)

    monkeypatch.setattr(TorchClassifier, "predict", counting)
    search = SearchCV(
        TorchClassifier(max_epochs=1),
        {"lr": [0.1, 0.01]},
        scheduler=lambda space, seed: FullScheduler(RandomSampler(space, seed), 2),
        scoring={
            "accuracy": "accuracy",
            "time": "neg_predict_time",
            "bins": "neg_calibration_error",
        },
        objectives=["accuracy", "time"],
        refit="accuracy",
        cv=2,
        lockstep=True,
    )
    table = search.fit(*blobs).cv_results_
    assert (table["mean_test_time"] < 0).all()
    assert rows.count(1000) >= 4 * 5
    assert (table["mean_test_bins"] <= 0).all()


def test_stages_hear_the_score_and_the_base_all():
    search = HarmonicaSearchCV(
        Traded(),
        {"a": uniform(0, 1), "b": [0.1, 0.2, 0.3, 0.4]},
        n_stages=1,
        n_samples=20,
        n_terms=1,
        base="hyperband",
        resource="max_epochs",
        max_resources=3,
        scoring=SCORING,
        objectives=["gain", "saving"],
        constraints={"cost_": (None, 8)},
        refit=knee_point(),
        cv=2,
        random_state=0,
    ).fit(X, Y)
    assert search.best_index_ in search.pareto_front_
    assert search.cv_results_["feasible"][search.best_index_]


@pytest.mark.parametrize(
    ("objectives", "resource", "base"),
    [
        (["gain", "saving"], None, lambda *given: FullScheduler(BayesSampler(*given), 2)),
        (
            ["gain", "saving"],
            "max_epochs",
            lambda *given: Hyperband(BayesSampler(*given), max_resources=3),
        ),
        (["gain"], None, lambda *given: FullScheduler(RandomSampler(*given), 2)),
        (None, "max_epochs", lambda *given: Hyperband(RandomSampler(*given), max_resources=3)),
    ],
    ids=["full", "hyperband", "one objective", "no objectives"],
)
def test_after_stages_candidates_of_several_objectives_come_from_a_model(
    objectives, resource, base
):
    candidates = []
    for made_by in ("auto", base):
        search = HarmonicaSearchCV(
            Traded(),
            {"a": uniform(0, 1), "b": uniform(0, 0.5)},
            n_stages=1,
            n_samples=10,
            n_terms=1,
            base=made_by,
            resource=resource,
            max_resources=3 if resource else "auto",
            stage_resource=None,
            n_iterations=1,
            n_iter=2,
            scoring=SCORING,
            objectives=objectives,
            refit="gain",
            cv=2,
            random_state=0,
        ).fit(X, Y)
        candidates.append(search.cv_results_["params"])
    assert candidates[0] == candidates[1]


def test_stages_on_other_parameters_are_neither_on_the_front_nor_the_best():
    search = HarmonicaSearchCV(
        Traded(),
        {"a": uniform(0, 1), "b": [0.1, 0.2, 0.3, 0.4]},
        n_stages=1,
        n_samples=20,
        n_terms=1,
        n_iter=4,
        stage_params={"max_epochs": 50},  # with which everything is better
        scoring=SCORING,
        objectives=["gain", "saving"],
        constraints={"cost_": (None, 9)},
        refit=scalarize({"gain": 1}),
        cv=2,
        random_state=0,
    ).fit(X, Y)
    of_base = np.flatnonzero(search.cv_results_["stage"] == 1)
    assert set(search.pareto_front_) <= set(of_base)
    assert search.best_index_ in of_base


def test_members_of_an_ensemble_keep_the_constraints(blobs):
    search = SearchCV(
        DecisionTreeClassifier(random_state=0),
        {"max_depth": [1, 2, 3, 4, 5]},
        scheduler=lambda space, seed: FullScheduler(RandomSampler(space, seed), 5),
        constraints={"n_parameters": (None, 9)},
        return_predictions=True,
        cv=2,
    ).fit(*blobs)
    table = search.cv_results_
    assert 0 < table["feasible"].sum() < 5
    depths = [row["max_depth"] for row in np.array(table["params"])[table["feasible"]]]
    ensemble = search.ensemble(n_members=10)
    assert {tree.max_depth for tree in ensemble.members_} <= set(depths)


def test_one_standard_error_keeps_the_constraints():
    table = {
        "params": [{}, {}, {}],
        "mean_test_score": np.array([0.9, 0.8, 0.7]),
        "split0_test_score": np.array([0.9, 0.8, 0.7]),
        "split1_test_score": np.array([0.9, 0.8, 0.7]),
        "feasible": np.array([False, True, True]),
        "size": np.array([1, 3, 2]),
    }
    assert one_standard_error("size")(table) == 1


def test_rules_choose_a_row_of_the_front(fitted):
    values = values_of(fitted)
    for rule in (knee_point(), scalarize({"gain": 1, "saving": 0.5}), scalarize({"saving": 2})):
        search = pickle.loads(pickle.dumps(clone(hyperband(refit=rule))))
        with pytest.warns(UserWarning, match="non-finite"):
            search.fit(X, Y)
        assert search.best_index_ in fitted.pareto_front_
        assert search.best_params_ == search.cv_results_["params"][search.best_index_]
        assert not hasattr(search, "best_score_")
    assert search.best_index_ == np.nanargmax(values[:, 1])
    weighted = scalarize({"gain": 1, "saving": 0.5})(fitted.cv_results_)
    assert weighted == np.nanargmax(values @ [1, 0.5])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"refit": scalarize({"gain": 1, "cost": 1})}, "'cost', but there are 'gain', 'saving'"),
        ({"refit": knee_point(), "objectives": None}, "needs to know the objectives"),
    ],
    ids=["unknown metric", "no objectives"],
)
def test_rules_are_checked_before_any_fit(monkeypatch, kwargs, message):
    monkeypatch.setattr(Traded, "fit", lambda *args: pytest.fail("was trained"))
    with pytest.raises(ValueError, match=message):
        hyperband(**kwargs).fit(X, Y)


def test_a_knee_is_where_both_are_good():
    table = {"mean_test_a": np.array([0.0, 8, 9, 10]), "mean_test_b": np.array([10.0, 8, 2, 0])}
    assert knee_point(["a", "b"])(table) == 1
    with pytest.raises(ValueError, match="needs to know the objectives"):
        knee_point()(table)
    with pytest.raises(ValueError, match="needs scores of 'c'"):
        knee_point(["a", "c"])(table)


def test_a_knee_is_not_feasible_by_itself():
    table = {
        "mean_test_a": np.array([0.0, 8, 9, 10]),
        "mean_test_b": np.array([10.0, 8, 2, 0]),
        "violation": np.array([0.0, 1, 0, 0]),
    }
    assert knee_point(["a", "b"])(table) == 2


def test_confirm_fits_the_best_feasible_rows_again():
    search = HalvingHyperbandSearchCV(
        SGDClassifier(tol=None),
        {"alpha": uniform(1e-4, 1)},
        resource="max_iter",
        max_resources=3,
        cv=2,
        scoring={"accuracy": "accuracy", "recall": "worst_class_recall"},
        constraints={"alpha": (None, 0.5)},
        refit="accuracy",
        confirm=2,
        random_state=0,
        n_repeats=2,
    ).fit(X % 7, Y)
    again = ~np.isnan(search.cv_results_["confirm_mean_test_accuracy"])
    assert search.cv_results_["feasible"][again].all()
    assert 0 < again.sum() <= 2


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"objectives": ["gain", "savin"]}, r"are 'saving', 'gain', but got 'savin'; add it"),
        ({"objectives": ["gain", "gain"]}, r"'gain' is there 2 times"),
        ({"objectives": []}, r"at least one metric.*use None"),
        ({"objectives": ["gain", 3]}, r"names of metrics, but got 3"),
        ({"objectives": "gain"}, r"'objectives' parameter"),
        ({"refit": True}, r"refit=True does not say which.*refit='gain'.*knee_point"),
        ({"constraints": {"gain": (2, 1)}}, r"low <= high must hold.*low=2, high=1"),
        ({"constraints": {"gain": (None, None)}}, r"'gain' has none; leave it out"),
        ({"constraints": {"gain": 3}}, r"\(low, high\).*'gain' is 3"),
        ({"constraints": {"gain": (0, math.nan)}}, r"finite numbers or None"),
        ({"constraints": {"accuracy": (0, None)}}, r"but got 'accuracy'; add it to scoring"),
        ({"constraints": {3: (0, None)}}, r"but got 3; give a name or a callable"),
        ({"constraints": {"cost": (0, None)}}, r"'cost' of a fitted Traded is None; give a metric"),
        ({"scoring": "accuracy"}, r"which are 'score', but got 'gain'; give scoring as a dict"),
    ],
    ids=range(14),
)
def test_bad_input_is_an_error(kwargs, message):
    with pytest.raises(ValueError, match=message):
        hyperband(**kwargs).fit(X, Y)


def test_a_callable_scoring_must_return_every_objective():
    def scoring(estimator, X, y):
        return {"gain": 1.0, "other": 2.0}

    with pytest.raises(ValueError, match="but got 'saving'"):
        hyperband(scoring=scoring).fit(X, Y)


@pytest.mark.parametrize("scoring", ["neg_n_parameters", ["accuracy", "neg_n_parameters"]])
def test_names_of_scorers_are_known_to_searches(scoring):
    search = HalvingHyperbandSearchCV(
        DecisionTreeClassifier(),
        {"max_leaf_nodes": [2, 4, 8]},
        resource="max_depth",
        max_resources=3,
        scoring=scoring,
        refit=True if isinstance(scoring, str) else "neg_n_parameters",
        cv=2,
    ).fit(X % 7, Y)
    assert search.best_score_ <= -1
    assert search.score(X % 7, Y) == -search.best_estimator_.tree_.node_count
    assert clone(search).get_params()["scoring"] == scoring


@pytest.mark.parametrize("hosts", [["one", "one"], ["one", "other"]], ids=" ".join)
def test_times_of_different_machines_are_not_comparable(monkeypatch, blobs, hosts):
    names = cycle(hosts)
    monkeypatch.setattr("skhpo.evaluation._fit.this_worker", lambda: f"{next(names)}:1")
    search = SearchCV(
        DecisionTreeClassifier(),
        {"max_depth": [1, 2]},
        scheduler=lambda space, seed: FullScheduler(RandomSampler(space, seed), 2),
        scoring=["accuracy", "neg_predict_time"],
        objectives=["accuracy", "neg_predict_time"],
        refit="accuracy",
        cv=2,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(*blobs)
    found = [str(one.message) for one in caught if "not comparable" in str(one.message)]
    assert len(found) == (hosts[0] != hosts[1])
    assert all("one (cpu), other (cpu)" in text for text in found)


def test_predictions_of_the_best_feasible_row_are_kept(blobs, tmp_path):
    for _ in range(2):  # the second time by the journal
        search = HalvingHyperbandSearchCV(
            TorchClassifier(max_epochs=1),
            {"module__n_units": [2, 3, 300, 400], "lr": uniform(0.001, 0.1)},
            max_resources=3,
            scoring={"accuracy": "accuracy", "time": "neg_fit_time"},
            objectives=["accuracy"],
            constraints={"n_parameters": (None, 100), "n_iter_": (None, 1)},
            refit="accuracy",
            return_predictions=True,
            journal=tmp_path / "a",
            cv=2,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            search.fit(*blobs)
        assert search.best_params_["max_epochs"] == 1
        kept = search.out_of_fold_predictions()
        assert kept.shape == (1, len(blobs[1]), 3)
        assert not np.isnan(kept).any()


def test_a_journal_tells_objectives_and_violations_as_the_search_does(tmp_path):
    constraints = {"gain": (0.1, None), "cost_": (None, 6), doubled: (None, 11.0)}
    search, _ = random_search(
        objectives=["gain", "saving"], constraints=constraints, journal=tmp_path / "a"
    )
    known, read = read_search(search.fit(X, Y)), read_search(tmp_path / "a")
    assert known.objectives == read.objectives == ("gain", "saving")
    np.testing.assert_allclose(read.violation, search.cv_results_["violation"])
    np.testing.assert_array_equal(known.violation, search.cv_results_["violation"])
