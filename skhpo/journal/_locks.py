"""Locks of journals: whether all machines see them, waiting for one, and whose it is."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from os import PathLike

from ..exceptions import JournalError
from ..files import lock

__all__ = [
    "PATIENCE",
    "check_locks",
    "holder_of",
    "in_use",
    "is_stopped",
    "report",
    "wait_for_lock",
]

# Where Linux lists what is mounted, and the options with which a network file system keeps locks to
# one machine.
_MOUNTS = "/proc/self/mountinfo"
_KEPT_LOCAL = {"nolock", "local_lock=flock", "local_lock=all", "localflock", "noflock"}

_log = logging.getLogger(__name__)

# Where Linux lists the locks of this machine, and its processes.
_LOCKS, _PROCESSES = "/proc/locks", "/proc"

# Seconds after which a wait is reported. A turn takes milliseconds; it takes seconds where a
# sampler that learns from many scores proposes for many workers.
PATIENCE = 30.0


def check_locks(descriptor: int, path: str | PathLike[str]) -> None:
    """Lock a new file, and raise JournalError unless all processes on its disk see the lock.

    Parameters
    ----------
    descriptor : int
        Of the file, open for writing.
    path : Path
    """
    lock(descriptor, path, wait=True)  # another process may look whether it is locked
    again = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    try:
        if lock(again, path):
            raise JournalError(
                f"shared=True needs a file system with locks, but that of {str(path)!r} gives the "
                "same lock twice; give the journal a path on another one"
            )
    finally:
        os.close(again)
    kind, options = _mount_of(os.path.realpath(path))
    if found := _KEPT_LOCAL.intersection(options):
        raise JournalError(
            f"shared=True needs locks that all machines see, but {str(path)!r} is on a file system "
            f"({kind}) that is mounted with {', '.join(sorted(found))}, so that each machine has "
            "its own; mount it without, or give the journal a path on another one"
        )


def _mount_of(path: str) -> tuple[str, list[str]]:
    """Return the type of a file's file system, and its options, as far as the system says them."""
    found, length = ("", [""]), -1
    try:
        with open(_MOUNTS) as lines:
            for line in lines:
                before, _, after = line.partition(" - ")
                point = before.split()[4].encode().decode("unicode_escape").rstrip("/")
                if len(point) >= length and f"{path}/".startswith(f"{point}/"):
                    kind, _, options = after.split(maxsplit=2)
                    options = f"{before.split()[5]},{options.strip()}"
                    found, length = (kind, options.split(",")), len(point)
    except (OSError, ValueError, IndexError):  # another system
        return "", []
    return found


def wait_for_lock(
    descriptor: int, path: str | PathLike[str], explain: Callable[[float], str]
) -> None:
    """Lock an open file, and wait until that is possible; a long wait is reported, once.

    For what is rarely waited for: each wait starts a thread.

    Parameters
    ----------
    descriptor : int
    path : Path
        Of the file, for messages.
    explain : callable
        From seconds to what is said of a wait that takes longer.
    """
    if lock(descriptor, path):
        return

    timer = threading.Timer(PATIENCE, lambda: report(explain(PATIENCE)))
    timer.daemon = True
    timer.start()
    try:
        lock(descriptor, path, wait=True)
    finally:
        timer.cancel()


def report(explained: str) -> None:
    """Warn from a thread of its own; where warnings are errors, which would end it, log instead."""
    try:
        warnings.warn(explained, UserWarning, stacklevel=2)
    except UserWarning:
        _log.warning(explained)


def holder_of(path: str | PathLike[str]) -> int | None:
    """Return which process of this machine has locked a file; None if the system does not say."""
    try:
        inode = os.stat(path).st_ino
        with open(_LOCKS) as lines:
            found = list(_exclusive(lines, inode))
    except (OSError, ValueError, IndexError):  # another system
        return None
    # Files of several disks may have the same number.
    return next((process for process in found if _has_open(process, path)), None)


def is_stopped(process: int) -> bool:
    """Return whether a process of this machine was stopped, as by Ctrl-Z."""
    try:
        with open(f"{_PROCESSES}/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False


def _exclusive(lines: Iterator[str], inode: int) -> Iterator[int]:
    """Yield the processes that have locked a file with this number; others wait, behind "->"."""
    for line in lines:
        _, kind, _, how, process, place, *_ = line.split()
        if (kind, how) == ("FLOCK", "WRITE") and int(place.rpartition(":")[2]) == inode:
            yield int(process)


def _has_open(process: int, path: str | PathLike[str]) -> bool:
    folder = f"{_PROCESSES}/{process}/fd"
    try:
        return any(
            os.path.samefile(f"{folder}/{name}", path)
            for name in os.listdir(folder)
            if os.path.exists(f"{folder}/{name}")
        )
    except OSError:  # it has ended, or is another user's
        return False


def in_use(path: str | PathLike[str]) -> JournalError:
    """Return the error of a journal that another process works with."""
    return JournalError(
        f"a journal serves one search at a time, but {str(path)!r} is in use by "
        "another process; wait for it, set shared=True in both, or give this search a path of its "
        "own ('run-{data}.jsonl' is one for each fold of an outer cross-validation)"
    )
