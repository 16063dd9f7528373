"""Sobol indices of the Gaussian process that searches choose by."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.sparse import csr_array

from ..samplers import ScoreModel
from ._cells import Cells, domains_of, missed_variance

__all__ = ["gp_indices"]

# Cells of a parameter: for its main effect, and for its interactions with each other one. More
# cells show finer functions, and have fewer points each.
_N_CELLS = 48
_N_PAIR_CELLS = 8
# Random points over the space at which functions are compared.
_N_POINTS = 8192
# Functions that are drawn with the same hyperparameters, and compared at the same points.
_AT_ONCE = 10


def gp_indices(space, u, y, variances, n_bootstrap, rng):
    """Decompose the variance of a Gaussian process; returns what `fanova` does.

    The estimate is that of the posterior mean; replicates are functions drawn from the posterior.
    The model of few rows takes weak parameters for nothing at all: to each is added what a
    bootstrap sample of the rows says of what the model leaves of a row that it does not know.
    `variances` are those of `y`, NaN where unknown.
    """
    model = ScoreModel(space, u, y, variances)
    rows, left = model.left_out()
    n = len(rows)
    cells = {name: _cell_numbers(space, name, u[rows], _N_PAIR_CELLS) for name in space.names}
    main = {name: [] for name in space.names}
    interactions = {pair: [] for pair in combinations(space.names, 2)}
    for start in [None, *range(0, n_bootstrap, _AT_ONCE)]:
        points = space.snap(rng.random((_N_POINTS, space.n_dims)))
        f = model.predict(points)[0][:, None]
        if start is not None:
            f = model.draw(points, min(_AT_ONCE, n_bootstrap - start), rng)
            roots = np.sqrt(rng.multinomial(n, np.full(n, 1 / n), size=f.shape[1]))
        anova = _Anova(space, points)
        totals = np.maximum(f.var(axis=0), 1e-300)
        for name, found in main.items():
            explained = anova.main(name, f)
            if start is not None:
                explained = explained + [_missed(cells[name], left, root) for root in roots]
            found.append(np.clip(explained / totals, 0.0, 1.0))
        for (a, b), found in interactions.items():
            found.append(np.clip(anova.interaction(a, b, f) / totals, 0.0, 1.0))
    return _joined(main), _joined(interactions)


def _missed(cells, left, root):
    """Return the missed variance of rows of which each counts `root` squared times."""
    return missed_variance(cells, (left - root**2 @ left / len(left)) * root, root)


def _joined(parts):
    return {key: np.concatenate(found) for key, found in parts.items()}


class _Anova:
    """Analysis of variance of functions over a space, in cells of each parameter.

    In a conditional space, that a configuration does not have a parameter is one more cell of it.
    `u` are random points; functions have the shape (n_points, n_functions).
    """

    def __init__(self, space, u):
        self._n = len(u)
        self._cells = {name: _cell_numbers(space, name, u, _N_CELLS) for name in space.names}
        self._pair_cells = {
            name: _cell_numbers(space, name, u, _N_PAIR_CELLS) for name in space.names
        }

    def main(self, name, f):
        """Return the variance that a parameter alone explains of each function."""
        return self._explained(self._cells[name], f)

    def interaction(self, a, b, f):
        """Return the variance that two parameters explain together beyond each alone."""
        first, second = self._pair_cells[a], self._pair_cells[b]
        _, joint = np.unique(first * (second.max() + 1) + second, return_inverse=True)
        alone = self._explained(first, f) + self._explained(second, f)
        return self._explained(joint, f) - alone

    def _explained(self, cells, f):
        """Return the variance between cells, without what the points in them vary by chance."""
        n_cells = int(cells.max()) + 1
        if n_cells == 1:
            return np.zeros(f.shape[1])
        membership = csr_array(
            (np.ones(self._n), (cells, np.arange(self._n))), shape=(n_cells, self._n)
        )
        counts = np.bincount(cells, minlength=n_cells)[:, None]
        centred = f - f.mean(axis=0)
        means = (membership @ centred) / counts
        between = (counts * means**2).sum(axis=0)
        within = (centred**2).sum(axis=0) - between
        return (between - (n_cells - 1) * within / (self._n - n_cells)) / self._n


def _cell_numbers(space, name, u, n):
    """Return the cell that each point is in, numbered from 0 without gaps."""
    numbers = np.full(len(u), -1)
    start = 0
    for place, rows in domains_of(space, name, u):
        cells = Cells(space, place, n)
        numbers[rows] = start + cells.find(u[rows, place])
        start += len(cells)
    return np.unique(numbers, return_inverse=True)[1]
