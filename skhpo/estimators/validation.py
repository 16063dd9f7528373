"""Checks of the user's data."""

from __future__ import annotations

import numbers
from collections.abc import Mapping

import numpy as np
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.utils.validation import check_array, check_consistent_length, validate_data

from .._compat import num_samples
from ..rows import FrameRows, RowSubset
from ..training.data import as_array
from ..training.sequences import Sequences

__all__ = [
    "NO_BATCHES",
    "check_before_search",
    "check_container",
    "check_inputs",
    "check_sample_weight",
]

NO_BATCHES = (
    "a Dataset must yield at least one batch, but it yielded none; one that is iterated must start "
    "again each time, and a collate_fn or batch sampler must not drop all"
)
_CONVERT_DATES = "convert it, as by (dates - dates.min()) / numpy.timedelta64(1, 'D')"


def check_inputs(estimator, X, y, *, reset, needs_y):
    """Check `X` and the length of `y`; with `reset` set, else compare, the features of `estimator`.

    Returns `X` as a numeric and finite ndarray, CSR matrix or dict of ndarray (without a copy
    where possible), and `y` as given. Raises ValueError.
    """
    if needs_y and y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None; only "
            "a torch Dataset as X brings its own targets"
        )
    if isinstance(X, Mapping) and not scipy.sparse.issparse(X):
        X = _check_dict(estimator, X, reset)
        lengths = list(X.values())
    else:
        X = FrameRows(X) if FrameRows.fits(X) else X
        if isinstance(X, RowSubset):
            for i, part in enumerate(X.chunks()):
                _check_array(estimator, part, reset=reset and i == 0)
        else:
            X = _check_array(estimator, as_array(X), reset=reset)
        if not reset and None not in estimator._integer_inputs:
            raise ValueError(
                f"X must have the keys {sorted(estimator._integer_inputs)} as in fit, but is a "
                f"{type(X).__name__}"
            )
        if not reset and estimator.input_shape_ not in (None, X.shape[1:]):
            raise ValueError(
                f"X must have samples of shape {estimator.input_shape_} as in fit, but got "
                f"{X.shape[1:]}"
            )
        lengths = [X]
    if y is not None:
        check_consistent_length(*lengths, y)
    return X, y


def check_container(estimator, X, y, *, reset):
    """Check the data for a user's `Dataset`: names of columns, and length; return it as given."""
    single = not isinstance(X, Mapping | list | tuple)
    if single and len(getattr(X, "shape", ())) == 2:
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    if single and y is not None:
        check_consistent_length(X, y)
    return X, y


def _check_array(estimator, X, *, reset):
    _refuse_dates(X)
    try:
        X = validate_data(
            estimator, X, reset=reset, dtype="numeric", allow_nd=True, accept_sparse="csr"
        )
    except TypeError as error:
        if any(kind in str(error) for kind in ("date", "Timestamp", "timedelta")):
            raise ValueError(f"X must be of numbers, but {error}; {_CONVERT_DATES}") from error
        raise
    _check_fits_float32(X)
    return X


def _check_dict(estimator, X, reset):
    if not X:
        raise ValueError(
            "X must be an array, or a dict with at least one, but is an empty dict; pass the "
            "arrays under the names that the module's forward has for them"
        )
    arrays = {}
    for name, value in X.items():
        if isinstance(value, Sequences):
            arrays[name] = value
            continue
        _refuse_dates(value, name)
        try:
            arrays[name] = check_array(
                as_array(value),
                ensure_2d=False,
                allow_nd=True,
                dtype="numeric",
                input_name=str(name),
            )
        except ValueError as error:
            if "string" not in str(error):
                raise
            raise ValueError(
                f"{name} must be of numbers, but {error}; encode categories before, as by "
                "skhpo.preprocessing.TableEncoder"
            ) from error
        _check_fits_float32(arrays[name])
    check_consistent_length(*arrays.values())
    _check_columns(estimator, X, reset)
    if not reset and set(arrays) != set(estimator._integer_inputs):
        raise ValueError(
            f"X must have the keys {sorted(estimator._integer_inputs)} as in fit, but got "
            f"{sorted(arrays)}"
        )
    return arrays


def _check_columns(estimator, X, reset):
    """Learn the columns of frames in a dict, or raise ValueError if they are others now."""
    columns = {k: [str(one) for one in v.columns] for k, v in X.items() if hasattr(v, "columns")}
    if reset:
        estimator._columns = columns
        return
    for name in columns.keys() & getattr(estimator, "_columns", {}).keys():
        if columns[name] != estimator._columns[name]:
            raise ValueError(
                f"{name} must have the columns {estimator._columns[name]} as in fit, in that "
                f"order, but has {columns[name]}"
            )


def _refuse_dates(X, name="X"):
    """Raise ValueError for dates and durations, which must be converted to numbers."""
    dtypes = getattr(X, "dtypes", None)
    columns = {name: getattr(X, "dtype", None)}
    if dtypes is not None and hasattr(dtypes, "items"):
        columns = {f"{name}[{column!r}]": dtype for column, dtype in dtypes.items()}
    for column, dtype in columns.items():
        if getattr(dtype, "kind", None) in ("m", "M"):
            raise ValueError(
                f"{name} must be of numbers, but {column} has the type {dtype}; {_CONVERT_DATES}"
            )


def _check_fits_float32(X):
    if X.dtype.kind not in "biuf":
        such = f", such as {np.ravel(X)[0]!r}" if X.dtype.kind == "O" and X.size else ""
        raise ValueError(
            f"X must be of numbers, but has the type {X.dtype}{such}; dates are converted by "
            "(dates - dates.min()) / numpy.timedelta64(1, 'D'), categories by an encoder"
        )
    limit = np.finfo(np.float32).max
    if X.dtype.kind == "f" and X.dtype.itemsize > 4 and X.size:
        largest = max(X.max(), -X.min())
        if largest > limit:
            raise ValueError(
                f"X must fit into float32 (at most {limit:.3g}), but has the value {largest:.3g}; "
                "scale the data"
            )


def check_sample_weight(sample_weight, n_samples):
    """Return weights (one for each sample, a number or None) as ndarray of shape (n_samples,).

    None stays None. Raises ValueError if they have another shape, are negative or not finite, or
    all zero.
    """
    if sample_weight is None:
        return None
    if isinstance(sample_weight, numbers.Number):
        sample_weight = np.full(n_samples, sample_weight)
    weight = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if weight.shape != (n_samples,):
        raise ValueError(
            f"sample_weight must have shape ({n_samples},), one weight per sample, but got "
            f"{weight.shape}"
        )
    if (weight < 0).any():
        raise ValueError(f"sample_weight must be >= 0, but has the value {weight.min()}")
    if not weight.any():
        raise ValueError("sample_weight must not be zero everywhere: nothing is left to train on")
    return weight


def _check_dataset_before_search(estimator, X, y, sample_weight, varied):
    if "class_weight" in varied:
        estimator.set_params(class_weight=None)
    estimator._check_training_data(X, y, sample_weight, None, True)


def check_before_search(estimator, X, y, sample_weight, varied, parts):
    """Raise the ValueError that every fit of a search would raise, whatever its candidate.

    `X` and `y` may be None (unknown); `varied` are the parameters that candidates set, `parts`
    those on which the valid names of others depend.
    """
    estimator = clone(estimator)
    if "hyperparameter_schedule" not in varied:
        schedule = getattr(estimator, "hyperparameter_schedule", None)  # Keras models have none
        twice = sorted(varied & set(schedule or ()))
        if twice:
            raise ValueError(
                f"{twice[0]!r} cannot be searched, because the estimator's hyperparameter_schedule "
                "sets it in each epoch; leave one of them out"
            )
    if not varied & parts:
        estimator._check_names()
    if X is not None:
        if isinstance(X, torch.utils.data.Dataset):
            _check_dataset_before_search(estimator, X, y, sample_weight, varied)
            return
        if estimator._has_own_dataset():  # whose rows may have any type
            return
        estimator._check_inputs(X, y, reset=True, needs_y=True)
    if y is not None:
        weight = check_sample_weight(sample_weight, num_samples(y))
        y = estimator._check_targets(y, None, True)
        if "class_weight" not in varied:
            estimator._row_weights(y, weight)
