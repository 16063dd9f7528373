"""The journal as a file: created complete, locked, appended to."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import JournalError, StorageError
from ..files import OPEN_FILES_MOVE, lock, storing, to_disk, unlock, write_all
from ._fit_files import Checkpoints, ModelFiles
from ._folder import Folder, digest_of, workers_folder
from ._lines import BEGINNING, FORMAT, check_beginning, read_lines, seal
from ._locks import in_use
from ._predictions import PredictionFiles
from ._workers import Workers

__all__ = ["Journal", "checked_path", "read_content", "worth_a_sync"]

_COMMON = (
    getattr(os, "O_NONBLOCK", 0)  # a pipe must not be waited for
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
# Errors of opening a file that can still be read.
_CANNOT_BE_WRITTEN = (errno.EACCES, errno.EPERM, errno.EROFS)

# Lines are written to the disk after so many seconds, or at once after a fit that took longer than
# the second number: its loss would cost more than waiting for the disk.
_SYNC_EVERY = 0.05
_WORTH_A_SYNC = 1.0

# Locks belong to open files, which a forked child has too: it must close them.
_OPEN: weakref.WeakSet[Journal] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for journal in list(_OPEN):
        journal._leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


class Journal:
    """Append-only file of a search, locked while it is open.

    Parameters
    ----------
    path : str or path-like
        The file; its directory must exist. Data that are no JSON (checkpoints, split
        indices) are in the folder `files` beside it.
    take : callable or None, default=None
        Called with each line after the first, when the file is opened.

    Attributes
    ----------
    path : Path
        Where the file is, links resolved.
    header : dict or None
        The first line; None where there is no file yet, which `start` makes.
    events : list of dict
        The other lines when the file was opened; empty if `take` got them.
    files : Path
        ``<path>.files``
    read_only : bool
        Whether the system does not allow writing. It can still be read.

    Raises
    ------
    JournalError
        If the file is no journal, is damaged (except for a last line torn by a crash, which is
        dropped, with a warning), or is in use.
    """

    _sync_every = _SYNC_EVERY

    def __init__(
        self, path: str | PathLike[str], take: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        path = checked_path(path)
        self.path = Path(os.path.realpath(path))
        self._folder = Folder(self.path)
        self.files = self._folder.path
        self.header: Any = None
        self.events: list[dict[str, Any]] = []
        self._take = self.events.append if take is None else take
        self.read_only = False
        self._descriptor: Any = None  # an integer while it is open
        self._path = str(self.path)
        self._file: tuple[int, int] | None = None  # device and inode
        self._pending = b""  # a line that is being written
        self._to_sync = False
        self._sync_at = 0.0  # when it is due, as ``time.monotonic()``
        self._is_bare = False  # new, and without a fit
        _OPEN.add(self)
        try:
            if self._hold(path):
                self._read()
                return
        except BaseException:
            self.close()
            raise
        if not self.path.parent.is_dir():
            raise _unusable(path, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        # In a forked child there is no descriptor any more.
        if kind is not None and self._descriptor is not None and self._is_bare:
            self._discard()
        self.close()

    def close(self) -> None:
        """Release the lock and the file."""
        if self._descriptor is not None:
            unlock(self._descriptor)
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _leave_to_parent(self) -> None:
        self._close()

    def start(
        self,
        header: dict[str, Any],
        splits: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]] | None = (),
        events: Iterable[Mapping[str, Any]] = (),
    ) -> bool:
        """Make the file with its first line, and the folder; return whether this process did.

        Parameters
        ----------
        header : dict
            JSON; `header` from then on, with more fields.
        splits : list of (ndarray, ndarray) or None, default=()
            None where the header has their hash and they are lost.
        events : iterable of dict, default=()
            Lines to begin with.

        Raises
        ------
        JournalError
            If there is no room for it, or another process was faster.
        StorageError
            If the system refuses.
        """
        own = {"skhpo": FORMAT, "journal": secrets.token_hex(8), "splits": digest_of(splits or ())}
        header = {**own, **header}
        identity = header["journal"]
        lines = [seal(header, identity)]
        lines += [seal({"n": n, **event}, identity) for n, event in enumerate(events, start=1)]
        content = b"".join(lines)
        with self._folder.starting(identity, splits) as temporary, storing(self.path):
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | _COMMON
            self._descriptor = os.open(temporary, flags, 0o666)
            self._lock()
            write_all(self._descriptor, content)
            to_disk(self._descriptor)
            if OPEN_FILES_MOVE:
                self._folder.put_in_place(temporary)
            else:  # Windows, where open files keep their names
                self._close()
                self._folder.put_in_place(temporary)
                self._open()
                self._lock()
        self.header, self._n, self._end = header, len(lines), len(content)
        self._is_bare = len(lines) == 1
        return True

    def turn(self) -> AbstractContextManager[None]:
        """Return a context in which no other process writes; if not shared, this is always so."""
        return nullcontext()

    def append(self, event: Mapping[str, Any]) -> None:
        """Add one line, with the time; it survives the death of this process.

        Raises
        ------
        JournalError
            If it cannot be written, or another program wrote to it.
        StorageError
            If the system refuses, or the journal is gone.
        """
        status = self.check_writable()
        with storing(self.path):
            self._settle(status.st_size)
            stamped = {"n": self._n, **event, "time": round(time.time(), 3)}
            self._pending = seal(stamped, self.header["journal"])
            self._to_sync = True
            if worth_a_sync(event.get("fit_time", 0.0) + event.get("score_time", 0.0)):
                self._sync_at = 0.0
            self._is_bare = self._is_bare and event["event"] not in ("fit", "confirm")
            end = self._end + len(self._pending)
            try:
                write_all(self._descriptor, self._pending)
            except BaseException:
                self._settle(os.fstat(self._descriptor).st_size)
                raise
            self._end, self._n, self._pending = end, self._n + 1, b""

    def sync(self, *, only_if_due: bool = False) -> bool:
        """Write appended lines to the disk, so that they survive a crash of the machine.

        Parameters
        ----------
        only_if_due : bool, default=False
            Only if the last time is 50 ms ago, or a fit took more than a second.

        Returns
        -------
        bool
            Whether all appended lines survive one.

        Raises
        ------
        StorageError
            If the system refuses.
        """
        if self._to_sync and not (only_if_due and time.monotonic() < self._sync_at):
            with storing(self.path):
                to_disk(self._descriptor)
            self._to_sync = False
            self._sync_at = time.monotonic() + self._sync_every
        return not self._to_sync

    def check_writable(self) -> os.stat_result:
        """Return the status of the file; JournalError or StorageError if no line can be added."""
        if self.read_only:
            raise JournalError(
                f"a journal that is not finished must be writable, but {str(self.path)!r} is not; "
                "change its permissions, or copy it and its folder and give the path of the copy"
            )
        there = self._status()
        if there is None:
            reason = "the journal was deleted or replaced while the search ran"
            raise StorageError(errno.ENOENT, reason, self._path)
        return there

    @property
    def checkpoints(self) -> Checkpoints | None:
        """Checkpoints or None: those of the fits; None if none can be written."""
        return None if self.read_only else self._files_of(Checkpoints)

    @property
    def models(self) -> ModelFiles:
        """Checkpoints of the rows whose fitted networks are kept."""
        files: ModelFiles = self._files_of(ModelFiles)
        return files

    @property
    def predictions(self) -> PredictionFiles:
        """Files of predictions."""
        files: PredictionFiles = self._files_of(PredictionFiles)
        return files

    def _files_of(self, kind: Any) -> Any:
        return kind(self.files, self.header["journal"])

    def splits(
        self, current: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]
    ) -> Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Return the splits of the journal's fits.

        Parameters
        ----------
        current : list of (ndarray, ndarray)
            The splits that the splitter returns now.

        Raises
        ------
        JournalError
            If they differ from the journal's and its file of splits is damaged, or the folder
            is not the journal's.
        """
        identity = self.header["journal"]
        self._folder.check(identity)
        splits = self._folder.splits(current, self.header["splits"])
        if not self.read_only:
            self._folder.restore(identity, splits)
            self._folder.narrow(os.fstat(self._descriptor).st_mode)
        return splits

    def _discard(self) -> None:
        """Remove a journal that has no fit, so that its path is free again."""
        try:
            self.check_writable()
        except StorageError:  # there is another file
            return
        if not OPEN_FILES_MOVE:
            self._close()
        with suppress(OSError):  # not possible on a full disk
            self._folder.mark()
        if self.checkpoints is not None:
            for files in (self.checkpoints, self.models, self.predictions):
                files.sweep(kept=())
        with suppress(OSError):  # the error that is raised is more informative
            os.unlink(self.path)
            self._folder.discard()

    def _settle(self, size: int, *, torn: bool = False) -> None:
        """Count the pending line if all of it is in a file of this size, else cut it off.

        `torn` says that what follows may be another process's line that it died writing.
        """
        added = size - self._end
        if added < 0 or (added > len(self._pending) and not torn):
            raise JournalError(
                f"a journal must be written by one search alone, but another program "
                f"{'cut' if added < 0 else 'added to'} {str(self.path)!r}; see what it was, and go "
                "on with a copy or a new path"
            )
        if self._pending and added == len(self._pending):
            self._end, self._n, self._pending = size, self._n + 1, b""
        elif added:
            os.ftruncate(self._descriptor, self._end)

    def _hold(self, path: str | PathLike[str]) -> bool:
        """Open the file and lock it; return False where there is none."""
        while _is_there(path):
            try:
                self._open()
            except FileNotFoundError:  # it was discarded before it was opened
                continue
            self._lock()
            if self._status() is not None:
                return True
            self._close()  # it was discarded before it was locked
        return False

    def _open(self) -> None:
        self.read_only = False
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | _COMMON)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno not in _CANNOT_BE_WRITTEN:
                raise _unusable(self.path, error) from error
            self.read_only = True
            try:
                self._descriptor = os.open(self.path, os.O_RDONLY | _COMMON)
            except FileNotFoundError:
                raise
            except OSError as again:
                raise _unusable(self.path, again) from again

    def _lock(self) -> None:
        self._note_file()
        if not lock(self._descriptor, self.path, shared=self.read_only):
            raise in_use(self.path)
        if workers_folder(self.path).is_dir() and (others := Workers(self.path).others()):
            raise JournalError(
                f"{len(others)} processes share the journal {str(self.path)!r}, {others[0]} for "
                "one; wait for them, or set shared=True here, too"
            )

    def _status(self) -> os.stat_result | None:
        """Return the status of the open file; None unless the path leads to it."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return None
        return status if (status.st_dev, status.st_ino) == self._file else None

    def _note_file(self) -> None:
        status = os.fstat(self._descriptor)
        self._file = status.st_dev, status.st_ino

    def _read(self) -> None:
        content = _read_all(self._descriptor, self.path)
        self._reader = read_lines(content, self.path, self._take)
        self.header, self._end = self._reader.header, self._reader.end
        self._n = self._reader.n_events + 1
        if self._end == len(content) or self.read_only:
            return
        with storing(self.path):
            os.ftruncate(self._descriptor, self._end)
        warnings.warn(
            f"the last line of the journal {str(self.path)!r} was torn by a crash; it is "
            "dropped, and its fit is done again",
            UserWarning,
            stacklevel=3,
        )


def worth_a_sync(seconds: float) -> bool:
    """Whether waiting for the disk costs less than the loss of a fit that took so many seconds."""
    return seconds > _WORTH_A_SYNC


def checked_path(path: str | PathLike[str], name: str = "journal") -> str:
    """Return the path of a journal as a string.

    Raises
    ------
    TypeError, JournalError
        If it can be the path of no file.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise TypeError(f"{name} must be a string or a path, but is {path!r}")
    text = os.fspath(path)
    if not text or "\0" in text:
        raise JournalError(
            f"{name} must be the path of a file, but is {text!r}; give one like 'run.jsonl'"
        )
    return text


def read_content(path: str | PathLike[str]) -> bytes:
    """Return the bytes of a journal, also of one that is being written.

    Raises
    ------
    JournalError
        If there is none, or it is no journal.
    """
    path = checked_path(path, "the path of a journal")
    try:
        if not _is_there(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        descriptor = os.open(path, os.O_RDONLY | _COMMON)
    except OSError as error:
        raise JournalError(f"cannot read the journal {path!r}: {error.strerror}") from error
    try:
        return _read_all(descriptor, path)
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, path: str | PathLike[str]) -> bytes:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise JournalError(f"journal must be a regular file, but {str(path)!r} is none")
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        beginning = file.read(len(BEGINNING))
        check_beginning(beginning, path)  # another file may be large
        return beginning + file.read()


def _is_there(path: str | PathLike[str]) -> bool:
    """Whether there is a file; raises JournalError for a path that cannot be a journal."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            raise JournalError(
                f"journal must be the path of a file, but {path!r} is a link that leads nowhere; "
                "remove it, or give the path that it is to lead to"
            ) from None
        return False
    except OSError as error:
        raise _unusable(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise _unusable(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    if not stat.S_ISREG(status.st_mode):
        raise JournalError(
            f"journal must be a regular file, but {path!r} is a device, a pipe or a socket; give "
            "another path"
        )
    return True


def _unusable(path: str | PathLike[str], error: OSError) -> JournalError:
    return JournalError(
        f"journal must be a file that can be written, but {str(path)!r} cannot: "
        f"{error.strerror}; give another path, or make its directory"
    )
