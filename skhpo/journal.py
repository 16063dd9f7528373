"""The journal: an append-only file of what a search has done, one JSON object a line.

The first line is the search's fingerprint, its seed and the names of its metrics' settings; then
comes a line per finished fit, and, for asynchronous searches, a line per ask and per tell. A
search is resumed by replaying: its scheduler asks for the same trials again, and those that
the journal has are answered from it.

Nothing in it is executable: numbers, strings, and the `repr` of parameters that are neither.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from pathlib import Path

from .exceptions import JournalError
from .trial import FitResult, Trial

try:
    import fcntl
except ImportError:  # Windows: a second process is not noticed there
    fcntl = None

__all__ = ["Journal", "as_read", "fit_event", "params_of", "read_trials", "result_of"]

FORMAT = 1


class Journal:
    """Append-only file of a search, locked while it is open.

    Parameters
    ----------
    path : str or path-like
        The file; its directory must exist. What goes with it and is no JSON (checkpoints,
        split indices) is kept in the folder `files` beside it.

    Attributes
    ----------
    header : dict or None
        The first line; None for a new journal.
    events : list of dict
        The other lines, as found at opening.
    files : Path
        ``<path>.files``
    """

    def __init__(self, path):
        self.path = Path(path)
        self.files = self.path.with_name(self.path.name + ".files")
        try:
            self._file = open(self.path, "a+b")  # noqa: SIM115
        except OSError as error:
            raise JournalError(
                f"journal must be a file that can be written, but {str(self.path)!r} cannot: "
                f"{error.strerror}; give another path, or make its directory"
            ) from error
        try:
            self._lock()
            lines = self._read()
        except BaseException:
            self._file.close()
            raise
        self.header = lines[0] if lines else None
        self.events = lines[1:]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Release the file, and with it the lock."""
        self._file.close()

    def start(self, header):
        """Write the first line.

        Parameters
        ----------
        header : dict
            JSON; `header` from then on.
        """
        self.append({"skhpo": FORMAT, **header})
        self.sync()
        self.header = header

    def append(self, event):
        """Add one line, which survives the death of this process."""
        self._file.write(json.dumps(event, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def sync(self):
        """Make what was appended survive a crash of the machine."""
        os.fsync(self._file.fileno())

    def _lock(self):
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JournalError(
                f"a journal serves one search at a time, but {str(self.path)!r} is in use by "
                "another process; wait for it, or give this search a path of its own"
            ) from error

    def _read(self):
        self._file.seek(0)
        lines, end = _parse(self._file.read(), self.path)
        size = self._file.seek(0, os.SEEK_END)
        if end < size:
            warnings.warn(
                f"the last line of the journal {str(self.path)!r} was torn by a crash; it is "
                "dropped, and its fit is done again",
                UserWarning,
                stacklevel=2,
            )
            self._file.truncate(end)
        return lines


def _parse(content, path):
    """Return the complete lines of a journal, and where they end."""
    lines, end = [], 0
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        whole = line.endswith(b"\n") and isinstance(event, dict)
        if not whole:
            if end + len(line) < len(content):
                raise JournalError(
                    f"every line of a journal is a JSON object, but line {number} of "
                    f"{str(path)!r} is not; give a new path to start over"
                )
            break
        lines.append(event)
        end += len(line)
    if lines and lines[0].get("skhpo") != FORMAT:
        raise JournalError(
            f"{str(path)!r} is not a journal of this version: its first line lacks "
            f'"skhpo": {FORMAT}; give another path'
        )
    return lines, end


def fit_event(trial, result):
    """Return the line of a finished fit."""
    event = {
        "event": "fit",
        "trial": trial.number,
        "split": result.split,
        "repeat": result.repeat,
        "candidate": trial.candidate,
        "resource": trial.resource,
        "parent": trial.parent,
        "tags": dict(trial.tags),
        "params": {name: _json(value) for name, value in trial.params.items()},
        "test_scores": _encode(result.test_scores),
        "train_scores": _encode(result.train_scores),
        "fit_time": result.fit_time,
        "score_time": result.score_time,
        "device": result.device,
        "error": result.error,
    }
    if result.score_error is not None:
        event["score_error"] = result.score_error
    if result.found is not None:
        event["found"] = dict(result.found)
    if result.curves is not None:
        event["curves"] = {name: _finite(curve) for name, curve in result.curves.items()}
    return event


def result_of(event):
    """Return the fit result of a line that `fit_event` made."""
    curves = event.get("curves")
    return FitResult(
        trial=event["trial"],
        split=event["split"],
        repeat=event["repeat"],
        test_scores=_decode(event["test_scores"]),
        train_scores=_decode(event["train_scores"]),
        fit_time=event["fit_time"],
        score_time=event["score_time"],
        device=event["device"],
        error=event["error"],
        score_error=event.get("score_error"),
        curves=curves and {name: tuple(map(float, curve)) for name, curve in curves.items()},
        found=event.get("found"),
    )


def read_trials(path):
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
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise JournalError(f"cannot read the journal {str(path)!r}: {error.strerror}") from error
    lines, _ = _parse(content, path)
    if not lines:
        raise JournalError(f"{str(path)!r} holds no search yet: it is empty")
    trials, results = {}, {}
    for event in lines[1:]:
        if event["event"] != "fit":
            continue
        number = event["trial"]
        trials[number] = Trial(
            number=number,
            candidate=event["candidate"],
            params=params_of(event),
            resource=event["resource"],
            parent=event["parent"],
            tags=event["tags"],
        )
        results.setdefault(number, {})[event["split"], event["repeat"]] = result_of(event)
    numbers = sorted(trials)
    return lines[0], [trials[n] for n in numbers], [results[n] for n in numbers]


def params_of(event):
    """Return the configuration of a line that `fit_event` made, what is not JSON as text."""
    return {name: _shown(value) for name, value in event["params"].items()}


def as_read(value):
    """Return what `read_trials` makes of the value of a parameter."""
    return _shown(_json(value))


def _shown(value):
    return value["repr"] if isinstance(value, dict) else value


def _json(value):
    """Return a value if JSON keeps it as it is, else its `repr`."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return {"repr": repr(value)}


def _encode(scores):
    if scores is None:
        return None
    return dict(zip(scores, _finite(scores.values()), strict=True))


def _finite(numbers):
    return [number if math.isfinite(number) else repr(number) for number in numbers]


def _decode(scores):
    return None if scores is None else {k: float(v) for k, v in scores.items()}
