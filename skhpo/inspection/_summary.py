"""A search in a few lines of text, for a terminal."""

from __future__ import annotations

import numpy as np

from ._drawing import short

__all__ = ["summary_lines"]


def summary_lines(record, *, metric=None, n_rows=10):
    """Return the state of a search and its leading rows as lines of text.

    Parameters
    ----------
    record : SearchRecord
    metric : str or None, default=None
        Which score; None is the one that counts.
    n_rows : int, default=10

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If there is no such metric.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skhpo.inspection import read_search, summary_lines
    >>> search = GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2, 3]})
    >>> record = read_search(search.fit(*load_iris(return_X_y=True)))
    >>> print(*summary_lines(record, n_rows=2)[1:], sep="\\n")
    row  score    configuration
    2    0.96     max_depth=3
    1    0.93333  max_depth=2
    """
    metric = record.checked_metric(metric)
    means = record.means(metric)
    n_fits = int(record.has_fit.sum()) - record.n_skipped
    n_failed = int(record.failed(metric).sum())
    seconds = np.nansum(record.fit_seconds + record.score_seconds)
    lines = [
        f"{record.facts.get('search', 'search')}: {n_fits} fits in "
        f"{int(record.is_finished.sum())} finished rows, {n_failed} failed; "
        f"{seconds:.1f} s in fits, {seconds / max(n_fits, 1):.2f} s each"
    ]
    lines += _time_left(record, seconds)
    finished = np.flatnonzero(~np.isnan(means))
    if record.violation is not None:
        violation = record.violation[finished]
        n, kept = int(record.is_finished.sum()), int(record.is_feasible[record.is_finished].sum())
        lines.append(
            f"{kept} of {n} rows keep the constraints, which come first; {record.n_skipped} fits "
            "were not made, because one is broken"
        )
    else:
        violation = np.zeros(len(finished))
    order = finished[np.lexsort((-means[finished], violation))][:n_rows]
    if not len(order):
        return [*lines, "no row has a score yet"]
    heads = ["row", metric, *([record.resource] if record.resource else []), "configuration"]
    cells = [heads]
    for row in order.tolist():
        level = [str(record.resources[row])] if record.resource else []
        cells.append([str(row), f"{means[row]:.5g}", *level, _configuration(record.params[row])])
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads) - 1)]
    for row in cells:
        lines.append("  ".join([*map(str.ljust, row, widths), row[-1]]))
    last = {failure.error.strip().splitlines()[-1][:100] for failure in record.failures[:50]}
    lines += [f"failed: {text}" for text in sorted(last)[:3]]
    return lines


def _configuration(params):
    texts = (
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={short(value, 20)}"
        for name, value in params.items()
    )
    return ", ".join(texts)


def _time_left(record, seconds):
    """Return a line about what is left, where the number of candidates was given."""
    planned = (record.facts.get("settings") or {}).get("n_iter")
    n_rows = int(record.is_finished.sum())
    if not isinstance(planned, int) or record.resources is not None or not n_rows:
        return []
    left = max(planned - n_rows, 0)
    return [f"{left} of {planned} rows left: about {left * seconds / n_rows:.0f} s of one worker"]
