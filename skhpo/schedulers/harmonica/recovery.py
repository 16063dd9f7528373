"""Sparse recovery of a polynomial from few samples: algorithm 1 of Hazan, Klivans and Yuan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaln, hyp2f1
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso

from ...process import ignoring
from .products import Product, Products

__all__ = ["Recovered", "recover"]

Vector = NDArray[np.float64]

# Candidates of a scan, of each degree, that are looked at exactly.
_LOOKED_AT = 5
# How often one more term may be noise.
_WRONG = 0.05
# Columns that the Lasso starts with; those that turn out to be missing are added.
_SCREENED = 1000


@dataclass(frozen=True, slots=True)
class Recovered:
    """A sparse polynomial.

    Parameters
    ----------
    intercept : float
    terms : list of tuple of int
        Column numbers whose product a term is, the largest term first.
    coefficients : ndarray of shape (n_terms,)
        Those of least squares on the terms.
    explained : float
        Share of the variance of the scores that all terms explain together.
    shares : list of float
        The share that would be lost without each term.
    """

    intercept: float
    terms: list[Product]
    coefficients: Vector
    explained: float
    shares: list[float]


def recover(
    products: Products, y: Vector, n_terms: int, alpha: float | Literal["auto"] = "auto"
) -> Recovered:
    """Find the few products whose weighted sum explains the scores.

    Parameters
    ----------
    products : Products
        The features.
    y : ndarray of shape (n_samples,)
        Scores.
    n_terms : int
        How many products at most, besides other functions of the same parameters.
    alpha : float or "auto", default="auto"
        Penalty of the Lasso, in units of the score, of which the `n_terms` largest coefficients are
        taken. "auto" shrinks nothing and looks for the subset of least squared error by adding and
        exchanging products, then leaves out those that noise may explain: each term has to pay
        for the number of terms of its degree that it was chosen from. Products of other functions
        of the same parameters then join; they pay for their own number, which is small.
    """
    if alpha == "auto":
        terms = _exchanged(products, y, _added(products, y, n_terms))
        terms = _refilled(products, y, _without_excess(products, y, terms), n_terms)
        terms = _completed(products, y, terms)
    else:
        terms = _largest_of_lasso(products, y, n_terms, alpha)
    weights, residual = _least_squares(products, y, terms)
    coefficients: Vector = weights[1:]
    order = np.argsort(-np.abs(coefficients), kind="stable")
    terms = [terms[i] for i in order]
    spread = max(float(np.sum((y - y.mean()) ** 2)), np.finfo(float).tiny)
    error = float(residual @ residual)
    without = [_squared_error(products, y, terms[:i] + terms[i + 1 :]) for i in range(len(terms))]
    return Recovered(
        intercept=float(weights[0]),
        terms=terms,
        coefficients=coefficients[order],
        explained=1 - error / spread,
        shares=[(more - error) / spread for more in without],
    )


def _least_squares(
    products: Products, y: Vector, terms: Sequence[Product]
) -> tuple[Vector, Vector]:
    """Weights of an intercept and the terms, and the residual."""
    design = np.stack([np.ones(len(y)), *map(products.values, terms)], axis=1)
    weights = np.asarray(np.linalg.lstsq(design, y)[0], dtype=np.float64)
    return weights, y - design @ weights


def _added(products: Products, y: Vector, n_terms: int) -> list[Product]:
    """Take the product that explains most of what is left, again and again."""
    terms: list[Product] = []
    while len(terms) < min(n_terms, len(y) - 2):
        candidate = _best_addition(products, y, [terms])[0]
        if candidate is None:
            break
        terms.append(candidate[1])
    return terms


def _exchanged(products: Products, y: Vector, terms: list[Product]) -> list[Product]:
    """Replace terms one by one as long as that lowers the squared error."""
    error = _squared_error(products, y, terms)
    for _ in range(3 * len(terms)):
        rests = [terms[:i] + terms[i + 1 :] for i in range(len(terms))]
        found = [
            (candidate[0], i, candidate[1])
            for i, candidate in enumerate(_best_addition(products, y, rests))
            if candidate is not None
        ]
        if not found or min(found)[0] > (1 - 1e-6) * error:
            break
        error, place, product = min(found)
        terms = [*rests[place], product]
    return terms


def _refilled(products: Products, y: Vector, terms: list[Product], n_terms: int) -> list[Product]:
    """Add terms that noise would rarely explain, of whatever degree.

    Among as many products as there are of a large degree, some explain more by chance than one
    parameter that matters; the other steps take those first.
    """
    while len(terms) < min(n_terms, len(y) - 2):
        candidate = _best_addition(products, y, [terms], priced=True)[0]
        if candidate is None:
            break
        larger = [*terms, candidate[1]]
        if _chance(products, y, larger) >= _chance(products, y, terms):
            break
        terms = larger
    return terms


def _completed(products: Products, y: Vector, terms: list[Product]) -> list[Product]:
    """Add other functions of the parameters of a term, which pay for their own number only."""
    related = {term: products.related(term) for term in terms}
    pool = {
        other: len(others) for others in related.values() for other in others if other not in terms
    }
    ways: dict[Product, int] = {}
    best = _chance(products, y, terms, ways)
    while pool:
        found = min(pool, key=lambda other: _squared_error(products, y, [*terms, other]))
        larger_ways = {**ways, found: pool.pop(found)}
        larger = _chance(products, y, [*terms, found], larger_ways)
        if larger >= best:
            break
        terms, ways, best = [*terms, found], larger_ways, larger
    return terms


def _best_addition(
    products: Products, y: Vector, subsets: Sequence[list[Product]], *, priced: bool = False
) -> list[tuple[float, Product] | None]:
    """For each subset, the product to add, with the squared error that is left then.

    If `priced`, the error is multiplied by what a product pays for the number of its degree.
    """
    residuals = [_least_squares(products, y, subset)[1] for subset in subsets]
    found: list[tuple[float, Product] | None] = []
    ranked = products.best(np.stack(residuals, axis=1), _LOOKED_AT)
    for subset, residual, candidates in zip(subsets, residuals, ranked, strict=True):
        known = np.linalg.qr(np.stack([np.ones(len(y)), *map(products.values, subset)], axis=1)).Q
        error = float(residual @ residual)
        best: tuple[float, Product] | None = None
        for candidate in candidates:
            column = products.values(candidate)
            new = column - known @ (known.T @ column)
            size = float(new @ new)
            if size > 1e-6 * float(column @ column):
                left = error - float(new @ residual) ** 2 / size
                if priced:
                    ways = products.counts[len(candidate) - 1]
                    left = max(left, 0.0) * ways ** (2 / (len(y) - 2 - len(subset)))
                if best is None or left < (1 - 1e-9) * best[0]:
                    best = left, candidate
        found.append(best)
    return found


def _without_excess(products: Products, y: Vector, terms: list[Product]) -> list[Product]:
    """Drop the least important term again and again; return the subset that is least by chance."""
    path = [terms]
    while terms:
        fewer = [terms[:i] + terms[i + 1 :] for i in range(len(terms))]
        terms = min(fewer, key=lambda subset: _squared_error(products, y, subset))
        path.append(terms)
    return min(path, key=lambda subset: _chance(products, y, subset))


def _chance(
    products: Products,
    y: Vector,
    terms: Sequence[Product],
    related: Mapping[Product, int] | None = None,
) -> float:
    """Logarithm of how often noise would be explained as well by some terms of these degrees.

    The share of normal noise that `k` given terms explain has a beta distribution. The tail is
    multiplied by the number of such terms and, so that one more is rarely wrong, by a factor for
    each. `related` has the number of those that were chosen from fewer.
    """
    if not terms:
        return 0.0
    a, b = len(terms) / 2, (len(y) - 1 - len(terms)) / 2
    left = _squared_error(products, y, terms) / float(np.sum((y - y.mean()) ** 2))
    left = min(max(left, 1e-20), 1.0)
    if left > 0.5:
        tail = float(np.log(betainc(b, a, left)))
    else:  # the same, where it may be too small for a float
        series = float(np.log(hyp2f1(a + b, 1, b + 1, left)))
        tail = b * np.log(left) + a * np.log1p(-left) - np.log(b) - float(betaln(a, b)) + series
    known = related or {}
    ways = [known.get(term, products.degree * products.counts[len(term) - 1]) for term in terms]
    return float(tail + np.sum(np.log(ways)) - len(terms) * np.log(_WRONG))


def _squared_error(products: Products, y: Vector, terms: Sequence[Product]) -> float:
    _, residual = _least_squares(products, y, terms)
    return float(residual @ residual)


def _largest_of_lasso(products: Products, y: Vector, n_terms: int, alpha: float) -> list[Product]:
    """The terms of largest weight of the Lasso over all products.

    It is fitted to the products that correlate most; whatever then violates the conditions of
    optimality (Karush, Kuhn and Tucker) is added, until nothing does.
    """
    centred = y - y.mean()
    pool = dict.fromkeys(products.best(centred[:, None], _SCREENED)[0])
    while True:
        names = list(pool)
        if not names:
            return []
        columns = np.stack([products.values(product) for product in names], axis=1)
        model = Lasso(alpha=alpha)
        with ignoring(ConvergenceWarning):
            model.fit(columns, y)
        residual = y - model.predict(columns)
        missing = [
            product
            for product in products.best((residual - residual.mean())[:, None], _SCREENED)[0]
            if product not in pool
            and abs(products.values(product) @ residual) > (1 + 1e-3) * alpha * len(y)
        ]
        if not missing:
            break
        pool.update(dict.fromkeys(missing))
    order = np.argsort(-np.abs(model.coef_), kind="stable")[: min(n_terms, len(y) - 2)]
    return [names[i] for i in order if model.coef_[i] != 0]
