"""Checks of the user's data: inputs, weights, pairs of arrays and torch datasets."""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Mapping, Sequence, Set
from numbers import Real
from typing import Any, NoReturn

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.utils.validation import check_array, check_consistent_length, validate_data
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from .._compat import num_samples
from ..datasets import stored_targets
from ..rows import (
    FrameRows,
    Inputs,
    RowSubset,
    as_given,
    refuse_loader,
    take_rows,
)
from ..training.data import as_array, as_container, is_read_by_rows
from ..training.items import LabelledItems, is_pair, probed_items
from ..training.randomness import OwnGenerators, Stream
from ..training.sequences import Sequences
from ._inputs import arranged
from .settings import changed_settings, has_own_dataset, reads_by_number, slices_batches

__all__ = [
    "ABOUT_STRINGS",
    "NO_BATCHES",
    "check_before_search",
    "check_dataset",
    "check_fits_float32",
    "check_inputs",
    "check_sample_weight",
    "check_training_data",
    "checked_inputs",
    "keep_weighted",
    "refuse_dates",
    "refuse_weights",
]


NO_BATCHES = (
    "a Dataset must yield at least one batch, but it yielded none; one that is iterated must start "
    "again each time, and a collate_fn or batch sampler must not drop all"
)
_CONVERT_DATES = "convert it, as by (dates - dates.min()) / numpy.timedelta64(1, 'D')"
# Errors of the conversion to numbers; others may quote names of columns, or be about these.
_ABOUT_DATES = re.compile(r"(?!Feature names).*(\bdate|Timestamp|[Tt]imedelta)", re.DOTALL)
ABOUT_STRINGS = re.compile(r"could not convert string|.*arrays of bytes/strings")
_ENCODE = (
    "encode strings and categories, as by make_pipeline(TableEncoder(), "
    "TorchClassifier(TabularMLP)), with skhpo.preprocessing.TableEncoder and "
    "skhpo.modules.TabularMLP"
)


def check_inputs(estimator: Any, X: Any, y: Any, *, reset: bool, needs_y: bool) -> tuple[Any, Any]:
    """Check `X` and the length of `y`; with `reset` set, else compare, the features of `estimator`.

    Returns `X` as a numeric and finite ndarray, CSR matrix or dict of ndarray (without a copy
    where possible), and `y` as given. Raises ValueError.
    """
    refuse_loader(X)
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


def checked_inputs(
    net: Any, X: Any, y: Any = None, *, reset: bool, needs_y: bool
) -> tuple[Any, Any]:
    """Check `X` and `y` of a net as far as possible; a `Dataset` of the user's gets any data."""
    if has_own_dataset(net):
        return _check_container(net, X, y, reset=reset)
    is_plain = isinstance(X, np.ndarray) and X.dtype != object
    if net.collate == "pad" or not is_plain:
        X = arranged(net, X, y, reset=reset)
        if is_read_by_rows(X):
            return _check_container(net, as_container(X), y, reset=reset)
    return check_inputs(net, X, y, reset=reset, needs_y=needs_y)


def _check_container(estimator: Any, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
    """Check the data for a user's `Dataset`: names of columns, and length; return it as given."""
    single = not isinstance(X, Mapping | list | tuple)
    if single and len(getattr(X, "shape", ())) == 2:
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    if single and y is not None:
        check_consistent_length(X, y)
    return X, y


def _check_array(estimator: Any, X: Any, *, reset: bool) -> Any:
    refuse_dates(X)
    _refuse_texts(X)
    try:
        if isinstance(X, list | tuple):
            X = np.asarray(X)  # check_array would leave objects in a list as they are
        X = validate_data(
            estimator, X, reset=reset, dtype="numeric", allow_nd=True, accept_sparse="csr"
        )
    except TypeError as error:
        if _ABOUT_DATES.match(str(error)):
            raise ValueError(f"X must be of numbers, but {error}; {_CONVERT_DATES}") from error
        raise
    except ValueError as error:
        if not ABOUT_STRINGS.match(str(error)):
            raise
        raise ValueError(f"X must be of numbers, but {error}; {_ENCODE}") from error
    check_fits_float32(X)
    return X


def _refuse_texts(X: Any) -> None:
    is_flat = isinstance(X, list | tuple) or (isinstance(X, np.ndarray) and X.ndim == 1)
    if is_flat and len(X) and isinstance(X[0], str | bytes):
        raise ValueError(
            f"rows of X must be of numbers, but one is the text {X[0]!r}; count its words "
            "(TfidfVectorizer of scikit-learn), or number them (collate='pad' takes lists of any "
            "length); where it is the path of a file, pass a torch Dataset that reads the file"
        )


def _check_dict(estimator: Any, X: Mapping[Any, Any], reset: bool) -> dict[Any, Any]:
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
        refuse_dates(value, name)
        try:
            arrays[name] = check_array(
                as_array(value),
                ensure_2d=False,
                allow_nd=True,
                dtype="numeric",
                input_name=str(name),
            )
        except ValueError as error:
            if not ABOUT_STRINGS.match(str(error)):
                raise
            raise ValueError(f"{name} must be of numbers, but {error}; {_ENCODE}") from error
        check_fits_float32(arrays[name])
    check_consistent_length(*arrays.values())
    _check_columns(estimator, X, reset)
    if not reset and set(arrays) != set(estimator._integer_inputs):
        raise ValueError(
            f"X must have the keys {sorted(estimator._integer_inputs)} as in fit, but got "
            f"{sorted(arrays)}"
        )
    return arrays


def _check_columns(estimator: Any, X: Mapping[Any, Any], reset: bool) -> None:
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


def refuse_dates(X: Any, name: str = "X") -> None:
    """Raise ValueError for dates and durations, which must be converted to numbers."""
    # Polars has a schema, and converts dates in silence.
    frame = [getattr(X, attribute, None) for attribute in ("dtypes", "schema")]
    dtypes = next((found for found in frame if hasattr(found, "items")), None)
    columns = {name: getattr(X, "dtype", None)}
    if dtypes is not None:
        columns = {f"{name}[{column!r}]": dtype for column, dtype in dtypes.items()}
    for column, dtype in columns.items():
        is_temporal = getattr(dtype, "is_temporal", bool)()
        if is_temporal or getattr(dtype, "kind", None) in ("m", "M"):
            which = "" if column == name else f"{column} "
            raise ValueError(
                f"{name} must be of numbers, but {which}has the type {dtype}; {_CONVERT_DATES}"
            )


def check_fits_float32(X: Any, name: str = "X", hint: str = _ENCODE) -> None:
    """Raise ValueError unless an array is of real numbers that float32 has.

    It uses `name`, and says by `hint` what to do with categories.
    """
    if X.dtype.kind not in "biuf":
        such = ""
        if X.dtype.kind == "O" and X.size:
            values = np.ravel(X)
            odd = next((one for one in values if not isinstance(one, Real)), values[0])
            such = f", such as {odd!r}"
        raise ValueError(
            f"{name} must be of numbers, but has the type {X.dtype}{such}; dates are converted by "
            f"(dates - dates.min()) / numpy.timedelta64(1, 'D'); {hint}"
        )
    limit = np.finfo(np.float32).max
    if X.dtype.kind == "f" and X.dtype.itemsize > 4 and X.size:
        largest = max(X.max(), -X.min())
        if largest > limit:
            raise ValueError(
                f"{name} must fit into float32 (at most {limit:.3g}), but has the value "
                f"{largest:.3g}; scale the data"
            )


def check_sample_weight(sample_weight: Any, n_samples: int) -> NDArray[np.float64] | None:
    """Return weights (one for each sample, a number or None) as ndarray of shape (n_samples,).

    None stays None. Raises ValueError if they have another shape, are negative or not finite, or
    all zero.
    """
    if sample_weight is None:
        return None
    if isinstance(sample_weight, numbers.Number):
        sample_weight = np.full(n_samples, sample_weight)
    weight: NDArray[np.float64] = check_array(
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


def check_before_search(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    varied: Set[str],
    parts: Set[str],
    check_inputs: Callable[..., object],
) -> None:
    """Raise the ValueError that every fit of a search would raise, whatever its candidate.

    `X` and `y` may be None (unknown); `varied` are the parameters that candidates set, `parts`
    those on which the valid names of others depend; `check_inputs` checks inputs for the estimator.
    """
    if not varied & parts:
        estimator._check_names()
    if X is not None:
        check_inputs(estimator, X, y, reset=True, needs_y=True)
    if y is not None:
        weight = check_sample_weight(sample_weight, num_samples(y))
        y = estimator._check_targets(y, None, True)
        if "class_weight" not in varied:
            estimator._row_weights(y, weight)


def check_training_data(
    net: Any, X: Any, y: Any, sample_weight: Any, classes: Any, reset: bool
) -> tuple[Any, Any, NDArray[np.float32] | None, NDArray[np.bool_] | None]:
    """Return checked inputs, encoded targets, weights, and a mask of the samples that were kept.

    The last two are None without weights, the mask also where none is zero. With `reset` the net
    learns from the first targets.
    """
    if y is None and not isinstance(X, Dataset) and has_own_dataset(net):
        X = net.get_dataset(X)
    y = Inputs(y) if isinstance(y, Mapping) else y
    net._class_weight_of_loader = None
    if isinstance(X, Dataset):
        X, y = check_dataset(net, X, y, classes, reset)
        return _weighted(net, X, y, sample_weight, None if y is None else num_samples(y))
    if y is None and net.iterator_train is not DataLoader:
        # Not done by default: where y was forgotten, skorch's dataset would yield zeros.
        raise ValueError(
            f"{type(net).__name__} requires y to be passed, but the target y is None; if "
            f"iterator_train={net.iterator_train!r} and iterator_valid yield targets of their "
            "own, pass skorch.dataset.Dataset(X) as X"
        )
    X, y = checked_inputs(net, X, y, reset=reset, needs_y=True)
    n_samples = num_samples(y)
    return _weighted(net, X, net._check_targets(y, classes, reset), sample_weight, n_samples)


def _weighted(
    net: Any, X: Any, y: Any, sample_weight: Any, n_samples: int | None
) -> tuple[Any, Any, NDArray[np.float32] | None, NDArray[np.bool_] | None]:
    """Return what `keep_weighted` does; None for the weights and the mask where there are none."""
    if sample_weight is None and getattr(net, "class_weight", None) is None:
        return X, y, None, None
    if sample_weight is None and net._class_weight_of_loader is not None:
        return X, y, None, None
    _check_reads_weights(net, X)
    n_samples = len(X) if n_samples is None else n_samples
    weight = net._row_weights(y, check_sample_weight(sample_weight, n_samples))
    return keep_weighted(X, y, weight)


def keep_weighted(
    X: Any, y: Any, weight: NDArray[Any]
) -> tuple[Any, Any, NDArray[np.float32], NDArray[np.bool_] | None]:
    """Return checked data without samples of weight zero, the weights, of mean 1, and a mask.

    The mask is of the samples that were kept, None for all.
    """
    if not weight.any():
        raise ValueError("sample_weight times class_weight leaves no sample: all products are zero")
    kept = None
    if not weight.all():
        kept = weight > 0
        X, weight = _kept(X, kept), weight[kept]
        y = None if y is None else y[kept]
    return X, y, (weight / weight.mean()).astype(np.float32), kept


def _check_reads_weights(net: Any, X: Any) -> None:
    """Raise ValueError unless batches of data can have weights."""
    slices = slices_batches(net) and not isinstance(X, Dataset)
    if not slices and not reads_by_number(net, X, training=True):
        refuse_weights(net, True)


def refuse_weights(net: Any, training: bool) -> NoReturn:
    """Raise ValueError: rows have weights, and an iterator chooses them itself."""
    name = "iterator_train" if training else "iterator_valid"
    raise ValueError(
        "sample_weight and class_weight need rows that are read by number, but "
        f"{name}={getattr(net, name)!r} with the arguments "
        f"{sorted(changed_settings(net, name))} chooses them itself; leave it at its default, "
        "or override get_loss"
    )


def check_dataset(net: Any, X: Any, y: Any, classes: Any, reset: bool) -> tuple[Any, Any]:
    """Return a dataset of pairs and its encoded targets, as far as they are known."""
    by_number = not isinstance(X, IterableDataset)
    items = probed_items(X) if by_number and y is not None else []
    if y is not None and by_number:
        if num_samples(y) != len(X):
            raise ValueError(
                f"y must have a target for each of the {len(X)} items of the Dataset X, but "
                f"has {num_samples(y)}; leave it out where the Dataset yields pairs (X, y)"
            )
        if not all(is_pair(item) for _, item in items):
            X, items = LabelledItems(X, as_given(y)), []
    encoded = net._check_dataset_targets(X, y, classes, reset)
    _check_agreement(net, X, items, y, encoded)
    return X, encoded


def _kept(X: Any, mask: NDArray[np.bool_]) -> Any:
    """Return the samples of a mask, of checked data."""
    rows = np.flatnonzero(mask)
    if isinstance(X, Dataset):
        return Subset(X, rows.tolist())
    if isinstance(X, Mapping):
        return {name: value[rows] for name, value in X.items()}
    return take_rows(X, rows)


def _check_agreement(
    net: Any, dataset: Any, items: Sequence[tuple[int, Any]], y: Any, encoded: Any
) -> None:
    """Raise ValueError unless targets are those of the items of a dataset.

    They are compared with a few items, and with all targets that the dataset stores, where these
    are what the items have. `items` are numbers of some, and the items, pairs of inputs and target;
    `y` are the targets as they are given, `encoded` as the net encodes them.
    """
    for number, (_, target) in items:
        if isinstance(y, Inputs):
            given = {k: as_array(v)[0] for k, v in y[[number]].arrays.items()}
        else:
            given = np.asarray(y)[number]
        if not _agrees(net, target, given if isinstance(y, Inputs) else encoded[number]):
            _raise(number, given, target)
    if not items or isinstance(y, Inputs):
        return
    stored = stored_targets(dataset)
    # Images as targets are too many numbers.
    if stored is None or len(stored) != len(dataset) or stored.ndim > 2:
        return
    if all(np.array_equal(np.asarray(item[1]), stored[i]) for i, item in items):
        own = np.asarray(net._targets.encode_items(stored), np.float32)
        n = len(dataset)
        same = own.reshape(n, -1) == np.asarray(encoded, np.float32).reshape(n, -1)
        for number in np.flatnonzero(~same.all(axis=1))[:1].tolist():
            with OwnGenerators(Stream(0, "probe")):
                _, target = dataset[number]
            if not _agrees(net, target, encoded[number]):
                _raise(number, np.asarray(y)[number], target)


def _agrees(net: Any, target: Any, encoded: Any) -> bool:
    """Whether the target of an item is what was encoded, or given as a dict."""
    if isinstance(target, Mapping) or isinstance(encoded, Mapping):
        if not isinstance(target, Mapping) or not isinstance(encoded, Mapping):
            return False
        return target.keys() == encoded.keys() and all(
            np.array_equal(as_array(value), as_array(encoded[name]))
            for name, value in target.items()
        )
    try:
        own = net._targets.encode_items(np.asarray([target]))[0]
    except ValueError:  # an unknown label
        return False
    own, encoded = (np.ravel(value).astype(np.float32) for value in (own, encoded))
    return np.array_equal(own, encoded)


def _raise(number: int, given: object, target: object) -> NoReturn:
    raise ValueError(
        "y must agree with the targets of the Dataset X, on which the network is trained, but for "
        f"item {number} y is {given!r} and the Dataset yields {target!r}; leave y out, or let "
        "items be inputs only"
    )
