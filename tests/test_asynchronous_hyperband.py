import math
from collections import Counter, defaultdict
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skhpo import SearchSpace
from skhpo.samplers import GridSampler, RandomSampler
from skhpo.schedulers import AsynchronousHyperband, Hyperband, hyperband_plan
from skhpo.testing import SchedulerContract

quick = settings(deadline=None, max_examples=60)

SPACE = SearchSpace({"x": stats.uniform(), "a": ["s", "t"]})


class LearningSampler(RandomSampler):
    learns = True


class TestAsynchronousHyperband(SchedulerContract):
    synchronous = False

    def make_scheduler(self, seed):
        return AsynchronousHyperband(RandomSampler(SPACE, seed), max_resources=27, n_iterations=2)


class TestAsynchronousHyperbandThatLearns(SchedulerContract):
    synchronous = False

    def make_scheduler(self, seed):
        return AsynchronousHyperband(LearningSampler(SPACE, seed), max_resources=9, n_brackets=2)


def by_x(trial):
    return trial.params["x"]


def run(scheduler, score, random, n_workers=4):
    """Run a search whose trials end in any order; yield it after every ask that gave a trial.

    Yields the new trial, the scores told so far by trial number, and the running trials.
    """
    told, running = {}, []
    while True:
        while len(running) < n_workers and (batch := scheduler.ask()):
            (trial,) = batch
            yield trial, told, running
            running.append(trial)
        if not running:
            return
        for _ in range(random.randint(1, len(running))):
            trial = running.pop(random.randrange(len(running)))
            told[trial.number] = score(trial)
            scheduler.tell(trial, told[trial.number])


scores = st.lists(
    st.sampled_from([math.nan, -math.inf, 0.0, 1.0, 2.0]) | st.floats(), min_size=1, max_size=300
)
limits = st.tuples(st.integers(1, 20), st.integers(0, 80)).map(lambda t: (t[0], sum(t)))
factors = st.integers(2, 5) | st.floats(1.4, 4) | st.fractions(Fraction(3, 2), 4, max_denominator=7)
orders = st.randoms(use_true_random=False)


@given(limits, factors, st.integers(1, 2), st.booleans(), st.integers(1, 20), orders)
@quick
def test_work_is_that_of_hyperband(limits, factor, n_iterations, learns, n_workers, order):
    sampler = (LearningSampler if learns else RandomSampler)(SPACE, 0)
    kwargs = {
        "min_resources": limits[0],
        "max_resources": limits[1],
        "factor": factor,
        "n_iterations": n_iterations,
    }
    scheduler = AsynchronousHyperband(sampler, **kwargs)
    trials = [trial for trial, _, _ in run(scheduler, by_x, order, n_workers)]
    sizes = Counter((t.tags["bracket"], t.tags["iter"], t.resource) for t in trials)
    plan = hyperband_plan(*limits, factor) * n_iterations
    assert sizes == {
        (b, i, level): size for b, rungs in enumerate(plan) for i, (size, level) in enumerate(rungs)
    }
    synchronous = Hyperband(RandomSampler(SPACE, 0), **kwargs)
    assert scheduler.n_trials == synchronous.n_trials == len(trials)
    assert scheduler.max_resource == synchronous.max_resource


@given(scores, st.sampled_from([2, 2.5, 3, 4]), st.integers(1, 12), orders)
@quick
def test_promoted_are_the_best_of_what_is_known(scores, factor, n_workers, order):
    """Against the whole history, looked at again at each promotion."""
    space = SearchSpace({"i": list(range(len(scores)))})
    scheduler = AsynchronousHyperband(GridSampler(space), max_resources=27, factor=factor)
    plan = hyperband_plan(1, 27, factor)

    def score(trial):
        return scores[(trial.candidate + trial.resource) % len(scores)]

    rungs, asked = defaultdict(list), set()  # trials by bracket and rung
    for trial, told, running in run(scheduler, score, order, n_workers):
        bracket, rung = trial.tags["bracket"], trial.tags["iter"]
        assert (trial.candidate, trial.resource) not in asked
        asked.add((trial.candidate, trial.resource))
        rungs[bracket, rung].append(trial)
        assert len(rungs[bracket, rung]) <= plan[bracket][rung][0]
        if rung == 0:
            assert trial.parent is None
            assert bracket == 0 or len(rungs[bracket - 1, 0]) == plan[bracket - 1][0][0]
            continue
        below = rungs[bracket, rung - 1]
        known = [t for t in below if t.number in told]
        gone = {t.candidate for t in rungs[bracket, rung][:-1]}
        rest = [t for t in known if t.candidate not in gone and not math.isnan(told[t.number])]
        best = min(rest, key=lambda t: (-told[t.number], t.candidate))
        assert (trial.candidate, trial.parent) == (best.candidate, best.number)
        better = sum(told[t.number] > told[best.number] for t in known)
        in_the_top = better < len(known) // Fraction(factor)
        complete = not any(
            (t.tags["bracket"], t.tags["iter"]) < (bracket, rung)
            for t in running
            if t.tags["bracket"] == bracket
        )
        assert in_the_top or complete
    for bracket, sizes in enumerate(plan):
        for rung, (size, _) in enumerate(sizes[1:], start=1):
            below = rungs[bracket, rung - 1]
            n_scored = sum(not math.isnan(score(t)) for t in below)
            assert len(rungs[bracket, rung]) == min(size, n_scored)
    assert scheduler.ask() == []
    assert scheduler.may_continue() == set()


@given(st.integers(1, 12), orders)
@quick
def test_what_may_be_continued_is_kept_and_no_more_than_there_are_slots(n_workers, order):
    scheduler = AsynchronousHyperband(RandomSampler(SPACE, 0), max_resources=27)
    slots = sum(size for rungs in hyperband_plan(1, 27) for size, _ in rungs[1:])
    running, kept = [], set()
    while True:
        while len(running) < n_workers and (batch := scheduler.ask()):
            (trial,) = batch
            running.append(trial)
            assert trial.parent is None or trial.parent in kept
            slots -= trial.parent is not None
            assert scheduler.may_continue() == kept - {trial.parent}
            kept = scheduler.may_continue()
        if not running:
            break
        trial = running.pop(order.randrange(len(running)))
        scheduler.tell(trial, by_x(trial))
        assert scheduler.may_continue() <= kept | {trial.number}
        kept = scheduler.may_continue()
        assert len(kept) <= slots
    assert kept == set()


@given(orders, st.integers(0, 2**31))
@quick
def test_same_asks_and_tells_give_the_same_trials(order, seed):
    def make():
        return AsynchronousHyperband(RandomSampler(SPACE, seed), max_resources=9)

    history = [(trial, dict(told)) for trial, told, _ in run(make(), by_x, order)]
    scheduler, trials, n_told = make(), {}, 0
    for trial, told in history:
        for number, score in list(told.items())[n_told:]:
            scheduler.tell(trials[number], score)
        n_told = len(told)
        assert scheduler.ask() == [trial]
        trials[trial.number] = trial


def test_nobody_waits_while_there_are_candidates_to_start():
    scheduler = AsynchronousHyperband(RandomSampler(SPACE, 0), max_resources=27)
    n_candidates = sum(rungs[0][0] for rungs in hyperband_plan(1, 27))
    asked = [trial for _ in range(n_candidates) for trial in scheduler.ask()]
    assert len(asked) == n_candidates
    assert scheduler.ask() == []


def test_higher_rungs_come_first():
    scheduler = AsynchronousHyperband(RandomSampler(SPACE, 0), max_resources=9, factor=2)
    first = [scheduler.ask()[0] for _ in range(6)]
    for trial in first[:4]:
        scheduler.tell(trial, -trial.number)
    second = [scheduler.ask()[0] for _ in range(2)]
    assert [(t.candidate, t.tags["iter"]) for t in second] == [(0, 1), (1, 1)]
    for trial in [*second, *first[4:]]:
        scheduler.tell(trial, -trial.number)
    third = [scheduler.ask()[0] for _ in range(3)]
    assert [(t.candidate, t.tags["iter"]) for t in third] == [(0, 2), (2, 1), (6, 0)]
    assert [t.parent for t in third] == [second[0].number, 2, None]


@pytest.mark.parametrize("n_workers", [1, 7])
def test_exhausted_space(n_workers):
    space = SearchSpace({"x": list(range(11))})
    scheduler = AsynchronousHyperband(RandomSampler(space, 0), max_resources=9, n_iterations=2)
    trials, running = [], []
    while True:
        while len(running) < n_workers and (batch := scheduler.ask()):
            trials += batch
            running += batch
        if not running:
            break
        trial = running.pop()
        scheduler.tell(trial, by_x(trial))
    sizes = Counter((t.tags["bracket"], t.tags["iter"]) for t in trials)
    assert sizes == {(0, 0): 9, (0, 1): 3, (0, 2): 1, (1, 0): 2, (1, 1): 1}
    assert sorted(t.params["x"] for t in trials if t.parent is None) == list(range(11))


def test_brackets_are_numbered_over_all_iterations():
    scheduler = AsynchronousHyperband(RandomSampler(SPACE, 0), max_resources=9, n_iterations=3)
    brackets = [trial.tags["bracket"] for _ in range(1000) for trial in scheduler.ask()]
    assert brackets == sorted(brackets)
    assert set(brackets) == set(range(9))


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({"min_resources": 9, "max_resources": 3}, ValueError, "min_resources <= max_resources"),
        ({"factor": 1}, ValueError, r"'factor' parameter.* a float in the range \(1.*Got 1"),
        ({"n_brackets": 6}, ValueError, "1 <= n_brackets <= 5 must hold"),
        (
            {"n_iterations": 0},
            ValueError,
            r"'n_iterations' parameter.* an int in the range \[1, inf\).*Got 0",
        ),
        (
            {"max_resources": "81"},
            TypeError,
            r"'max_resources' parameter.* an int in the range \[1, inf\)",
        ),
    ],
)
def test_bad_arguments(kwargs, error, match):
    with pytest.raises(error, match=match):
        AsynchronousHyperband(RandomSampler(SPACE, 0), **kwargs)
