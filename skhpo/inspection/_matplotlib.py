"""matplotlib, imported when something is drawn."""

from __future__ import annotations

__all__ = ["pyplot"]


def pyplot(display):
    """Return `matplotlib.pyplot`.

    Parameters
    ----------
    display : object
        What wants to draw.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{type(display).__name__}.plot needs matplotlib; install it, as with "
            "`pip install skhpo[plot]`"
        ) from error
    return plt
