"""A random forest's variance decomposition, exact over its leaves, and calibrated.

After Hutter, Hoos and Leyton-Brown (2014), "An efficient approach for assessing hyperparameter
importance": what a tree says of one coordinate, or two, is the mean over the others, which its
leaves give exactly. They decompose each tree by itself, whose variance is for a good part that of
its bootstrap sample, and which takes from main effects what it cannot see. Here it is the forest
whose main effects count, each with the factor that fits best to the scores of rows that its trees
have not seen (`benchmarks/importance.py`).

``n`` rows, ``t`` trees, ``l`` leaves of a tree, ``g`` cells of all coordinates one after another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.stats import qmc
from sklearn.tree import ExtraTreeRegressor

from ._cells import Cells, missed_variance

__all__ = ["Calibrated", "Forest"]

# Cells of a coordinate: for its main effect, and for its interactions with each other one.
_N_CELLS = 32
_N_PAIR_CELLS = 8
# Points at which the variance of the whole forest is taken; a power of 2.
_N_POINTS = 1024


class Forest:
    """Trees on bootstrap samples, and what each of them is along every coordinate.

    `places` are the coordinates that vary, those of one dict; only they count of `u`.
    """

    def __init__(self, space, places, u, y, n_trees, rng):
        self.places, self.y = places, y
        self.cells = [Cells(space, place, _N_CELLS) for place in places]
        self._pair_cells = [Cells(space, place, _N_PAIR_CELLS) for place in places]
        self._starts = np.cumsum([0, *map(len, self.cells)])
        self._pair_starts = np.cumsum([0, *map(len, self._pair_cells)])
        points = u[:, places]
        self._at = _cells_of(self.cells, points)
        self._pairs_at = _cells_of(self._pair_cells, points)
        sample = np.empty((0, len(places)))
        if places:
            sample = qmc.Sobol(len(places), rng=np.random.default_rng(0)).random(_N_POINTS)
        self._means = np.empty(n_trees)
        self._marginals = np.empty((n_trees, self._starts[-1]))
        self._joints = np.empty((n_trees, self._pair_starts[-1], self._pair_starts[-1]))
        self._values = np.zeros((n_trees, len(sample)))
        self._is_out = np.ones((n_trees, len(y)), dtype=bool)
        self._predicted = np.empty((n_trees, len(y)))
        for t in range(n_trees):
            rows = rng.integers(len(y), size=len(y))
            orders = [_order(c, rng) for c in self.cells]
            tree = _Tree(self.cells, orders, points[rows], y[rows], rng)
            pooled = self._pool(tree.shares)
            self._means[t] = tree.mean
            self._marginals[t] = tree.weights @ tree.shares - tree.mean
            self._joints[t] = (pooled * tree.weights[:, None]).T @ pooled
            self._values[t] = tree.predict(sample)
            self._is_out[t, rows] = False
            self._predicted[t] = tree.predict(points)

    def calibrated(self, trees, rows):
        """Return main effects, with the factors that fit best to rows, as a `Calibrated`.

        `trees` of shape (t,) and `rows` of shape (n,) say how often each counts.
        """
        seen_by = trees @ self._is_out
        rows = rows * (seen_by > 0)
        n = rows.sum()
        seen_by = np.maximum(seen_by, 1)
        effects = (
            np.stack(
                [trees @ (self._marginals[:, at] * self._is_out) / seen_by for at in self._at],
                axis=1,
            )
            if self._at
            else np.empty((len(self.y), 0))
        )
        whole = trees @ (self._predicted * self._is_out) / seen_by
        root = np.sqrt(rows)

        def centred(values):
            return (values - rows @ values / n) * (root if values.ndim == 1 else root[:, None])

        y, effects, whole = centred(self.y), centred(effects), centred(whole)
        factors = nnls(effects, y)[0] if effects.shape[1] else np.empty(0)
        forest = trees @ self._values / trees.sum()
        # The variance of scores over the cube: that of the rows, which a search does not spread
        # evenly, by how much more the forest varies over the cube than over them.
        total = y @ y / n
        if self._values.shape[1] and whole @ whole > 0:
            total *= forest.var() / (whole @ whole / n)
        marginals = trees @ self._marginals / trees.sum()
        left = y - effects @ factors
        return Calibrated(
            mean=float(trees @ self._means / trees.sum()),
            total=max(float(total), 1e-300),
            curves={
                place: (factor * marginals[self._starts[j] : self._starts[j + 1]], cells.width)
                for j, (place, cells, factor) in enumerate(
                    zip(self.places, self.cells, factors, strict=True)
                )
            },
            left=left,
            root=root,
            missed={
                place: missed_variance(at, left, root)
                for place, at in zip(self.places, self._pairs_at, strict=True)
            },
        )

    def interaction(self, a, b, trees, calibrated):
        """Return the variances that two coordinates explain together beyond each alone.

        For several calibrations: how often each of the `trees` counts, of shape (s, t), and what
        `calibrated` returned for it.
        """
        i, j = self.places.index(a), self.places.index(b)
        joint = self._joints[
            :,
            self._pair_starts[i] : self._pair_starts[i + 1],
            self._pair_starts[j] : self._pair_starts[j + 1],
        ]
        wide, high = self._pair_cells[i].width, self._pair_cells[j].width
        joint = joint - (joint @ high)[:, :, None]
        joint = joint - np.einsum("tgh,g->th", joint, wide)[:, None, :]
        at = (self._pairs_at[i] - self._pair_starts[i], self._pairs_at[j] - self._pair_starts[j])
        seen_by = np.maximum(trees @ self._is_out, 1)
        effects = trees @ (joint[:, at[0], at[1]] * self._is_out) / seen_by
        means = np.tensordot(trees, joint, 1) / trees.sum(axis=1)[:, None, None]
        over_cube = np.einsum("sgh,g,h->s", means**2, wide, high)
        found = np.zeros(len(trees))
        for s, one in enumerate(calibrated):
            rows = one.root**2
            x = (effects[s] - rows @ effects[s] / rows.sum()) * one.root
            square = x @ x
            if square > 0:
                factor = max(x @ one.left / square, 0.0)
                # What chance alone would give: there are many pairs.
                chance = (one.left @ one.left) / rows.sum() / square
                found[s] = max(factor**2 - chance, 0.0) * over_cube[s]
        return found

    def _pool(self, shares):
        """Return the share of leaves per pair cell, of shape (l, g of pair cells)."""
        out = np.empty((len(shares), self._pair_starts[-1]))
        for j, (fine, coarse) in enumerate(zip(self.cells, self._pair_cells, strict=True)):
            own = shares[:, self._starts[j] : self._starts[j + 1]]
            to = slice(self._pair_starts[j], self._pair_starts[j + 1])
            if len(fine) == len(coarse):
                out[:, to] = own
            else:
                first = np.searchsorted(coarse.find(fine.middles), np.arange(len(coarse)))
                out[:, to] = np.add.reduceat(own * fine.width, first, axis=1) / coarse.width
        return out


@dataclass(frozen=True, eq=False)
class Calibrated:
    """What a forest says of the scores, as fits best to rows that its trees have not seen.

    Parameters
    ----------
    mean, total : float
        Mean and variance over the cube.
    curves : dict of int to (ndarray, ndarray)
        By place the main effect in each cell, and the widths of the cells.
    left : ndarray of shape (n,)
        What main effects leave of the scores, times `root`.
    root : ndarray of shape (n,)
        Square roots of how often each row counts.
    missed : dict of int to float
        By place the variance of `left` between cells, less what chance gives; it may be below 0.
    """

    mean: float
    total: float
    curves: dict[int, tuple[np.ndarray, np.ndarray]]
    left: np.ndarray
    root: np.ndarray
    missed: dict[int, float]


def _order(cells, rng):
    """Return the ranks by which a tree divides the values of a coordinate; None: by the number."""
    if cells.is_choice:
        return rng.permutation(len(cells))
    return np.arange(len(cells)) if cells.are_levels else None


def _cells_of(cells, points):
    """Return, for each coordinate, the cell of each row, numbered over all coordinates."""
    starts = np.cumsum([0, *map(len, cells)])
    return [
        start + c.find(column) for start, c, column in zip(starts, cells, points.T, strict=False)
    ]


class _Tree:
    """One regression tree as boxes.

    Attributes
    ----------
    weights : ndarray of shape (l,)
        Value of each leaf times its volume.
    shares : ndarray of shape (l, g)
        How much of a cell a leaf covers, over how much of the coordinate it covers: so
        ``weights @ shares`` is the mean of the tree given the cell.
    mean : float
    """

    def __init__(self, cells, orders, points, y, rng):
        self._cells, self._orders = cells, orders
        # All coordinates are tried at each node, each divided at a random place: where few rows
        # would choose the place, the mean of the trees is smoother, and its main effects are nearer
        # to those of the scores (`benchmarks/importance.py`). A tree has one coordinate at least.
        model = ExtraTreeRegressor(max_features=1.0, random_state=int(rng.integers(2**31)))
        self._model = model.fit(self._features(points), y)
        lower, upper, values = self._boxes()
        shares, volume = [np.zeros((len(values), 0))], np.ones(len(values))
        for j, (own, order) in enumerate(zip(cells, orders, strict=True)):
            low, high = lower[:, j, None], upper[:, j, None]
            if order is None:
                overlap = np.minimum(high, own.edges[1:]) - np.maximum(low, own.edges[:-1])
                covered = np.maximum(overlap, 0.0)
            else:
                covered = ((order > low) & (order <= high)) * own.width
            extent = covered.sum(axis=1)
            volume *= extent
            shares.append(covered / own.width / np.where(extent > 0.0, extent, 1.0)[:, None])
        self.shares = np.concatenate(shares, axis=1)
        self.weights = values * volume
        self.mean = self.weights.sum()

    def predict(self, points):
        """Return the values at points of shape (m, d)."""
        return self._model.predict(self._features(points)) if len(points) else np.empty(0)

    def _features(self, points):
        """Points as the tree sees them: levels as ranks, choices in a random order."""
        out = np.zeros((len(points), max(points.shape[1], 1)), dtype=np.float32)
        for j, (own, order) in enumerate(zip(self._cells, self._orders, strict=True)):
            out[:, j] = points[:, j] if order is None else order[own.find(points[:, j])]
        return out

    def _boxes(self):
        """Return lower and upper ends of leaves, of shape (l, d), and their values."""
        tree = self._model.tree_
        lower = np.zeros((tree.node_count, tree.n_features))
        upper = np.ones((tree.node_count, tree.n_features))
        for j, order in enumerate(self._orders):
            if order is not None:
                lower[:, j], upper[:, j] = -1.0, len(order)
        nodes = np.array([0])
        while len(nodes := nodes[tree.children_left[nodes] >= 0]):
            left, right = tree.children_left[nodes], tree.children_right[nodes]
            feature, threshold = tree.feature[nodes], tree.threshold[nodes]
            for children in (left, right):
                lower[children], upper[children] = lower[nodes], upper[nodes]
            upper[left, feature] = threshold
            lower[right, feature] = threshold
            nodes = np.concatenate([left, right])
        leaves = np.flatnonzero(tree.children_left < 0)
        return lower[leaves], upper[leaves], tree.value[leaves, 0, 0]
