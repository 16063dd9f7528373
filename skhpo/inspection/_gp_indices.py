"""Sobol indices of the Gaussian process that searches choose by."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from ..samplers import ScoreModel
from ._anova import Anova

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
        Functions drawn from the posterior.
    rng : Generator

    Returns
    -------
    main, interactions
        As of `fanova`: the first is that of the posterior mean.
    """
    model = ScoreModel(space, u, y, variances)
    main = {name: [] for name in space.names}
    interactions = {pair: [] for pair in combinations(space.names, 2)}
    for start in [None, *range(0, n_bootstrap, _AT_ONCE)]:
        points = space.snap(rng.random((_N_POINTS, space.n_dims)))
        f = model.predict(points)[0][:, None]
        if start is not None:
            f = model.draw(points, min(_AT_ONCE, n_bootstrap - start), rng)
        anova = Anova(space, points)
        totals = np.maximum(f.var(axis=0), 1e-300)
        for name, found in main.items():
            found.append(np.maximum(anova.main(name, f) / totals, 0.0))
        for (a, b), found in interactions.items():
            found.append(np.maximum(anova.interaction(a, b, f) / totals, 0.0))
    return _joined(main), _joined(interactions)


def _joined(parts):
    return {key: np.concatenate(found) for key, found in parts.items()}
