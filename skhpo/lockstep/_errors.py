"""The error of networks that cannot be trained in lockstep."""

from __future__ import annotations

import logging

__all__ = ["LockstepError", "log"]

log = logging.getLogger("skhpo")


class LockstepError(Exception):
    """These networks cannot be trained in lockstep; the message says why."""
