"""Data of several inputs, and of sequences, in the one form that networks are fed from: a dict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from .._compat import num_samples
from ..training.data import as_array
from ..training.sequences import Sequences

__all__ = ["arranged"]


def arranged(net: Any, X: Any, y: Any, *, reset: bool) -> Any:
    """Return data of several inputs or of sequences as a dict, and anything else unchanged.

    * A list or tuple of as many arrays as the module has inputs gets their positions as names.
    * A frame with columns of arrays becomes a dict of its columns.
    * With ``collate="pad"`` rows of any length are `Sequences`.

    Without `y` the first two are told from samples by what ``fit`` had.
    """
    if has_columns_of_arrays(X):
        X = _as_dict(X, net.collate)
    elif _are_inputs(net, X, y, reset):
        X = dict(enumerate(X))
    if net.collate != "pad":
        return X
    if isinstance(X, Mapping):
        made = {name: _sequences(value, name) for name, value in X.items()}
        return {name: X[name] if value is None else value for name, value in made.items()}
    single = np.asarray(as_array(X)) if isinstance(X, torch.Tensor | np.ndarray) else X
    if isinstance(single, np.ndarray) and single.dtype != object:
        return {0: Sequences.of(single)} if single.ndim > 1 else X
    found = _sequences(X, "X")
    return X if found is None else {0: found}


def has_columns_of_arrays(X: Any) -> bool:
    """Whether X is a frame of which a column has an array in each row."""
    if not (hasattr(X, "columns") and hasattr(X, "shape") and len(X.shape) == 2 and len(X)):
        return False
    return any(_is_sequence(_first(column)) for _, column in _columns(X))


def _columns(X: Any) -> Iterable[tuple[Any, Any]]:
    """Return pairs of a name and a column; names of pandas may occur twice."""
    return X.items() if hasattr(X, "items") else [(name, X[name]) for name in X.columns]


def _first(column: Any) -> Any:
    return column.iloc[0] if hasattr(column, "iloc") else column[0]


def _is_sequence(value: Any) -> bool:
    of_polars = type(value).__module__.partition(".")[0] == "polars"
    return isinstance(value, list | tuple) or of_polars or np.ndim(value) > 0


def _as_dict(X: Any, collate: Any) -> dict[Any, Any]:
    columns: dict[Any, Any] = {}
    for name, column in _columns(X):
        if name in columns:
            raise ValueError(
                f"columns of X that have arrays must have different names, but {name!r} occurs "
                "twice; rename one"
            )
        columns[name] = _column(column, collate)
    return columns


def _column(column: Any, collate: Any) -> Any:
    """Return a column of a frame: an array, or the list of its arrays where they differ."""
    if not _is_sequence(_first(column)):
        return np.asarray(column)
    rows = [np.asarray(row) for row in column]
    same = len({row.shape for row in rows}) == 1
    return np.stack(rows) if same and collate != "pad" else rows


def _are_inputs(net: Any, X: Any, y: Any, reset: bool) -> bool:
    """Whether a list or tuple has an array for each input, rather than samples."""
    if type(X) not in (list, tuple) or not X or not all(hasattr(one, "shape") for one in X):
        return False
    if any(len(one.shape) == 0 for one in X) or len({num_samples(one) for one in X}) > 1:
        return False
    if not reset:
        return [*net._integer_inputs] == [*range(len(X))] and len(X) > 1
    return y is not None and len(X) != num_samples(y) == num_samples(X[0])


def _sequences(value: Any, name: str) -> Any:
    """Return rows as `Sequences` if they are such, else None."""
    if isinstance(value, Sequences):
        return value
    if isinstance(value, np.ndarray) and (value.dtype != object or value.ndim != 1):
        return None
    if not isinstance(value, list | tuple | np.ndarray) and not hasattr(value, "iloc"):
        return None
    rows = [as_array(row) for row in value]
    if not rows or not _is_sequence(rows[0]) or isinstance(rows[0], str):
        return None
    return Sequences.of(rows, name)
