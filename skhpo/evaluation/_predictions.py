"""Predictions of a fit for the rows that it is scored on, as numbers that can be kept.

Fits of one search must be comparable: columns are those of all labels, whatever labels the training
part of a split had. Predictions that are not finite, or cannot be made comparable, are refused with
a reason.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..limits import FitTimeoutError
from ._tasks import FAILURES, failure, memory_freed, raise_unless_candidates

if TYPE_CHECKING:
    from ._tasks import Setting

__all__ = ["PredictionKind", "predicted"]

# Of the spread of values, what rounding them to float32 may change. Differences of scores between
# configurations are a thousand times as large.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class PredictionKind:
    """The predictions that are kept: the method that makes them, and the meaning of their columns.

    Parameters
    ----------
    method : {"predict_proba", "decision_function", "predict"}
    classes : ndarray, tuple of ndarray or None
        All labels of a classifier; a tuple where rows have several, one array for each. None where
        predictions are numbers as they are.
    """

    method: str
    classes: NDArray[Any] | tuple[NDArray[Any], ...] | None = None

    def columns_of(self, estimator: Any, given: Any, n_rows: int) -> NDArray[np.floating[Any]]:
        """Return the predictions of a fitted estimator with a column for each of all labels.

        Parameters
        ----------
        estimator : estimator
        given : array-like or list of array-like
            What its method has returned.
        n_rows : int

        Returns
        -------
        ndarray of shape (n_rows, ...)
            float32; float64 where that would round too much.

        Raises
        ------
        ValueError, TypeError
            If they are no finite numbers, or those of different labels cannot be told apart.
        """
        values = np.asarray(self._aligned(estimator, given))
        if values.dtype.kind not in "fiub":
            raise TypeError(
                f"predictions that are kept must be numbers, but {self.method} returned "
                f"{values.dtype}"
            )
        if values.shape[:1] != (n_rows,):
            raise ValueError(
                f"{self.method} must return something for each of {n_rows} rows, but returned an "
                f"array of shape {values.shape}"
            )
        are_finite = np.isfinite(values)
        if not are_finite.all():
            n_bad = values.size - np.count_nonzero(are_finite)
            raise ValueError(
                f"predictions that are kept must be finite, but {n_bad} of the {values.size} "
                f"numbers of {self.method} are not"
            )
        return _compact(values, is_probability=self.method == "predict_proba")

    def _aligned(self, estimator: Any, given: Any) -> Any:
        if hasattr(given, "toarray"):  # of labels, some are sparse
            given = given.toarray()
        if self.classes is None:
            return given
        if isinstance(self.classes, tuple):
            return self._of_several(estimator, given, self.classes)
        if self.method == "predict":
            return _votes(np.asarray(given).reshape(len(given)), self.classes)
        given = np.asarray(given)
        own = getattr(estimator, "classes_", None)
        return self._of_one(given, own, self.classes)

    def _of_several(
        self, estimator: Any, given: Any, classes: Sequence[NDArray[Any]]
    ) -> NDArray[Any]:
        """Return the columns of several labels; of labels that are 0 or 1, those of 1."""
        are_flags = all(set(known.tolist()) <= {0, 1} for known in classes)
        if self.method == "predict" and not are_flags:
            given = np.asarray(given)
            pairs = zip(given.T, classes, strict=True)
            return np.hstack([_votes(labels, known) for labels, known in pairs])
        if not isinstance(given, list):
            return np.asarray(given)
        parts = []
        flags = np.array([0, 1])
        for part, own, known in zip(given, estimator.classes_, classes, strict=True):
            columns = self._of_one(np.asarray(part), own, flags if are_flags else known)
            parts.append(columns[:, 1:] if are_flags else columns)
        return np.hstack(parts)

    def _of_one(self, given: NDArray[Any], own: Any, classes: NDArray[Any]) -> NDArray[Any]:
        """Return columns of all classes, given those of the classes that a fit knows."""
        if own is None:
            own = classes
        own = np.asarray(own)
        if self.method == "decision_function":
            if len(own) != len(classes):
                raise ValueError(_lacking(own, classes))
            return given
        if given.shape[1:] != (len(own),):
            raise ValueError(
                f"{self.method} must return a column for each of {len(own)} classes, but returned "
                f"an array of shape {given.shape}"
            )
        if np.array_equal(own, classes):
            return given
        aligned = np.zeros((len(given), len(classes)), dtype=given.dtype)
        aligned[:, _positions(own, classes)] = given
        return aligned


def _votes(labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.float32]:
    """Return a column per class, 1 where it is the predicted one."""
    votes = np.zeros((len(labels), len(classes)), dtype=np.float32)
    votes[np.arange(len(labels)), _positions(labels, classes)] = 1
    return votes


def _positions(labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.intp]:
    places = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    unknown = labels[classes[places] != labels]
    if len(unknown):
        raise ValueError(
            f"predictions must be of the labels of y, but there is {unknown[0]!r}, which y lacks"
        )
    return places


def _lacking(own: NDArray[Any], classes: NDArray[Any]) -> str:
    return (
        "a decision function has no value for a class that the training part lacks, which are "
        f"{np.setdiff1d(classes, own).tolist()}; use return_predictions='predict_proba', where "
        "it is 0, or stratified splits"
    )


def _compact(values: NDArray[Any], *, is_probability: bool) -> NDArray[np.floating[Any]]:
    """Return numbers as float32 where that rounds them little, measured by their spread."""
    if values.dtype == np.float32:
        return values.copy()
    with np.errstate(over="ignore"):
        small = values.astype(np.float32)
    if is_probability:  # whose scale is 1
        return small
    wide = values.astype(np.float64)
    if not np.isfinite(small).all():
        return wide
    rounds_little = np.abs(small - wide).max(initial=0) <= _ROUNDING * wide.std()
    return small if rounds_little else wide


def predicted(
    setting: Setting, estimator: Any, X: Any, n_rows: int, noted: Sequence[Any]
) -> tuple[NDArray[np.floating[Any]] | None, str | None]:
    """Return the predictions of a fitted estimator that are kept, or why there are none.

    Parameters
    ----------
    setting : Setting
    estimator : estimator
    X : array-like
    n_rows : int
        Of `X`, which may be a dict.
    noted : list
        What it has answered already, or nothing.

    Returns
    -------
    predictions : ndarray or None
    why : str or None
        Traceback.

    Raises
    ------
    Exception
        Where errors are to be raised, or where memory was short.
    """
    kept = setting.predictions
    if kept is None:
        return None, None
    try:
        given = noted[0] if noted else getattr(estimator, kept.method)(X)
        return kept.columns_of(estimator, given, n_rows), None
    except FitTimeoutError:  # which is the fit's
        raise
    except FAILURES as error:
        raise_unless_candidates(error, setting)
        if memory_freed(error):
            raise
        return None, failure(error, "".join(traceback.format_exception(error)), setting)
