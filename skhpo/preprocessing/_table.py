"""Encoded tables, which know what is in their columns."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rows import RowSubset

__all__ = ["EncodedTable", "n_categories_of"]


class EncodedTable(np.ndarray):
    """An array whose first columns are categories, as integers, and the others numbers.

    It is like any array, but knows the numbers of categories. Rows of it know them as well; what
    is computed from it, also a selection of columns, does not.

    Parameters
    ----------
    array : ndarray of shape (n_samples, n_columns)
    n_categories : tuple of int
        Of the first columns; they have the integers from 0 to below these numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from skhpo.preprocessing import EncodedTable
    >>> table = EncodedTable(np.array([[2.0, 0.5], [1.0, 0.1]]), (3,))
    >>> table[:1].n_categories, (2 * table).n_categories
    ((3,), None)
    """

    n_categories: tuple[int, ...] | None = None

    def __new__(cls, array: NDArray[Any], n_categories: tuple[int, ...] | None) -> EncodedTable:
        table = np.asarray(array).view(cls)
        table.n_categories = n_categories
        return table

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]  # as scikit-learn takes rows
        of_rows = not isinstance(key, tuple) and key is not None and key is not Ellipsis
        if of_rows and isinstance(found, EncodedTable) and found.ndim == self.ndim:
            found.n_categories = self.n_categories
        return found

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The array itself, so that pickles can leave large ones where they are.
        return EncodedTable, (self.view(np.ndarray), self.n_categories)


def n_categories_of(X: Any) -> tuple[int, ...] | None:
    """Return the numbers of categories of the first columns of a table; None where unknown.

    They are known for an `EncodedTable`, and for a frame of pandas that begins with columns of the
    type "category" whose categories are 0, 1, 2, ...

    Examples
    --------
    >>> import pandas as pd
    >>> from skhpo.preprocessing import TableEncoder, n_categories_of
    >>> table = pd.DataFrame({"colour": ["red", "blue", "red"], "size": [1.0, 2.0, 3.0]})
    >>> len(n_categories_of(TableEncoder().fit_transform(table)))
    1
    >>> n_categories_of(table) is None
    True
    """
    if isinstance(X, RowSubset):
        X = getattr(X, "array", None)
    if isinstance(X, EncodedTable):
        return X.n_categories
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(X, pandas.DataFrame):
        return None
    sizes = [_n_codes(dtype) for dtype in X.dtypes]
    n_first = next((i for i, size in enumerate(sizes) if size is None), len(sizes))
    found = tuple(size for size in sizes[:n_first] if size is not None)
    return found if found and not any(sizes[n_first:]) else None


def _n_codes(dtype: Any) -> int | None:
    categories = getattr(dtype, "categories", None)
    if categories is None or list(categories) != list(range(len(categories))):
        return None
    return len(categories)
