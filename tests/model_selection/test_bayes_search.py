"""BayesSearchCV from outside: what it finds, says and refuses; the sampler has its own tests."""

import json
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from clocks import clock_ahead_after
from journals import sealed
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_estimator
from some_checks import check_some

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, TorchClassifier, log_randint
from skhpo.exceptions import JournalError, SearchStoppedWarning
from skhpo.testing import EXPECTED_FAILED_CHECKS

X, y = load_iris(return_X_y=True)
ONE_SPLIT = [(range(0, 150, 2), range(1, 150, 2))]
FITS = []


class Bowl(ClassifierMixin, BaseEstimator):
    """Scores its parameters on a bowl with its top at x = 0.3, z = 0.7; `idle` has no effect."""

    def __init__(self, x=0.0, z=0.0, idle=0.0, kind="plain", noise=0.0, random_state=None):
        self.x = x
        self.z = z
        self.idle = idle
        self.kind = kind
        self.noise = noise
        self.random_state = random_state

    def fit(self, X, y):
        FITS.append(self.x)
        if self.kind == "broken":
            raise RuntimeError("cannot be fitted")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        score = 1 - 4 * (self.x - 0.3) ** 2 - (self.z - 0.7) ** 2
        return score + self.noise * np.random.RandomState(self.random_state).randn()


UNIT = {"x": uniform(0, 1), "z": uniform(0, 1), "idle": uniform(0, 1)}


@pytest.fixture(autouse=True)
def _no_fits_yet():
    FITS.clear()


def search_of(space=UNIT, estimator=None, **kwargs):
    kwargs = {"n_iter": 16, "n_initial_points": 6, "cv": 2, "random_state": 0} | kwargs
    return BayesSearchCV(Bowl() if estimator is None else estimator, space, **kwargs)


def assert_same_results(a, b):
    a, b = (pd.DataFrame(search.cv_results_) for search in (a, b))
    columns = [name for name in a if not name.endswith("_time")]
    pd.testing.assert_frame_equal(a[columns], b[columns])


# --- what it finds


@pytest.fixture(scope="module")
def found():
    return search_of(n_iter=24).fit(X, y)


def test_the_top_is_found(found):
    assert found.best_score_ > 0.999
    assert found.best_score_ == found.best_estimator_.score(X, y)
    assert len(found.cv_results_["params"]) == 24
    assert found.stop_reason_ is None


def test_scores_are_predicted_in_their_own_units(found):
    some = [{"x": a, "z": b, "idle": 0.5} for a, b in [(0.3, 0.7), (0.35, 0.6), (0.9, 0.1)]]
    mean, std = found.predict_score(some)
    truth = [Bowl(**params).score(X, y) for params in some]
    np.testing.assert_allclose(mean[:2], truth[:2], atol=0.02)
    assert mean.shape == std.shape == (3,)
    assert std[2] > std[0] > 0
    one = found.predict_score(some[1])
    assert one == (pytest.approx(mean[1]), pytest.approx(std[1]))
    assert type(one[0]) is type(one[1]) is float
    known = found.predict_score(found.cv_results_["params"])[0]
    top = found.cv_results_["mean_test_score"] > 0.9
    np.testing.assert_allclose(known[top], found.cv_results_["mean_test_score"][top], atol=0.02)
    assert all(len(part) == 0 for part in found.predict_score([]))


def test_what_is_asked_of_the_model_must_be_in_the_space(found):
    with pytest.raises(ValueError, match=r"x=2\.0 is not in the space"):
        found.predict_score({"x": 2.0, "z": 0.5, "idle": 0.5})
    with pytest.raises(ValueError, match="has the parameters"):
        found.predict_score([{"x": 0.5}])
    with pytest.raises(NotFittedError):
        search_of().predict_score([])


def test_relevance_is_a_table(found):
    table = pd.DataFrame(found.relevance_)
    assert list(table.columns) == ["param", "relevance"]
    assert list(table["param"]) == ["x", "z", "idle"]
    assert table["relevance"].is_monotonic_decreasing
    assert table["relevance"].iloc[-1] < table["relevance"].iloc[0] / 3


def test_everything_survives_a_pickle(found):
    copy = pickle.loads(pickle.dumps(found))
    point = {"x": 0.4, "z": 0.4, "idle": 0.1}
    assert copy.predict_score(point) == found.predict_score(point)
    np.testing.assert_array_equal(copy.relevance_["param"], found.relevance_["param"])
    assert_same_results(copy, found)


def test_a_pipeline_with_everything_in_the_space():
    space = {
        "svc__C": loguniform(1e-2, 1e3),
        "svc__gamma": loguniform(1e-4, 1e1),
        "svc__degree": randint(1, 4),
        "svc__cache_size": log_randint(50, 400),
        "svc__kernel": ["rbf", "poly"],
        "svc__class_weight": [None, "balanced", {0: 1, 1: 2, 2: 1}],
        "standardscaler": [StandardScaler(), "passthrough"],
    }
    model = make_pipeline(StandardScaler(), SVC())
    search = search_of(space, model, n_iter=12, cv=3).fit(X, y)
    assert search.best_score_ > 0.95
    assert search.predict(X).shape == (150,)
    assert {"param_svc__C", "param_standardscaler"} <= search.cv_results_.keys()
    assert type(search.best_params_["svc__degree"]) is int


def test_a_conditional_space_has_one_model():
    space = [
        {"clf": [SVC()], "clf__C": loguniform(1e-3, 1e3), "clf__gamma": loguniform(1e-4, 1e1)},
        {"clf": [LogisticRegression(max_iter=500)], "clf__C": loguniform(1e-3, 1e3)},
    ]
    search = search_of(space, Pipeline([("clf", SVC())]), n_iter=12).fit(X, y)
    tried = search.cv_results_["params"]
    assert {len(params) for params in tried} == {2, 3}
    assert set(search.relevance_["param"]) == {"clf", "clf__C", "clf__gamma"}
    mean, _ = search.predict_score(tried)
    assert np.isfinite(mean).all()


def test_several_metrics_and_a_callable_refit():
    scoring = {"acc": "accuracy", "x": lambda estimator, X, y: -abs(estimator.x - 0.8)}
    search = search_of(scoring=scoring, refit="x").fit(X, y)
    assert search.best_score_ > -0.05
    assert search.predict_score(search.best_params_)[0] == pytest.approx(
        search.best_score_, abs=0.1
    )

    def least_x(table):
        return int(np.argmin([params["x"] for params in table["params"]]))

    search = search_of(refit=least_x, n_iter=8).fit(X, y)
    assert search.best_params_["x"] == min(params["x"] for params in search.cv_results_["params"])


def test_repeats_average_the_noise_out():
    search = search_of(estimator=Bowl(noise=0.05), n_repeats=4, n_iter=12).fit(X, y)
    assert len(FITS) == 12 * 2 * 4 + 1
    mean, _ = search.predict_score({"x": 0.3, "z": 0.7, "idle": 0.5})
    assert mean == pytest.approx(1, abs=0.1)


def test_networks():
    net = TorchClassifier(module__n_units=8, max_epochs=3, batch_size=64)
    search = search_of({"lr": loguniform(1e-4, 1)}, net, n_iter=5, n_initial_points=3)
    assert search.fit(X.astype(np.float32), y).best_score_ > 0.5


# --- which candidates


@pytest.mark.parametrize("n_points", [1, 3])
def test_the_same_whatever_n_jobs(n_points):
    kwargs = {"n_iter": 11, "n_points": n_points, "estimator": Bowl(noise=0.1), "cv": 3}
    one = search_of(**kwargs).fit(X, y)
    two = search_of(**kwargs, n_jobs=2).fit(X, y)
    assert_same_results(one, two)
    assert one.best_params_ == two.best_params_
    assert one.predict_score(one.best_params_) == two.predict_score(two.best_params_)


def test_the_same_seed_the_same_candidates():
    first, again = search_of().fit(X, y), search_of().fit(X, y)
    assert_same_results(first, again)
    assert clone(first).fit(X, y).best_params_ == first.best_params_
    other = search_of(random_state=1).fit(X, y)
    assert other.cv_results_["params"] != first.cv_results_["params"]


def test_so_many_points_are_chosen_at_a_time():
    rounds = []

    class Rounds:
        def on_fit_end(self, search, trial, result):
            if trial.number not in rounds:
                rounds.append(trial.number)

        def on_trial_end(self, search, trial, results, score):
            rounds.append("told")

    search_of(n_iter=5, n_initial_points=1, n_points=2, callbacks=[Rounds()]).fit(X, y)
    told = ["told"] * 2
    assert rounds == [0, 1, *told, 2, 3, *told, 4, "told"]


def test_no_worker_waits_where_it_is_asynchronous():
    at_once = []

    class Watch:
        def on_fit_end(self, search, trial, result):
            at_once.append(len(search.sampler_._known.pending))

    # The evaluator's slots decide how many run, n_points does not.
    with joblib.parallel_config("threading"):
        search = search_of(
            n_iter=20, n_jobs=3, cv=ONE_SPLIT, asynchronous=True, callbacks=[Watch()]
        ).fit(X, y)
    assert max(at_once) == 3
    assert len(search.cv_results_["params"]) == 20
    assert search.best_score_ > 0.95


def test_what_is_enqueued_comes_first_and_counts_as_initial():
    given = [{"x": 0.3, "z": 0.7, "idle": 0.0}, {"x": 0.5}]
    search = search_of(enqueue=given, n_initial_points=2).fit(X, y)
    tried = search.cv_results_["params"]
    assert tried[0] == given[0]
    assert tried[1]["x"] == 0.5
    assert search.best_score_ == 1.0


def test_a_finite_space_is_exhausted_and_says_so():
    space = {"x": [0.1, 0.2, 0.3], "kind": ["plain", "other"]}
    search = search_of(space, n_iter=20).fit(X, y)
    tried = [tuple(params.items()) for params in search.cv_results_["params"]]
    assert len(set(tried)) == len(tried) == 6
    assert search.stop_reason_ == "all configurations of the space were tried"
    assert search_of(space, n_iter=6).fit(X, y).stop_reason_ is None


def test_it_stops_when_nothing_is_left_to_gain():
    search = search_of({"x": uniform(0, 1)}, Bowl(noise=0.2), n_iter=60, stop_tol=1.0, cv=3)
    search.fit(X, y)
    assert 6 <= len(search.cv_results_["params"]) < 60
    assert "improvement" in search.stop_reason_


def test_time_is_up():
    with (
        clock_ahead_after(1) as clock,
        pytest.warns(SearchStoppedWarning, match="max_time was over"),
    ):
        search = search_of(max_time=1000, cv=ONE_SPLIT, callbacks=[clock]).fit(X, y)
    assert len(search.cv_results_["params"]) == 1
    assert search.stop_reason_ == "max_time was over"
    assert search.predict_score(search.best_params_)[0] == pytest.approx(search.best_score_)


# --- scores of every kind


def test_failed_fits_are_learned_from():
    space = {"x": uniform(0, 1), "kind": ["plain", "broken"]}
    with pytest.warns(FitFailedWarning):
        search = search_of(space, n_iter=24).fit(X, y)
    kinds = [params["kind"] for params in search.cv_results_["params"]]
    assert kinds[6:].count("broken") < 6
    assert search.best_score_ > 0.5
    mean, _ = search.predict_score([{"x": 0.3, "kind": kind} for kind in ("plain", "broken")])
    assert mean[0] > mean[1]


def test_all_failed_is_said_once_there_are_many():
    with pytest.raises(ValueError, match="All the 20 fits failed"):
        search_of({"kind": ["broken"], "x": uniform(0, 1)}, n_iter=30).fit(X, y)


@pytest.mark.parametrize("value", [0.5, np.nan, 1e300, -np.inf])
@pytest.mark.filterwarnings("ignore:.*test scores are non-finite:UserWarning")
@pytest.mark.filterwarnings("ignore:Scoring failed:UserWarning")
def test_scores_that_say_nothing(value):
    search = search_of(n_iter=8, n_initial_points=2, scoring=lambda estimator, X, y: value)
    search.fit(X, y)
    assert len(search.cv_results_["params"]) == 8
    if np.isfinite(value):
        assert search.predict_score(search.best_params_)[0] == pytest.approx(value)


def test_one_candidate():
    search = search_of(n_iter=1, n_initial_points="auto").fit(X, y)
    mean, std = search.predict_score(search.best_params_)
    assert mean == pytest.approx(search.best_score_)
    assert np.isfinite(std)


def test_time_counts_where_it_is_asked_to():
    search = search_of(n_iter=10, acquisition="log_ei_per_second").fit(X, y)
    assert search.best_score_ > 0.8


def test_only_limits_of_time_make_the_acquisition_depend_on_it():
    def limit(**kwargs):
        return search_of(n_iter=2, n_initial_points=2, **kwargs).fit(X, y).sampler_.time_limit

    assert limit() is None
    assert limit(max_time=60, acquisition="log_ei") is None
    found = limit(max_time=60, max_cost={"seconds": 30})
    assert (found.n_candidates, found.elapsed, found.worked) == (2, 60, 30)


# --- journals


def test_a_limit_of_time_continues_a_journal(tmp_path, monkeypatch):
    journal = tmp_path / "run.jsonl"
    search_of(n_iter=4, n_initial_points=2, acquisition="log_ei", journal=journal).fit(X, y)
    FITS.clear()
    again = search_of(n_iter=5, n_initial_points=2, max_time=600, journal=journal).fit(X, y)
    assert len(FITS) == 3  # two splits and the refit
    assert not again.sampler_.time_limit.is_short(4, 1e9)
    monkeypatch.setattr("skhpo.samplers.time_limit.time.monotonic", lambda: 1e12)
    assert not again.sampler_.time_limit.is_short(4, 1e9)
    assert again.sampler_.time_limit.is_short(5, 1e9)


def test_scores_of_an_earlier_search_take_no_share_of_a_limit_of_time(tmp_path):
    journal = tmp_path / "run.jsonl"
    search_of(n_iter=6, journal=journal).fit(X, y)
    limit = {"max_cost": {"seconds": 600}, "n_initial_points": 2}
    search = search_of(n_iter=2, warm_start_from=journal, **limit).fit(X, y)
    told = []
    search.sampler_.time_limit.is_short = lambda n, seconds: told.append((n, seconds))
    search.sampler_.sample(1)
    fits = search.cv_results_["mean_fit_time"]
    assert told == [(2, pytest.approx(search.n_splits_ * fits.sum()))]


class StopAfter:
    """Presses Ctrl-C after so many fits."""

    def __init__(self, n_fits):
        self.left = n_fits

    def on_fit_end(self, search, trial, result):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("n_points", "stop"), [(1, 9), (1, 25), (3, 21)])
def test_interrupted_and_resumed_equals_uninterrupted(n_points, stop, tmp_path):
    kwargs = {"estimator": Bowl(noise=0.05), "n_points": n_points, "enqueue": [{"x": 0.9}]}
    whole = search_of(**kwargs).fit(X, y)
    path = tmp_path / "run.jsonl"
    with pytest.warns(SearchStoppedWarning, match="interrupted"):
        short = search_of(**kwargs, journal=path, callbacks=[StopAfter(stop)]).fit(X, y)
    assert short.stop_reason_ == "it was interrupted"
    FITS.clear()
    resumed = search_of(**kwargs, journal=path).fit(X, y)
    assert len(FITS) == 32 - stop + 1
    assert_same_results(resumed, whole)
    assert resumed.stop_reason_ is None
    point = {"x": 0.2, "z": 0.2, "idle": 0.2}
    assert resumed.predict_score(point) == whole.predict_score(point)
    np.testing.assert_array_equal(resumed.relevance_["relevance"], whole.relevance_["relevance"])


@pytest.mark.parametrize("n_points", [1, 3])
def test_more_iterations_go_on_where_fewer_ended(n_points, tmp_path):
    kwargs = {"n_points": n_points, "n_initial_points": "auto"}
    path = tmp_path / "run.jsonl"
    search_of(**kwargs, n_iter=11, journal=path).fit(X, y)
    FITS.clear()
    more = search_of(**kwargs, n_iter=14, journal=path).fit(X, y)
    assert len(FITS) == 3 * 2 + 1
    if n_points == 1:
        assert_same_results(more, search_of(**kwargs, n_iter=14).fit(X, y))
    point = {"x": 0.2, "z": 0.2, "idle": 0.2}
    assert more.predict_score(point) == more.sampler_.predict([point])
    with pytest.raises(JournalError, match="n_iter: 11 in the journal, now 10"):
        search_of(**kwargs, n_iter=10, journal=path).fit(X, y)


def test_an_asynchronous_search_is_resumed(tmp_path):
    path = tmp_path / "run.jsonl"
    kwargs = {"asynchronous": True, "journal": path, "n_jobs": 2}
    with joblib.parallel_config("threading"):
        with pytest.warns(SearchStoppedWarning, match="interrupted"):
            search_of(**kwargs, callbacks=[StopAfter(17)]).fit(X, y)
        FITS.clear()
        resumed = search_of(**kwargs).fit(X, y)
        assert len(FITS) == 32 - 17 + 1
        again = search_of(**kwargs).fit(X, y)
    assert_same_results(resumed, again)
    assert again.predict_score(again.best_params_) == resumed.predict_score(resumed.best_params_)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_another_processor_proposed_is_kept(tmp_path):
    path = tmp_path / "run.jsonl"
    space = {"x": uniform(0, 1), "kind": ["plain", len], "z": [np.float64(0.7), (1, 2)]}
    with pytest.warns(SearchStoppedWarning, match="interrupted"):
        search_of(space, journal=path, callbacks=[StopAfter(25)], scoring=x_only).fit(X, y)
    header, *events = lines(path)
    for event in events:
        if event["candidate"] >= 8:  # as if the model had been another one
            event["params"]["x"] += 0.01 * (event["candidate"] % 2) - 0.005
            event["params"]["kind"] = "plain"
    path.write_bytes(sealed([header, *events]))
    search = search_of(space, journal=path, scoring=x_only).fit(X, y)
    tried = search.cv_results_["params"]
    assert [p["x"] for p in tried[:12]] == [e["params"]["x"] for e in events[:24:2]]
    assert {p["kind"] for p in tried[8:12]} == {"plain"}
    assert not search.sampler_._known.pending
    assert len(tried) == 16
    assert search.predict_score(tried[9])[0] == pytest.approx(-abs(tried[9]["x"] - 0.8), abs=0.05)


def x_only(estimator, X, y):
    return -abs(estimator.x - 0.8)


def test_a_journal_whose_trials_are_asked_for_in_another_way(tmp_path):
    path = tmp_path / "run.jsonl"
    search_of(journal=path, n_iter=8).fit(X, y)
    header, *events = lines(path)
    events[4]["candidate"] = events[5]["candidate"] = 7
    path.write_bytes(sealed([header, *events]))
    with pytest.raises(
        JournalError, match=r"trial 2 is now candidate 2 .* in the journal candidate 7"
    ):
        search_of(journal=path, n_iter=8).fit(X, y)


def test_it_starts_from_what_an_earlier_search_knew(tmp_path):
    path = tmp_path / "run.jsonl"
    earlier = search_of(n_iter=12, journal=path).fit(X, y)
    warm = search_of(n_iter=4, n_initial_points="auto", warm_start_from=path).fit(X, y)
    assert warm.best_score_ > earlier.cv_results_["mean_test_score"][:6].max()
    keys = {tuple(params.items()) for params in earlier.cv_results_["params"]}
    assert not any(tuple(params.items()) in keys for params in warm.cv_results_["params"])


def test_scores_of_other_data_say_where_to_look(tmp_path):
    path = tmp_path / "run.jsonl"
    earlier = search_of(n_iter=12, journal=path, scoring=shifted).fit(X[::2], y[::2])
    warm = search_of(n_iter=5, n_initial_points="auto", warm_start_from=path).fit(X, y)
    order = np.argsort(-earlier.cv_results_["mean_test_score"], kind="stable")
    best = [earlier.cv_results_["params"][i] for i in order[:3]]
    assert warm.cv_results_["params"][:3] == best
    mean, _ = warm.predict_score(best)
    np.testing.assert_allclose(mean, warm.cv_results_["mean_test_score"][:3], atol=0.05)


def shifted(estimator, X, y):
    return 10 + estimator.score(X, y)


def test_scores_at_another_resource_count_as_what_they_are(tmp_path):
    path = tmp_path / "run.jsonl"
    space = {"alpha": loguniform(1e-5, 1e1), "l1_ratio": uniform(0, 1)}
    common = {"cv": 2, "random_state": 0}
    HalvingHyperbandSearchCV(
        SGDClassifier(), space, resource="max_iter", max_resources=9, journal=path, **common
    ).fit(X, y)
    full = BayesSearchCV(SGDClassifier(), space, n_iter=2, warm_start_from=path, **common)
    known = set(full.fit(X, y).sampler_._observations.levels)
    assert known == {1, 3, 9, np.inf}
    halving = HalvingHyperbandSearchCV(
        SGDClassifier(), space, resource="max_iter", max_resources=3, sampler="bayes", **common
    )
    halving.set_params(warm_start_from=path).fit(X, y)
    assert set(halving.sampler_._observations.levels) == {1, 3}


# --- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_iter": 0}, "'n_iter' parameter .* must be an int in the range .* Got 0"),
        ({"n_iter": 2.5}, "'n_iter' parameter"),
        ({"n_repeats": 10**9}, r"'n_repeats' parameter .* in the range \[1, 10000\]"),
        (
            {"n_initial_points": 17},
            r"n_initial_points <= n_iter must hold, but got .*=17, n_iter=16",
        ),
        ({"n_initial_points": 0}, "'n_initial_points' parameter .* Got 0"),
        ({"n_initial_points": "all"}, "'n_initial_points' parameter .* Got 'all'"),
        ({"acquisition": "ei"}, "'acquisition' parameter .*'log_ei_per_second'.* Got 'ei'"),
        ({"n_points": 0}, "'n_points' parameter .* Got 0"),
        ({"stop_tol": -0.1}, "'stop_tol' parameter .* Got -0.1"),
        ({"param_distributions": {}}, "at least one parameter"),
        ({"param_distributions": {"q": [1]}}, "no parameter 'q'"),
        ({"enqueue": [{"x": 3.0}]}, "must lie in the space"),
    ],
    ids=str,
)
def test_bad_input_is_told_before_any_training(change, message):
    with pytest.raises(ValueError, match=message):
        search_of().set_params(**change).fit(X, y)
    assert not FITS


IN_CHECKS = [
    "ignore:invalid value encountered in cast:RuntimeWarning",
    "ignore::sklearn.exceptions.FitFailedWarning",
    "ignore:Scoring failed:UserWarning",
]


# All checks of a search are in the suite for Hyperband, with which the others share their code.
@pytest.mark.slow
@pytest.mark.filterwarnings(*IN_CHECKS)
@pytest.mark.parametrize(
    ("estimator", "space"),
    [(LogisticRegression(), {"C": loguniform(0.1, 10)}), (Ridge(), {"alpha": [0.1, 1.0]})],
    ids=["classifier", "regressor"],
)
def test_contract_of_scikit_learn(estimator, space):
    search = BayesSearchCV(estimator, space, n_iter=2, cv=2, random_state=0)
    expected = EXPECTED_FAILED_CHECKS.get("BayesSearchCV", {})
    check_estimator(search, expected_failed_checks=expected, on_skip=None)


@pytest.mark.filterwarnings(*IN_CHECKS)
def test_some_of_the_contract():
    space = {"C": loguniform(0.1, 10)}
    check_some(BayesSearchCV(LogisticRegression(), space, n_iter=2, cv=2, random_state=0))


class FailsAbove(Bowl):
    """Cannot be fitted where x is above one half."""

    def fit(self, X, y):
        if self.x > 0.5:
            raise RuntimeError("too much")
        return super().fit(X, y)


def test_a_first_candidate_that_fails_does_not_end_the_search():
    search = BayesSearchCV(
        FailsAbove(), {"x": uniform(0, 1)}, n_iter=8, cv=2, enqueue=[{"x": 0.9}], random_state=0
    )
    with pytest.warns(FitFailedWarning):
        search.fit(X, y)
    assert len(search.cv_results_["params"]) == 8
    assert search.best_params_["x"] <= 0.5


def test_a_search_in_which_all_fits_fail_is_an_error():
    search = BayesSearchCV(FailsAbove(), {"x": uniform(0.6, 0.4)}, n_iter=3, cv=2)
    with pytest.raises(ValueError, match="All the 6 fits failed"):
        search.fit(X, y)


def test_more_enqueued_than_tried():
    search = BayesSearchCV(FailsAbove(), {"x": uniform(0, 1)}, n_iter=1, enqueue=[{}, {}])
    with pytest.raises(ValueError, match="n_iter=1; raise n_iter"):
        search.fit(X, y)


@pytest.mark.parametrize("params", ["abc", None, [None]], ids=repr)
def test_what_is_no_configuration_has_no_score(params):
    search = BayesSearchCV(Bowl(), {"x": uniform(0, 1)}, n_iter=2, cv=2).fit(X, y)
    with pytest.raises(TypeError, match="each a dict"):
        search.predict_score(params)
    mean, std = search.predict_score({"x": x} for x in (0.1, 0.2, 0.3))
    assert mean.shape == std.shape == (3,)


def test_stops_where_the_best_score_is_the_same_on_all_splits():
    search = search_of({"x": uniform(0, 1)}, Bowl(z=0.7), n_iter=60, stop_tol=1.0, cv=3)
    search.fit(X, y)
    assert "stop_tol" in search.stop_reason_
    assert len(search.cv_results_["params"]) < 60
