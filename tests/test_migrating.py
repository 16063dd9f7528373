"""Spaces written for scikit-optimize and Optuna, with the objects of those packages."""

import subprocess
import sys

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC
from skopt.space import Categorical, Integer, Real

from skhpo import SearchCV, SearchSpace, log_randint
from skhpo.arguments import synonyms
from skhpo.fingerprint import describe
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler
from skhpo.space import translated


def same(theirs, ours):
    """Whether two spaces have the same configurations in the same places."""
    theirs, ours = SearchSpace({"p": theirs}), SearchSpace({"p": ours})
    places = [0.0, *np.linspace(0.003, 0.997, 331), 1.0]
    values = [[space.from_unit([u])["p"] for u in places] for space in (theirs, ours)]
    types = [list(map(type, column)) for column in values]
    return values[0] == values[1] and types[0] == types[1] and theirs.size == ours.size


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (Real(-1, 3), stats.uniform(-1, 4)),
        (Real(1e-4, 1, prior="log-uniform"), stats.loguniform(1e-4, 1)),
        (Real(1e-4, 1, prior="log-uniform", base=2, transform="normalize"), None),
        (Integer(1, 9), stats.randint(1, 10)),
        (Integer(1, 900, prior="log-uniform"), log_randint(1, 901)),
        (Categorical(["a", "b", None]), ["a", "b", None]),
        (Categorical([(8,), (8, 8)]), [(8,), (8, 8)]),
        (Categorical([3, 5], prior=[0.25, 0.75]), [3, 5, 5, 5]),
        (FloatDistribution(-1, 3), stats.uniform(-1, 4)),
        (FloatDistribution(1e-4, 1, log=True), stats.loguniform(1e-4, 1)),
        (FloatDistribution(2, 2), [2.0]),
        (IntDistribution(1, 9), stats.randint(1, 10)),
        (IntDistribution(0, 10**9), stats.randint(0, 10**9 + 1)),
        (IntDistribution(1, 900, log=True), log_randint(1, 901)),
        (IntDistribution(4, 4), [4]),
        (CategoricalDistribution(["a", None, 1.5]), ["a", None, 1.5]),
    ],
    ids=lambda value: repr(value).partition(" object at ")[0],
)
def test_the_same_space_in_words_of_this_package(theirs, ours):
    assert same(theirs, ours or stats.loguniform(1e-4, 1))


@pytest.mark.parametrize(
    ("theirs", "values"),
    [
        (FloatDistribution(0, 1, step=0.1), [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        (IntDistribution(1, 9, step=4), [1, 5, 9]),
    ],
    ids=repr,
)
def test_steps_are_levels_with_an_order(theirs, values):
    space = SearchSpace({"p": theirs})
    assert [space.nth(i)["p"] for i in range(space.size)] == values
    assert space.dimensions[0].kind == "integer"
    assert space.to_unit({"p": values[1]})[0] == pytest.approx(1.5 / len(values))
    assert {type(space.nth(i)["p"]) for i in range(space.size)} == {type(values[0])}


@pytest.mark.parametrize(
    "bounds",
    [
        (2, 9),
        [2, 9],
        (2, 9, "log"),
        (True, False, "uniform"),
        (9, 2, "uniform"),
        [1e-4, 1.0, "log-uniform"],
    ],
)
def test_a_list_is_always_choices(bounds):
    space = SearchSpace({"p": bounds})
    assert [space.nth(i)["p"] for i in range(space.size)] == list(bounds)


@pytest.mark.parametrize(
    ("bounds", "meant"),
    [
        ((1e-4, 1e-1, "log-uniform"), r"scipy\.stats\.loguniform\(0\.0001, 0\.1\)"),
        ((2, 9, "log-uniform"), r"skhpo\.log_randint\(2, 10\)"),
        ((2, 9, "uniform"), r"scipy\.stats\.randint\(2, 10\)"),
        ((-1.0, 2, "uniform"), r"scipy\.stats\.uniform\(-1\.0, 3\.0\)"),
    ],
)
def test_a_range_of_scikit_optimize_as_a_tuple_is_refused(bounds, meant):
    with pytest.raises(ValueError, match=f"three choices here, not a range, .*p=.*; use {meant}"):
        SearchSpace({"p": bounds})


def test_what_cannot_be_laid_out_is_refused_by_name():
    with pytest.raises(ValueError, match=r"at most 65536 steps.*p=IntDistribution"):
        SearchSpace({"p": IntDistribution(0, 10**9, step=2)})
    zero = Integer(1, 5, prior="log-uniform")
    zero.low = 0
    with pytest.raises(ValueError, match="start at 1 or above, but got p=Integer"):
        SearchSpace({"p": zero})


def test_a_search_over_them_and_its_fingerprint(tmp_path):
    space = [
        {"clf": [SVC()], "clf__C": Real(0.1, 10, prior="log-uniform")},
        {"clf": AnyChoices([LogisticRegression()]), "clf__C": FloatDistribution(0.1, 1)},
    ]

    def scheduler(space, random_state):
        return FullScheduler(RandomSampler(space, random_state), 4)

    def search():
        return SearchCV(
            Pipeline([("clf", SVC())]),
            space,
            scheduler=scheduler,
            cv=2,
            random_state=0,
            journal=tmp_path / "a",
        )

    X, y = load_iris(return_X_y=True)
    first = search().fit(X, y)
    np.random.rand()  # noqa: NPY002  # scikit-optimize's objects hold the global generator
    again = search().fit(X, y)
    assert again.best_score_ == first.best_score_
    assert len({type(params["clf"]) for params in first.cv_results_["params"]}) == 2
    wrong = {"clf__c": CategoricalDistribution([1.0])}
    with pytest.raises(ValueError, match="no parameter 'clf__c'; did you mean 'clf__C'"):
        search().set_params(param_distributions=wrong).fit(X, y)


def categories_with(prior):
    categories = Categorical([3, 4])
    categories.prior = prior
    return categories


def step_of_zero():
    steps = IntDistribution(1, 9)
    steps.step = 0
    return steps


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (Categorical([3, 4, 5], prior=[0.5, 0.0, 0.5]), "must be positive.*leave out"),
        (categories_with([-0.5, 1.5]), "must be positive"),
        (categories_with([np.nan, 1]), "must be positive"),
        (categories_with([1.0]), "a weight for each category, but that of 'p' has 1 for"),
        (step_of_zero(), "step > 0 must hold"),
    ],
    ids=repr,
)
def test_weights_and_steps_that_mean_nothing(theirs, message):
    with pytest.raises(ValueError, match=message):
        SearchSpace({"p": theirs})


class AnyChoices:
    """Like Optuna's categorical distribution, which refuses estimators."""

    def __init__(self, choices):
        self.choices = choices

    def to_external_repr(self, value):
        raise AssertionError("is not asked")


def test_the_fingerprint_does_not_depend_on_the_global_generator():
    space = {"p": Categorical(["a", "b"], prior=[0.25, 0.75])}
    before = describe(translated(space))
    np.random.rand()  # noqa: NPY002
    assert describe(translated(space)) == before


def test_neither_package_is_imported():
    code = (
        "import sys; from skhpo import SearchSpace; SearchSpace({'p': [1]}); "
        "sys.exit(bool({'optuna', 'skopt'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_frozen_distributions_are_left_as_they_are():
    space = {"a": stats.norm(), "b": log_randint(1, 5), "c": [1, 2], "d": np.arange(3)}
    found = translated(space)
    assert all(found[name] is space[name] for name in space)


def test_usual_names_are_those_of_estimators_and_not_of_modules_of_your_own():
    known = ["net__lr", "net__max_epochs", "net__random_state", "net__module__seeds"]
    assert synonyms("net__learning_rate", known) == ["net__lr"]
    assert synonyms("seed", known) == ["net__random_state"]
    assert synonyms("net__module__seed", known) == []
