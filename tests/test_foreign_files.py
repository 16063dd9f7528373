"""Files of others where a journal is to be, and what the system refuses."""

import contextlib
import errno
import multiprocessing
import os
import socket
import stat

import pytest
from test_journal import HEADER, SPLITS, ask
from written import snapshot, write

from skhpo.exceptions import JournalError, StorageError
from skhpo.journal import Journal, read_trials
from skhpo.journal._fit_files import Checkpoints

TEXTS = {
    "notes": b"all my notes",
    "a line": b"all my notes\n",
    "json": b'{"lr": 0.1}\n',
    "a number": b"12\n",
    "nothing": b"",
    "zeros": bytes(100),
    "like a header": b'{"skhpo": 2, "lr": 0.1}\n',
    "a torn header": b'{"skhpo": 2, "journal": "ab',
    "format 1": b'{"skhpo": 1, "seed": 3, "fingerprint": {}}\n',
}


def foreign(kind, folder):
    """Put something where a journal or its folder is to be; return the path of the journal."""
    path = folder / "run.jsonl"
    files = folder / "run.jsonl.files"
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    for name in ("splits.npz", "0-0-0.pt", "owner", "notes.txt"):
        (elsewhere / name).write_text("of somebody else")
    if kind in TEXTS:
        path.write_bytes(TEXTS[kind])
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with contextlib.chdir(folder), socket.socket(socket.AF_UNIX) as bound:
            bound.bind("run.jsonl")
    elif kind == "device":
        return "/dev/null"
    elif kind == "link to notes":
        path.symlink_to(elsewhere / "notes.txt")
    elif kind == "link to nowhere":
        path.symlink_to(folder / "nowhere")
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "link for the folder":
        files.symlink_to(elsewhere)
    elif kind == "file for the folder":
        files.write_text("of somebody else")
    elif kind == "folder of somebody":
        elsewhere.rename(files)
    elif kind == "folder of a journal that is gone":
        write(path)
        path.unlink()
    elif kind == "below a file":
        return elsewhere / "notes.txt" / "run.jsonl"
    elif kind == "nul":
        return f"{path}\0"
    else:
        return {"no name": "", "too long": folder / ("a" * 300)}[kind]
    return path


KINDS = [
    *TEXTS,
    *("folder", "pipe", "socket", "device", "link to notes", "link to nowhere", "link to itself"),
    *("link for the folder", "file for the folder", "folder of somebody", "below a file", "nul"),
    *("folder of a journal that is gone", "no name", "too long"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_ours_is_refused_and_left_alone(kind, tmp_path):
    path = foreign(kind, tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(JournalError, match=r"must|is damaged|format 1"), Journal(path) as journal:
        journal.start(HEADER, SPLITS)
    assert snapshot(tmp_path) == before
    if kind not in ("link for the folder", "file for the folder", "folder of somebody"):
        with pytest.raises(JournalError):
            read_trials(path)


@pytest.mark.parametrize("wrong", [None, 5, b"run.jsonl"])
def test_what_is_no_path(wrong):
    for use in (Journal, read_trials):
        with pytest.raises(TypeError, match="must be a string or a path"):
            use(wrong)


@pytest.mark.parametrize("damage", ["link", "owner of another", "owner missing"])
def test_the_folder_belongs_to_its_journal(damage, tmp_path):
    path = tmp_path / "run.jsonl"
    write(path)
    write(tmp_path / "other.jsonl")
    files = tmp_path / "run.jsonl.files"
    if damage == "link":
        files.rename(tmp_path / "moved")
        files.symlink_to(tmp_path / "other.jsonl.files")
    elif damage == "owner of another":
        (files / "owner").write_bytes((tmp_path / "other.jsonl.files" / "owner").read_bytes())
    else:
        (files / "owner").unlink()
    before = snapshot(tmp_path)
    with Journal(path) as journal, pytest.raises(JournalError, match="must be"):
        journal.splits(SPLITS)
    assert snapshot(tmp_path) == before


def test_a_link_to_a_journal_is_that_journal(tmp_path):
    (tmp_path / "disk").mkdir()
    events = write(tmp_path / "disk" / "run.jsonl")
    (tmp_path / "run.jsonl").symlink_to(tmp_path / "disk" / "run.jsonl")
    with Journal(tmp_path / "run.jsonl") as journal:
        assert journal.events == events
        assert journal.files == tmp_path / "disk" / "run.jsonl.files"


# --- what is around it


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    path = tmp_path / "run"
    write(path)
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    journal = Journal(path)
    child = fork.Process(target=theirs.recv)
    child.start()
    journal.close()
    try:
        Journal(path).close()
    finally:
        ours.send("done")
        child.join()


def test_a_journal_that_is_gone_is_said(tmp_path):
    path = tmp_path / "run"
    with Journal(path) as journal:
        journal.start(HEADER, SPLITS)
        path.unlink()
        with pytest.raises(StorageError, match="deleted or replaced"):
            journal.append(ask(0))
        path.write_text("something else")
        with pytest.raises(StorageError, match="deleted or replaced"):
            journal.append(ask(0))
    assert path.read_text() == "something else"


def test_a_line_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "run"
    with Journal(path) as journal:
        journal.start(HEADER, SPLITS)
        whole, write_bytes = path.read_bytes(), os.write

        def full(descriptor, content):
            write_bytes(descriptor, content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StorageError, match="make room on its disk"):
            journal.append(ask(0))
        assert path.read_bytes() == whole
        monkeypatch.undo()
        journal.append(ask(0))
    with Journal(path) as journal:
        assert [event["trials"] for event in journal.events] == [[0]]


@pytest.mark.parametrize("mock", [False, True])
@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_journal_is_read_where_nothing_can_be_written(code, mock, tmp_path, monkeypatch):
    path = tmp_path / "run"
    events = write(path)
    path.chmod(0o444)
    (tmp_path / "run.files").chmod(0o555)
    tmp_path.chmod(0o555)
    if mock:  # root may write whatever the permissions are
        open_file = os.open

        def refusing(path, flags, *args, **kwargs):
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                raise OSError(code, os.strerror(code))
            return open_file(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", refusing)
    with Journal(path) as journal:
        assert journal.events == events
        assert len(journal.splits([])) == 2
        if journal.read_only:
            assert journal.checkpoints is None
            with pytest.raises(JournalError, match="must be writable"):
                journal.append(ask(0))
        assert journal.read_only or not mock
    tmp_path.chmod(0o755)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask_and_the_journal(mask, tmp_path):
    path, folder = tmp_path / "run", tmp_path / "run.files"
    before = os.umask(mask)
    try:
        write(path)
        modes = {p: stat.S_IMODE(p.stat().st_mode) for p in (path, folder, *folder.iterdir())}
        assert modes.pop(path) == 0o666 & ~mask
        assert modes.pop(folder) == 0o777 & ~mask
        assert set(modes.values()) == {0o666 & ~mask}
        path.chmod(0o600)
        with Journal(path) as journal:
            journal.splits(SPLITS)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


class Killed(BaseException):
    """Stands for the end of the process: nothing is cleaned up."""


def dies(act, calls, patch):
    """Do something, but nothing any more after so many calls of the system."""
    left = calls

    def counted(function):
        def killing(*args, **kwargs):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return function(*args, **kwargs)

        return killing

    with patch.context() as patched:
        for name in ("mkdir", "open", "write", "fsync", "replace", "link", "unlink", "rmdir"):
            patched.setattr(os, name, counted(getattr(os, name)))
        try:
            act()
        except Killed:
            return True
    return False


@pytest.mark.parametrize("discarded", [False, True])
def test_a_journal_that_was_killed_while_it_began_begins_again(discarded, tmp_path, monkeypatch):
    for calls in range(100):
        path = tmp_path / str(calls) / "run"
        path.parent.mkdir()
        journal = Journal(path)
        if discarded:
            journal.start(HEADER, SPLITS)
            (path.parent / "run.files" / "0-0-0.pt").touch()
            died = dies(lambda: journal.__exit__(KeyboardInterrupt), calls, monkeypatch)  # noqa: B023
        else:
            died = dies(lambda: journal.start(HEADER, SPLITS), calls, monkeypatch)  # noqa: B023
        journal.close()
        with Journal(path) as journal:
            if journal.header is None:
                journal.start(HEADER, SPLITS)
            journal.splits(SPLITS)
            journal.checkpoints.sweep(kept=())
            journal.append(ask(0))
        assert sorted(os.listdir(path.parent)) == ["run", "run.files"]
        assert sorted(os.listdir(path.parent / "run.files")) == ["owner", "splits.npz"]
        if not died:
            break
    assert not died
    assert calls > 5


def test_a_journal_that_was_discarded_while_a_thread_wrote_begins_again(tmp_path, monkeypatch):
    path, folder = tmp_path / "run", tmp_path / "run.files"

    def late(*args, **kwargs):
        (folder / "0-0-0.pt.0123456789abcdef.part").touch()

    monkeypatch.setattr(Checkpoints, "sweep", late)
    journal = Journal(path)
    journal.start(HEADER, SPLITS)
    journal.__exit__(KeyboardInterrupt)
    assert not path.exists()
    with Journal(path) as journal:
        journal.start(HEADER, SPLITS)
    assert sorted(os.listdir(folder)) == ["owner", "splits.npz"]


def test_without_hard_links(tmp_path, monkeypatch):
    def refusing(*args):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refusing)
    events = write(tmp_path / "run")
    with Journal(tmp_path / "run") as journal:
        assert journal.events == events


@pytest.mark.parametrize("left", [(), ("owner",), ("owner.0123456789abcdef.part",)])
def test_a_folder_that_is_gone_is_made_again(left, tmp_path):
    path, folder = tmp_path / "run", tmp_path / "run.files"
    write(path)
    for file in folder.iterdir():
        if file.name not in left:
            file.unlink()
    for name in left:
        (folder / name).touch()
    with Journal(path) as journal:
        journal.splits(SPLITS)
    assert {"owner", *left} - {"owner.0123456789abcdef.part"} <= set(os.listdir(folder))
    assert not list(folder.glob("*.part"))
