"""Warnings and errors of the package."""

import errno

__all__ = ["JournalError", "NonFiniteLossError", "SearchStoppedWarning", "StorageError"]

# What helps against the errors of a system that are common, by number.
_ADVICE: dict[int | None, str] = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room in the quota of its disk",
    errno.EFBIG: "raise the limit on the size of a file, or give a path on another disk",
    errno.EROFS: "its disk is read-only: make it writable, or give a path on another one",
    errno.EACCES: "change the permissions of its folder, or give another path",
    errno.EPERM: "change the permissions of its folder, or give another path",
    errno.EIO: "its disk may be damaged: see the log of the system, or give a path on another one",
    errno.ENOENT: "its folder is gone: make it again, or give another path",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}


class BatchNormWarning(UserWarning):
    """The moving averages of batch normalization do not stand for the training rows."""


class JournalError(ValueError):
    """A journal that cannot be used: unwritable, in use, damaged, or of another search."""


class NonFiniteLossError(ValueError):
    """The training loss of a network became infinite or NaN."""


class SearchStoppedWarning(UserWarning):
    """A search ended before its scheduler was done: interrupted, or out of time."""


class StorageError(OSError):
    """The system did not let the package write, or read, a file of its own: a full disk, say.

    Parameters
    ----------
    errno : int
    strerror : str
    filename : str
    """

    def __str__(self) -> str:
        advice = _ADVICE.get(self.errno, "see to that, or give another path")
        return f"[Errno {self.errno}] {self.strerror}: {self.filename!r}; {advice}"
