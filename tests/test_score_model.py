"""The Gaussian process as a model of given scores."""

import numpy as np
import pytest
from scipy.stats import loguniform, randint, uniform

from skhpo.samplers import ScoreModel
from skhpo.samplers._gp.coordinates import Coordinates
from skhpo.samplers._gp.posterior import Posterior
from skhpo.space import SearchSpace

CONDITIONAL = SearchSpace(
    [
        {"lr": loguniform(1e-4, 1), "act": ["relu", "tanh", "elu"]},
        {"depth": randint(1, 9), "act": ["relu", "tanh", "elu"], "width": uniform(0, 2)},
    ]
)


def test_embedded_points_are_as_far_apart_as_the_kernel_sees_them():
    coordinates = Coordinates(CONDITIONAL)
    rng = np.random.default_rng(0)
    z = coordinates.encode(CONDITIONAL.snap(rng.random((40, CONDITIONAL.n_dims))))
    log_length = rng.normal(size=coordinates.n_dims)
    x = coordinates.embed(z, log_length)
    squares = ((x[:, None, :] - x[None, :, :]) ** 2).sum(axis=2)
    np.testing.assert_allclose(squares, coordinates.distances(z, z, log_length), atol=1e-9)


def test_functions_that_are_drawn_are_spread_as_predicted():
    space = SearchSpace({"a": uniform(0, 1), "b": uniform(0, 1)})
    rng = np.random.default_rng(0)
    u = rng.random((30, 2))
    scores = 100 + 10 * np.sin(6 * u[:, 0]) + 5 * u[:, 1]
    model = ScoreModel(space, u, scores)
    wanted = np.concatenate([u[:3], rng.random((20, 2))])
    mean, std = model.predict(wanted)
    drawn = np.concatenate([model.draw(wanted, 50, rng) for _ in range(20)], axis=1)
    assert drawn.shape == (23, 1000)
    np.testing.assert_allclose(drawn.mean(axis=1), mean, atol=0.3 * std.max() + 0.3)
    ratio = drawn.std(axis=1)[3:] / std[3:]  # hyperparameters vary, too
    assert 0.8 < np.median(ratio) < 2
    np.testing.assert_allclose(mean[:3], scores[:3], atol=1)


def test_what_is_left_of_a_score_by_a_model_without_it():
    space = SearchSpace({"a": uniform(0, 1), "b": uniform(0, 1)})
    rng = np.random.default_rng(0)
    u = rng.random((9, 2))
    scores = np.sin(6 * u[:, 0]) + u[:, 1]
    model = ScoreModel(space, u, scores, np.linspace(0.1, 0.2, 9))
    rows, left = model.left_out()
    np.testing.assert_array_equal(rows, np.arange(9))
    whole = model._posterior
    for row in rows:
        others = rows != row
        without = Posterior(
            whole.coordinates, whole.theta, whole.z[others], whole.y[others], whole.noise[others]
        )
        [[mean]], _ = without.predict(whole.z[[row]])
        assert left[row] == pytest.approx((whole.y[row, 0] - mean) * scores.std(), rel=1e-6)


@pytest.mark.parametrize("scores", [np.full(12, 3.0), np.arange(12.0)])
def test_a_model_of_any_scores(scores):
    u = CONDITIONAL.snap(np.random.default_rng(0).random((12, CONDITIONAL.n_dims)))
    model = ScoreModel(CONDITIONAL, u, scores, np.full(12, 0.1))
    mean, std = model.predict(u)
    assert np.isfinite(mean).all()
    assert (std >= 0).all()
    assert np.isfinite(model.draw(u, 3, np.random.default_rng(0))).all()
