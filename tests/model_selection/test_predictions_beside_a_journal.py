"""Predictions as files of a journal: there when a search goes on, made again if they are lost."""

import errno
import hashlib
import io
import json
import os
import pickle
import re
import shutil
from functools import cache

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from skhpo import HalvingHyperbandSearchCV, SearchCV, TorchClassifier
from skhpo.journal import PredictionFiles, repair
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


@cache
def without_journal(asynchronous):
    return hyperband(None, asynchronous=asynchronous).fit(X, y)


def all_kept(search):
    return {row: search.out_of_fold_predictions(row) for row in search.predictions_.rows}


def fits_kept(search):
    return [(row, split) for row in search.predictions_.rows for split in range(search.n_splits_)]


def assert_same(a, b):
    a, b = all_kept(a), all_kept(b)
    assert list(a) == list(b)
    for row in a:
        np.testing.assert_allclose(a[row], b[row], atol=1e-5)


def folder(journal):
    return journal.with_name(f"{journal.name}.files")


def files(journal):
    return sorted(folder(journal).glob("predictions-*"))


def records(journal):
    """Return the fits whose predictions are beside a journal, whole ones."""
    if not journal.exists():
        return []
    identity = json.loads(journal.read_bytes().splitlines()[0])["journal"]
    found = PredictionFiles(folder(journal), identity)
    return [name for name in found.names() if found.get(name) is not None]


def begins(journal):
    """Return the only file, and where its records begin."""
    (path,) = files(journal)
    content = path.read_bytes()
    return path, [match.start() for match in re.finditer(b"skhpo predictions ", content)]


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "run.jsonl"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_beside_a_journal_are_those_of_the_rows_that_count(journal, asynchronous):
    search = hyperband(journal, asynchronous=asynchronous).fit(X, y)
    assert len(records(journal)) == 2 * len(search.predictions_.rows)
    (path,) = files(journal)
    n_bytes = sum(search.predictions_.of_fit(*name).nbytes for name in fits_kept(search))
    assert n_bytes < path.stat().st_size < n_bytes + 250 * len(fits_kept(search))
    assert_same(search, without_journal(asynchronous))


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("n_fits", [1, 9, 20, 37])
def test_a_search_that_goes_on_has_them_all(journal, asynchronous, n_fits):
    whole = without_journal(asynchronous)
    with pytest.raises(KeyboardInterrupt) if n_fits == 1 else pytest.warns(match="interrupted"):
        stopped = hyperband(journal, asynchronous=asynchronous, callbacks=[StopAfter(n_fits)])
        stopped.fit(X, y)
    before = journal.read_bytes() if journal.exists() else b""
    search = hyperband(journal, asynchronous=asynchronous).fit(X, y)
    assert journal.read_bytes().startswith(before)
    assert_same(search, whole)
    assert len(records(journal)) == 2 * len(search.predictions_.rows)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_nothing_is_lost_where_a_replay_is_interrupted(journal, asynchronous):
    for n_fits in (30, 8):
        callbacks = [StopAfter(n_fits)]
        stopped = hyperband(journal, asynchronous=asynchronous, callbacks=callbacks, keep_models=2)
        with pytest.warns(match="interrupted"):
            stopped.fit(X, y)
    search = hyperband(journal, asynchronous=asynchronous).set_params(keep_models=2).fit(X, y)
    assert_same(search, without_journal(asynchronous))
    assert len(search.models_.rows) == 2
    for row in search.models_.rows:
        assert len(search.kept_models(row)) == 2


@pytest.mark.parametrize(
    ("harm", "asynchronous"),
    [
        ("cut", False),
        ("numbers", False),
        ("numbers", True),
        ("line", False),
        ("another fit's", False),
        ("last", True),
        ("all", False),
        ("all", True),
    ],
)
def test_what_is_lost_is_made_again_with_one_warning(journal, harm, asynchronous):
    whole = hyperband(journal, asynchronous=asynchronous).fit(X, y)
    expected, names = all_kept(whole), records(journal)
    path, at = begins(journal)
    content = bytearray(path.read_bytes())
    if harm == "cut":
        del content[at[3] + 60 : at[3] + 90]
    elif harm == "numbers":
        content[at[4] - 1] ^= 0xFF
    elif harm == "line":
        content[at[3] + 30] ^= 0xFF
    elif harm == "another fit's":
        content[at[3] : at[4]] = content[at[2] : at[3]]
    elif harm == "last":
        del content[-10:]
    path.write_bytes(content)
    if harm == "all":
        shutil.rmtree(folder(journal))
    lines = journal.read_bytes()
    with pytest.warns(UserWarning, match=LOST) as caught:
        again = hyperband(journal, asynchronous=asynchronous).fit(X, y)
    n_lost = len(names) if harm == "all" else 1
    assert f"predictions of {n_lost} fits" in str(caught[0].message)
    assert journal.read_bytes() == lines
    assert records(journal) == names
    assert list(expected) == again.predictions_.rows
    for row, found in all_kept(again).items():
        np.testing.assert_allclose(found, expected[row], atol=1e-5)
    hyperband(journal, asynchronous=asynchronous).fit(X, y)  # no warning


@pytest.mark.parametrize("n_left", [0, 2])
def test_files_of_single_fits_as_of_earlier_versions_are_read(journal, n_left):
    search = hyperband(journal).fit(X, y)
    expected, names = all_kept(search), records(journal)
    identity = json.loads(journal.read_bytes().splitlines()[0])["journal"]
    for name in names[n_left:]:
        key = "-".join(map(str, name))
        buffer = io.BytesIO()
        np.save(buffer, PredictionFiles(folder(journal), identity).get(name))
        numbers = buffer.getvalue()
        proof = hashlib.blake2b(numbers, digest_size=16).hexdigest()
        line = f"skhpo predictions {identity}/{key}/ {proof}\n".encode()
        (folder(journal) / f"{key}.npy").write_bytes(line + numbers)
    (path,) = files(journal)
    before = path.read_bytes()
    path.write_bytes(before[: begins(journal)[1][n_left]])
    again = hyperband(journal).fit(X, y)  # no warning
    assert records(journal) == names
    for row, found in all_kept(again).items():
        np.testing.assert_array_equal(found, expected[row])


def test_a_search_that_was_written_without_them_gets_them(journal):
    hyperband(journal, return_predictions=False).fit(X, y)
    assert not records(journal)
    with pytest.warns(UserWarning, match=LOST):
        search = hyperband(journal).fit(X, y)
    whole = without_journal(False)
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
            name = result.trial, result.split, result.repeat
            if name not in records(journal):
                missing.append(name)

    hyperband(journal, callbacks=[Looks()]).fit(X, y)
    assert not missing


def test_a_row_whose_file_is_lost_later_is_said_by_name(journal):
    search = hyperband(journal).fit(X, y)
    files(journal)[0].unlink()
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
    expected, names = all_kept(search), records(journal)
    path, at = begins(journal)
    path.write_bytes(path.read_bytes()[: at[-1]])
    before = path.read_bytes()
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
    assert path.read_bytes() == before
    assert len(records(journal)) == len(names) - 1


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
