"""HarmonicaSearchCV from outside: stages, what they say, who wins, resuming, bad input."""

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from scipy.stats import uniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.utils.estimator_checks import check_estimator
from some_checks import check_some

from skhpo import HarmonicaSearchCV, TorchClassifier, read_journal
from skhpo.exceptions import SearchStoppedWarning
from skhpo.inspection import HarmonicaDisplay
from skhpo.samplers import BayesSampler, RandomSampler
from skhpo.schedulers import FullScheduler
from skhpo.testing import EXPECTED_FAILED_CHECKS

X, y = load_iris(return_X_y=True)
FITS = []


class Formula(ClassifierMixin, BaseEstimator):
    """Scores what a formula of its parameters says; the more epochs, the higher."""

    def __init__(self, a=0, b=0, c="x", d=0, lr=0.5, size=1, max_epochs=9, fails=False):
        self.a = a
        self.b = b
        self.c = c
        self.d = d
        self.lr = lr
        self.size = size
        self.max_epochs = max_epochs
        self.fails = fails

    def fit(self, X, y):
        FITS.append((self.size, self.max_epochs))
        if self.fails:
            raise RuntimeError("fails")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        found = 2 * self.a + (self.b == (self.c == "z")) - abs(self.lr - 0.9)
        return float(found + self.max_epochs / 9 + 10 * (self.size == 2))


SPACE = {
    "a": [0, 1],
    "b": [False, True],
    "c": ["x", "z"],
    "d": [0, 1, 2],
    "lr": uniform(0, 1),
}


@pytest.fixture(autouse=True)
def _no_fits_yet():
    FITS.clear()


def harmonica(space=SPACE, **kwargs):
    kwargs = {
        "n_stages": 2,
        "n_samples": 60,
        "n_terms": 3,
        "n_iter": 10,
        "cv": 2,
        "random_state": 0,
        "resource": None,
    } | kwargs
    return HarmonicaSearchCV(Formula(), space, **kwargs)


def frame(search, times=False):
    table = pd.DataFrame(search.cv_results_)
    return table if times else table.loc[:, ~table.columns.str.contains("time")]


def test_stages_say_what_matters():
    search = harmonica(n_restrictions=1).fit(X, y)
    first = search.stages_[0]
    assert [item["term"] for item in first["terms"][:2]] == [
        [("a", 1)],
        [("b", True), ("c", "z")],
    ]
    assert first["terms"][0]["coefficient"] == pytest.approx(1, abs=0.05)
    assert first["terms"][0]["share"] > 0.5
    assert first["explained"] > 0.95
    assert (first["n_samples"], first["n_failed"]) == (60, 0)
    (restriction,) = first["restrictions"]
    assert restriction["terms"][:2] == pytest.approx([1, 0.5], abs=0.05)
    second = search.stages_[1]
    assert second["mean_score"] > first["mean_score"] + 1
    assert restriction["score"] == pytest.approx(second["mean_score"], abs=0.15)
    scores = frame(search).query("stage == 1")["mean_test_score"]
    assert second["mean_score"] == pytest.approx(scores.mean())
    assert second["best_score"] == scores.max()
    table = pd.DataFrame(search.important_parameters_)
    assert table["parameters"][:2].tolist() == [("a",), ("b", "c")]
    assert not any("d" in names for names in table["parameters"])
    assert (frame(search).query("stage > 0")["param_a"] == 1).all()


def test_rows_and_the_winner():
    search = harmonica().fit(X, y)
    table = frame(search)
    assert table.groupby("stage").size().tolist() == [60, 60, 10]
    assert search.best_index_ == table["mean_test_score"].idxmax()
    assert search.best_params_ == search.cv_results_["params"][search.best_index_]
    assert search.best_estimator_.a == search.best_params_["a"] == 1
    assert type(search.best_params_["lr"]) is float


def test_hyperband_is_the_base_where_there_is_a_resource():
    search = harmonica(resource="max_epochs", max_resources=9, stage_resource=2, n_samples=20).fit(
        X, y
    )
    table = frame(search)
    stages = table[table["stage"] < 2]
    assert (stages["n_resources"] == 2).all()
    assert (stages[["bracket", "iter"]] == -1).all(axis=None)
    base = table[table["stage"] == 2]
    assert base.groupby(["bracket", "iter"])["n_resources"].first().tolist() == [1, 3, 9, 3, 9, 9]
    assert (base["candidate"] >= 40).all()
    assert search.best_index_ == table["mean_test_score"].idxmax()
    assert search.best_params_["max_epochs"] == search.best_estimator_.max_epochs
    assert {epochs for _, epochs in FITS[:80]} == {2}


@pytest.mark.parametrize(
    ("more", "amount", "n_iterations"),
    [
        ({}, 2, 1),
        ({"n_samples": 48, "n_stages": 3}, 2, 2),
        ({"n_samples": 12, "stage_resource": None}, 18, 3),
        ({"n_samples": 12, "min_resources": 6, "n_brackets": 1}, 6, 5),
        ({"n_iterations": 3, "stage_params": {"size": 2}}, 2, 3),
    ],
)
def test_by_default_the_stages_are_brief_and_the_base_takes_as_long_as_they_do(
    more, amount, n_iterations
):
    kwargs = {"resource": "max_epochs", "max_resources": 18, "n_samples": 24, "cv": 2} | more
    table = frame(HarmonicaSearchCV(Formula(), SPACE, random_state=0, **kwargs).fit(X, y))
    in_stages = table["stage"] < kwargs.get("n_stages", 2)
    assert set(table["n_resources"][in_stages]) == {amount}
    n_brackets = table["bracket"].max() + 1
    assert n_brackets == n_iterations * kwargs.get("n_brackets", 3)
    if "n_iterations" not in more:
        of_stages = table["n_resources"][in_stages].sum()
        of_base = table[~in_stages].groupby("candidate")["n_resources"].max().sum()
        assert n_iterations == max(1, round(of_stages / (of_base / n_iterations)))


@pytest.mark.parametrize(("more", "n_heard"), [({}, 40), ({"stage_params": {"size": 2}}, 0)])
def test_a_model_of_the_base_hears_the_stages(more, n_heard, monkeypatch):
    heard = []
    observe = BayesSampler.observe

    def listening(self, params, score, resource, **kwargs):
        heard.append(resource)
        observe(self, params, score, resource, **kwargs)

    monkeypatch.setattr(BayesSampler, "observe", listening)
    amounts = {"resource": "max_epochs", "stage_resource": 2, "max_resources": 3}
    table = frame(harmonica(**amounts, n_samples=20, n_iterations=2, **more).fit(X, y))
    assert (table["stage"] == 2).sum() == 2 * (3 + 1 + 2)
    assert heard[:n_heard] == [2] * n_heard
    assert len(heard) == (n_heard + 12 if n_heard else 0)  # else candidates are random


def test_stages_without_a_resource_of_their_own_get_all_of_it():
    table = frame(harmonica(resource="max_epochs", max_resources=3, base="random").fit(X, y))
    assert set(table["n_resources"]) == {3}
    assert "bracket" not in table


@pytest.mark.parametrize(("most", "expected"), [("auto", 2), (4, 4)])
def test_a_base_of_full_fits_gives_what_the_network_has_itself(most, expected):
    search = HarmonicaSearchCV(
        TorchClassifier(module__n_units=2, max_epochs=2, batch_size=-1),
        {"lr": [0.01, 0.1], "module__n_layers": [1, 2]},
        **{"n_stages": 1, "n_samples": 4, "n_terms": 1, "base": "random", "n_iter": 1},
        **{"stage_resource": 1, "max_resources": most, "cv": 2, "random_state": 0},
    ).fit(X, y)
    assert search.cv_results_["n_resources"].tolist() == [1] * 4 + [expected]
    assert search.top_estimators(1)[0].max_epochs in (1, expected)


@pytest.mark.parametrize("resource", [None, "max_epochs"])
def test_parameters_of_the_stages_never_win(resource):
    search = harmonica(stage_params={"size": 2}, resource=resource, max_resources=3).fit(X, y)
    table = frame(search)
    assert (table["param_size"][table["stage"] < 2] == 2).all()
    assert all("size" not in params for params in table["params"][table["stage"] == 2])
    assert table.loc[table["mean_test_score"].idxmax(), "stage"] < 2
    assert table.loc[search.best_index_, "stage"] == 2
    assert "size" not in search.best_params_
    assert search.best_estimator_.size == 1
    assert {size for size, _ in FITS[240:]} == {1}
    assert all(estimator.size == 1 for estimator in search.top_estimators(3, X, y))


@pytest.mark.parametrize("base", ["random", "bayes"])
def test_other_bases(base):
    table = frame(harmonica(base=base, n_stages=1, n_iter=8).fit(X, y))
    assert (table["stage"] == 1).sum() == 8
    assert (table["param_a"][table["stage"] == 1] == 1).all()


def test_any_scheduler_is_a_base():
    def three(space, random_state):
        return FullScheduler(RandomSampler(space, random_state), 3)

    assert (frame(harmonica(base=three).fit(X, y))["stage"] == 2).sum() == 3


def test_the_same_whatever_n_jobs():
    with parallel_config(backend="threading"):
        tables = [frame(harmonica(n_jobs=n_jobs).fit(X, y)) for n_jobs in (1, 2)]
    pd.testing.assert_frame_equal(*tables)


def test_stages_do_not_depend_on_timing():
    together = harmonica(resource="max_epochs", max_resources=3).fit(X, y)
    search = harmonica(resource="max_epochs", max_resources=3, asynchronous=True, n_jobs=2)
    with parallel_config(backend="threading"):
        search.fit(X, y)
    assert search.stages_ == together.stages_
    assert len(search.cv_results_["stage"]) == len(together.cv_results_["stage"])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_interrupted_search_goes_on(tmp_path, asynchronous):
    kwargs = {"resource": "max_epochs", "max_resources": 3, "asynchronous": asynchronous}
    whole = harmonica(**kwargs).fit(X, y)
    n_fits = len(FITS)
    FITS.clear()

    class Stop:
        def on_trial_end(self, search, trial, results, score):
            if trial.number == 90:
                raise KeyboardInterrupt

    journal = tmp_path / "run.jsonl"
    with pytest.warns(SearchStoppedWarning):
        harmonica(**kwargs, journal=journal, callbacks=[Stop()], refit=False).fit(X, y)
    assert len(read_journal(journal)["stage"]) < len(whole.cv_results_["stage"])
    search = harmonica(**kwargs, journal=journal).fit(X, y)
    assert len(FITS) <= n_fits + 2
    pd.testing.assert_frame_equal(frame(search), frame(whole))
    assert search.stages_ == whole.stages_
    assert search.best_params_ == whole.best_params_


@pytest.mark.parametrize(
    "more", [{"n_iterations": 2}, {"stage_params": {"size": 2}, "base": "bayes"}]
)
def test_proposals_of_another_processor_do_not_take_recorded_scores(tmp_path, monkeypatch, more):
    kwargs = {"resource": "max_epochs", "stage_resource": 1, "max_resources": 3, **more}

    class Stop:
        def on_trial_end(self, search, trial, results, score):
            if trial.number == 124:
                raise KeyboardInterrupt

    journal = tmp_path / "run.jsonl"
    with pytest.warns(SearchStoppedWarning):
        harmonica(**kwargs, journal=journal, callbacks=[Stop()], refit=False).fit(X, y)
    sample = BayesSampler.sample

    def shifted(self, *args, **kwargs):
        return [{**params, "lr": 0.99 * params["lr"]} for params in sample(self, *args, **kwargs)]

    monkeypatch.setattr(BayesSampler, "sample", shifted)
    search = harmonica(**kwargs, journal=journal, refit=False).fit(X, y)
    table = search.cv_results_
    of_base = table["stage"] == 2
    assert of_base.sum() > 7
    for params, n, score in zip(
        np.array(table["params"])[of_base],
        table["n_resources"][of_base],
        table["mean_test_score"][of_base],
        strict=True,
    ):
        assert Formula(**{**params, "max_epochs": n}).score(X, y) == pytest.approx(score)


def test_failures_are_counted_and_left_out():
    space = {**SPACE, "fails": [False, False, True]}
    with pytest.warns(FitFailedWarning, match="fails"):
        search = harmonica(space, n_stages=1).fit(X, y)
    failed = frame(search).query("stage == 0")["mean_test_score"].isna().sum()
    assert search.stages_[0]["n_failed"] == failed > 5
    assert search.stages_[0]["terms"][0]["term"] == [("a", 1)]


def test_constant_scores_are_said_and_the_base_goes_on():
    search = harmonica(n_samples=14, n_iter=3, scoring=lambda estimator, X, y: 0.5)
    with pytest.warns(UserWarning, match="nothing can be learnt from stage 0 because all scores"):
        search.fit(X, y)
    assert len(search.cv_results_["params"]) == 14 + 3
    assert search.stages_[0]["terms"] == []
    assert len(search.important_parameters_["stage"]) == 0


def test_several_metrics_and_the_one_that_guides():
    scoring = {
        "plain": lambda estimator, X, y: estimator.score(X, y),
        "other": lambda estimator, X, y: float(estimator.d),
    }
    search = harmonica(scoring=scoring, refit="other", n_stages=1).fit(X, y)
    assert search.stages_[0]["terms"][0]["term"][0][0] == "d"
    assert search.best_params_["d"] == 2
    assert HarmonicaDisplay.from_search(search, metric="plain").score_name == "plain"
    with pytest.raises(ValueError, match=r"metric must be one of \['plain', 'other'\]"):
        HarmonicaDisplay.from_search(search, metric="loss")


def test_what_is_enqueued_comes_first():
    first = {"a": 0, "b": True, "c": "x", "d": 1, "lr": 0.25}
    search = harmonica(enqueue=[first], n_stages=1).fit(X, y)
    assert search.cv_results_["params"][0] == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_samples": 7}, "n_samples >= 8 must hold"),
        ({"degree": 6}, "degree <= number of parameters"),
        ({"n_terms": (3, 3, 3)}, "one for each of the n_stages=2 stages"),
        ({"n_terms": [3, 0]}, r"'n_terms' parameter.* an int in the range \[1"),
        ({"n_terms": 0}, "'n_terms' parameter of HarmonicaSearchCV must be"),
        ({"base": "hyperband"}, "base='hyperband' needs a resource"),
        ({"stage_resource": 3}, "stage_resource needs a resource"),
        ({"resource": "max_epochs", "stage_resource": 99}, "must not be larger than what the base"),
        ({"resource": "max_epochs", "stage_params": {"max_epochs": 1}}, "use stage_resource"),
        ({"stage_params": {"sise": 2}}, "no parameter 'sise'; did you mean 'size'"),
        ({"stage_params": {"d": 2}}, "'d' is; remove it"),
        ({"space": {"a": [1]}}, "at least two configurations"),
    ],
)
def test_bad_input_is_told_before_training(arguments, message):
    with pytest.raises(ValueError, match=message):
        harmonica(**arguments).fit(X, y)
    assert FITS == []


def test_all_fits_failed():
    with pytest.raises(ValueError, match="All the 120 fits failed"):
        harmonica({**SPACE, "fails": [True]}).fit(X, y)


def test_the_display_computes_then_draws():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    search = harmonica(resource="max_epochs", max_resources=9, n_iterations=1).fit(X, y)
    display = HarmonicaDisplay.from_search(search)
    assert display.terms[:2] == ["a = 1", "b = True & c = z"]
    assert [len(scores) for scores in display.scores] == [60, 60, 5]
    assert all((np.diff(scores) >= 0).all() for scores in display.scores)
    left, right = display.ax_
    assert display.figure_ is left.figure is right.figure
    assert [patch.get_width() for patch in left.patches] == pytest.approx(display.coefficients)
    assert [len(line.get_xdata()) for line in right.lines] == [60, 60, 5]
    _, axes = plt.subplots(1, 2)
    assert display.plot(ax=axes).ax_[0] is axes[0]
    plt.close("all")
    with pytest.raises(TypeError, match="call fit first"):
        HarmonicaDisplay.from_search(harmonica())


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
    [(RidgeClassifier(), {"alpha": [0.1, 1.0]}), (Ridge(), {"alpha": [0.1, 1.0]})],
    ids=["classifier", "regressor"],
)
def test_contract_of_scikit_learn(estimator, space):
    search = HarmonicaSearchCV(estimator, space, n_iter=2, cv=2, random_state=0)
    expected = EXPECTED_FAILED_CHECKS.get("HarmonicaSearchCV", {})
    check_estimator(search, expected_failed_checks=expected, on_skip=None)


@pytest.mark.filterwarnings(*IN_CHECKS)
def test_some_of_the_contract():
    space = {"alpha": [0.1, 1.0]}
    check_some(HarmonicaSearchCV(RidgeClassifier(), space, n_iter=2, cv=2, random_state=0))
