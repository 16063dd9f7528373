"""Files of this package: written completely or not at all, locked, with helpful errors."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from .exceptions import JournalError, StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
try:
    import msvcrt
except ImportError:  # all others
    msvcrt = None  # type: ignore[assignment]

__all__ = [
    "HAS_LOCKS",
    "OPEN_FILES_MOVE",
    "append_at",
    "lock",
    "opened",
    "read_file",
    "storing",
    "to_disk",
    "unlock",
    "write_all",
    "write_atomically",
]

HAS_LOCKS = fcntl is not None or msvcrt is not None

# Whether open files can be renamed and removed, and folders locked: not on Windows.
OPEN_FILES_MOVE = fcntl is not None

# The byte that Windows locks in the place of a file, far behind what is written, because nobody
# else can read a locked one; and seconds between two tries to lock it.
_BYTE = 2**31 - 2
_AGAIN = 0.01

_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)  # macOS

# Windows lacks O_NOFOLLOW and O_CLOEXEC, and needs O_BINARY.
_WRITE = (
    os.O_WRONLY
    | os.O_CREAT
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
# O_NONBLOCK: opening a pipe must not block.
_READ = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def write_atomically(
    path: str | PathLike[str],
    content: bytes | memoryview | Iterable[bytes],
    *,
    mode: int = 0o666,
    sync: bool = True,
) -> None:
    """Write a file atomically: at any time there is the old or the complete new content.

    The content may come in parts. A temporary file in the same folder is renamed, and removed if
    writing fails or is interrupted. A link at `path` is replaced, never followed. `mode` are the
    permissions before the umask; with `sync` the content survives a crash of the machine.
    StorageError is raised if writing fails.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    parts = (content,) if isinstance(content, bytes | memoryview) else content
    with storing(path):
        try:
            descriptor = os.open(temporary, _WRITE | os.O_EXCL, mode)
            try:
                for part in parts:
                    write_all(descriptor, part)
                if sync:
                    to_disk(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def append_at(
    path: str | PathLike[str], end: int, content: bytes, *, mode: int = 0o666, sync: bool = False
) -> int:
    """Append to a file that this process alone writes, and return where that begins.

    What is beyond `end` is the rest of a write that failed, and cut off. Where there is less (the
    file was removed, say), the content begins there. A write that fails is undone, and StorageError
    raised. The file is closed each time, so that other machines see the content. `mode` and `sync`
    are those of `write_atomically`.
    """
    with storing(path):
        descriptor = os.open(path, _WRITE | os.O_APPEND, mode)
        try:
            size = os.fstat(descriptor).st_size
            if size > end:
                os.ftruncate(descriptor, end)
            begin = min(size, end)
            try:
                write_all(descriptor, content)
                if sync:
                    to_disk(descriptor)
            except BaseException:
                with contextlib.suppress(OSError):  # cut off by the next one
                    os.ftruncate(descriptor, begin)
                raise
            return begin
        finally:
            os.close(descriptor)


def to_disk(descriptor: int) -> None:
    """Make what was written to an open file survive a crash of the machine.

    On macOS ``fsync`` leaves it in the cache of the drive; another call waits for the drive, where
    the file system knows it.
    """
    if _FULL_SYNC is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _FULL_SYNC)
            return
    os.fsync(descriptor)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write all bytes to an open file; after an OSError a part may have been written."""
    left = memoryview(content).cast("B")
    while left:
        written = os.write(descriptor, left)
        if not written:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        left = left[written:]


@contextlib.contextmanager
def storing(path: str | PathLike[str]) -> Iterator[None]:
    """Convert an OSError in the body to a StorageError about `path`."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(error.errno, reason, os.fspath(path)) from error


def read_file(path: str | PathLike[str]) -> bytes:
    """Read a file of this package; OSError if it is missing, unreadable, or not a regular file."""
    with opened(path) as file:
        return file.read()


@contextlib.contextmanager
def opened(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file of this package to read it; OSError as of `read_file`."""
    descriptor = os.open(path, _READ)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
        yield file


def lock(
    descriptor: int, path: str | PathLike[str], *, shared: bool = False, wait: bool = False
) -> bool:
    """Lock the open file of a journal, until it is closed; return whether it was free.

    Parameters
    ----------
    descriptor : int
    path : Path
        Of the file, for messages.
    shared : bool, default=False
        Whether others may have a lock of this kind at the same time.
    wait : bool, default=False
        Whether to wait until it is free.

    Raises
    ------
    JournalError
        If its file system has no locks.
    """
    try:
        if fcntl is not None:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        elif msvcrt is not None:
            while not _lock_byte(descriptor, msvcrt.LK_NBLCK):
                if not wait:
                    return False
                time.sleep(_AGAIN)
    except BlockingIOError:
        return False
    except OSError as error:
        raise JournalError(
            f"a journal must be on a file system with locks, but {str(path)!r} cannot be locked: "
            f"{error.strerror}; give a path on another one"
        ) from error
    return True


def unlock(descriptor: int) -> None:
    """Let go of a lock, also for forked children that have the file open."""
    with contextlib.suppress(OSError):  # it was not locked
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        elif msvcrt is not None:
            _lock_byte(descriptor, msvcrt.LK_UNLCK)


def _lock_byte(descriptor: int, how: int) -> bool:
    """Lock or unlock the byte that stands for a file; return whether nobody else had locked it."""
    place = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, _BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, how, 1)  # type: ignore[attr-defined]
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EDEADLK):
            return False
        raise
    finally:
        os.lseek(descriptor, place, os.SEEK_SET)
    return True
