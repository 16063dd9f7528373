"""The front of several objectives, drawn."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from sklearn.utils import Bunch

from ..objectives import pareto_ranks
from ._drawing import COLOURS, Drawing, short
from ._reading import read_search

__all__ = ["ParetoFrontDisplay", "cost_of", "front_of", "is_wide", "shown_scores"]

_FRONT, _INFEASIBLE, _DOMINATED = COLOURS[0], COLOURS[3], "0.6"
# Costs of which the largest is more than so many times the smallest have a logarithmic axis.
_WIDE = 30


def front_of(record, objectives=None):
    """Return rows by their objectives, and which are on the front: parameters of the display.

    Raises ValueError if there are fewer than two objectives, or no row that has all.
    """
    names = list(record.checked_objectives(objectives))
    if len(names) < 2:
        raise ValueError(
            f"a front has two objectives at least, but there is {names}; name two metrics, of "
            f"{record.metrics}"
        )
    rows = record.rows_with(names)
    if not len(rows):
        raise ValueError(f"no row has scores of all objectives, {names}; let the search go on")
    values = record.objective_values(names)[rows]
    is_feasible = record.is_feasible[rows]
    is_front = np.zeros(len(rows), dtype=bool)
    is_front[is_feasible] = pareto_ranks(values[is_feasible]) == 1
    return Bunch(
        scores=np.stack([record.scores[name][rows].mean(axis=2) for name in names], axis=1),
        rows=rows,
        objectives=names,
        is_feasible=is_feasible,
        is_front=is_front,
    )


class ParetoFrontDisplay(Drawing):
    """Rows by two objectives, those of the front with their spread over splits.

    Better is to the right and up. Of more than two objectives each pair has its own picture, where
    rows of the front may lie behind others. A score that is nowhere positive is a cost: its axis
    shows the cost and runs backwards.

    Make it with `from_search`.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_objectives, n_splits)
        Of the rows that have all objectives.
    rows : ndarray of int, shape (n_rows,)
        Their numbers.
    objectives : sequence of str
        Names of the scores.
    is_feasible, is_front : ndarray of bool, shape (n_rows,)
        Which rows keep all bounds, and which are on the front.

    Attributes
    ----------
    ax_ : ndarray of matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    skhpo.model_selection.knee_point : Chooses a row of the front.
    skhpo.model_selection.scalarize : Chooses a row by weights.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import SGDClassifier
    >>> from skhpo import HalvingHyperbandSearchCV
    >>> from skhpo.inspection import ParetoFrontDisplay
    >>> search = HalvingHyperbandSearchCV(
    ...     SGDClassifier(),
    ...     {"alpha": loguniform(1e-5, 10)},
    ...     resource="max_iter",
    ...     max_resources=9,
    ...     scoring=["accuracy", "neg_fit_time"],
    ...     objectives=["accuracy", "neg_fit_time"],
    ...     refit="accuracy",
    ...     random_state=0,
    ... )
    >>> display = ParetoFrontDisplay.from_search(search.fit(*load_iris(return_X_y=True)))
    >>> display.objectives
    ['accuracy', 'neg_fit_time']
    """

    def __init__(self, *, scores, rows, objectives, is_feasible, is_front):
        self.scores = scores
        self.rows = rows
        self.objectives = objectives
        self.is_feasible = is_feasible
        self.is_front = is_front

    @classmethod
    def from_search(cls, source, *, objectives=None, ax=None):
        """Read and draw.

        Parameters
        ----------
        source : estimator, str, path-like, (dict, dict or list of dict), or SearchRecord
            As of `read_search`.
        objectives : sequence of str or None, default=None
            Metrics; None for the objectives of the search.
        ax : sequence of matplotlib Axes or None, default=None
            Where to draw, one for each pair of objectives; None makes a figure.

        Returns
        -------
        ParetoFrontDisplay

        Raises
        ------
        ValueError
            If there are fewer than two objectives, or no row that has all.
        """
        display = cls(**front_of(read_search(source), objectives))
        return display.plot(ax=ax)

    def _draw(self, ax):
        pairs = list(combinations(range(len(self.objectives)), 2))
        for axes, (i, j) in zip(self._grid(ax, len(pairs), 3, (4.2, 3.6)), pairs, strict=True):
            self._draw_pair(axes, i, j)

    def _draw_pair(self, ax, i, j):
        shown = [shown_scores(self.scores[:, k]) for k in (i, j)]
        (x, x_cost), (y, y_cost) = [(values.mean(axis=1), cost) for values, cost in shown]
        kinds = [
            ("dominated", self.is_feasible & ~self.is_front, "o", _DOMINATED, 16),
            ("infeasible", ~self.is_feasible, "x", _INFEASIBLE, 22),
            ("front", self.is_front, "o", _FRONT, 34),
        ]
        for label, which, marker, colour, size in kinds:
            if which.any():
                ax.scatter(
                    x[which], y[which], marker=marker, c=colour, s=size, label=label, zorder=3
                )
        front = self.is_front
        spread = [np.abs(_ends(values[front]) - values[front].mean(axis=1)) for values, _ in shown]
        ax.errorbar(
            x[front],
            y[front],
            xerr=spread[0],
            yerr=spread[1],
            fmt="none",
            ecolor=_FRONT,
            alpha=0.35,
            zorder=2,
        )
        if len(self.objectives) == 2 and front.any():
            order = np.argsort(x[front])
            ax.plot(x[front][order], y[front][order], color=_FRONT, drawstyle=_steps(x_cost), lw=1)
        for axis, values, name, is_cost in (
            ("x", x, self.objectives[i], x_cost),
            ("y", y, self.objectives[j], y_cost),
        ):
            ax.set(**{f"{axis}label": cost_of(short(name)) if is_cost else short(name)})
            if is_cost:
                getattr(ax, f"invert_{axis}axis")()
                if is_wide(values):
                    getattr(ax, f"set_{axis}scale")("log")
        ax.legend(
            frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), ncols=3
        )
        ax.spines[["top", "right"]].set_visible(False)


def _steps(is_cost):
    """Return how a front is drawn whose next point, to the right, is worse in the other objective.

    What is dominated by a point is left of it and below; along a cost, right of it.
    """
    return "steps-post" if is_cost else "steps-pre"


def shown_scores(scores):
    """Return what is drawn of the scores of an objective, and whether that is its cost."""
    is_cost = bool((scores <= 0).all() and (scores < 0).any())
    return (-scores if is_cost else scores), is_cost


def is_wide(costs):
    """Return whether costs are worth a logarithmic axis."""
    return bool(costs.min() > 0 and costs.max() > _WIDE * costs.min())


def cost_of(name):
    """Return what a negated score is: ``neg_memory`` of the memory."""
    return name.removeprefix("neg_") if name.startswith("neg_") else f"− {name}"


def _ends(values):
    return np.stack([values.min(axis=1), values.max(axis=1)])
