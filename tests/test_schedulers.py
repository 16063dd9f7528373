import math
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skhpo import SearchSpace
from skhpo.samplers import GridSampler, RandomSampler
from skhpo.schedulers import (
    AsynchronousHyperband,
    FullScheduler,
    Hyperband,
    Scheduler,
    SuccessiveHalving,
    hyperband_plan,
)
from skhpo.schedulers.halving import Bracket
from skhpo.testing import SchedulerContract
from skhpo.trial import Trial

quick = settings(deadline=None, max_examples=60)

SPACE = SearchSpace({"x": stats.uniform(), "a": ["s", "t"]})


class LearningSampler(RandomSampler):
    """Remembers what it was told."""

    learns = True

    def __init__(self, space, random_state=None):
        super().__init__(space, random_state)
        self.observed = []

    def observe(self, params, score, resource, *, noise=None, seconds=None):
        self.observed.append((params, score, resource))


def run(scheduler, score, order=list):
    """Run a search to its end; return the batches."""
    batches = []
    while batch := scheduler.ask():
        batches.append(batch)
        for trial in order(batch):
            scheduler.tell(trial, score(trial))
    return batches


def trials_of(scheduler, score):
    return [trial for batch in run(scheduler, score) for trial in batch]


def by_x(trial):
    return trial.params["x"]


# --- contracts


class TestFullScheduler(SchedulerContract):
    def make_scheduler(self, seed):
        return FullScheduler(RandomSampler(SPACE, seed), 10, batch_size=4)


class TestFullSchedulerThatLearns(SchedulerContract):
    def make_scheduler(self, seed):
        return FullScheduler(LearningSampler(SPACE, seed), 10, batch_size=3, resource=7)


class TestFullSchedulerThatIsAsynchronous(SchedulerContract):
    def make_scheduler(self, seed):
        return FullScheduler(LearningSampler(SPACE, seed), 10, asynchronous=True)


class TestSuccessiveHalving(SchedulerContract):
    def make_scheduler(self, seed):
        return SuccessiveHalving(RandomSampler(SPACE, seed), [(20, 2), (7, 5), (2, 6)])


class TestHyperband(SchedulerContract):
    def make_scheduler(self, seed):
        return Hyperband(RandomSampler(SPACE, seed), max_resources=27, n_iterations=2)


class TestHyperbandWithAFullCandidateFirst(SchedulerContract):
    def make_scheduler(self, seed):
        return Hyperband(RandomSampler(SPACE, seed), max_resources=9, full_first=True)


class TestHyperbandThatLearns(SchedulerContract):
    def make_scheduler(self, seed):
        return Hyperband(LearningSampler(SPACE, seed), max_resources=9, n_iterations=2)


# --- the plan

PUBLISHED = [  # Li et al. 2018, table 1
    [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
    [(34, 3), (11, 9), (3, 27), (1, 81)],
    [(15, 9), (5, 27), (1, 81)],
    [(8, 27), (2, 81)],
    [(5, 81)],
]


def test_plan_is_the_published_one():
    assert hyperband_plan(1, 81, 3) == PUBLISHED == hyperband_plan()


def test_plan_has_all_brackets_at_exact_powers():
    # math.floor(math.log(243, 3)) is 4
    assert [len(bracket) for bracket in hyperband_plan(1, 243, 3)] == [6, 5, 4, 3, 2, 1]
    for base, power in [(3, 20), (10, 15), (2, 30), (7, 11)]:
        assert len(hyperband_plan(1, base**power, base)) == power + 1
        assert len(hyperband_plan(1, base**power - 1, base)) == power


@pytest.mark.parametrize("n_brackets", [1, 3, 5])
def test_plan_keeps_the_most_aggressive_brackets(n_brackets):
    assert hyperband_plan(1, 81, 3, n_brackets) == PUBLISHED[:n_brackets]


def test_plan_scales_with_the_smallest_resource():
    scaled = [[(n, 5 * r) for n, r in bracket] for bracket in PUBLISHED]
    assert hyperband_plan(5, 405, 3) == scaled


def test_plan_of_a_single_level():
    assert hyperband_plan(4, 4, 3) == [[(1, 4)]]
    assert hyperband_plan(4, 11, 3) == [[(1, 11)]]


@pytest.mark.parametrize("factor", [3, 3.0, np.int64(3), np.float32(3), Fraction(3)])
def test_plan_takes_any_number_as_factor(factor):
    assert hyperband_plan(1, 3**30, factor) == hyperband_plan(1, 3**30, 3)


limits = st.tuples(st.integers(1, 60), st.integers(0, 300)).map(lambda t: (t[0], sum(t)))
factors = st.integers(2, 6) | st.floats(1.3, 5) | st.fractions(Fraction(4, 3), 5, max_denominator=9)


@given(limits, factors)
@quick
def test_plan_follows_the_algorithm(limits, factor):
    low, high = limits
    eta = Fraction(factor)
    plan = hyperband_plan(low, high, factor)
    s_max = len(plan) - 1
    assert low * eta**s_max <= high < low * eta ** (s_max + 1)
    for s, bracket in zip(range(s_max, -1, -1), plan, strict=True):
        n = math.ceil((s_max + 1) * eta**s / (s + 1))
        levels = [max(low, math.floor(high / eta ** (s - i))) for i in range(s + 1)]
        sizes = [math.floor(n / eta**i) for i in range(s + 1)]
        # Of rungs at the same level, the first one says it all.
        first = dict(reversed(list(zip(levels, sizes, strict=True))))
        assert bracket == [(first[level], level) for level in sorted(first)]
        assert bracket[-1][1] == high
        assert bracket[-1][0] >= 1


def test_what_has_no_end_is_counted_first():
    with pytest.raises(ValueError, match=r"at most 200 rungs, but factor=1\.0000001.* 43,944,494;"):
        hyperband_plan(factor=1.0000001)
    sampler = RandomSampler(SPACE, 0)
    for scheduler in (Hyperband, AsynchronousHyperband):
        with pytest.raises(ValueError, match="at most 1,000,000 candidates, but one would start w"):
            scheduler(sampler, max_resources=10**29)
        assert scheduler(sampler, n_iterations=10**6).ask()


# --- what is trained


@given(limits, factors, st.integers(1, 2), st.booleans(), st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_resource_trained_is_that_of_the_plan(limits, factor, n_iterations, learns, seed):
    plan = hyperband_plan(*limits, factor)
    sampler = (LearningSampler if learns else RandomSampler)(SPACE, seed)
    scheduler = Hyperband(
        sampler,
        min_resources=limits[0],
        max_resources=limits[1],
        factor=factor,
        n_iterations=n_iterations,
    )
    trials = trials_of(scheduler, by_x)
    resource = {trial.number: trial.resource for trial in trials}
    trained = sum(trial.resource - resource.get(trial.parent, 0) for trial in trials)
    expected = 0
    for bracket in plan:
        before = 0
        for size, level in bracket:
            expected += size * (level - before)
            before = level
    assert trained == n_iterations * expected
    assert len(trials) == scheduler.n_trials
    assert scheduler.max_resource == limits[1]
    sizes = Counter((trial.tags["bracket"], trial.tags["iter"]) for trial in trials)
    assert [
        [(sizes[b, i], level) for i, (_, level) in enumerate(bracket)]
        for b, bracket in enumerate(plan * n_iterations)
    ] == plan * n_iterations


scores = st.lists(
    st.one_of(st.just(math.nan), st.sampled_from([-math.inf, 0.0, 1.0, 2.0]), st.floats()),
    min_size=1,
    max_size=20,
)


@given(scores, st.randoms(use_true_random=False))
@quick
def test_the_best_are_promoted(scores, random):
    """Against a plain sort; with failures, ties, and results that come in any order."""
    space = SearchSpace({"i": list(range(len(scores)))})
    rungs = [(len(scores), 1), (max(1, len(scores) // 2), 2), (1, 5)]
    scheduler = SuccessiveHalving(GridSampler(space), rungs)
    survivors = list(range(len(scores)))
    for i, (size, level) in enumerate(rungs):
        survivors = survivors[:size]
        batch = scheduler.ask()
        assert [trial.candidate for trial in batch] == survivors
        assert all(trial.params == {"i": trial.candidate} for trial in batch)
        assert {trial.resource for trial in batch} <= {level}
        assert all(trial.tags == {"bracket": 0, "iter": i} for trial in batch)
        for trial in random.sample(batch, len(batch)):
            scheduler.tell(trial, scores[trial.candidate])
        survivors = sorted(
            (c for c in survivors if not math.isnan(scores[c])), key=lambda c: (-scores[c], c)
        )
    assert scheduler.ask() == []


def places(batches):
    """Return bracket and rung of each batch, and check that it has one of them."""
    found = [{(trial.tags["bracket"], trial.tags["iter"]) for trial in batch} for batch in batches]
    assert all(len(place) == 1 for place in found)
    return [place.pop() for place in found]


def tell_all(scheduler, batch):
    for trial in batch:
        scheduler.tell(trial, by_x(trial))


IN_ORDER = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]
TWICE = [*IN_ORDER, *((bracket + 3, rung) for bracket, rung in IN_ORDER)]


@pytest.mark.parametrize("learns", [False, True])
def test_each_bracket_runs_to_its_end_before_the_next(learns):
    sampler = (LearningSampler if learns else RandomSampler)(SPACE, 0)
    scheduler = Hyperband(sampler, max_resources=9, n_iterations=2)
    assert places(run(scheduler, by_x)) == TWICE
    assert not learns or len(sampler.observed) == scheduler.n_trials


def test_earlier_brackets_go_on_before_later_ones_start():
    scheduler = Hyperband(RandomSampler(SPACE, 0), max_resources=9, n_iterations=None)
    assert scheduler.n_trials is None
    ahead = [scheduler.ask() for _ in range(4)]
    assert places(ahead) == [(0, 0), (1, 0), (2, 0), (3, 0)]
    for told, expected in [(1, (1, 1)), (0, (0, 1)), (3, (3, 1))]:
        tell_all(scheduler, ahead[told])
        ahead.append(scheduler.ask())
        assert places(ahead[-1:]) == [expected]
    tell_all(scheduler, ahead[5])  # bracket 0, rung 1
    tell_all(scheduler, ahead[4])  # bracket 1, rung 1: its last
    assert places([scheduler.ask(), scheduler.ask()]) == [(0, 2), (4, 0)]


def test_where_the_sampler_learns_nothing_is_asked_ahead():
    scheduler = Hyperband(LearningSampler(SPACE, 0), max_resources=9)
    first = scheduler.ask()
    assert scheduler.ask() == []
    tell_all(scheduler, first)
    assert places([scheduler.ask()]) == [(0, 1)]
    assert scheduler.ask() == []


@pytest.mark.parametrize("kind", [Hyperband, AsynchronousHyperband])
def test_a_full_candidate_first_at_no_cost(kind):
    kwargs = {"max_resources": 9, "n_iterations": 2}
    plain = trials_of(kind(RandomSampler(SPACE, 0), **kwargs), by_x)
    first = trials_of(kind(RandomSampler(SPACE, 0), **kwargs, full_first=True), by_x)
    assert (first[0].resource, first[0].tags) == (9, {"bracket": 2, "iter": 0})
    assert first[1].tags == plain[0].tags
    rungs = [[(t.tags["bracket"], t.tags["iter"], t.resource) for t in ts] for ts in (plain, first)]
    assert Counter(rungs[0]) == Counter(rungs[1])
    assert sum(trial.tags["bracket"] == 2 and trial.number > 0 for trial in first) == 2


def test_no_full_candidate_first_where_no_bracket_starts_with_all_of_the_resource():
    scheduler = Hyperband(RandomSampler(SPACE, 0), max_resources=9, n_brackets=2, full_first=True)
    assert places(run(scheduler, by_x)) == IN_ORDER[:-1]


def test_checkpoints_of_contenders_are_kept():
    sampler = GridSampler(SearchSpace({"i": list(range(4))}))
    scheduler = SuccessiveHalving(sampler, [(4, 1), (2, 2), (1, 4)])
    batch = scheduler.ask()
    kept = []
    for trial, score in zip(batch, [1.0, math.nan, 3.0, 2.0], strict=True):
        scheduler.tell(trial, score)
        kept.append(scheduler.may_continue())
    assert kept == [{0}, {0}, {0, 2}, {2, 3}]
    batch = scheduler.ask()
    assert [trial.parent for trial in batch] == [2, 3]
    assert scheduler.may_continue() == set()
    for trial in batch:
        scheduler.tell(trial, 1.0)
    (last,) = scheduler.ask()
    scheduler.tell(last, 1.0)
    assert scheduler.may_continue() == set()


# --- little to choose from


@pytest.mark.parametrize("learns", [False, True])
def test_exhausted_space(learns):
    space = SearchSpace({"x": list(range(11))})
    sampler = (LearningSampler if learns else RandomSampler)(space, 0)
    trials = trials_of(Hyperband(sampler, max_resources=9, n_iterations=2), by_x)
    sizes = Counter((t.tags["bracket"], t.tags["iter"]) for t in trials)
    assert sizes == {(0, 0): 9, (0, 1): 3, (0, 2): 1, (1, 0): 2, (1, 1): 1}
    assert sorted(t.params["x"] for t in trials if t.parent is None) == list(range(11))


def test_rung_shrinks_to_those_that_did_not_fail():
    sampler = GridSampler(SearchSpace({"x": list(range(9))}))
    scheduler = SuccessiveHalving(sampler, [(9, 1), (3, 3), (2, 9)])
    trials = trials_of(scheduler, lambda t: t.params["x"] if t.params["x"] in (4, 7) else math.nan)
    reached = defaultdict(list)
    for trial in trials:
        reached[trial.resource].append(trial.params["x"])
    assert reached == {1: list(range(9)), 3: [7, 4], 9: [7, 4]}


def test_failed_bracket_does_not_stop_the_next():
    scheduler = Hyperband(LearningSampler(SPACE, 0), max_resources=9)
    trials = trials_of(scheduler, lambda trial: math.nan)
    assert Counter(trial.tags["bracket"] for trial in trials) == {0: 9, 1: 5, 2: 3}


# --- full fits


def test_full_fits_start_all_at_once():
    scheduler = FullScheduler(RandomSampler(SPACE, 0), 20)
    batches = run(scheduler, by_x)
    assert [len(batch) for batch in batches] == [20]
    assert batches[0][3] == Trial(number=3, candidate=3, params=batches[0][3].params)
    assert scheduler.n_trials == 20
    assert scheduler.max_resource is None


def test_full_fits_start_one_by_one_where_the_sampler_learns():
    sampler = LearningSampler(SPACE, 0)
    batches = run(FullScheduler(sampler, 4, resource=5), by_x)
    assert [len(batch) for batch in batches] == [1, 1, 1, 1]
    assert [resource for _, _, resource in sampler.observed] == [5] * 4


def test_full_fits_in_batches():
    scheduler = FullScheduler(LearningSampler(SPACE, 0), 7, batch_size=3)
    first = scheduler.ask()
    assert len(first) == 3
    scheduler.tell(first[1], 0.0)
    assert [trial.number for trial in scheduler.ask()] == [3]
    assert scheduler.ask() == []


def test_full_fits_of_an_exhausted_space():
    scheduler = FullScheduler(GridSampler(SearchSpace({"x": [1, 2, 3]})), 10)
    assert [trial.params["x"] for trial in trials_of(scheduler, by_x)] == [1, 2, 3]


# --- results and misuse


def test_results_reach_the_sampler():
    sampler = LearningSampler(SPACE, 0)
    trials = trials_of(SuccessiveHalving(sampler, [(3, 1), (1, 4)]), by_x)
    assert sampler.observed == [(t.params, by_x(t), t.resource) for t in trials]


def test_array_parameters_can_be_told():
    space = SearchSpace({"priors": [np.ones(2), np.zeros(2), np.array([1.0, np.nan])]})
    scheduler = SuccessiveHalving(RandomSampler(space, 0), [(3, 1), (1, 2)])
    assert len(trials_of(scheduler, lambda trial: trial.number)) == 4


def test_trials_that_were_not_asked_for():
    scheduler = FullScheduler(RandomSampler(SPACE, 0), 3, resource=4)
    (trial, *_) = scheduler.ask()
    scheduler.tell(trial, 1.0)
    with pytest.raises(ValueError, match="trial 0 has been told already"):
        scheduler.tell(trial, 1.0)
    with pytest.raises(ValueError, match="trial 9 was not asked for"):
        scheduler.tell(Trial(number=9, candidate=9, params={}), 1.0)
    with pytest.raises(ValueError, match="trial 1 was asked for as"):
        scheduler.tell(Trial(number=1, candidate=1, params={}, resource=5), 1.0)


def test_scheduler_without_ask_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Scheduler(RandomSampler(SPACE, 0))


# --- bad input


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        (
            {"min_resources": 9, "max_resources": 3},
            ValueError,
            r"min_resources <= max_resources.*\(min_resources=9, max_resources=3\)",
        ),
        (
            {"min_resources": 0},
            ValueError,
            r"'min_resources' parameter.* an int in the range \[1, inf\).*Got 0",
        ),
        (
            {"min_resources": 1.5},
            TypeError,
            r"'min_resources' parameter.* an int in the range \[1, inf\).*1\.5",
        ),
        (
            {"max_resources": "81"},
            TypeError,
            r"'max_resources' parameter.* an int in the range \[1, inf\)",
        ),
        (
            {"max_resources": True},
            TypeError,
            r"'max_resources' parameter.* an int in the range \[1, inf\)",
        ),
        ({"factor": 1}, ValueError, r"'factor' parameter.* a float in the range \(1.*Got 1"),
        ({"factor": 0.5}, ValueError, r"'factor' parameter.* a float in the range \(1"),
        ({"factor": math.nan}, ValueError, r"'factor' parameter.* a float in the range \(1"),
        ({"factor": math.inf}, ValueError, r"'factor' parameter.* a float in the range \(1"),
        ({"factor": "3"}, TypeError, r"'factor' parameter.* a float in the range \(1"),
        ({"factor": None}, TypeError, r"'factor' parameter.* a float in the range \(1"),
        (
            {"n_brackets": 0},
            ValueError,
            r"'n_brackets' parameter.* an int in the range \[1, inf\).*Got 0",
        ),
        ({"n_brackets": 6}, ValueError, "1 <= n_brackets <= 5 must hold.*n_brackets=6"),
        ({"n_brackets": "most"}, ValueError, r"\[1, inf\) or a str among {'all'}.*Got 'most'"),
        (
            {"n_brackets": 2.0},
            TypeError,
            r"'n_brackets' parameter.* an int in the range \[1, inf\)",
        ),
        (
            {"n_iterations": 0},
            ValueError,
            r"'n_iterations' parameter.* an int in the range \[1, inf\).*Got 0",
        ),
        (
            {"n_iterations": 1.0},
            TypeError,
            r"'n_iterations' parameter.* an int in the range \[1, inf\)",
        ),
    ],
)
def test_bad_arguments_of_hyperband(kwargs, error, match):
    with pytest.raises(error, match=match):
        Hyperband(RandomSampler(SPACE, 0), **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        (
            {"n_candidates": 0},
            ValueError,
            r"'n_candidates' parameter.* an int in the range \[1, inf\).*Got 0",
        ),
        (
            {"n_candidates": 2.5},
            TypeError,
            r"'n_candidates' parameter.* an int in the range \[1, inf\)",
        ),
        (
            {"n_candidates": 5, "batch_size": 0},
            ValueError,
            r"'batch_size' parameter.* an int in the range \[1, inf\).*Got 0",
        ),
        (
            {"n_candidates": 5, "resource": 0},
            ValueError,
            r"'resource' parameter.* an int in the range \[1, inf\).*Got 0",
        ),
    ],
)
def test_bad_arguments_of_full_fits(kwargs, error, match):
    with pytest.raises(error, match=match):
        FullScheduler(RandomSampler(SPACE, 0), **kwargs)


@pytest.mark.parametrize(
    ("rungs", "error", "match"),
    [
        ([], ValueError, "at least one rung"),
        ([(0, 1)], ValueError, r"'n_candidates' parameter.* an int in the range \[1, inf\).*Got 0"),
        ([(3, 0)], ValueError, r"'resource' parameter.* an int in the range \[1, inf\).*Got 0"),
        ([(3, 1.5)], TypeError, r"'resource' parameter.* an int in the range \[1, inf\)"),
        ([(3, 1), (4, 2)], ValueError, r"got \(4, 2\) after \(3, 1\)"),
        ([(3, 1), (2, 1)], ValueError, r"got \(2, 1\) after \(3, 1\)"),
    ],
)
def test_bad_rungs(rungs, error, match):
    with pytest.raises(error, match=match):
        Bracket(rungs)
    with pytest.raises(error, match=match):
        SuccessiveHalving(RandomSampler(SPACE, 0), rungs)
