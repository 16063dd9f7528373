"""Fitted transformers that several fits share, as long as they are worth their memory."""

from __future__ import annotations

import math
import os
import shutil
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..rows import n_bytes
from ._travel import Stored

if TYPE_CHECKING:
    from ..wrappers import Prepared
    from ._tasks import FitTask

__all__ = ["Transformed"]

# Of the memory that is free, the part that transformers may take which no fit at hand needs.
_SHARE = 1 / 4
# While no more settings were seen than this, it is open whether candidates share them.
_FEW_SETTINGS = 2
# Free bytes where the system does not tell.
_UNKNOWN = 2**32


class Transformed:
    """Fitted transformers by their keys, as long as a fit may need them.

    Those that no fit at hand needs are of two kinds. Where candidates have had the same ones, or
    the candidate may go on to a larger resource, they are kept, the latest used ones, in a share of
    the memory that is free. The others are let go of: where a transformer's parameter is drawn from
    a range, no candidate has them again.

    Parameters
    ----------
    max_level : int or None, default=None
        Resource beyond which no candidate goes on with the same rows.
    """

    def __init__(self, max_level: int | None = None) -> None:
        self.max_level = max_level
        self._kept: OrderedDict[tuple[Any, ...], Prepared | Stored] = OrderedDict()
        self._lasting: set[tuple[Any, ...]] = set()
        # The first candidate with each setting of transformers, whatever the split; by hashes, as
        # there may be many.
        self._candidates: dict[int, int] = {}
        self._recurred = False  # whether several candidates had one setting

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: Any) -> bool:
        return key in self._kept

    def __getitem__(self, key: Any) -> Prepared | Stored:
        self._kept.move_to_end(key)
        return self._kept[key]

    def __setitem__(self, key: Any, value: Prepared | Stored) -> None:
        self._kept[key] = value

    def note(self, task: FitTask) -> None:
        """Note that a fit needs its transformers."""
        assert task.key is not None
        setting, level = hash(task.key[-1]), task.levels[-1]
        if self._candidates.setdefault(setting, task.candidate) != task.candidate:
            self._recurred = True
        if level is not None and self.max_level is not None and level < self.max_level:
            self._lasting.add(task.key)
        else:
            self._lasting.discard(task.key)

    def let_go(self, needed: Collection[Any]) -> list[Prepared | Stored]:
        """Drop what is not worth its memory, and return it."""
        spare = {key: self._kept[key] for key in reversed(self._kept) if key not in needed}
        may_recur = self._recurred or len(self._candidates) <= _FEW_SETTINGS
        lasting = {key: spare[key] for key in spare if may_recur or key in self._lasting}
        room = _SHARE * _free_bytes(lasting.values()) if lasting else 0
        for key, value in lasting.items():
            room -= _bytes_of(value)
            if room >= 0:
                del spare[key]
        for key in spare:
            del self._kept[key]
            self._lasting.discard(key)
        return list(spare.values())


def _bytes_of(value: Any) -> int:
    """Return the bytes of what transformers returned."""
    if isinstance(value, Stored):
        return value.n_bytes
    return n_bytes(getattr(value, "X", None)) + n_bytes(getattr(value, "y", None))


def _free_bytes(values: Collection[Any]) -> float:
    """Return the memory that is free, what the values take of it included."""
    free = _free_memory()
    folders = {os.path.dirname(value.path) for value in values if isinstance(value, Stored)}
    free = min([free, *(shutil.disk_usage(folder).free for folder in folders)])
    return free + sum(map(_bytes_of, values))


def _free_memory() -> float:
    free = math.inf
    with suppress(AttributeError, OSError, ValueError):  # but for Windows
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError, StopIteration):  # what caches would give back is free, too
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        free = 1024 * int(line.split()[1])
    with suppress(OSError, ValueError):  # of a container
        limits = Path("/sys/fs/cgroup")
        limit, used = (int((limits / f"memory.{name}").read_text()) for name in ("max", "current"))
        free = min(free, limit - used)
    return free if free < math.inf else _UNKNOWN
