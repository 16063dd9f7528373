"""From a table of mixed columns to an array for a network."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OrdinalEncoder
from sklearn.utils.validation import check_is_fitted, validate_data

from .._compat import StrOptions, feature_names, fit_context, output_container
from ..arguments import COUNT, Number
from ._frames import as_categories, as_numbers, columns_of
from ._table import EncodedTable

__all__ = ["TableEncoder"]

# Integers of a category that ``fit`` has not seen, and of a missing one; the others follow.
_UNKNOWN, _MISSING, _FIRST = 0, 1, 2
# With min_frequency="auto": columns with more categories are those in which some count as one, and
# the rows below which they do (docs/benchmarks/table_encoder.md).
_MANY, _RARE = 20, 10


class TableEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Encode a table of mixed columns for a network with embeddings.

    Columns of categories come first, as integers: 0 for a category that ``fit`` has not seen, 1
    where it is missing, and from 2 on the categories in sorted order. Columns of numbers follow as
    they are; what is missing there is filled in, and marked in further columns of 0 and 1 at the
    end. The array knows how many categories there are (`EncodedTable`), from which the module
    `skhpo.modules.TabularMLP` learns the sizes of its embeddings.

    Parameters
    ----------
    categorical_features : "from_dtype" or array-like of str, int or bool, default="from_dtype"
        Which columns are categories. "from_dtype": those with strings, and those of the type
        "category"; truth values are numbers. Or names, positions or a mask of columns.
    min_frequency : int, float, "auto" or None, default="auto"
        Rarer categories of a column (fewer rows, or a smaller share) count as one. "auto": those
        with fewer than 10 rows, in columns with more than 20 categories; None: no category.
    max_categories : int or None, default=None
        Most categories of a column; the rarest ones count as one.
    imputation : {"mean", "median", "most_frequent"}, default="mean"
        What of a column of numbers is filled in where one is missing.

    Attributes
    ----------
    n_categories_ : tuple of int
        Integers of each column of categories.
    encoder_ : OrdinalEncoder or None
        Fitted on the columns of categories; None if there are none.
    imputer_ : SimpleImputer or None
        Fitted on the columns of numbers.
    categorical_ : ndarray of bool, shape (n_features,)
        Which columns are categories.
    n_features_in_ : int
        Columns of `X`.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, where they are strings.

    See Also
    --------
    skhpo.modules.TabularMLP : The network that takes its output.
    sklearn.compose.make_column_transformer : Any transformers, column by column.
    sklearn.preprocessing.OneHotEncoder : A column for each category.

    Notes
    -----
    Columns may be of pandas (also of its nullable and pyarrow types), polars, pyarrow, or those of
    an array. What is missing at prediction but was not in ``fit`` is an unseen category, or is
    filled in without a mark. With ``set_output(transform="pandas")`` the categories are columns of
    the type "category", which scikit-learn's gradient boosting knows, too.

    Examples
    --------
    >>> import pandas as pd
    >>> from skhpo.preprocessing import TableEncoder
    >>> X = pd.DataFrame({"age": [31.0, None, 55.0], "job": ["cook", "nurse", None]})
    >>> encoder = TableEncoder().fit(X)
    >>> encoder.get_feature_names_out().tolist()
    ['job', 'age', 'missingindicator_age']
    >>> encoder.transform(X).tolist()
    [[2.0, 31.0, 0.0], [3.0, 43.0, 1.0], [1.0, 55.0, 0.0]]
    """

    _parameter_constraints = {
        "categorical_features": [StrOptions({"from_dtype"}), "array-like"],
        "min_frequency": [
            *(StrOptions({"auto"}), COUNT, Number(numbers.Real, 0, 1, closed="neither"), None)
        ],
        "max_categories": [COUNT, None],
        "imputation": [StrOptions({"mean", "median", "most_frequent"})],
    }

    # By column, the integers that those of `encoder_` become; None: the same.
    _merged: list[NDArray[Any]] | None = None

    def __init__(
        self,
        *,
        categorical_features: Any = "from_dtype",
        min_frequency: float | str | None = "auto",
        max_categories: int | None = None,
        imputation: str = "mean",
    ) -> None:
        self.categorical_features = categorical_features
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.imputation = imputation

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = tags.input_tags.string = tags.input_tags.allow_nan = True
        return tags

    @fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None) -> TableEncoder:
        """Learn the categories, and what to fill in.

        Parameters
        ----------
        X : frame or array-like of shape (n_samples, n_columns)
            The table.
        y : None
            Ignored.

        Returns
        -------
        self : TableEncoder
            The fitted encoder.

        Raises
        ------
        ValueError
            If a column is neither of numbers nor of categories, or a name is unknown.
        """
        columns = self._columns(X, reset=True)
        self.categorical_ = self._find_categorical(columns)
        categories, others = self._parts(columns)
        self.encoder_: Any = None
        self.imputer_: Any = None
        self.n_categories_: tuple[int, ...] = ()
        if categories is not None:
            self.encoder_ = OrdinalEncoder(
                handle_unknown="use_encoded_value",
                unknown_value=-1,
                encoded_missing_value=-1,
                min_frequency=None if self.min_frequency == "auto" else self.min_frequency,
                max_categories=self.max_categories,
            ).fit(categories)
            self._has_missing = _is_missing(categories).any(axis=0)
            self._merged = None
            if self.min_frequency == "auto":
                self._merged = [_merged_if_rare(codes) for codes in self._codes(categories).T]
            self.n_categories_ = tuple(int(1 + n) for n in self._codes(categories).max(axis=0))
        if others is not None:
            self.imputer_ = SimpleImputer(
                strategy=self.imputation, add_indicator=True, keep_empty_features=True
            ).fit(others)
        return self

    def transform(self, X: Any) -> Any:
        """Encode a table.

        Parameters
        ----------
        X : frame or array-like of shape (n_samples, n_columns)
            A table with the columns of ``fit``.

        Returns
        -------
        table : EncodedTable of shape (n_samples, n_columns_out)
            Of float64; a frame after ``set_output``.

        Raises
        ------
        ValueError
            If a column that was of numbers in ``fit`` no longer is, or names differ.
        """
        check_is_fitted(self)
        categories, others = self._parts(self._columns(X, reset=False))
        parts = [] if categories is None else [self._codes(categories)]
        if others is not None:
            parts.append(self.imputer_.transform(others))
        table = np.concatenate(parts, axis=1, dtype=np.float64)
        if output_container(self) != "pandas":
            return EncodedTable(table, self.n_categories_)
        return self._as_frame(table, getattr(X, "index", None))

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return the names of the columns: categories, numbers, marks of what was missing.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns of `X`, if ``fit`` has seen none.

        Returns
        -------
        names : ndarray of str
            One for each column of the output.
        """
        check_is_fitted(self)
        names = feature_names(self, input_features)
        found = [names[self.categorical_]]
        if self.imputer_ is not None:
            found.append(self.imputer_.get_feature_names_out(names[~self.categorical_]))
        return np.concatenate(found)

    def _columns(self, X: Any, *, reset: bool) -> list[NDArray[Any]]:
        columns = columns_of(X)
        if not columns:
            raise ValueError("X must have at least one column, but has none")
        if not hasattr(X, "shape"):
            X = np.empty((len(columns[0]), len(columns)))
        validate_data(self, X, reset=reset, skip_check_array=True)
        return columns

    def _find_categorical(self, columns: list[NDArray[Any]]) -> NDArray[np.bool_]:
        given = self.categorical_features
        if isinstance(given, str):
            return np.array([column.dtype == object for column in columns])
        given, found = np.asarray(given), np.zeros(len(columns), dtype=bool)
        if given.dtype.kind in "US" or given.dtype == object:
            names = list(getattr(self, "feature_names_in_", ()))
            unknown = [name for name in given.tolist() if name not in names]
            if unknown:
                raise ValueError(
                    f"categorical_features must name columns of X, but {unknown[0]!r} is none of "
                    f"{names}"
                )
            given = np.array([names.index(name) for name in given.tolist()], dtype=int)
        elif given.dtype.kind == "b" and given.shape != found.shape:
            raise ValueError(
                f"categorical_features, as a mask, must have a value for each of the "
                f"{len(found)} columns of X, but has {given.size}"
            )
        elif given.size and given.dtype.kind != "b":
            known = range(-len(found), len(found))
            wrong = [i for i in given.ravel().tolist() if i not in known]
            given = given.astype(int)
            if wrong:
                raise ValueError(
                    f"categorical_features must be positions among the {len(found)} columns of X, "
                    f"but has {wrong[0]!r}"
                )
        found[given if given.size else []] = True
        return found

    def _parts(
        self, columns: list[NDArray[Any]]
    ) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
        """Return the columns of categories (objects) and of numbers, each None if there is none."""
        names = getattr(self, "feature_names_in_", range(len(columns)))
        named = list(zip(names, columns, self.categorical_, strict=True))
        parts = (
            [as_categories(name, column) for name, column, is_one in named if is_one],
            [as_numbers(name, column) for name, column, is_one in named if not is_one],
        )
        first, second = (np.stack(part, axis=1) if part else None for part in parts)
        return first, second

    def _codes(self, categories: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = self.encoder_.transform(categories) + _FIRST
        found[found < _FIRST] = _UNKNOWN
        found[_is_missing(categories) & self._has_missing] = _MISSING
        for column, codes in enumerate(self._merged or ()):
            found[:, column] = codes[found[:, column].astype(int)]
        return found

    def _as_frame(self, table: NDArray[Any], index: Any) -> Any:
        import pandas as pd  # type: ignore[import-untyped]

        codes, n_codes = table[:, : len(self.n_categories_)].astype(int), self.n_categories_
        parts = [pd.Categorical(c, range(n)) for c, n in zip(codes.T, n_codes, strict=True)]
        others = list(table[:, len(n_codes) :].T)
        frame = pd.DataFrame(dict(enumerate([*parts, *others])))
        return frame if index is None else frame.set_axis(index)


def _merged_if_rare(codes: NDArray[Any]) -> NDArray[Any]:
    """Return integers in place of those of a column, where rare categories of many are one."""
    n_rows = np.bincount(codes.astype(int), minlength=_FIRST)
    is_rare = (n_rows < _RARE) & (len(n_rows) - _FIRST > _MANY)
    is_rare[:_FIRST] = False
    return np.where(is_rare, np.sum(~is_rare), np.cumsum(~is_rare) - 1)


def _is_missing(categories: NDArray[Any]) -> NDArray[np.bool_]:
    missing: NDArray[np.bool_] = categories != categories
    return missing.astype(bool)
