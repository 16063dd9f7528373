"""Effects of configurations and hyperparameters on classes, drawn."""

from __future__ import annotations

import numpy as np

from ._class_effects import class_effects
from ._drawing import COLOURS, Drawing, short

__all__ = ["ClassEffectsDisplay"]


class ClassEffectsDisplay(Drawing):
    """A line for each configuration over the classes, and what explains the spread of each class.

    Make it with `from_search`.

    Parameters
    ----------
    effects : sklearn.utils.Bunch
        As of `class_effects`.
    measure : str, default="recall"
        What is drawn of each class.

    Attributes
    ----------
    ax_ : ndarray of two matplotlib Axes
        Configurations, and importances.
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        In the order of `rows`.

    See Also
    --------
    class_effects : What is drawn.
    EffectDisplay : The score along a parameter.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skhpo import BayesSearchCV
    >>> from skhpo.inspection import ClassEffectsDisplay
    >>> search = BayesSearchCV(
    ...     DecisionTreeClassifier(),
    ...     {"max_depth": [1, 3]},
    ...     n_iter=2,
    ...     return_predictions=True,
    ...     random_state=0,
    ... )
    >>> X, y = load_iris(return_X_y=True)
    >>> len(ClassEffectsDisplay.from_search(search.fit(X, y)).lines_)
    2
    """

    def __init__(self, *, effects, measure="recall"):
        self.effects = effects
        self.measure = measure

    @classmethod
    def from_search(
        cls, search, groups=None, y=None, *, measure="recall", random_state=None, ax=None
    ):
        """Compute and draw.

        Parameters
        ----------
        search, groups, y : object
            As of `class_effects`.
        measure : {"recall", "precision", "calibration"}, default="recall"
            What is drawn of each class.
        random_state : int, RandomState or None, default=None
            As of `class_effects`.
        ax : sequence of two matplotlib Axes, or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        ClassEffectsDisplay

        Raises
        ------
        TypeError, NotFittedError, ValueError
            As of `class_effects`; and if `measure` is another one.
        """
        effects = class_effects(search, groups, y, explained=measure, random_state=random_state)
        return cls(effects=effects, measure=measure).plot(ax=ax)

    def _draw(self, ax):
        self._grid(ax, 2, 2, (5.5, 4.5))
        self._plot_rows(self.ax_[0])
        self._plot_importances(self.ax_[1])

    def _plot_rows(self, ax):
        found = self.effects
        places = np.arange(len(found.names))
        self.lines_, labels = [], set()
        for row, values in zip(found.rows, found[self.measure], strict=True):
            style = {"color": "0.75", "linewidth": 0.8, "label": "others", "zorder": 1}
            if row in found.equally_good:
                style = {"color": COLOURS[0], "linewidth": 1, "label": "as good as it", "zorder": 2}
            if row == found.rows[0]:
                label = f"row {row}, the best"
                style = {"color": "black", "linewidth": 2, "label": label, "zorder": 3}
            if style["label"] in labels:
                style["label"] = None
            labels.add(style["label"])
            self.lines_ += ax.plot(places, values, marker="o", markersize=4, **style)
        _name_places(ax, found.names)
        ax.set(ylabel=self.measure, title=f"{self.measure.capitalize()} of each configuration")
        ax.margins(x=0.1)
        ax.legend()

    def _plot_importances(self, ax):
        table = self.effects.importances
        names = [name for name in self.effects.names if name in set(table["name"])]
        params = sorted(set(table["param"]))
        title = f"What explains the {self.measure} (shares of variance)"
        if not names:
            text = "too few rows, or no spread"
            ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)
            ax.set(xticks=[], yticks=[], title=title)
            return
        values = np.full((len(params), len(names)), np.nan)
        for param, name, share in zip(
            table["param"], table["name"], table["importance"], strict=True
        ):
            values[params.index(param), names.index(name)] = share
        order = np.argsort(-values.mean(axis=1))
        values, params = values[order], [params[i] for i in order]
        ax.imshow(values, vmin=0, vmax=1, cmap="Blues", aspect="auto")
        for i, j in np.ndindex(values.shape):
            color = "white" if values[i, j] > 0.6 else "black"
            ax.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", color=color)
        ax.set_yticks(range(len(params)), map(short, params))
        _name_places(ax, names)
        ax.set_title(title)


def _name_places(ax, names):
    texts = [short(name, 14) for name in names]
    steep = sum(map(len, texts)) > 40
    ax.set_xticks(range(len(texts)), texts, rotation=90 if steep else 0)
