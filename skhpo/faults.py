"""Mistakes of this package, where it tries something and goes on without it."""

from __future__ import annotations

import os
import traceback
import warnings

__all__ = ["is_mistake", "warn_of_mistake"]

_HOME = os.path.dirname(__file__) + os.sep


def is_mistake(error: BaseException) -> bool:
    """Whether a line of this package failed that raises nothing on purpose.

    Errors of the user's code, of torch and of scikit-learn were raised in their files; what this
    package refuses, by a ``raise``.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not frames[-1].filename.startswith(_HOME):
        return False
    return not (frames[-1].line or "").startswith("raise")


def warn_of_mistake(error: BaseException, consequence: str) -> None:
    """Warn if an error that is otherwise ignored is a mistake of this package."""
    if is_mistake(error):
        *_, frame = traceback.extract_tb(error.__traceback__)
        place = f"{os.path.relpath(frame.filename, os.path.dirname(_HOME[:-1]))}:{frame.lineno}"
        warnings.warn(
            f"{consequence}, because of a mistake in skhpo ({type(error).__name__}: {error} in "
            f"{place}); please report it",
            RuntimeWarning,
            stacklevel=3,
        )
