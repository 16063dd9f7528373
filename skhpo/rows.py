"""Some rows of a large array, read where they are."""

from __future__ import annotations

import numpy as np

__all__ = ["RowSubset"]

_CHUNK_BYTES = 2**25


class RowSubset:
    """Rows of an array, not copied out of it until they are looked at.

    What ``X[train]`` is, for arrays too large to be copied for every fit, such as memory maps.

    Parameters
    ----------
    array : ndarray of shape (n_rows, ...)
    rows : ndarray of int, shape (n_samples,)

    Examples
    --------
    >>> import numpy as np
    >>> from skhpo.rows import RowSubset
    >>> some = RowSubset(np.arange(12).reshape(6, 2), np.array([4, 0, 2]))
    >>> some.shape, np.asarray(some[:2]).tolist()
    ((3, 2), [[8, 9], [0, 1]])
    """

    def __init__(self, array, rows):
        self.array = array
        self.rows = rows

    @property
    def shape(self):
        return (len(self.rows), *self.array.shape[1:])

    @property
    def ndim(self):
        return self.array.ndim

    @property
    def dtype(self):
        return self.array.dtype

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return RowSubset(self.array, self.rows[index])

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array[self.rows], dtype=dtype)

    def chunks(self):
        """Yield the rows as arrays of moderate size, at least one."""
        row_bytes = max(1, self.array[:1].nbytes)
        step = max(1, _CHUNK_BYTES // row_bytes)
        for start in range(0, max(1, len(self)), step):
            yield np.asarray(self[start : start + step])
