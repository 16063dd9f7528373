"""The best score so far, drawn against what it cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..objectives import hypervolume
from ._drawing import COLOURS, LINES, Drawing, score_limits, short
from ._reading import read_search

__all__ = ["IncumbentDisplay", "incumbent"]

_LABELS = {"fits": "fits", "resource": "{resource} in total", "seconds": "seconds of all workers"}


def incumbent(record, *, metric=None, against="fits", reference=None):
    """Return what was spent, and the best mean score so far, row by row.

    The metric "hypervolume" of a search with objectives is the volume that its front dominates,
    `reference` its reference point, by default the worst feasible value of each objective. What a
    rung continues is not spent again. The best is NaN until the first score is finite; in searches
    with constraints only feasible rows count. Raises ValueError if `against` is something else than
    "fits", "resource" or "seconds", or a resource that does not vary.
    """
    if against not in _LABELS:
        raise ValueError(f"against must be one of {list(_LABELS)}, but got {against!r}")
    if against == "resource" and record.resources is None:
        raise ValueError(
            'against="resource" needs a search whose resource varies, and in this one none does; '
            'use "fits" or "seconds"'
        )
    rows = np.flatnonzero(record.is_finished)
    if against == "fits":
        cost = record.has_fit
    elif against == "seconds":
        cost = np.where(record.has_fit, record.fit_seconds + record.score_seconds, 0.0)
    else:
        cost = record.added_resources()
    # Rows on some of the splits cost something, too.
    spent = np.cumsum(cost.sum(axis=(1, 2)))[rows]
    if _is_hypervolume(record, metric):
        return spent, _hypervolumes(record, rows, reference)
    means = record.means(metric)
    counts = np.isfinite(means[rows]) & record.is_feasible[rows]
    if record.resource == "n_samples" and len(rows):
        counts &= record.resources[rows] == record.resources[rows].max()
    scores = np.where(counts, means[rows], -np.inf)
    best = np.maximum.accumulate(scores) if len(scores) else scores
    return spent, np.where(np.isfinite(best), best, np.nan)


def _is_hypervolume(record, metric):
    return metric == "hypervolume" and metric not in record.metrics


def reference_point(records):
    """Return the worst feasible value of each objective, in several searches together."""
    values = [one.objective_values()[_that_count(one)] for one in records]
    return np.concatenate(values).min(axis=0, initial=np.inf)


def _that_count(record):
    rows = record.rows_with()
    return rows[record.is_feasible[rows]]


def _hypervolumes(record, rows, reference):
    """Return the hypervolume of the feasible ones of the rows so far."""
    reference = reference_point([record]) if reference is None else reference
    values, counts = record.objective_values(), set(_that_count(record).tolist())
    front, volumes = np.empty((0, values.shape[1])), []
    for row in rows.tolist():
        is_new = row in counts and not (front >= values[row]).all(axis=1).any()
        if is_new:
            front = np.vstack([front[~(front <= values[row]).all(axis=1)], values[row]])
        if is_new or not volumes:
            volume = hypervolume(front, reference) if len(front) else np.nan
        volumes.append(volume)
    return np.array(volumes)


class IncumbentDisplay(Drawing):
    """The best score so far, of one search or of several.

    Make it with `from_search` or `from_searches`.

    Parameters
    ----------
    curves : dict of str to list of (ndarray, ndarray)
        By label, what was spent and the best score so far, of each seed.
    xlabel, ylabel : str
        Labels of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    SearchCurvesDisplay : The scores of all candidates, by resource.
    TimelineDisplay : Which worker ran which fit.

    Examples
    --------
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
    def from_search(cls, source, *, metric=None, against="fits", reference=None, ax=None):
        """Draw one search.

        Parameters
        ----------
        source : estimator, str, path-like, (dict, dict or list of dict), or SearchRecord
            As of `read_search`.
        metric : str or None, default=None
            Which score; None is the one that counts. "hypervolume" of searches with objectives is
            the volume that the front dominates.
        against : {"fits", "resource", "seconds"}, default="fits"
            What it cost: fits, the resource of all fits together (what a rung continues is
            counted once), or seconds of all workers together.
        reference : sequence of float or None, default=None
            Reference point of the hypervolume; None is the worst value of each objective among the
            feasible rows of all searches.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        IncumbentDisplay
        """
        return cls.from_searches(
            {"": [source]}, metric=metric, against=against, reference=reference, ax=ax
        )

    @classmethod
    def from_searches(cls, sources, *, metric=None, against="fits", reference=None, ax=None):
        """Draw several searches in one picture.

        Parameters
        ----------
        sources : dict of str to source or list of source
            By label; the searches of a list are one line, their median, and a band from the worst
            to the best of them.
        metric, against, reference, ax : object
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
        records = {
            label: [read_search(one) for one in (given if isinstance(given, list) else [given])]
            for label, given in sources.items()
        }
        *_, last = [one for several in records.values() for one in several]
        if _is_hypervolume(last, metric):
            ylabel = "hypervolume"
            if reference is None:
                reference = reference_point([one for group in records.values() for one in group])
        else:
            ylabel = f"best {last.checked_metric(metric)} so far"
        options = {"metric": metric, "against": against, "reference": reference}
        display = cls(
            curves={
                label: [incumbent(one, **options) for one in several]
                for label, several in records.items()
            },
            xlabel=_LABELS.get(against, against).format(resource=last.resource),
            ylabel=ylabel,
        )
        return display.plot(ax=ax)

    def _draw(self, ax):
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
