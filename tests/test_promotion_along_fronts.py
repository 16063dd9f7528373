"""Promotion by several objectives and under constraints, synchronous and asynchronous."""

import math
import random
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skhpo import SearchSpace
from skhpo.objectives import pareto_ranks, promotion_order
from skhpo.samplers import RandomSampler
from skhpo.schedulers import AsynchronousHyperband, Hyperband, SuccessiveHalving
from skhpo.testing import SchedulerContract

SPACE = SearchSpace({"x": stats.uniform(), "y": stats.uniform()})


def measured(trial):
    """Return two objectives and a constraint, of which some configurations lack one."""
    x, y = trial.params["x"], trial.params["y"]
    second = math.nan if y > 0.9 else round(4 * y)
    excess = math.nan if y < 0.1 else x - 0.8
    first = math.inf if x > 0.9 else round(4 * x)
    return {"values": np.array([first, second]), "violations": np.array([excess, -1.0])}


def with_values(cls):
    class Told(cls):
        def tell(self, trial, score, **more):
            given = measured(trial)
            if math.isnan(score):
                given["values"] = np.full(2, math.nan)
            super().tell(trial, score, **more, **given)

    return Told


class TestHyperbandAlongFronts(SchedulerContract):
    def make_scheduler(self, seed):
        return with_values(Hyperband)(RandomSampler(SPACE, seed), max_resources=27, n_iterations=2)


class TestAsynchronousHyperbandAlongFronts(SchedulerContract):
    def make_scheduler(self, seed):
        sampler = RandomSampler(SPACE, seed)
        return with_values(AsynchronousHyperband)(sampler, max_resources=27)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(0, 20))
def test_the_promoted_are_the_first_of_all_on_the_rung_in_whatever_order_they_are_told(seed, slots):
    scheduler = SuccessiveHalving(RandomSampler(SPACE, seed), [(20, 1), (max(1, slots), 3)])
    batch = scheduler.ask()
    shuffled = list(batch)
    random.Random(seed).shuffle(shuffled)
    for trial in shuffled:
        scheduler.tell(trial, 0.0, **measured(trial))
    told = [measured(trial) for trial in batch]
    values = np.array([one["values"] for one in told])
    order = promotion_order(values, [one["violations"] for one in told])
    expected = [int(i) for i in order if not np.isnan(values[i]).any()][: max(1, slots)]
    assert [trial.candidate for trial in scheduler.ask()] == expected


@pytest.mark.parametrize("cls", [Hyperband, AsynchronousHyperband])
def test_infeasible_candidates_are_promoted_last_and_those_without_a_value_never(cls):
    scheduler = cls(RandomSampler(SPACE, 0), max_resources=9, n_brackets=1, n_iterations=3)
    rungs = defaultdict(list)
    while batch := scheduler.ask():
        for trial in batch:
            rungs[trial.tags["bracket"], trial.resource].append(trial)
            scheduler.tell(trial, 0.0, **measured(trial))
    for (bracket, level), trials in rungs.items():
        promoted = {trial.candidate for trial in rungs.get((bracket, 3 * level), ())}
        by_candidate = {trial.candidate: measured(trial) for trial in trials}
        failed = {c for c, told in by_candidate.items() if np.isnan(told["values"]).any()}
        assert not promoted & failed
        if cls is Hyperband and promoted:
            feasible = {c for c, told in by_candidate.items() if told["violations"][0] <= 0}
            feasible -= failed
            n_infeasible = len(promoted - feasible)
            assert n_infeasible == max(0, len(promoted) - len(feasible))
    assert sorted(map(len, rungs.values())) == sorted([9, 3, 1] * 3)


def test_constraints_alone_leave_the_score_to_decide():
    scheduler = SuccessiveHalving(RandomSampler(SPACE, 1), [(12, 1), (4, 3)])
    batch = scheduler.ask()
    for trial in batch:
        violation = np.array([trial.params["y"] - 0.5])
        scheduler.tell(trial, trial.params["x"], violations=violation)
    feasible = [trial for trial in batch if trial.params["y"] <= 0.5]
    assert len(feasible) >= 4
    best = sorted(feasible, key=lambda trial: -trial.params["x"])[:4]
    assert [trial.candidate for trial in scheduler.ask()] == [trial.candidate for trial in best]


def test_asynchronous_promotions_take_the_first_front_of_what_is_known():
    scheduler = AsynchronousHyperband(RandomSampler(SPACE, 3), max_resources=9, n_brackets=1)
    known, promoted = {}, set()
    while batch := scheduler.ask():
        (trial,) = batch
        if trial.resource == 3:
            waiting = [c for c in known if c not in promoted]
            ranks = pareto_ranks([known[c] for c in known])
            of = dict(zip(known, ranks, strict=True))
            assert of[trial.candidate] == min(of[c] for c in waiting)
        if trial.resource == 1:
            known[trial.candidate] = [trial.params["x"], -trial.params["x"] * trial.params["y"]]
        else:
            promoted.add(trial.candidate)
        values = np.array([trial.params["x"], -trial.params["x"] * trial.params["y"]])
        scheduler.tell(trial, 0.0, values=values)


def test_a_candidate_is_released_as_soon_as_there_are_enough_better_ones():
    scheduler = SuccessiveHalving(RandomSampler(SPACE, 0), [(6, 1), (2, 3)])
    batch = scheduler.ask()
    for score, trial in enumerate(batch[:4]):
        scheduler.tell(trial, 0.0, values=np.array([score, score]))
    assert sorted(scheduler.released()) == [trial.number for trial in batch[:2]]
