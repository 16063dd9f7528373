"""Files of this package: written completely or not at all, with helpful errors."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from .exceptions import StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["read_file", "storing", "to_disk", "write_all", "write_atomically"]

_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)  # macOS

# Windows lacks O_NOFOLLOW and O_CLOEXEC, and needs O_BINARY.
_FLAGS = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
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
    path: str | PathLike[str], content: bytes | memoryview, *, mode: int = 0o666, sync: bool = True
) -> None:
    """Write a file atomically: at any time there is the old or the complete new content.

    A temporary file in the same folder is renamed, and removed if writing fails or is interrupted.
    A link at `path` is replaced, never followed. `mode` are the permissions before the umask; with
    `sync` the content survives a crash of the machine. StorageError is raised if writing fails.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    with storing(path):
        try:
            descriptor = os.open(temporary, _FLAGS, mode)
            try:
                write_all(descriptor, content)
                if sync:
                    to_disk(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


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
    descriptor = os.open(path, _READ)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
        return file.read()
