"""What a process does before it fits, and how it is called."""

from __future__ import annotations

import importlib
import os
import socket
import sys
import threading

__all__ = ["import_first", "this_worker"]


_HOST = socket.gethostname()


def import_first() -> None:
    """Import what estimators import while they are fitted for the first time: no fit's time."""
    if "skhpo.estimators" in sys.modules:
        importlib.import_module("torch._dynamo")  # by the first optimizer
        importlib.import_module("skhpo.lockstep")
    if "skhpo.estimators.keras" in sys.modules:
        sys.modules["skhpo.estimators.keras"]._backend.import_keras()


def this_worker() -> str:
    """Return the name of what runs here: host, process, and thread if it is not the main one."""
    name = f"{_HOST}:{os.getpid()}"
    if threading.current_thread() is threading.main_thread():
        return name
    return f"{name}:{threading.get_native_id()}"
