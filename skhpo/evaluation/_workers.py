"""What a process does before it fits, and when it ends."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import threading
import time

__all__ = ["end_with", "end_with_parent", "import_first"]


@functools.cache
def end_with(driver):
    """End this process soon after the driver that started it, instead of waiting for more work.

    Parameters
    ----------
    driver : int
        Its process. Nothing is done if it is another one than the parent of this process.
    """
    if os.name == "posix" and os.getppid() == driver:
        threading.Thread(target=_end_after, args=(driver,), daemon=True).start()


def end_with_parent(driver):
    """Do so in a process whose parent is the driver, and gone if it is not the parent any more."""
    if os.name == "posix" and os.getppid() != driver:
        os._exit(1)
    end_with(driver)


def _end_after(driver):
    while os.getppid() == driver:
        time.sleep(1)
    os._exit(1)


def import_first():
    """Import what estimators import while they are fitted for the first time: no fit's time."""
    if "skhpo.estimators" in sys.modules:
        importlib.import_module("torch._dynamo")  # by the first optimizer
        importlib.import_module("skhpo.stacking")
    if "skhpo.estimators.keras" in sys.modules:
        sys.modules["skhpo.estimators.keras"]._backend.import_keras()
