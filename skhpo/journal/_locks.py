"""Locks of open files: who has one is at work there."""

from __future__ import annotations

from contextlib import suppress
from os import PathLike

from ..exceptions import JournalError

try:
    import fcntl
except ImportError:  # Windows: a second process is not noticed there
    fcntl = None  # type: ignore[assignment]

__all__ = ["HAS_LOCKS", "lock", "unlock"]

HAS_LOCKS = fcntl is not None


def lock(descriptor: int, path: str | PathLike[str], *, shared: bool = False) -> bool:
    """Lock an open file, until it is closed; return whether it was free.

    Parameters
    ----------
    descriptor : int
    path : Path
        Of the file, for messages.
    shared : bool, default=False
        Whether others may have a lock of this kind at the same time.

    Raises
    ------
    JournalError
        If its file system has no locks.
    """
    if fcntl is None:
        return True
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
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
    if fcntl is not None:
        with suppress(OSError):  # it was not locked
            fcntl.flock(descriptor, fcntl.LOCK_UN)
