"""Mistakes of this package, where it tries something and goes on without it."""

from __future__ import annotations

import os
import re
import traceback
import warnings

__all__ = ["is_mistake", "warn_of_mistake"]

_HOME = os.path.dirname(__file__) + os.sep
# Texts of Python for arguments that a function does not take, raised in the line of its call.
_REFUSED_CALL = re.compile(r".+\(\) (missing|takes|got) ")


def is_mistake(error: BaseException) -> bool:
    """Whether a line of this package failed that raises nothing on purpose.

    Errors of the user's code, of torch and of scikit-learn were raised in their files; what this
    package refuses, by a ``raise``. Too little memory is none, and neither are arguments that a
    function does not take, which is most often the user's: both fail in a line of this package.
    """
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return False
    if "can't allocate memory" in str(error):  # of torch, on a CPU
        return False
    if isinstance(error, TypeError) and _REFUSED_CALL.match(str(error)):
        return False
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
