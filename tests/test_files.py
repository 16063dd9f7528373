"""Files of the package's own: whole or not at all."""

import errno
import os
import pickle
import stat

import pytest

from skhpo import files
from skhpo.exceptions import StorageError
from skhpo.files import write_atomically


def test_content_is_replaced_at_once_and_links_are_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "file"
    victim.write_bytes(b"somebody's")
    path.symlink_to(victim)
    write_atomically(path, b"first")
    assert path.read_bytes() == b"first"
    assert not path.is_symlink()
    assert victim.read_bytes() == b"somebody's"
    write_atomically(str(path), memoryview(b"second"))
    assert path.read_bytes() == b"second"
    assert sorted(os.listdir(tmp_path)) == ["file", "victim"]


def test_permissions_are_those_of_the_umask_and_no_wider_than_asked(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"")
        write_atomically(tmp_path / "b", b"", mode=0o600)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"]
    assert modes == [0o640, 0o600]


def test_short_writes_are_gone_on_with(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:3]))
    write_atomically(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "replace"])
def test_what_the_system_refuses_leaves_what_was_there(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    real, failed = getattr(os, call), []

    def refuses(*args):
        if not failed:
            failed.append(call)
            if call == "close":
                real(*args)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuses)
        with pytest.raises(StorageError, match=r"No space left.*file'; make room") as caught:
            write_atomically(path, b"after")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file"]


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"content")
    assert not os.listdir(tmp_path)


def test_a_folder_that_is_gone_is_named(tmp_path):
    path = tmp_path / "gone" / "file"
    with pytest.raises(StorageError, match=r"No such file.*its folder is gone"):
        write_atomically(path, b"")


def test_where_the_drive_has_to_be_told_it_is_told(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    told, synced = [], []
    monkeypatch.setattr(files, "_FULL_SYNC", 51)  # as on macOS
    monkeypatch.setattr(fcntl, "fcntl", lambda descriptor, command: told.append(command))
    monkeypatch.setattr(os, "fsync", synced.append)
    files.write_atomically(tmp_path / "a", b"content")
    assert (told, synced) == ([51], [])

    def unknown(descriptor, command):
        raise OSError(errno.ENOTSUP, "not by this file system")

    monkeypatch.setattr(fcntl, "fcntl", unknown)
    files.write_atomically(tmp_path / "b", b"content")
    assert len(synced) == 1
