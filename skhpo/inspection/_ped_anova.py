"""How differently the best configurations are spread over a parameter than the others."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from ._cells import Cells, domains_of

__all__ = ["PedAnova"]

# The share of rows that count as the best of a region, and how few of them are enough.
_BEST = 0.1
_FEWEST_BEST = 5
# Draws of rows for what there is by chance.
_N_DRAWS = 30
# Cells of a number's range, on which densities are compared.
_N_CELLS = 64


class PedAnova:
    """Pearson divergence between the best rows and all rows of a region, by parameter.

    Watanabe, Bansal and Hutter (2023), "PED-ANOVA: Efficiently quantifying hyperparameter
    importance in arbitrary subspaces", equation 16: the variance of "is among the best" that a
    parameter explains by itself. Densities are kernel estimates over the unit interval. In a
    conditional space, which of its domains a parameter has, or none, is part of its value (so the
    divergence is that of the domains' probabilities, and inside each domain).
    """

    def __init__(self, space, u):
        self._parts = {name: _parts(space, name, u) for name in space.names}

    def importances(self, scores, region, by_chance=None):
        """Return the divergence by parameter, less that by chance; they sum to 1, or are all 0.

        `region` is the best share of rows that is looked at; 1 is the whole space.
        """
        inside, n_best = _region(scores, region)
        found = {
            name: max(
                _divergence(parts, inside[:n_best], inside) - (by_chance or {}).get(name, 0), 0
            )
            for name, parts in self._parts.items()
        }
        whole = sum(found.values())
        return {name: value / whole if whole > 0 else 0.0 for name, value in found.items()}

    def by_chance(self, scores, region, rng):
        """Return the divergence of as many rows of the region that are not the best, but drawn.

        A few rows never look like all: the less so the more values a parameter has.
        """
        inside, n_best = _region(scores, region)
        draws = [rng.choice(inside, n_best, replace=False) for _ in range(_N_DRAWS)]
        return {
            name: float(np.mean([_divergence(parts, drawn, inside) for drawn in draws]))
            for name, parts in self._parts.items()
        }

    @staticmethod
    def n_needed(region):
        """How many rows a region needs."""
        return int(np.ceil(2 * _FEWEST_BEST / region))


def _region(scores, region):
    """Return the rows of a region, best first, and how many of them are the best."""
    n_region = max(round(region * len(scores)), 2 * _FEWEST_BEST)
    inside = np.argsort(-scores, kind="stable")[:n_region]
    return inside, max(round(_BEST * n_region), _FEWEST_BEST)


def _parts(space, name, u):
    """Return the domains of a parameter: cells, which rows are in it, and where."""
    parts = []
    has_it = np.zeros(len(u), dtype=bool)
    for place, rows in domains_of(space, name, u):
        parts.append((Cells(space, place, _N_CELLS), rows, u[:, place]))
        has_it |= rows
    if not has_it.all():
        parts.append((None, ~has_it, None))
    return parts


def _divergence(parts, best, inside):
    """Return the mean of (p_best / p_inside - 1)^2 over the region."""
    total = 0.0
    for cells, rows, values in parts:
        of_best, of_inside = best[rows[best]], inside[rows[inside]]
        if not len(of_inside):
            continue
        share = len(of_inside) / len(inside)
        ratio = len(of_best) / len(best) / share
        if cells is None or len(cells) == 1 or not len(of_best):
            total += share * (ratio - 1.0) ** 2
            continue
        p, q = _density(cells, values[of_best]), _density(cells, values[of_inside])
        total += share * float(q @ (ratio * p / q - 1.0) ** 2)
    return total


def _density(cells, values):
    """Return the probability of each cell: counts of choices, a kernel estimate of numbers.

    One more value is spread over all cells, so that none is impossible.
    """
    counts = np.bincount(cells.find(values), minlength=len(cells)).astype(float)
    if not cells.is_choice:
        # Scott's rule for the uniform distribution, whose deviation is 1 / sqrt(12).
        spread = max(values.std(), 0.05) * 1.06 * len(values) ** -0.2
        spread = max(spread, cells.width.max() / 2)
        # As if each value were in the middle of its cell.
        below = ndtr((cells.edges[None, :] - cells.middles[:, None]) / spread)
        mass = np.diff(below, axis=1)
        counts = counts @ (mass / mass.sum(axis=1, keepdims=True))
    return (counts + cells.width) / (counts.sum() + 1.0)
