"""The score against each parameter."""

from __future__ import annotations

import numpy as np

from ..space import make_axis
from ._drawing import SCORES, Drawing, legible, score_limits, short
from ._effect_display import positions
from ._effects import scale_of
from ._reading import read_search

__all__ = ["SlicesDisplay", "values_of"]


class SlicesDisplay(Drawing):
    """The score of every row against each parameter, later rows lighter.

    Make it with `from_search`.

    Parameters
    ----------
    names : list of str
        The parameters.
    values : list of list
        Of each parameter, the values on its axis: choices as listed.
    scales : list of {"linear", "log", "choice"}
        How the values of each are spread.
    tried : list of (list, ndarray of int)
        Of each parameter, values that were tried, and which of `scores` they belong to.
    scores : ndarray of shape (n_rows,)
        In the order in which they came.
    score_name : str, default="score"
        Label of the axis.

    Attributes
    ----------
    ax_ : ndarray of matplotlib Axes, of shape (n_params,)
    figure_ : matplotlib Figure

    See Also
    --------
    ParallelCoordinatesDisplay : All parameters of a row as a line.
    EffectDisplay : The mean score along a parameter.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import RandomizedSearchCV
    >>> from sklearn.svm import SVC
    >>> from skhpo.inspection import SlicesDisplay
    >>> space = {"C": loguniform(1e-3, 1e3), "kernel": ["rbf", "linear"]}
    >>> search = RandomizedSearchCV(SVC(), space, random_state=0)
    >>> display = SlicesDisplay.from_search(search.fit(*load_iris(return_X_y=True)))
    >>> [ax.get_xlabel() for ax in display.ax_]
    ['C', 'kernel']
    """

    def __init__(self, *, names, values, scales, tried, scores, score_name="score"):
        self.names = names
        self.values = values
        self.scales = scales
        self.tried = tried
        self.scores = scores
        self.score_name = score_name

    @classmethod
    def from_search(
        cls, source, *, params=None, metric=None, resource="largest", n_columns=4, ax=None
    ):
        """Read and draw.

        Parameters
        ----------
        source : estimator, str, path-like, (dict, dict or list of dict), or SearchRecord
            As of `read_search`.
        params : str, list of str or None, default=None
            Which parameters; None is all of them.
        metric : str or None, default=None
            Which score; None is the one that counts.
        resource : "largest", "all" or number, default="largest"
            Rows of which level of the resource.
        n_columns : int, default=4
            Pictures beside one another.
        ax : sequence of matplotlib Axes or None, default=None
            Where to draw, one for each parameter; None makes a figure.

        Returns
        -------
        SlicesDisplay
        """
        record = read_search(source)
        names = record.space.names if params is None else record.checked_names(params)
        rows = record.enough_rows(1, "a picture", metric, resource)
        tried = []
        for name in names:
            having = [i for i, row in enumerate(rows) if name in record.params[row]]
            tried.append(([record.params[rows[i]][name] for i in having], np.array(having, int)))
        display = cls(
            names=list(names),
            values=[values_of(record.space, name) for name in names],
            scales=[scale_of(record.space, name) for name in names],
            tried=tried,
            scores=record.means(metric)[rows],
            score_name=record.checked_metric(metric),
        )
        return display.plot(n_columns=n_columns, ax=ax)

    def plot(self, *, n_columns=4, ax=None):
        """Draw.

        Parameters
        ----------
        n_columns : int, default=4
            Pictures side by side.
        ax : sequence of matplotlib Axes or None, default=None
            One for each parameter; None makes a figure.

        Returns
        -------
        SlicesDisplay
            Itself.
        """
        axes = self._grid(ax, len(self.names), n_columns, (2.4, 2.2))
        low, high = score_limits(self.scores)
        order = np.arange(len(self.scores))
        for i, own in enumerate(axes):
            tried, rows = self.tried[i]
            scores = self.scores[rows]
            x = positions(self.values[i], self.scales[i], tried)
            inside = scores >= low
            style = {"cmap": SCORES, "vmin": 0, "vmax": 1.15 * max(len(order) - 1, 1)}
            own.scatter(x[inside], scores[inside], c=order[rows][inside], s=13, **style)
            own.scatter(
                x[~inside],
                np.full((~inside).sum(), low),
                c=order[rows][~inside],
                s=20,
                marker="v",
                clip_on=False,
                **style,
            )
            legible(own, self.values[i], self.scales[i])
            if self.scales[i] != "choice" and np.isfinite(self.values[i]).all():
                _set_ends(own, *self.values[i], self.scales[i])
            own.set_ylim(low, high)
            own.set_xlabel(short(self.names[i], 26))
            own.spines[["top", "right"]].set_visible(False)
            if i % n_columns:
                own.tick_params(labelleft=False)
            else:
                own.set_ylabel(self.score_name)
        return self


def _set_ends(ax, low, high, scale):
    """Show the whole range of a parameter, with some room."""
    if low < high and (low > 0 or scale != "log"):
        a, b = (np.log([low, high])) if scale == "log" else (low, high)
        ends = a - 0.04 * (b - a), b + 0.04 * (b - a)
        ax.set_xlim(np.exp(ends) if scale == "log" else ends)


def values_of(space, name):
    """Return the choices of a parameter as listed; of numbers the two ends."""
    places = [i for i, dimension in enumerate(space.dimensions) if dimension.name == name]
    if scale_of(space, name) != "choice":
        single = [space.value_at(i, 0.5) for i in places if space.dimensions[i].n_levels == 1]
        numbers = [*single, *(space.bounds(name) or ())]
        return [min(numbers), max(numbers)]
    found = []
    for place in places:
        ends = np.array([0.0, *(space.level_ends(place) or [1.0])])
        found += [space.value_at(place, u) for u in (ends[1:] + ends[:-1]) / 2]
    axis = make_axis(name, found)  # in which one that several dicts list is there once
    return [axis.level(i) for i in range(axis.n_levels)]
