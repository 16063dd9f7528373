"""A new journal of what is whole in a damaged one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..exceptions import JournalError
from ._file import Journal, checked_path, read_content
from ._fit_files import Checkpoints, ModelFiles
from ._folder import Folder
from ._lines import History, read_event, read_header
from ._predictions import PredictionFiles

__all__ = ["Repaired", "repair"]


@dataclass(frozen=True)
class Repaired:
    """What a repair kept.

    Parameters
    ----------
    n_kept : int
        Lines, the first one included.
    lost : list of (int, str)
        Number of each line that was left out, and why.
    has_splits : bool
        Whether the file of the splits was whole.
    n_checkpoints : int
        Whole checkpoints, which are copied, as predictions are.
    """

    n_kept: int
    lost: list[tuple[int, str]]
    has_splits: bool
    n_checkpoints: int


def repair(path: str | PathLike[str], output: str | PathLike[str]) -> Repaired:
    """Write what is whole in a journal, and in its folder, to a new journal.

    A search that is fitted with it does the missing fits again. Of an asynchronous search what was
    asked and told after the first damage is left out, because it can only be replayed in order.

    Parameters
    ----------
    path : str or path-like
        Left as it is.
    output : str or path-like
        The new one, which must not exist.

    Returns
    -------
    Repaired

    Raises
    ------
    JournalError
        If `path` is no journal or its first line is damaged, or `output` exists.
    StorageError
        If the system does not let it be written.
    """
    output = checked_path(output, "output")
    if os.path.lexists(output):
        raise JournalError(f"output must not exist yet, but {output!r} does; give another path")
    content = read_content(path)
    first, *lines = content.split(b"\n")
    header = read_header(first, path)
    events, lost = _whole(header, lines)
    journal = header["journal"]
    folder = Folder(Path(os.path.realpath(path)))
    splits = None
    with suppress(JournalError):
        splits = folder.saved_splits(header["splits"])
    with Journal(output) as new:
        new.start(_less_seal(header), splits, map(_less_seal, events))
        fits = [e for e in events if e["event"] == "fit"]
        keys = [(e["trial"], e["split"], e["repeat"]) for e in fits]
        n_checkpoints = 0
        if new.checkpoints is not None:
            n_checkpoints = Checkpoints(folder.path, journal).copy_whole(keys, new.checkpoints)
            n_checkpoints += ModelFiles(folder.path, journal).copy_whole(keys, new.models)
            PredictionFiles(folder.path, journal).copy_whole(keys, new.predictions)
    return Repaired(1 + len(events), lost, splits is not None, n_checkpoints)


def _whole(
    header: dict[str, Any], lines: Iterable[bytes]
) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """Return the events that are whole and follow from one another, and the lines that are lost."""
    found: dict[int, tuple[int, dict[str, Any]]] = {}
    lost: list[tuple[int, str]] = []
    for number, line in enumerate(lines, start=2):
        event, why = read_event(line, None, header["journal"])
        if event is not None and event["n"] in found:
            why = f"n is {event['n']}, as of an earlier line"
        if event is not None and why is None:
            found[event["n"]] = number, event
        elif line:  # the end of the last line is followed by nothing
            lost.append((number, str(why)))
    history, events, complete = History(header), [], True
    for expected, n in enumerate(sorted(found), start=1):
        complete = complete and n == expected
        number, whole = found[n]
        why = None
        if whole["event"] in ("ask", "tell") and not complete:
            why = "a line before it is lost, and it can only be replayed in order"
        if why := why or history.take(whole):
            lost.append((number, why))
            complete = False
        else:
            events.append(whole)
    return events, sorted(lost)


def _less_seal(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in ("n", "sum")}
