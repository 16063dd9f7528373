"""What stands in the way of a stack."""

from __future__ import annotations

__all__ = ["CannotStackError"]


class CannotStackError(Exception):
    """These nets cannot be trained as one; the message says why."""
