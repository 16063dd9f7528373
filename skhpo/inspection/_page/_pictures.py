"""The pictures of the page."""

from __future__ import annotations

import numpy as np

from .._drawing import COLOURS, score_limits, short
from .._effect_display import positions
from .._effects import effects
from .._incumbent import incumbent
from .._parallel import axes_of
from .._rungs import by_level
from ._svg import Picture, colour_of

__all__ = ["draw_curves", "draw_effect", "draw_importance", "draw_incumbent", "draw_parallel"]

_BLUE, _RED = COLOURS[0], COLOURS[3]
# Parameters whose importance is drawn.
_MOST_BARS = 12


def draw_incumbent(record, metric):
    """The best score so far, and every row as a dot."""
    spent, best = incumbent(record, metric=metric)
    rows = record.rows(metric, "all", finite=False)
    scores = record.means(metric)[rows]
    low, high = score_limits(scores)
    picture = Picture((0, spent[-1]), (low, high))
    there = np.isfinite(scores)
    picture.dots(
        spent[there],
        np.clip(scores[there], low, high),
        'fill="#888" fill-opacity="0.55"',
        rows[there],
    )
    x = np.repeat(spent, 2)[1:]
    picture.line(x, np.repeat(best, 2)[:-1], f'stroke="{_BLUE}" stroke-width="2.2"')
    picture.axes("fits", f"best {metric} so far")
    return picture.svg("The best score so far against fits")


def draw_importance(found):
    """Importances as bars with intervals."""
    n = min(_MOST_BARS, len(found.names))
    end = max(float(found.intervals[:n].max()), float(found.importances_mean[:n].max()), 1e-9)
    picture = Picture((0, end), (n, 0), height=46 + 22 * n, left=170)
    for i in range(n):
        (x0, x1), (y0, y1) = picture.at([0, found.importances_mean[i]], [i + 0.82, i + 0.18])
        picture.parts.append(
            f'<rect x="{x0:.1f}" y="{y1:.1f}" width="{max(x1 - x0, 0):.1f}" '
            f'height="{y0 - y1:.1f}" fill="{_BLUE}" fill-opacity="0.85"/>'
        )
        picture.line(found.intervals[i], [i + 0.5] * 2, 'stroke="black" stroke-width="1.4"')
        picture.text(163, (y0 + y1) / 2 + 4, short(found.names[i], 26), anchor="end")
    bottom = picture.height - 40
    for value in np.linspace(0, end, 5):
        px, _ = picture.at([value], [0])
        picture.text(px[0], bottom + 16, f"{value:.2g}")
    picture.text(300, picture.height - 6, f"share of the variance of {found.metric}")
    return picture.svg("Importances of the parameters")


def draw_effect(record, name, metric, resource, seed):
    """The score along one parameter."""
    found = effects(record, name, metric=metric, resource=resource, n_draws=30, random_state=seed)
    [values], [scale], [tried] = found.grid_values, found.scales, found.tried
    low, high = score_limits([*found.scores, *found.low, *found.high])
    is_choice = scale == "choice"
    at = np.arange(len(values)) if is_choice else np.array(values, dtype=float)
    ends = (-0.5, len(values) - 0.5) if is_choice else (at[0], at[-1])
    picture = Picture(ends, (low, high), width=340, height=230, log_x=scale == "log")
    x = positions(values, scale, tried)
    picture.dots(
        x, np.clip(found.scores, low, high), 'fill="#888" fill-opacity="0.6"', found.rows, 2.2
    )
    if is_choice:
        for i in range(len(values)):
            picture.line(
                [i, i], [found.low[i], found.high[i]], f'stroke="{_BLUE}" stroke-width="2"'
            )
        picture.dots(at, found.mean, f'fill="{_BLUE}"', radius=4)
        ticks = [(i, short(value, 12)) for i, value in enumerate(values[:8])]
    else:
        picture.band(at, found.low, found.high, f'fill="{_BLUE}" fill-opacity="0.22"')
        picture.line(at, found.mean, f'stroke="{_BLUE}" stroke-width="2"')
        ticks = None
    picture.axes(short(name, 40), found.metric, x_ticks=ticks)
    return picture.svg(f"The score along {name}")


def draw_parallel(record, metric, resource):
    """Rows as lines across the parameters; they know their rows."""
    names, ticks, places, rows = axes_of(record, None, metric, resource)
    scores = record.means(metric)[rows]
    low, high = score_limits(scores)
    n = len(names)
    picture = Picture(
        (0, max(n - 1, 1)),
        (-0.12, 1),
        width=max(460, 90 * n + 124),
        height=330,
        left=60,
        bottom=46,
        right=64,
    )
    for k in np.argsort(scores, kind="stable"):
        line = np.where(np.isnan(places[k]), -0.1, places[k])
        share = (scores[k] - low) / ((high - low) or 1.0)
        picture.line(np.arange(n), line, f'stroke="{colour_of(share)}" class="config"', rows[k])
    for i, (at, texts) in enumerate(ticks):
        picture.line([i, i], [0, 1], 'stroke="black"')
        for place, text in zip(at, texts, strict=True):
            px, py = picture.at([i], [place])
            picture.text(px[0] + 3, py[0] + 3, text, anchor="start", more='class="tick"')
        px, _ = picture.at([i], [0])
        picture.text(px[0], picture.height - (26 if i % 2 else 10), short(names[i], 19))
    return picture.svg("Configurations as lines across the parameters")


def draw_curves(record, metric):
    """Scores rung by rung."""
    _, levels, scores = by_level(record, metric)
    scores = scores[np.isfinite(scores).any(axis=1)]
    low, high = score_limits(scores)
    log = min(levels) > 0
    picture = Picture((levels[0], levels[-1]), (low, high), log_x=log)
    at = np.array(levels, dtype=float)
    best = np.nanargmax(np.where(np.isnan(scores[:, -1]), -np.inf, scores[:, -1]))
    last = np.array([np.flatnonzero(row)[-1] for row in np.isfinite(scores)])
    for i in np.argsort(last == len(levels) - 1, kind="stable"):
        colour = _BLUE if last[i] == len(levels) - 1 else "#aaa"
        picture.line(at, np.maximum(scores[i], low), f'stroke="{colour}" stroke-opacity="0.7"')
        picture.dots([at[last[i]]], [np.maximum(scores[i, last[i]], low)], f'fill="{colour}"')
    best_scores = np.maximum(scores[best], low)
    picture.line(at, best_scores, f'stroke="{_RED}" stroke-width="2.6"')
    picture.dots([at[last[best]]], [best_scores[last[best]]], f'fill="{_RED}"')
    picture.axes(
        f"{record.resource} (blue: to the top, red: the best there)",
        metric,
        x_ticks=[(level, f"{level:g}") for level in levels],
    )
    return picture.svg("Scores rung by rung")
