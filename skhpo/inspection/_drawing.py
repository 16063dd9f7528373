"""What all pictures of searches share: colours, axes of parameters, the range of scores."""

from __future__ import annotations

import numpy as np

from .._late import import_extra
from ._record import diverged_below

__all__ = ["COLOURS", "LINES", "SCORES", "Drawing", "legible", "score_limits", "short"]

# Okabe and Ito (2008): told apart by colour-blind readers; ordered so that neighbours differ in
# grey too.
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000"]
LINES = ["-", "--", "-.", ":"]
# Runs from dark to light, so that it holds in grey.
SCORES = "viridis"
# Longer names are cut in the middle: both ends say something (``net__module__n_units``).
_LONGEST = 28
# Letters that fit side by side below a small picture; more are written at an angle.
_TICK_ROOM = 24


class Drawing:
    """Base of the displays: they hold what is drawn, and `plot` draws it.

    A subclass draws in ``_draw(ax)``, which begins with `_axes` or `_grid`; one with further
    arguments has its own `plot`.
    """

    def plot(self, *, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, sequence of them, or None, default=None
            Where to draw, as many as `ax_` has; None makes a figure.

        Returns
        -------
        self : object
            The display, with what it drew as attributes.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `ax` has another number of axes.
        """
        self._draw(ax)
        return self

    def _pyplot(self):
        return import_extra("matplotlib.pyplot", f"{type(self).__name__}.plot", "plot")

    def _axes(self, ax, figsize):
        """Set and return axes to draw on: where `ax` is None, of a figure of a size in inches."""
        plt = self._pyplot()
        if ax is None:
            _, ax = plt.subplots(figsize=figsize, layout="constrained")
        self.ax_ = ax
        self.figure_ = ax.figure
        return ax

    def _grid(self, ax, n, n_columns, size, **more):
        """Set and return `n` axes in rows of `n_columns`; `ax` must have as many.

        `size` is that of one in inches, `more` is for `matplotlib.pyplot.subplots`.
        """
        plt = self._pyplot()
        if ax is None:
            n_columns = min(n_columns, n)
            n_rows = -(-n // n_columns)
            figure, all_axes = plt.subplots(
                n_rows,
                n_columns,
                figsize=(size[0] * n_columns, size[1] * n_rows),
                layout="constrained",
                squeeze=False,
                **more,
            )
            for unused in all_axes.ravel()[n:]:
                unused.remove()
            ax = all_axes.ravel()[:n]
            self.figure_ = figure
        self.ax_ = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(self.ax_) != n:
            raise ValueError(f"ax must have {n} axes, but has {len(self.ax_)}")
        self.figure_ = self.ax_[0].figure
        return self.ax_


def short(text, longest=_LONGEST):
    """Return a text that is not longer than that: the middle is cut out."""
    text = " ".join(str(text).split())
    if len(text) <= longest:
        return text
    end = (longest - 1) // 2
    return f"{text[: longest - 1 - end]}…{text[-end:]}"


def score_limits(scores):
    """Return the range of scores that is worth an axis, with some room; others are at its edge.

    It is (0, 1) where no score is finite.
    """
    finite = np.asarray(scores, dtype=float)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return 0.0, 1.0
    high = finite.max()
    low = finite[finite >= diverged_below(finite)].min()
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - room, high + room


def legible(ax, values, scale, *, axis="x"):
    """Set the scale and the ticks of an axis for the values of a parameter.

    Where `scale` is "choice", `values` are the choices in their order.
    """
    if scale == "choice":
        texts = [short(value, 14) for value in values]
        ticks = getattr(ax, f"set_{axis}ticks")
        if axis == "x" and len(texts) * max(map(len, texts), default=0) > _TICK_ROOM:
            ticks(range(len(values)), texts, rotation=35, ha="right", rotation_mode="anchor")
        else:
            ticks(range(len(values)), texts)
        getattr(ax, f"set_{axis}lim")(-0.5, len(values) - 0.5)
    elif scale == "log":
        getattr(ax, f"set_{axis}scale")("log")
        _few_ticks(getattr(ax, f"{axis}axis"), min(values), max(values))


def _few_ticks(axis, low, high):
    """Set the ticks of a logarithmic axis: decades, or a few numbers below two of them."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    axis.set_minor_formatter(NullFormatter())
    if high < 100 * low:
        decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        ticks = [m * 10**d for d in decades for m in (1, 2, 5) if low <= m * 10**d <= high]
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
