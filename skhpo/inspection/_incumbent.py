"""The best score so far, drawn against what it cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ._drawing import COLOURS, LINES, Drawing, score_limits, short
from ._reading import read_search

__all__ = ["IncumbentDisplay", "incumbent"]

_LABELS = {"fits": "fits", "resource": "{resource} in total", "seconds": "seconds of all workers"}


def incumbent(record, *, metric=None, against="fits"):
    """Return what was spent, and the best mean score so far, row by row.

    Parameters
    ----------
    record : SearchRecord
    metric : str or None, default=None
        None is the one that counts.
    against : {"fits", "resource", "seconds"}, default="fits"
        What is summed up. What a rung continues is not spent again.

    Returns
    -------
    spent, best : ndarray of shape (n_finished,)
        In the order of rows; NaN until the first score is finite.

    Raises
    ------
    ValueError
        If `against` is something else, or a resource that does not vary.
    """
    if against not in _LABELS:
        raise ValueError(f"against must be one of {list(_LABELS)}, but got {against!r}")
    if against == "resource" and record.resources is None:
        raise ValueError(
            'against="resource" needs a search whose resource varies, and in this one none does; '
            'use "fits" or "seconds"'
        )
    means = record.means(metric)
    rows = record.rows(metric, "all", finite=False)
    n_fits = record.has_fit[0].size if record.n_rows else 0
    if against == "fits":
        cost = np.full(len(rows), n_fits)
    elif against == "seconds":
        cost = (record.fit_seconds + record.score_seconds)[rows].sum(axis=(1, 2))
    else:
        cost = n_fits * record.added_resources()[rows]
    counts = np.isfinite(means[rows])
    if record.resource == "n_samples" and len(rows):
        counts &= record.resources[rows] == record.resources[rows].max()
    scores = np.where(counts, means[rows], -np.inf)
    best = np.maximum.accumulate(scores) if len(scores) else scores
    return np.cumsum(cost), np.where(np.isfinite(best), best, np.nan)


class IncumbentDisplay(Drawing):
    """The best score so far, of one search or of several.

    Make it with `from_search` or `from_searches`.

    Parameters
    ----------
    curves : dict of str to list of (ndarray, ndarray)
        By label, what was spent and the best score so far, of each seed.
    xlabel, ylabel : str

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import RandomizedSearchCV
    >>> from sklearn.svm import SVC
    >>> from skhpo.inspection import IncumbentDisplay
    >>> space = {"C": loguniform(1e-3, 1e3), "gamma": loguniform(1e-4, 1)}
    >>> searches = [RandomizedSearchCV(SVC(), space, random_state=seed) for seed in range(3)]
    >>> data = load_iris(return_X_y=True)
    >>> display = IncumbentDisplay.from_searches({"random": [s.fit(*data) for s in searches]})
    >>> display.ax_.get_xlabel()
    'fits'
    """

    def __init__(self, *, curves, xlabel="fits", ylabel="best score so far"):
        self.curves = curves
        self.xlabel = xlabel
        self.ylabel = ylabel

    @classmethod
    def from_search(cls, source, *, metric=None, against="fits", ax=None):
        """Draw one search.

        Parameters
        ----------
        source : estimator, str, path-like, (dict, dict or list of dict), or SearchRecord
            As of `read_search`.
        metric : str or None, default=None
            Which score; None is the one that counts.
        against : {"fits", "resource", "seconds"}, default="fits"
            What it cost: fits, the resource of all fits together (what a rung continues is
            counted once), or seconds of all workers together.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        IncumbentDisplay
        """
        return cls.from_searches({"": [source]}, metric=metric, against=against, ax=ax)

    @classmethod
    def from_searches(cls, sources, *, metric=None, against="fits", ax=None):
        """Draw several searches in one picture.

        Parameters
        ----------
        sources : dict of str to source or list of source
            By label; the searches of a list are one line, their median, and a band from the worst
            to the best of them.
        metric, against, ax
            As of `from_search`.

        Returns
        -------
        IncumbentDisplay
        """
        if not isinstance(sources, Mapping) or not sources:
            raise TypeError(
                "several searches are drawn from a dict of labels to searches, or lists of them, "
                f"but got {sources!r}"
            )
        curves = {}
        for label, given in sources.items():
            several = given if isinstance(given, list) else [given]
            records = [read_search(source) for source in several]
            curves[label] = [incumbent(one, metric=metric, against=against) for one in records]
        display = cls(
            curves=curves,
            xlabel=_LABELS[against].format(resource=records[-1].resource),
            ylabel=f"best {records[-1].checked_metric(metric)} so far",
        )
        return display.plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        IncumbentDisplay
            Itself.
        """
        ax = self._axes(ax, (5.8, 3.6))
        for i, (label, seeds) in enumerate(self.curves.items()):
            seeds = [(x, y) for x, y in seeds if len(x)]
            if not seeds:
                continue
            colour = COLOURS[i % len(COLOURS)]
            x = np.unique(np.concatenate([x for x, _ in seeds]))
            x = x[(x >= max(s[0] for s, _ in seeds)) & (x <= min(s[-1] for s, _ in seeds))]
            at = np.stack([y[np.searchsorted(s, x, side="right") - 1] for s, y in seeds])
            if len(seeds) > 1:
                low, high = at.min(axis=0), at.max(axis=0)
                ax.fill_between(x, low, high, step="post", color=colour, alpha=0.2, linewidth=0)
            ax.plot(
                x,
                np.median(at, axis=0),
                drawstyle="steps-post",
                color=colour,
                linestyle=LINES[i % len(LINES)],
                linewidth=2,
                label=short(label) or None,
            )
        best = [y for seeds in self.curves.values() for _, y in seeds]
        ax.set_ylim(score_limits(np.concatenate(best) if best else []))
        ax.set(xlabel=self.xlabel, ylabel=self.ylabel)
        if any(self.curves):
            ax.legend(frameon=False, loc="lower right")
        ax.spines[["top", "right"]].set_visible(False)
        return self
