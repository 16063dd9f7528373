"""What a scorer returns, and that it fails, means what it means to GridSearchCV."""

import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from scripted import Scripted
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV
from test_like_grid_search import assert_same, both, whole_grid

from skhpo import HalvingHyperbandSearchCV, SearchCV, TorchClassifier, read_journal

X, y = load_iris(return_X_y=True)


class Told:
    """A scorer that gives what its function gives of `i`, and whether it is the training part."""

    def __init__(self, function):
        self.function = function

    def __call__(self, estimator, X, y):
        return self.function(estimator.i, len(X) > 60)


def caught(make, *args, **kwargs):
    """Call; return what comes back, and the warnings of one kind each: (class, message)."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", RuntimeWarning)  # of infinite scores
        result = make(*args, **kwargs)
    return result, [(warning.category, str(warning.message)) for warning in record]


def compared(function, i=(0, 1, 2, 3), refit=True, **kwargs):
    """Fit both searches; return ours, and the warnings of ours and of theirs."""
    kwargs = {"scoring": Told(function), "cv": 3, "refit": refit, **kwargs}
    theirs, their_warnings = caught(GridSearchCV(Scripted(), {"i": list(i)}, **kwargs).fit, X, y)
    search = SearchCV(Scripted(), {"i": list(i)}, scheduler=whole_grid, **kwargs)
    ours, our_warnings = caught(search.fit, X, y)
    assert_same(ours, theirs)
    return ours, our_warnings, their_warnings


NUMBERS = [
    *(True, 3, Fraction(1, 3), Decimal("0.25"), np.bool_(True), np.float16(0.5), np.int8(2)),
    *(np.array(0.25), np.array([0.5]), np.array(True), torch.tensor(0.5), torch.tensor([True])),
]


def test_numbers_of_every_kind():
    numbers = dict(enumerate(NUMBERS))
    ours, *told = compared(lambda i, train: numbers[i], i=numbers)
    assert told == [[], []]
    scores = [1, 3, 1 / 3, 0.25, 1, 0.5, 2, 0.25, 0.5, 1, 0.5, 1]
    np.testing.assert_allclose(ours.cv_results_["mean_test_score"], scores)
    compared(lambda i, train: {"a": numbers[i], "b": Fraction(i, 7)}, i=numbers, refit="b")


@pytest.mark.parametrize("score", [[1, 2], None, "0.5", 1j, torch.tensor([1.0, 2.0]), {"a": "b"}])
def test_what_is_no_number_ends_the_search_at_once(score):
    scored = []

    def function(i, train):
        scored.append(i)
        return score

    search = SearchCV(Scripted(), {"i": [0, 1]}, scheduler=whole_grid, scoring=Told(function))
    with pytest.raises(ValueError, match=r"scoring must return a number, but '(score|a)' is"):
        search.fit(X, y)
    assert scored == [0]


@pytest.mark.parametrize(
    ("scores", "rule"),
    [
        ({0: {"a": 1, "b": 2}, 1: {"a": 1}}, r"\['a', 'b'\], and then \['a'\]; return NaN"),
        ({0: {"a": 1}, 1: {"a": 1, "b": 2}}, r"\['a'\], and then \['a', 'b'\]; return NaN"),
        ({0: {"a": 1}, 1: 1.0}, r"\['a'\], and then \['score'\]; return NaN"),
        ({0: {}, 1: {"a": 1}}, "at least, but returned {}"),
    ],
)
def test_each_fit_has_scores_of_the_same_names(scores, rule):
    scoring = Told(lambda i, train: scores[i])
    kwargs = {"scoring": scoring, "scheduler": whole_grid, "refit": "a"}
    with pytest.raises(ValueError, match=f"scoring must return .*{rule}"):
        SearchCV(Scripted(), {"i": [0, 1]}, **kwargs).fit(X, y)


def failing(i, train):
    """Fails for i=1, on the training part for i=2, and has no finite scores for i=3."""
    if i == 1 or (train and i == 2):
        raise RuntimeError(f"no luck with {i}")
    return -np.inf if train and i == 3 else np.nan if i == 3 else float(i)


def test_a_scorer_that_fails_costs_its_own_score():
    ours, told, theirs = compared(failing, return_train_score=True)
    assert ours.best_index_ == 2
    scoring, test, train = (message for _, message in told)
    assert scoring.startswith("Scoring failed in 6 of 12 fits")
    assert "no luck with 1" in scoring
    # Theirs count the scores of failures among them, as means.
    assert test == "One or more of the test scores are non-finite: 3 of 9 values of 'score'"
    assert train == "One or more of the train scores are non-finite: 3 of 6 values of 'score'"
    for part in ("test", "train"):
        assert any(f"of the {part} scores are non-finite" in message for _, message in theirs)


def test_warnings_of_scores_are_of_each_metric():
    _, told, theirs = compared(lambda i, train: {"a": 1.0, "b": np.nan, "c": i}, refit="c")
    assert [message.partition(":")[2] for _, message in told] == [" 12 of 12 values of 'b'"]
    assert len(theirs) == 1


@pytest.mark.parametrize("error_score", [np.nan, -5.0])
def test_where_all_scoring_fails_the_first_is_refitted(error_score):
    def never(i, train):
        raise RuntimeError("no luck")

    ours, told, _ = compared(never, return_train_score=True, error_score=error_score)
    assert ours.best_index_ == 0
    assert len(told) == 1


def test_a_fit_that_fails_is_no_scorer_that_fails():
    space = {"act": ["nothing", "out_of_memory"]}
    search = SearchCV(Scripted(), space, scheduler=whole_grid, cv=2, return_train_score=True)
    with pytest.warns(FitFailedWarning, match="2 of 4 fits failed") as told:
        search.fit(X, y)
    assert len(told) == 1


def test_one_metric_of_several_fails():
    def bad(estimator, X, y):
        raise RuntimeError("no luck")

    scoring = {"good": make_scorer(accuracy_score), "bad": bad}
    kwargs = {"scoring": scoring, "refit": "good", "return_train_score": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert_same(
            *both(TorchClassifier(max_epochs=1, random_state=0), {"lr": [0.1]}, X, y, **kwargs)
        )


def test_infinity_is_the_best_and_minus_infinity_the_worst():
    scores = {0: -np.inf, 1: 0.5, 2: np.inf, 3: np.nan}
    ours, *_ = compared(lambda i, train: scores[i])
    assert ours.best_index_ == 2
    assert ours.best_score_ == np.inf
    compared(lambda i, train: scores[i], i=(0, 1, 3))


def broken_on_training_rows(estimator, X, y):
    if len(X) > 60:
        raise RuntimeError("no luck")
    return accuracy_score(y, estimator.predict(X))


@pytest.mark.parametrize("lockstep", [False, True])
def test_rungs_go_on_where_scores_of_the_training_part_fail(lockstep, tmp_path):
    search = HalvingHyperbandSearchCV(
        TorchClassifier(module__n_units=4),
        {"lr": [0.1, 0.01]},
        max_resources=3,
        cv=3,
        scoring=broken_on_training_rows,
        return_train_score=True,
        lockstep=lockstep,
        journal=tmp_path / "a",
        random_state=0,
    )
    for _ in range(2):
        with pytest.warns(UserWarning, match="Scoring failed in 9 of 9 fits") as told:
            search.fit(X, y)
        assert len(told) == 1
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        assert np.isnan(search.cv_results_["mean_train_score"]).all()
    table = read_journal(tmp_path / "a")
    np.testing.assert_array_equal(table["mean_test_score"], search.cv_results_["mean_test_score"])


def test_without_any_score_the_best_is_a_row_of_the_largest_resource():
    def never(estimator, X, y):
        raise RuntimeError("no luck")

    search = HalvingHyperbandSearchCV(
        Scripted(), {"data": list(range(9))}, resource="i", max_resources=3, scoring=never, cv=2
    )
    with pytest.warns(UserWarning, match="Scoring failed"):
        search.fit(X, y)
    assert search.best_params_["i"] == 3
