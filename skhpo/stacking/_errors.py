"""What stands in the way of a stack."""

from __future__ import annotations

import logging

__all__ = ["CannotStackError", "log"]

log = logging.getLogger("skhpo")


class CannotStackError(Exception):
    """These nets cannot be trained as one; the message says why."""
