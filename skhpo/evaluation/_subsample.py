"""Training rows as a resource: subsamples that grow, stratified where there are classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import type_of_target

from ..rows import Inputs
from ._seeds import derive_seed

__all__ = ["nested_subsamples"]


def nested_subsamples(y: Any, train: Any, seed: int, split: int) -> NDArray[np.intp]:
    """Order training rows so that every leading part is a good subsample.

    Parameters
    ----------
    y : array-like or None
        Target of all rows.
    train : ndarray of int
        Training rows of the split.
    seed, split : int

    Returns
    -------
    ndarray of int
        `train` reordered. The first ``n`` rows are a subsample of size ``n`` and part of every
        larger one. For a classification target the first rows show every class once, and class
        frequencies in any leading part differ from those in `train` by about one row.
    """
    rng = np.random.default_rng(derive_seed(seed, "n_samples", split))
    rows = rng.permutation(train)
    if y is None or isinstance(y, Inputs) or type_of_target(y) not in {"binary", "multiclass"}:
        return rows
    labels = np.ravel(y)[rows]  # a column counts as a list
    when = np.empty(len(rows))
    for label in np.unique(labels):
        (members,) = np.nonzero(labels == label)
        when[members] = (np.arange(len(members)) + rng.uniform()) / len(members)
        when[members[0]] -= 1.0
    return rows[np.argsort(when, kind="stable")]
