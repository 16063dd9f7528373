"""Whose failure an error is: the candidate's, or that of what is around it."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING, Any

from ..exceptions import StorageError
from ..interrupts import is_interrupt
from ..limits import FitTimeoutError

if TYPE_CHECKING:
    from ..journal import CheckpointFile
    from ._tasks import Setting

__all__ = ["FAILURES", "Environment", "raise_unless_candidates", "refused_by_system", "saved"]

# What a candidate answers for. Other exceptions, as those that libraries cancel by, go their way.
FAILURES = (Exception, SystemExit, FitTimeoutError)


class Environment(BaseException):
    """Carries an error that is no candidate's past everything that handles those of candidates.

    Parameters
    ----------
    error : Exception
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def raise_unless_candidates(error: BaseException, setting: Setting) -> None:
    """Raise what one of FAILURES is if no failure: Ctrl-C; all of them where that is wanted.

    Parameters
    ----------
    error : Exception or SystemExit
    setting : Setting
    """
    if is_interrupt(error):
        raise KeyboardInterrupt from error
    if setting.raise_errors:
        raise error


def saved(state: Any, file: CheckpointFile) -> None:
    """Write the checkpoint of a fit; that the system refuses is nobody's fault."""
    try:
        file.save(state)
    except StorageError as error:
        raise Environment(error) from error


def refused_by_system(error: Exception, folder: str) -> StorageError | None:
    """Return what kept a call from its worker as a StorageError, if that was the system.

    Large arrays go to workers through files. joblib hands over what went wrong with them as text.

    Parameters
    ----------
    error : Exception
    folder : str
        Where the files are.
    """
    found = re.findall(r"OSError: \[Errno (\d+)\]", str(error.__cause__))
    if isinstance(error, OSError):
        number = error.errno or errno.EIO
    elif found:
        number = int(found[-1])
    else:
        return None
    return StorageError(number, os.strerror(number), getattr(error, "filename", None) or folder)
