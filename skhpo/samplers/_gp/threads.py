"""Linear algebra on one thread: its rounding would otherwise depend on how many there are."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

__all__ = ["one_thread"]


@cache
def _libraries() -> Any:
    return ThreadpoolController()  # looks through all loaded libraries, which takes a while


def one_thread() -> AbstractContextManager[Any]:
    """A context in which BLAS and LAPACK run on one thread."""
    context: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return context
