"""Predictions beside a journal as an append-only file: found again after whatever happens to it."""

import errno
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skhpo.exceptions import StorageError
from skhpo.journal import PredictionFiles, _predictions
from skhpo.journal._predictions import pack

KEYS = [(trial, split, 0) for trial in range(3) for split in range(2)]
ARRAYS = st.tuples(
    st.sampled_from(["f4", "f8"]), st.lists(st.integers(0, 4), min_size=1, max_size=3)
)


def array(made, number):
    kind, shape = made
    return np.full(shape, number, dtype=kind)


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.sampled_from(KEYS), ARRAYS),
            st.tuples(st.just("drop"), st.sampled_from(KEYS)),
            st.tuples(st.just("sweep"), st.sets(st.sampled_from(KEYS))),
            st.tuples(st.just("reopen")),
            st.tuples(st.just("half"), st.integers(1, 200)),
            st.tuples(st.just("look")),
        ),
        max_size=12,
    )
)
def test_what_was_put_last_is_there_unless_it_was_dropped(steps):
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(_predictions, "_MOST_DROPPED", 300)
        files = PredictionFiles(Path(folder), "journal")
        there, dropped = {}, set()
        for number, (what, *how) in enumerate(steps):
            if what == "put":
                there[how[0]] = array(how[1], number)
                files.put(how[0], there[how[0]])
                dropped.discard(how[0])
            elif what == "drop":
                files.drop(how[0])
                if there.pop(how[0], None) is not None:
                    dropped.add(how[0])
            elif what == "sweep":
                files._sweep(how[0])
                there = {key: there[key] for key in there if key in how[0]}
                dropped &= how[0]  # it may have been found again by reopening
            elif what == "reopen":
                files = pickle.loads(pickle.dumps(files))
            elif what == "half":  # as a process leaves it that was killed
                record = pack("journal", (9, 9, 0), np.zeros(40))
                for path in Path(folder).iterdir():
                    with path.open("ab") as file:
                        file.write(record[: how[0]])
            for key in there:
                found = files.get(key)
                assert found.dtype == there[key].dtype
                np.testing.assert_array_equal(found, there[key])
            assert set(there) <= set(files.names()) <= set(there) | dropped


def test_the_last_one_counts_whoever_put_it(tmp_path):
    for number in range(12):
        PredictionFiles(tmp_path, "journal").put((0, 0, 0), np.full(3, number, dtype="f4"))
        assert PredictionFiles(tmp_path, "journal").get((0, 0, 0))[0] == number


def test_dropped_records_take_no_more_than_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(_predictions, "_MOST_DROPPED", 10_000)
    files = PredictionFiles(tmp_path, "journal")
    for trial in range(100):
        files.put((trial, 0, 0), np.full(500, trial, dtype="f4"))
        if trial % 10:
            files.drop((trial, 0, 0))
        (path,) = tmp_path.iterdir()
        assert path.stat().st_size < 2 * (trial // 10 + 1) * 2100 + 14_000
    assert files.names() == [(trial, 0, 0) for trial in range(0, 100, 10)]
    files.sweep(kept=files.names())
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size < 10 * 2100
    assert files.get((90, 0, 0))[0] == 90


@pytest.mark.parametrize("n_written", [0, 7, 300])
def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch, n_written):
    files = PredictionFiles(tmp_path, "journal")
    files.put((0, 0, 0), np.zeros(100))
    write, truncate = os.write, os.ftruncate
    left = [n_written]

    def refusing(descriptor, content):
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        n = write(descriptor, bytes(content)[: left[0]])
        left[0] -= n
        return n

    def refused(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "write", refusing)
    monkeypatch.setattr(os, "ftruncate", refused)
    with pytest.raises(StorageError, match="No space left"):
        files.put((1, 0, 0), np.ones(100))
    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "ftruncate", truncate)
    files.put((1, 0, 0), np.full(100, 2.0))
    for found in (files, PredictionFiles(tmp_path, "journal")):
        assert found.names() == [(0, 0, 0), (1, 0, 0)]
        assert found.get((1, 0, 0))[0] == 2


def test_records_of_another_journal_are_not_read(tmp_path):
    PredictionFiles(tmp_path, "another").put((0, 0, 0), np.zeros(3))
    assert PredictionFiles(tmp_path, "journal").names() == []


def test_what_another_process_writes_is_found_and_again_where_it_moved(tmp_path):
    class Alone:
        is_alone = True

    writes, reads = (PredictionFiles(tmp_path, "journal") for _ in range(2))
    reads.shared = Alone()
    assert not reads.has((0, 0, 0))
    for split in range(3):
        writes.put((0, split, 0), np.full(50, split, dtype="f4"))
        assert reads.has((0, split, 0))
    writes.drop((0, 0, 0))
    writes.sweep(kept=[(0, 1, 0), (0, 2, 0)])
    assert reads.get((0, 2, 0))[0] == 2
    assert reads.get((0, 0, 0)) is None


def test_what_moved_twice_is_found_where_the_system_reuses_inodes(tmp_path):
    writes, reads = (PredictionFiles(tmp_path, "journal") for _ in range(2))
    for trial in range(6):
        writes.put((trial, 0, 0), np.full(50, trial, dtype="f4"))
    assert reads.has((5, 0, 0))
    for trial in range(2):
        writes.drop((trial, 0, 0))
        writes.sweep(kept=writes.names())
    for trial in range(6, 9):  # so that it is as long as it was
        writes.put((trial, 0, 0), np.full(50, trial, dtype="f4"))
    for trial in range(2, 9):
        assert reads.get((trial, 0, 0))[0] == trial


def test_a_file_without_a_record_is_removed(tmp_path, monkeypatch):
    files = PredictionFiles(tmp_path, "journal")

    def refusing(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refusing)
        with pytest.raises(StorageError):
            files.put((0, 0, 0), np.zeros(3))
    files.sweep(kept=())
    assert not list(tmp_path.iterdir())
    files.put((0, 0, 0), np.ones(3))
    assert files.get((0, 0, 0))[0] == 1


def test_a_read_error_that_passes_loses_nothing(tmp_path, monkeypatch):
    files = PredictionFiles(tmp_path, "journal")
    files.put((0, 0, 0), np.full(3, 7.0))

    def refusing(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(_predictions, "opened", refusing)
        assert files.get((0, 0, 0)) is None
    assert files.has((0, 0, 0))
    assert files.get((0, 0, 0))[0] == 7
    (path,) = tmp_path.iterdir()
    os.truncate(path, 10)
    assert files.get((0, 0, 0)) is None
    assert not files.has((0, 0, 0))
