"""Whether a seed changes what an estimator learns."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._compat import safe_indexing
from ..rows import as_given

__all__ = ["check_seeds_matter"]

_MOST_ROWS = 200
# Predictions that differ by a smaller share of the largest one are the same.
_SAME = 1e-6


def check_seeds_matter(members: Sequence[Any], method: str, X: Any) -> None:
    """Refuse members that differ in nothing but their seeds.

    They are compared where they were fitted, and at rows with the columns of different ones: trees
    that differ may be right about all that they were fitted on.

    Parameters
    ----------
    members : sequence of estimator
        Fitted under different seeds; the first two are compared.
    method : str
        What they predict with.
    X : array-like
        What they were fitted on.

    Raises
    ------
    ValueError
        If they predict the same. Where rows have no columns to mix, this is a warning.
    """
    rng = np.random.default_rng(0)
    some = X = as_given(X)
    if isinstance(X, np.ndarray) or hasattr(X, "iloc"):
        some = safe_indexing(X, rng.permutation(len(X))[:_MOST_ROWS])
    if not _predict_alike(members, method, some):
        return
    message = (
        "members='seeds' averages what differs by the seed, but members of "
        f"{type(members[0]).__name__} predict the same under two seeds; use best_estimator_, or "
        "members='refit'"
    )
    mixed = _mixed(some, rng)
    if mixed is None:
        warnings.warn(message, UserWarning, stacklevel=4)
    elif _predict_alike(members, method, mixed):
        raise ValueError(message)


def _mixed(X: Any, rng: np.random.Generator) -> Any:
    """Return rows with the columns of different rows; None for what has none."""
    if hasattr(X, "iloc"):
        mixed = X.copy()
        for j in range(X.shape[1]):
            mixed.isetitem(j, X.iloc[rng.permutation(len(X)), j].array)
        return mixed
    if isinstance(X, np.ndarray) and X.ndim == 2:
        return rng.permuted(X, axis=0)
    return None


def _predict_alike(members: Sequence[Any], method: str, X: Any) -> bool:
    first, second = (np.asarray(getattr(member, method)(X)) for member in members[:2])
    if first.shape != second.shape:
        return False
    if first.dtype.kind != "f":
        return bool(np.array_equal(first, second))
    return bool(np.abs(first - second).max() <= _SAME * np.abs(first).max())
