"""The journal as a file: appended, locked, tolerant of a torn end and of nothing else."""

import errno
import json
import math
import os
import shutil
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skhpo import files
from skhpo.exceptions import JournalError
from skhpo.journal import (
    Journal,
    SharedJournal,
    _file,
    _folder,
    fit_event,
    read_trials,
    result_of,
)
from skhpo.trial import FitResult, Trial

try:
    import fcntl
except ImportError:
    fcntl = None

HEADER = {
    "search": "SearchCV",
    "seed": 1,
    "resource": None,
    "n_repeats": 3,
    "n_splits": 2,
    "return_train_score": False,
    "asynchronous": True,
    "fingerprint": {},
}
SPLITS = [(np.arange(5), np.arange(5, 9)), (np.arange(4, 9), np.arange(4))]
TRIAL = Trial(0, 0, {"lr": 0.1, "f": len, "none": None}, resource=3, tags={"bracket": 0})
scores = st.dictionaries(st.text(max_size=5), st.floats(), max_size=3)


def write(path, *events):
    with Journal(path) as journal:
        if journal.header is None:
            journal.start(HEADER, SPLITS)
        for event in events:
            journal.append(event)


def ask(*trials):
    return {"event": "ask", "trials": list(trials)}


def asked(journal):
    return [event["trials"] for event in journal.events]


def test_what_was_written_is_read(tmp_path):
    write(tmp_path / "j", ask(0), ask(1, 2))
    write(tmp_path / "j", ask(3))
    with Journal(tmp_path / "j") as journal:
        assert journal.header["seed"] == 1
        assert asked(journal) == [[0], [1, 2], [3]]


@settings(deadline=None)
@given(scores, st.none() | scores, st.none() | st.text())
def test_results_survive_as_strict_json(test_scores, train_scores, error):
    result = FitResult(0, 1, 2, test_scores, train_scores, 0.5, 0.25, "cpu", error)
    line = json.dumps(fit_event(TRIAL, result), allow_nan=False)
    again = result_of(json.loads(line))
    for name in ("test_scores", "train_scores"):
        a, b = getattr(result, name), getattr(again, name)
        assert (a is None) == (b is None)
        if a is not None:
            assert a.keys() == b.keys()
            assert all(a[k] == b[k] or (math.isnan(a[k]) and math.isnan(b[k])) for k in a)
    assert (again.trial, again.split, again.repeat) == (0, 1, 2)
    assert (again.fit_time, again.score_time, again.device, again.error) == (
        0.5,
        0.25,
        "cpu",
        error,
    )


def test_every_cut_of_the_last_line_is_tolerated_and_said(tmp_path):
    path = tmp_path / "j"
    write(path, ask(0), ask(1))
    content = path.read_bytes()
    start_of_last = content[:-1].rindex(b"\n") + 1
    for end in range(start_of_last + 1, len(content)):
        path.write_bytes(content[:end])
        with pytest.warns(UserWarning, match="torn"):
            journal = Journal(path)
        with journal:
            assert asked(journal) == [[0]]
            journal.append(ask(2))
        with Journal(path) as journal:
            assert asked(journal) == [[0], [2]]


def test_a_broken_line_in_the_middle_is_an_error_and_changes_nothing(tmp_path):
    path = tmp_path / "j"
    write(path, ask(0), ask(1))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b"rubbish\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match="line 2"):
        Journal(path)
    assert path.read_bytes() == b"".join(lines)


def test_another_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.json"
    path.write_text('{"shopping": ["milk"]}\n')
    with pytest.raises(JournalError, match="no journal"):
        Journal(path)
    assert path.read_text() == '{"shopping": ["milk"]}\n'


def test_a_second_process_is_refused(tmp_path):
    code = f"from skhpo.journal import Journal; Journal({str(tmp_path / 'j')!r})"
    with Journal(tmp_path / "j") as journal:
        journal.start(HEADER)
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert "in use by another process; wait for it, set shared=True" in out.stderr
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_paths_that_cannot_be_written(tmp_path):
    with pytest.raises(JournalError, match="No such file or directory; give another path"):
        Journal(tmp_path / "missing" / "j")
    with pytest.raises(JournalError, match="Is a directory"):
        Journal(tmp_path)


def test_a_journal_is_read_while_it_is_written(tmp_path):
    path = tmp_path / "j"
    with Journal(path) as journal:
        with pytest.raises(JournalError, match="No such file"):
            read_trials(path)
        journal.start({**HEADER, "asynchronous": False})
        journal.append(fit_event(TRIAL, FitResult(0, 0, 0, {"score": 0.5})))
        with open(path, "ab") as file:
            file.write(b'{"n": 2, "event": "fi')
        header, trials, results = read_trials(path)
    assert header["seed"] == 1
    assert trials[0].params == {"lr": 0.1, "f": repr(len), "none": None}
    assert results[0][0, 0].test_scores == {"score": 0.5}
    with pytest.raises(JournalError, match="cannot read"):
        read_trials(tmp_path / "missing")


@pytest.mark.parametrize("n_fits", [0, 1])
def test_a_new_journal_without_a_fit_is_removed_after_an_error(n_fits, tmp_path):
    with suppress(KeyboardInterrupt), Journal(tmp_path / "run") as journal:
        journal.start(HEADER, SPLITS)
        journal.append(ask(0))
        for split in range(n_fits):
            journal.append(fit_event(TRIAL, FitResult(0, split, 0, {"score": 0.5})))
        raise KeyboardInterrupt
    assert len(list(tmp_path.iterdir())) == 2 * n_fits
    with suppress(KeyboardInterrupt), Journal(tmp_path / "old") as journal:
        journal.start(HEADER, SPLITS)
    with suppress(KeyboardInterrupt), Journal(tmp_path / "old"):
        raise KeyboardInterrupt
    assert (tmp_path / "old").exists()


@pytest.mark.skipif(not files.OPEN_FILES_MOVE, reason="Windows removes no open file")
@pytest.mark.parametrize("moment", ["_open", "_lock"])
@pytest.mark.parametrize("is_new", [False, True])
@pytest.mark.parametrize(
    ("kind", "at_start"), [(Journal, False), (SharedJournal, False), (SharedJournal, True)]
)
def test_a_journal_that_is_discarded_before_it_is_locked_is_not_used(
    kind, is_new, at_start, moment, tmp_path, monkeypatch
):
    """Another process had no fit yet when an error ended it, and maybe a third one came."""
    path, events = tmp_path / "run", []
    original = getattr(kind, moment)

    def late(self):
        monkeypatch.undo()
        path.unlink()
        shutil.rmtree(f"{path}.files")
        if is_new:
            with kind(path, list) as third:
                third.start(HEADER, SPLITS)
                third.append(ask(7))
        original(self)

    if at_start and kind is SharedJournal:
        journal = kind(path, events.append)
    write(path, ask(0))
    monkeypatch.setattr(kind, moment, late)
    if not at_start:
        journal = kind(path, events.append)
        assert (journal.header is None) is not is_new
    with journal:
        if journal.header is None:
            assert journal.start(HEADER, SPLITS) is not is_new
        assert [event["trials"] for event in events] == [[7]] * is_new
        if kind is SharedJournal:
            journal.lease([(0, 0, 0)])
            with SharedJournal(path, events.append) as other:
                assert other.is_leased((0, 0, 0))
                assert other.workers.others() == [journal.workers.name]
        journal.append(ask(1))
    assert not os.path.lexists(f"{path}.workers")
    with Journal(path) as journal:
        assert [event["trials"] for event in journal.events if "trials" in event][-1] == [1]


def test_a_process_that_left_a_shared_journal_leases_no_fits(tmp_path):
    with SharedJournal(tmp_path / "run", list) as journal:
        journal.start(HEADER, SPLITS)
        journal.workers.close()
        with pytest.raises(JournalError, match="but this one left"):
            journal.lease([(0, 0, 0)])


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="Windows has no locks of whole files")

    def flock(descriptor, kind):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with Journal(tmp_path / "run") as journal, pytest.raises(JournalError, match="with locks"):
        journal.start(HEADER, SPLITS)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="it looks up what is open in /proc")
@pytest.mark.parametrize("shared", [False, True])
def test_a_system_that_keeps_the_names_of_open_files_and_locks_bytes(tmp_path, monkeypatch, shared):
    """As Windows, which neither removes nor renames an open file, and locks no whole ones."""

    def refusing(function):
        def refuse(path, *args):
            for descriptor in os.listdir("/proc/self/fd"):
                if os.path.realpath(f"/proc/self/fd/{descriptor}") == os.path.realpath(path):
                    raise PermissionError(errno.EACCES, "open here", str(path))
            return function(path, *args)

        return refuse

    for name in ("unlink", "rename", "replace"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(files, "msvcrt", BytesAreLocked())
    for module in (_file, _folder):
        monkeypatch.setattr(module, "OPEN_FILES_MOVE", False)
    path = tmp_path / "run"

    def opened():
        return SharedJournal(path, events.append) if shared else Journal(path, events.append)

    events = []
    with suppress(KeyboardInterrupt), opened() as journal:
        journal.start(HEADER, SPLITS)
        raise KeyboardInterrupt
    assert not list(tmp_path.glob("run*[!s]"))  # but for the folder of processes
    with opened() as journal:
        journal.start(HEADER, SPLITS)
        journal.append(ask(0))
        journal.sync()
        if shared:
            journal.lease([(0, 0, 0)])
            with opened() as other:
                other.append(ask(1))
            journal.append(ask(2))
        else:
            with pytest.raises(JournalError, match="in use"):
                opened()
            journal.append(ask(1))
    events.clear()
    with opened() as journal:
        assert [event["trials"] for event in events] == [[0], [1], [2]][: 2 + shared]
        journal.append(ask(3))


class BytesAreLocked:
    """In the place of Windows's ``msvcrt``: locks of bytes, which end with the open file."""

    LK_NBLCK, LK_UNLCK = 1, 2

    def locking(self, descriptor, how, n_bytes):
        kind = fcntl.LOCK_EX | fcntl.LOCK_NB if how == self.LK_NBLCK else fcntl.LOCK_UN
        assert os.lseek(descriptor, 0, os.SEEK_CUR) > 2**30
        assert n_bytes == 1
        try:
            fcntl.flock(descriptor, kind)
        except BlockingIOError as error:
            raise OSError(errno.EACCES, "locked") from error
