"""Settings of the whole process that threads change temporarily, and its end with its parent.

If each thread saved and restored such a setting, they would undo each other's changes. Here the
first thread that enters changes the setting, and the last one that leaves restores it.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from ._compat import resource_tracker

__all__ = [
    "TORCH_THREADS",
    "Together",
    "end_with",
    "end_with_parent",
    "ignoring",
    "one_thread",
    "own_filters",
    "own_precision",
    "remove_at_last",
    "remove_now",
    "total_memory",
    "with_filters",
    "with_precision",
]


class Together:
    """A context manager (returned by `make`) that is entered once for all threads in it."""

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._context = self._make()
                self._context.__enter__()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._context.__exit__(None, None, None)


def _filters_now() -> list[Any]:
    """Return the list that ``warnings`` reads; each ``catch_warnings`` has another one."""
    return warnings.filters  # type: ignore[return-value]


class _Ignoring(Together):
    """Warnings that are not shown while any thread is in it.

    Each that enters puts the filter first, because ``warnings.catch_warnings`` may have dropped it
    or put others before it. That of another thread, as of scikit-learn's checks of data, may also
    put back a list that has the filter when nobody is in it any more. So the filter asks.
    """

    def __init__(self, category: type[Warning], message: re.Pattern[str] | None) -> None:
        super().__init__(self._removing)
        self._entry = ("ignore", _Asking(self, message), category, None, 0)

    @property
    def is_entered(self) -> bool:
        """Whether any thread is in it."""
        return self._inside > 0

    def __enter__(self) -> None:
        super().__enter__()
        with self._lock:
            filters = _filters_now()
            if not filters or filters[0] is not self._entry:
                filters.insert(0, self._entry)

    @contextmanager
    def _removing(self) -> Iterator[None]:
        yield
        filters = _filters_now()
        found = [i for i, other in enumerate(filters) if other is self._entry]
        for i in reversed(found):
            del filters[i]


class _Asking:
    """The pattern of a filter that matches while any thread is in its context."""

    def __init__(self, context: _Ignoring, message: re.Pattern[str] | None) -> None:
        self._context, self._message = context, message

    def match(self, text: str) -> bool:
        """Whether the warning is not shown."""
        if not self._context.is_entered:
            return False
        return self._message is None or self._message.match(text) is not None

    @property
    def pattern(self) -> str:
        """What it matches now, for libraries that copy filters, such as scikit-learn."""
        if not self._context.is_entered:
            return "(?!)"
        return "" if self._message is None else self._message.pattern

    def __reduce__(self) -> Any:
        # Other processes, to which filters are sent, get what it is now.
        flags = 0 if self._message is None else self._message.flags
        return re.compile, (self.pattern, flags)


@functools.lru_cache(maxsize=64)
def ignoring(category: type[Warning], message: re.Pattern[str] | None = None) -> Together:
    """Return a context in which warnings are not shown, in any thread.

    `message` is a pattern for the beginning of their text.
    """
    return _Ignoring(category, message)


@contextmanager
def _filters_restored() -> Iterator[None]:
    before = list(warnings.filters)
    yield
    _filters_now()[:] = before


_filters = Together(_filters_restored)


def own_filters() -> list[Any]:
    """Return the ``warnings.filters`` of this process, for `with_filters` in another one.

    Classes are replaced by names, because unpickling a class would import its library.
    """
    return [(*entry[:2], _name_of(entry[2]), *entry[3:]) for entry in warnings.filters]


def _name_of(kind: Any) -> Any:
    """Return module and name of a class, or itself if other processes cannot import it."""
    module, name = kind.__module__, kind.__qualname__
    found = getattr(sys.modules.get(module), name, None) is kind
    return (module, name) if found and module != "__main__" else kind


@contextmanager
def with_filters(filters: list[Any]) -> Iterator[None]:
    """Filter warnings as another process does, by its `own_filters`.

    Filters of classes that are not imported here are not needed.
    """
    found = []
    for action, message, kind, *where in filters:
        if isinstance(kind, tuple):
            kind = getattr(sys.modules.get(kind[0]), kind[1], None)
        if kind is not None:
            found.append((action, message, kind, *where))
    with _filters:
        warnings.resetwarnings()  # also forgets which warnings were shown
        _filters_now()[:] = found
        yield


def _settings_of_torch(torch: Any) -> dict[str, tuple[Any, Any, Any]]:
    """Return how settings that results depend on are read and set, and what they are by default."""
    of_algorithms = torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 0
    return {
        "dtype": (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        "deterministic": of_algorithms,
    }


def own_precision() -> dict[str, Any] | None:
    """Return how torch computes in this thread, for `with_precision` in another; None if as usual.

    That are its default type, whether its algorithms are deterministic, and autocast.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    settings = _settings_of_torch(torch)
    found = {name: read() for name, (read, _, _) in settings.items()}
    kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    if not kinds and all(found[name] == default for name, (_, _, default) in settings.items()):
        return None
    return {**found, "autocast": {kind: torch.get_autocast_dtype(kind) for kind in kinds}}


def _set_in_torch(torch: Any, values: dict[str, Any]) -> None:
    for name, (read, set_to, _) in _settings_of_torch(torch).items():
        if read() != values[name]:
            set_to(values[name])


@contextmanager
def _torch_restored() -> Iterator[None]:
    torch = sys.modules["torch"]
    before = {name: read() for name, (read, _, _) in _settings_of_torch(torch).items()}
    yield
    _set_in_torch(torch, before)


_precision = Together(_torch_restored)


@contextmanager
def with_precision(precision: dict[str, Any] | None) -> Iterator[None]:
    """Compute with torch as another thread does, by its `own_precision`."""
    if precision is None:
        yield
        return
    import torch

    with _precision, ExitStack() as stack:
        _set_in_torch(torch, precision)
        for kind, dtype in precision["autocast"].items():
            stack.enter_context(torch.autocast(kind, dtype))
        yield


class _TorchThreads(Together):
    """The number of threads that torch uses within an operation; restored after the body."""

    def __init__(self) -> None:
        super().__init__(self._restoring)
        self._before = None

    def set(self, number: int) -> None:
        """Change the number, for this thread and for new ones."""
        torch = sys.modules.get("torch")
        if torch is None or torch.get_num_threads() == number:
            return
        with self._lock:
            if self._before is None:
                self._before = torch.get_num_threads()
            torch.set_num_threads(number)

    @contextmanager
    def _restoring(self) -> Iterator[None]:
        yield
        before, self._before = self._before, None
        if before is not None:
            sys.modules["torch"].set_num_threads(before)


TORCH_THREADS = _TorchThreads()


@functools.cache
def _linear_algebra() -> Any:
    return ThreadpoolController()  # slow: inspects all loaded libraries


_on_one_thread = Together(lambda: _linear_algebra().limit(limits=1, user_api="blas"))


def one_thread() -> Together:
    """A context in which BLAS and LAPACK use one thread, because rounding depends on the number."""
    return _on_one_thread


def total_memory() -> float | None:
    """Return the bytes of memory that this process may use, or None if unknown."""
    limits = []
    with suppress(AttributeError, ValueError, OSError):  # Windows has no such names
        limits.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    with suppress(ValueError, OSError):  # "max", or no such file
        limits.append(float(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits, default=None)


def remove_at_last(path: str) -> None:
    """Remove a file or folder after the end of this process and its workers.

    joblib's resource tracker, a process that outlives them, does it.
    """
    resource_tracker.register(path, _kind(path))


def remove_now(path: str) -> None:
    """Remove it now; what cannot be removed yet, such as mapped files on Windows, at last."""
    kind = _kind(path)
    with suppress(OSError):
        shutil.rmtree(path) if kind == "folder" else os.unlink(path)
        resource_tracker.unregister(path, kind)


def _kind(path: str) -> str:
    return "folder" if os.path.isdir(path) else "file"


@functools.cache
def end_with(driver: int) -> None:
    """End this process soon after its parent, if that is process `driver`."""
    if os.name == "posix" and os.getppid() == driver:
        threading.Thread(target=_end_after, args=(driver,), daemon=True).start()


def end_with_parent(driver: int) -> None:
    """Do so in a child of the driver; end at once if the driver is not the parent any more."""
    if os.name == "posix" and os.getppid() != driver:
        os._exit(1)
    end_with(driver)


def _end_after(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(1)
    os._exit(1)
