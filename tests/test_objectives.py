"""Fronts, their order, and hypervolume, against what their definitions say."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skhpo.objectives import (
    hypervolume,
    pareto_ranks,
    promotion_order,
    spread_order,
    total_violation,
)

# Few distinct numbers, so that equal ones occur.
SMALL = st.integers(0, 5).map(float)
POINTS = st.tuples(st.integers(0, 12), st.integers(1, 4)).flatmap(
    lambda shape: arrays(float, shape, elements=SMALL)
)


def ranks_by_definition(points):
    ranks = np.zeros(len(points), dtype=int)
    front = 0
    while not ranks.all():
        front += 1
        left = np.flatnonzero(ranks == 0)
        for i in left:
            better = (points[left] >= points[i]).all(axis=1) & (points[left] > points[i]).any(
                axis=1
            )
            if not better.any():
                ranks[i] = -front
        ranks = np.abs(ranks)
    return ranks


@given(POINTS)
def test_ranks_are_those_of_the_definition(points):
    np.testing.assert_array_equal(pareto_ranks(points), ranks_by_definition(points))


@given(POINTS, st.randoms(use_true_random=False))
def test_ranks_depend_on_no_order_and_no_increasing_map(points, random):
    order = list(range(len(points)))
    random.shuffle(order)
    np.testing.assert_array_equal(pareto_ranks(points)[order], pareto_ranks(points[order]))
    np.testing.assert_array_equal(pareto_ranks(points), pareto_ranks(np.exp(points) - 7))


def test_infeasible_points_follow_by_violation_and_failed_ones_come_last():
    values = np.array([[1, 1], [9, 9], [0, 0], [9, 8], [5, math.nan], [2, 0]], dtype=float)
    violations = np.array([[-1, 0], [0.5, 0.5], [-2, -2], [0.1, -9], [-1, -1], [-1, -1]])
    np.testing.assert_array_equal(pareto_ranks(values, violations), [1, 4, 2, 3, 5, 1])
    np.testing.assert_array_equal(promotion_order(values, violations), [5, 0, 2, 3, 1, 4])


def test_an_unknown_violation_is_the_largest():
    np.testing.assert_array_equal(total_violation([[math.nan, -1], [3, 4]]), [math.inf, 7])
    assert list(pareto_ranks([[2.0], [1.0]], [[math.nan], [8.0]])) == [2, 1]


@given(POINTS)
def test_a_promoted_prefix_takes_whole_fronts_first(points):
    ranks = pareto_ranks(points)[promotion_order(points)]
    assert sorted(promotion_order(points)) == list(range(len(points)))
    assert (np.diff(ranks) >= 0).all()


@given(POINTS.filter(len))
def test_each_further_point_is_the_farthest_from_those_before_it(points):
    order = spread_order(points)
    assert sorted(order) == list(range(len(points)))
    assert points[order[0], 0] == points[:, 0].max()
    span = np.ptp(points, axis=0)
    scaled = points / np.where(span > 0, span, 1)
    distances = [
        min(np.linalg.norm(scaled[i] - scaled[j]) for j in order[:k])
        for k, i in enumerate(order)
        if k
    ]
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(distances))


def test_scores_without_limit_are_points_like_others():
    values = [[math.inf, 0.0], [1.0, -math.inf], [0.0, 1e308], [2.0, 1.0]]
    assert list(pareto_ranks(values)) == [1, 2, 1, 1]
    assert sorted(spread_order(values)) == [0, 1, 2, 3]
    assert spread_order(values)[0] == 0


def volume_of_cells(points, n_objectives):
    """Count the unit cells below points with whole coordinates."""
    cells = np.array(list(itertools.product(range(6), repeat=n_objectives)))
    if not len(points):
        return 0
    return (cells[:, None] < points[None]).all(axis=2).any(axis=1).sum()


@settings(max_examples=50)
@given(POINTS)
def test_hypervolume_is_the_volume_of_what_is_dominated(points):
    n_objectives = points.shape[1]
    expected = volume_of_cells(points, n_objectives)
    assert hypervolume(points, np.zeros(n_objectives)) == pytest.approx(expected)
    shifted = hypervolume(2 * points + 1, np.ones(n_objectives))
    assert shifted == pytest.approx(expected * 2**n_objectives)


def test_hypervolume_ignores_what_failed_and_what_is_behind_the_reference_point():
    good = [[2.0, 3.0]]
    assert hypervolume([*good, [math.nan, 9], [-1, 9], [0, 9]], [0, 0]) == 6
    assert hypervolume([[-1.0, -1.0]], [0, 0]) == hypervolume(np.empty((0, 2)), [0, 0]) == 0
    with pytest.raises(ValueError, match="reference must be finite"):
        hypervolume(good, [0, -math.inf])
    with pytest.raises(ValueError, match=r"got \(1, 2\) and \(3,\)"):
        hypervolume(good, [0, 0, 0])
