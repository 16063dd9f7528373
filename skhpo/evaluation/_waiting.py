"""Groups of fits that wait for a worker, and those that wait for their transformers."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from heapq import heapify, heappop, heappush
from itertools import chain
from typing import TYPE_CHECKING, Any

from ._tasks import FitGroup, TransformTask
from ._transformed import Transformed

if TYPE_CHECKING:
    from ..wrappers import Prepared
    from ._tasks import FitTask
    from ._transformed import Stored

__all__ = ["Waiting"]


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
