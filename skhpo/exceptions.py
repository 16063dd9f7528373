"""Warnings and errors of the package."""

__all__ = ["JournalError", "NonFiniteLossError", "SearchStoppedWarning"]


class JournalError(ValueError):
    """A journal that cannot be used: unwritable, in use, damaged, or of another search."""


class NonFiniteLossError(ValueError):
    """The training loss of a network became infinite or NaN."""


class SearchStoppedWarning(UserWarning):
    """A search ended before its scheduler was done: interrupted, or out of time."""
