"""The parts of Harmonica: coding, sparse recovery, regions; against brute force."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, loguniform, randint, uniform
from sklearn.linear_model import Lasso

from skhpo.bfloat16 import ROUNDING, adds_in_32_bits, rounded
from skhpo.schedulers.harmonica import blocks, screen
from skhpo.schedulers.harmonica import products as products_module
from skhpo.schedulers.harmonica.coding import WHOLE, Factor, code
from skhpo.schedulers.harmonica.products import Products
from skhpo.schedulers.harmonica.recovery import recover
from skhpo.schedulers.harmonica.region import Region
from skhpo.schedulers.harmonica.restricted import RestrictedSpace
from skhpo.schedulers.harmonica.system import Term
from skhpo.space import SearchSpace

PLACES = (np.arange(40_000) + 0.5) / 40_000


def functions_of(values, allowed=WHOLE):
    space = SearchSpace({"x": values})
    return space, code(space, 0, allowed)


@pytest.mark.parametrize(
    ("values", "n_functions"),
    [
        ([0, 1], 1),
        (["a", "b"], 1),
        ([1, 2, 4], 2),
        ([8, 4, 2, 1], 3),
        (list(range(10)), 3),
        (randint(0, 3), 2),
        (binom(12, 0.3), 3),
        (uniform(), 3),
        (loguniform(1e-4, 1), 3),
        ([None], 0),
    ],
)
def test_functions_are_orthonormal(values, n_functions):
    _, factors = functions_of(values)
    assert len(factors) == n_functions
    table = np.array([np.ones_like(PLACES), *(f(PLACES) for f in factors)])
    assert table @ table.T / len(PLACES) == pytest.approx(np.eye(n_functions + 1), abs=2e-3)


@pytest.mark.parametrize("values", [["a", "b", "c"], ["a", "a", "b", "c"], [None, 1, "x", (2,)]])
def test_a_function_per_choice_sets_it_apart(values):
    space, factors = functions_of(values)
    assert [f.label for f in factors] == list(dict.fromkeys(values))
    for f in factors:
        assert f(PLACES).mean() == pytest.approx(0, abs=1e-3)
        assert f(PLACES).var() == pytest.approx(1, abs=1e-3)
        positive = {space.from_unit([u])["x"] for u in PLACES[::200] if f(u) > 0}
        assert positive == {f.label}


def test_two_values_are_the_bit_of_the_paper():
    (bit,) = functions_of(["no", "yes"])[1]
    assert bit.label == "yes"
    assert bit(np.array([0.0, 0.49, 0.5, 1.0])).tolist() == [-1, -1, 1, 1]


def test_coarse_bits_come_first_and_halve_what_is_left():
    _, factors = functions_of(uniform(0, 8))
    assert [f.label for f in factors] == [">= 4", "2 to 4", ">= 6"]
    _, factors = functions_of(uniform(0, 8), [(0.5, 1.0)])
    assert [f.label for f in factors] == [">= 6", "5 to 6", ">= 7"]
    assert all(set(f(PLACES[PLACES < 0.5])) == {0.0} for f in factors)
    _, (coarse, *_) = functions_of(uniform(0, 8), [(0.0, 0.25), (0.75, 1.0)])
    assert coarse.label == ">= 6"


def test_levels_that_are_excluded_have_no_function():
    _, (bit,) = functions_of(["a", "b", "c"], [(1 / 3, 1.0)])
    assert bit.label == "c"
    assert bit(np.array([0.1, 0.5, 0.9])).tolist() == pytest.approx([0, -1, 1])
    assert functions_of(["a", "b", "c"], [(1 / 3, 2 / 3)])[1] == []


def all_products(groups, degree):
    return [
        product
        for size in range(1, degree + 1)
        for product in itertools.combinations(range(len(groups)), size)
        if all(groups[a] < groups[b] for a, b in itertools.pairwise(product))
    ]


def columns_of(kind, sizes, n_samples, rng):
    """Functions of parameters with so many of them: numbers, bits, or one of several choices."""
    if kind == "numbers":
        return rng.normal(size=(n_samples, sum(sizes)))
    if kind == "bits":
        return rng.choice([-1.0, 1.0], (n_samples, sum(sizes)))
    chosen = [rng.integers(size + 1, size=n_samples) for size in sizes]
    return np.concatenate(
        [
            np.where(own[:, None] == np.arange(s), 3.0, -1 / 3)
            for own, s in zip(chosen, sizes, strict=True)
        ],
        axis=1,
    )


def brute_force(columns, groups, degree, residual):
    """By size, what each product would take from the squared residual; nothing if constant."""
    every = all_products(groups, degree)
    values = np.stack([np.prod(columns[:, list(product)], axis=1) for product in every], axis=1)
    spread = values.var(axis=0) * len(columns)
    usable = spread > 1e-3 * np.maximum((values**2).sum(axis=0), 1.0)
    gains = np.where(usable, (residual @ values) ** 2 / np.where(usable, spread, 1.0), 0.0)
    return every, gains, usable


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["numbers", "bits", "choices"]),
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=6),
    degree=st.integers(1, 4),
    tile=st.sampled_from([2, 3, 128]),
    keep=st.sampled_from(["blocks", "nothing", "screen"]),
    seed=st.integers(0, 1000),
)
def test_a_scan_ranks_as_brute_force_does(kind, sizes, degree, tile, keep, seed):
    rng = np.random.default_rng(seed)
    degree = min(degree, len(sizes))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    columns = columns_of(kind, sizes, 40, rng)
    residuals = rng.normal(size=(40, 2))
    residuals -= residuals.mean(axis=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_TILE", tile)
        if keep != "blocks":
            patch.setattr(products_module, "_MOST_OF_BLOCKS", 0)
            patch.setattr(products_module, "_MOST_VARIANCES", 0)
        if keep == "screen":
            patch.setattr(screen, "_WORTH", 0)
            patch.setattr(screen, "is_fast", lambda: True)
            patch.setattr(screen, "_TILE", tile)
        products = Products(columns, groups, degree)
        found = products.best(residuals, 5)
    for own, residual in zip(found, residuals.T, strict=True):
        every, gains, usable = brute_force(columns, groups, degree, residual)
        assert sum(products.counts) == np.count_nonzero(usable)
        assert len(set(own)) == len(own)
        by_product = dict(zip(every, gains, strict=True))
        for size in range(1, degree + 1):
            best = sorted((g for p, g in by_product.items() if len(p) == size and g), reverse=True)
            of_size = [by_product[product] for product in own if len(product) == size]
            assert of_size == pytest.approx(best[:5], rel=2e-3)


def test_numbers_of_16_bits_are_as_near_as_the_bound_of_a_screen_says():
    numbers = np.arange(128, 1024, 1 / 16)
    far = np.abs(rounded(numbers).float().numpy() - numbers) / numbers
    assert ROUNDING / 2 < far.max() <= ROUNDING


@settings(max_examples=20, deadline=None)
@given(p=st.integers(4, 12), tile=st.sampled_from([3, 128]), seed=st.integers(0, 1000))
def test_a_screen_misses_no_product_that_reaches_a_bound(p, tile, seed):
    rng = np.random.default_rng(seed)
    columns = columns_of("bits", [1] * p, 50, rng).astype(np.float32)
    weights = (rng.normal(size=50) * 10.0 ** rng.integers(-4, 5)).astype(np.float32)
    pairs = np.array(list(itertools.combinations(range(2, p), 2)))
    own = columns[:, [1]] * columns[:, pairs[:, 0]] * columns[:, pairs[:, 1]]
    sums = np.abs(weights.astype(float) @ own)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screen, "_TILE", tile)
        screened = screen.Screen(columns, np.arange(p))
        assert sums.max() <= screened.largest([(0,), (1,)], weights)[1]
        bound = rng.choice(sums)
        found = screened.reaching([(0,), (1,)], weights, [bound] * 2, most=len(pairs))[1]
    assert screened.n_products((1,)) == len(pairs)
    if found is not None:  # the bound is smaller than the error
        reached = {(1, *pair) for pair in pairs[sums >= bound].tolist()}
        assert reached <= set(map(tuple, found.tolist()))


def test_equal_products_are_found_in_the_order_of_their_columns():
    bit = np.repeat([-1.0, 1.0], 20)
    products = Products(np.stack([bit] * 6, axis=1), np.arange(6), 3)
    found = products.best(bit[:, None], 4)[0]
    assert found[:4] == [(0,), (1,), (2,), (3,)]
    assert found[4:] == [(0, 1, 2), (0, 1, 3), (0, 1, 4), (0, 1, 5)]


@pytest.mark.parametrize("kind", ["bits", "choices"])
def test_memory_is_that_of_pairs_and_not_of_their_values(kind):
    sizes = [1] * 250 if kind == "bits" else [5] * 50
    columns = columns_of(kind, sizes, 200, np.random.default_rng(0))
    residual = np.random.default_rng(1).normal(size=(200, 1))
    tracemalloc.start()
    try:
        Products(columns, np.repeat(np.arange(len(sizes)), sizes), 2).best(residual, 5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    values_of_pairs = 4 * 200 * 250 * 249 / 2
    assert peak < 0.2 * values_of_pairs


def test_no_residual_is_scanned_twice():
    scanned = []

    class Counting(Products):
        def best(self, residuals, n):
            scanned.extend(residuals.T.round(6).tolist())
            return super().best(residuals, n)

    columns = np.random.default_rng(0).choice([-1.0, 1.0], (200, 20))
    noise = 0.1 * np.random.default_rng(1).normal(size=200)
    y = 3 * columns[:, 0] + 2 * columns[:, 1] * columns[:, 2] + columns[:, 3] + noise
    recover(Counting(columns, np.arange(20), 3), y, n_terms=5)
    assert len(scanned) == len(set(map(tuple, scanned)))
    assert len(scanned) <= 2 * 5


def bits(n_samples, n_bits, seed):
    columns = np.random.default_rng(seed).choice([-1.0, 1.0], (n_samples, n_bits))
    return columns, Products(columns, np.arange(n_bits), 3)


def test_a_sparse_polynomial_in_noise_is_recovered():
    for seed in range(5):
        _, products = bits(100, 40, seed)
        noise = np.random.default_rng(seed).normal(size=100)
        truth = {(3,): 2.0, (4, 9): -3.0, (7, 20, 30): 1.5, (0, 39): 2.5}
        y = 5 + sum(c * products.values([term])[:, 0] for term, c in truth.items()) + noise
        found = recover(products, y, n_terms=6)
        assert dict(zip(found.terms, found.coefficients, strict=True)) == pytest.approx(
            truth, abs=0.5
        )
        assert np.all(np.diff(np.abs(found.coefficients)) <= 0)
        assert found.explained == pytest.approx(1 - 1 / (1 + 21.5), abs=0.05)


def test_noise_has_no_terms():
    found = []
    for seed in range(20):
        _, products = bits(60, 30, seed)
        y = np.random.default_rng(seed).normal(size=60)
        found.append(len(recover(products, y, n_terms=5).terms))
    assert np.count_nonzero(found) <= 2


def test_a_weak_single_parameter_is_told_from_the_best_of_many_triples():
    found = []
    for seed in range(10):
        columns, products = bits(150, 60, seed)
        y = 0.45 * columns[:, 7] + np.random.default_rng(seed).normal(size=150)
        found += recover(products, y, n_terms=5).terms
    assert found.count((7,)) >= 7
    assert len(found) <= found.count((7,)) + 1


def test_terms_are_exchanged_where_the_greedy_choice_was_wrong():
    # The fourth column is nearly the sum of the others, and the best single one.
    rng = np.random.default_rng(0)
    true = rng.normal(size=(200, 3))
    mixed = true.sum(axis=1) + rng.normal(scale=0.5, size=200)
    products = Products(np.column_stack([true, mixed]), np.arange(4), 1)
    y = true.sum(axis=1)
    assert products.best((y - y.mean())[:, None], 1) == [[(3,)]]
    assert sorted(recover(products, y, n_terms=3).terms) == [(0,), (1,), (2,)]


def test_a_given_alpha_is_the_lasso_over_all_products():
    columns, products = bits(60, 12, 0)
    y = 3 * columns[:, 0] - 2 * columns[:, 1] * columns[:, 2]
    y += np.random.default_rng(1).normal(size=60)
    every = all_products(np.arange(12), 3)
    features = products.values(every)
    weights = Lasso(alpha=0.3).fit(features, y).coef_
    largest = {every[i] for i in np.argsort(-np.abs(weights))[:4]}
    assert set(recover(products, y, n_terms=4, alpha=0.3).terms) == largest
    assert recover(products, y, n_terms=4, alpha=1e3).terms == []


def bit(dimension):
    return Factor(dimension, np.array([0.5, 1.0]), np.array([-1.0, 1.0]), 1)


def third(dimension, level):
    values = np.where(np.arange(3) == level, 2.0, -1.0) / np.sqrt(2)
    return Factor(dimension, np.array([1 / 3, 2 / 3, 1.0]), values, level)


@st.composite
def polynomials(draw):
    """Terms over four coordinates of two levels and two of three."""
    terms = []
    for _ in range(draw(st.integers(1, 6))):
        dimensions = draw(st.sets(st.integers(0, 5), min_size=1, max_size=3))
        factors = tuple(
            bit(d) if d < 4 else third(d, draw(st.integers(0, 2))) for d in sorted(dimensions)
        )
        size = draw(st.floats(0.5, 3.0, allow_subnormal=False))
        terms.append(Term(size * draw(st.sampled_from([-1, 1])), factors))
    return terms


LEVELS = [[0.25, 0.75]] * 4 + [[1 / 6, 1 / 2, 5 / 6]] * 2
EVERYWHERE = np.array(list(itertools.product(*LEVELS)))


@settings(max_examples=60, deadline=None)
@given(terms=polynomials(), n_best=st.integers(1, 4), seed=st.integers(0, 1000))
def test_a_region_is_where_the_best_patterns_are(terms, n_best, seed):
    values = np.stack([term(EVERYWHERE) for term in terms], axis=1).round(6)
    patterns = sorted({tuple(row) for row in values}, key=lambda row: -sum(row))
    region = Region().restricted(terms, n_best)
    n_possible = np.prod([len(set(column)) for column in values.T])
    n_best = min(n_best, max(1, n_possible // 8))
    sums = [sum(pattern) for pattern in region.patterns]
    assert sums == pytest.approx([sum(row) for row in patterns[:n_best]], abs=1e-4)
    inside = region.contains(EVERYWHERE)
    assert {tuple(row) for row in values[inside]} == {
        tuple(np.round(pattern, 6)) for pattern in region.patterns
    }
    points = np.random.default_rng(seed).random((20, 6))
    projected = np.array([region.project(point) for point in points])
    assert region.contains(projected).all()
    assert ((projected >= 0) & (projected < 1)).all()
    np.testing.assert_array_equal([region.project(point) for point in projected], projected)
    np.testing.assert_array_equal(region.project_all(points), projected)
    already = region.contains(points)
    np.testing.assert_array_equal(projected[already], points[already])


def test_what_the_terms_leave_open_stays_open_and_even():
    region = Region().restricted([Term(1.0, (bit(0), bit(1))), Term(-1.0, (third(2, 0),))], 1)
    points = np.random.default_rng(0).random((2000, 4))
    projected = np.array([region.project(point) for point in points])
    same = (projected[:, 0] < 0.5) == (projected[:, 1] < 0.5)
    assert same.all()
    assert np.mean(projected[:, 0] < 0.5) == pytest.approx(0.5, abs=0.05)
    assert projected[:, 2].min() >= 1 / 3
    assert np.mean(projected[:, 2] < 2 / 3) == pytest.approx(0.5, abs=0.05)
    np.testing.assert_array_equal(projected[:, 3], points[:, 3])
    assert region.allowed(projected) == {2: [(pytest.approx(1 / 3), 1.0)]}


def test_a_second_stage_keeps_to_the_first():
    first = Region().restricted([Term(1.0, (bit(0), bit(1)))], 1)
    second = first.restricted([Term(5.0, (bit(0),)), Term(-9.0, (bit(0), bit(1), bit(2)))], 1)
    assert second.patterns == [(1.0, 5.0, 9.0)]
    points = np.array([second.project(u) for u in np.random.default_rng(0).random((50, 3))])
    assert (points[:, :2] >= 0.5).all()
    assert (points[:, 2] < 0.5).all()


def test_eight_terms_of_24_variables_with_contradictions():
    rng = np.random.default_rng(0)
    names = rng.permutation(24)
    terms = [Term(1.0 + i, tuple(bit(d) for d in names[3 * i : 3 * i + 3])) for i in range(8)]
    extra = [Term(-20.0 - i, tuple(bit(d) for d in names[[i, i + 8, i + 16]])) for i in range(8)]
    region = Region().restricted(terms, 4).restricted(extra, 4)
    assert len(region.patterns) == 4
    points = np.array([region.project(u) for u in rng.random((50, 24))])
    assert region.contains(points).all()


def test_a_restricted_space_is_a_space_of_the_region(monkeypatch):
    space = SearchSpace({"a": [1, 2], "b": ["x", "y", "z"], "c": uniform()})
    region = Region().restricted([Term(1.0, (third(1, 0),)), Term(1.0, (bit(0),))], 1)
    left = RestrictedSpace(space, region)
    points = np.random.default_rng(0).random((100, 3))
    inside = region.project_all(points)
    drawn = [left.from_unit(u) for u in points]
    assert {(params["a"], params["b"]) for params in drawn} == {(2, "x")}
    assert len({params["c"] for params in drawn}) == 100
    assert [left.to_unit(params)[2] for params in drawn] == pytest.approx(points[:, 2])
    assert left.snap(points) == pytest.approx(np.array([left.to_unit(p) for p in drawn]))
    assert [dimension.n_levels for dimension in left.dimensions] == [1, 1, None]
    assert left.size is None
    monkeypatch.setattr(Region, "project", lambda *args: pytest.fail("these points are in it"))
    snapped = left.snap(left.snap(inside))
    np.testing.assert_array_equal(snapped, left.whole.snap(inside))


def test_a_finite_restricted_space_is_listed():
    space = SearchSpace({"a": [1, 2], "b": ["x", "y", "z"]})
    left = RestrictedSpace(space, Region().restricted([Term(-1.0, (third(1, 0),))], 1))
    assert left.size == 4
    assert {tuple(left.nth(i).values()) for i in range(4)} == set(
        itertools.product([1, 2], ["y", "z"])
    )


def test_functions_of_the_same_parameters_join_a_term():
    rng = np.random.default_rng(0)
    columns = rng.choice([-1.0, 1.0], (80, 60))
    products = Products(columns, np.repeat(np.arange(20), 3), 2)
    y = 2 * columns[:, 3] * columns[:, 30] + 0.6 * columns[:, 4] * columns[:, 31]
    y += 0.6 * rng.normal(size=80)
    assert recover(products, y, n_terms=1).terms == [(3, 30), (4, 31)]
    others = Products(columns, np.arange(60), 2)
    assert recover(others, y, n_terms=1).terms == [(3, 30)]


def test_pairs_across_tiles_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    columns = rng.choice([-1.0, 1.0], (50, 40))
    residual = rng.normal(size=50)
    residual -= residual.mean()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_TILE", 7)
        found = Products(columns, np.arange(40), 3).best(residual[:, None], 30)[0]
    every, gains, _ = brute_force(columns, np.arange(40), 3, residual)
    by_product = dict(zip(every, gains, strict=True))
    for size in (1, 2, 3):
        best = sorted((g for p, g in by_product.items() if len(p) == size), reverse=True)[:30]
        assert [by_product[p] for p in found if len(p) == size] == pytest.approx(best, rel=2e-3)


@pytest.mark.parametrize("n_lanes", [1, 16])
def test_products_that_are_added_up_in_16_bits_are_found_out(n_lanes):
    rng = np.random.default_rng(1)
    left, right = rounded(rng.normal(size=(8, 256))), rounded(rng.choice([-1.0, 1.0], (256, 64)))
    assert adds_in_32_bits((left.float() @ right.float()).bfloat16(), left, right)
    lanes = rounded(np.zeros((n_lanes, 8, 64)))
    for start in range(0, 256, n_lanes):
        for lane in range(n_lanes):
            lanes[lane] += left[:, start + lane, None] * right[start + lane]
    assert not adds_in_32_bits(lanes.float().sum(0).bfloat16(), left, right)
