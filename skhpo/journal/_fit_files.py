"""Files of single fits in the folder of a journal, checkpoints and models; each has a checksum."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..exceptions import JournalError, StorageError
from ..files import read_file, storing, write_atomically

if TYPE_CHECKING:
    from ._shared import SharedJournal

__all__ = ["FIT_FILE", "CheckpointFile", "Checkpoints", "FitFile", "FitFiles", "ModelFiles", "Name"]

# Trial, split and repeat.
Name = tuple[int, int, int]

_FIT = r"(\d+)-(\d+)-(\d+)"
# Names of files that a fit may leave in a folder, complete or not.
FIT_FILE = re.compile(rf"{_FIT}(\.pt|\.kept\.pt|\.npy)(\..*)?")
# A worker adds this to the name of a file that is damaged; the search counts them.
_DAMAGED = ".damaged"


@dataclass(frozen=True, slots=True)
class FitFile:
    """A file of a fit, which may exist or not.

    Its first line names the fit and has a hash of the rest.

    Parameters
    ----------
    path : str
    fit : str
        Journal, trial, split, repeat and resource.
    """

    path: str
    fit: str
    kind: ClassVar[str]

    @property
    def has_folder(self) -> bool:
        """Whether it can be written: other machines may not have the folder."""
        return Path(self.path).parent.is_dir()

    def write(self, fill: Callable[[io.BytesIO], Any], *, sync: bool = True) -> None:
        """Write the file by a function.

        Parameters
        ----------
        fill : callable
            Called with a binary file.
        sync : bool, default=True
            Whether it must survive a crash of the machine.

        Raises
        ------
        StorageError
            If the system refuses.
        """
        length = len(_first_line(self.kind, self.fit, b""))
        buffer = io.BytesIO(bytes(length))
        buffer.seek(length)
        fill(buffer)
        content = buffer.getbuffer()
        content[:length] = _first_line(self.kind, self.fit, content[length:])
        with storing(self.path):
            mode = os.stat(os.path.dirname(self.path)).st_mode & 0o666
        write_atomically(self.path, content, mode=mode, sync=sync)

    def read(self) -> memoryview | None:
        """Return the content.

        Returns
        -------
        memoryview or None
            None where there is no file, or a damaged one, or another fit's, which is put aside.
        """
        try:
            content = memoryview(read_file(self.path))
        except FileNotFoundError:
            return None
        except OSError:  # a link, say
            content = memoryview(b"")
        length = len(_first_line(self.kind, self.fit, b""))
        if content[:length] != _first_line(self.kind, self.fit, content[length:]):
            with suppress(OSError):
                os.replace(self.path, self.path + _DAMAGED)
            return None
        return content[length:]


class FitFiles:
    """Files of one kind, by (trial, split, repeat).

    Parameters
    ----------
    folder : Path
        That of the journal.
    journal : str
        Its id.
    """

    suffix: ClassVar[str]
    file_type: ClassVar[type[FitFile]]

    def __init__(self, folder: Path, journal: str) -> None:
        self.folder = folder.absolute()  # workers have other working directories
        self.journal = journal
        self.shared: SharedJournal | None = None  # where other processes may write such files
        self._at_first: set[str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "shared": None}

    def file(self, key: Name, resource: int | str | None) -> Any:
        """Return the file of a fit up to some resource."""
        return self.file_type(str(self._path(key)), f"{self._fit(key)}{resource}")

    def has(self, key: Name) -> bool:
        """Whether there was a file for a fit at the first call.

        Where other processes may write one: whether there is one now.
        """
        if self.shared is not None:
            return self._path(key).exists()
        if self._at_first is None:
            self._at_first = set(os.listdir(self.folder) if self.folder.is_dir() else ())
        return self._name(key) in self._at_first

    def content(self, key: Name) -> memoryview | None:
        """Return the content of the file of a fit; None if there is none, or it is damaged."""
        try:
            content = read_file(self._path(key))
        except OSError:
            return None
        begin = self._begin(content, key)
        return memoryview(content)[begin:] if begin else None

    def names(self) -> list[Name]:
        """Return the fits of which there is a file."""
        found = (FIT_FILE.fullmatch(name) for name in sorted(os.listdir(self.folder)))
        ours = [match for match in found if match and match[4] == self.suffix and not match[5]]
        return [(int(match[1]), int(match[2]), int(match[3])) for match in ours]

    def drop(self, key: Name) -> None:
        """Remove the file of a fit."""
        with storing(self._path(key)):
            self._path(key).unlink(missing_ok=True)

    def copy_whole(self, keys: Iterable[Name], other: FitFiles) -> int:
        """Copy the whole files of some fits to other ones of the journal; return how many."""
        n_copied = 0
        for key in keys:
            with suppress(OSError):
                content = read_file(self._path(key))
                if self._begin(content, key):
                    write_atomically(other._path(key), content)
                    n_copied += 1
        return n_copied

    def sweep(self, kept: Collection[Name]) -> list[str]:
        """Remove the files that are unfinished, damaged, or of other fits than those kept.

        Nothing is removed while other processes may write such files, or need them.

        Returns
        -------
        list of str
            Names of the damaged ones.
        """
        if self.shared is None:
            return self._sweep(kept)
        with suppress(StorageError, JournalError), self.shared.turn():  # so that none can begin
            if self.shared.is_alone:
                return self._sweep({*kept, *self.shared.arrived})
        return []

    def _sweep(self, kept: Collection[Name]) -> list[str]:
        damaged: list[str] = []
        for name in os.listdir(self.folder) if self.folder.is_dir() else ():
            match = FIT_FILE.fullmatch(name)
            if match is None or match[4] != self.suffix:
                continue
            if match[5] is None and tuple(map(int, match.group(1, 2, 3))) in kept:
                continue
            if name.endswith(_DAMAGED):
                damaged.append(name.removesuffix(_DAMAGED))
            with suppress(OSError):  # files that cannot be removed are harmless
                os.unlink(self.folder / name)
        return damaged

    def _fit(self, key: Name) -> str:
        return f"{self.journal}/{'-'.join(map(str, key))}/"

    def _name(self, key: Name) -> str:
        return f"{'-'.join(map(str, key))}{self.suffix}"

    def _path(self, key: Name) -> Path:
        return self.folder / self._name(key)

    def _begin(self, content: bytes, key: Name) -> int:
        """Return where a file's content begins; 0 if it is not whole, or of another fit."""
        length = content.find(b"\n") + 1
        found = content[:length].decode(errors="replace").split(" ")[-2:][0]
        line = _first_line(self.file_type.kind, found, memoryview(content)[length:])
        return length if content[:length] == line and found.startswith(self._fit(key)) else 0


def _first_line(kind: str, fit: str, content: bytes | memoryview) -> bytes:
    return f"skhpo {kind} {fit} {hashlib.blake2b(content, digest_size=16).hexdigest()}\n".encode()


class CheckpointFile(FitFile):
    """The checkpoint of a fit, which may exist or not."""

    __slots__ = ()
    kind = "checkpoint"

    def save(self, estimator: Any) -> None:
        """Write the checkpoint that the estimator's ``save_checkpoint`` makes.

        Raises
        ------
        StorageError
            If the system refuses.
        """
        self.write(estimator.save_checkpoint)

    def load(self, estimator: Any) -> Any:
        """Load what was saved into an estimator.

        Returns
        -------
        estimator or None
            None where there is no file, or a damaged one, or another fit's, which is put aside.
        """
        content = self.read()
        return None if content is None else estimator.load_checkpoint(io.BytesIO(content))


class Checkpoints(FitFiles):
    """Checkpoints from which later rungs continue, kept as long as a rung may need them."""

    suffix = ".pt"
    file_type = CheckpointFile


class ModelFiles(FitFiles):
    """Checkpoints of the best rows, which a finished search keeps."""

    suffix = ".kept.pt"
    file_type = CheckpointFile
