"""Waiting for the lock of a file, and which process has it, as far as the system says so."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from os import PathLike

from ._locks import lock

__all__ = ["PATIENCE", "holder_of", "is_stopped", "report", "wait_for_lock"]

_log = logging.getLogger(__name__)

# Where Linux lists the locks of this machine, and its processes.
_LOCKS, _PROCESSES = "/proc/locks", "/proc"

# Seconds after which a wait is reported. A turn takes milliseconds; it takes seconds where a
# sampler that learns from many scores proposes for many workers.
PATIENCE = 30.0


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
