"""Workers against time, drawn."""

from __future__ import annotations

import numpy as np

from ._drawing import COLOURS, SCORES, Drawing, short
from ._reading import read_search
from ._timeline import Bar, timeline

__all__ = ["TimelineDisplay", "level_shares", "names_of_lanes", "unit_of"]

# Room of the names, and of the picture, in inches.
_LANE, _MOST = 0.24, 7.0
# More names below one another cannot be read.
_MOST_NAMES = 40
# Levels in the legend.
_MOST_LEVELS = 7
_IDLE, _FAILED = "0.9", COLOURS[3]


class TimelineDisplay(Drawing):
    """Which worker ran which fit when, at which resource, and when it was idle.

    A line for each worker; a fit is a bar, darker with more of the resource, hatched where it
    failed. Grey is time in which a worker ran no fit: it waited, fitted transformers, moved data.
    Fits that were trained together, in lockstep, lie above one another in the line. Where a search
    was interrupted and went on later, the time between is cut out. Of a search that runs, fits
    are drawn when they have ended. Times are those of the workers' clocks.

    Make it with `from_search`.

    Parameters
    ----------
    timeline : Timeline
        `begin` and `end` of each fit in seconds, `lane`, `row`, `split`, `repeat`, `level`; the
        names of `workers`; `idle` seconds of each in each run; `busy_share` of all.
    resource : str or None, default=None
        What the levels are of.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    IncumbentDisplay : The best score over time.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import SGDClassifier
    >>> from skhpo import HalvingHyperbandSearchCV
    >>> from skhpo.inspection import TimelineDisplay
    >>> search = HalvingHyperbandSearchCV(
    ...     SGDClassifier(),
    ...     {"alpha": loguniform(1e-5, 10)},
    ...     resource="max_iter",
    ...     max_resources=9,
    ...     random_state=0,
    ... )
    >>> display = TimelineDisplay.from_search(search.fit(*load_iris(return_X_y=True)))
    >>> len(display.timeline.workers), display.timeline.levels
    (1, [1, 3, 9])
    """

    def __init__(self, *, timeline, resource=None):
        self.timeline = timeline
        self.resource = resource

    @classmethod
    def from_search(cls, source, *, ax=None):
        """Read and draw.

        Parameters
        ----------
        source : estimator, str, path-like or SearchRecord
            As of `read_search`; a fitted search of this package, or a journal, also of a search
            that runs.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        TimelineDisplay

        Raises
        ------
        ValueError
            If the source does not know when its fits ran, as tables and searches of scikit-learn.
        """
        record = read_search(source)
        return cls(timeline=timeline(record), resource=record.resource).plot(ax=ax)

    def _draw(self, ax):
        found = self.timeline
        n_lanes = len(found.workers)
        ax = self._axes(ax, (7.0, 1.35 + min(_LANE * n_lanes, _MOST)))
        from matplotlib.patches import Polygon

        unit, seconds = unit_of(found.runs[-1, 1])
        gap = 0.2 if n_lanes <= 2 * _MOST_NAMES else 0.0  # between lines
        for lane, run in np.argwhere(~np.isnan(found.idle)).tolist():
            whole = Bar(*found.runs[run], lane, 0.0, 1.0, 0, None)
            ax.add_patch(Polygon(_corners(whole, seconds, gap), color=_IDLE, linewidth=0))
        # What a picture shows has some thousand points.
        bars = found.bars(found.runs[-1, 1] / 2000)
        self._draw_bars(ax, bars, seconds, gap)
        for (_, end), pause in zip(found.runs[:-1], found.pauses, strict=True):
            ax.axvline(end / seconds, color="black", linestyle=":", linewidth=1)
            text_unit, text_seconds = unit_of(pause)
            ax.annotate(
                f"{pause / text_seconds:.3g} {text_unit} later",
                (end / seconds, -0.5),
                (3, 2),
                textcoords="offset points",
                fontsize=7,
            )
        ax.set_xlim(0, found.runs[-1, 1] / seconds)
        ax.set_ylim(n_lanes - 0.5, -0.5)
        step = -(-n_lanes // _MOST_NAMES)
        ax.set_yticks(range(0, n_lanes, step), names_of_lanes(found)[::step], fontsize=8)
        ax.tick_params(axis="y", length=0)
        busy = f"workers are busy {found.busy_share:.0%} of the time"
        ax.set(xlabel=f"{unit} ({busy})", ylabel="worker")
        ax.spines[["top", "right", "left"]].set_visible(False)

    def _draw_bars(self, ax, bars, seconds, gap):
        """Draw the bars, and the legend of those that are there."""
        from matplotlib import colormaps
        from matplotlib.collections import PolyCollection
        from matplotlib.patches import Patch

        found = self.timeline
        shares = level_shares(found.levels)
        colours = [COLOURS[0] if s is None else colormaps[SCORES](s) for s in shares]
        wide = np.median([bar.end - bar.begin for bar in bars]) > found.runs[-1, 1] / 200
        wide = wide and gap > 0
        patches = []
        for level in [*range(len(found.levels)), -1]:
            of_level = [bar for bar in bars if bar.level == level]
            look = {"facecolor": _FAILED if level < 0 else colours[level], "linewidth": 0}
            if level < 0:
                look |= {"hatch": "//////" if gap else None, "edgecolor": "black"}
            elif wide:
                look |= {"edgecolor": "white", "linewidth": 0.5}
            if of_level:
                corners = [_corners(bar, seconds, gap) for bar in of_level]
                ax.add_collection(PolyCollection(corners, **look))
                value = found.levels[level]
                text = "fit" if self.resource is None else f"{value:g}"
                patches.append(Patch(label="failed" if level < 0 else text, **look))
        kept = len(patches) - (patches[-1].get_label() == "failed")
        if kept > _MOST_LEVELS:
            shown = np.linspace(0, kept - 1, _MOST_LEVELS).round().astype(int)
            patches = [patches[i] for i in shown] + patches[kept:]
        patches.append(Patch(facecolor=_IDLE, label="idle"))
        title = None if self.resource is None else short(self.resource)
        ax.legend(
            handles=patches,
            title=title,
            ncols=len(patches),
            frameon=False,
            fontsize=8,
            title_fontsize=8,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            handlelength=1.2,
            columnspacing=1.0,
            borderaxespad=1.4 if len(found.pauses) else 0.2,
        )


def _corners(bar, seconds, gap):
    x0, x1 = bar.begin / seconds, bar.end / seconds
    y0, y1 = (bar.lane + (share - 0.5) * (1 - gap) for share in (bar.low, bar.high))
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def level_shares(levels):
    """Return where each level lies on the scale of colours, more resource darker; None of one."""
    n = len(levels)
    return [None] if n < 2 else [0.85 * (1 - i / (n - 1)) for i in range(n)]


def names_of_lanes(found):
    """Return a short name for each lane of a timeline: without the host where there is one."""
    names = [workers[0] for workers in found.workers]
    if len({name.partition(":")[0] for name in names}) == 1:
        names = [name.partition(":")[2] for name in names]
        if len(names) > 1 and len({name.partition(":")[0] for name in names}) == 1:
            names = [name.partition(":")[2] or "main" for name in names]
    more = [" …" if len(workers) > 1 else "" for workers in found.workers]
    return [short(name, 20) + some for name, some in zip(names, more, strict=True)]


def unit_of(seconds):
    """Return the unit in which a time is read best, and its seconds."""
    for unit, size in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds > 2 * size:
            return unit, size
    return "seconds", 1.0
