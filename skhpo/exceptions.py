"""Warnings and errors of the package."""

__all__ = ["JournalError", "SearchStoppedWarning"]


class JournalError(ValueError):
    """A journal that cannot be used: unwritable, in use, damaged, or of another search."""


class SearchStoppedWarning(UserWarning):
    """A search ended before its scheduler was done: interrupted, or out of time."""
