"""Whose failure an error is: the candidate's, or that of what is around it."""

from __future__ import annotations

from ..exceptions import StorageError
from ..interrupts import is_interrupt

__all__ = ["Environment", "raise_unless_candidates", "saved"]


class Environment(BaseException):
    """Carries an error that is no candidate's past everything that handles those of candidates.

    Parameters
    ----------
    error : Exception
    """

    def __init__(self, error):
        super().__init__(error)
        self.error = error


def raise_unless_candidates(error, setting):
    """Raise an error that the candidate has not to answer for; all of them where that is wanted.

    A candidate answers for whatever its code raises, ``sys.exit`` included.

    Parameters
    ----------
    error : BaseException
    setting : Setting
    """
    if is_interrupt(error):
        raise KeyboardInterrupt from error
    if isinstance(error, Environment) or setting.raise_errors:
        raise error


def saved(state, path):
    """Write the checkpoint of a fit; that the system refuses is nobody's fault."""
    try:
        state.save_checkpoint(path)
    except StorageError as error:
        raise Environment(error) from error
