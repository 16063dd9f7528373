"""Datasets and lists on their way to worker processes: pickled once, whatever they consist of."""

from __future__ import annotations

import mmap
import os
import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np

from ..datasets import DatasetRows
from ..rows import Inputs
from ._transformed import Stored, stored

__all__ = ["StoredData", "is_pickled_as_a_whole", "on_disk"]

# What this process has read last, by the path: all calls of a search share one dataset.
_last_read: dict[str, Any] = {}


@dataclass(frozen=True)
class StoredData(Stored):
    """Data in a file, which other processes read once; their large arrays are maps of it."""

    _access = mmap.ACCESS_COPY  # a dataset may write into its own arrays

    def load(self) -> Any:
        """Return the data, the same object as long as no other data are read."""
        if self.path not in _last_read:
            _last_read.clear()
            _last_read[self.path] = super().load()
        return _last_read[self.path]


def on_disk(X: Any, folder: str) -> Any:
    """Write data to a file, their large arrays apart; memory maps stay in their own files.

    Parameters
    ----------
    X : object
    folder : str

    Raises
    ------
    TypeError
        If they cannot be pickled.
    Environment
        If the system refuses.
    """
    try:
        return stored(X, folder, pickler=_ByReference, kind=StoredData)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        given = X.dataset if isinstance(X, DatasetRows) else X
        raise TypeError(
            f"with worker processes everything must be picklable, but X, a "
            f"{type(given).__name__}, is not ({error}); let its __getstate__ leave out open files, "
            "or use threads: joblib.parallel_config('threading')"
        ) from error


def is_pickled_as_a_whole(X: Any) -> bool:
    """Whether joblib would pickle data for every call, rather than map them."""
    if isinstance(X, Inputs):
        return any(map(is_pickled_as_a_whole, X.arrays.values()))
    return isinstance(X, DatasetRows | Sequence) and not isinstance(X, str)


class _ByReference(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles memory maps as what they are maps of, and tensors as arrays."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is np.memmap and (place := _place_of(obj)) is not None:
            return _mapped, place
        torch = sys.modules.get("torch")
        if torch is not None and type(obj) is torch.Tensor and _is_plain(obj):
            return torch.from_numpy, (obj.numpy(),)
        return super().reducer_override(obj)


def _is_plain(tensor: Any) -> bool:
    """Whether a tensor shares the memory of an array, and is no larger than that memory."""
    try:
        array = tensor.numpy()
    except (TypeError, RuntimeError):  # not on the CPU, sparse, of a type that NumPy lacks, ...
        return False
    return bool(array.nbytes <= tensor.untyped_storage().nbytes())


def _place_of(array: np.memmap[Any, Any]) -> tuple[Any, ...] | None:
    """Return where in which file an array lies; None if that cannot be said."""
    whole = getattr(array, "_mmap", None)
    if whole is None or array.filename is None or not array.flags.c_contiguous:
        return None
    first = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    offset = first + array.ctypes.data - np.frombuffer(whole, np.uint8).ctypes.data
    mode = "c" if array.flags.writeable else "r"
    return os.path.abspath(array.filename), array.dtype.str, mode, offset, array.shape


def _mapped(path: str, dtype: str, mode: Any, offset: int, shape: tuple[int, ...]) -> Any:
    return np.memmap(path, np.dtype(dtype), mode, offset, shape)
