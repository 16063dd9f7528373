"""Boxes, expected hypervolume improvement, constraints, against brute force and random draws."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skhpo import SearchSpace
from skhpo.objectives import hypervolume
from skhpo.samplers._gp.acquisition import Equal, Feasible, LogExpectedImprovement
from skhpo.samplers._gp.coordinates import Coordinates
from skhpo.samplers._gp.hypervolume import (
    LogExpectedHypervolumeImprovement,
    _Boxes,
    non_dominated_boxes,
    reference_point,
)
from skhpo.samplers._gp.scores import ObjectiveTransform, SlackTransform
from skhpo.samplers._gp.surrogates import chebyshev

quick = settings(deadline=None, max_examples=60)


def log_expected_volume(mean, std, lower, upper):
    """The logarithm of the expected volume that a random point dominates in boxes."""
    return _Boxes([(lower, upper)]).log_volumes(mean[:, None], std)[:, 0]


def box_volume(lower, upper, point):
    """The volume of the parts of boxes that a point dominates."""
    return np.maximum(np.minimum(upper, point) - lower, 0.0).prod(axis=1).sum()


grid = st.integers(0, 4).map(float)  # equal coordinates, equal and dominated points


@given(st.sampled_from([2, 3]), st.data())
@quick
def test_boxes_are_what_no_point_dominates(n_objectives, data):
    point = st.lists(grid, min_size=n_objectives, max_size=n_objectives)
    points = np.array(data.draw(st.lists(point, max_size=8))).reshape(-1, n_objectives)
    reference = np.array(data.draw(point))
    lower, upper = non_dominated_boxes(points, reference)
    assert len(lower) <= (n_objectives - 1) * len(points) + 1
    assert (lower < upper).all()
    # Every cell of the grid is in one box, or in none and dominated or not above the reference.
    axes = [np.arange(-0.5, 6.0)] * n_objectives
    cells = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, n_objectives)
    inside = ((cells[:, None] > lower) & (cells[:, None] < upper)).all(axis=2).sum(axis=1)
    dominated = (points[None] >= cells[:, None]).all(axis=2).any(axis=1)
    expected = (cells > reference).all(axis=1) & ~dominated
    np.testing.assert_array_equal(inside, expected)


@pytest.mark.parametrize("n_objectives", [2, 3])
@pytest.mark.parametrize("n_points", [0, 1, 2, 30])
def test_volume_in_boxes_is_the_growth_of_the_hypervolume(n_objectives, n_points):
    rng = np.random.default_rng(n_points)
    points = rng.random((n_points, n_objectives))
    reference = np.full(n_objectives, 0.1)
    boxes = non_dominated_boxes(points, reference)
    for new in rng.random((20, n_objectives)) * 1.2:
        grown = hypervolume(np.vstack([points, new]), reference) - hypervolume(points, reference)
        assert box_volume(*boxes, new) == pytest.approx(grown, abs=1e-12)


@pytest.mark.parametrize("n_objectives", [2, 3])
def test_expected_growth_is_that_of_random_draws(n_objectives):
    rng = np.random.default_rng(0)
    points = rng.random((12, n_objectives))
    lower, upper = non_dominated_boxes(points, np.zeros(n_objectives))
    mean, std = rng.random((6, n_objectives)) * 1.2, rng.uniform(0.05, 0.4, (6, n_objectives))
    expected = np.exp(log_expected_volume(mean, std, lower, upper))
    draws = mean + std * rng.standard_normal((60_000, 6, n_objectives))
    grown = [
        np.maximum(np.minimum(u, draws) - low, 0.0).prod(axis=2).mean(axis=0)
        for low, u in zip(lower, upper, strict=True)
    ]
    assert expected == pytest.approx(np.sum(grown, axis=0), rel=0.05, abs=4e-4)


def test_of_one_box_it_is_a_product_of_expected_improvements():
    """Where draws underflow, the logarithm is still that of the product."""
    posterior = FlatPosterior([[0.0], [-900.0], [5.0]], [0.1, 0.3, 0.2])
    improvement = LogExpectedImprovement(posterior)(np.array([[1], [2]]))
    mean, std = np.array([[-900.0] * 2, [5.0] * 2]), np.array([[0.3] * 2, [0.2] * 2])
    boxes = non_dominated_boxes(np.empty((0, 2)), np.zeros(2))
    values = log_expected_volume(mean, std, *boxes)
    assert values == pytest.approx(2 * improvement, rel=1e-12)
    assert values[0] < -1e6


def test_far_below_a_front_the_order_is_kept():
    """With hardly any uncertainty: nearer to the front is better, in logarithms."""
    front = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    boxes = non_dominated_boxes(front, np.array([-1.0, -1.0]))
    mean = np.linspace(-0.9, 0.4, 14)[:, None] * np.ones(2)
    values = log_expected_volume(mean, np.full(mean.shape, 1e-6), *boxes)
    assert np.isfinite(values).all()
    assert (np.diff(values) > 0).all()
    above = log_expected_volume(np.array([[1.5, 1.5]]), np.full((1, 2), 1e-6), *boxes)
    front_and_new = np.vstack([front, [1.5, 1.5]])
    grown = hypervolume(front_and_new, [-1, -1]) - hypervolume(front, [-1, -1])
    assert np.exp(above) == pytest.approx(grown)


def test_reference_is_below_the_worst_values():
    assert reference_point(np.array([[0.0, 10.0], [1.0, 0.0]])).tolist() == [-0.1, -1.0]
    assert reference_point(np.array([[1.0, 3.0]])).tolist() == [0.9, 2.9]
    alike = np.array([[0.0, 5.0], [1e-9, 5.0]])
    np.testing.assert_allclose(reference_point(alike, 1.0, [0.3, 0.4]), [-0.3, 4.0])


class FlatPosterior:
    """A posterior of given means and standard deviations, at points 0, 1, 2, ..."""

    def __init__(self, means, std):
        self.means, self.std, self.z = np.array(means), np.array(std), np.zeros((1, 1), int)
        self.coordinates = Coordinates(SearchSpace({"a": stats.uniform()}))

    def predict(self, z):
        z = np.asarray(z, dtype=int)[:, 0]
        return self.means[z], self.std[z]


STD = [0.3, 0.2, 0.1, 0.4]
TWO = [
    FlatPosterior([[0.9, 0.8], [0.1, 0.3], [0.4, 0.2], [0.7, 0.6]], STD),
    FlatPosterior([[0.1, 0.5], [0.9, 0.6], [0.2, 0.3], [0.6, 0.9]], STD),
]
POINTS, NEW = np.array([[0], [1], [2]]), np.array([[3]])


def test_improvement_is_averaged_over_fantasies():
    both = LogExpectedHypervolumeImprovement(TWO, POINTS)
    one_by_one = [
        LogExpectedHypervolumeImprovement(
            [FlatPosterior(posterior.means[:, [k]], STD) for posterior in TWO], POINTS
        )
        for k in (0, 1)
    ]
    expected = np.mean([np.exp(acquisition(NEW)) for acquisition in one_by_one], axis=0)
    assert np.exp(both(NEW)) == pytest.approx(expected)
    assert both.by_fantasy(NEW).shape == (1, 2)


def test_infeasible_points_are_no_part_of_the_front():
    feasible = np.array([[True, False], [True, False], [False, False]])
    values = LogExpectedHypervolumeImprovement(TWO, POINTS, feasible).by_fantasy(NEW)
    moved = [FlatPosterior(posterior.means.copy(), STD) for posterior in TWO]
    for posterior in moved:
        posterior.means[2] = 5.0
    assert (
        LogExpectedHypervolumeImprovement(moved, POINTS, feasible).by_fantasy(NEW)[0, 0]
        == (values[0, 0])
    )
    # The reference is further below than where all points are feasible.
    assert values[0, 0] > LogExpectedHypervolumeImprovement(TWO, POINTS[:2]).by_fantasy(NEW)[0, 0]
    assert values[0, 1] == 0.0  # none is feasible
    # Nor is it as near as feasible points that are much alike.
    for posterior in moved:
        posterior.means[:, 0] = 0.5, 0.5 + 1e-9, 1.5, 0.45
    values = LogExpectedHypervolumeImprovement(moved, POINTS, feasible).by_fantasy(NEW)
    boxes = non_dominated_boxes(np.full((1, 2), 0.5 + 1e-9), np.array([0.4, 0.4]))
    expected = log_expected_volume(np.full((1, 2), 0.45), np.full((1, 2), 0.4), *boxes)
    assert values[0, 0] == pytest.approx(expected[0])


def test_constrained_improvement_is_that_of_random_draws():
    objective = FlatPosterior([[0.5], [0.7]], [0.1, 0.2])
    slack = [FlatPosterior([[1.0], [0.3]], [0.1, 0.5]), FlatPosterior([[0.0], [-0.2]], [1.0, 0.4])]
    limits = [0.1, -0.3]
    acquisition = Feasible(LogExpectedImprovement(objective, np.array([[0]])), slack, limits)
    rng = np.random.default_rng(0)
    draws = np.array([0.7, 0.3, -0.2]) + np.array([0.2, 0.5, 0.4]) * rng.normal(size=(400_000, 3))
    holds = (draws[:, 1] >= 0.1) & (draws[:, 2] >= -0.3)
    expected = (np.maximum(draws[:, 0] - 0.5, 0.0) * holds).mean()
    assert np.exp(acquisition(np.array([[1]]))) == pytest.approx(expected, rel=0.02)
    alone = Feasible(Equal(1), slack, limits)(np.array([[1]]))
    assert np.exp(alone) == pytest.approx(holds.mean(), rel=0.02)
    # 0.4 and 0.25 standard deviations from the limits, of the 0.5 that count as sure.
    careful = Feasible(Equal(1), slack, limits, penalty=20.0)(np.array([[1]]))
    assert careful == pytest.approx(alone - 20.0 * (0.1 + 0.25))
    sure = [FlatPosterior([[1.0], [0.7]], [0.1, 0.5])]
    values = [Feasible(Equal(1), sure, [0.1], penalty)(np.array([[1]])) for penalty in (0.0, 20.0)]
    assert values[0] == values[1]


def test_values_of_an_objective_keep_their_shape_but_for_the_bad_tail():
    values = np.array([-1e9, -900.0, -40.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0, math.nan])
    y = ObjectiveTransform(values).y
    unit = y[4] - y[3]
    assert np.diff(y[3:9]) == pytest.approx(unit * np.diff(values[3:9]))
    assert y[0] < y[1] < y[2] < y[3]
    assert y[9] == y[0]
    assert y[3] - y[0] < 200 * unit


# --- violations, and many objectives as one

numbers = st.floats(allow_nan=False, allow_infinity=True, width=64)


@given(st.lists(numbers, min_size=1, max_size=12))
@quick
def test_transformed_violations_keep_order_and_feasibility(violations):
    violations = np.array(violations)
    transform = SlackTransform(violations)
    y = transform.y
    assert np.isfinite(y).all()
    assert math.isfinite(transform.limit)
    order = np.argsort(violations)
    assert (np.diff(y[order]) <= 1e-9).all()
    if not transform.is_constant:
        margin = 1e-9 * (1.0 + abs(transform.limit))
        assert (y[violations <= 0.0] >= transform.limit - margin).all()
        assert (y[violations > 0.0] <= transform.limit + margin).all()


def test_chebyshev_prefers_what_dominates():
    rng = np.random.default_rng(0)
    values = rng.random((50, 4))
    for weights in rng.dirichlet(np.ones(4), size=5):
        score = chebyshev(values, weights)
        for better, worse in zip(*np.nonzero((values[:, None] > values).all(axis=2)), strict=True):
            assert score[better] > score[worse]
    # The weight of an objective says how much of its range is given up.
    corners = np.eye(4)
    assert chebyshev(corners, np.array([0.7, 0.1, 0.1, 0.1])).argmax() == 0
