"""Bayesian optimisation of thousands of scores: what is asked costs no more than of hundreds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skhpo import SearchSpace
from skhpo.samplers import BayesSampler
from skhpo.samplers._gp import coordinates as coordinates_module
from skhpo.samplers._gp.coordinates import Coordinates
from skhpo.samplers._gp.observations import Rows
from skhpo.samplers._gp.settings import SETTINGS
from skhpo.samplers._gp.subset import modelled_rows

quick = settings(deadline=None, max_examples=15)

SPACE = SearchSpace({"x": stats.uniform(), "y": stats.uniform(), "kind": ["a", "b"]})


def score(params):
    return -((params["x"] - 0.37) ** 2) - (params["y"] - 0.81) ** 2 - (params["kind"] == "a")


def told(n, n_running=0, seed=0):
    """A sampler that knows `n` random configurations while others run."""
    sampler = BayesSampler(SPACE, seed)
    rng = np.random.default_rng(0)
    for u in rng.random((n, SPACE.n_dims)):
        params = SPACE.from_unit(u)
        sampler.observe(params, score(params), None)
    if n_running:
        placeholders = [SPACE.from_unit(u) for u in rng.random((n_running, SPACE.n_dims))]
        for params in placeholders:
            sampler.replace(params, params)  # runs, though nothing was proposed
    return sampler


@pytest.fixture
def correlations(monkeypatch):
    """How many correlations between two points were computed, in the order of the calls."""
    counts = []
    plain = coordinates_module.matern52

    def counting(r2):
        counts.append(r2.size)
        return plain(r2)

    monkeypatch.setattr(coordinates_module, "matern52", counting)
    return counts


def test_asking_computes_as_much_of_thousands_of_scores_as_of_hundreds(correlations):
    computed = []
    for n in (600, 4000):
        correlations.clear()
        told(n).sample(1)
        computed.append(sum(correlations))
    assert computed[1] == pytest.approx(computed[0], rel=0.1)
    correlations.clear()
    told(500).sample(1)
    assert computed[1] < 1.2 * sum(correlations)


@pytest.mark.parametrize("n", [50, 3000])
def test_a_thousand_that_run_are_as_cheap_as_two_hundred(correlations, n):
    told(n, n_running=1000).sample(1)
    most = SETTINGS.n_modelled + SETTINGS.most_running
    n_asked = SETTINGS.n_global + 5000
    assert sum(correlations) < 1.5 * most * n_asked


def test_the_same_scores_the_same_proposals():
    first, second = told(700), told(700)
    assert first.sample(3) == second.sample(3)


def test_beyond_the_scores_of_the_posterior_it_goes_on_to_the_best():
    sampler = told(SETTINGS.most_modelled + 1)
    found = []
    for _ in range(6):
        [params] = sampler.sample(1)
        found.append(score(params))
        sampler.observe(params, found[-1], None)
    assert max(found) > -1e-5
    mean, _ = sampler.predict([{"x": 0.37, "y": 0.81, "kind": "b"}, {"x": 0, "y": 0, "kind": "a"}])
    assert mean[0] == pytest.approx(0.0, abs=0.05)
    assert mean[1] < -1.0


@quick
@given(n=st.integers(SETTINGS.most_modelled + 1, 900), seed=st.integers(0, 99), ties=st.booleans())
def test_of_many_scores_the_best_and_some_of_the_others_are_modelled(n, seed, ties):
    rng = np.random.default_rng(seed)
    coordinates = Coordinates(SPACE)
    z = coordinates.encode(SPACE.snap(rng.random((n, SPACE.n_dims))))
    y = rng.integers(3, size=n).astype(float) if ties else rng.normal(size=n)
    rows = modelled_rows(coordinates, np.zeros(coordinates.n_dims + 2), z, y)
    assert len(np.unique(rows)) == len(rows) == SETTINGS.n_modelled
    assert np.sort(y)[-SETTINGS.n_modelled // 4] >= y[rows].min()
    others = np.delete(np.arange(n), rows)
    assert (y[others] <= np.sort(y[rows])[-SETTINGS.n_modelled // 4]).all()


def test_few_scores_are_modelled_all():
    coordinates = Coordinates(SPACE)
    z = coordinates.encode(np.zeros((SETTINGS.most_modelled, SPACE.n_dims)))
    rows = modelled_rows(coordinates, np.zeros(5), z, np.zeros(len(z)))
    assert rows.tolist() == list(range(SETTINGS.most_modelled))


def test_rows_that_grow_stay_as_they_were_appended():
    rows = Rows(2)
    for i in range(1000):
        rows.append([i, -i])
    assert len(rows) == 1000
    np.testing.assert_array_equal(rows.values, np.arange(1000)[:, None] * [1, -1])
