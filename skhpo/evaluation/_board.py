"""A file with the current item of each call in other processes, its process and its time limit.

The driver makes the file, of fixed size, and its workers on this machine map it. It can be written
while the disk is full, and read when workers have died or do not respond.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import signal
import struct
import tempfile
from typing import Any

from ..files import storing, write_all
from ..process import remove_at_last, remove_now

__all__ = ["Board", "Row"]

# Process, item and end of its time.
_ROW = struct.Struct("=qqd")


class Board:
    """One row for each call that can run at the same time."""

    def __init__(self, n_rows: int) -> None:
        with storing(tempfile.gettempdir()):
            descriptor, self.path = tempfile.mkstemp(prefix="skhpo-")
            remove_at_last(self.path)
            try:
                write_all(descriptor, bytes(_ROW.size * n_rows))
                self._map = mmap.mmap(descriptor, 0)
            except BaseException:
                remove_now(self.path)
                raise
            finally:
                os.close(descriptor)

    def read(self, row: int) -> tuple[int, int, float]:
        """Return process, item and end of the time of a call; the end is 0 where there is none."""
        return _ROW.unpack_from(self._map, row * _ROW.size)

    def clear(self, row: int) -> None:
        _ROW.pack_into(self._map, row * _ROW.size, 0, 0, 0.0)

    def end(self, row: int) -> Any:
        """End the process of a call, also if it does not respond."""
        process = self.read(row)[0]
        if process:
            with contextlib.suppress(OSError):  # it has ended
                os.kill(process, getattr(signal, "SIGKILL", signal.SIGTERM))

    def close(self) -> None:
        self._map.close()
        remove_now(self.path)


class Row:
    """A row of the board, written by a worker.

    Parameters
    ----------
    path : str
        Of the board.
    row : int
    """

    def __init__(self, path: str, row: int) -> None:
        self.path = path
        self.row = row

    def write(self, item: int, end: float | None) -> None:
        """Write the number of the current item, and the end of its time or None."""
        _ROW.pack_into(_mapped(self.path), self.row * _ROW.size, os.getpid(), item, end or 0.0)


@functools.lru_cache(maxsize=1)
def _mapped(path: str) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR)
    try:
        return mmap.mmap(descriptor, 0)
    finally:
        os.close(descriptor)
