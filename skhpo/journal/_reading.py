"""What the lines of a journal say: to a search that goes on, and to all others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from ..trial import FitResult, Trial
from ._events import params_of, proposed_in, result_of
from ._file import read_content
from ._lines import read_lines
from ._workers import Workers

__all__ = ["Recorded", "at_work", "read_trials"]


@dataclass
class Recorded:
    """Takes the lines of a journal one by one, and keeps results and configurations, not lines.

    Attributes
    ----------
    results : dict of (int, int, int) to FitResult
        By trial, split and repeat.
    early : set of (int, int, int)
        Fits that did not count when they were written, because racing waited for others.
    trials : dict of int to (int, int or None)
        Candidate and resource of the trials that have a fit, by number.
    configurations : dict of int to dict
        Of each candidate; what is not JSON as text.
    order : list of (str, object)
        What was asked and told, where that is in the journal: ``("ask", numbers)`` and
        ``("tell", number)``.
    confirmed : Recorded or None
        Of the further fits that confirm the best candidates.
    """

    results: dict[tuple[int, int, int], FitResult] = field(default_factory=dict)
    early: set[tuple[int, int, int]] = field(default_factory=set)
    trials: dict[int, tuple[int, int | None]] = field(default_factory=dict)
    configurations: dict[int, dict[str, Any]] = field(default_factory=dict)
    order: list[tuple[str, Any]] = field(default_factory=list)
    confirmed: Recorded | None = None

    def take(self, event: Mapping[str, Any]) -> None:
        """Keep what the next line says."""
        kind = event["event"]
        if kind == "fit":
            number, candidate = event["trial"], event["candidate"]
            name = number, event["split"], event["repeat"]
            self.results[name] = result_of(event)
            (self.early.add if event.get("early") else self.early.discard)(name)
            self.trials[number] = candidate, event["resource"]
            if candidate not in self.configurations:
                self.configurations[candidate] = params_of(event)
        elif kind == "propose":
            self.configurations.update(proposed_in(event))
        elif kind == "confirm":
            self.confirmed = Recorded() if self.confirmed is None else self.confirmed
            self.confirmed.take({**event, "event": "fit"})
        elif kind in ("ask", "tell"):
            self.order.append((kind, event["trials" if kind == "ask" else "trial"]))


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
