"""What waits for a worker or for its transformers, and transformers that are kept."""

from __future__ import annotations

import math
import os
import shutil
from collections import OrderedDict
from collections.abc import Collection, Iterable
from contextlib import suppress
from heapq import heapify, heappop, heappush
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..rows import n_bytes
from ._tasks import FitGroup, TransformTask
from ._travel import Stored

if TYPE_CHECKING:
    from ..wrappers import Prepared
    from ._tasks import FitTask

__all__ = ["Transformed", "Waiting"]

# Of the memory that is free, the part that transformers may take which no fit at hand needs.
_SHARE = 1 / 4
# While no more settings were seen than this, it is open whether candidates share them.
_FEW_SETTINGS = 2
# Free bytes where the system does not tell.
_UNKNOWN = 2**32


class Waiting:
    """What can be started, in the order in which it is to be, and what is started behind it.

    Work of a smaller rank starts first, its transformers too. What fills idle workers in advance
    thus never delays what finishes earlier work.

    Parameters
    ----------
    max_level : int or None, default=None
        As of `Transformed`.

    Attributes
    ----------
    transformed : Transformed
    n_fits : int
        Fits that can be started.
    """

    def __init__(self, max_level: int | None = None) -> None:
        self.transformed = Transformed(max_level)
        self.n_fits = 0
        self._ready: list[Any] = []  # a heap, by rank, trial, split and repeat
        self._blocked: dict[tuple[Any, ...], list[FitGroup]] = {}
        self._ranks: dict[
            tuple[Any, ...], int
        ] = {}  # of the transformers that are waited for, by key

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def n_blocked(self) -> int:
        """Groups that wait for transformers, once for each of those."""
        return sum(map(len, self._blocked.values()))

    @property
    def all(self) -> list[FitGroup | TransformTask]:
        """Everything that waits, a group maybe several times."""
        return [*(work for *_, work in self._ready), *chain.from_iterable(self._blocked.values())]

    def add(self, work: FitGroup) -> None:
        """Queue a group, behind its transformers where those are not fitted yet."""
        for task in work.tasks:
            self.transformed.note(task)
        missing = {
            task.key: task
            for task in reversed(work.tasks)
            if task.key is not None and task.key not in self.transformed
        }
        if not missing:
            heappush(self._ready, (work.rank, *work.name, work))
            self.n_fits += len(work.tasks)
        for key, task in missing.items():
            if key not in self._blocked:
                self._blocked[key] = []
                self._ranks[key] = work.rank
                transform = TransformTask(key, task.params, task.split, task.n_train)
                heappush(self._ready, (work.rank, task.trial, task.split, -1, transform))
            elif work.rank < self._ranks[key]:
                self._hurry(key, work.rank)
            self._blocked[key].append(work)

    def put_back(self, work: FitGroup | TransformTask) -> None:
        """Queue again what was taken."""
        if isinstance(work, FitGroup):
            self.add(work)
        elif work.key in self._blocked:
            trial = min(fit.trial for item in self._blocked[work.key] for fit in item.tasks)
            heappush(self._ready, (self._ranks[work.key], trial, work.split, -1, work))

    def take(self) -> Any:
        """Return what is to be started next."""
        work = heappop(self._ready)[-1]
        self.n_fits -= len(work.tasks)
        return work

    def take_fits(self, rank: int) -> FitGroup | None:
        """Return what is to be started next if that is a group of a rank, else None."""
        if self._ready and self._ready[0][0] == rank and self._ready[0][-1].tasks:
            group: FitGroup = self.take()
            return group
        return None

    def clear(self) -> None:
        """Forget everything that waits."""
        self.n_fits = 0
        self._ready.clear()
        self._blocked.clear()
        self._ranks.clear()

    def withdraw(self, names: Collection[tuple[int, int, int]]) -> int:
        """Forget fits that wait, each in a group of its own; return how many."""

        def stays(work: Any) -> bool:
            if not work.tasks:
                return work.key in self._blocked
            return any(task.name not in names for task in work.tasks)

        n_before = sum(len(work.tasks) for work in self.all)
        for key, works in list(self._blocked.items()):
            self._blocked[key] = [work for work in works if stays(work)]
            if not self._blocked[key]:
                del self._blocked[key], self._ranks[key]
        self._ready = [entry for entry in self._ready if stays(entry[-1])]
        heapify(self._ready)
        self.n_fits = sum(len(entry[-1].tasks) for entry in self._ready)
        return n_before - sum(len(work.tasks) for work in self.all)

    def take_transformed(
        self,
        key: Any,
        transformed: Prepared | Stored,
        also_needed: Iterable[FitGroup | TransformTask],
    ) -> list[Prepared | Stored]:
        """Note fitted transformers, and let go of those that nothing needs.

        Parameters
        ----------
        key : tuple
        transformed : Prepared or Stored
        also_needed : list of FitGroup or TransformTask
            Beside what waits here.

        Returns
        -------
        list of Prepared or Stored
            What is not kept any more.
        """
        self.transformed[key] = transformed
        for work in self._blocked.pop(key, ()):
            if all(map(self._is_transformed, work.tasks)):
                self.add(work)
        needed = {fit.key for work in (*self.all, *also_needed) for fit in work.tasks}
        return self.transformed.let_go(needed)

    def give_up(self, key: Any) -> list[FitTask]:
        """Return the fits that need transformers that cannot be fitted; the others stay."""
        lost = []
        for work in self._blocked.pop(key, ()):
            lost += [fit for fit in work.tasks if fit.key == key]
            left = [fit for fit in work.tasks if fit.key != key]
            for waiting in self._blocked.values():
                waiting[:] = [other for other in waiting if other is not work]
            if left:
                self.add(FitGroup(left))
        return lost

    def _hurry(self, key: Any, rank: int) -> None:
        """Move transformers that wait to a smaller rank, because such work waits for them."""
        self._ranks[key] = rank
        for i, (_, *name, work) in enumerate(self._ready):
            if isinstance(work, TransformTask) and work.key == key:
                self._ready[i] = (rank, *name, work)
                heapify(self._ready)
                break

    def _is_transformed(self, task: FitTask) -> bool:
        return task.key is None or task.key in self.transformed


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
        if task.key is None:
            return
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
