"""Journals that are not whole: never trusted, and repaired as far as they are."""

import contextlib
import json
import os
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_journal import SPLITS, ask
from written import events_of_a_search, less_seal, snapshot, write

from skhpo.__main__ import main
from skhpo.exceptions import JournalError
from skhpo.journal import Journal, _events, read_trials, repair, seal


@st.composite
def damages(draw, content):
    """Flip a byte, cut, swap, double, drop or edit lines."""
    lines = content.splitlines(keepends=True)
    i, j = (draw(st.integers(0, len(lines) - 1)) for _ in "ij")
    kind = draw(st.sampled_from(["flip", "cut", "swap", "double", "drop", "edit", "insert"]))
    if kind == "flip":
        where = draw(st.integers(0, len(content) - 1))
        return (
            content[:where]
            + bytes([content[where] ^ draw(st.integers(1, 255))])
            + (content[where + 1 :])
        )
    if kind == "cut":
        begin, end = sorted(draw(st.integers(0, len(content))) for _ in "ij")
        return content[:begin] + content[end:]
    if kind == "swap":
        lines[i], lines[j] = lines[j], lines[i]
    elif kind == "double":
        lines.insert(i, lines[j])
    elif kind == "drop":
        del lines[i]
    elif kind == "insert":
        lines.insert(i, draw(st.sampled_from([b"{}\n", b"[" * 100_000 + b"\n", b"null\n", b"\n"])))
    else:
        event = json.loads(lines[i])
        name = draw(st.sampled_from(sorted(event)))
        event[name] = draw(st.sampled_from([None, 99, -1, 1e400, "x", [1], {}, {"score": 99}]))
        lines[i] = json.dumps(event).encode() + b"\n"
    return b"".join(lines)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_damage_is_noticed_and_the_rest_repaired(asynchronous, tmp_path):
    path, changed, output = (tmp_path / name for name in ("run", "changed", "output"))
    events = write(path, asynchronous)
    content = path.read_bytes()

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(damages(content))
    def noticed(damaged):
        changed.write_bytes(damaged)
        with warnings.catch_warnings(), contextlib.suppress(JournalError):
            warnings.simplefilter("ignore")  # a torn line
            with Journal(changed) as journal:
                assert journal.events == events[: len(journal.events)]
        changed.write_bytes(damaged)
        with contextlib.suppress(JournalError):
            repair(changed, output)
            with Journal(output) as journal:
                kept = less_seal(journal.events)
            assert [event for event in less_seal(events) if event in kept] == kept
            output.unlink()
            for file in (tmp_path / "output.files").iterdir():
                file.unlink()
            (tmp_path / "output.files").rmdir()

    noticed()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"test_scores": {"score": 99}}, "its sum, a checksum, is another one"),
        ({"test_scores": {"score": float("inf")}}, "test_scores must be an object of numbers"),
        ({"test_scores": {"score": 10**400}}, "test_scores must be an object of numbers"),
        ({"test_scores": 5}, "test_scores must be an object of numbers"),
        ({"fit_time": "long"}, "fit_time must be a number of seconds, but is 'long'"),
        ({"start": -1.0}, "start must be a number of seconds, but is -1.0"),
        ({"start": 1.0, "worker": 3}, "worker must be a string, but is 3"),
        ({"params": [1]}, "params must be an object of parameters"),
        ({"trial": -1}, "trial must be an integer from 0"),
        (
            {"event": "fits"},
            "event must be one of fit, ask, tell, propose, lease, confirm, but is 'fits'",
        ),
        ({"event": ["fit"]}, "event must be one of"),
        ({"n": 9}, "its sum"),
        ({"sum": 5}, "sum is missing"),
    ],
)
def test_line_and_field_are_named(change, why, tmp_path):
    write(tmp_path / "run")
    lines = (tmp_path / "run").read_bytes().splitlines(keepends=True)
    lines[3] = json.dumps({**json.loads(lines[3]), **change}).encode() + b"\n"
    (tmp_path / "run").write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=f"line 4 of the journal .* is damaged: .*{why}"):
        Journal(tmp_path / "run")


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({**events_of_a_search(True)[1], "split": 2}, "split must be below 2, but is 2"),
        (events_of_a_search(True)[1], "the fit of trial 0, split 0, repeat 0 is there twice"),
        ({**events_of_a_search(True)[1], "trial": 9}, "trial 9 has a fit, and no line before it"),
        (ask(2), r"trials \[2\] are asked for twice"),
        ({"event": "tell", "trial": 0}, "trial 0 is told twice"),
        ({"event": "tell", "trial": 10}, "trial 10 is told but not asked"),
    ],
)
def test_events_that_do_not_follow_are_refused(event, why, tmp_path):
    path = tmp_path / "run"
    events = write(path, asynchronous=True)
    journal = json.loads(path.read_bytes().splitlines()[0])["journal"]
    with open(path, "ab") as file:
        file.write(seal({"n": len(events) + 1, **event}, journal))
    with pytest.raises(JournalError, match=why):
        read_trials(path)


def test_a_line_that_is_torn_is_dropped_even_where_warnings_are_errors(tmp_path):
    path = tmp_path / "run"
    events = write(path)
    os.truncate(path, os.path.getsize(path) - 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="torn"):
            Journal(path)
        with Journal(path) as journal:
            assert journal.events == events[:-1]


def test_what_another_program_added_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "run"
    write(path)
    with open(path, "ab") as file:
        file.write(b"note to myself")
    before = path.read_bytes()
    with pytest.raises(JournalError, match="another program may have written"):
        Journal(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("cut", [0, 100, -1])
def test_damaged_splits_are_noticed_where_they_are_needed(cut, tmp_path):
    path = tmp_path / "run"
    write(path)
    splits = tmp_path / "run.files" / "splits.npz"
    with Journal(path) as journal:
        kept = journal.splits([])
        np.testing.assert_equal(kept, SPLITS)
        os.truncate(splits, cut if cut >= 0 else os.path.getsize(splits) - 1)
        assert journal.splits(SPLITS) is SPLITS
        with pytest.raises(JournalError, match="cannot be read"):
            journal.splits([])
        np.savez(splits, train0=[0], test0=[1])
        with pytest.raises(JournalError, match="holds other ones"):
            journal.splits([])


# --- repair


def test_repair_says_what_is_kept(tmp_path, capsys):
    path, output = tmp_path / "run", tmp_path / "other"
    events = write(path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = b"rubbish\n"
    path.write_bytes(b"".join(lines))
    before = snapshot(tmp_path)
    assert main(["repair", str(path), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert "line 5 is left out: it is not a JSON object" in said
    assert f"{output}: 8 lines and 0 checkpoints, 1 lines left out" in said
    assert {name: snapshot(tmp_path)[name] for name in before} == before
    with Journal(output) as journal:
        assert less_seal(journal.events) == less_seal(events[:3] + events[4:])
        journal.splits([])
    assert main(["repair", str(path), "--output", str(output)]) == 1
    assert "output must not exist" in capsys.readouterr().err


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([10**400, -(10**400), 2.5, -0.5, "inf", "nan", 1e308, [], {}, {"repr": "x"}]),
    st.floats(),
    st.text(max_size=2),
    st.dictionaries(st.text(max_size=2), st.one_of(st.floats(), st.none(), st.integers())),
)


# The first text that is drawn reads tables of Unicode, which takes seconds in a new folder.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_usual_line_is_told_from_a_wrong_one_at_once_or_not_at_all(data):
    more = [{}, {"time": 2.5}, {"start": 1.5, "worker": "host:1"}]
    more = data.draw(st.sampled_from([*more, more[1] | more[2]]))  # earlier versions have less
    event = {"n": 3, **events_of_a_search(False)[0], **more, "sum": "0"}
    assert _events._is_usual(event)
    assert _events.wrong_field(event) is None
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from([event, event["params"], event["test_scores"]]))
        name = data.draw(st.sampled_from(sorted(place)))
        if data.draw(st.booleans()):
            place[name] = data.draw(VALUES)
        elif len(place) > 1:
            del place[name]
        if not all(isinstance(event.get(name), dict) for name in ("params", "test_scores")):
            break
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_events, "_is_usual", lambda event: False)
        slowly = _events.wrong_field(event)
    assert _events.wrong_field(event) == slowly
