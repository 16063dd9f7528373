"""Shares of chance in the scores of a search, drawn."""

from __future__ import annotations

import numpy as np

from ._matplotlib import pyplot
from ._seed_effects import seed_effects

__all__ = ["SeedEffectsDisplay"]


class SeedEffectsDisplay:
    """What the scores of a search vary with, and which rows differ from the best by more than luck.

    Make it with `from_source`.

    Parameters
    ----------
    table : dict of str to ndarray
        As of `seed_effects`.
    scores : ndarray of shape (n_rows,)
        Mean scores, the best first.
    smallest_difference : float
        NaN draws no band.
    metric : str, default="score"

    Attributes
    ----------
    ax_ : ndarray of two matplotlib Axes
        Shares, and scores.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skhpo.inspection import SeedEffectsDisplay
    >>> space = {"max_depth": [1, 2, 3], "random_state": [0, 1, 2]}
    >>> search = GridSearchCV(RandomForestClassifier(3), space)
    >>> display = SeedEffectsDisplay.from_source(search.fit(*load_iris(return_X_y=True)))
    >>> display.scores.shape
    (9,)
    """

    def __init__(self, *, table, scores, smallest_difference, metric="score"):
        self.table = table
        self.scores = scores
        self.smallest_difference = smallest_difference
        self.metric = metric

    @classmethod
    def from_source(cls, source, *, metric=None, resource="largest", random_state=None, ax=None):
        """Compute and draw.

        Parameters
        ----------
        source, metric, resource, random_state
            As of `seed_effects`.
        ax : sequence of two matplotlib Axes, or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        SeedEffectsDisplay

        Raises
        ------
        ValueError, TypeError, NotFittedError, JournalError
            As of `seed_effects`.
        """
        found = seed_effects(source, metric=metric, resource=resource, random_state=random_state)
        display = cls(
            table=found.table,
            scores=found.scores,
            smallest_difference=found.smallest_difference,
            metric=found.metric,
        )
        return display.plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw.

        Parameters
        ----------
        ax : sequence of two matplotlib Axes, or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        SeedEffectsDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        plt = pyplot(self)
        if ax is None:
            _, ax = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
        left, right = self.ax_ = np.asarray(ax)
        self.figure_ = left.figure
        known = np.flatnonzero(~np.isnan(self.table["share"]))
        share = self.table["share"][known]
        errors = [share - self.table["low"][known], self.table["high"][known] - share]
        places = np.arange(len(known))
        left.barh(
            places,
            share,
            xerr=np.maximum(errors, 0),
            color="C0",
            error_kw={"capsize": 3, "elinewidth": 1},
        )
        left.set_yticks(places, self.table["component"][known])
        left.invert_yaxis()
        left.set(xlim=(0, 1), xlabel="share of the variance (95% intervals)")
        left.set_title("What scores vary with")
        ranks = np.arange(1, len(self.scores) + 1)
        right.plot(ranks, self.scores, "o", markersize=4, color="C0")
        if not np.isnan(self.smallest_difference):
            bottom = self.scores[0] - self.smallest_difference
            right.axhspan(bottom, self.scores[0], color="C1", alpha=0.25, linewidth=0)
            n_within = int((self.scores >= bottom).sum())
            label = f"{n_within} of {len(ranks)} rows differ from the best by no more than chance"
            right.set_title(label, fontsize="medium")
        right.set(xlabel="rank", ylabel=f"mean {self.metric}")
        return self
