"""Churn between configurations, drawn."""

from __future__ import annotations

import numpy as np

from ._churn import prediction_churn
from ._matplotlib import pyplot

__all__ = ["ChurnDisplay"]

# Rows that have a label each; of more every second, third, ....
_MOST_LABELS = 25


class ChurnDisplay:
    """A matrix of how far configurations disagree, ordered by score; the diagonal is seeds alone.

    Make it with `from_search`.

    Parameters
    ----------
    churn : ndarray of shape (n_rows, n_rows)
    rows : ndarray of int, shape (n_rows,)
        Of ``cv_results_``, the best first.
    scores : ndarray of shape (n_rows,)
    baseline : float
        The median churn between seeds of one configuration; NaN where it is not known.
    unit : {"share", "residual"}, default="share"

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    image_ : matplotlib AxesImage

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
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
    >>> ChurnDisplay.from_search(search.fit(X, y)).churn.shape
    (3, 3)
    """

    def __init__(self, *, churn, rows, scores, baseline, unit="share"):
        self.churn = churn
        self.rows = rows
        self.scores = scores
        self.baseline = baseline
        self.unit = unit

    @classmethod
    def from_search(cls, search, rows=None, y=None, *, ax=None):
        """Compute and draw.

        Parameters
        ----------
        search, rows, y
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
        found = prediction_churn(search, rows, y)
        display = cls(
            churn=found.churn,
            rows=found.rows,
            scores=found.scores,
            baseline=found.baseline,
            unit=found.unit,
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
        ChurnDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        plt = pyplot(self)
        if ax is None:
            _, ax = plt.subplots(figsize=(7.5, 6), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        self.image_ = ax.imshow(self.churn, vmin=0, cmap="viridis")
        ax.set_facecolor("0.85")
        step = -(-len(self.rows) // _MOST_LABELS)
        places = np.arange(0, len(self.rows), step)
        ax.set_yticks(places, [f"{self.rows[i]} ({self.scores[i]:.4g})" for i in places])
        ax.set_xticks(places, [str(self.rows[i]) for i in places], rotation=90)
        ax.set(
            xlabel="row of cv_results_, the best first",
            ylabel="row of cv_results_ (its score)",
            title="Between configurations; on the diagonal, between seeds",
        )
        unit = "share of predictions" if self.unit == "share" else "in units of the residual"
        bar = self.figure_.colorbar(self.image_, ax=ax)
        if np.isnan(self.baseline):
            ax.set_title("Between configurations")
            bar.set_label(f"churn, {unit}")
        else:
            bar.ax.axhline(self.baseline, color="white", linewidth=2.5)
            bar.ax.axhline(self.baseline, color="black", linewidth=1)
            bar.set_label(f"churn, {unit} (line: median between seeds)")
        return self
