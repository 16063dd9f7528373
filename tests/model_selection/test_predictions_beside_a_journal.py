"""Predictions as files of a journal: there when a search goes on, made again if they are lost."""

import errno
import json
import os
import pickle
import shutil

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from skhpo import HalvingHyperbandSearchCV, SearchCV, TorchClassifier
from skhpo.journal import repair
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X, y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X).astype(np.float32)


class StopAfter:
    """Presses Ctrl-C after so many fits."""

    def __init__(self, n_fits):
        self.left = n_fits

    def on_fit_end(self, search, trial, result):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


LOST = "were missing or damaged beside it"


def hyperband(journal, **kwargs):
    kwargs = {"return_predictions": True, "lockstep": False, "refit": False, **kwargs}
    return HalvingHyperbandSearchCV(
        TorchClassifier(module__n_units=4, batch_size=32),
        {"lr": loguniform(1e-2, 1)},
        resource="max_epochs",
        max_resources=9,
        factor=3,
        cv=2,
        random_state=0,
        journal=journal,
        **kwargs,
    )


def all_kept(search):
    return {row: search.out_of_fold_predictions(row) for row in search.predictions_.rows}


def assert_same(a, b):
    a, b = all_kept(a), all_kept(b)
    assert list(a) == list(b)
    for row in a:
        np.testing.assert_allclose(a[row], b[row], atol=1e-5)


def files(journal):
    return sorted(path.name for path in journal.with_name(f"{journal.name}.files").glob("*.npy*"))


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "run.jsonl"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_beside_a_journal_are_those_of_the_rows_that_count(journal, asynchronous):
    search = hyperband(journal, asynchronous=asynchronous).fit(X, y)
    assert len(files(journal)) == 2 * len(search.predictions_.rows)
    assert_same(search, hyperband(None, asynchronous=asynchronous).fit(X, y))


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("n_fits", [1, 9, 20, 37])
def test_a_search_that_goes_on_has_them_all(journal, asynchronous, n_fits):
    whole = hyperband(None, asynchronous=asynchronous).fit(X, y)
    with pytest.raises(KeyboardInterrupt) if n_fits == 1 else pytest.warns(match="interrupted"):
        stopped = hyperband(journal, asynchronous=asynchronous, callbacks=[StopAfter(n_fits)])
        stopped.fit(X, y)
    before = journal.read_bytes() if journal.exists() else b""
    search = hyperband(journal, asynchronous=asynchronous).fit(X, y)
    assert journal.read_bytes().startswith(before)
    assert_same(search, whole)
    assert len(files(journal)) == 2 * len(search.predictions_.rows)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_nothing_is_lost_where_a_replay_is_interrupted(journal, asynchronous):
    for n_fits in (30, 8):
        callbacks = [StopAfter(n_fits)]
        stopped = hyperband(journal, asynchronous=asynchronous, callbacks=callbacks, keep_models=2)
        with pytest.warns(match="interrupted"):
            stopped.fit(X, y)
    search = hyperband(journal, asynchronous=asynchronous).set_params(keep_models=2).fit(X, y)
    assert_same(search, hyperband(None, asynchronous=asynchronous).fit(X, y))
    assert len(search.models_.rows) == 2
    for row in search.models_.rows:
        assert len(search.kept_models(row)) == 2


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("harm", ["missing", "damaged", "another fit's", "all"])
def test_what_is_lost_is_made_again_with_one_warning(journal, harm, asynchronous):
    whole = hyperband(journal, asynchronous=asynchronous).fit(X, y)
    expected, names = all_kept(whole), files(journal)
    folder = journal.with_name("run.jsonl.files")
    victim = folder / names[3]
    if harm == "missing":
        victim.unlink()
    elif harm == "damaged":
        victim.write_bytes(victim.read_bytes()[:-1] + b"\xff")
    elif harm == "another fit's":
        shutil.copy(folder / names[2], victim)
    else:
        shutil.rmtree(folder)
    lines = journal.read_bytes()
    with pytest.warns(UserWarning, match=LOST) as caught:
        again = hyperband(journal, asynchronous=asynchronous).fit(X, y)
    n_lost = len(names) if harm == "all" else 1
    assert f"predictions of {n_lost} fits" in str(caught[0].message)
    assert journal.read_bytes() == lines
    assert files(journal) == names
    assert list(expected) == again.predictions_.rows
    for row, found in all_kept(again).items():
        np.testing.assert_allclose(found, expected[row], atol=1e-5)
    hyperband(journal, asynchronous=asynchronous).fit(X, y)  # no warning


def test_a_search_that_was_written_without_them_gets_them(journal):
    hyperband(journal, return_predictions=False).fit(X, y)
    assert not files(journal)
    with pytest.warns(UserWarning, match=LOST):
        search = hyperband(journal).fit(X, y)
    whole = hyperband(None).fit(X, y)
    rows = whole.predictions_.rows
    assert set(search.predictions_.rows) >= {
        row for row in rows if whole.cv_results_["n_resources"][row] == 9
    }
    for row in search.predictions_.rows:
        np.testing.assert_allclose(
            search.out_of_fold_predictions(row), whole.out_of_fold_predictions(row), atol=1e-5
        )


def test_they_are_there_before_the_line_of_their_fit(journal):
    missing = []

    class Looks:
        def on_fit_end(self, search, trial, result):
            name = f"{result.trial}-{result.split}-{result.repeat}.npy"
            if name not in files(journal):
                missing.append(name)

    hyperband(journal, callbacks=[Looks()]).fit(X, y)
    assert not missing


def test_a_row_whose_file_is_lost_later_is_said_by_name(journal):
    search = hyperband(journal).fit(X, y)
    (journal.with_name("run.jsonl.files") / files(journal)[0]).unlink()
    row = search.predictions_.rows[0]
    with pytest.raises(ValueError, match=f"row {row} on split 0 were deleted or damaged"):
        search.out_of_fold_predictions(row)


def test_a_pickle_reads_them_where_they_are(journal):
    search = hyperband(journal).fit(X, y)
    assert_same(pickle.loads(pickle.dumps(search)), search)


def test_a_repaired_journal_has_them(journal, tmp_path):
    search = hyperband(journal).fit(X, y)
    other = tmp_path / "other.jsonl"
    repair(journal, other)
    assert_same(hyperband(other).fit(X, y), search)


def test_a_journal_that_can_only_be_read_has_them(journal, monkeypatch):
    search = hyperband(journal).fit(X, y)
    expected, names = all_kept(search), files(journal)
    folder = journal.with_name("run.jsonl.files")
    (folder / names[0]).unlink()
    open_file = os.open

    def refusing(path, flags, *args, **kwargs):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return open_file(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refusing)
    with pytest.warns(UserWarning, match="predictions of 1 fits"):
        again = hyperband(journal).fit(X, y)
    for row, found in all_kept(again).items():
        np.testing.assert_allclose(found, expected[row], atol=1e-5)
    assert files(journal) == names[1:]


def test_why_a_fit_has_none_is_in_the_journal(journal):
    def search():
        return SearchCV(
            LogisticRegression(),
            {"C": [1.0, 1e-3]},
            scheduler=lambda space, seed: FullScheduler(GridSampler(space), space.size),
            cv=2,
            return_predictions="predict",
            journal=journal,
        )

    labels = np.where(y == 0, 0, np.where(y == 1, 1, 2))
    kept = search().fit(X, labels)
    assert kept.predictions_.rows == [0, 1]
    lines = [json.loads(line) for line in journal.read_bytes().splitlines()]
    assert all(line["time"] > 1.7e9 for line in lines[1:])
    assert not any("unpredicted" in line for line in lines)
