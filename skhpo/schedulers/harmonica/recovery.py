"""Sparse recovery of a polynomial from few samples: algorithm 1 of Hazan, Klivans and Yuan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaln, hyp2f1
from scipy.stats import rankdata
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso

from ...process import ignoring
from .products import Product, Products

__all__ = ["Recovered", "recover"]

Vector = NDArray[np.float64]
# For a set of terms, the products that explain most of their residual.
Scans = dict[frozenset[Product], list[Product]]

# Number of candidates of a scan, of each degree, whose error is computed exactly.
_LOOKED_AT = 5
# Probability that a further term is only noise.
_WRONG = 0.05
# Share of the variance that is little to explain: ranks of scores are looked at, too.
_LITTLE = 0.5
# Number of columns that the Lasso starts with; missing ones are added.
_SCREENED = 1000
_SMALLEST = float(np.finfo(float).tiny)
# Number of products whose values are computed at the same time.
_AT_A_TIME = 4096


@dataclass(frozen=True, slots=True)
class Recovered:
    """A sparse polynomial.

    Parameters
    ----------
    intercept : float
    terms : list of tuple of int
        Numbers of the columns in each term (a product), largest term first.
    coefficients : ndarray of shape (n_terms,)
        Least-squares coefficients of the terms.
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
        Largest number of products, not counting other functions of the same parameters.
    alpha : float or "auto", default="auto"
        Penalty of the Lasso, in units of the score; the terms with the `n_terms` largest
        coefficients are kept. "auto" uses no shrinkage. It searches the subset of least squared
        error by adding and exchanging products, and then removes terms that noise could explain
        as well, given the number of terms of that degree to choose from. At last it adds products
        of other functions of the same parameters, which are chosen from fewer. Terms that explain
        less than half of the variance are replaced by those found so for the ranks of the scores,
        because a few large scores among many that failed hide a parameter and look like a product
        of several; these terms must then explain the scores themselves, too.
    """
    if alpha == "auto":
        terms = _significant(products, y, n_terms)
        if _squared_error(products, y, terms) > (1 - _LITTLE) * np.sum((y - y.mean()) ** 2):
            terms = _significant(products, rankdata(y), n_terms)
            terms = _without_excess(products, y, terms, dict.fromkeys(terms, 1))
    else:
        terms = _largest_of_lasso(products, y, n_terms, alpha)
    weights, residual = _least_squares(products, y, terms)
    coefficients: Vector = weights[1:]
    sizes = np.abs(coefficients) / max(np.abs(coefficients).max(initial=0.0), _SMALLEST)
    keys = [(-size, len(term), term) for size, term in zip(sizes.round(9), terms, strict=True)]
    order = sorted(range(len(terms)), key=keys.__getitem__)  # independent of rounding
    terms = [terms[i] for i in order]
    spread = max(float(np.sum((y - y.mean()) ** 2)), _SMALLEST)
    error = float(residual @ residual)
    without = [_squared_error(products, y, terms[:i] + terms[i + 1 :]) for i in range(len(terms))]
    return Recovered(
        intercept=float(weights[0]),
        terms=terms,
        coefficients=coefficients[order],
        explained=1 - error / spread,
        shares=[(more - error) / spread for more in without],
    )


def _significant(products: Products, y: Vector, n_terms: int) -> list[Product]:
    """Return the subset of least squared error, without terms that noise explains as well."""
    scans: Scans = {}
    terms = _exchanged(products, y, _added(products, y, n_terms, scans), scans)
    terms = _without_excess(products, y, terms)
    terms = _refilled(products, y, terms, n_terms, scans)
    return _completed(products, y, terms)


def _least_squares(
    products: Products, y: Vector, terms: Sequence[Product]
) -> tuple[Vector, Vector]:
    """Return the weights of an intercept and the terms, and the residual."""
    design = np.hstack([np.ones((len(y), 1)), products.values(terms)])
    weights = np.asarray(np.linalg.lstsq(design, y)[0], dtype=np.float64)
    return weights, y - design @ weights


def _added(products: Products, y: Vector, n_terms: int, scans: Scans) -> list[Product]:
    """Repeatedly add the product that explains most of the residual."""
    terms: list[Product] = []
    while len(terms) < min(n_terms, len(y) - 2):
        candidate = _best_addition(products, y, [terms], scans)[0]
        if candidate is None:
            break
        terms.append(candidate[1])
    return terms


def _exchanged(products: Products, y: Vector, terms: list[Product], scans: Scans) -> list[Product]:
    """Replace terms one by one as long as that lowers the squared error."""
    error = _squared_error(products, y, terms)
    for _ in range(3 * len(terms)):
        rests = [terms[:i] + terms[i + 1 :] for i in range(len(terms))]
        found = [
            (candidate[0], i, candidate[1])
            for i, candidate in enumerate(_best_addition(products, y, rests, scans))
            if candidate is not None
        ]
        if not found or min(found)[0] > (1 - 1e-6) * error:
            break
        error, place, product = min(found)
        terms = [*rests[place], product]
    return terms


def _refilled(
    products: Products, y: Vector, terms: list[Product], n_terms: int, scans: Scans
) -> list[Product]:
    """Add terms of any degree that noise would rarely explain.

    There are so many products of a large degree that some explain more by chance than a single
    parameter that matters. The earlier steps take those first, this one corrects for it.
    """
    while len(terms) < min(n_terms, len(y) - 2):
        candidate = _best_addition(products, y, [terms], scans, priced=True)[0]
        if candidate is None:
            break
        larger = [*terms, candidate[1]]
        if _chance(products, y, larger) >= _chance(products, y, terms):
            break
        terms = larger
    return terms


def _completed(products: Products, y: Vector, terms: list[Product]) -> list[Product]:
    """Add other functions of the parameters of a term, tested only against their own number."""
    related = {term: products.related(term) for term in terms}
    pool = {
        other: len(others) for others in related.values() for other in others if other not in terms
    }
    ways: dict[Product, int] = {}
    best = _chance(products, y, terms, ways)
    while pool:
        others = list(pool)
        place = _first_of_least(
            _errors_with(products, terms, _residual(products, y, terms), others)
        )
        if place is None:
            break
        found = others[place]
        larger_ways = {**ways, found: pool.pop(found)}
        larger = _chance(products, y, [*terms, found], larger_ways)
        if larger >= best:
            break
        terms, ways, best = [*terms, found], larger_ways, larger
    return terms


def _best_addition(
    products: Products,
    y: Vector,
    subsets: Sequence[list[Product]],
    scans: Scans,
    *,
    priced: bool = False,
) -> list[tuple[float, Product] | None]:
    """Return for each subset the best product to add, and the squared error with it.

    If `priced`, errors are multiplied by a price for the number of products of that degree.
    """
    residuals = {frozenset(subset): _residual(products, y, subset) for subset in subsets}
    new = [terms for terms in residuals if terms not in scans]
    if new:
        wanted = np.stack([residuals[terms] for terms in new], axis=1)
        scans.update(zip(new, products.best(wanted, _LOOKED_AT), strict=True))
    found: list[tuple[float, Product] | None] = []
    for subset in subsets:
        residual, candidates = residuals[frozenset(subset)], scans[frozenset(subset)]
        left = _errors_with(products, subset, residual, candidates)
        prices = np.ones(len(candidates))
        if priced:
            exponent = 2 / (len(y) - 2 - len(subset))
            prices = np.array([products.counts[len(c) - 1] ** exponent for c in candidates])
        left = np.maximum(left, 0.0 if priced else -np.inf) * prices
        place = _first_of_least(left)
        found.append(None if place is None else (float(left[place]), candidates[place]))
    return found


def _errors_with(
    products: Products, subset: Sequence[Product], residual: Vector, others: Sequence[Product]
) -> Vector:
    """Return the squared error with each further product; infinite for one that adds nothing."""
    errors = np.full(len(others), np.inf)
    ones = np.ones((len(residual), 1))
    known = np.linalg.qr(np.hstack([ones, products.values(subset)])).Q
    for start in range(0, len(others), _AT_A_TIME):
        columns = products.values(others[start : start + _AT_A_TIME])
        new = columns - known @ (known.T @ columns)
        sizes = np.einsum("nk,nk->k", new, new)
        usable = sizes > 1e-6 * np.einsum("nk,nk->k", columns, columns)
        gains = (residual @ new[:, usable]) ** 2 / sizes[usable]
        errors[start : start + _AT_A_TIME][usable] = residual @ residual - gains
    return errors


def _first_of_least(errors: Vector) -> int | None:
    """Return the index of the least error, the first of those that differ only by rounding."""
    least = errors.min(initial=np.inf)
    return None if least == np.inf else int(np.argmax(errors <= least + 1e-9 * abs(least)))


def _without_excess(
    products: Products,
    y: Vector,
    terms: list[Product],
    related: Mapping[Product, int] | None = None,
) -> list[Product]:
    """Repeatedly drop the least important term; return the subset least likely by chance."""
    path = [terms]
    while terms:
        fewer = [terms[:i] + terms[i + 1 :] for i in range(len(terms))]
        terms = min(fewer, key=lambda subset: _squared_error(products, y, subset))
        path.append(terms)
    return min(path, key=lambda subset: _chance(products, y, subset, related))


def _chance(
    products: Products,
    y: Vector,
    terms: Sequence[Product],
    related: Mapping[Product, int] | None = None,
) -> float:
    """Return the log probability that terms of these degrees explain noise as well.

    The share of normal noise that `k` given terms explain has a beta distribution. Its tail is
    multiplied by the number of such terms and, so that a further term is rarely wrong, by a
    factor for each term. `related` gives the number of choices of terms with fewer choices.
    """
    if not terms:
        return 0.0
    a, b = len(terms) / 2, (len(y) - 1 - len(terms)) / 2
    left = _squared_error(products, y, terms) / float(np.sum((y - y.mean()) ** 2))
    left = min(max(left, 1e-20), 1.0)
    if left > 0.5:
        tail = float(np.log(betainc(b, a, left)))
    else:  # the same as a series, because it may be too small for a float
        series = float(np.log(hyp2f1(a + b, 1, b + 1, left)))
        tail = b * np.log(left) + a * np.log1p(-left) - np.log(b) - float(betaln(a, b)) + series
    known = related or {}
    ways = [known.get(term, products.degree * products.counts[len(term) - 1]) for term in terms]
    return float(tail + np.sum(np.log(ways)) - len(terms) * np.log(_WRONG))


def _squared_error(products: Products, y: Vector, terms: Sequence[Product]) -> float:
    residual = _residual(products, y, terms)
    return float(residual @ residual)


def _residual(products: Products, y: Vector, terms: Sequence[Product]) -> Vector:
    return _least_squares(products, y, terms)[1]


def _largest_of_lasso(products: Products, y: Vector, n_terms: int, alpha: float) -> list[Product]:
    """Return the terms with the largest weights of the Lasso over all products.

    It is fitted to the products with the largest correlations. Products that violate the
    conditions of optimality (Karush, Kuhn and Tucker) are added until there are none.
    """
    centred = y - y.mean()
    pool = dict.fromkeys(products.best(centred[:, None], _SCREENED)[0])
    while True:
        names = list(pool)
        if not names:
            return []
        columns = products.values(names)
        model = Lasso(alpha=alpha)
        with ignoring(ConvergenceWarning):
            model.fit(columns, y)
        residual = y - model.predict(columns)
        found = products.best((residual - residual.mean())[:, None], _SCREENED)[0]
        violated = np.abs(residual @ products.values(found)) > (1 + 1e-3) * alpha * len(y)
        missing = [found[i] for i in np.flatnonzero(violated) if found[i] not in pool]
        if not missing:
            break
        pool.update(dict.fromkeys(missing))
    order = np.argsort(-np.abs(model.coef_), kind="stable")[: min(n_terms, len(y) - 2)]
    return [names[i] for i in order if model.coef_[i] != 0]
