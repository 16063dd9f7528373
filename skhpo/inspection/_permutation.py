"""By how much a surrogate's error grows where a parameter's values are shuffled."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from ._cells import dict_of, domains_of, places_of

__all__ = ["permutation"]

_N_TREES = 64


def permutation(space, u, y, n_bootstrap, rng):
    """Return the importance of each parameter to a forest, on rows that it has not seen.

    Breiman (2001), "Random forests", section 10. Each replicate has a forest on a bootstrap
    sample, and asks it about the rows left out, once as they are and once for each parameter with
    its values shuffled, among the configurations that have it with the same range. Where not all
    dicts have it with the same range, which dict is shuffled too.

    Returns what `fanova` does, without interactions: the increase of the squared error over the
    variance of the scores. The estimate is the mean over the replicates.
    """
    d, _ = dict_of(space, u)
    places = {name: places_of(space, name) for name in space.names}
    found = {name: [] for name in space.names}
    for _ in range(max(n_bootstrap, 1)):
        rows = rng.integers(len(y), size=len(y))
        out = np.setdiff1d(np.arange(len(y)), rows)
        model = ExtraTreesRegressor(
            _N_TREES // 4, max_features=1.0, random_state=int(rng.integers(2**31))
        ).fit(u[rows], y[rows])
        error = np.mean((model.predict(u[out]) - y[out]) ** 2)
        for name, by_dict in places.items():
            shuffled = u[out]
            for place, having in domains_of(space, name, u[out]):
                shuffled[having, place] = rng.permutation(shuffled[having, place])
            if len({by_dict.get(one) for one in np.unique(d)}) > 1:  # it says which dict
                shuffled[:, 0] = rng.permutation(shuffled[:, 0])
            worse = np.mean((model.predict(shuffled) - y[out]) ** 2)
            found[name].append(max(worse - error, 0.0) / y.var())
    return {name: np.array([np.mean(f), *f[:n_bootstrap]]) for name, f in found.items()}, {}
