"""Events of a search as JSON: how they are made and read, and the rules of their fields.

Nothing in them is executable: numbers, strings, and the `repr` of parameters that are neither.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from ..trial import FitResult, Trial

__all__ = [
    "as_read",
    "fit_event",
    "params_of",
    "proposal_event",
    "proposed_in",
    "result_of",
    "wrong_field",
]


def fit_event(trial: Trial, result: FitResult, *, early: bool = False) -> dict[str, Any]:
    """Return the line of a finished fit.

    Parameters
    ----------
    trial : Trial
    result : FitResult
    early : bool, default=False
        Whether it does not count yet, because racing waits for others. It never does where a later
        line says that racing left it out.
    """
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
    if early:
        event["early"] = True
    if result.start is not None:
        event["start"], event["worker"] = result.start, result.worker
    if result.score_error is not None:
        event["score_error"] = result.score_error
    if result.unpredicted is not None:
        event["unpredicted"] = result.unpredicted
    if result.found is not None:
        event["found"] = _encode(result.found)
    if result.measures is not None:
        event["measures"] = _encode(result.measures)
    if result.skipped is not None:
        event["skipped"] = result.skipped
    if result.curves is not None:
        event["curves"] = {name: _finite(curve) for name, curve in result.curves.items()}
    return event


def proposal_event(candidates: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the line with the configurations of some candidates, by number."""
    return {
        "event": "propose",
        "candidates": {
            str(number): {name: _json(value) for name, value in params.items()}
            for number, params in candidates.items()
        },
    }


def proposed_in(event: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Return the configurations of a line that `proposal_event` made."""
    return {
        int(number): params_of({"params": params}) for number, params in event["candidates"].items()
    }


def result_of(event: Mapping[str, Any]) -> FitResult:
    """Return the fit result of a line that `fit_event` made."""
    curves = event.get("curves")
    return FitResult(
        trial=event["trial"],
        split=event["split"],
        repeat=event["repeat"],
        test_scores=_decode(event["test_scores"]) or {},
        train_scores=_decode(event["train_scores"]),
        fit_time=event["fit_time"],
        score_time=event["score_time"],
        start=event.get("start"),
        worker=event.get("worker"),
        device=event["device"],
        error=event["error"],
        score_error=event.get("score_error"),
        curves=curves and {name: tuple(map(float, curve)) for name, curve in curves.items()},
        found=_decode(event.get("found")),
        unpredicted=event.get("unpredicted"),
        measures=_decode(event.get("measures")),
        skipped=event.get("skipped"),
    )


def params_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a line that `fit_event` made, what is not JSON as text."""
    return {sys.intern(name): _shown(value) for name, value in event["params"].items()}


def as_read(value: Any) -> Any:
    """Return the value of a parameter as `read_trials` returns it."""
    return _shown(_json(value))


def _shown(value: Any) -> Any:
    return value["repr"] if isinstance(value, dict) else value


def _json(value: Any) -> Any:
    """Return a value if JSON keeps it as it is, else its `repr`."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return {"repr": repr(value)}


def _encode(scores: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    return dict(zip(scores, _finite(scores.values()), strict=True))


def _finite(numbers: Iterable[float]) -> list[float | str]:
    return [number if math.isfinite(number) else repr(number) for number in numbers]


def _decode(scores: Mapping[str, Any] | None) -> dict[str, float] | None:
    return None if scores is None else {sys.intern(k): float(v) for k, v in scores.items()}


def wrong_field(content: Mapping[str, Any], *, header: bool = False) -> str | None:
    """Return what is wrong with a field of an event, or of a header; None if all are right."""
    kind: Any = content.get("event")
    if kind == "fit" and not header and _is_usual(content):
        return None
    if not header and (not isinstance(kind, str) or kind not in _EVENTS):
        return f"event must be one of {', '.join(_EVENTS)}, but is {_short(kind)}"
    for name, (holds, rule) in (_HEADER if header else _EVENTS[kind]).items():
        if name not in content:
            return f"{name} is missing"
        if not holds(content[name]):
            return f"{name} must be {rule}, but is {_short(content[name])}"
    for name, (holds, rule) in _OPTIONAL.items():
        if name in content and not holds(content[name]):
            return f"{name} must be {rule}, but is {_short(content[name])}"
    return None


def _is_usual(content: Mapping[str, Any]) -> bool:
    """Whether a fit has the usual fields with valid values; fast, as there may be a million.

    An unusual fit may be valid, too.
    """
    n_fields = len(content) - ("time" in content) - 2 * ("worker" in content)
    if n_fields != _N_FIELDS:
        return False
    try:
        counts = _counts_of(content)
        times = (*_times_of(content), content.get("start", 0))
        scores, params, tags = objects = _objects_of(content)
        resource, parent, train_scores, error, device, _ = _others_of(content)
        if not _OBJECT.issuperset(map(type, objects)):
            return False
        numbers = (*times, content.get("time", 0), *scores.values())
        plain = (*params.values(), *tags.values())
        return (
            _INTEGER.issuperset(map(type, counts))
            and min(counts) >= 0
            and _NUMBERS.issuperset(map(type, numbers))
            and min(times) >= 0
            and _PLAIN.issuperset(map(type, plain))
            # No other sum is finite.
            and math.isfinite(sum(numbers, sum([v for v in plain if type(v) is float])))
            and (resource is None or type(resource) is int)
            and (parent is None or (type(parent) is int and parent >= 0))
            and train_scores is error is None
            and (device is None or type(device) is str)
            and type(content.get("worker", "")) is str
        )
    except (KeyError, OverflowError):
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _count(value: Any, least: int = 0) -> bool:
    return type(value) is int and value >= least


def _number(value: Any) -> bool:
    # What JSON makes has no subclasses; the limit is also for integers that are no float.
    return type(value) in (float, int) and abs(value) <= sys.float_info.max


def _score(value: Any) -> bool:
    return _number(value) or value in ("nan", "inf", "-inf")


def _scores(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_score, value.values()))


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return value.keys() == {"repr"} and isinstance(value["repr"], str)
    return value is None or isinstance(value, (int, str)) or _number(value)


def _is_candidate(item: tuple[str, Any]) -> bool:
    number, params = item
    return number.isdecimal() and isinstance(params, dict) and all(map(_plain, params.values()))


def _is_fit(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_count, value))


# A usual fit has a sum, and of the optional fields at most "time", and "start" with "worker".
_N_FIELDS = 17
_counts_of = itemgetter("n", "trial", "split", "repeat", "candidate")
_times_of = itemgetter("fit_time", "score_time")
_objects_of = itemgetter("test_scores", "params", "tags")
_others_of = itemgetter("resource", "parent", "train_scores", "error", "device", "sum")
_OBJECT, _INTEGER, _NUMBERS = {dict}, {int}, {int, float}
_PLAIN = {int, float, str, bool, type(None)}

# A check of the value, and the rule in words.
_Field = tuple[Callable[[Any], bool], str]

_NUMBER: _Field = (_count, "an integer from 0")
_TEXT_OR_NULL = (lambda v: v is None or isinstance(v, str), "a string or null")
_SECONDS = (lambda v: _number(v) and v >= 0, "a number of seconds")
_BOOL = (lambda v: isinstance(v, bool), "true or false")
_SCORES = "an object of numbers, 'nan', 'inf' or '-inf'"

_HEADER: dict[str, _Field] = {
    "journal": (
        lambda v: isinstance(v, str) and v != "" and v.isascii(),
        "a string of ASCII characters",
    ),
    "search": (lambda v: isinstance(v, str), "a string"),
    "seed": _NUMBER,
    "resource": _TEXT_OR_NULL,
    "n_repeats": (lambda v: _count(v, 1), "an integer from 1"),
    "n_splits": (lambda v: _count(v, 1), "an integer from 1"),
    "return_train_score": _BOOL,
    "asynchronous": _BOOL,
    "fingerprint": (lambda v: isinstance(v, dict), "an object"),
    "splits": (lambda v: isinstance(v, str), "a string"),
}
_EVENTS: dict[str, dict[str, _Field]] = {
    "fit": {
        "n": _NUMBER,
        "trial": _NUMBER,
        "split": _NUMBER,
        "repeat": _NUMBER,
        "candidate": _NUMBER,
        "resource": (lambda v: v is None or _number(v), "a number or null"),
        "parent": (lambda v: v is None or _count(v), "an integer from 0, or null"),
        "tags": (lambda v: isinstance(v, dict) and all(map(_plain, v.values())), "an object"),
        "params": (
            lambda v: isinstance(v, dict) and all(map(_plain, v.values())),
            "an object of parameters",
        ),
        "test_scores": (_scores, _SCORES),
        "train_scores": (lambda v: v is None or _scores(v), f"{_SCORES}, or null"),
        "fit_time": _SECONDS,
        "score_time": _SECONDS,
        "device": _TEXT_OR_NULL,
        "error": _TEXT_OR_NULL,
    },
    "ask": {
        "n": _NUMBER,
        "trials": (lambda v: isinstance(v, list) and all(map(_count, v)), "a list of numbers"),
    },
    "tell": {"n": _NUMBER, "trial": _NUMBER},
    # Of searches with several processes: configurations of candidates, and which process fits what.
    "propose": {
        "n": _NUMBER,
        "candidates": (
            lambda v: isinstance(v, dict) and all(map(_is_candidate, v.items())),
            "an object of parameters by number",
        ),
    },
    "lease": {
        "n": _NUMBER,
        "worker": (lambda v: isinstance(v, str), "a string"),
        "fits": (
            lambda v: isinstance(v, list) and all(map(_is_fit, v)),
            "a list of trial, split and repeat",
        ),
    },
}
_EVENTS["confirm"] = _EVENTS["fit"]  # a further one of the same trial, after the search
_OPTIONAL: dict[str, _Field] = {
    "fixed": (lambda v: isinstance(v, dict), "an object of parameters"),
    "time": (_number, "a number of seconds"),
    "early": _BOOL,
    "start": _SECONDS,
    "worker": (lambda v: isinstance(v, str), "a string"),
    "score_error": (lambda v: isinstance(v, str), "a string"),
    "unpredicted": (lambda v: isinstance(v, str), "a string"),
    "found": (_scores, _SCORES),
    "measures": (_scores, _SCORES),
    "skipped": (lambda v: isinstance(v, str), "a string"),
    "curves": (
        lambda v: (
            isinstance(v, dict)
            and all(isinstance(curve, list) and all(map(_score, curve)) for curve in v.values())
        ),
        "an object of lists of numbers",
    ),
}
