"""Effects of one parameter or two, drawn."""

from __future__ import annotations

import numpy as np

from ..space import make_axis
from ._drawing import COLOURS, SCORES, Drawing, legible, score_limits, short
from ._effects import effects

__all__ = ["EffectDisplay"]


class EffectDisplay(Drawing):
    """The score along a parameter, with its band and the rows tried; of a pair a heat map.

    Make it with `from_search`.

    Parameters
    ----------
    effect : sklearn.utils.Bunch
        As of `effects`.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    effects : What is drawn.
    ImportanceDisplay : Which parameters matter.
    sklearn.inspection.PartialDependenceDisplay : The same for the inputs of a model.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import RandomizedSearchCV
    >>> from sklearn.svm import SVC
    >>> from skhpo.inspection import EffectDisplay
    >>> space = {"C": loguniform(1e-3, 1e3), "gamma": loguniform(1e-4, 1)}
    >>> search = RandomizedSearchCV(SVC(), space, n_iter=20, random_state=0)
    >>> search.fit(*load_iris(return_X_y=True))  # doctest: +ELLIPSIS
    RandomizedSearchCV(...)
    >>> EffectDisplay.from_search(search, "C", random_state=0).ax_.get_xscale()
    'log'
    """

    def __init__(self, *, effect):
        self.effect = effect

    @classmethod
    def from_search(
        cls, source, params, *, metric=None, resource="largest", random_state=None, ax=None
    ):
        """Compute and draw.

        Parameters
        ----------
        source, params, metric, resource, random_state : object
            As of `effects`.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        EffectDisplay
        """
        effect = effects(
            source, params, metric=metric, resource=resource, random_state=random_state
        )
        return cls(effect=effect).plot(ax=ax)

    def _draw(self, ax):
        found = self.effect
        ax = self._axes(ax, (5.6, 3.8) if len(found.params) == 1 else (5.8, 4.4))
        if len(found.params) == 1:
            self._plot_one(ax, found)
        else:
            self._plot_pair(ax, found)
        ax.set_xlabel(short(found.params[0], 50))

    def _plot_one(self, ax, found):
        [values], [scale], [tried] = found.grid_values, found.scales, found.tried
        at = np.arange(len(values)) if scale == "choice" else np.array(values, dtype=float)
        low, high = score_limits([*found.scores, *found.low, *found.high])
        points = positions(values, scale, tried)
        ax.scatter(
            points,
            np.clip(found.scores, low, high),
            s=14,
            color="0.45",
            alpha=0.7,
            zorder=2,
            label="rows",
            clip_on=False,
            linewidths=0,
        )
        if scale == "choice":
            error = [found.mean - found.low, found.high - found.mean]
            ax.errorbar(
                at,
                found.mean,
                yerr=np.maximum(error, 0),
                fmt="D",
                color=COLOURS[0],
                capsize=4,
                zorder=3,
                label="mean, 95%",
            )
        else:
            ax.plot(at, found.individual.T, color=COLOURS[4], alpha=0.25, linewidth=0.7, zorder=1)
            ax.fill_between(at, found.low, found.high, color=COLOURS[0], alpha=0.25, zorder=2)
            ax.plot(at, found.mean, color=COLOURS[0], linewidth=2, zorder=3, label="mean, 95%")
        legible(ax, values, scale)
        ax.set_ylim(low, high)
        ax.set_ylabel(found.metric)
        ax.legend(loc="best", frameon=False)
        ax.spines[["top", "right"]].set_visible(False)

    def _plot_pair(self, ax, found):
        x, y = (
            np.arange(len(v)) if scale == "choice" else np.array(v, dtype=float)
            for v, scale in zip(found.grid_values, found.scales, strict=True)
        )
        mean = np.ma.masked_invalid(found.mean.T)
        low, _ = score_limits(found.mean)
        low = max(low, mean.min())
        mesh = ax.pcolormesh(x, y, mean, cmap=SCORES, shading="nearest", vmin=low)
        places = [
            positions(*one)
            for one in zip(found.grid_values, found.scales, found.tried, strict=True)
        ]
        ax.scatter(*places, s=14, facecolors="white", edgecolors="black", linewidths=0.7)
        for axis, values, scale in zip("xy", found.grid_values, found.scales, strict=True):
            legible(ax, values, scale, axis=axis)
        ax.set_ylabel(short(found.params[1], 40))
        extend = "min" if low > mean.min() else "neither"
        self.figure_.colorbar(mesh, ax=ax, label=f"mean {found.metric}", extend=extend)


def positions(values, scale, tried):
    """Return where values of a parameter are on its axis, choices spread a little."""
    if scale != "choice":
        return np.array(tried, dtype=float)
    rng = np.random.default_rng(0)
    axis = make_axis("", values)
    of_level = {axis.key(value): i for i, value in enumerate(values)}
    places = [of_level[axis.key(value)] for value in tried]
    return np.array(places) + rng.uniform(-0.18, 0.18, len(places))
