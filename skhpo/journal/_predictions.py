"""Predictions of fits: arrays of numbers, appended to one file for each process that searches.

A file for each fit would cost more than all else that is done for its predictions. In a file each
fit has a record: a line that names it, the type and the shape of its array, and a checksum of both,
followed by the numbers. The next record follows at once; after a damaged one it is searched for.

What is dropped stays where it is until there is more of it than of the others; then, and when the
search is over, the file is written again without it. Journals of earlier versions have a file for
each fit, in NumPy's format, which is read and removed, never written.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import zlib
from collections.abc import Collection, Iterable
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..files import append_at, opened, storing, write_atomically
from ._fit_files import FitFile, FitFiles, Name

__all__ = ["RECORD_FILE", "Place", "PredictionFiles", "find_records", "pack", "unpack"]

# Names of files of records, complete or not. A new one has a larger number than those before.
RECORD_FILE = re.compile(r"predictions-(\d{6})-[0-9a-f]{16}\.bin(\..*)?")
_LINE = re.compile(
    rb"skhpo predictions ([^ /]+)/(\d+)-(\d+)-(\d+) (<f4|<f8) (\d+(?:,\d+)*) ([0-9a-f]{8})\n"
)
_LONGEST_LINE = 400

# Bytes of dropped records in a file, besides as many as it has others.
_MOST_DROPPED = 2**26


class Place(NamedTuple):
    """Where a record is; later ones are larger.

    Parameters
    ----------
    file : str
        Name of the file.
    begin : int
    size : int
        In bytes, its line included.
    """

    file: str
    begin: int
    size: int


def pack(journal: str, key: Name, array: NDArray[np.floating[Any]]) -> bytes:
    """Return the record of a fit.

    Parameters
    ----------
    journal : str
        Its id.
    key : (int, int, int)
        Trial, split and repeat.
    array : ndarray
        Of float32 or float64.
    """
    kind = "<f4" if array.dtype == np.float32 else "<f8"
    numbers = array.astype(kind, order="C", copy=False).tobytes()
    shape = ",".join(map(str, array.shape))
    head = f"{_start(journal)}{'-'.join(map(str, key))} {kind} {shape} ".encode()
    return b"".join((head, _checksum(head, numbers), b"\n", numbers))


def unpack(record: bytes, journal: str, key: Name) -> NDArray[np.floating[Any]] | None:
    """Return the array of a record; None if it is damaged, or another fit's."""
    match = _LINE.match(record)
    if match is None or _owner(match) != (journal.encode(), key):
        return None
    numbers = memoryview(record)[match.end() :]
    head = record[: match.start(7)]
    if _checksum(head, numbers) != match[7] or len(numbers) != _n_bytes(match):
        return None
    kind = np.dtype(match[5].decode())
    shape = tuple(map(int, match[6].split(b",")))
    return np.frombuffer(numbers, kind).reshape(shape).astype(kind.newbyteorder("="))


def find_records(path: str, journal: str, begin: int) -> tuple[list[tuple[Name, int, int]], int]:
    """Find the records of a file, from some byte on.

    Returns
    -------
    found : list of ((int, int, int), int, int)
        Trial, split and repeat of each; where it begins; its size. It may be damaged.
    end : int
        Where the last one ends; what follows may be half of one that is being written.
    """
    found: list[tuple[Name, int, int]] = []
    end, search_from = begin, begin + 1
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        while begin < size:
            file.seek(begin)
            match = _LINE.fullmatch(file.readline(_LONGEST_LINE))
            n = 0 if match is None else match.end() + _n_bytes(match)
            if match is not None and begin + n <= size and match[1] == journal.encode():
                found.append((_owner(match)[1], begin, n))
                search_from = begin + match.end()
                begin = end = begin + n
                continue
            # One before may have been cut, so that this is the middle of the next.
            file.seek(search_from)
            next_one = file.read().find(_start(journal).encode())
            if next_one < 0:
                break
            begin = search_from + next_one
            search_from = begin + 1
    return found, end


def _start(journal: str) -> str:
    return f"skhpo predictions {journal}/"


def _owner(match: re.Match[bytes]) -> tuple[bytes, Name]:
    return match[1], (int(match[2]), int(match[3]), int(match[4]))


def _n_bytes(match: re.Match[bytes]) -> int:
    return int(match[5][2:]) * prod(map(int, match[6].split(b",")))


def _checksum(head: bytes, numbers: bytes | memoryview) -> bytes:
    # Of 24 kB, as many as a fit often has, it takes 6 microseconds, and BLAKE2 35.
    return b"%08x" % zlib.crc32(numbers, zlib.crc32(head))


class _PredictionFile(FitFile):
    __slots__ = ()
    kind = "predictions"


class PredictionFiles(FitFiles):
    """Predictions for the test parts of splits, by (trial, split, repeat).

    Parameters
    ----------
    folder : Path
        That of the journal.
    journal : str
        Its id.
    """

    suffix = ".npy"
    file_type = _PredictionFile

    def __init__(self, folder: Path, journal: str) -> None:
        super().__init__(folder, journal)
        self._places: dict[Name, list[Place]] = {}
        self._ends: dict[str, int] = {}  # of each file, as far as it was read
        self._own: str | None = None  # to which this process appends
        self._n_dropped = 0  # bytes of it
        self._looked = False

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a pickle, which finds by itself what there is."""
        fresh = type(self)(self.folder, self.journal)
        return {**fresh.__dict__, "shared": None}

    def put(self, key: Name, predictions: NDArray[Any], *, sync: bool = False) -> None:
        """Write the predictions of a fit.

        Parameters
        ----------
        key : (int, int, int)
        predictions : ndarray
            Of float32 or float64.
        sync : bool, default=False
            Whether they shall survive a crash of the machine.

        Raises
        ------
        StorageError
            If the system refuses.
        """
        mode = 0o666
        if self._own is None:
            with storing(self.folder):
                mode &= os.stat(self.folder).st_mode
            self._look()
            self._own = _new_name(1 + max(map(_number, self._ends), default=-1))
            self._ends[self._own] = 0
        own, record = self._own, pack(self.journal, key, predictions)
        begin = append_at(self.folder / own, self._ends.get(own, 0), record, mode=mode, sync=sync)
        self._ends[own] = begin + len(record)
        self._places.setdefault(key, []).append(Place(own, begin, len(record)))

    def get(self, key: Name) -> NDArray[np.floating[Any]] | None:
        """Return the predictions of a fit; None where there are none, or none that are whole."""
        self._look_at_first()
        for look_again in (True, False):
            unread = []
            for place in sorted(self._places.get(key, ()), reverse=True):
                try:
                    found = unpack(self._read(place), self.journal, key)
                except (FileNotFoundError, EOFError):  # removed, or cut
                    continue
                except OSError:  # it may be there next time
                    unread.append(place)
                    continue
                if found is not None:
                    return found
            if look_again:  # another process may have written them, or their file again
                self._look()
        if unread:
            self._places[key] = unread[::-1]
        else:
            self._places.pop(key, None)
        content = self.content(key)
        return None if content is None else npy.read_array(io.BytesIO(content), allow_pickle=False)

    def has(self, key: Name) -> bool:
        """Whether there was something of a fit at the first call, or was put since.

        Where other processes may write it: whether there is something now.
        """
        self._look_at_first()
        if key not in self._places and self.shared is not None:
            self._look()
        return key in self._places or super().has(key)

    def names(self) -> list[Name]:
        """Return the fits of which there is something."""
        self._look_at_first()
        return sorted({*self._places, *super().names()})

    def drop(self, key: Name) -> None:
        """Remove the predictions of a fit: now from what can be read, later from the disk."""
        self._look_at_first()
        places = self._places.pop(key, ())
        self._n_dropped += sum(place.size for place in places if place.file == self._own)
        if super().has(key):
            super().drop(key)
        own = self._own
        if own is not None and self._n_dropped > max(_MOST_DROPPED, self._ends.get(own, 0) / 2):
            self._rewrite(own)

    def copy_whole(self, keys: Iterable[Name], other: FitFiles) -> int:
        """Copy what is whole of some fits to other files; return of how many."""
        assert isinstance(other, PredictionFiles)
        n_copied = 0
        for key in keys:
            found = self.get(key)
            if found is not None:
                other.put(key, found)
                n_copied += 1
        return n_copied

    def _sweep(self, kept: Collection[Name]) -> list[str]:
        damaged = super()._sweep(kept)
        self._look()
        self._places = {key: places for key, places in self._places.items() if key in kept}
        for name in os.listdir(self.folder) if self.folder.is_dir() else ():
            match = RECORD_FILE.fullmatch(name)
            if match is None:
                continue
            if match[2] is None:
                self._rewrite(name)
            else:
                with suppress(OSError):  # half of a file that was written again: harmless
                    os.unlink(self.folder / name)
        return damaged

    def _look_at_first(self) -> None:
        if not self._looked:
            self._look()

    def _look(self) -> None:
        """Find what was written since the last look."""
        self._looked = True
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        names = list(filter(_is_complete, names))
        for name in set(self._ends) - set(names):
            self._forget(name)
        for name in names:
            path = str(self.folder / name)
            with suppress(OSError):  # removed in this moment, or not readable
                with opened(path) as file:  # of a network disk only this asks for the size of now
                    status = os.fstat(file.fileno())
                if status.st_size < self._ends.get(name, 0):
                    self._forget(name)
                begin = self._ends.setdefault(name, 0)
                if status.st_size > begin:
                    found, self._ends[name] = find_records(path, self.journal, begin)
                    for key, at, size in found:
                        self._places.setdefault(key, []).append(Place(name, at, size))

    def _forget(self, name: str) -> None:
        """Forget what was read of a file."""
        self._ends.pop(name, None)
        left = {
            key: [place for place in places if place.file != name]
            for key, places in self._places.items()
        }
        self._places = {key: places for key, places in left.items() if places}

    def _rewrite(self, name: str) -> None:
        """Write a file again without what was dropped; where the system refuses, it stays.

        It gets another name, by which other processes know that places in it are others.
        """
        path = self.folder / name
        left = sorted(
            (place, key)
            for key, places in self._places.items()
            for place in places
            if place.file == name
        )
        is_own, new = name == self._own, _new_name(_number(name))
        with suppress(OSError, EOFError):
            status = os.stat(path)
            if left and sum(place.size for place, _ in left) == status.st_size:
                return
            if left:
                records = (self._read(place) for place, _ in left)
                write_atomically(self.folder / new, records, mode=status.st_mode & 0o666)
            try:
                os.unlink(path)
            except OSError:  # on Windows, where another process reads it
                with suppress(OSError):
                    os.unlink(self.folder / new)
                raise
            self._forget(name)
            begin = 0
            for place, key in left:
                self._places.setdefault(key, []).append(Place(new, begin, place.size))
                begin += place.size
            if left:
                self._ends[new] = begin
            if is_own:
                self._own = new if left else None
        if is_own:
            self._n_dropped = 0

    def _read(self, place: Place) -> bytes:
        with opened(self.folder / place.file) as file:
            file.seek(place.begin)
            record = file.read(place.size)
        if len(record) < place.size:
            raise EOFError(f"the file {os.fspath(self.folder / place.file)!r} was cut")
        return record


def _is_complete(name: str) -> bool:
    match = RECORD_FILE.fullmatch(name)
    return match is not None and match[2] is None


def _new_name(number: int) -> str:
    return f"predictions-{number:06}-{secrets.token_hex(8)}.bin"


def _number(name: str) -> int:
    return int(name.split("-")[1])
