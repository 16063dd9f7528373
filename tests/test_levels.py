"""One model of scores at several resources, and of another task's."""

import numpy as np
import pytest
from scipy import stats

from skhpo import SearchSpace
from skhpo.samplers import BayesSampler
from skhpo.samplers._gp.coordinates import Coordinates
from skhpo.samplers._gp.levels import LevelCoordinates, at_top, useful_rows
from skhpo.samplers._gp.settings import SETTINGS

SPACE = SearchSpace({"x": stats.uniform(), "y": stats.uniform()})
MIXED = SearchSpace([{"a": ["s", "t"], "x": stats.uniform()}, {"y": stats.randint(0, 9)}])


def top(params):
    return 1 - (params["x"] - 0.3) ** 2 - 0.2 * (params["y"] - 0.6) ** 2


@pytest.mark.parametrize("space", [SPACE, MIXED])
def test_height_is_one_more_coordinate(space):
    rng = np.random.default_rng(0)
    u = space.snap(rng.random((7, space.n_dims)))
    heights = rng.random(7)
    plain, level = Coordinates(space), LevelCoordinates(Coordinates(space))
    log_length = rng.normal(size=level.n_dims)
    z = level.encode(u, heights)
    between = np.exp(-2 * log_length[-1]) * (heights[:, None] - heights) ** 2
    expected = plain.distances(plain.encode(u), plain.encode(u), log_length[:-1]) + between
    np.testing.assert_allclose(level.distances(z, z, log_length), expected, atol=1e-12)
    D = level.differences(z)
    weighted = np.exp(-2 * log_length) @ D.reshape(level.n_dims, -1)
    flat = expected.ravel() if D.ndim == 3 else expected[np.tril_indices(7, -1)]
    np.testing.assert_allclose(weighted, flat, atol=1e-12)
    np.testing.assert_array_equal(level.wanted(z), level.encode(u))
    np.testing.assert_array_equal(level.encode(u)[:, -1], 1.0)


def test_lower_levels_are_shifted_by_what_is_gained_above_them():
    u = np.linspace(0, 1, 5)[[0, 1, 2, 3, 1, 3, 3]][:, None]
    levels = np.array([1, 1, 1, 1, 3, 3, 9.0])
    scores = np.array([0.1, 0.4, np.nan, 0.3, 0.6, 0.7, 0.75])
    shifted, heights = at_top(levels, scores, u)
    gain = np.median([0.2, 0.4])
    np.testing.assert_allclose(shifted[:2], scores[:2] + gain + 0.05)
    np.testing.assert_allclose(shifted[4:], [0.65, 0.75, 0.75])
    assert np.isnan(shifted[2])
    np.testing.assert_allclose(heights, [0, 0, 0, 0, 0.5, 0.5, 1])


def test_what_is_on_no_common_level_is_compared_with_its_neighbour():
    u = np.array([[0.0], [0.5], [1.0], [0.52]])
    shifted, _ = at_top(np.array([-1.0, -1, -1, np.inf]), np.array([10.0, 20, 30, 0.5]), u)
    np.testing.assert_allclose(shifted, [-9.5, 0.5, 10.5, 0.5])


@pytest.mark.parametrize("worst", [1e308, -1e308, np.inf])
def test_extreme_scores_do_no_harm(worst):
    u = np.random.default_rng(0).random((4, 1))
    shifted, _ = at_top(np.array([1.0, 1, 3, 3]), np.array([0.1, worst, -worst, 0.2]), u)
    assert np.isfinite(shifted[[0, 3]]).all()


def test_of_too_many_observations_the_highest_levels_are_kept():
    levels = np.repeat([9.0, 3.0, 1.0], [40, 150, 500])
    rows = useful_rows(levels, np.zeros(690), n_dims=20)
    assert [(levels[rows] == level).sum() for level in (9, 3, 1)] == [40, 150, 60]
    assert (np.diff(rows) > 0).all()
    everything = useful_rows(np.ones(700), np.zeros(700), n_dims=2)
    np.testing.assert_array_equal(everything, np.arange(700))


def test_more_scores_at_the_top_than_a_model_has_and_yet_not_enough():
    levels = np.repeat([9.0, 3.0, 1.0], [SETTINGS.most_rows + 50, 60, 60])
    rows = useful_rows(levels, np.zeros(len(levels)), n_dims=len(levels))
    assert rows.tolist() == np.flatnonzero(levels == 9.0).tolist()


def test_of_enough_scores_at_the_top_nothing_below_is_needed():
    levels = np.repeat([9.0, 3.0], [8, 20])
    scores = np.zeros(28)
    np.testing.assert_array_equal(useful_rows(levels, scores, n_dims=2), np.arange(8))
    scores[0] = np.nan
    assert len(useful_rows(levels, scores, n_dims=2)) == 28


def test_short_fits_say_where_long_ones_are_good():
    sampler = BayesSampler(SPACE, 0, n_initial_points=12)
    for params in sampler.sample(12):
        sampler.observe(params, top(params) - 0.4 + 0.1 * params["x"], 1)
    for x in (0.2, 0.8):
        params = {"x": x, "y": 0.5}
        sampler.observe(params, top(params), 9)
    some = [{"x": 0.3, "y": 0.6}, {"x": 0.9, "y": 0.1}]
    mean, _ = sampler.predict(some)
    np.testing.assert_allclose(mean, [top(params) for params in some], atol=0.1)
    (params,) = sampler.sample(1)
    assert abs(params["x"] - 0.3) < 0.25
    assert set(sampler.relevance()) == {"x", "y"}


def test_another_task_says_where_to_look_and_not_how_good_it_is():
    sampler = BayesSampler(SPACE, 0, n_initial_points=8)
    elsewhere = [SPACE.from_unit(u) for u in np.random.default_rng(1).random((25, 2))]
    for params in elsewhere:
        sampler.observe_elsewhere(params, 100 + 0.8 * top(params))
    sampler.observe_elsewhere(SPACE.from_unit([0.99, 0.99]), np.nan)
    ranked = sorted(elsewhere, key=top, reverse=True)
    first = sampler.sample(3)
    assert first == ranked[:3]
    for params in first:
        sampler.observe(params, top(params), None)
    mean, _ = sampler.predict(first)
    np.testing.assert_allclose(mean, [top(params) for params in first], atol=0.05)
    for _ in range(4):
        (params,) = sampler.sample(1)
        assert params not in first
        sampler.observe(params, top(params), None)
    assert sampler.predict([{"x": 0.3, "y": 0.6}])[0][0] == pytest.approx(1, abs=0.02)


def test_a_finite_space_is_tried_whole_whatever_another_task_knows():
    space = SearchSpace({"a": [1, 2, 3], "b": ["s", "t"]})
    sampler = BayesSampler(space, 0, n_initial_points=2)
    for index in range(6):
        sampler.observe_elsewhere(space.nth(index), float(index))
    tried = []
    while batch := sampler.sample(1):
        tried += batch
        sampler.observe(batch[0], 0.5, None)
    assert len({space.key(params) for params in tried}) == len(tried) == 6
