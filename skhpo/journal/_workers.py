"""The processes that work on a shared journal: which of them are alive."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..exceptions import JournalError
from ..files import HAS_LOCKS, lock, storing, write_all
from . import _locks
from ._folder import workers_folder
from ._locks import check_locks, holder_of, is_stopped, report, wait_for_lock

__all__ = ["Workers"]

_SUFFIX = ".worker"
_DOOR = "door"
# Host, process, and what no other one has.
_OURS = re.compile(rf".+-\d+-[0-9a-f]{{6}}{re.escape(_SUFFIX)}", re.DOTALL)

# Seconds between two signs of life, and without one after which a process counts as dead although
# its file is locked: its machine crashed, or is cut off, and the file server does not know yet.
_BEAT_EVERY = 5.0
_SILENCE = 60.0
# Seconds for which an answer whether a process is alive holds.
_FRESH = 0.2

# O_NONBLOCK: opening a pipe must not block.
_FLAGS = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class Workers:
    """The folder ``<journal>.workers``: a file of each process at work, locked as long as it lives.

    The system lets go of the lock when the process ends, however it does. So a dead process is
    noticed at once, without clocks. A second sign of life is the time of the file, which a thread
    renews: a lock may survive the crash of another machine.

    Parameters
    ----------
    journal : Path
        The file.

    Attributes
    ----------
    name : str or None
        Of this process, while it is one of them.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self.folder = workers_folder(journal)
        self.name: str | None = None
        self._descriptor: int | None = None
        self._stop = threading.Event()
        self._waits_since: float | None = None
        self._seen: dict[str, tuple[int, float]] = {}  # last sign of life, and when it was new
        self._known: dict[str, tuple[bool, float]] = {}  # whether alive, and when that was found

    def join(self, settings: dict[str, Any]) -> None:
        """Become one of them.

        Parameters
        ----------
        settings : dict
            JSON: arguments of the search that are to be the same in all of them.

        Raises
        ------
        JournalError
            If the file system has no locks that all processes see, another process works with
            other settings, or the folder is a link or a file.
        StorageError
            If the system refuses.
        """
        if not HAS_LOCKS:
            raise JournalError(
                "shared=True needs locks of files, which Python does not have on this system; "
                "leave it out, and use n_jobs"
            )
        self._make()
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        path = self._path(name)
        try:
            with self.door():
                self._check_settings(settings)
                self.name = name
                self._sign_in(path, settings)
        except BaseException:
            self.leave()  # else it would count as alive as long as this process lives
            raise
        threading.Thread(target=self._beat, args=(path, settings), daemon=True).start()

    def leave(self) -> None:
        """Be none of them any more; what this process was at is free for the others."""
        if self.name is None:
            return
        self._stop.set()
        path = self._path(self.name)
        with suppress(OSError, JournalError), self.door():
            self.close()  # Windows removes no open file
            path.unlink(missing_ok=True)
            if not self.others():
                for left in self._files():
                    left.unlink()
                if not os.lstat(self.folder / _DOOR).st_size:  # else somebody else's
                    os.unlink(self.folder / _DOOR)
                os.rmdir(self.folder)
        self.close()

    def close(self) -> None:
        """Close the file, as a forked child does; the parent goes on."""
        self.name = None
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def others(self) -> list[str]:
        """Return the names of the others that are alive now."""
        self._known.clear()
        names = (path.name.removesuffix(_SUFFIX) for path in self._files())
        return sorted(name for name in names if name != self.name and self.is_alive(name))

    def is_alive(self, name: str) -> bool:
        """Return whether a process is at work."""
        if name == self.name:
            return True
        now = time.monotonic()
        alive, when = self._known.get(name, (False, -_FRESH))
        if now - when >= _FRESH:
            alive = self._look(self._path(name), now)
            self._known[name] = alive, now
        return alive

    def _look(self, path: Path, now: float) -> bool:
        try:
            descriptor = os.open(path, os.O_RDONLY | _FLAGS)
        except FileNotFoundError:
            return False
        except OSError:  # somebody else's, or another system's error: it is there
            return True
        try:
            if lock(descriptor, path, shared=True):
                return False
            sign = os.fstat(descriptor).st_mtime_ns
        finally:
            os.close(descriptor)
        before, since = self._seen.get(path.name, (None, now))
        if sign != before:
            self._seen[path.name] = sign, now
            return True
        return now - since < _SILENCE

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for the lock of the journal; the thread that shows life reports a long wait."""
        self._waits_since = time.monotonic()
        try:
            yield
        finally:
            self._waits_since = None

    def name_of(self, process: int) -> str | None:
        """Return the name of a process of this machine; None if it is none of them."""
        names = [path.name.removesuffix(_SUFFIX) for path in self._files()]
        own = f"{socket.gethostname()}-{process}-"
        return next((name for name in names if name.startswith(own)), None)

    @contextmanager
    def door(self) -> Iterator[None]:
        """Hold the lock under which processes come and go, and a journal is made."""
        path = self.folder / _DOOR
        while True:
            with storing(path):
                try:
                    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o666)
                except FileNotFoundError:  # the last one left meanwhile
                    self._make()
                    continue
            try:
                wait_for_lock(descriptor, path, partial(self.explain_wait, path))
                if _is_at(descriptor, path):
                    yield
                    return
            finally:
                os.close(descriptor)

    def explain_wait(self, path: Path, seconds: float) -> str:
        """Return what is to be known of a long wait for the lock of a file."""
        waiting = f"waiting for {seconds:g} s for the lock of {str(path)!r}"
        process = holder_of(path)
        if process is None:
            return (
                f"{waiting}, which another process has, maybe of another machine; if it was "
                "stopped, let it go on or end it, and this search goes on"
            )
        name = self.name_of(process)
        who = f"process {process}" if name is None else f"process {process} ({name})"
        if is_stopped(process):
            return (
                f"{waiting}, which {who} has, and that was stopped; let it go on "
                f"('kill -CONT {process}') or end it ('kill -9 {process}'): nothing is lost"
            )
        return f"{waiting}, which {who} has" + (
            "" if name is not None else ", a program that does not share the journal; wait for it"
        )

    def _check_settings(self, settings: dict[str, Any]) -> None:
        for other in self.others():
            try:
                theirs = json.loads(self._path(other).read_text())
            except (OSError, ValueError):  # it leaves
                continue
            for name, value in settings.items():
                if theirs.get(name) != value:
                    raise JournalError(
                        "processes that share a journal must have the same arguments, but "
                        f"{name} is {value!r} here and {theirs.get(name)!r} in the process "
                        f"{other}, which is at work; start all of them with the same"
                    )

    def _make(self) -> None:
        with storing(self.folder), suppress(FileExistsError):
            self.folder.mkdir()
        if self.folder.is_symlink() or self.folder.is_file():
            raise JournalError(
                f"the folder of processes that share a journal must be a folder, but "
                f"{str(self.folder)!r} is a link or a file; move what is there, or give the "
                "journal another path"
            )

    def _files(self) -> list[Path]:
        """Return the files of processes, alive or dead; whatever else is there is not ours."""
        try:
            with os.scandir(self.folder) as entries:
                return [
                    Path(entry.path)
                    for entry in entries
                    if _OURS.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
                ]
        except OSError:  # there is none, or it is not for us
            return []

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{_SUFFIX}"

    def _sign_in(self, path: Path, settings: dict[str, Any]) -> None:
        before = self._descriptor
        with storing(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666)
            if before is not None:
                os.close(before)
            check_locks(self._descriptor, path)
            write_all(self._descriptor, json.dumps(settings).encode())

    def _report_wait(self, reported: float | None) -> float | None:
        """Warn of a long wait unless that is the one that was reported; return which one is."""
        since = self._waits_since
        if since is None or since == reported or time.monotonic() - since < _locks.PATIENCE:
            return reported
        report(self.explain_wait(self._journal, _locks.PATIENCE))
        return since

    def _beat(self, path: Path, settings: dict[str, Any]) -> None:
        reported = None
        while not self._stop.wait(_BEAT_EVERY):
            reported = self._report_wait(reported)
            with suppress(OSError, JournalError):  # the disk may be back next time
                try:
                    os.utime(path)
                except FileNotFoundError:
                    if not self._stop.is_set():
                        self._come_back(path, settings)

    def _come_back(self, path: Path, settings: dict[str, Any]) -> None:
        """Be one of them again: the last one that left had counted this process as dead."""
        with self.door():
            if self.name is not None:
                self._sign_in(path, settings)


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file still has its name."""
    try:
        there = os.stat(path)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return os.path.samestat(there, os.fstat(descriptor))
