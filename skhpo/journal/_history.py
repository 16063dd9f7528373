"""Whether events follow from one another: nothing twice, nothing before what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["History"]


class History:
    """What the events of a journal have said so far.

    Parameters
    ----------
    header : dict
        That of the journal.
    """

    def __init__(self, header: dict[str, Any]) -> None:
        self.asynchronous = header["asynchronous"]
        self.n_splits = header["n_splits"]
        self.n_repeats = header["n_repeats"]
        self._fits: dict[int, set[tuple[int, int]]] = {}  # of each trial
        self._facts: dict[int, dict[str, Any]] = {}  # of each trial
        self._asked: set[int] = set()
        self._told: set[int] = set()

    def take(self, event: Mapping[str, Any]) -> str | None:
        """Take the next event, or say why it cannot be the next.

        Returns
        -------
        str or None
            None where it is taken.
        """
        why: str | None = getattr(self, f"_take_{event['event']}")(event)
        return why

    def _take_fit(self, event: Mapping[str, Any]) -> str | None:
        trial, fit = event["trial"], (event["split"], event["repeat"])
        for name, most in (("split", self.n_splits), ("repeat", self.n_repeats)):
            if event[name] >= most:
                return f"{name} must be below {most}, but is {event[name]}"
        if self.asynchronous and trial not in self._asked:
            return f"trial {trial} has a fit, and no line before it asks for the trial"
        fits = self._fits.setdefault(trial, set())
        if fit in fits:
            return f"the fit of trial {trial}, split {fit[0]}, repeat {fit[1]} is there twice"
        facts = {name: event[name] for name in ("candidate", "resource", "parent", "params")}
        known = self._facts.setdefault(trial, facts)
        for name, value in facts.items():
            if value != known[name]:
                return f"{name} of trial {trial} is {value!r} here and {known[name]!r} before"
        fits.add(fit)
        return None

    def _take_ask(self, event: Mapping[str, Any]) -> str | None:
        if not self.asynchronous:
            return "only asynchronous searches have such a line"
        if self._asked.intersection(event["trials"]):
            return f"trials {event['trials']} are asked for twice"
        self._asked.update(event["trials"])
        return None

    def _take_tell(self, event: Mapping[str, Any]) -> str | None:
        trial = event["trial"]
        if trial in self._told or trial not in self._asked:
            return f"trial {trial} is told {'twice' if trial in self._told else 'but not asked'}"
        missing = self.n_splits * self.n_repeats - len(self._fits.get(trial, ()))
        if missing:
            return f"trial {trial} is told, and {missing} of its fits are missing"
        self._told.add(trial)
        return None
