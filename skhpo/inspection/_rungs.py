"""What early rungs say about late ones, and who went how far."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from ._drawing import COLOURS, Drawing, score_limits
from ._reading import read_search

__all__ = ["RungDisplay", "SearchCurvesDisplay", "by_level"]

# Fewer candidates have no rank correlation worth the name.
_FEWEST = 4


class _ByLevel(Drawing):
    """Base of what is drawn of the levels of a resource."""

    @classmethod
    def from_search(cls, source, *, metric=None, ax=None):
        """Compute and draw.

        Parameters
        ----------
        source : estimator, str, path-like, (dict, dict or list of dict), or SearchRecord
            As of `read_search`; of a search with several levels of a resource.
        metric : str or None, default=None
            Which score; None is the one that counts.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : object
            Of this class.

        Raises
        ------
        ValueError
            If fewer than two levels have scores.
        """
        record, levels, scores = by_level(source, metric)
        display = cls._of(record, record.checked_metric(metric), levels, scores)
        return display.plot(ax=ax)


class RungDisplay(_ByLevel):
    """Do early ranks tell late ones? Rank correlations between the levels of the resource.

    Of the candidates that have scores at both levels. Where the lowest level correlates little
    with the others, `min_resources` was too small: candidates were dropped by chance. (Only those
    that were promoted have both, which are more alike than all: correlations are too low rather
    than too high.)

    Make it with `from_search`.

    Parameters
    ----------
    levels : list of int
        Levels of the resource, ascending.
    correlations : ndarray of shape (n_levels, n_levels)
        Spearman's; NaN where fewer than four candidates have both levels.
    counts : ndarray of int, shape (n_levels, n_levels)
        How many have both.
    resource : str
        Name of the resource.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    SearchCurvesDisplay : The scores from which ranks come.
    skhpo.HalvingHyperbandSearchCV : The search with rungs.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import SGDClassifier
    >>> from skhpo import HalvingHyperbandSearchCV
    >>> from skhpo.inspection import RungDisplay
    >>> search = HalvingHyperbandSearchCV(
    ...     SGDClassifier(),
    ...     {"alpha": loguniform(1e-5, 10)},
    ...     resource="max_iter",
    ...     max_resources=9,
    ...     random_state=0,
    ... )
    >>> display = RungDisplay.from_search(search.fit(*load_iris(return_X_y=True)))
    >>> display.levels, display.counts[0].tolist()
    ([1, 3, 9], [9, 3, 1])
    """

    def __init__(self, *, levels, correlations, counts, resource):
        self.levels = levels
        self.correlations = correlations
        self.counts = counts
        self.resource = resource

    @classmethod
    def _of(cls, record, metric, levels, scores):
        n = len(levels)
        counts = np.zeros((n, n), dtype=int)
        correlations = np.full((n, n), np.nan)
        for i in range(n):
            for j in range(n):
                both = np.isfinite(scores[:, i]) & np.isfinite(scores[:, j])
                counts[i, j] = both.sum()
                a, b = scores[both, i], scores[both, j]
                if counts[i, j] >= _FEWEST and np.ptp(a) > 0 and np.ptp(b) > 0:
                    correlations[i, j] = spearmanr(a, b).statistic
        return cls(
            levels=levels, correlations=correlations, counts=counts, resource=record.resource
        )

    def _draw(self, ax):
        n = len(self.levels)
        ax = self._axes(ax, (2.2 + 0.75 * n, 1.5 + 0.62 * n))
        shown = np.ma.masked_invalid(
            np.where(np.tri(n, k=-1, dtype=bool), self.correlations, np.nan)
        )
        image = ax.imshow(shown[1:, :-1], cmap="cividis", vmin=-1, vmax=1, aspect="auto")
        for i in range(1, n):
            for j in range(i):
                value, count = self.correlations[i, j], self.counts[i, j]
                text = "–" if np.isnan(value) else f"{value:.2f}"
                dark = not np.isnan(value) and value < 0.4
                ax.text(
                    j,
                    i - 1,
                    f"{text}\n{count}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if dark else "black",
                )
        ax.set_xticks(range(n - 1), self.levels[:-1])
        ax.set_yticks(range(n - 1), self.levels[1:])
        ax.set(xlabel=f"early: {self.resource}", ylabel=f"late: {self.resource}")
        ax.spines[:].set_visible(False)
        self.figure_.colorbar(image, ax=ax, label="rank correlation (below: candidates)")


class SearchCurvesDisplay(_ByLevel):
    """The score of every candidate, rung by rung: who was promoted, who was dropped.

    Make it with `from_search`.

    Parameters
    ----------
    levels : list of int
        Levels of the resource, ascending.
    scores : ndarray of shape (n_candidates, n_levels)
        NaN where a candidate was not at a level.
    resource, score_name : str
        Labels of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    RungDisplay : Whether early ranks tell late ones.
    sklearn.model_selection.LearningCurveDisplay : Scores by the size of the training set.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import SGDClassifier
    >>> from skhpo import HalvingHyperbandSearchCV
    >>> from skhpo.inspection import SearchCurvesDisplay
    >>> search = HalvingHyperbandSearchCV(
    ...     SGDClassifier(),
    ...     {"alpha": loguniform(1e-5, 10)},
    ...     resource="max_iter",
    ...     max_resources=9,
    ...     random_state=0,
    ... )
    >>> display = SearchCurvesDisplay.from_search(search.fit(*load_iris(return_X_y=True)))
    >>> display.scores.shape
    (17, 3)
    """

    def __init__(self, *, levels, scores, resource, score_name="score"):
        self.levels = levels
        self.scores = scores
        self.resource = resource
        self.score_name = score_name

    @classmethod
    def _of(cls, record, metric, levels, scores):
        return cls(
            levels=levels,
            scores=scores,
            resource=record.resource,
            score_name=metric,
        )

    def _draw(self, ax):
        ax = self._axes(ax, (6.0, 3.9))
        levels = np.array(self.levels, dtype=float)
        low, high = score_limits(self.scores)
        drawn = np.where(self.scores < low, low, self.scores)
        is_there = np.isfinite(drawn)
        last = [np.flatnonzero(row)[-1] if row.any() else -1 for row in is_there]
        dropped = [i for i, level in enumerate(last) if 0 <= level < len(levels) - 1]
        kept = [i for i, level in enumerate(last) if level == len(levels) - 1]
        for rows, colour, width, label in (
            (dropped, "0.6", 0.8, f"dropped ({len(dropped)})"),
            (kept, COLOURS[0], 1.3, f"reached the top ({len(kept)})"),
        ):
            for k, i in enumerate(rows):
                at = is_there[i]
                ax.plot(
                    levels[at],
                    drawn[i, at],
                    color=colour,
                    linewidth=width,
                    alpha=0.85,
                    marker="." if at.sum() == 1 and rows is kept else None,
                    label=label if k == 0 else None,
                )
            if rows is dropped and rows:
                ends = [(levels[last[i]], drawn[i, last[i]]) for i in rows]
                ax.plot(*zip(*ends, strict=True), "x", color=colour, markersize=4, clip_on=False)
        if kept:
            best = max(kept, key=lambda i: drawn[i, -1])
            at = is_there[best]
            ax.plot(
                levels[at],
                drawn[best, at],
                color=COLOURS[3],
                linewidth=2.6,
                marker="o",
                markersize=4,
                label="best",
                zorder=4,
                clip_on=False,
            )
        ax.set_xscale("log")
        ax.set_xticks(levels, [f"{level:g}" for level in levels])
        ax.minorticks_off()
        ax.set_ylim(low, high)
        ax.set(xlabel=self.resource, ylabel=self.score_name)
        ax.legend(frameon=False, loc="best")
        ax.spines[["top", "right"]].set_visible(False)


def by_level(source, metric):
    """Return the record, its levels, and the scores of candidates at each."""
    record = read_search(source)
    metric = record.checked_metric(metric)
    means = record.means(metric)
    finished = np.flatnonzero(record.is_finished)
    levels = record.finished_levels
    if len(levels) < 2:
        raise ValueError(
            "rungs are seen in a search with at least 2 levels of its resource that have scores, "
            f"but this one has {len(levels)}; search with HalvingHyperbandSearchCV, where several "
            "levels have all splits (see fold_schedule), or let it go on"
        )
    candidates, places = np.unique(record.candidates[finished], return_inverse=True)
    scores = np.full((len(candidates), len(levels)), np.nan)
    scores[places, np.searchsorted(levels, record.resources[finished])] = means[finished]
    return record, levels, scores
