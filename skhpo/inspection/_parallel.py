"""Configurations as lines across the axes of all parameters."""

from __future__ import annotations

import numpy as np

from ._cells import domains_of, places_of
from ._drawing import SCORES, Drawing, score_limits, short
from ._reading import read_search

__all__ = ["ParallelCoordinatesDisplay", "axes_of"]

# Where a configuration crosses the axis of a parameter that it does not have.
_ABSENT = -0.1
# The share of rows that is drawn in front.
_BEST = 0.1
# Levels of an axis that each get a tick.
_MOST_TICKS = 8


class ParallelCoordinatesDisplay(Drawing):
    """A line for each row across the parameters, coloured by score, the best tenth in front.

    Each parameter has its own axis, on which its values are spread as in the space: a logarithmic
    range evenly, choices and steps apart. Below its axis is where rows do not have a parameter.

    Make it with `from_search`.

    Parameters
    ----------
    names : list of str
        The parameters, from left to right.
    ticks : list of (ndarray, list of str)
        Of each parameter, places in [0, 1] and what is there.
    places : ndarray of shape (n_rows, n_params)
        Where each row crosses each axis; NaN where it does not have the parameter.
    scores : ndarray of shape (n_rows,)
        Mean score of each row.
    score_name : str, default="score"
        Label of the colours.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    SlicesDisplay : The score against each parameter.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import RandomizedSearchCV
    >>> from sklearn.svm import SVC
    >>> from skhpo.inspection import ParallelCoordinatesDisplay
    >>> space = {"C": loguniform(1e-3, 1e3), "kernel": ["rbf", "linear"]}
    >>> search = RandomizedSearchCV(SVC(), space, random_state=0)
    >>> display = ParallelCoordinatesDisplay.from_search(search.fit(*load_iris(return_X_y=True)))
    >>> display.names, display.ticks[1][1]
    (['C', 'kernel'], ['rbf', 'linear'])
    """

    def __init__(self, *, names, ticks, places, scores, score_name="score"):
        self.names = names
        self.ticks = ticks
        self.places = places
        self.scores = scores
        self.score_name = score_name

    @classmethod
    def from_search(cls, source, *, params=None, metric=None, resource="largest", ax=None):
        """Read and draw.

        Parameters
        ----------
        source : estimator, str, path-like, (dict, dict or list of dict), or SearchRecord
            As of `read_search`.
        params : list of str or None, default=None
            Which parameters, in this order; None is all of them that vary.
        metric : str or None, default=None
            Which score; None is the one that counts.
        resource : "largest", "all" or number, default="largest"
            Rows of which level of the resource.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        ParallelCoordinatesDisplay
        """
        record = read_search(source)
        names, ticks, places, rows = axes_of(record, params, metric, resource)
        display = cls(
            names=names,
            ticks=ticks,
            places=places,
            scores=record.means(metric)[rows],
            score_name=record.checked_metric(metric),
        )
        return display.plot(ax=ax)

    def _draw(self, ax):
        from matplotlib.collections import LineCollection
        from matplotlib.colors import Normalize

        n = len(self.names)
        ax = self._axes(ax, (max(6.0, 1.5 + 0.95 * n), 4.6))
        low, high = score_limits(self.scores)
        lines = np.where(np.isnan(self.places), _ABSENT, self.places)
        if n == 1:
            lines = np.repeat(lines, 2, axis=1)
        x = np.arange(max(n, 2))
        order = np.argsort(self.scores, kind="stable")
        n_best = max(1, round(_BEST * len(order)))
        for rows, width, alpha in ((order[:-n_best], 0.7, 0.35), (order[-n_best:], 1.9, 0.95)):
            drawn = LineCollection(
                [np.column_stack([x, line]) for line in lines[rows]],
                cmap=SCORES,
                norm=Normalize(low, high),
                linewidths=width,
                alpha=alpha,
            )
            drawn.set_array(self.scores[rows])
            ax.add_collection(drawn)
        for i, (at, texts) in enumerate(self.ticks):
            ax.plot([i, i], [0, 1], color="black", linewidth=1, zorder=3)
            for place, text in zip(at, texts, strict=True):
                ax.annotate(
                    text,
                    (i, place),
                    (3, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7,
                    zorder=4,
                    bbox={"facecolor": "white", "alpha": 0.75, "pad": 0.6, "linewidth": 0},
                )
        ax.set_xlim(-0.1, max(n - 1, 1) + 0.55)
        ax.set_ylim(_ABSENT - 0.05 if np.isnan(self.places).any() else -0.05, 1.05)
        ax.set_xticks(
            range(n),
            [short(name, 22) for name in self.names],
            rotation=30,
            ha="right",
            rotation_mode="anchor",
        )
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        bar = self.figure_.colorbar(drawn, ax=ax, pad=0.01, label=self.score_name)
        bar.solids.set_alpha(1)


def axes_of(record, params, metric, resource):
    """Return names, ticks and places as of `ParallelCoordinatesDisplay`, and the rows."""
    space = record.space
    if params is None:
        names = [name for name in space.names if _varies(space, name)] or space.names
    else:
        names = record.checked_names(params)
    rows = record.enough_rows(1, "a picture", metric, resource)
    u = record.units(rows)
    columns, ticks = [], []
    for name in names:
        own = domains_of(space, name, u)
        column = np.full(len(rows), np.nan)
        places, texts = [], []
        for i, (place, having) in enumerate(own):
            # Several ranges of one parameter are above one another.
            column[having] = (u[having, place] + i) / len(own)
            at, shown = _ticks(space, place)
            places.extend((at + i) / len(own))
            texts.extend(shown)
        columns.append(column)
        ticks.append((np.array(places), texts))
    return list(names), ticks, np.stack(columns, axis=1), rows


def _varies(space, name):
    places = set(places_of(space, name).values())
    return len(places) > 1 or any(space.dimensions[place].n_levels != 1 for place in places)


def _ticks(space, place):
    """Return places along a coordinate, and the values there as text."""
    ends = space.level_ends(place)
    if ends is not None and len(ends) <= _MOST_TICKS:
        ends = np.array([0.0, *ends])
        at = (ends[1:] + ends[:-1]) / 2
    else:
        at = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    return at, [_text(space.value_at(place, u)) for u in at]


def _text(value):
    if isinstance(value, float):
        return f"{value:.3g}"
    return short(value, 12)
