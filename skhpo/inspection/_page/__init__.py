"""One page about a search.

Its pictures are SVG written here, a few kilobytes each, so that a line knows its row and a page of
500 rows stays below half a megabyte: a plotting library's script would be several, in every page.
"""

from __future__ import annotations

import os
from html import escape

import numpy as np

from ...files import write_atomically
from .._importance import hyperparameter_importance
from .._reading import read_search
from ._assets import SCRIPT, STYLE
from ._front import constraints_of, front_section
from ._pictures import draw_curves, draw_effect, draw_importance, draw_incumbent, draw_parallel
from ._text import cards, code_of, facts_of, failures_of, how_sure, table_of
from ._timeline import draw_timeline

__all__ = ["report"]

# Parameters whose effects are drawn: the most important ones.
_N_EFFECTS = 4
# Objectives for each of which the page says what matters to it.
_MOST_OBJECTIVES = 4
# More lines are a blot.
_MOST_LINES = 1000


def report(source, path="report.html", *, metric=None, title=None, random_state=0):
    """Write one self-contained page about a search.

    It says what was searched, what is best and how sure that is, where there are several objectives
    their front, which rows keep the constraints, which parameters matter to each objective and how,
    who went how far, which worker ran what when, which fits failed and why, and the lines of
    Python that fit the best again. Its table sorts and filters; a line or a dot shows its
    configuration. It needs no network.

    Parameters
    ----------
    source : estimator, str, path-like, (dict, dict or list of dict), or SearchRecord
        As of `read_search`: a journal may be that of a search that runs.
    path : str or path-like, default="report.html"
        Where to write it; replaced if it is there.
    metric : str or None, default=None
        Which score comes first, and orders rows; None is the one that counts.
    title : str or None, default=None
        Of the page; None is the name of the search.
    random_state : int, RandomState or None, default=0
        Of importances and effects.

    Returns
    -------
    str
        The absolute path of the page.

    Raises
    ------
    ValueError
        If there is no such metric, or `path` is no HTML file.
    StorageError
        If it cannot be written.
    TypeError, NotFittedError, JournalError
        As of `read_search`.

    Examples
    --------
    >>> import os, tempfile
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import RandomizedSearchCV
    >>> from sklearn.svm import SVC
    >>> from skhpo.inspection import report
    >>> space = {"C": loguniform(1e-3, 1e3), "gamma": loguniform(1e-4, 1)}
    >>> search = RandomizedSearchCV(SVC(), space, random_state=0)
    >>> path = os.path.join(tempfile.mkdtemp(), "report.html")
    >>> os.path.getsize(report(search.fit(*load_iris(return_X_y=True)), path)) < 100_000
    True
    """
    path = os.path.abspath(os.fspath(path))
    if not path.lower().endswith((".html", ".htm")):
        raise ValueError(
            f"a report is an HTML file, but got {path!r}; give a path like 'report.html'"
        )
    record = read_search(source)
    metric = record.checked_metric(metric)
    name = title or record.facts.get("search") or "A search"
    write_atomically(path, _page(record, metric, name, random_state).encode(), sync=False)
    return path


def _page(record, metric, title, random_state):
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f'<div class="sub">{escape(_subtitle(record))}</div>',
        cards(record, metric),
    ]
    if record.best_row(metric) is None:
        parts.append("<p>No row has a score yet.</p>")
    else:
        parts += _sections(record, metric, random_state)
    parts += [
        failures_of(record),
        "<h2>What was searched</h2>",
        facts_of(record),
        f'<div id="tip"></div><script>{SCRIPT}</script></body></html>',
    ]
    return "".join(parts)


def _subtitle(record):
    n = len(record.space.names)
    text = f"{n} parameter{'' if n == 1 else 's'}"
    if record.resources is not None:
        text += f", {record.resource} at {', '.join(map(str, record.levels))}"
    unfinished = int(record.has_fit.any(axis=(1, 2)).sum() - record.is_finished.sum())
    return text + (f"; {unfinished} rows lack some of the splits" if unfinished else "")


def _sections(record, metric, random_state):
    sure = how_sure(record, metric)
    yield "<h2>The best</h2>"
    yield f"<p>{escape(sure)}</p>" if sure else ""
    yield f'<div class="row"><pre>{escape(code_of(record, metric))}</pre>'
    yield f"<div>{draw_incumbent(record, metric)}</div></div>"
    yield constraints_of(record)
    yield from front_section(record)
    others = [name for name in record.objectives if name != metric]
    for name in [metric, *others][:_MOST_OBJECTIVES]:
        level = _level_for_models(record, name)
        if level is not None:
            yield from _what_matters(record, name, level, random_state, bool(others))
    level = _level_for_models(record, metric)
    if level is None:
        at_one = "" if record.resources is None else f" at one level of {record.resource}"
        yield "<h2>What matters</h2><p>Importances need ten rows with scores that differ"
        yield f"{escape(at_one)}; this search has fewer.</p>"
    if len(record.finished_levels) > 1:
        yield f"<h2>Rung by rung</h2>{draw_curves(record, metric)}"
    if level is None:
        level = "all" if record.resources is None else _top_level(record, metric)
    if 0 < len(record.rows(metric, level)) <= _MOST_LINES:
        shown = "" if record.resources is None else f", {record.resource} = {level}"
        yield f"<h2>Configurations{escape(shown)}</h2>{draw_parallel(record, metric, level)}"
    if record.starts is not None and np.isfinite(record.starts).any():
        yield f"<h2>Who ran what</h2>{draw_timeline(record)}"
    yield f"<h2>All rows</h2>{table_of(record, metric)}"


def _what_matters(record, metric, level, random_state, is_one_of_several):
    importance = hyperparameter_importance(
        record, metric=metric, resource=level, n_bootstrap=50, random_state=random_state
    )
    shown = "" if record.resources is None else f" with {record.resource} = {level}"
    to = f" to {escape(metric)}" if is_one_of_several else ""
    yield f"<h2>What matters{to}</h2><p>A random forest of {importance.n_rows} rows"
    yield f"{escape(shown)}; bars have 95% intervals."
    if np.isfinite(importance.noise_share):
        yield f" Chance of folds and seeds is {importance.noise_share:.1%} of the variance."
    yield f"</p>{draw_importance(importance)}<div class='row four'>"
    for name in importance.names[:_N_EFFECTS]:
        yield f"<div>{draw_effect(record, name, metric, level, random_state)}</div>"
    yield "</div>"


def _level_for_models(record, metric):
    """Return the highest level of which something can be learned; None where there is none."""
    for level in record.levels[::-1] or ["all"]:
        rows = record.rows(metric, level)
        if len(rows) >= 10 and np.ptp(record.means(metric)[rows]) > 0:
            return level
    return None


def _top_level(record, metric):
    """Return the highest level that has scores."""
    return next(level for level in reversed(record.levels) if len(record.rows(metric, level)))
