"""Workers against time, on the page."""

from __future__ import annotations

from html import escape

import numpy as np

from .._drawing import COLOURS
from .._timeline import timeline
from .._timeline_display import level_shares, names_of_lanes, unit_of
from ._svg import Picture, colour_of

__all__ = ["draw_timeline"]

# Of more workers the first ones are drawn.
_MOST_LANES = 100
_BLUE, _RED, _IDLE = COLOURS[0], COLOURS[3], "#e6e6e6"


def draw_timeline(record):
    """A line for each worker, a bar for each fit; bars know their rows."""
    found = timeline(record)
    n_lanes = min(len(found.workers), _MOST_LANES)
    unit, seconds = unit_of(found.runs[-1, 1])
    thickness = 18 if n_lanes <= 16 else 7
    height = 50 + thickness * n_lanes
    picture = Picture(
        (0, found.runs[-1, 1] / seconds), (n_lanes, 0), width=860, height=height, left=110
    )

    def bar(begin, end, low, high, style):
        (x0, x1), (y1, y0) = picture.at([begin / seconds, end / seconds], [high, low])
        picture.parts.append(
            f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{max(x1 - x0, 0.3):.1f}" '
            f'height="{y1 - y0:.1f}" {style}/>'
        )

    for lane, run in np.argwhere(~np.isnan(found.idle[:n_lanes])).tolist():
        bar(*found.runs[run], lane + 0.1, lane + 0.9, f'fill="{_IDLE}"')
    shares = level_shares(found.levels)
    colours = [*(_BLUE if s is None else colour_of(s) for s in shares), _RED]  # failed: -1
    for one in found.bars(found.runs[-1, 1] / 1500):
        if one.lane < n_lanes:
            row = "" if one.row is None else f' data-row="{one.row}"'
            ends = (one.lane + 0.1 + 0.8 * share for share in (one.low, one.high))
            bar(one.begin, one.end, *ends, f'fill="{colours[one.level]}"{row}')
    for _, end in found.runs[:-1]:
        picture.line([end / seconds] * 2, [0, n_lanes], 'stroke="black" stroke-dasharray="2 2"')
    if thickness > 10:
        for lane, name in enumerate(names_of_lanes(found)[:n_lanes]):
            _, y = picture.at([0], [lane + 0.5])
            picture.text(104, y[0] + 4, name, anchor="end")
    picture.x_axis(unit)
    return (
        f"<p>{_words(record, found, colours)}</p>{picture.svg('Which worker ran which fit when')}"
    )


def _words(record, found, colours):
    """Return what the colours mean, and how busy the workers were."""
    n = len(found.workers)
    shown = f", of which {_MOST_LANES} are shown" if n > _MOST_LANES else ""
    text = f"{n} worker{'' if n == 1 else 's'}{shown}, busy {found.busy_share:.0%} of the time. "
    keys = []
    if record.resource is not None:
        text += f"{escape(str(record.resource))}: "
        keys = [(f"{v:g}", c) for v, c in zip(found.levels, colours[:-1], strict=True)]
    keys += [("idle", _IDLE)] + [("failed", _RED)] * bool((found.level < 0).any())
    return text + " ".join(f'<span style="color:{c}">■</span>&nbsp;{t}' for t, c in keys)
