"""The folder of a journal: split indices and files of fits, and the id of their journal."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import JournalError
from ..files import OPEN_FILES_MOVE, lock, read_file, storing, write_atomically
from ._fit_files import FIT_FILE
from ._locks import in_use
from ._predictions import RECORD_FILE

__all__ = ["Folder", "digest_of", "workers_folder"]

_OWNER = "owner"
_SPLITS = "splits.npz"
# Exists until the journal has its header, and again after it is discarded: see `mark`.
_STARTING = "starting"
_HEADER = "header.part"
# Files that a crash during the start can leave.
_UNFINISHED = re.compile(
    rf"{_STARTING}|{_HEADER}|({_OWNER}|{_SPLITS}|{_STARTING})\.[0-9a-f]+\.part"
)
# Other files that may be in a folder with the mark.
_OURS = re.compile(rf"{_OWNER}|{_SPLITS}|{FIT_FILE.pattern}|{RECORD_FILE.pattern}")


class Folder:
    """``<journal>.files``.

    Parameters
    ----------
    journal : Path
        The file.
    """

    def __init__(self, journal: Path) -> None:
        self.path = journal.with_name(journal.name + ".files")
        self._journal = journal

    @contextmanager
    def starting(
        self, journal: str, splits: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]] | None
    ) -> Iterator[Path]:
        """Make the folder of a new journal, which must be there at the end of the context.

        Parameters
        ----------
        journal : str
            Its id.
        splits : list of (ndarray, ndarray) or None

        Yields
        ------
        Path
            Where to write the header, before it gets the journal's name.
        """
        made = self._make()
        with self._locked():
            names = os.listdir(self.path)
            others = [name for name in names if not _UNFINISHED.fullmatch(name)]
            if others and (_STARTING not in names or not all(map(_OURS.fullmatch, others))):
                raise JournalError(
                    f"beside a new journal there must be room for its folder, but "
                    f"{str(self.path)!r} holds what belongs to another one, or to somebody else; "
                    "remove the folder, or give another path"
                )
            try:
                with storing(self.path):
                    for name in names:
                        if name != _STARTING:
                            os.unlink(self.path / name)
                self.mark()
                self._fill(journal, splits)
                yield self.path / _HEADER
                os.unlink(self.path / _STARTING)
            except BaseException:
                if not os.path.lexists(self._journal):
                    self.discard(made)
                raise

    def put_in_place(self, temporary: Path) -> None:
        """Give a new journal its name, unless another process did."""
        try:
            os.link(temporary, self._journal)
        except FileExistsError as error:
            raise in_use(self._journal) from error
        except OSError as error:  # a file system without hard links
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            if os.path.lexists(self._journal):
                raise in_use(self._journal) from error
            os.rename(temporary, self._journal)
        else:
            os.unlink(temporary)

    def restore(
        self, journal: str, splits: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]
    ) -> None:
        """Make the folder again if it is missing, and remove files of an interrupted start."""
        if self._make() or not (self.path / _OWNER).exists():
            self._fill(journal, splits)
        with storing(self.path):
            for name in filter(_UNFINISHED.fullmatch, os.listdir(self.path)):
                (self.path / name).unlink(missing_ok=True)

    def check(self, journal: str) -> None:
        """Raise JournalError if the folder is there and belongs to something else."""
        try:
            status = os.lstat(self.path)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(status.st_mode):
            raise JournalError(
                f"the folder of a journal must be a folder, but {str(self.path)!r} is a link or a "
                "file; move what is there, or give the journal another path"
            )
        try:
            if all(map(_UNFINISHED.fullmatch, os.listdir(self.path))):
                return  # a crash while it was made again
            owner = read_file(self.path / _OWNER)
        except OSError as error:
            owner = b""
            reason = error.strerror
        else:
            reason = "it names another journal"
        if owner != journal.encode():
            raise JournalError(
                f"the folder {str(self.path)!r} must belong to its journal, which the file "
                f"{_OWNER!r} in it says, but it does not: {reason}; restore or move the folder"
            )

    def narrow(self, mode: int) -> None:
        """Remove permissions that the journal does not have.

        Parameters
        ----------
        mode : int
            That of the journal.
        """
        now = stat.S_IMODE(os.lstat(self.path).st_mode)
        allowed = 0o700 | (mode & 0o666) | ((mode & 0o444) >> 2)
        if now & 0o777 & ~allowed:
            with storing(self.path):
                os.chmod(self.path, now & ~(0o777 & ~allowed))

    def splits(
        self, current: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]], digest: str
    ) -> Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Return the splits of the journal: the current ones if they are the same, else the file's.

        Parameters
        ----------
        current : list of (ndarray, ndarray)
        digest : str
            That of the journal's.
        """
        return current if digest_of(current) == digest else self.saved_splits(digest)

    def saved_splits(self, digest: str) -> Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Return the splits of the file; JournalError unless they are whole."""
        path = self.path / _SPLITS
        try:
            kept = _unpacked(read_file(path))
        except Exception as error:  # a damaged archive raises anything
            reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            raise _splits_error(path, f"cannot be read: {reason}") from error
        if digest_of(kept) != digest:
            raise _splits_error(path, "holds other ones")
        return kept

    def _fill(
        self, journal: str, splits: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]] | None
    ) -> None:
        mode = os.lstat(self.path).st_mode & 0o666
        write_atomically(self.path / _OWNER, journal.encode(), mode=mode)
        if splits is not None:
            write_atomically(self.path / _SPLITS, _packed(splits), mode=mode)

    def mark(self) -> None:
        """Mark the files in the folder as useless."""
        write_atomically(self.path / _STARTING, b"")

    def discard(self, made: bool = True) -> None:
        """Remove the files of an empty journal, and the folder if this object made it.

        The mark stays if an abandoned thread has written a file meanwhile.
        """
        for name in (_HEADER, _OWNER, _SPLITS):
            with suppress(OSError):
                os.unlink(self.path / name)
        with suppress(OSError):
            if os.listdir(self.path) == [_STARTING]:
                os.unlink(self.path / _STARTING)
            if made:
                os.rmdir(self.path)

    def _make(self) -> bool:
        try:
            os.mkdir(self.path)
        except FileExistsError:
            return False
        except OSError as error:
            raise JournalError(
                f"journal must be a file that can be written, with a folder beside it, but "
                f"{str(self.path)!r} cannot be made: {error.strerror}; give another path"
            ) from error
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if not OPEN_FILES_MOVE:
            yield
            return
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        try:
            descriptor = os.open(self.path, flags)
        except OSError as error:
            raise JournalError(
                f"beside a journal there must be room for its folder, but {str(self.path)!r} is "
                f"none: {error.strerror}; move what is there, or give the journal another path"
            ) from error
        try:
            if not lock(descriptor, self.path):
                raise JournalError(
                    "a journal serves one search at a time, but another process is starting one "
                    f"with the folder {str(self.path)!r}; give this search a path of its own"
                )
            yield
        finally:
            os.close(descriptor)


def workers_folder(journal: Path) -> Path:
    """Return the folder of the processes that share a journal."""
    return journal.with_name(journal.name + ".workers")


def digest_of(splits: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]) -> str:
    """Return a hash of split indices."""
    hashed = hashlib.sha256()
    for rows in (rows for pair in splits for rows in pair):
        rows = np.asarray(rows)
        hashed.update(f"{rows.dtype.kind}{rows.shape}".encode())
        hashed.update(np.ascontiguousarray(rows).astype("<i8").tobytes())
    return hashed.hexdigest()


def _packed(splits: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]) -> memoryview:
    parts: dict[str, Any] = {
        f"{part}{i}": rows
        for i, pair in enumerate(splits)
        for part, rows in zip(("train", "test"), pair, strict=True)
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **parts)
    return buffer.getbuffer()


def _unpacked(content: bytes) -> Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as saved:
        n_splits = len(saved.files) // 2
        return [(saved[f"train{i}"], saved[f"test{i}"]) for i in range(n_splits)]


def _splits_error(path: str | PathLike[str], what: str) -> JournalError:
    return JournalError(
        f"the splits of a journal must be in {str(path)!r} where the splitter gives other ones, "
        f"but the file {what}; restore it, or start over with a new path"
    )
