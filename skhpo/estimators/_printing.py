"""The table of epochs, where something has replaced ``print``."""

from __future__ import annotations

import inspect

from skorch.callbacks import PrintLog

__all__ = ["EpochTable", "with_epoch_table"]

_PRINT = inspect.signature(PrintLog).parameters["sink"].default


class EpochTable(PrintLog):
    """skorch's table, which compares its sink with the ``print`` of the moment.

    Ray replaces that one. The table would then be printed whatever `verbose` says, and could not
    be pickled.
    """

    def _sink(self, text, verbose):
        if verbose or self.sink is not _PRINT:
            self.sink(text)

    def __getstate__(self):
        return {k: v for k, v in vars(self).items() if v is not _PRINT}

    def __setstate__(self, state):
        vars(self).update({"sink": _PRINT, **state})


def with_epoch_table(callbacks):
    """Return skorch's default callbacks, as pairs of name and callback, with our table."""
    return [
        (name, EpochTable() if type(callback) is PrintLog else callback)
        for name, callback in callbacks
    ]
