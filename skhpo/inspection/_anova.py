"""Shares of variance that parameters explain, estimated from values at random points."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from ._cells import Cells, dict_of, places_of

__all__ = ["N_PAIR_CELLS", "Anova", "cell_numbers"]

# Cells of a parameter: for its main effect, and for its interactions with each other one. More
# cells show finer functions, and have fewer points each.
_N_CELLS = 48
N_PAIR_CELLS = 8


class Anova:
    """Analysis of variance of functions over a space, in cells of each parameter.

    In a conditional space, that a configuration does not have a parameter is one more cell of it.

    Parameters
    ----------
    space : SearchSpace
    u : ndarray of shape (m, n_dims)
        Random points of the unit cube.
    """

    def __init__(self, space, u):
        self._n = len(u)
        self._cells = {name: cell_numbers(space, name, u, _N_CELLS) for name in space.names}
        self._pair_cells = {
            name: cell_numbers(space, name, u, N_PAIR_CELLS) for name in space.names
        }

    def main(self, name, f):
        """Return the variance that a parameter alone explains of each function.

        Parameters
        ----------
        name : str
        f : ndarray of shape (m, s)

        Returns
        -------
        ndarray of shape (s,)
        """
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


def cell_numbers(space, name, u, n):
    """Return the cell that each point is in, numbered from 0 without gaps."""
    d, _ = dict_of(space, u)
    numbers = np.full(len(u), -1)
    places = places_of(space, name)
    start = 0
    for place in dict.fromkeys(places.values()):
        cells = Cells(space, place, n)
        rows = np.isin(d, [one for one, other in places.items() if other == place])
        numbers[rows] = start + cells.find(u[rows, place])
        start += len(cells)
    return np.unique(numbers, return_inverse=True)[1]
