"""Checks the order of events: none is there twice, none before an event that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from ..trial import RACED

__all__ = ["History"]

# What all fits of a trial have in common.
_FACTS = ("candidate", "resource", "parent", "params")
_facts_of = itemgetter(*_FACTS)


class History:
    """The state of a search after some events of its journal.

    Parameters
    ----------
    header : dict
        That of the journal.
    """

    def __init__(self, header: dict[str, Any]) -> None:
        self.asynchronous = header["asynchronous"]
        self.n_splits = header["n_splits"]
        self.n_repeats = header["n_repeats"]
        self._all = (1 << self.n_splits * self.n_repeats) - 1
        self._fits: dict[int, int] = {}  # of each trial, a bit for each that is there
        self._facts: dict[int, tuple[Any, ...]] = {}  # of each trial that lacks fits
        self._early: set[tuple[int, int, int]] = set()  # fits that racing may leave out yet
        self._asked: set[int] = set()
        self._told: set[int] = set()
        self._confirmed: set[tuple[int, int, int]] = set()
        self._proposed: set[str] = set()

    def take(self, event: Mapping[str, Any]) -> str | None:
        """Take the next event, or return why it cannot be the next.

        Returns
        -------
        str or None
            None if it is taken.
        """
        why: str | None = getattr(self, f"_take_{event['event']}")(event)
        return why

    def _take_fit(self, event: Mapping[str, Any]) -> str | None:
        trial, fit = event["trial"], (event["split"], event["repeat"])
        if why := self._out_of_range(event):
            return why
        if self.asynchronous and trial not in self._asked:
            return f"trial {trial} has a fit, and no line before it asks for the trial"
        bit = self._bit(*fit)
        there = self._fits.get(trial, 0)
        if there & bit and not self._is_left_out(event, (trial, *fit)):
            return f"the fit of trial {trial}, split {fit[0]}, repeat {fit[1]} is there twice"
        facts = _facts_of(event)
        known = self._facts.setdefault(trial, facts)
        if facts != known:
            for name, now, before in zip(_FACTS, facts, known, strict=True):
                if now != before:
                    return f"{name} of trial {trial} is {now!r} here and {before!r} before"
        (self._early.add if event.get("early") else self._early.discard)((trial, *fit))
        self._fits[trial] = there = there | bit
        if there == self._all:
            del self._facts[trial]  # no further line of the trial can follow
        return None

    def _is_left_out(self, event: Mapping[str, Any], name: tuple[int, int, int]) -> bool:
        """Whether racing leaves a fit out that was there before its turn."""
        return name in self._early and event.get("skipped") == RACED

    def _take_confirm(self, event: Mapping[str, Any]) -> str | None:
        name = event["trial"], event["split"], event["repeat"]
        if why := self._out_of_range(event):
            return why
        if name in self._confirmed:
            trial, split, repeat = name
            return (
                f"the further fit of trial {trial}, split {split}, repeat {repeat} is there twice"
            )
        self._confirmed.add(name)
        return None

    def _out_of_range(self, event: Mapping[str, Any]) -> str | None:
        for name, most in (("split", self.n_splits), ("repeat", self.n_repeats)):
            if event[name] >= most:
                return f"{name} must be below {most}, but is {event[name]}"
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
        missing = self.n_splits * self.n_repeats - self._fits.get(trial, 0).bit_count()
        if missing:
            return f"trial {trial} is told, and {missing} of its fits are missing"
        self._told.add(trial)
        return None

    def _take_propose(self, event: Mapping[str, Any]) -> str | None:
        if twice := self._proposed.intersection(event["candidates"]):
            return f"candidate {min(twice)} is proposed twice"
        self._proposed.update(event["candidates"])
        return None

    def _take_lease(self, event: Mapping[str, Any]) -> str | None:
        for trial, split, repeat in event["fits"]:
            if why := self._out_of_range({"split": split, "repeat": repeat}):
                return why
            if self._fits.get(trial, 0) & self._bit(split, repeat):
                return f"the fit of trial {trial}, split {split}, repeat {repeat} is there already"
        return None

    def _bit(self, split: int, repeat: int) -> int:
        place: int = split * self.n_repeats + repeat
        return 1 << place
