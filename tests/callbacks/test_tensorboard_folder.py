"""Searches that are fitted twice into a folder, and folders that are no use."""

import sys

import pytest
from scipy.stats import loguniform

pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")

from dashboard import read
from logged import Untrainable, X, assert_rows_are_the_table, hyperband, search_of, y

from skhpo import TensorBoardLogger, TorchClassifier


def test_asynchronous_searches_are_logged_and_resumed(tmp_path):
    for _ in range(2):
        search = hyperband(
            tmp_path / "log",
            TorchClassifier(batch_size=32),
            {"lr": loguniform(1e-3, 1e-1)},
            asynchronous=True,
            journal=tmp_path / "run",
        ).fit(X, y)
        assert_rows_are_the_table(read(tmp_path / "log"), search, resource="max_epochs")


def test_resuming_adds_the_missing_sessions_and_doubles_none(tmp_path):
    class Interrupts:
        def __init__(self, after):
            self.after = after

        def on_trial_end(self, search, trial, results, score):
            if trial.number == self.after:
                raise KeyboardInterrupt

    model, space = TorchClassifier(max_epochs=2), {"lr": loguniform(1e-3, 1)}

    def fit(folder, *callbacks, journal=None):
        callbacks = [TensorBoardLogger(folder), *callbacks]
        journal = journal and tmp_path / journal
        return search_of(folder, model, space, callbacks=callbacks, journal=journal).fit(X, y)

    def files():
        paths = (tmp_path / "log").rglob("*tfevents*")
        return {path.parent.name: path.read_bytes() for path in paths}

    with pytest.warns(UserWarning, match="interrupted"):
        fit(tmp_path / "log", Interrupts(after=1), journal="run")
    before = files()
    assert before.keys() == {"log", "trial-0000", "trial-0001"}
    search = fit(tmp_path / "log", journal="run")
    after = files()
    assert all(after[name] == before[name] for name in ("trial-0000", "trial-0001"))
    log = read(tmp_path / "log")
    assert_rows_are_the_table(log, search)
    fit(tmp_path / "other", journal="run")  # the journal has the curves too
    other = read(tmp_path / "other").scalars
    assert {run: tags for run, tags in other.items() if run != "."} == log.scalars


def test_the_same_search_again_replaces_its_sessions(tmp_path):
    search_of(tmp_path).fit(X, y)
    (tmp_path / "trial-0099").mkdir()
    (tmp_path / "trial-0099" / "incomplete").write_text("half a file")
    (tmp_path / "trial-0000" / "notes.txt").write_text("of the user")
    search = search_of(tmp_path).fit(X, y)
    assert_rows_are_the_table(read(tmp_path), search)
    assert not (tmp_path / "trial-0099").exists()
    assert (tmp_path / "trial-0000" / "notes.txt").exists()


def test_the_log_of_another_search_is_refused_before_any_training(tmp_path):
    search_of(tmp_path).fit(X, y)
    before = sorted(tmp_path.rglob("*"))
    other = search_of(tmp_path, Untrainable(), {"C": [1, 2]})
    with pytest.raises(ValueError, match="of another one"):
        other.fit(X, y)
    assert sorted(tmp_path.rglob("*")) == before
    logger = TensorBoardLogger(tmp_path, overwrite=True)
    smaller = search_of(tmp_path, space={"max_depth": [1, 2]}, callbacks=[logger]).fit(X, y)
    assert_rows_are_the_table(read(tmp_path), smaller)


def test_a_folder_that_cannot_be_written_is_told_before_any_training(tmp_path):
    (tmp_path / "file").write_text("")
    for folder, rule in [
        (tmp_path / "file", "can be written"),
        (tmp_path / "file" / "below", "can be written"),
        ("gs://bucket/log", "local folder"),
    ]:
        with pytest.raises(ValueError, match=f"(?s)log_dir must be.*{rule}.*"):
            search_of(folder, Untrainable(), {"C": [1, 2]}).fit(X, y)


def test_without_tensorboard_the_extra_is_named_before_any_training(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install skhpo\[tensorboard\]"):
        search_of(tmp_path, Untrainable(), {"C": [1, 2]}).fit(X, y)


def test_a_full_disk_ends_the_log_and_not_the_search(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    class FillsTheDisk:
        def on_trial_end(self, search, trial, results, score):
            monkeypatch.setattr("os.replace", full)

    search = search_of(tmp_path)
    search.callbacks = [*search.callbacks, FillsTheDisk()]
    with pytest.warns(UserWarning, match="No space left") as seen:
        search.fit(X, y)
    assert len(seen) == 1
    assert len(search.cv_results_["params"]) == 4
    monkeypatch.undo()
    assert [row.name for row in read(tmp_path).rows] == ["trial-0000"]


@pytest.mark.parametrize(
    "text", ["", '{"search": "ab', "[]", '{"search": 5}', "notes", "[" * 10**5]
)
def test_a_note_that_is_torn_or_of_others_is_refused_and_left_alone(text, tmp_path):
    note = tmp_path / "skhpo.json"
    note.write_text(text)
    logger = TensorBoardLogger(tmp_path, overwrite=True)
    with pytest.raises(ValueError, match=r"skhpo\.json in log_dir must say .*; remove it"):
        search_of(tmp_path, Untrainable(), {"C": [1, 2]}, callbacks=[logger]).fit(X, y)
    assert note.read_text() == text


def test_links_are_not_followed(tmp_path):
    log, victim = tmp_path / "log", tmp_path / "victim"
    (log / "trial-0000").mkdir(parents=True)
    victim.mkdir()
    for name in ("notes.txt", "events.out.tfevents.skhpo", "incomplete"):
        (victim / name).write_text("of somebody else")
    for folder in (log, log / "trial-0000"):
        for name in ("incomplete", "events.out.tfevents.skhpo"):
            (folder / name).symlink_to(victim / "notes.txt")
    search = search_of(log).fit(X, y)
    assert_rows_are_the_table(read(log), search)
    (log / "trial-0099").symlink_to(victim)
    with pytest.raises(ValueError, match="a session must be a folder of its own"):
        search_of(log).fit(X, y)
    (log / "trial-0099").unlink()
    (log / "skhpo.json").unlink()
    (log / "skhpo.json").symlink_to(victim / "notes.txt")
    with pytest.raises(ValueError, match=r"skhpo\.json in log_dir must say"):
        search_of(log).fit(X, y)
    assert {path.name: path.read_text() for path in victim.iterdir()} == dict.fromkeys(
        ("notes.txt", "events.out.tfevents.skhpo", "incomplete"), "of somebody else"
    )
