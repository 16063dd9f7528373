"""Combinations of values that are forbidden are never proposed, and never fitted."""

import pickle
from html import unescape

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_iris
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skhpo import (
    BayesSearchCV,
    HalvingHyperbandSearchCV,
    HarmonicaSearchCV,
    SearchCV,
    SearchSpace,
    SelfTuningClassifier,
    ordered,
)
from skhpo.samplers import BayesSampler, EnqueuedSampler, GridSampler, RandomSampler, Sampler
from skhpo.schedulers import FullScheduler, Harmonica

X, y = load_iris(return_X_y=True)
LETTERS = {"a": ["p", "q", "r"], "b": [1, 2, 3, 4], "c": [None, "x"]}
PAIRS = [{"a": "p", "b": 1}, {"a": "q", "c": None}, {"b": 3}]


def breaks_a_pair(params):
    return any(all(params[k] == v for k, v in pair.items()) for pair in PAIRS)


def steep(params):
    return params["x"] + params["y"] > 0.5


SQUARE = {"x": uniform(0, 1), "y": uniform(0, 1)}
SAMPLERS = [
    pytest.param(RandomSampler, id="random"),
    pytest.param(lambda space, seed: BayesSampler(space, seed, n_initial_points=3), id="bayes"),
]


def proposals(sampler, n):
    found = []
    for _ in range(n):
        for params in sampler.sample(1):
            found.append(params)
            sampler.observe(params, -float(len(found)), None)
    return found


@pytest.mark.parametrize("make", SAMPLERS)
@pytest.mark.parametrize("forbidden", [PAIRS, breaks_a_pair], ids=["pairs", "function"])
def test_a_finite_space_is_exhausted_but_for_what_is_forbidden(make, forbidden):
    found = proposals(make(SearchSpace(LETTERS, forbidden), 0), 30)
    allowed = [p for p in map(SearchSpace(LETTERS).nth, range(24)) if not breaks_a_pair(p)]
    assert len(found) == len(allowed)
    assert all(params in allowed for params in found)


@pytest.mark.parametrize("make", SAMPLERS)
def test_a_function_restricts_an_infinite_space(make):
    sampler = make(SearchSpace(SQUARE, steep), 0)
    found = []
    for _ in range(12):
        [params] = sampler.sample(1)
        found.append(params)
        sampler.observe(params, params["x"] + params["y"], None)  # best where it is forbidden
    assert not any(map(steep, found))


def test_random_draws_are_those_of_the_whole_space_without_the_forbidden_ones():
    whole = RandomSampler(SearchSpace(SQUARE), 0).sample(200)
    some = RandomSampler(SearchSpace(SQUARE, steep), 0)
    assert [*some.sample(3), *some.sample(10)] == [p for p in whole if not steep(p)][:13]


def test_a_grid_leaves_out_what_is_forbidden():
    grid = GridSampler(SearchSpace(LETTERS, PAIRS))
    found = [*grid.sample(5), *grid.sample(99)]
    assert found == [p for p in map(SearchSpace(LETTERS).nth, range(24)) if not breaks_a_pair(p)]


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 2), min_size=1), min_size=1),
    st.integers(0, 100),
)
def test_pairs_are_as_a_function_of_them(pairs, seed):
    values = {name: [0, 1, 2] for name in "abc"}

    def breaks(params):
        return any(all(params[k] == v for k, v in pair.items()) for pair in pairs)

    allowed = [p for p in map(SearchSpace(values).nth, range(27)) if not breaks(p)]
    if not allowed:
        with pytest.raises(ValueError, match="forbids all 27 configurations"):
            SearchSpace(values, pairs)
        return
    found = RandomSampler(SearchSpace(values, pairs), seed).sample(99)
    assert sorted(map(str, found)) == sorted(map(str, allowed))


def test_values_of_one_dict_of_several():
    space = SearchSpace(
        [{"k": ["s"], "n": [1, 2]}, {"k": ["t"], "m": [1.0]}], [{"k": "s", "n": 2.0}]
    )
    assert sorted(map(str, RandomSampler(space, 0).sample(9))) == [
        "{'k': 's', 'n': 1}",
        "{'k': 't', 'm': 1.0}",
    ]


@settings(deadline=None, max_examples=20)
@given(
    st.lists(
        st.sampled_from([{"k": "s"}, {"k": "t"}, {"k": "t", "n": 1}, {"k": "t", "n": 2}, {"n": 3}]),
        min_size=1,
    )
)
def test_values_that_one_dict_lists_and_another_has_in_a_range(pairs):
    values = [{"k": ["s"], "n": uniform(0, 4)}, {"k": ["t"], "n": [1, 2, 3]}]
    drawn = RandomSampler(SearchSpace(values), 0).sample(60)
    breaks = [any(pair.items() <= params.items() for pair in pairs) for params in drawn]
    if all(breaks):
        return
    space = SearchSpace(values, pairs)
    assert [not space.allows(params) for params in drawn] == breaks
    with pytest.raises(ValueError, match=r"'s', 'n': 2} never are.*a function"):
        SearchSpace(values, [{"k": "s", "n": 2}])


def test_harmonica_samples_and_restricts_within_what_is_allowed():
    values = {f"x{i}": [-1, 1] for i in range(8)}
    space = SearchSpace(values, lambda params: params["x0"] == 1 and params["x1"] == 1)
    scheduler = Harmonica(space, 0, n_stages=2, n_samples=40, n_terms=2)
    tried = []
    while trials := scheduler.ask():
        for trial in trials:
            tried.append(trial.params)
            scheduler.tell(trial, 2.0 * trial.params["x0"] + trial.params["x2"])
    assert len(tried) > 80
    assert all(space.allows(params) for params in tried)


def test_harmonica_does_not_restrict_to_what_is_forbidden():
    values = {f"x{i}": [-1, 1] for i in range(8)}
    space = SearchSpace(values, [{"x0": 1}])

    def score(params):
        return 3.0 * params["x1"] * params["x0"]

    scheduler = Harmonica(space, 0, n_stages=1, n_samples=40, n_terms=1)
    while trials := scheduler.ask():
        assert all(trial.params["x0"] == -1 for trial in trials)
        for trial in trials:
            scheduler.tell(trial, score(trial.params))


SEARCHES = {
    "hyperband": lambda **kwargs: HalvingHyperbandSearchCV(
        SGDClassifier(), resource="max_iter", max_resources=3, cv=2, **kwargs
    ),
    "bayes": lambda **kwargs: BayesSearchCV(SGDClassifier(max_iter=3), n_iter=8, cv=2, **kwargs),
    "harmonica": lambda **kwargs: HarmonicaSearchCV(
        SGDClassifier(max_iter=3), n_stages=1, n_samples=20, n_terms=1, n_iter=5, cv=2, **kwargs
    ),
    "any": lambda **kwargs: SearchCV(
        SGDClassifier(max_iter=3),
        scheduler=lambda space, seed: FullScheduler(RandomSampler(space, seed), 8),
        cv=2,
        **kwargs,
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SEARCHES)
def test_searches_fit_nothing_that_is_forbidden(name):
    space = {
        "alpha": loguniform(1e-5, 1),
        "penalty": ["l1", "l2"],
        "loss": ["hinge", "log_loss"],
    }
    forbidden = [{"penalty": "l1", "loss": "hinge"}, {"penalty": "l2", "loss": "log_loss"}]
    search = SEARCHES[name](param_distributions=space, forbidden=forbidden, random_state=0)
    table = search.fit(X, y).cv_results_
    met = set(zip(table["param_penalty"], table["param_loss"], strict=True))
    assert met == {("l1", "log_loss"), ("l2", "hinge")}


def test_own_parameters_that_are_forbidden_are_not_tried():
    space = {"C": [0.1, 1.0, 10.0]}

    def tried(**kwargs):
        search = BayesSearchCV(SVC(), space, n_iter=2, cv=2, random_state=0, **kwargs)
        return search.fit(X, y).cv_results_["param_C"].tolist()

    assert tried()[0] == 1.0
    assert 1.0 not in tried(forbidden=[{"C": 1.0}])


def test_what_is_enqueued_must_be_allowed():
    space = SearchSpace(LETTERS, PAIRS)
    with pytest.raises(ValueError, match="it is forbidden"):
        EnqueuedSampler(RandomSampler(space, 0), [{"a": "p", "b": 1}])
    # What is left out is drawn so that it is allowed.
    sampler = EnqueuedSampler(RandomSampler(space, 0), [{"a": "q"}] * 5, 0)
    assert all(space.allows(params) for params in sampler.sample(5))


@pytest.mark.parametrize(
    ("forbidden", "error", "match"),
    [
        ([{"d": 1}], ValueError, "'d' is not; known are"),
        ([{"aa": 1}], ValueError, "did you mean 'a'"),
        ([{"a": "z"}], ValueError, "must be in the space, but a='z'"),
        ([{}], ValueError, "one is empty"),
        ([("a", "p")], TypeError, "a list of dicts"),
        ({"a": "p"}, TypeError, "a list of dicts"),
        (lambda params: None, TypeError, "must return True or False, but returned None"),
        (lambda params: params["lr"] > 1, ValueError, "KeyError.*params.get"),
        (lambda params: True, ValueError, "forbids all 24 configurations"),
    ],
    ids=["unknown", "typo", "value", "empty", "no dicts", "a dict", "no bool", "fails", "all"],
)
def test_bad_rules(forbidden, error, match):
    with pytest.raises(error, match=match):
        SearchSpace(LETTERS, forbidden)


def test_all_of_an_infinite_space_is_too_much():
    with pytest.raises(ValueError, match="forbids each of 10,000 configurations"):
        SearchSpace(SQUARE, lambda params: True)


def test_a_value_of_a_continuous_parameter_needs_a_function():
    with pytest.raises(ValueError, match=r"lambda params: params\['x'\]"):
        SearchSpace(SQUARE, [{"x": 0.5}])


def test_parameters_that_never_meet():
    with pytest.raises(ValueError, match="in one dict of the space together"):
        SearchSpace([{"a": [1]}, {"b": [2]}], [{"a": 1, "b": 2}])


def test_a_rule_that_leaves_nearly_nothing_ends_with_an_error():
    finite = {"x": list(range(300)), "y": list(range(300))}
    for values, make in ((finite, RandomSampler), (SQUARE, RandomSampler), (SQUARE, BayesSampler)):
        rest = [True]  # what is left is never drawn again
        space = SearchSpace(values, lambda params, rest=rest: not rest)
        rest.clear()
        with pytest.raises(ValueError, match="were drawn in a row"):
            make(space, 0).sample(1)


def test_a_sampler_that_ignores_the_rule_is_refused():
    class Careless(Sampler):
        def sample(self, n):
            return [{"a": "p", "b": 1, "c": "x"}] * n

    scheduler = FullScheduler(Careless(SearchSpace(LETTERS, PAIRS)), 1)
    with pytest.raises(ValueError, match=r"Careless proposes .* space\.allows"):
        scheduler.ask()


def test_a_space_with_rules_survives_a_pickle():
    space = pickle.loads(pickle.dumps(SearchSpace(LETTERS, PAIRS)))
    assert not space.allows({"a": "p", "b": 1, "c": "x"})
    assert space.allows({"a": "p", "b": 2, "c": "x"})
    assert "some of them forbidden" in str(space)


def test_a_journal_of_other_rules_is_not_continued(tmp_path):
    path = tmp_path / "run.jsonl"

    def fit(forbidden):
        return BayesSearchCV(
            SVC(),
            {"C": [0.1, 1.0, 10.0]},
            n_iter=2,
            cv=2,
            random_state=0,
            journal=path,
            forbidden=forbidden,
        ).fit(X, y)

    fit([{"C": 1.0}])
    with pytest.raises(Exception, match="forbidden"):
        fit([{"C": 10.0}])


# --- ordered lists


def test_ordered_numbers_have_an_order_and_are_a_list():
    space = SearchSpace({"n": ordered([16, 32, 64]), "m": [16, 32, 64]})
    kinds = {d.name: d.kind for d in space.dimensions}
    assert kinds == {"n": "integer", "m": "choice"}
    assert list(ordered(np.array([1, 2]))) == [1, 2]
    assert type(ordered(np.array([1, 2]))[0]) is int
    assert repr(ordered([1, 2])) == "ordered([1, 2])"


@settings(deadline=None, max_examples=20)
@given(st.sets(st.integers(-1000, 1000) | st.floats(-1e9, 1e9), min_size=2, max_size=9))
def test_each_number_of_an_ordered_list_is_as_likely(numbers):
    values = sorted(numbers)
    space = SearchSpace({"n": ordered(values)})
    centres = [(i + 0.5) / len(values) for i in range(len(values))]
    assert np.allclose([space.to_unit({"n": value})[0] for value in values], centres)
    assert [params["n"] for params in space.from_units(np.array(centres)[:, None])] == values


@pytest.mark.parametrize(
    ("numbers", "error", "match"),
    [
        ([], ValueError, "at least one"),
        ([1, "a"], TypeError, "takes numbers, but there is 'a'"),
        ([False, True], TypeError, "takes numbers"),
        ([2, 1], ValueError, "1 comes after 2; sort them"),
        ([1, 1.0], ValueError, "must increase"),
        ([1, float("nan")], ValueError, "must be finite"),
        ([1, float("inf")], ValueError, "must be finite"),
    ],
)
def test_bad_ordered_lists(numbers, error, match):
    with pytest.raises(error, match=match):
        ordered(numbers)


def test_own_parameters_in_steps_that_are_no_integers_stay_what_they_are():
    search = BayesSearchCV(SVC(C=0.5), {"C": ordered([0.1, 0.5, 1.0])}, n_iter=1, cv=2)
    assert search.fit(X, y).best_params_ == {"C": 0.5}


# --- what is shown


def at_random(space, random_state):
    return FullScheduler(RandomSampler(space, random_state), n_candidates=2)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (BayesSearchCV(SVC(), {"C": loguniform(1e-4, 0.1)}), "loguniform(0.0001, 0.1)"),
        (SearchCV(SVC(), {"C": [1, 2]}, scheduler=at_random), "scheduler=at_random"),
        (BayesSearchCV(SVC(), {"C": [1]}, forbidden=lambda params: False), "forbidden=<lambda>"),
        (SelfTuningClassifier(hyperparameters={"a": uniform(0, 1)}), "uniform(0, 1)"),
    ],
    ids=["space", "scheduler", "forbidden", "self-tuning"],
)
def test_nothing_prints_an_address_alone_or_inside_of_something_else(shown, text):
    for one in (shown, make_pipeline(StandardScaler(), shown), GridSearchCV(shown, {"x": [1]})):
        for printed in (repr(one), one._repr_html_()):
            assert "object at 0x" not in printed
            assert "<function" not in unescape(printed)
            assert text in unescape(printed)


def test_a_search_shows_its_distributions_as_they_are_written():
    space = {
        "alpha": loguniform(1e-4, 0.1),
        "max_iter": ordered([5, 10]),
        "eta0": uniform(0, scale=2),
    }
    for given_space in (space, [space]):
        search = BayesSearchCV(SGDClassifier(), given_space)
        for text in (repr(search), search._repr_html_()):
            assert "loguniform(0.0001, 0.1)" in text.replace("&#x27;", "'")
            assert "object at 0x" not in text
        assert "uniform(0, scale=2)" in repr(search)
        assert search.param_distributions is given_space
