"""The unit interval of a parameter, cut into cells: levels where it has few, equal parts else.

Notation in the modules that decompose variance: ``K`` dicts of a space, each as likely as any
other; ``d`` coordinates of the unit cube; a *place* is the number of a coordinate; ``u`` snapped
points of the cube, of shape (n, d), and ``y`` their scores.
"""

from __future__ import annotations

import numpy as np

__all__ = ["Cells", "dict_of", "domains_of", "missed_variance", "places_of"]


class Cells:
    """Cells of one coordinate; of one whose values have an order at most `n`.

    Attributes
    ----------
    edges : ndarray of shape (n_cells + 1,)
        From 0 to 1.
    width : ndarray of shape (n_cells,)
        How likely each cell is.
    is_choice : bool
    are_levels : bool
        Whether each cell is one value.
    """

    def __init__(self, space, place, n):
        ends = space.level_ends(place)
        self.is_choice = space.dimensions[place].kind == "choice"
        self.are_levels = ends is not None and (self.is_choice or len(ends) <= n)
        if ends is None:
            ends = np.arange(1, n + 1) / n
        elif len(ends) > n and not self.is_choice:
            wanted = np.searchsorted(ends, np.arange(1, n + 1) / n - 1e-9)
            ends = np.asarray(ends)[np.unique(np.minimum(wanted, len(ends) - 1))]
        self.edges = np.concatenate([[0.0], ends])
        self.edges[-1] = 1.0
        self.width = np.diff(self.edges)

    def __len__(self):
        return len(self.width)

    def find(self, u):
        """Return the cell of each number of an array in [0, 1]."""
        return np.clip(np.searchsorted(self.edges, u, side="right") - 1, 0, len(self) - 1)

    @property
    def middles(self):
        """The middle of each cell."""
        return (self.edges[:-1] + self.edges[1:]) / 2


def dict_of(space, u):
    """Return the number of the dict that each point of a conditional space is in, and K."""
    first = space.dimensions[0]
    if first.name is not None:
        return np.zeros(len(u), dtype=int), 1
    n_dicts = first.n_levels
    return np.minimum((u[:, 0] * n_dicts).astype(int), n_dicts - 1), n_dicts


def places_of(space, name):
    """Return, by dict, the place of a parameter; dicts without it are left out."""
    return {
        d: place
        for place, dimension in enumerate(space.dimensions)
        if dimension.name == name
        for d in dimension.dicts
    }


def domains_of(space, name, u):
    """Return the places of a parameter, and which points are in a dict that has it there."""
    d, _ = dict_of(space, u)
    dicts = {}
    for one, place in places_of(space, name).items():
        dicts.setdefault(place, []).append(one)
    return [(place, np.isin(d, those)) for place, those in dicts.items()]


def missed_variance(cells, left, root):
    """Return what a parameter may explain of what a model leaves of scores that it has not seen.

    It is the variance between the cells of the parameter, less that of chance, of either sign. Rows
    of a bootstrap sample vary by chance twice: as rows of the search, and as those drawn. `cells`
    are those of rows, `left` is what is left of their scores, times `root`, the square roots of how
    often each row counts.
    """
    cells = np.unique(cells, return_inverse=True)[1]
    counts = np.bincount(cells, root**2)
    there = counts > 0
    sums = np.bincount(cells, left * root)[there]
    n, k = counts.sum(), int(there.sum())
    between = float((sums**2 / counts[there]).sum()) / n
    within = max(left @ left / n - between, 0.0)
    by_chance = (k - 1) * within / max(n - k, 1)
    return between - (1 + float(root.max() > 1)) * by_chance
