"""Several objectives and constraints on the page."""

from __future__ import annotations

from html import escape
from itertools import combinations, islice

import numpy as np

from ...objectives import bound_violations
from .._drawing import COLOURS, score_limits, short
from .._front_display import cost_of, front_of, is_wide, shown_scores
from .._incumbent import incumbent
from ._svg import Picture

__all__ = ["constraints_of", "draw_front", "front_section"]

_FRONT, _INFEASIBLE = COLOURS[0], COLOURS[3]
# Room for small numbers beside an axis.
_LEFT = 70
# Pairs of objectives that are drawn.
_MOST_PAIRS = 6


def front_section(record):
    """Yield a section on the trade-off between objectives; nothing where there is one objective."""
    if len(record.objectives) < 2 or not len(record.rows_with()):
        return
    found = front_of(record)
    n, front = len(found.rows), found.rows[found.is_front]
    yield f"<h2>The front</h2><p>Of {n} rows {len(front)} are such that no other one is better in "
    yield f"all of {escape(', '.join(found.objectives))}; lines are the range over splits. Better "
    yield f'is to the right and up. <span style="color:{_FRONT}">●</span>&nbsp;front '
    yield '<span style="color:#888">●</span>&nbsp;dominated'
    if not found.is_feasible.all():
        yield f' <span style="color:{_INFEASIBLE}">✕</span>&nbsp;breaks a constraint'
    yield "</p><div class='row'>"
    for i, j in islice(combinations(range(len(found.objectives)), 2), _MOST_PAIRS):
        yield f"<div>{draw_front(found, i, j)}</div>"
    if len(front):
        yield f"<div>{_draw_hypervolume(record)}</div>"
    yield "</div>"


def constraints_of(record):
    """Return a paragraph on constraints; empty where there is none."""
    if record.violation is None:
        return ""
    finished = record.is_finished
    n, kept = int(finished.sum()), int(record.is_feasible[finished].sum())
    parts = [f"{kept} of {n} rows keep all constraints."]
    for name, values in record.constraints.items():
        if name not in record.bounds:
            continue
        known = values[finished & ~np.isnan(values)]
        is_broken = np.array(bound_violations(known, *record.bounds[name])).max(axis=0) > 0
        parts.append(
            f"{name} {_limits(*record.bounds[name])}: {int(is_broken.sum())} of {len(known)} break "
            "it."
        )
    if record.n_skipped:
        parts.append(
            f"{record.n_skipped} fits were not made, because that was known without training."
        )
    return f"<p>{escape(' '.join(parts))}</p>"


def _limits(low, high):
    low, high = (None if limit is None else f"{limit:,.6g}" for limit in (low, high))
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"from {low} to {high}"


def draw_front(found, i, j):
    """Rows by two objectives; `found` as of `front_of`."""
    axes = [_Axis(found.scores[:, k], found.objectives[k]) for k in (i, j)]
    x, y = axes
    picture = Picture(x.ends, y.ends, height=300, log_x=x.is_log, log_y=y.is_log, left=_LEFT)
    inside = found.is_feasible & ~found.is_front
    at = [np.clip(one.means, min(one.ends), max(one.ends)) for one in axes]
    picture.dots(at[0][inside], at[1][inside], 'fill="#888" fill-opacity="0.6"', found.rows[inside])
    outside = ~found.is_feasible
    picture.crosses(at[0][outside], at[1][outside], f'stroke="{_INFEASIBLE}"', found.rows[outside])
    order = np.flatnonzero(found.is_front)
    order = order[np.argsort(found.scores[order, i].mean(axis=1), kind="stable")]
    if len(found.objectives) == 2 and len(order):
        # What a point dominates is left of it and below.
        picture.line(
            np.repeat(at[0][order], 2)[:-1],
            np.repeat(at[1][order], 2)[1:],
            f'stroke="{_FRONT}" stroke-width="1.2"',
        )
    faint = f'stroke="{_FRONT}" stroke-opacity="0.4"'
    for row in order:
        low, high = x.range_of(row)
        picture.line([low, high], [at[1][row]] * 2, faint)
        low, high = y.range_of(row)
        picture.line([at[0][row]] * 2, [low, high], faint)
    picture.dots(at[0][order], at[1][order], f'fill="{_FRONT}"', found.rows[order], 4)
    picture.axes(x.label, y.label)
    return picture.svg(f"The front of {found.objectives[i]} and {found.objectives[j]}")


class _Axis:
    """What an objective is drawn as: its score, or its cost on an axis that runs backwards."""

    def __init__(self, scores, name):
        values, is_cost = shown_scores(scores)
        self.means = values.mean(axis=1)
        self.is_log = is_cost and is_wide(self.means)
        self.label = cost_of(short(name)) if is_cost else short(name)
        if self.is_log:
            room = (self.means.max() / self.means.min()) ** 0.05
            self.ends = (self.means.max() * room, self.means.min() / room)
        else:
            low, high = score_limits(scores.mean(axis=1))
            self.ends = (-low, -high) if is_cost else (low, high)
        self._values = np.clip(values, min(self.ends), max(self.ends))

    def range_of(self, row):
        """Return the least and the largest value over splits."""
        return self._values[row].min(), self._values[row].max()


def _draw_hypervolume(record):
    spent, volumes = incumbent(record, metric="hypervolume")
    known = ~np.isnan(volumes)
    ends = (0, np.nanmax(volumes) * 1.05 or 1.0)
    picture = Picture((0, spent[-1]), ends, height=300, left=_LEFT)
    picture.line(
        np.repeat(spent[known], 2)[1:],
        np.repeat(volumes[known], 2)[:-1],
        f'stroke="{_FRONT}" stroke-width="2.2"',
    )
    picture.axes("fits", "hypervolume of the front so far")
    return picture.svg("Hypervolume of the front against fits")
