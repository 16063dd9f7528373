"""Arrays of fits as records of a file: how one is written, found and read.

A record is a line that names its fit, the type and the shape of its array, and a checksum of both,
followed by the numbers. The next record follows at once; after a damaged one it is searched for.
"""

from __future__ import annotations

import os
import re
import zlib
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..files import opened
from ._fit_files import Name

__all__ = ["RECORD_FILE", "Place", "find_records", "pack", "unpack"]

# Names of files of records, complete or not. A new one has a larger number than those before.
RECORD_FILE = re.compile(r"predictions-(\d{6})-[0-9a-f]{16}\.bin(\..*)?")
_LINE = re.compile(
    rb"skhpo predictions ([^ /]+)/(\d+)-(\d+)-(\d+) (<f4|<f8) (\d+(?:,\d+)*) ([0-9a-f]{8})\n"
)
_LONGEST_LINE = 400


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

    Parameters
    ----------
    path : str
    journal : str
    begin : int

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
