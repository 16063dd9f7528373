"""Data held out of a fit to check the network on while it is trained."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.sparse
from sklearn.metrics import get_scorer

from ..rows import RowSubset
from ..training.checks import Checks
from ..training.data import as_dict
from ..training.holdout import holdout_rows

__all__ = ["checks_of", "hold_out"]


def hold_out(net, X, y, weight):
    """Split training data into what a net trains on and its checks on the rest.

    Parameters
    ----------
    net : estimator
        Initialized.
    X : ndarray, CSR matrix, dict of ndarray, container as given, or torch Dataset
    y : ndarray
        Encoded targets.
    weight : ndarray of shape (n_samples,) or None

    Returns
    -------
    dataset : Rows or Dataset
    checks : Checks

    Raises
    ------
    ValueError
        If `X` has no rows of numbers, or nothing could be held out.
    """
    if not all(_has_numbers(column) for column in as_dict(X).values()):
        raise ValueError(
            f"validation_fraction={net.validation_fraction} needs X as an array of numbers, but X "
            f"is a {type(X).__name__}; use train_split for it"
        )
    seed = net._seed_of("validation")
    train, valid = holdout_rows(X, net._strata(y), net.validation_fraction, seed)
    known = net._decode(y[valid])
    if net._slices_batches() and net._slices_batches(training=False):
        rows = net._as_dataset(X, y, weight, training=True)
        valid_rows = rows.subset(valid) if rows.resident else rows.view(valid)
        return rows.view(train), checks_of(net, valid_rows, known)

    def part(rows, *, training):
        some = {k: v[rows] for k, v in X.items()} if isinstance(X, Mapping) else X[rows]
        of_rows = None if weight is None else weight[rows]
        return net._as_dataset(some, y[rows], of_rows, training=training)

    return part(train, training=True), checks_of(net, part(valid, training=False), known)


def _has_numbers(column):
    if scipy.sparse.issparse(column):
        return True
    return isinstance(column, np.ndarray | RowSubset) and column.dtype.kind in "biuf"


def checks_of(net, valid, y):
    """Return the checks of a net on rows held out, by what `monitor` says.

    Parameters
    ----------
    net : estimator
        Initialized.
    valid : Rows or Dataset
        With encoded targets.
    y : ndarray
        Their targets as the user knows them.
    """
    scorer = None if net.monitor == "valid_loss" else get_scorer(net.monitor)
    return Checks(net, valid, y, scorer)
