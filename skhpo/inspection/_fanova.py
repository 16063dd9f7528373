"""Main effects and interactions over a space, of a forest for each of its dicts."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from ._cells import dict_of, places_of
from ._forests import Forest

__all__ = ["fanova"]

_N_TREES = 64


def fanova(space, u, y, n_bootstrap, rng):
    """Decompose the variance of scores by random forests, over conditional spaces too.

    Each dict of the space has a forest over the coordinates that vary in it. Over the whole space
    a parameter explains the variance of the mean given its value, and that a configuration does
    not have it is one of its values. Dicts without points do not count. Bootstrap replicates draw
    trees and rows again.

    Returns
    -------
    main : dict of str to ndarray of shape (1 + n_bootstrap,)
        Shares of the variance, the estimate first.
    interactions : dict of (str, str) to ndarray of shape (1 + n_bootstrap,)
    """
    d, _ = dict_of(space, u)
    forests, trees, calibrated = {}, {}, {}
    for one in np.unique(d).tolist():
        own = d == one
        forest = Forest(space, _varying(space, one), u[own], y[own], _N_TREES, rng)
        forests[one] = forest
        trees[one] = _draws(_N_TREES, n_bootstrap, rng)
        rows = _draws(int(own.sum()), n_bootstrap, rng)
        calibrated[one] = [forest.calibrated(t, r) for t, r in zip(trees[one], rows, strict=True)]
    replicates = [
        {one: found[s] for one, found in calibrated.items()} for s in range(1 + n_bootstrap)
    ]
    means = np.array([np.mean([part.mean for part in parts.values()]) for parts in replicates])
    totals = np.array(
        [
            np.mean([part.total + (part.mean - mean) ** 2 for part in parts.values()])
            for parts, mean in zip(replicates, means, strict=True)
        ]
    )
    places = {name: places_of(space, name) for name in space.names}
    main = {
        name: np.array(
            [_explained(parts, places[name], m) for parts, m in zip(replicates, means, strict=True)]
        )
        / totals
        for name in space.names
    }
    # A forest of few rows flattens weak effects, or misses them: the estimate does not have what it
    # leaves of the scores, which is mostly chance, but its interval must.
    for name, shares in main.items():
        missed = [_missed(parts, places[name]) for parts in replicates[1:]]
        shares[1:] = np.maximum(shares[1:] + missed / totals[1:], 0.0)
    if len(forests) == 1:
        # Parts of one whole, whose variance rows tell badly where a search has chosen them. (In a
        # conditional space parameters share what they say of the dict.)
        excess = np.maximum(sum(main.values()), 1.0)
        main = {name: shares / excess for name, shares in main.items()}
        totals = totals * excess
    interactions = {}
    for a, b in combinations(space.names, 2):
        explained = [
            forest.interaction(places[a][one], places[b][one], trees[one], calibrated[one])
            for one, forest in forests.items()
            if places[a].get(one) in forest.places and places[b].get(one) in forest.places
        ]
        if explained:
            interactions[a, b] = np.sum(explained, axis=0) / len(forests) / totals
    return main, interactions


def _draws(n, n_bootstrap, rng):
    """Return how often each of `n` counts: once, then as in bootstrap samples."""
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=n_bootstrap)
    return np.concatenate([np.ones((1, n)), drawn])


def _varying(space, one):
    """Return the places of the parameters that vary in a dict."""
    return [
        place
        for place, dimension in enumerate(space.dimensions)
        if dimension.name is not None and one in dimension.dicts and dimension.n_levels != 1
    ]


def _missed(parts, places):
    """Return what a parameter may explain that no forest has seen, of either sign."""
    return sum(part.missed.get(places.get(one), 0.0) for one, part in parts.items()) / len(parts)


def _explained(parts, places, mean):
    """Return the variance of the mean given a parameter's value."""
    groups = {}
    for one in parts:
        groups.setdefault(places.get(one), []).append(one)
    explained = 0.0
    for place, dicts in groups.items():
        curves, width = [], np.ones(1)
        for one in dicts:
            curve = np.zeros(1)
            if place in parts[one].curves:
                curve, width = parts[one].curves[place]
            curves.append(curve + parts[one].mean - mean)
        explained += len(dicts) * (np.mean(curves, axis=0) ** 2 @ width)
    return explained / len(parts)
