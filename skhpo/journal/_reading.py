"""Trials and results of a journal."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..trial import Trial
from ._events import params_of, result_of
from ._file import read_content
from ._lines import read_lines
from ._workers import Workers

if TYPE_CHECKING:
    from ..trial import FitResult

__all__ = ["at_work", "read_trials"]


def read_trials(
    path: str | PathLike[str],
) -> tuple[dict[str, Any], list[Trial], list[dict[tuple[int, int], FitResult]]]:
    """Read a journal, also one that is being written.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    header : dict
    trials : list of Trial
        By number. Parameters that are not JSON are strings, their `repr`.
    results : list of dict
        Per trial, ``{(split, repeat): FitResult}``.

    Raises
    ------
    JournalError
        If it cannot be read, is no journal, or is damaged.
    """
    trials: dict[int, Trial] = {}
    results: dict[int, dict[tuple[int, int], FitResult]] = {}

    def take(event: dict[str, Any]) -> None:
        if event["event"] != "fit":
            return
        number = event["trial"]
        if number not in trials:  # all of its fits say the same
            trials[number] = Trial(
                number=number,
                candidate=event["candidate"],
                params=params_of(event),
                resource=event["resource"],
                parent=event["parent"],
                tags=event["tags"],
            )
        results.setdefault(number, {})[event["split"], event["repeat"]] = result_of(event)

    header = read_lines(read_content(path), path, take).header
    numbers = sorted(trials)
    return header, [trials[n] for n in numbers], [results[n] for n in numbers]


def at_work(path: str | PathLike[str]) -> dict[str, list[tuple[int, int, int]]]:
    """Return the processes that share a journal now, and what each of them fits.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    dict of str to list of (int, int, int)
        By name of the process, ``"<host>-<process>-..."``: trial, split and repeat of its fits,
        none while it waits or refits. Empty where nobody shares the journal.
    """
    leases: dict[tuple[int, int, int], str] = {}

    def take(event: dict[str, Any]) -> None:
        if event["event"] == "lease":
            leases.update({tuple(fit): event["worker"] for fit in event["fits"]})
        elif event["event"] == "fit":
            leases.pop((event["trial"], event["split"], event["repeat"]), None)

    names = Workers(Path(os.path.realpath(path))).others()
    if names:
        read_lines(read_content(path), path, take)
    return {name: sorted(fit for fit, worker in leases.items() if worker == name) for name in names}
