"""What a process does before it fits."""

from __future__ import annotations

import importlib
import sys

__all__ = ["import_first"]


def import_first() -> None:
    """Import what estimators import while they are fitted for the first time: no fit's time."""
    if "skhpo.estimators" in sys.modules:
        importlib.import_module("torch._dynamo")  # by the first optimizer
        importlib.import_module("skhpo.lockstep")
    if "skhpo.estimators.keras" in sys.modules:
        sys.modules["skhpo.estimators.keras"]._backend.import_keras()
