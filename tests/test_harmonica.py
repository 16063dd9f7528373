"""The Harmonica scheduler: stages, what they find, where the base goes on."""

import logging

import numpy as np
import pytest
from scipy.stats import loguniform, norm, randint, uniform

from skhpo.samplers import BayesSampler, RandomSampler
from skhpo.schedulers import FullScheduler, Harmonica, Hyperband
from skhpo.schedulers.harmonica import RestrictedSpace, _arguments
from skhpo.space import SearchSpace
from skhpo.testing import SchedulerContract

BITS = SearchSpace({f"x{i:02}": [-1, 1] for i in range(30)})


def run_trials(scheduler, score):
    trials = []
    while batch := scheduler.ask():
        trials += batch
        for trial in batch:
            scheduler.tell(trial, score(trial))
    return trials


def run(scheduler, score):
    return run_trials(scheduler, lambda trial: score(trial.params))


def names(scheduler, stage=0):
    """The parameters of each term."""
    return [
        [scheduler.space.dimensions[f.dimension].name for f in term.factors]
        for term in scheduler.stages[stage].terms
    ]


def mixed(seed, base=None, **kwargs):
    space = SearchSpace(
        {"lr": loguniform(1e-4, 1), "n": randint(1, 9), "act": ["relu", "tanh", None], "z": norm()}
    )
    return Harmonica(space, seed, base, **{"n_samples": 40, "n_terms": 2} | kwargs)


@pytest.mark.filterwarnings("ignore:nothing can be learnt:UserWarning")
class TestHarmonica(SchedulerContract):
    def make_scheduler(self, seed):
        return mixed(seed, lambda space, s: FullScheduler(RandomSampler(space, s), 10))


class Learning(RandomSampler):
    """Remembers what it hears."""

    learns = True

    def __init__(self, space, random_state):
        super().__init__(space, random_state)
        self.heard = []

    def observe(self, params, score, resource, **more):
        self.heard.append((params, score, resource, more["noise"], more["seconds"]))


@pytest.mark.parametrize(
    ("params", "resource", "whole"), [(None, 2, True), (None, 9, False), ({"depth": 2}, 2, False)]
)
def test_a_base_that_learns_hears_the_stages_whatever_their_order(params, resource, whole):
    samplers = []

    def base(space, random_state):
        samplers.append(Learning(space, random_state))
        return FullScheduler(samplers[-1], 3, resource=9)

    scheduler = mixed(0, base, resource=resource, params=params)
    told = {}
    while batch := scheduler.ask():
        for trial in batch[::-1]:
            score, noise, seconds = float(trial.params["n"]), 0.1 * trial.number, 1.0
            scheduler.tell(trial, score, noise=noise, seconds=seconds)
            told[trial.number] = (dict(trial.params), score, trial.resource, noise, seconds)
    heard = [told[number] for number in sorted(told)]
    assert [amount for _, _, amount, _, _ in heard] == [resource] * 80 + [9] * 3
    # Scores of the stages are of other estimators if these have parameters of their own.
    assert samplers[-1].heard[:-3] == ([] if params else heard[:80])
    assert len(samplers[-1].heard) == (3 if params else 83)
    # What short fits say of a region does not bind a base that knows their scores.
    assert isinstance(samplers[-1].space, RestrictedSpace) == (not whole)
    assert min(trial["n"] for trial, *_ in heard[40:80]) > 4


@pytest.mark.filterwarnings("ignore:nothing can be learnt:UserWarning")
class TestHarmonicaWithHyperband(SchedulerContract):
    def make_scheduler(self, seed):
        def base(space, random_state):
            return Hyperband(RandomSampler(space, random_state), max_resources=9)

        return mixed(seed, base, resource=3, params={"depth": 2})

    def test_candidates_are_configurations_of_the_space(self):
        scheduler = self.make_scheduler(0)
        for trial in self._run(scheduler):
            params = dict(trial.params)
            if trial.tags["stage"] < 2:
                assert params.pop("depth") == 2
            scheduler.space.to_unit(params)


def test_a_sparse_polynomial_is_found_and_maximised():
    def score(x):
        return 3 * x["x04"] - 2 * x["x07"] * x["x09"] + x["x01"] * x["x02"] * x["x03"]

    scheduler = Harmonica(BITS, 0, n_stages=1, n_samples=100)
    trials = run(scheduler, score)
    assert names(scheduler) == [["x04"], ["x07", "x09"], ["x01", "x02", "x03"]]
    assert [term.coefficient for term in scheduler.stages[0].terms] == pytest.approx([3, -2, 1])
    assert scheduler.stages[0].explained == pytest.approx(1)
    assert sum(scheduler.stages[0].shares) == pytest.approx(1, abs=0.2)
    best = [score(trial.params) for trial in trials if trial.tags["stage"] == 1]
    assert len(best) == 100
    assert set(best) == {6}
    others = {tuple(v for k, v in trial.params.items() if k > "x09") for trial in trials[100:]}
    assert len(others) > 90


def test_a_few_large_scores_hide_no_parameter():
    rng = np.random.default_rng(1)
    scheduler = Harmonica(BITS, 1, n_stages=1, n_samples=80)
    run(scheduler, lambda x: float(np.exp(x["x04"] + 1.3 * rng.normal())))
    assert names(scheduler) == [["x04"]]
    assert scheduler.stages[0].shares == pytest.approx([scheduler.stages[0].explained])


def test_halves_of_numbers_are_halved_again():
    space = SearchSpace({"x": uniform(), **{f"d{i}": ["a", "b", "c"] for i in range(5)}})
    scheduler = Harmonica(space, 0, n_stages=3, n_samples=80, n_restrictions=1)
    trials = run(scheduler, lambda params: -abs(params["x"] - 0.7))
    ranges = [
        np.ptp([trial.params["x"] for trial in trials if trial.tags["stage"] == stage])
        for stage in range(4)
    ]
    assert ranges[0] > 0.9
    assert ranges[1] <= 0.5
    assert ranges[2] <= 0.25
    assert max(scheduler.stages[2].best_score, scheduler.stages[1].best_score) > -0.01
    parameters = {name for stage in (0, 1) for term in names(scheduler, stage) for name in term}
    assert parameters == {"x"}


def test_a_half_in_which_nothing_differs_is_kept_whole():
    space = SearchSpace({"x": uniform(), **{f"d{i}": ["a", "b", "c"] for i in range(5)}})
    scheduler = Harmonica(space, 0, n_stages=1, n_samples=80)
    trials = run(scheduler, lambda params: [0, 2, 3, 3][int(4 * params["x"])])
    left = np.array([trial.params["x"] for trial in trials if trial.tags["stage"] == 1])
    assert left.min() >= 0.5
    assert np.mean(left < 0.75) == pytest.approx(0.5, abs=0.2)


def test_choices_are_fixed_or_excluded():
    space = SearchSpace({"act": ["relu", "tanh", "gelu", None], "n": [8, 16, 32], "z": uniform()})

    def score(params):
        return -(params["act"] == "tanh") + 2 * (params["n"] == 32)

    scheduler = Harmonica(space, 0, n_stages=1, n_samples=100, n_restrictions=1)
    trials = run(scheduler, score)
    assert scheduler.stages[0].terms[1].factors[0].label == "tanh"
    left = [trial.params for trial in trials if trial.tags["stage"] == 1]
    assert {params["act"] for params in left} == {"relu", "gelu", None}
    assert {params["n"] for params in left} == {32}


def test_which_dict_of_a_conditional_space_matters_and_what_in_it():
    space = SearchSpace(
        [
            {"kind": ["a"], "x": [0, 1], "shared": [0, 1, 2]},
            {"kind": ["b"], "y": [0, 1], "w": [0, 1], "shared": [0, 1, 2]},
        ]
    )

    def score(params):
        return 2 * (params["kind"] == "b") + params.get("y", 0) + 0.1 * params.get("x", 0)

    scheduler = Harmonica(space, 0, n_stages=1, n_samples=36, n_restrictions=1, n_terms=2)
    trials = run(scheduler, score)
    left = [trial.params for trial in trials if trial.tags["stage"] == 1]
    assert {(params["kind"], params["y"]) for params in left} == {("b", 1)}
    assert {params["w"] for params in left} == {0, 1}


def test_failed_samples_are_counted_and_left_out():
    def score(x):
        return np.nan if x["x00"] == 1 and x["x01"] == 1 else x["x04"] - x["x05"] * x["x06"]

    scheduler = Harmonica(BITS, 0, n_stages=1, n_samples=120)
    run(scheduler, score)
    stage = scheduler.stages[0]
    assert 10 < stage.n_failed < 60
    assert names(scheduler) == [["x04"], ["x05", "x06"]]
    assert stage.best_score == 2
    assert stage.mean_score == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize(
    ("score", "why"),
    [(lambda x: 0.5, "all scores are 0.5"), (lambda x: np.nan, "50 of its 50 fits failed")],
    ids=["constant", "failed"],
)
def test_nothing_to_learn_is_said_and_the_base_goes_on(score, why):
    scheduler = Harmonica(BITS, 0, n_samples=50, n_stages=3)
    with pytest.warns(UserWarning, match=f"nothing can be learnt from stage 0 because {why}"):
        trials = run(scheduler, score)
    assert len(scheduler.stages) == 1
    assert scheduler.stages[0].terms == []
    base = [trial.params for trial in trials if trial.tags["stage"] == 3]
    assert len(base) == 100
    assert all({params[name] for params in base} == {-1, 1} for name in BITS.names)


def test_a_stage_that_fails_leaves_what_was_learnt_before():
    def score(trial):
        return np.nan if trial.tags["stage"] == 1 else trial.params["x04"]

    scheduler = Harmonica(BITS, 0, n_samples=50)
    told = []
    with pytest.warns(UserWarning, match="nothing can be learnt from stage 1"):
        told += run_trials(scheduler, score)
    assert {trial.params["x04"] for trial in told if trial.tags["stage"] > 0} == {1}
    assert [stage.n_failed for stage in scheduler.stages] == [0, 50]


def test_without_terms_the_samples_of_stages_add_up():
    rng = np.random.default_rng(3)
    noise = {}

    def score(x):
        key = tuple(x.values())
        return noise.setdefault(key, 1.1 * x["x04"] * x["x05"] * x["x06"] + rng.normal())

    scheduler = Harmonica(BITS, 3, n_stages=3, n_samples=24)
    run(scheduler, score)
    assert names(scheduler, 0) == []
    assert ["x04", "x05", "x06"] in names(scheduler, 1) + names(scheduler, 2)


def test_a_small_space_is_tried_once_and_no_more_is_asked_of_it():
    space = SearchSpace({"a": [1, 2, 3], "b": [True, False]})
    scheduler = Harmonica(
        space, 0, lambda space, seed: FullScheduler(RandomSampler(space, seed), 4)
    )
    trials = run(scheduler, lambda params: params["a"])
    assert [trial.tags["stage"] for trial in trials] == [0] * 6 + [2] * 4
    assert len({space.key(trial.params) for trial in trials[:6]}) == 6


def test_terms_and_restrictions_of_each_stage():
    scheduler = Harmonica(BITS, 0, n_samples=100, n_terms=(4, 1), n_restrictions=3)
    weights = {"x00": 6, "x01": 5, "x02": 4, "x03": 3, "x04": 2}
    run(scheduler, lambda x: sum(weight * x[name] for name, weight in weights.items()))
    first, second = scheduler.stages
    assert names(scheduler, 0) == [["x00"], ["x01"], ["x02"], ["x03"]]
    # Of 16 patterns the two best, the second without the smallest term.
    assert [sum(pattern) for pattern in first.region.patterns] == pytest.approx([18, 12], abs=2)
    assert names(scheduler, 1) == [["x04"]]
    assert len(second.region.patterns) == 1
    assert second.mean_score > first.mean_score + 10


def test_bayes_goes_on_in_what_is_left():
    space = SearchSpace({"x": uniform(), "y": uniform(), "a": ["p", "q"], "b": ["r", "s"]})

    def base(space, random_state):
        return FullScheduler(BayesSampler(space, random_state), 12)

    scheduler = Harmonica(space, 0, base, n_stages=1, n_samples=60, n_restrictions=1)
    trials = run(scheduler, lambda p: -abs(p["x"] - 0.8) + (p["a"] == "q") - 0.3 * p["y"])
    left = [trial.params for trial in trials if trial.tags["stage"] == 1]
    assert len(left) == 12
    assert {params["a"] for params in left} == {"q"}
    assert all(params["x"] >= 0.5 for params in left)


def test_numbers_of_the_paper():
    assert Harmonica(SearchSpace({f"x{i}": [0, 1] for i in range(60)}), 0).n_trials == 2 * 300 + 100
    assert len(mixed(0, n_samples="auto").ask()) < 200


def many_choices(**arguments):
    return Harmonica(SearchSpace({f"x{i}": list("abcdefghij") for i in range(200)}), 0, **arguments)


def test_the_automatic_degree_is_what_can_be_gone_through(caplog):
    caplog.set_level(logging.INFO, logger="skhpo")
    assert many_choices().n_trials == many_choices(degree=2).n_trials
    assert not caplog.records
    assert many_choices(degree=3).n_trials > many_choices().n_trials
    assert "1,315,392,000 products of functions of up to degree=3" in caplog.text
    assert "minutes" in caplog.text
    with pytest.raises(
        ValueError, match=r"6\d\d,\d{3},\d{3},\d{3} products.*use degree=3 \(1,315,"
    ):
        many_choices(degree=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_samples": 5}, "n_samples >= 12 must hold.*n_samples=5 and n_terms=5"),
        ({"degree": 31}, "degree <= number of parameters.*degree=31 and 30 parameters"),
        (
            {"degree": 15},
            r"614,429,671 products.*degree=15 parameters \(30 functions.*use degree=9 \(22,9",
        ),
        ({"degree": "all"}, r"'degree' parameter.*\[1, inf\) or a str among {'auto'}.*Got 'all'"),
        ({"n_terms": 0}, r"'n_terms' parameter.* an int in the range \[1, inf\).*Got 0"),
        ({"n_terms": (5, 5, 5)}, "one for each of the n_stages=2 stages"),
        ({"n_stages": 0}, r"'n_stages' parameter.* an int in the range \[1, inf\).*Got 0"),
        (
            {"n_restrictions": 0},
            r"'n_restrictions' parameter.* an int in the range \[1, inf\).*Got 0",
        ),
        ({"alpha": 0}, r"'alpha' parameter.* a float in the range \(0"),
        ({"alpha": "bic"}, r"'alpha' parameter.* a str among {'auto'}.*Got 'bic'"),
        ({"resource": 3}, "a base without a resource"),
        ({"params": {"x03": 1}}, "'x03' is; remove it"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Harmonica(BITS, 0, **arguments)


def test_a_space_of_one_point():
    with pytest.raises(ValueError, match="at least two configurations"):
        Harmonica(SearchSpace({"x": [1], "y": ["a"]}), 0)


def test_what_does_not_fit_into_memory_is_said(monkeypatch):
    monkeypatch.setattr(_arguments, "total_memory", lambda: 1e6)
    with pytest.raises(
        ValueError, match=r"2,000 functions and 415 samples it takes 0\.0 GB of 0\.0"
    ):
        many_choices()
