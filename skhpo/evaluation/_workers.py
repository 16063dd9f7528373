"""The workers of a search: their devices, their names, and what they import first."""

from __future__ import annotations

import importlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial

__all__ = ["import_first", "memory_freed", "slots_of", "this_worker"]

_HOST = socket.gethostname()


def slots_of(devices: str | Sequence[str]) -> Callable[[int, bool], Sequence[str | None]]:
    """Turn a search's `devices` into slots; a running fit holds one.

    Parameters
    ----------
    devices : "auto", str or list of str
        "auto" spreads fits over the visible CUDA devices where torch is in use and there are some;
        a list has one slot for each time that a device is named.

    Returns
    -------
    callable
        From the number of jobs, and whether they all run on this machine, to the list of slots:
        devices, or None for "as the estimator says". Raises ValueError for a list of devices if
        they do not run here.

    Raises
    ------
    ValueError
        If a device does not exist.
    """
    if isinstance(devices, str) and devices == "auto":
        return _auto
    named = [devices] if isinstance(devices, str) else list(devices)
    if not named:
        raise ValueError("devices must name at least one device, but is empty; use 'auto' or 'cpu'")
    _check(named)
    if isinstance(devices, str) and devices == "cpu":
        return lambda n_jobs, local: ["cpu"] * n_jobs
    return partial(_named, named)


def _named(devices: Sequence[str], n_jobs: int, local: bool) -> Sequence[str]:
    if not local:
        raise ValueError(
            f"devices={devices!r} names devices of this machine, but the fits run on a cluster; "
            "use devices='auto', and set CUDA_VISIBLE_DEVICES for each worker"
        )
    return devices[:n_jobs]


def _auto(n_jobs: int, local: bool) -> Sequence[str | None]:
    if not local:
        return [None] * n_jobs
    torch = sys.modules.get("torch")
    count = torch.cuda.device_count() if torch is not None and torch.cuda.is_available() else 0
    return [f"cuda:{i % count}" if count else None for i in range(n_jobs)]


def _check(named: Sequence[str]) -> None:
    import torch

    for name in named:
        try:
            device = torch.device(name)
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"devices must be 'auto', 'cpu' or a list of torch devices such as "
                f"['cuda:0', 'cuda:1'], but {name!r} is none: {error}"
            ) from error
        count = torch.cuda.device_count()
        if device.type == "cuda" and (device.index or 0) >= count:
            raise ValueError(
                f"every device must exist, but devices has {name!r} and this machine has {count} "
                "CUDA devices; use devices='auto'"
            )


def memory_freed(exception: BaseException) -> bool:
    """Return whether a device ran out of memory, and free unused memory."""
    cls = type(exception)
    if cls.__name__ != "OutOfMemoryError" or cls.__module__.partition(".")[0] != "torch":
        return False
    sys.modules["torch"].cuda.empty_cache()
    return True


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
