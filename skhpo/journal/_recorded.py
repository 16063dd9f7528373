"""The content of a journal in the form that a resumed search needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..trial import FitResult
from ._events import params_of, proposed_in, result_of

__all__ = ["Recorded"]


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
