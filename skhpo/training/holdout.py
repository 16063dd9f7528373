"""Rows held out of a fit, chosen by their content."""

from __future__ import annotations

import hashlib

import numpy as np
import scipy.sparse

from .data import as_dict, n_rows
from .randomness import stream_seed

__all__ = ["holdout_rows"]


def holdout_rows(X, strata, fraction, seed):
    """Choose the rows on which a fit checks itself.

    A row is chosen by a keyed hash of its content, so that rows with the same content end on the
    same side, and the choice depends neither on the order of the rows nor on a generator.

    Parameters
    ----------
    X : ndarray, CSR matrix or dict of ndarray
    strata : ndarray of shape (n_samples,)
        Classes, each of which is split in the same proportion; their last distinct row is never
        held out.
    fraction : float
    seed : int

    Returns
    -------
    train, valid : ndarray of int64
        Sorted.

    Raises
    ------
    ValueError
        If nothing could be held out.
    """
    digests = _digest_rows(X, stream_seed(seed, "validation").to_bytes(8, "little"))
    groups, first, members, sizes = np.unique(
        digests, return_index=True, return_inverse=True, return_counts=True
    )
    # Groups are sorted by their digests, that is at random. Each gets its relative place among
    # those of its stratum; the smallest places of all strata are held out.
    places = np.empty(len(groups))
    of_stratum = strata[first]
    for number, stratum in enumerate(np.unique(of_stratum)):
        mine = np.flatnonzero(of_stratum == stratum)
        offset = stream_seed(seed, "validation", str(number)) / 2**63
        places[mine] = (np.arange(len(mine)) + offset) / len(mine)
        places[mine[-1]] = np.inf
    order = np.argsort(places, kind="stable")
    order = order[np.isfinite(places[order])]
    wanted = max(1, round(fraction * len(strata)))
    n_groups = np.searchsorted(np.cumsum(sizes[order]), wanted, side="right")
    chosen = np.zeros(len(groups), dtype=bool)
    chosen[order[: max(1, n_groups)]] = True
    held_out = chosen[members]
    if not held_out.any():
        raise ValueError(
            f"validation_fraction={fraction} needs at least two distinct rows of a class, "
            f"but n_samples={len(strata)}, {len(groups)} of them distinct"
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _digest_rows(X, key):
    n = n_rows(X)
    digests = np.empty(n, dtype=np.uint64)
    columns = list(as_dict(X).values())
    for i in range(n):
        digest = hashlib.blake2b(key=key, digest_size=8)
        for column in columns:
            for part in _content(column, i):
                digest.update(np.ascontiguousarray(part))
        digests[i] = int.from_bytes(digest.digest(), "little")
    return digests


def _content(column, i):
    if scipy.sparse.issparse(column):
        part = slice(column.indptr[i], column.indptr[i + 1])
        return column.indices[part].astype(np.int64), column.data[part]
    return (column[i],)
