"""Importances, drawn."""

from __future__ import annotations

import numpy as np

from ._drawing import COLOURS, Drawing, short
from ._importance import hyperparameter_importance

__all__ = ["ImportanceDisplay"]

# What the axis of each method is.
_LABELS = {
    "fanova": "share of the variance of {metric}",
    "gp": "share of the variance of {metric}",
    "ped_anova": "importance for being among the best",
    "permutation": "increase of the error of {metric}, shuffled",
}


class ImportanceDisplay(Drawing):
    """Which hyperparameters matter: bars with 95% intervals.

    Make it with `from_search`.

    Parameters
    ----------
    importance : sklearn.utils.Bunch
        As of `hyperparameter_importance`.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    hyperparameter_importance : What is drawn.
    EffectDisplay : How the score depends on a parameter.
    sklearn.inspection.permutation_importance : Which inputs of a model matter.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import RandomizedSearchCV
    >>> from sklearn.svm import SVC
    >>> from skhpo.inspection import ImportanceDisplay
    >>> space = {"C": loguniform(1e-3, 1e3), "gamma": loguniform(1e-4, 1)}
    >>> search = RandomizedSearchCV(SVC(), space, n_iter=20, random_state=0)
    >>> search.fit(*load_iris(return_X_y=True))  # doctest: +ELLIPSIS
    RandomizedSearchCV(...)
    >>> ImportanceDisplay.from_search(search, random_state=0).ax_.get_xlabel()
    'share of the variance of score'
    """

    def __init__(self, *, importance):
        self.importance = importance

    @classmethod
    def from_search(
        cls,
        source,
        *,
        method="fanova",
        metric=None,
        resource="largest",
        region=None,
        n_bootstrap=100,
        random_state=None,
        max_params=20,
        n_pairs=3,
        ax=None,
    ):
        """Compute and draw.

        Parameters
        ----------
        source, method, metric, resource, region, n_bootstrap, random_state : object
            As of `hyperparameter_importance`.
        max_params, n_pairs, ax : object
            As of `plot`.

        Returns
        -------
        ImportanceDisplay
        """
        importance = hyperparameter_importance(
            source,
            method=method,
            metric=metric,
            resource=resource,
            region=region,
            n_bootstrap=n_bootstrap,
            random_state=random_state,
        )
        return cls(importance=importance).plot(ax=ax, max_params=max_params, n_pairs=n_pairs)

    def plot(self, *, ax=None, max_params=20, n_pairs=3):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        max_params : int, default=20
            Bars; one more stands for all other parameters together.
        n_pairs : int, default=3
            The strongest interactions, below the parameters.

        Returns
        -------
        ImportanceDisplay
            Itself.
        """
        found = self.importance
        n = min(max_params, len(found.names))
        labels = [short(name) for name in found.names[:n]]
        values = list(found.importances_mean[:n])
        ends = list(found.intervals[:n])
        if n < len(found.names):
            labels.append(f"{len(found.names) - n} others")
            values.append(found.importances_mean[n:].sum())
            ends.append(np.percentile(found.importances[n:].sum(axis=0), [2.5, 97.5]))
        n_bars = len(labels)
        pairs = found.interactions
        for i in range(min(n_pairs, len(pairs["first"]))):
            if pairs["importance"][i] > 0:
                labels.append(f"{short(pairs['first'][i], 14)} × {short(pairs['second'][i], 14)}")
                values.append(pairs["importance"][i])
                reach = 1.96 * pairs["std"][i]
                ends.append((max(values[-1] - reach, 0.0), values[-1] + reach))
        ax = self._axes(ax, (6.4, 1.1 + 0.28 * len(labels)))
        places = np.arange(len(labels))
        ax.barh(places[:n_bars], values[:n_bars], color=COLOURS[0], alpha=0.85)
        ax.barh(places[n_bars:], values[n_bars:], color="white", edgecolor=COLOURS[0], hatch="////")
        low, high = np.array(ends).T
        # A percentile interval need not have the estimate in it.
        errors = np.maximum([np.array(values) - low, high - values], 0.0)
        ax.errorbar(
            values, places, xerr=errors, fmt="none", ecolor="black", elinewidth=1.2, capsize=2.5
        )
        ax.set_yticks(places, labels)
        ax.set_ylim(len(labels) - 0.4, -0.6)
        ax.set_xlim(left=0)
        ax.set_xlabel(_LABELS[found.method].format(metric=found.metric))
        ax.spines[["top", "right"]].set_visible(False)
        return self
