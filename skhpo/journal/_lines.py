"""Lines of a journal: their number and checksum, and whether they follow from one another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from operator import itemgetter
from os import PathLike
from typing import Any

from ..exceptions import JournalError
from ..trial import RACED
from ._events import wrong_field

__all__ = [
    "FORMAT",
    "History",
    "LineReader",
    "check_beginning",
    "read_event",
    "read_header",
    "read_lines",
    "seal",
]

# What all fits of a trial have in common.
_FACTS = ("candidate", "resource", "parent", "params")
_facts_of = itemgetter(*_FACTS)

FORMAT = 2
BEGINNING = b'{"skhpo": '
_SUM = b', "sum": "'
_END = b'"}'
_SPACE = " \t\n\r"  # as JSON has it
_encode = json.JSONEncoder(allow_nan=False).encode
_decode = json.JSONDecoder().raw_decode


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


def seal(content: Mapping[str, Any], journal: str) -> bytes:
    """Return a header or an event as a line.

    Parameters
    ----------
    content : dict
        JSON; of an event ``"n"``, its number from 1, is the first field.
    journal : str
        Id of the journal.

    Returns
    -------
    bytes
    """
    body = _encode(content).encode()[:-1]
    return body + _SUM + _checksum(body, journal) + _END + b"\n"


def _checksum(body: bytes, journal: str) -> bytes:
    return hashlib.blake2b(body, digest_size=8, key=journal.encode()[:64]).hexdigest().encode()


def check_beginning(beginning: bytes, path: str | PathLike[str]) -> None:
    """Raise JournalError unless a file begins like a journal.

    Headers are complete before the file gets its name, so that a file with another beginning is
    no journal.
    """
    if not beginning.startswith(BEGINNING):
        what = "it does not begin with the header of one" if beginning else "it is empty"
        raise JournalError(
            f"journal must name a journal, or a file that does not exist yet, but {str(path)!r} is "
            f"no journal: {what}; give another path, or remove the file"
        )


def read_header(line: bytes, path: str | PathLike[str]) -> dict[str, Any]:
    """Return the content of a first line.

    Raises
    ------
    JournalError
        If it is damaged, or of another format.
    """
    check_beginning(line, path)
    header = _parsed(line)
    if header is not None and header["skhpo"] != FORMAT:
        raise JournalError(
            f"{str(path)!r} is a journal of format {header['skhpo']!r}, and this version of skhpo "
            f"reads and writes format {FORMAT}; go on with the version that wrote it, or give a "
            "new path"
        )
    journal = None if header is None else header.get("journal")
    identity = journal if isinstance(journal, str) else ""
    why = _why_damaged(line, header, identity, header=True)
    if header is None or why is not None:
        raise JournalError(
            f"line 1 of {str(path)!r}, the header of the journal, is damaged: {why}; restore the "
            "file, or give a new path to start over"
        )
    return header


def read_event(
    line: bytes, number: int | None, journal: str
) -> tuple[dict[str, Any] | None, str | None]:
    """Return the content of a line, or what is wrong with it.

    Parameters
    ----------
    line : bytes
        Without its end.
    number : int or None
        The one it must have; None for any.
    journal : str
        Id of the journal.

    Returns
    -------
    event : dict or None
        None if it is damaged.
    why : str or None
        None if nothing is wrong.
    """
    event: Any = _parsed(line)
    why = _why_damaged(line, event, journal)
    if why is not None:
        return None, why
    if number is not None and event["n"] != number:
        what = "there twice" if event["n"] < number else "preceded by a gap"
        return None, f"n must be {number}, but is {event['n']}: a line is {what}"
    return event, None


def read_lines(
    content: bytes, path: str | PathLike[str], take: Callable[[dict[str, Any]], None]
) -> LineReader:
    """Read the events of a journal.

    Parameters
    ----------
    content : bytes
    path : Path
    take : callable
        Gets the events, one by one.

    Returns
    -------
    LineReader
        At the end of the complete lines; a torn one may follow.

    Raises
    ------
    JournalError
        If something else than a torn last line is wrong.
    """
    reader = LineReader(content, path)
    reader.read(content[reader.end :], take)
    return reader


class LineReader:
    """Reads a journal line by line, also while it grows, and checks that the lines fit together.

    Parameters
    ----------
    content : bytes
        With the whole first line.
    path : Path
        For messages.

    Attributes
    ----------
    header : dict
    n_events : int
        How many were read.
    end : int
        Where they end in the file.

    Raises
    ------
    JournalError
        If the first line is not that of a journal.
    """

    def __init__(self, content: bytes, path: str | PathLike[str]) -> None:
        check_beginning(content, path)
        first = content.partition(b"\n")[0]
        self.header = read_header(first, path)
        self.n_events = 0
        self.end = len(first) + 1
        self._path = str(path)
        self._is_empty = self.end > len(content)
        self._history = History(self.header)

    def read(self, content: bytes, take: Callable[[dict[str, Any]], None]) -> None:
        """Read what follows `end` in the file; `take` gets the events."""
        start, number = 0, self.n_events + 1
        while (end := content.find(b"\n", start)) >= 0:
            event, why = read_event(content[start:end], number, self.header["journal"])
            if event is None or (why := self._history.take(event)):
                raise JournalError(
                    f"line {number + 1} of the journal {self._path!r} is damaged: {why}; what is "
                    f"whole is kept by 'python -m skhpo repair {self._path} --output NEW', or give "
                    "a new path to start over"
                )
            take(event)
            start, number = end + 1, number + 1
        if self._is_empty or not _may_be_torn(content[start:], number):
            raise JournalError(
                f"the journal {self._path!r} does not end with a line of a journal, so that "
                "another program may have written to it; remove that line, or give a new path to "
                "start over"
            )
        self.n_events, self.end = number - 1, self.end + start

    def check(self, event: Mapping[str, Any]) -> None:
        """Take an event that this process is about to append.

        Raises
        ------
        JournalError
            If it does not follow from the others.
        """
        if why := self._history.take(event):
            raise JournalError(f"a line of the journal {self._path!r} would be wrong: {why}")

    def move_to(self, n_events: int, end: int) -> None:
        """Note where the file ends after such events."""
        self.n_events, self.end = n_events, end


def _may_be_torn(tail: bytes, number: int) -> bool:
    """Whether an unfinished last line is the beginning of the line with this number."""
    tail = tail.rstrip(b"\0")  # what a crash of the machine leaves of unwritten blocks
    expected = f'{{"n": {number}, "event": "'.encode()
    return expected.startswith(tail) or tail.startswith(expected)


def _why_damaged(
    line: bytes, content: Mapping[str, Any] | None, journal: str, **kind: bool
) -> str | None:
    if content is None:
        return "it is not a JSON object"
    if why := wrong_field(content, **kind):
        return why
    body, separator, end = line.rpartition(_SUM)
    if not separator:
        return "sum is missing"
    if end != _checksum(body, journal) + _END:
        return "it is not what was written, because its sum, a checksum, is another one"
    return None


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        text = line.decode()
        content, end = _decode(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and not text[end:].strip(_SPACE) else None
