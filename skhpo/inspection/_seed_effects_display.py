"""Shares of chance in the scores of a search, drawn."""

from __future__ import annotations

import numpy as np

from ._drawing import COLOURS, Drawing
from ._seed_effects import seed_effects

__all__ = ["SeedEffectsDisplay"]


class SeedEffectsDisplay(Drawing):
    """What the scores of a search vary with, and which rows differ from the best by more than luck.

    Make it with `from_search`.

    Parameters
    ----------
    effects : sklearn.utils.Bunch
        As of `seed_effects`.

    Attributes
    ----------
    ax_ : ndarray of two matplotlib Axes
        Shares, and scores.
    figure_ : matplotlib Figure

    See Also
    --------
    seed_effects : What is drawn.
    compare : Whether two rows differ.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skhpo.inspection import SeedEffectsDisplay
    >>> space = {"max_depth": [1, 2, 3], "random_state": [0, 1, 2]}
    >>> search = GridSearchCV(RandomForestClassifier(3), space)
    >>> display = SeedEffectsDisplay.from_search(search.fit(*load_iris(return_X_y=True)))
    >>> display.ax_[1].get_ylabel()
    'mean score'
    """

    def __init__(self, *, effects):
        self.effects = effects

    @classmethod
    def from_search(cls, source, *, metric=None, resource="largest", random_state=None, ax=None):
        """Compute and draw.

        Parameters
        ----------
        source, metric, resource, random_state : object
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
        effects = seed_effects(source, metric=metric, resource=resource, random_state=random_state)
        return cls(effects=effects).plot(ax=ax)

    def _draw(self, ax):
        found = self.effects
        left, right = self._grid(ax, 2, 2, (5, 3.6))
        known = np.flatnonzero(~np.isnan(found.table["share"]))
        share = found.table["share"][known]
        # A percentile interval need not have the estimate in it.
        errors = np.maximum(
            [share - found.table["low"][known], found.table["high"][known] - share], 0
        )
        places = np.arange(len(known))
        left.barh(places, share, color=COLOURS[0], alpha=0.85)
        left.errorbar(share, places, xerr=errors, fmt="none", ecolor="black", capsize=2.5)
        left.set_yticks(places, found.table["component"][known])
        left.invert_yaxis()
        left.set(xlim=(0, 1), xlabel="share of the variance (95% intervals)")
        left.set_title("What scores vary with", fontsize="medium")
        ranks = np.arange(1, len(found.scores) + 1)
        right.plot(ranks, found.scores, "o", markersize=4, color=COLOURS[0])
        if not np.isnan(found.smallest_difference):
            bottom = found.scores[0] - found.smallest_difference
            right.axhspan(bottom, found.scores[0], color=COLOURS[1], alpha=0.25, linewidth=0)
            n_within = int((found.scores >= bottom).sum())
            label = f"{n_within} of {len(ranks)} rows within chance of the best"
            right.set_title(label, fontsize="medium")
        right.set(xlabel="rank", ylabel=f"mean {found.metric}")
        right.xaxis.get_major_locator().set_params(integer=True)
