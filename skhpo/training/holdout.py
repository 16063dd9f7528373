"""Held-out rows of a fit, chosen by their content."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from .data import as_dict, n_rows
from .randomness import stream_seed

__all__ = ["holdout_rows"]

_WORDS_AT_ONCE = 2**20


def holdout_rows(
    X: Any, strata: NDArray[Any], fraction: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return sorted indices of training and held-out rows; ValueError if nothing can be held out.

    Rows are chosen by a keyed hash of their content: equal rows are on the same side, and the order
    of the rows does not matter. Each class in `strata` is split in the same proportion; its last
    distinct row is never held out.
    """
    digests = _digest_rows(X, stream_seed(seed, "validation"))
    groups, first, members, sizes = np.unique(
        digests, return_index=True, return_inverse=True, return_counts=True
    )
    # Groups of equal rows are sorted by their digests, that is at random. Each gets its relative
    # position in its stratum; the smallest positions of all strata are held out.
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


def _digest_rows(X: Any, seed: int) -> NDArray[Any]:
    """Return a hash of each row: the sum of its 32-bit words times random 64-bit numbers.

    Multilinear hashing (Lemire & Kaser, "Strongly universal string hashing is fast", 2014), mixed
    at the end because sums of evenly spaced rows are evenly spaced. Zeros add nothing, so that a
    row has the same hash in a CSR matrix as in an array.
    """
    columns = list(as_dict(X).values())
    words_per_row = [_words(column[:1]).shape[1] for column in columns]
    numbers = np.random.PCG64(seed).random_raw(sum(words_per_row))
    if scipy.sparse.issparse(X):
        return _mixed(_sums_of_sparse_rows(X, numbers))
    step = max(1, _WORDS_AT_ONCE // len(numbers))
    sums = np.zeros(n_rows(X), dtype=np.uint64)
    for start in range(0, len(sums), step):
        part, place = slice(start, start + step), 0
        for column, n_words in zip(columns, words_per_row, strict=True):
            words = _words(column[part]).astype(np.uint64)
            sums[part] += words @ numbers[place : place + n_words]
            place += n_words
    return _mixed(sums)


def _mixed(sums: NDArray[Any]) -> NDArray[Any]:
    # The last steps of SplitMix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number
    # generators", 2014).
    sums = (sums ^ (sums >> 30)) * np.uint64(0xBF58476D1CE4E5B9)
    sums = (sums ^ (sums >> 27)) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[Any] = sums ^ (sums >> 31)
    return mixed


def _sums_of_sparse_rows(X: Any, numbers: NDArray[Any]) -> NDArray[Any]:
    words = _words(X.data)
    places = X.indices.astype(np.int64)[:, None] * words.shape[1] + np.arange(words.shape[1])
    sums = np.zeros(X.nnz + 1, dtype=np.uint64)
    np.cumsum((words * numbers[places]).sum(1, dtype=np.uint64), out=sums[1:])
    of_rows: NDArray[Any] = sums[X.indptr[1:]] - sums[X.indptr[:-1]]
    return of_rows


def _words(rows: Any) -> NDArray[Any]:
    """Return the bytes of rows as unsigned integers of at most 32 bits."""
    if scipy.sparse.issparse(rows):
        rows = rows.toarray()  # type: ignore[attr-defined]
    rows = np.ascontiguousarray(rows)
    if rows.dtype == np.longdouble:  # some of its bytes are undefined
        rows = rows.astype(np.float64)
    kind = {1: np.uint8, 2: np.uint16}.get(rows.itemsize, np.uint32)
    words: NDArray[Any] = rows.reshape(len(rows), -1).view(kind)
    return words
