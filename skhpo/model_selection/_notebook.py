"""What a notebook shows of a fitted search beside scikit-learn's diagram."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["summary_html"]

# Of the small curve, in pixels.
_WIDTH, _HEIGHT = 220, 56
# Longer values of parameters are cut.
_LONGEST = 60


def summary_html(search: Any) -> str:
    """Return the best row and a small curve of the best score so far; empty before the fit."""
    table = getattr(search, "cv_results_", None)
    if not table:
        return ""
    names = [key for key in table if key.startswith("mean_test_")]
    refit = search.refit if isinstance(search.refit, str) else None
    metric = f"mean_test_{refit}" if f"mean_test_{refit}" in table else names[0]
    index = getattr(search, "best_index_", None)
    n_rows = len(table["params"])
    text = f"{n_rows} row{'' if n_rows == 1 else 's'}"
    parts = []
    if index is not None:
        text += (
            f"; best: row {index}, {metric.removeprefix('mean_test_')} {table[metric][index]:.5g}"
        )
        cells = "".join(
            f"<tr><td><code>{escape(str(name))}</code></td><td>{escape(_short(value))}</td></tr>"
            for name, value in search.best_params_.items()
        )
        parts.append(f"<table>{cells}</table>")
    scores = np.asarray(table[metric], dtype=float)
    parts.append(_curve(np.where(table.get("feasible", True), scores, np.nan)))
    return (
        f'<div class="skhpo-summary"><p><b>{escape(type(search).__name__)}</b>: {escape(text)}</p>'
        '<div style="display:flex;gap:1.5em;align-items:center;flex-wrap:wrap">'
        f"{''.join(parts)}</div><p>More: <code>skhpo.inspection.report(search)</code></p></div>"
    )


def _curve(scores: NDArray[np.float64]) -> str:
    """Return the best score so far as a small SVG; empty where there are fewer than two."""
    best = np.maximum.accumulate(np.where(np.isfinite(scores), scores, -np.inf))
    there = np.flatnonzero(np.isfinite(best))
    if len(there) < 2:
        return ""
    best = best[there[0] :]
    # From the median on: a bad first row would flatten the rest.
    low, high = float(np.median(best)), float(best[-1])
    low = min(low, float(np.quantile(best, 0.1)))
    share = np.clip((best - low) / ((high - low) or 1.0), 0.0, 1.0)
    x = np.linspace(2, _WIDTH - 2, len(best)).repeat(2)[1:]
    y = (_HEIGHT - 4 - (_HEIGHT - 8) * share).repeat(2)[:-1]
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="best score so far">'
        f'<polyline points="{points}" fill="none" stroke="#0072B2" stroke-width="2"/></svg>'
    )


def _short(value: Any) -> str:
    text = f"{value:.5g}" if isinstance(value, float) else " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
