"""A journal that several processes write in turns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

from ..exceptions import JournalError
from ..files import lock, unlock
from ._events import proposal_event
from ._file import Journal
from ._fit_files import Name
from ._lines import read_lines
from ._locks import holder_of, in_use, wait_for_lock
from ._workers import Workers

__all__ = ["SharedJournal"]

# Seconds between two tries to get the first turn, and for a process that has the journal for itself
# to be noticed: those that share it are known by their files.
_AGAIN = 0.005
_ALONE = 2.0

# Seconds between two looks at the length of the file, and until what is new is read: with the next
# lines, of which there are often some at once.
_LOOK = 0.005
_LOOK_AT_LINES = 0.01

# Seconds between two times that lines of short fits are made to survive a crash of the machine: all
# processes wait for the disk one after the other.
_SYNC_EVERY = 1.0


class SharedJournal(Journal):
    """Append-only file of a search that several processes work on.

    It is locked only for a *turn*, which begins with reading what others wrote. Whoever has the
    turn may ask the scheduler, append lines, and lease fits. A lease ends with its fit, or with its
    process.

    Parameters
    ----------
    path : str or path-like
        As of a `Journal`.
    take : callable
        Gets the lines of others, also while the search runs.
    settings : mapping, default={}
        JSON: arguments of the search that all processes must have in common, beside what the first
        line says.

    Attributes
    ----------
    workers : Workers
        The processes.
    arrived : list of (int, int, int)
        Fits of others that were read; whoever sees to them empties it.

    Raises
    ------
    JournalError
        As of a `Journal`; if there are no locks that all processes see; if a process works with
        other settings.
    """

    _sync_every = _SYNC_EVERY

    def __init__(
        self,
        path: str | PathLike[str],
        take: Callable[[dict[str, Any]], None],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.workers: Workers | None = None
        self.arrived: list[Name] = []
        self._leases: dict[Name, str] = {}
        self._proposed: str | None = None  # who proposed last
        self._settings = dict(settings or {})
        self._tell = take
        self._depth = 0
        super().__init__(path, self._arrive)
        self.arrived.clear()
        self._release()

    def start(self, *args: Any, **kwargs: Any) -> bool:
        """Make the file, unless another process does; return whether this one did."""
        self._join()
        is_held = False
        while not is_held:
            with self._process.door():
                if not os.path.lexists(self.path):
                    super().start(*args, **kwargs)
                    self._read()
                    self._is_bare = True
                    self._release()
                    return True
            is_held = self._hold(self.path)
        self._read()
        self.arrived.clear()
        self._release()
        return False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep all others from writing; what they wrote before is read first."""
        if self.read_only:
            yield
            return
        self._depth += 1
        try:
            if self._depth == 1:
                with self._process.waiting():
                    lock(self._descriptor, self.path, wait=True)
                self._read_on()
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._release()

    def append(self, event: Mapping[str, Any]) -> None:
        """Add one line, as a `Journal` does, in a turn."""
        with self.turn():
            try:
                self._reader.check(event)
                super().append(event)
                self._reader.move_to(self._n - 1, self._end)
            except BaseException:  # Ctrl-C may come when the line is there, or before
                self._read_again()
                raise

    def lease(self, fits: Sequence[Name]) -> None:
        """Say that this process does some fits."""
        worker = self._process.name
        if worker is None:  # a line without a name could not be read
            raise JournalError(
                "a process must work on a journal to do its fits, but this one left "
                f"{str(self.path)!r}, or was forked from one that works on it; open it again"
            )
        self.append({"event": "lease", "worker": worker, "fits": list(map(list, fits))})

    def is_leased(self, fit: Name) -> bool:
        """Return whether a process that is alive does a fit."""
        worker = self._leases.get(fit)
        return worker is not None and self._process.is_alive(worker)

    def propose(self, candidates: Mapping[int, Mapping[str, Any]]) -> None:
        """Write down the configurations of candidates, by number."""
        event = {**proposal_event(candidates), "worker": self._process.name}
        self.append(event)
        self._arrive(event)

    @property
    def other_proposes(self) -> bool:
        """Whether the process that proposed last is another one, alive, and has no fit to do."""
        last = self._proposed
        if last is None or last == self._process.name or last in self._leases.values():
            return False
        return self._process.is_alive(last)

    @property
    def is_alone(self) -> bool:
        """Whether no other process works on the journal."""
        return not self._process.others()

    def wait_for_lines(self, seconds: float) -> None:
        """Wait so long, or until there are lines to read."""
        end = time.monotonic() + seconds
        time.sleep(min(seconds, _LOOK_AT_LINES))
        while time.monotonic() < end and os.fstat(self._descriptor).st_size <= self._end:
            time.sleep(_LOOK)

    def close(self) -> None:
        """Leave the others, and close the file."""
        if self.workers is not None:
            self.workers.leave()
        super().close()

    def _leave_to_parent(self) -> None:
        super()._leave_to_parent()
        if self.workers is not None:
            self.workers.close()

    def _files_of(self, kind: Any) -> Any:
        files = super()._files_of(kind)
        files.shared = None if self.read_only else self
        return files

    @property
    def _process(self) -> Workers:
        assert self.workers is not None
        return self.workers

    def _join(self) -> None:
        if self.workers is None or self.workers.name is None:
            self.workers = Workers(self.path)
            self.workers.join(self._settings)

    def _lock(self) -> None:
        if self.read_only:
            super()._lock()
            return
        self._join()
        self._note_file()
        start = time.monotonic()
        while not lock(self._descriptor, self.path):
            if not self.is_alone and not self._is_with_a_stranger():
                # Tries would find it free too seldom: those at work wait in the system's queue.
                wait_for_lock(self._descriptor, self.path, self._explain_wait)
                return
            if time.monotonic() - start > _ALONE:
                raise in_use(self.path)
            time.sleep(_AGAIN)

    def _is_with_a_stranger(self) -> bool:
        """Whether the lock is that of a search that does not share the journal."""
        process = holder_of(self.path)
        return process is not None and self._process.name_of(process) is None

    def _explain_wait(self, seconds: float) -> str:
        return self._process.explain_wait(self.path, seconds)

    def _release(self) -> None:
        if self._descriptor is not None and not self.read_only:
            unlock(self._descriptor)

    def _read_on(self) -> None:
        """Read what others appended, and cut off what a dead one left unfinished."""
        size = self.check_writable().st_size
        if size > self._end:
            with os.fdopen(os.dup(self._descriptor), "rb") as file:
                file.seek(self._end)
                content = file.read()
            self._reader.read(content, self._arrive)
            self._n, self._end = self._reader.n_events + 1, self._reader.end
            self._to_sync = True  # before files are removed that these lines replace
        self._settle(size, torn=True)

    def _read_again(self) -> None:
        """Forget an event that was checked and may have no line: order and end are the file's."""
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            self._reader = read_lines(file.read(self._end), self.path, lambda event: None)

    def _arrive(self, event: dict[str, Any]) -> None:
        if event["event"] == "lease":
            self._leases.update({tuple(fit): event["worker"] for fit in event["fits"]})
            return
        if event["event"] == "fit":
            fit = event["trial"], event["split"], event["repeat"]
            self._leases.pop(fit, None)
            self.arrived.append(fit)
            self._is_bare = False
        elif event["event"] == "propose":
            self._proposed = event.get("worker")
        self._tell(event)

    def _discard(self) -> None:
        with self._process.door(), self.turn():
            if self.is_alone and self._is_bare:
                super()._discard()
