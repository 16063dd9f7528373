"""The columns of tables of several kinds, as arrays."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

__all__ = ["as_categories", "as_numbers", "columns_of"]

# Names of types, so that pandas need not be imported.
_MISSING = {"NoneType", "NAType", "NaTType"}
_DATES = {"date", "datetime", "time", "timedelta", "Timestamp", "Timedelta", "Period"}


def columns_of(X: Any) -> list[NDArray[Any]]:
    """Return the columns of a table: float64 where they are of numbers, else objects.

    NaN is what is missing, in both. Columns of pandas' type "category" are objects.

    Parameters
    ----------
    X : frame of pandas or polars, table of pyarrow, or array-like of shape (n_samples, n_columns)

    Raises
    ------
    ValueError
        If X has not two dimensions, or a column is neither of numbers nor of categories.
    """
    if hasattr(X, "iloc") and X.ndim == 2:  # names may occur twice
        return [_of_pandas(name, X.iloc[:, i]) for i, name in enumerate(X.columns)]
    names = getattr(X, "column_names", getattr(X, "columns", None))
    if names is not None:
        return [_converted(name, np.asarray(X[name].to_numpy())) for name in names]
    if isinstance(X, list | tuple):
        X = np.array(X, dtype=object)  # else numbers would become strings where a row has one
    array = check_array(X, dtype=None, ensure_all_finite=False, input_name="X")
    return [_converted(i, column) for i, column in enumerate(array.T)]


def _of_pandas(name: Any, series: Any) -> NDArray[Any]:
    kind = getattr(series.dtype, "kind", "O")
    if kind in "biuf":
        numbers_of: NDArray[Any] = series.to_numpy(dtype=np.float64, na_value=np.nan)
        return numbers_of
    if kind in "mM":
        return _converted(name, np.asarray(series))
    values = np.array(series, dtype=object)
    values[np.asarray(series.isna(), dtype=bool)] = np.nan
    if not hasattr(series.dtype, "categories"):
        return _converted(name, values)
    labels = {type(label) for label in series.dtype.categories}
    if not all(issubclass(label, str | numbers.Number) for label in labels):
        kept = values == values
        values[kept] = [str(value) for value in values[kept]]
    return values


def _converted(name: Any, values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    if values.dtype.kind in "mM":
        _refuse(name, values.dtype)
    values = values.astype(object)
    kinds = set(map(type, values.tolist()))
    if any(kind.__name__ in _MISSING for kind in kinds):
        missing = [type(value).__name__ in _MISSING for value in values]
        values[missing] = np.nan
        kinds = {kind for kind in kinds if kind.__name__ not in _MISSING} | {float}
    wrong = next((kind for kind in kinds if not issubclass(kind, str | numbers.Real)), None)
    if wrong is not None and wrong.__name__ != "Decimal":
        _refuse(name, wrong.__name__)
    return values if any(issubclass(kind, str) for kind in kinds) else values.astype(np.float64)


def _refuse(name: Any, kind: Any) -> None:
    fix = "convert it to one of them, or leave it out"
    if str(kind).partition("[")[0] in (*_DATES, "datetime64", "timedelta64"):
        fix = "convert it, as by (dates - dates.min()) / numpy.timedelta64(1, 'D')"
    raise ValueError(
        f"columns of X must be of numbers or of categories (strings, or pandas' type 'category'), "
        f"but column {name!r} is of the type {kind}; {fix}"
    )


def as_numbers(name: Any, column: NDArray[Any]) -> NDArray[Any]:
    """Return a column that was of numbers in ``fit`` as float64; ValueError for anything else."""
    try:
        found: NDArray[Any] = column.astype(np.float64)
    except (TypeError, ValueError):
        odd = next(value for value in column if isinstance(value, str))
        raise ValueError(
            f"column {name!r} of X must be of numbers, but has {odd!r}; convert it, or name it in "
            "`categorical_features`"
        ) from None
    if np.isinf(found).any():
        raise ValueError(f"column {name!r} of X must be finite, but has infinity; clip it")
    return found


def as_categories(name: Any, column: NDArray[Any]) -> NDArray[Any]:
    """Return a column of categories as objects; ValueError if it mixes strings and numbers."""
    column = column.astype(object)
    kinds = {isinstance(value, str) for value in column if value == value}
    if len(kinds) > 1:
        raise ValueError(
            f"column {name!r} of X must have categories of one type, but mixes strings and "
            "numbers; convert it, as by .astype(str)"
        )
    return column
