"""The process as a whole: settings that threads change for a while, and its end with its parent.

A thread that saves such a setting and restores it later undoes what another one did meanwhile, or
leaves that for good. Here the first one in changes the setting, and the last one out puts it back.
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
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

__all__ = [
    "LEFT_BY_DRIVER",
    "TORCH_THREADS",
    "Together",
    "end_with",
    "end_with_parent",
    "ignoring",
    "one_thread",
    "total_memory",
    "with_filters",
]


class Together:
    """A context manager that is entered once, however many threads are in it.

    Parameters
    ----------
    make : callable
        Returns the context manager.
    """

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


@functools.lru_cache(maxsize=64)
def ignoring(category: type[Warning], message: re.Pattern[str] | None = None) -> Together:
    """Return a context in which warnings are not shown, in any thread.

    Parameters
    ----------
    category : type
    message : re.Pattern or None, default=None
        What their text must begin with.

    Returns
    -------
    Together
    """
    entry = ("ignore", message, category, None, 0)

    @contextmanager
    def filtering() -> Iterator[None]:
        warnings.filters.insert(0, entry)
        try:
            yield
        finally:
            # Others may have put theirs before it.
            found = [i for i, other in enumerate(warnings.filters) if other is entry]
            for i in reversed(found):
                del warnings.filters[i]

    return Together(filtering)


@contextmanager
def _filters_restored() -> Iterator[None]:
    before = list(warnings.filters)
    yield
    warnings.filters[:] = before


_filters = Together(_filters_restored)


@contextmanager
def with_filters(filters: list[Any]) -> Iterator[None]:
    """Filter warnings as another process does.

    Parameters
    ----------
    filters : list of tuple
        Its ``warnings.filters``.
    """
    with _filters:
        warnings.resetwarnings()  # forgets what was shown already, too
        warnings.filters[:] = filters
        yield


class _TorchThreads(Together):
    """The number of threads that torch uses within an operation; as it was, after the body."""

    def __init__(self) -> None:
        super().__init__(self._restoring)
        self._before = None

    def set(self, number: int) -> None:
        """Change the number, for this thread and for those to come."""
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
    return ThreadpoolController()  # looks through all loaded libraries, which takes a while


_on_one_thread = Together(lambda: _linear_algebra().limit(limits=1, user_api="blas"))


def one_thread() -> Together:
    """A context in which BLAS and LAPACK run on one thread: rounding depends on how many do."""
    return _on_one_thread


def total_memory() -> float | None:
    """Return the bytes of memory that this process may use; None where that is unknown."""
    limits = []
    with suppress(AttributeError, ValueError, OSError):  # Windows has no such names
        limits.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    with suppress(ValueError, OSError):  # "max", or no such file
        limits.append(float(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits, default=None)


# What a worker that ends with its driver removes: files and folders that the driver left behind.
LEFT_BY_DRIVER: set[str] = set()


@functools.cache
def end_with(driver: int) -> None:
    """End this process soon after the driver that started it, instead of waiting for more work.

    Parameters
    ----------
    driver : int
        Its process. Nothing is done if it is another one than the parent of this process.
    """
    if os.name == "posix" and os.getppid() == driver:
        threading.Thread(target=_end_after, args=(driver,), daemon=True).start()


def end_with_parent(driver: int) -> None:
    """Do so in a process whose parent is the driver, and gone if it is not the parent any more."""
    if os.name == "posix" and os.getppid() != driver:
        os._exit(1)
    end_with(driver)


def _end_after(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(1)
    for path in list(LEFT_BY_DRIVER):
        with suppress(OSError):  # another worker was faster
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    os._exit(1)
