"""Linear algebra on one thread: its rounding would otherwise depend on how many there are."""

from __future__ import annotations

from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from ...process import Together

__all__ = ["one_thread"]


@cache
def _libraries() -> Any:
    return ThreadpoolController()  # looks through all loaded libraries, which takes a while


_limited = Together(lambda: _libraries().limit(limits=1, user_api="blas"))


def one_thread() -> Together:
    """A context in which BLAS and LAPACK run on one thread."""
    return _limited
