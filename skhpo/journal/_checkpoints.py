"""Checkpoint files of a journal: each says which fit it belongs to, and proves itself."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..files import read_file, storing, write_atomically

__all__ = ["CHECKPOINT", "CheckpointFile", "Checkpoints"]

_NAME = "{}-{}-{}.pt"
CHECKPOINT = re.compile(r"(\d+)-(\d+)-(\d+)\.pt(\..*)?")
# What a worker that finds a checkpoint damaged adds to its name; the search counts them.
_DAMAGED = ".damaged"


class CheckpointFile(NamedTuple):
    """A fit's checkpoint, which may be there or not.

    Its first line names the fit and has a hash of the rest, which is what the estimator wrote.

    Parameters
    ----------
    path : str
    fit : str
        Of which journal, trial, split, repeat and resource.
    """

    path: str
    fit: str

    @property
    def has_folder(self) -> bool:
        """Whether it can be written: on other machines there may be no such folder."""
        return Path(self.path).parent.is_dir()

    def save(self, estimator: Any) -> None:
        """Write what the estimator's ``save_checkpoint`` does.

        Raises
        ------
        StorageError
            If the system refuses.
        """
        length = len(_first_line(self.fit, b""))
        buffer = io.BytesIO(bytes(length))
        buffer.seek(length)
        estimator.save_checkpoint(buffer)
        content = buffer.getbuffer()
        content[:length] = _first_line(self.fit, content[length:])
        with storing(self.path):
            mode = os.stat(os.path.dirname(self.path)).st_mode & 0o666
        write_atomically(self.path, content, mode=mode)

    def load(self, estimator: Any) -> Any:
        """Load what was saved into an estimator.

        Returns
        -------
        estimator or None
            None where there is no file, or a damaged one, or another fit's, which is put aside.
        """
        try:
            content = memoryview(read_file(self.path))
        except FileNotFoundError:
            return None
        except OSError:  # a link, say
            content = memoryview(b"")
        length = len(_first_line(self.fit, b""))
        if content[:length] != _first_line(self.fit, content[length:]):
            with suppress(OSError):
                os.replace(self.path, self.path + _DAMAGED)
            return None
        return estimator.load_checkpoint(io.BytesIO(content[length:]))


class Checkpoints:
    """Checkpoint files of a journal, by (trial, split, repeat).

    Parameters
    ----------
    folder : Path
        That of the journal.
    journal : str
        Its id.
    """

    def __init__(self, folder: Path, journal: str) -> None:
        self.folder = folder.absolute()  # workers have other working directories
        self.journal = journal
        self._at_first: set[str] | None = None

    def file(self, key: tuple[int, int, int], resource: int | None) -> CheckpointFile:
        """Return the file of a fit up to some resource."""
        fit = "-".join(map(str, key))
        return CheckpointFile(str(self._path(key)), f"{self.journal}/{fit}/{resource}")

    def has(self, key: tuple[int, int, int]) -> bool:
        """Whether there was a file for a fit when this was asked first."""
        if self._at_first is None:
            self._at_first = set(os.listdir(self.folder) if self.folder.is_dir() else ())
        return _NAME.format(*key) in self._at_first

    def drop(self, key: tuple[int, int, int]) -> None:
        """Remove the file of a fit."""
        with storing(self._path(key)):
            self._path(key).unlink(missing_ok=True)

    def copy_whole(self, keys: Iterable[tuple[int, int, int]], other: Checkpoints) -> int:
        """Copy the whole files of some fits to other checkpoints of the journal; return how many.

        Parameters
        ----------
        keys : iterable of (int, int, int)
        other : Checkpoints
        """
        n_copied = 0
        for key in keys:
            with suppress(OSError):
                content = read_file(self._path(key))
                if _is_whole(content, f"{self.journal}/{'-'.join(map(str, key))}/"):
                    write_atomically(other._path(key), content)
                    n_copied += 1
        return n_copied

    def sweep(self, kept: Collection[tuple[int, int, int]]) -> list[str]:
        """Remove the files that are unfinished, damaged, or of other fits than those kept.

        Parameters
        ----------
        kept : collection of (int, int, int)

        Returns
        -------
        list of str
            Names of the damaged ones.
        """
        damaged = []
        for name in os.listdir(self.folder) if self.folder.is_dir() else ():
            match = CHECKPOINT.fullmatch(name)
            if match is None or (
                match[4] is None and tuple(map(int, match.group(1, 2, 3))) in kept
            ):
                continue
            if name.endswith(_DAMAGED):
                damaged.append(name.removesuffix(_DAMAGED))
            with suppress(OSError):  # what cannot be removed does no harm
                os.unlink(self.folder / name)
        return damaged

    def _path(self, key: tuple[int, int, int]) -> Path:
        return self.folder / _NAME.format(*key)


def _is_whole(content: bytes, fit: str) -> bool:
    """Whether this is what a checkpoint file holds, of a fit that begins like this."""
    length = content.find(b"\n") + 1
    found = content[:length].decode(errors="replace").split(" ")[-2:][0]
    whole = content[:length] == _first_line(found, memoryview(content)[length:])
    return whole and found.startswith(fit)


def _first_line(fit: str, content: bytes | memoryview) -> bytes:
    return (
        f"skhpo checkpoint {fit} {hashlib.blake2b(content, digest_size=16).hexdigest()}\n".encode()
    )
