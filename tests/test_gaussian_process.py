"""The parts of the Gaussian-process sampler, against closed forms and other implementations."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from skhpo import SearchSpace
from skhpo.samplers._gp.acquisition import LogExpectedImprovement, log_h
from skhpo.samplers._gp.coordinates import Coordinates
from skhpo.samplers._gp.fitting import Hyperparameters, Prior, fit, negative_log_posterior
from skhpo.samplers._gp.kernel import matern52, matern52_slope
from skhpo.samplers._gp.posterior import Posterior, cholesky
from skhpo.samplers._gp.scores import ScoreTransform
from skhpo.samplers._gp.search import AcquisitionSearch
from skhpo.samplers._gp.settings import SETTINGS

quick = settings(deadline=None, max_examples=50)

NUMBERS = SearchSpace({"a": stats.uniform(), "b": stats.uniform(), "c": stats.uniform()})
MIXED = SearchSpace({"a": stats.uniform(), "n": stats.randint(0, 5), "k": ["x", "y", [None]]})
CONDITIONAL = SearchSpace(
    [
        {"k": ["x"], "a": stats.uniform(), "b": stats.uniform()},
        {"k": ["y", "z"], "a": stats.uniform(), "c": ["p", "q"]},
        {"a": stats.uniform()},
    ]
)
THETA = np.array([-0.3, 0.2, -1.0, -3.0, 0.4])


def some(space, n, seed=0):
    """Coordinates, points as the kernel sees them, and scores."""
    rng = np.random.default_rng(seed)
    coordinates = Coordinates(space)
    z = coordinates.encode(space.snap(rng.random((n, space.n_dims))))
    return coordinates, z, rng.standard_normal(n)


def same_of_scikit_learn(z, y):
    """A regressor of scikit-learn with the kernel of THETA."""
    kernel = ConstantKernel(math.exp(THETA[4])) * Matern(np.exp(THETA[:3]), nu=2.5)
    model = GaussianProcessRegressor(kernel, alpha=math.exp(THETA[3]), optimizer=None)
    return model.fit(z, y)


# --- posterior


def test_posterior_is_that_of_scikit_learn():
    coordinates, z, y = some(NUMBERS, 20)
    new = some(NUMBERS, 9, seed=1)[1]
    mean, std = Posterior(coordinates, THETA, z, y, np.ones(20)).predict(new)
    expected = same_of_scikit_learn(z, y).predict(new, return_std=True)
    assert mean[:, 0] == pytest.approx(expected[0])
    assert std == pytest.approx(expected[1])


def test_noise_of_each_score():
    coordinates, z, y = some(NUMBERS, 12)
    # A score of half the noise is two scores of the same value.
    halved = Posterior(coordinates, THETA, z, y, np.where(np.arange(12) < 4, 0.5, 1.0))
    twice = Posterior(
        coordinates, THETA, np.vstack([z, z[:4]]), np.concatenate([y, y[:4]]), np.ones(16)
    )
    new = some(NUMBERS, 5, seed=1)[1]
    for one, other in zip(halved.predict(new), twice.predict(new), strict=True):
        assert one == pytest.approx(other)


def test_fantasies_have_the_posterior_distribution():
    coordinates, z, y = some(NUMBERS, 10)
    running = some(NUMBERS, 2, seed=1)[1]
    posterior = Posterior(coordinates, THETA, z, y, np.ones(10))
    fantasies = posterior.with_fantasies(running, 4000, np.random.default_rng(0))
    _, covariance = same_of_scikit_learn(z, y).predict(running, return_cov=True)
    draws = fantasies.y[-2:]
    mean, _ = posterior.predict(running)
    assert draws.mean(axis=1) == pytest.approx(mean[:, 0], abs=0.05)
    assert np.cov(draws) == pytest.approx(covariance + math.exp(-3.0) * np.eye(2), abs=0.05)
    # They tell what the score will be, not that it is better.
    assert fantasies.predict(running)[0].mean(axis=1) == pytest.approx(mean[:, 0], abs=0.05)
    assert (fantasies.predict(running)[1] < posterior.predict(running)[1]).all()


def test_means_at_pending_points_change_what_is_uncertain_only():
    coordinates, z, y = some(NUMBERS, 10)
    running, new = some(NUMBERS, 2, seed=1)[1], some(NUMBERS, 9, seed=2)[1]
    posterior = Posterior(coordinates, THETA, z, y, np.ones(10))
    believed = posterior.with_means(running)
    mean, std = believed.predict(new)
    assert mean == pytest.approx(posterior.predict(new)[0])
    expected = same_of_scikit_learn(np.vstack([z, running]), np.zeros(12))
    assert std == pytest.approx(expected.predict(new, return_std=True)[1])


def test_jitter_is_raised_until_there_is_a_factor():
    K = np.ones((6, 6)) - 1e-7 * np.eye(6)
    L = cholesky(K)
    assert np.abs(L @ L.T - K).max() < 1e-5


@pytest.mark.parametrize("space", [MIXED, CONDITIONAL], ids=["mixed", "conditional"])
def test_same_point_many_times(space):
    coordinates, z, _ = some(space, 1)
    theta = np.array([0.0] * coordinates.n_dims + [-30.0, 0.0])
    posterior = Posterior(coordinates, theta, np.repeat(z, 9, axis=0), np.ones(9), np.ones(9))
    assert posterior.predict(z)[0] == pytest.approx(1.0)


# --- coordinates


def test_choices_differ_by_one_and_numbers_by_squares():
    coordinates = Coordinates(MIXED)
    u = MIXED.snap([[0.2, 0.1, 0.0], [0.5, 0.9, 0.0], [0.2, 0.9, 1.0]])
    order = [MIXED.dimensions[place].name for place in coordinates.dimensions]
    D = coordinates.differences(coordinates.encode(u))
    pairs = dict(zip([(1, 0), (2, 0), (2, 1)], D.T, strict=True))
    assert pairs[1, 0][order.index("k")] == 1.0
    assert pairs[2, 1][order.index("k")] == 0.0
    assert pairs[1, 0][order.index("n")] == 0.0
    assert pairs[2, 1][order.index("n")] == pytest.approx(0.8**2)
    assert pairs[1, 0][order.index("a")] == pytest.approx(0.3**2)


@pytest.mark.parametrize("space", [NUMBERS, MIXED, CONDITIONAL])
def test_distances_are_weighted_sums_of_differences(space):
    coordinates, z, _ = some(space, 12)
    log_length = np.linspace(-1, 1, coordinates.n_dims)
    r2 = coordinates.distances(z, z, log_length)
    expected = np.exp(-2 * log_length) @ coordinates.differences(z)
    assert r2[np.tril_indices(12, -1)] == pytest.approx(expected)
    assert r2 == pytest.approx(r2.T)
    assert np.diag(r2) == pytest.approx(0.0, abs=1e-12)


def test_coordinates_without_meaning():
    coordinates = Coordinates(CONDITIONAL)
    names = [CONDITIONAL.dimensions[place].name for place in coordinates.dimensions]

    def difference(first, second):
        u = np.array([CONDITIONAL.to_unit(params) for params in (first, second)])
        D = coordinates.differences(coordinates.encode(u))[:, 0]
        return {name: value for name, value in zip(names, D, strict=True) if name in ("b", "c")}

    x = {"k": "x", "a": 0.1}
    for b in (0.0, 0.5, 1.0):  # wherever it is
        assert difference({**x, "b": b}, {"a": 0.1})["b"] == pytest.approx(1.0)
    assert difference({"k": "y", "a": 0.1, "c": "q"}, {"a": 0.9}) == {"b": 0.0, "c": 1.0}
    near = difference({**x, "b": 0.5}, {**x, "b": 0.6})["b"]
    assert near == pytest.approx(0.1**2, rel=0.01)


@given(st.integers(0, 10**6))
@quick
def test_kernel_of_conditional_spaces_is_positive_definite(seed):
    rng = np.random.default_rng(seed)
    coordinates, z, _ = some(CONDITIONAL, 25, seed)
    K = coordinates.covariance(z, z, rng.normal(0, 1.5, coordinates.n_dims))
    assert np.diag(K) == pytest.approx(coordinates.variance)
    assert np.linalg.eigvalsh(K).min() > -1e-9


def test_parameters_of_one_value_are_left_out():
    assert Coordinates(SearchSpace({"a": [1], "b": [1, 2]})).n_dims == 1
    coordinates = Coordinates(SearchSpace({"a": [1]}))
    assert coordinates.encode(np.array([[0.5]])).shape == (1, 0)


# --- kernel and hyperparameters


def test_kernel_is_that_of_scikit_learn():
    distances = np.linspace(0, 5, 30)
    expected = Matern(1.0, nu=2.5)(distances[:, None], [[0.0]])[:, 0]
    assert matern52(distances**2) == pytest.approx(expected)
    value, slope = matern52_slope(distances**2)
    assert value == pytest.approx(expected)
    step = 1e-6
    numeric = (matern52(distances[1:] ** 2 + step) - matern52(distances[1:] ** 2 - step)) / 2 / step
    assert slope[1:] == pytest.approx(numeric, abs=1e-6)


@pytest.mark.parametrize("space", [NUMBERS, MIXED, CONDITIONAL])
def test_gradient_of_the_posterior_density(space):
    coordinates, z, y = some(space, 15)
    D, prior = coordinates.differences(z), Prior(coordinates)
    noise = np.linspace(0.5, 2.0, 15)
    theta = np.random.default_rng(1).normal(-0.5, 0.7, coordinates.n_dims + 2)
    _, gradient = negative_log_posterior(theta, D, y, noise, prior)
    for i, step in enumerate(1e-6 * np.eye(len(theta))):
        ends = [negative_log_posterior(theta + s, D, y, noise, prior)[0] for s in (step, -step)]
        assert gradient[i] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-6)


def test_likelihood_is_that_of_scikit_learn():
    coordinates, z, y = some(NUMBERS, 18)
    D, prior = coordinates.differences(z), Prior(coordinates)
    value, _ = negative_log_posterior(THETA, D, y, np.ones(18), prior)
    likelihood = same_of_scikit_learn(z, y).log_marginal_likelihood_value_
    densities = stats.norm(prior.mean, prior.std).logpdf(THETA).sum()
    constants = 0.5 * 18 * math.log(2 * math.pi)
    constants += np.log(prior.std * math.sqrt(2 * math.pi)).sum()
    assert value == pytest.approx(-likelihood - densities - constants)


def test_fit_is_a_mode_and_finds_length_scales():
    coordinates, z, _ = some(NUMBERS, 60)
    y = np.sin(8 * z[:, 0]) + 0.02 * np.random.default_rng(1).standard_normal(60)
    D, prior = coordinates.differences(z), Prior(coordinates)
    theta = fit(D, y, np.ones(60), prior, [prior.mean])
    _, gradient = negative_log_posterior(theta, D, y, np.ones(60), prior)
    assert np.abs(gradient).max() < 0.1
    assert theta[0] < min(theta[1:3]) - 1.0
    assert theta[3] == pytest.approx(2 * math.log(0.02), abs=1.0)


def test_hyperparameters_of_many_scores_are_fitted_now_and_then():
    coordinates, z, y = some(NUMBERS, 260)
    y = np.sin(8 * z[:, 0]) + 0.1 * y
    hyperparameters, seen = Hyperparameters(coordinates), []
    for n in range(240, 261):
        hyperparameters.update(z[:n], y[:n], np.ones(n))
        seen.append(tuple(hyperparameters.theta))
    assert 2 <= len(set(seen)) <= 3


def test_hyperparameters_are_drawn_as_wide_as_their_posterior():
    coordinates, z, y = some(NUMBERS, 40)
    y = np.sin(4 * z[:, 0]) + 0.3 * y
    hyperparameters, rng = Hyperparameters(coordinates), np.random.default_rng(0)
    assert (hyperparameters.draw(rng) == hyperparameters.theta).all()  # nothing is known
    hyperparameters.update(z, y, np.ones(40))
    draws = np.array([hyperparameters.draw(rng) for _ in range(4000)])
    D, prior = coordinates.differences(z), Prior(coordinates)

    def density(theta):
        return negative_log_posterior(theta, D, y, np.ones(40), prior)[0]

    # The curvature of the density itself, by finite differences of its values.
    theta, step = hyperparameters.theta, 0.05 * np.eye(5)
    curvature = [
        [
            density(theta + a + b) - density(theta + a - b)
            - density(theta - a + b) + density(theta - a - b)
            for a in step
        ]
        for b in step
    ]  # fmt: skip
    width = SETTINGS.draw_width * np.sqrt(np.diag(np.linalg.inv(np.array(curvature) / 0.01)))
    assert draws.std(axis=0) == pytest.approx(width, rel=0.1)
    assert draws.mean(axis=0) == pytest.approx(theta, abs=0.1)


def test_noise_is_bounded_where_that_is_asked():
    coordinates, z, _ = some(NUMBERS, 60)
    y = np.random.default_rng(0).standard_normal(60)
    free, bounded = Hyperparameters(coordinates), Hyperparameters(coordinates, most_noise=-3.5)
    for hyperparameters in (free, bounded):
        hyperparameters.update(z, y, np.ones(60))
    assert free.theta[-2] > -1.0
    assert bounded.theta[-2] <= -3.5


# --- expected improvement


@pytest.mark.parametrize("x", [-8.0, -3.0, -1.0, -0.99, 0.0, 2.0, 30.0])
def test_log_h_is_the_integral(x):
    density = stats.norm.pdf
    value, _ = integrate.quad(lambda t: (x + t) * density(t), -x, max(40.0, -x + 40), epsabs=0)
    if x == 30.0:  # nearly all of the density
        value = x
    assert log_h(np.array([x]))[0] == pytest.approx(math.log(value), rel=1e-9)


@pytest.mark.parametrize("x", [-25.0, -29.999, -30.001, -100.0, -1e4, -1e8, -1e150])
def test_log_h_far_in_the_tail(x):
    # A continued fraction for the Mills ratio, in which nothing cancels (Abramowitz and Stegun,
    # 26.2.14): h(x) = phi(x) (1 - t M(t)) with t = -x, and 1 - t M(t) = f / (t + f).
    t = -x
    f = 0.0
    for k in range(400, 0, -1):
        f = k / (t + f)
    expected = -0.5 * t * t - 0.5 * math.log(2 * math.pi) + math.log(f) - math.log(t + f)
    assert log_h(np.array([x]))[0] == pytest.approx(expected, rel=1e-12)


def test_log_h_increases():
    values = log_h(np.concatenate([-np.logspace(9, -3, 500), np.logspace(-3, 3, 100)]))
    assert (np.diff(values) > 0).all()


class FlatPosterior:
    """A posterior of given means and standard deviations, at points 0, 1, 2, ..."""

    def __init__(self, means, std):
        self.means, self.std, self.z = np.array(means), np.array(std), np.zeros((1, 1), int)

        self.coordinates = Coordinates(NUMBERS)

    def predict(self, z):
        return self.means[z[:, 0]], self.std[z[:, 0]]


def test_expected_improvement_is_over_the_best_mean():
    posterior = FlatPosterior([[0.5], [0.7], [0.2]], [0.1, 0.2, 0.4])
    values = LogExpectedImprovement(posterior)(np.array([[1], [2]]))
    draws = np.array([0.7, 0.2]) + np.array([0.2, 0.4]) * np.random.default_rng(0).normal(
        size=(400_000, 2)
    )
    expected = np.maximum(draws - 0.5, 0.0).mean(axis=0)
    assert np.exp(values) == pytest.approx(expected, rel=0.02)


def test_expected_improvement_is_averaged_over_fantasies():
    together = FlatPosterior([[0.5, 1.0], [0.7, 0.1]], [0.1, 0.2])
    apart = [FlatPosterior(np.array(together.means)[:, [k]], [0.1, 0.2]) for k in (0, 1)]
    z = np.array([[1]])
    means = np.mean([np.exp(LogExpectedImprovement(posterior)(z)) for posterior in apart])
    assert np.exp(LogExpectedImprovement(together)(z)) == pytest.approx(means)


# --- search of the acquisition function


def test_search_finds_the_highest_point():
    search = AcquisitionSearch(NUMBERS, np.random.default_rng(0))
    peak = np.array([0.123, 0.777, 0.5])
    found, values = search.maximise(
        lambda u: -((u - peak) ** 2).sum(axis=1),
        lambda u: np.zeros(len(u), dtype=bool),
        np.empty((0, 3)),
    )
    assert found[0] == pytest.approx(peak, abs=0.01)
    assert (np.diff(values) <= 0).all()


def test_small_spaces_are_searched_in_full():
    space = SearchSpace({"a": list(range(20)), "b": stats.randint(0, 20)})
    search = AcquisitionSearch(space, np.random.default_rng(0))
    best = space.to_unit({"a": 7, "b": 13})
    is_best = lambda u: (u == best).all(axis=1)  # noqa: E731
    found, _ = search.maximise(
        lambda u: is_best(u).astype(float), lambda u: np.zeros(len(u), bool), best[None]
    )
    assert found[0].tolist() == best.tolist()
    found, _ = search.maximise(lambda u: np.zeros(len(u)), lambda u: ~is_best(u), best[None])
    assert found.tolist() == [best.tolist()]
    found, _ = search.maximise(
        lambda u: np.zeros(len(u)), lambda u: np.ones(len(u), bool), best[None]
    )
    assert len(found) == 0


# --- scores


@given(
    st.lists(
        st.floats(allow_nan=True, allow_infinity=True, width=64) | st.integers(0, 3), min_size=1
    ).filter(lambda scores: any(math.isfinite(score) for score in scores))
)
@quick
def test_transformed_scores_are_finite_and_in_order(scores):
    scores = np.array(scores, dtype=float)
    transform = ScoreTransform(scores)
    assert np.isfinite(transform.y).all()
    assert np.abs(transform.y).max() <= math.sqrt(len(scores))
    assert not np.isnan(transform.clipped).any()
    finite = np.sort(scores[np.isfinite(scores)])
    plain = finite[np.abs(finite) < 1.0] if np.abs(finite).max() < 1.0 else []
    order = [transform.y[np.flatnonzero(scores == score)[0]] for score in plain]
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(order))


def test_upper_half_keeps_its_shape_and_the_lower_is_ranked():
    scores = np.array([-900.0, -5.0, -4.0, 0.0, 1.0, 2.0, 4.0])
    y = ScoreTransform(scores).y
    assert np.diff(y)[4] == pytest.approx(np.diff(y)[3])
    assert np.diff(y)[5] == pytest.approx(2 * np.diff(y)[3])
    moved = ScoreTransform(np.array([-7.0, -5.0, -4.9, 0.0, 1.0, 2.0, 4.0])).y
    assert moved == pytest.approx(y)
    assert y.mean() == pytest.approx(0.0)
    assert y.std() == pytest.approx(1.0)


def test_failures_are_the_worst_and_infinity_the_best():
    y = ScoreTransform(np.array([0.3, math.nan, 0.1, 0.2, -math.inf, math.inf, 1e300, 0.4])).y
    assert y[[1, 4]] == pytest.approx(y[2])
    assert y[[5, 6]] == pytest.approx(y[7])
    assert y[2] < y[3] < y[0] < y[7]


def test_constant_scores_are_zero():
    transform = ScoreTransform(np.array([3.0, math.nan, 3.0]))
    assert transform.is_constant
    assert transform.y.tolist() == [0.0, 0.0, 0.0]
    assert transform.relative_noise(np.array([1.0, 2.0, 3.0])).tolist() == [1.0, 1.0, 1.0]


def test_relative_noise():
    transform = ScoreTransform(np.arange(9.0))
    noise = transform.relative_noise(np.array([1, 1, 1, 1, 1, 1, 4, 100, np.nan], dtype=float))
    assert noise[8] == 1.0
    assert 1.0 < noise[6] < noise[7]
    assert (transform.relative_noise(np.full(9, np.nan)) == 1.0).all()
    assert (transform.relative_noise(np.zeros(9)) == 1.0).all()
