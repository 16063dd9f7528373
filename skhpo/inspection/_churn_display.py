"""Churn between configurations, drawn."""

from __future__ import annotations

import numpy as np

from ._churn import prediction_churn
from ._drawing import SCORES, Drawing

__all__ = ["ChurnDisplay"]

# Rows that have a label each; of more every second, third, ....
_MOST_LABELS = 25


class ChurnDisplay(Drawing):
    """A matrix of how far configurations disagree, ordered by score; the diagonal is seeds alone.

    Make it with `from_search`.

    Parameters
    ----------
    churn : sklearn.utils.Bunch
        As of `prediction_churn`.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    image_ : matplotlib AxesImage

    See Also
    --------
    prediction_churn : What is drawn.
    SeedEffectsDisplay : What the scores vary with.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from skhpo import BayesSearchCV
    >>> from skhpo.inspection import ChurnDisplay
    >>> search = BayesSearchCV(
    ...     RandomForestClassifier(5),
    ...     {"max_depth": [1, 2, 4]},
    ...     n_iter=3,
    ...     n_repeats=2,
    ...     return_predictions=True,
    ...     random_state=0,
    ... )
    >>> X, y = load_iris(return_X_y=True)
    >>> ChurnDisplay.from_search(search.fit(X, y)).image_.get_array().shape
    (3, 3)
    """

    def __init__(self, *, churn):
        self.churn = churn

    @classmethod
    def from_search(cls, search, rows=None, y=None, *, ax=None):
        """Compute and draw.

        Parameters
        ----------
        search, rows, y : object
            As of `prediction_churn`.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        ChurnDisplay

        Raises
        ------
        TypeError, NotFittedError, ValueError
            As of `prediction_churn`.
        """
        return cls(churn=prediction_churn(search, rows, y)).plot(ax=ax)

    def _draw(self, ax):
        found = self.churn
        ax = self._axes(ax, (7.5, 6))
        self.image_ = ax.imshow(found.churn, vmin=0, cmap=SCORES)
        ax.set_facecolor("0.85")
        step = -(-len(found.rows) // _MOST_LABELS)
        places = np.arange(0, len(found.rows), step)
        ax.set_yticks(places, [f"{found.rows[i]} ({found.scores[i]:.4g})" for i in places])
        ax.set_xticks(places, [str(found.rows[i]) for i in places], rotation=90)
        ax.set(
            xlabel="row of cv_results_, the best first",
            ylabel="row of cv_results_ (its score)",
            title="Between configurations; on the diagonal, between seeds",
        )
        unit = "share of predictions" if found.unit == "share" else "in units of the residual"
        bar = self.figure_.colorbar(self.image_, ax=ax)
        if np.isnan(found.baseline):
            ax.set_title("Between configurations")
            bar.set_label(f"churn, {unit}")
        else:
            bar.ax.axhline(found.baseline, color="white", linewidth=2.5)
            bar.ax.axhline(found.baseline, color="black", linewidth=1)
            bar.set_label(f"churn, {unit} (line: median between seeds)")
