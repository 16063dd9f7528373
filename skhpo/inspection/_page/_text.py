"""What the page says in words: numbers, the code that fits the best again, failures."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from ...space import SearchSpace
from .._compare import compare

__all__ = ["cards", "code_of", "facts_of", "failures_of", "how_sure", "table_of"]

# Rows of the table, the best ones of more, so that the page stays small.
_MOST_ROWS = 2000
# Failures that are shown in full; their tracebacks are much the same.
_MOST_FAILURES = 20


def number(value):
    """Return a number as text."""
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:.5g}"
    return str(value)


def cards(record, metric):
    """Return the headline numbers as HTML."""
    best = record.best_row(metric)
    n_fits, seconds = int(record.has_fit.sum()), np.nansum(record.fit_seconds)
    shown = [_score_card(record, best, metric)] if best is not None else []
    if best is not None and len(record.objectives) > 1:
        others = [name for name in record.objectives if name != metric]
        shown += [_score_card(record, best, name) for name in others]
    shown += [
        ("rows", f"{int(record.is_finished.sum()):,}"),
        ("fits", f"{n_fits - record.n_skipped:,}"),
        ("seconds in fits", f"{seconds:,.0f}"),
        ("failed fits", f"{int(record.failed().sum()):,}"),
    ]
    return (
        '<div class="cards">'
        + "".join(
            f'<div class="card"><b>{escape(value)}</b>{escape(name)}</div>' for name, value in shown
        )
        + "</div>"
    )


def _score_card(record, row, metric):
    scores = record.scores[metric][row].mean(axis=1)
    spread = f" ± {scores.std():.2g} over splits" if len(scores) > 1 else ""
    what = f"{metric} of row {row}" if len(record.objectives) > 1 else f"best {metric}"
    return what + spread, f"{scores.mean():.5g}"


def how_sure(record, metric):
    """Return a sentence on the best row and the runner-up of its level; empty where none can be."""
    best = record.best_row(metric)
    if best is None or record.scores[metric].shape[1] < 2:
        return ""
    level = "all" if record.resources is None else record.resources[best]
    means = record.means(metric)
    feasible = record.is_feasible
    others = [row for row in record.rows(metric, level) if row != best and feasible[row]]
    if not others or not np.isfinite(record.scores[metric][best]).all():
        return ""
    second = max(others, key=lambda row: means[row])
    if means[second] > means[best]:  # a rule of the user's chose, not the score
        return ""
    rope = 0.1 * float(means[best] - np.median(means[[best, *others]])) or 0.01
    found = compare(record, best, second, metric=metric, rope=rope)
    return (
        f"Row {best} scores {found.difference:.3g} more than row {second}, the next best of its "
        f"level (corrected t test over {found.n_splits} splits: p = {found.p_value:.2f}). With "
        f"differences up to {rope:.2g} counted as none, it is better with probability "
        f"{found.better:.2f}, as good {found.equivalent:.2f}, worse {found.worse:.2f}. The best of "
        "many is also the luckiest: expect less of it on new data."
    )


def code_of(record, metric):
    """Return the Python that fits the best configuration again."""
    best = record.best_row(metric)
    params = {**record.params[best], **record.fixed}
    if record.resource not in (None, "n_samples", "n_resources"):
        params[record.resource] = record.resources[best]
    lines = [
        "from sklearn.base import clone",
        "",
        f"# estimator: what was searched, {_estimator(record)}",
        "best = clone(estimator).set_params(",
        *(
            f"    **{{{name!r}: {_code(value)}}},"
            if not name.isidentifier()
            else f"    {name}={_code(value)},"
            for name, value in params.items()
        ),
        ")",
        "best.fit(X, y)",
    ]
    return "\n".join(lines)


def _code(value):
    return repr(value.item() if isinstance(value, np.generic) else value)


def _estimator(record):
    given = record.facts.get("estimator")
    text = given.get("class", "") if isinstance(given, dict) else given or "unknown"
    return " ".join(str(text).split())[:300]


def table_of(record, metric):
    """Return the rows as an HTML table that the script sorts and filters."""
    means = record.means(metric)
    finished = np.flatnonzero(record.is_finished)
    order = finished[np.argsort(np.where(np.isnan(means[finished]), np.inf, -means[finished]))]
    if record.violation is not None:
        order = order[np.argsort(record.violation[order] > 0, kind="stable")]
    order = order[:_MOST_ROWS]
    scores = record.scores[metric].mean(axis=2)
    columns = {"row": order, "candidate": record.candidates[order]}
    columns |= {name: tags[order] for name, tags in record.tags.items()}
    if record.resources is not None:
        columns[record.resource] = record.resources[order]
    columns[metric] = means[order]
    columns["std"] = scores[order].std(axis=1)
    for name in record.objectives:
        if name != metric:
            columns[name] = record.means(name)[order]
    for name, values in record.constraints.items():
        columns.setdefault(name, values[order])
    if record.violation is not None:
        columns["feasible"] = np.where(record.is_feasible[order], "yes", "no")
    columns["seconds"] = np.nansum(
        [record.fit_seconds[order], record.score_seconds[order]], axis=(0, 2, 3)
    )
    for name in record.space.names:
        columns[name] = [record.params[row].get(name, "") for row in order]
    head = "".join(f"<th>{escape(str(name))}</th>" for name in columns)
    best = record.best_row(metric)
    body = []
    for i, row in enumerate(order.tolist()):
        cells = "".join(_cell(values[i]) for values in columns.values())
        kind = ' class="best"' if row == best else ""
        body.append(f'<tr data-row="{row}"{kind}>{cells}</tr>')
    return (
        '<input id="filter" type="search" placeholder="filter rows" aria-label="filter rows"> '
        f'<span id="count">{len(order)} of {len(order)} rows</span>'
        f'<div class="scroll"><table id="rows"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(value):
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td data-v="{value!r}">{escape(number(value))}</td>'.replace("nan", "NaN")
    return f"<td>{escape(str(value)[:200])}</td>"


def failures_of(record):
    """Return the failures as HTML; empty where there is none."""
    n = int(record.failed().sum())
    if not n and not record.failures:
        return ""
    parts = [f"<h2>Failures</h2><p>{n} fit{' has' if n == 1 else 's have'} no score.</p>"]
    if not record.failures:
        parts.append("<p>Tracebacks are in the journal of a search; a fitted one keeps none.</p>")
    for failure in list(record.failures)[:_MOST_FAILURES]:
        last = (failure.error.strip().splitlines() or ["?"])[-1][:200]
        parts.append(
            f"<details><summary>row {failure.row}, split {failure.split}: {escape(last)}</summary>"
            f"<pre>{escape(failure.error)}</pre></details>"
        )
    return "".join(parts)


def facts_of(record):
    """Return space, versions and seed as HTML."""
    facts = record.facts
    versions = ", ".join(f"{name} {v}" for name, v in (facts.get("versions") or {}).items() if v)
    lines = [f"search: {facts.get('search', 'unknown')}", f"estimator: {_estimator(record)}"]
    lines += [f"seed: {facts['seed']}"] if facts.get("seed") is not None else []
    lines += [f"versions: {versions}"] if versions else []
    text = "\n".join([str(SearchSpace(record.distributions)), "", *lines])
    return f"<pre>{escape(text)}</pre>"
