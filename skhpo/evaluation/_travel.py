"""What goes to other processes and comes back: pickles, checkpoints, arrays in files."""

from __future__ import annotations

import io
import logging
import mmap
import os
import pickle
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np

from .._compat import dumps
from ..exceptions import StorageError
from ..faults import warn_of_mistake
from ..files import storing
from ..rows import DatasetRows, Inputs
from ._continuation import holds_all_in_checkpoint
from ._tasks import Environment

if TYPE_CHECKING:
    from ._tasks import Setting

__all__ = [
    "Packed",
    "Stored",
    "StoredData",
    "check_picklable",
    "is_pickled_as_a_whole",
    "loaded",
    "on_disk",
    "pack",
    "packed_checkpoint",
    "stored",
]


_log = logging.getLogger(__name__)

# Bytes from which on an array lies in a file; joblib's own bound.
_LARGE = 10**6
# Where arrays begin in a file: no processor loads across such a border.
_ALIGNMENT = 64
# What this process has read last, by the path: all calls of a search share one dataset.
_last_read: dict[str, Any] = {}


def check_picklable(setting: Setting) -> None:
    """Raise TypeError, naming the culprit, if what all fits share cannot go to other processes."""
    named = {"estimator": setting.estimator, "scoring": setting.scorer}
    named |= {f"register_layer of {k.__name__}": v for k, v in setting.layer_rules.items()}
    params = setting.estimator.get_params(deep=True) if _pickle_error(setting.estimator) else {}
    # The innermost parameter that cannot be pickled is the most informative one.
    for name in sorted(params, key=lambda name: -name.count("__")):
        named = {name: params[name], **named} if _pickle_error(params[name]) else named
    for name, value in named.items():
        error = _pickle_error(value)
        if error is not None:
            raise TypeError(
                f"with worker processes everything must be picklable, but {name}={value!r} is "
                f"not ({error}); define it at the top level of a module, or use threads: "
                "joblib.parallel_config('threading')"
            ) from error


def _pickle_error(value: Any) -> Exception | None:
    try:
        dumps(value)
    except Exception as error:
        return error
    return None


@dataclass(frozen=True)
class Packed:
    """A fitted estimator on its way between processes.

    Parameters
    ----------
    content : bytes
    is_checkpoint : bool
        Whether it is a checkpoint, or else a pickle.
    """

    content: bytes
    is_checkpoint: bool

    def unpacked(self, fresh: Any) -> Any:
        """Return the estimator; of a checkpoint, `fresh` as the fitted one that it holds.

        Parameters
        ----------
        fresh : estimator
            Unfitted, with the same parameters.
        """
        if self.is_checkpoint:
            return fresh.load_checkpoint(io.BytesIO(self.content))
        return pickle.loads(self.content)


def pack(state: Any) -> Packed | None:
    """Return a fitted estimator as `Packed`, or None if it can be neither pickled nor saved.

    A pickle holds the most. Modules that cannot be pickled, or that say themselves what of them is,
    travel as a checkpoint. What can be neither costs time: it is trained again.
    """
    ways = [_pickled]
    if holds_all_in_checkpoint(state):
        first = _pickles_in_its_own_way(getattr(state, "module_", None))
        ways = [packed_checkpoint, _pickled] if first else [_pickled, packed_checkpoint]
    for way in ways:
        try:
            return way(state)
        except Exception as error:
            warn_of_mistake(error, "a fitted network may be trained again")
            last = error
    _log.info(
        "a fitted %s cannot go to another process, so that its earlier rungs are trained again: %s",
        type(state).__name__,
        last,
    )
    return None


def _pickled(state: Any) -> Packed:
    return Packed(bytes(dumps(state)), is_checkpoint=False)


def packed_checkpoint(state: Any) -> Packed:
    """Return a fitted estimator as a checkpoint."""
    buffer = io.BytesIO()
    state.save_checkpoint(buffer)
    return Packed(buffer.getvalue(), is_checkpoint=True)


def _pickles_in_its_own_way(module: Any) -> bool:
    """Whether a user-defined class among the layers customizes its pickling."""
    nn = getattr(sys.modules.get("torch"), "nn", None)
    if nn is None or not isinstance(module, nn.Module):
        return False
    plain = {name: getattr(nn.Module, name) for name in ("__getstate__", "__setstate__")}
    plain |= {name: getattr(object, name) for name in ("__reduce__", "__reduce_ex__")}
    classes = {type(layer) for layer in module.modules()}
    return any(
        getattr(cls, name) is not default
        for cls in classes
        if cls.__module__.partition(".")[0] != "torch"
        for name, default in plain.items()
    )


@dataclass(frozen=True)
class Stored:
    """Fitted wrappers with their large arrays in a file, which other processes map.

    Parameters
    ----------
    path : str
    spans : tuple of (int, int)
        Where in it the pickle is, and then its buffers.
    """

    path: str
    spans: tuple[tuple[int, int], ...]

    _access = mmap.ACCESS_READ

    @property
    def n_bytes(self) -> int:
        return max(stop for _, stop in self.spans)

    def load(self) -> Any:
        """Return the wrappers; their large arrays are those in the file, and read-only."""
        with open(self.path, "rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=self._access))
        first, *buffers = (content[start:stop] for start, stop in self.spans)
        return pickle.loads(first, buffers=buffers)

    def remove(self) -> None:
        with suppress(OSError):  # Windows removes no file that a worker maps; the folder goes later
            os.unlink(self.path)


def stored(
    value: Any, folder: str, *, pickler: Any = cloudpickle.Pickler, kind: type[Stored] | None = None
) -> Any:
    """Write fitted wrappers to a file; those without large arrays are returned as they are.

    They then need neither to travel through the driver nor to lie in its memory.

    Parameters
    ----------
    value : Prepared
        Or anything else.
    folder : str
    pickler : type, default=cloudpickle.Pickler
    kind : type or None, default=None
        A kind of `Stored`, as which also what has no large arrays is written.

    Raises
    ------
    Environment
        If the system refuses.
    """
    buffers: list[memoryview] = []

    def stays_inside(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes > _LARGE:
            buffers.append(raw)
        return raw.nbytes <= _LARGE

    pickled = io.BytesIO()
    pickler(pickled, protocol=5, buffer_callback=stays_inside).dump(value)
    if not buffers and kind is None:
        return value
    path, spans = os.path.join(folder, uuid.uuid4().hex), []
    try:
        with storing(path), open(path, "wb") as file:
            for part in (pickled.getbuffer(), *buffers):
                file.seek(-(-file.tell() // _ALIGNMENT) * _ALIGNMENT)
                start = file.tell()
                file.write(part)
                spans.append((start, file.tell()))
    except BaseException as error:
        with suppress(OSError):
            os.unlink(path)
        if isinstance(error, StorageError):
            raise Environment(error) from error
        raise
    return (kind or Stored)(path, tuple(spans))


def loaded(value: Any) -> Any:
    """Return what is stored, and anything else as it is."""
    return value.load() if isinstance(value, Stored) else value


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
