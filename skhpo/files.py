"""Files of the package's own: written whole or not at all, with errors that say what to do."""

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

__all__ = ["read_file", "storing", "write_all", "write_atomically"]

# Windows has neither of them, and needs the third.
_FLAGS = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
# A pipe must not be waited for.
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
    """Put bytes at a path, at once: there is what was before, or all of the new content.

    The new file is written beside `path` and renamed. A link at `path` is replaced, never followed.
    Nothing is left beside it if writing fails or is interrupted.

    Parameters
    ----------
    path : str or path-like
    content : bytes-like
    mode : int, default=0o666
        Permissions, of which the umask takes away.
    sync : bool, default=True
        Whether the content shall survive a crash of the machine.

    Raises
    ------
    StorageError
        If the system refuses.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    with storing(path):
        try:
            descriptor = os.open(temporary, _FLAGS, mode)
            try:
                write_all(descriptor, content)
                if sync:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write bytes to an open file, however many calls that takes.

    Parameters
    ----------
    descriptor : int
    content : bytes-like

    Raises
    ------
    OSError
        If the system refuses; part of the content may have been written.
    """
    left = memoryview(content).cast("B")
    while left:
        written = os.write(descriptor, left)
        if not written:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        left = left[written:]


@contextlib.contextmanager
def storing(path: str | PathLike[str]) -> Iterator[None]:
    """Raise what the system refuses in the body as a StorageError about `path`."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(error.errno, reason, os.fspath(path)) from error


def read_file(path: str | PathLike[str]) -> bytes:
    """Read a file of the package's own; links and whatever is no file are refused.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    bytes

    Raises
    ------
    OSError
        If it is missing, cannot be read, or is no regular file.
    """
    descriptor = os.open(path, _READ)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
        return file.read()
