"""Sobol indices of the Gaussian process that searches choose by."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from ..samplers import ScoreModel
from ._anova import N_PAIR_CELLS, Anova, cell_numbers
from ._cells import missed_variance

__all__ = ["gp_indices"]

# Random points over the space at which functions are compared.
_N_POINTS = 8192
# Functions that are drawn with the same hyperparameters, and compared at the same points.
_AT_ONCE = 10


def gp_indices(space, u, y, variances, n_bootstrap, rng):
    """Decompose the variance of a Gaussian process.

    Parameters
    ----------
    space : SearchSpace
    u : ndarray of shape (n, n_dims)
        Snapped points.
    y : ndarray of shape (n,)
    variances : ndarray of shape (n,)
        Of `y`; NaN where unknown.
    n_bootstrap : int
        Functions drawn from the posterior. The model of few rows takes weak parameters for nothing
        at all: to each is added what a bootstrap sample of the rows says of what the model leaves
        of a row that it does not know.
    rng : Generator

    Returns
    -------
    main, interactions
        As of `fanova`: the first is that of the posterior mean.
    """
    model = ScoreModel(space, u, y, variances)
    rows, left = model.left_out()
    n = len(rows)
    cells = {name: cell_numbers(space, name, u[rows], N_PAIR_CELLS) for name in space.names}
    main = {name: [] for name in space.names}
    interactions = {pair: [] for pair in combinations(space.names, 2)}
    for start in [None, *range(0, n_bootstrap, _AT_ONCE)]:
        points = space.snap(rng.random((_N_POINTS, space.n_dims)))
        f = model.predict(points)[0][:, None]
        if start is not None:
            f = model.draw(points, min(_AT_ONCE, n_bootstrap - start), rng)
            roots = np.sqrt(rng.multinomial(n, np.full(n, 1 / n), size=f.shape[1]))
        anova = Anova(space, points)
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
