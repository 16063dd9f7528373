"""A search space as text, and as HTML for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import partial
from html import escape
from numbers import Real
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np

from ._axes import Axis

__all__ = ["Line", "as_html", "as_text", "as_written", "line_of"]

# More choices, and longer texts, are cut.
_MOST_CHOICES = 10
_LONGEST = 60
# The last ones are NumPy's.
_FUNCTIONS = FunctionType, BuiltinFunctionType, MethodType, type(np.clip)
# Columns of the table.
_HEAD = ("parameter", "kind", "values", "distribution")


@dataclass(frozen=True, slots=True)
class Line:
    """The row of one parameter."""

    name: str
    kind: str
    values: str
    distribution: str


def line_of(axis: Axis, given: Any) -> Line:
    """Make the row of a parameter; `given` are its choices or its distribution."""
    ends = axis.bounds
    if ends is None:
        return Line(axis.name, axis.kind, _listed(axis), "")
    values = f"{ends[0]:.12g} to {ends[1]:.12g}"
    if not hasattr(given, "weights"):
        return Line(axis.name, axis.kind, values, _short(_written(given)))
    n_levels = axis.n_levels or 0
    if n_levels > _MOST_CHOICES:
        return Line(axis.name, "ordered", values, f"{n_levels} steps")
    values = ", ".join(_argument(axis.level(i)) for i in range(n_levels))
    return Line(axis.name, "ordered", values, "")


def as_text(title: str, parts: Sequence[Sequence[Line]]) -> str:
    """Format the rows of each dict of a space as columns under a title."""
    widths = [
        max(len(row[column]) for part in parts for row in map(astuple, part))
        for column in range(len(_HEAD))
    ]
    text = [title]
    for number, part in enumerate(parts):
        if len(parts) > 1:
            text.append(f"{'either' if number == 0 else 'or'}")
        for row in map(astuple, part):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            text.append(f"  {'  '.join(cells)}".rstrip())
    return "\n".join(text)


def as_html(title: str, parts: Sequence[Sequence[Line]]) -> str:
    """Format the same as an HTML table."""
    head = "".join(f'<th style="text-align:left">{name}</th>' for name in _HEAD)
    html = [f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead>"]
    for number, part in enumerate(parts):
        html.append("<tbody>")
        if len(parts) > 1:
            word = "either" if number == 0 else "or"
            html.append(
                f'<tr><td colspan="{len(_HEAD)}" style="text-align:left"><i>{word}</i></td></tr>'
            )
        for name, *cells in map(astuple, part):
            row = [f"<code>{escape(name)}</code>", *map(escape, cells)]
            html.append(
                "<tr>"
                + "".join(f'<td style="text-align:left">{cell}</td>' for cell in row)
                + "</tr>"
            )
        html.append("</tbody>")
    return "".join([*html, "</table>"])


def _listed(axis: Axis) -> str:
    """The choices, with their probabilities if these differ."""
    n_levels = axis.n_levels or 0
    levels = [axis.level(i) for i in range(min(n_levels, _MOST_CHOICES))]
    texts = [_short(level) for level in levels]
    chances = [axis.probability(level) for level in levels]
    if max(chances) - min(chances) > 1e-9:
        texts = [f"{text} ({chance:.2g})" for text, chance in zip(texts, chances, strict=True)]
    more = n_levels - len(levels)
    return ", ".join(texts) + (f", ... ({more} more)" if more else "")


class _Written:
    """A value whose repr is what it was made by, or its name."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def as_written(given: Any) -> Any:
    """Replace values whose repr has an address by objects that print what they are.

    Parameters
    ----------
    given : object
        Frozen distributions of scipy and functions are replaced, also in dicts, lists and tuples.

    Returns
    -------
    object
        For printing only.
    """
    if type(given) is dict:
        return {name: as_written(value) for name, value in given.items()}
    if type(given) in (list, tuple):
        return type(given)(as_written(value) for value in given)
    return _written(given)


def _written(given: Any) -> Any:
    if isinstance(given, _FUNCTIONS):
        return _Written(given.__qualname__.rpartition("<locals>.")[2])
    if isinstance(given, partial):
        parts = [repr(as_written(value)) for value in (given.func, *given.args)]
        parts += [f"{name}={as_written(value)!r}" for name, value in given.keywords.items()]
        return _Written(f"partial({', '.join(parts)})")
    if not hasattr(given, "dist") or not hasattr(given, "kwds"):
        return given
    arguments = [_argument(value) for value in given.args]
    arguments += [f"{name}={_argument(value)}" for name, value in given.kwds.items()]
    return _Written(f"{given.dist.name}({', '.join(arguments)})")


def _argument(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, Real) else _short(value)


def _short(value: Any) -> str:
    """A short text for any value, without line breaks and addresses."""
    name = getattr(value, "__qualname__", None)
    text = name if isinstance(name, str) else " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
