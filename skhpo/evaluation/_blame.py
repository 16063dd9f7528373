"""Decides whether an error is the failure of a candidate or of its environment."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING, Any

import cloudpickle

from ..exceptions import StorageError
from ..limits import FitTimeoutError, is_interrupt

if TYPE_CHECKING:
    from ..journal import CheckpointFile
    from ..trial import FitResult
    from ._tasks import Setting

__all__ = [
    "FAILURES",
    "Environment",
    "failure",
    "raise_unless_candidates",
    "raised_by",
    "refused_by_system",
    "saved",
]

# Failures of candidates. Other exceptions, such as those by which libraries cancel, are passed on.
FAILURES = (Exception, SystemExit, FitTimeoutError)


class Environment(BaseException):
    """An error that is not a candidate's; passes everything that handles errors of candidates.

    Parameters
    ----------
    error : Exception
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def raise_unless_candidates(error: BaseException, setting: Setting) -> None:
    """Raise an error again if it is no failure of a candidate (Ctrl-C), or if all are raised.

    Parameters
    ----------
    error : Exception or SystemExit
    setting : Setting
    """
    if is_interrupt(error):
        raise KeyboardInterrupt from error
    if setting.raise_errors:
        raise error


class Failure(str):
    """The traceback of a fit that failed, with the exception: whoever gets it may raise it later.

    Parameters
    ----------
    text : str
    raised : BaseException
    """

    raised: BaseException

    def __new__(cls, text: str, raised: BaseException | None = None) -> Failure:
        made = super().__new__(cls, text)
        made.raised = RuntimeError(text) if raised is None else raised
        return made


def failure(error: BaseException, text: str, setting: Setting) -> str:
    """Return the text of an error for a result; with the error itself, where those are kept."""
    if not setting.keep_errors:
        return text
    try:
        cloudpickle.loads(cloudpickle.dumps(error))  # also of a class of the user's script
    except Exception:  # it could not leave a worker
        return Failure(text)
    return Failure(text, error)


def raised_by(result: FitResult) -> BaseException | None:
    """Return the exception of what failed in a fit, its scores included; None if nothing did."""
    for text in (result.error, result.score_error, result.unpredicted):
        if text is not None:
            error = text.raised if isinstance(text, Failure) else RuntimeError(text)
            was_elsewhere = error.__traceback__ is None  # it was raised in another process
            if was_elsewhere and text not in getattr(error, "__notes__", ()):
                error.add_note(text)
            return error
    return None


def saved(state: Any, file: CheckpointFile) -> None:
    """Write the checkpoint of a fit; an error of the system is not the candidate's failure."""
    try:
        file.save(state)
    except StorageError as error:
        raise Environment(error) from error


def refused_by_system(error: Exception, folder: str) -> StorageError | None:
    """Return a StorageError if the system kept a call from reaching its worker, else None.

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
