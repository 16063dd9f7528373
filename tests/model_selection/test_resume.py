"""A search that was cut short goes on from its journal, and ends as if nothing had been."""

import errno
import functools
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch
from journals import HEADER
from scipy.stats import loguniform, uniform
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import ShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.helper import SliceDataset

from skhpo import HalvingHyperbandSearchCV, TorchClassifier, read_journal
from skhpo.exceptions import JournalError

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)


def net():
    return TorchClassifier(module__n_units=8, module__dropout=0.2, max_epochs=1, batch_size=64)


SEARCHES = {
    "torch": (net(), {"lr": loguniform(1e-3, 1e-1)}, "max_epochs"),
    "torch in a pipeline": (
        make_pipeline(StandardScaler(), net()),
        {"torchclassifier__lr": loguniform(1e-3, 1e-1)},
        "torchclassifier__max_epochs",
    ),
    "sgd in a pipeline": (
        make_pipeline(StandardScaler(), SGDClassifier()),
        {"sgdclassifier__alpha": loguniform(1e-5, 1e-1)},
        "sgdclassifier__max_iter",
    ),
    "forest": (RandomForestClassifier(), {"max_samples": uniform(0.1, 0.9)}, "n_estimators"),
}


def search_of(name, **kwargs):
    estimator, space, resource = SEARCHES[name]
    # Fits that are trained as one also end as one, and a rest of them is rounded otherwise.
    kwargs = {"max_resources": 9, "n_brackets": 2, "cv": 2, "random_state": 0} | kwargs
    kwargs = {"lockstep": False} | kwargs
    return HalvingHyperbandSearchCV(clone(estimator), space, resource=resource, **kwargs)


class StopAfter:
    """Presses Ctrl-C after so many fits."""

    def __init__(self, n_fits):
        self.left = n_fits

    def on_fit_end(self, search, trial, result):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


class CountFits:
    def __init__(self):
        self.n = 0

    def on_fit_end(self, search, trial, result):
        self.n += 1


def assert_same_results(a, b):
    a, b = (pd.DataFrame(search.cv_results_) for search in (a, b))
    columns = [name for name in a if not name.endswith("_time")]
    pd.testing.assert_frame_equal(a[columns], b[columns])


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@functools.cache
def whole(name):
    """A search that was never cut short."""
    return search_of(name).fit(X, y)


@pytest.fixture
def whole_torch():
    return whole("torch")


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("stop", [3, 19, 26])
def test_interrupted_and_resumed_equals_uninterrupted(name, stop, tmp_path):
    path = tmp_path / "run.jsonl"
    with pytest.warns(UserWarning, match="cut short because it was interrupted"):
        search_of(name, journal=path, callbacks=[StopAfter(stop)]).fit(X, y)
    done = len(lines(path)) - 1
    assert done == stop
    resumed, expected = search_of(name, journal=path).fit(X, y), whole(name)
    assert_same_results(resumed, expected)
    assert resumed.best_params_ == expected.best_params_
    assert resumed.best_score_ == expected.best_score_
    np.testing.assert_array_equal(resumed.predict(X), expected.predict(X))
    fits = [(e["trial"], e["split"]) for e in lines(path)[1:]]
    assert len(fits) == len(set(fits)) == 2 * len(expected.cv_results_["params"])


def test_a_finished_search_is_answered_from_its_journal(tmp_path, monkeypatch):
    path = tmp_path / "run.jsonl"
    first = search_of("torch", journal=path).fit(X, y)
    before = path.read_bytes()
    monkeypatch.setattr(TorchClassifier, "partial_fit", None)
    again = search_of("torch", journal=path, refit=False).fit(X, y)
    assert_same_results(again, first)
    assert path.read_bytes() == before


def test_without_its_checkpoints_the_rungs_are_replayed(tmp_path):
    path = tmp_path / "run.jsonl"
    with pytest.warns(UserWarning, match="cut short"):
        search_of("torch", journal=path, callbacks=[StopAfter(22)]).fit(X, y)
    checkpoints = list((tmp_path / "run.jsonl.files").glob("*.pt"))
    assert checkpoints
    for checkpoint in checkpoints:
        checkpoint.unlink()
    assert_same_results(search_of("torch", journal=path).fit(X, y), whole("torch"))


@pytest.mark.parametrize("damage", ["cut", "exchanged", "other weights", "link"])
def test_a_damaged_checkpoint_is_as_good_as_none(damage, whole_torch, tmp_path):
    """Damaged ones are put aside, with one warning, and what a link leads to is left alone."""
    path = tmp_path / "run.jsonl"
    with pytest.warns(UserWarning, match="cut short"):
        search_of("torch", journal=path, callbacks=[StopAfter(22)]).fit(X, y)
    checkpoints = sorted((tmp_path / "run.jsonl.files").glob("*.pt"))
    victim = tmp_path / "victim"
    victim.write_bytes(checkpoints[0].read_bytes())
    contents = [checkpoint.read_bytes() for checkpoint in checkpoints]
    for i, checkpoint in enumerate(checkpoints):
        if damage == "cut":
            os.truncate(checkpoint, 1000 * i)
        elif damage == "exchanged":
            checkpoint.write_bytes(contents[i - 1])
        elif damage == "other weights":
            length = contents[i].index(b"\n")
            checkpoint.write_bytes(contents[i][:length] + contents[i - 1][length:])
        else:
            checkpoint.unlink()
            checkpoint.symlink_to(victim)
    with pytest.warns(UserWarning, match=r"checkpoints in .* were damaged") as warned:
        resumed = search_of("torch", journal=path).fit(X, y)
    assert len(warned) == 1
    assert_same_results(resumed, whole_torch)
    assert sorted(os.listdir(f"{path}.files")) == ["owner", "splits.npz"]
    assert victim.read_bytes() == contents[0]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_checkpoints_are_bounded_and_gone_in_the_end(n_jobs, tmp_path):
    path = tmp_path / "run.jsonl"
    seen = []

    class Look:
        def on_fit_end(self, search, trial, result):
            seen.append(len(list((tmp_path / "run.jsonl.files").glob("*.pt"))))

    search = search_of("torch", journal=path, callbacks=[Look()], n_jobs=n_jobs).fit(X, y)
    rungs = pd.DataFrame(search.cv_results_).groupby("iter").size()
    assert 0 < max(seen) <= 2 * (rungs.iloc[0] + rungs.iloc[1])
    assert sorted(os.listdir(f"{path}.files")) == ["owner", "splits.npz"]


def test_the_seed_and_the_splits_are_kept(tmp_path):
    path = tmp_path / "run.jsonl"
    random = {"cv": ShuffleSplit(2, test_size=0.5), "random_state": None, "journal": path}
    with pytest.warns(UserWarning, match="cut short"):
        search_of("sgd in a pipeline", **random, callbacks=[StopAfter(7)]).fit(X, y)
    resumed = search_of("sgd in a pipeline", **random).fit(X, y)
    again = search_of("sgd in a pipeline", **random).fit(X, y)
    assert_same_results(resumed, again)
    with np.load(tmp_path / "run.jsonl.files" / "splits.npz") as kept:
        train, test = kept["train0"], kept["test0"]
    assert sorted([*train, *test]) == list(range(len(y)))


def test_what_does_not_matter_may_change(tmp_path):
    path = tmp_path / "run.jsonl"
    with pytest.warns(UserWarning, match="cut short"):
        search_of("forest", journal=path, callbacks=[StopAfter(5)]).fit(X, y)
    free = {"n_jobs": 2, "devices": "cpu", "verbose": 1, "max_time": 1e6, "refit": False}
    assert_same_results(
        search_of("forest", journal=path, **free).fit(X, y), search_of("forest").fit(X, y)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"param_distributions": {"max_samples": [0.1, 0.2]}}, "space.max_samples"),
        ({"max_resources": 27}, "settings.max_resources: 9 in the journal, now 27"),
        ({"scoring": "f1_macro"}, "settings.scoring"),
        ({"random_state": 1}, "settings.random_state: 0 in the journal, now 1"),
        ({"cv": 3}, "cv.attributes.n_splits: 2 in the journal, now 3"),
        ({"estimator__criterion": "entropy"}, "estimator.params.criterion: 'gini' in the journal"),
        ({"n_repeats": 2}, "settings.n_repeats"),
    ],
    ids=str,
)
def test_another_search_is_refused_with_what_differs(change, message, tmp_path):
    path = tmp_path / "run.jsonl"
    search = search_of("forest", journal=path).fit(X, y)
    before = path.read_bytes()
    with pytest.raises(JournalError, match=message):
        search.set_params(**change).fit(X, y)
    assert path.read_bytes() == before


def test_other_data_are_refused(tmp_path):
    path = tmp_path / "run.jsonl"
    search = search_of("forest", journal=path).fit(X, y)
    with pytest.raises(JournalError, match=r"data\.X"):
        search.fit(X + 1, y)
    with pytest.raises(JournalError, match=r"data\.sample_weight"):
        search.fit(X, y, sample_weight=np.ones(len(y)))


def test_data_that_cannot_be_known_again_are_refused(tmp_path):
    class Rows(torch.utils.data.Dataset):
        change = staticmethod(lambda row: row)

        def __len__(self):
            return len(X)

        def __getitem__(self, i):
            return self.change(X[i]), y[i]

    search = search_of("torch", journal=tmp_path / "run.jsonl")
    with pytest.raises(TypeError, match=r"must be picklable, but X, a SliceDataset, is not"):
        search.fit(SliceDataset(Rows()), y)
    assert not list(tmp_path.iterdir())


def test_a_journal_in_use_and_one_whose_folder_is_a_file(tmp_path):
    from skhpo.journal import Journal

    with Journal(tmp_path / "a") as journal:
        journal.start(HEADER)
        with pytest.raises(JournalError, match="in use"):
            search_of("forest", journal=tmp_path / "a").fit(X, y)
    (tmp_path / "b.files").write_text("")
    with pytest.raises(JournalError, match="folder"):
        search_of("forest", journal=tmp_path / "b").fit(X, y)
    with pytest.raises(JournalError, match="cannot"):
        search_of("forest", journal=tmp_path / "missing" / "c").fit(X, y)


def test_a_search_that_is_refused_leaves_its_path_free(tmp_path):
    search = search_of("sgd in a pipeline", journal=tmp_path / "run.jsonl", refit=False)
    for wrong, error, message in [
        ({"enqueue": [5]}, TypeError, "must be a list of dicts"),
        ({"n_jobs": 10**9}, ValueError, "n_jobs <= 10,000 must hold, but got n_jobs=1,000,000,000"),
        ({"factor": 1.0000001}, ValueError, "at most 200 rungs"),
        ({"journal": ""}, JournalError, "must be the path of a file"),
        ({"journal": "a\0"}, JournalError, "must be the path of a file"),
    ]:
        with pytest.raises(error, match=message):
            clone(search).set_params(**wrong).fit(X, y)
        assert os.listdir(tmp_path) == []
    search.set_params(max_resources=3).fit(X, y)


@pytest.mark.parametrize("path", ["run.jsonl", "run-{data}.jsonl"])
def test_a_journal_for_each_fold_of_an_outer_cross_validation(path, tmp_path):
    kwargs = {"max_resources": 3, "n_brackets": 1, "journal": tmp_path / path}
    outer = {"cv": 2, "error_score": "raise"}
    search = search_of("sgd in a pipeline", **kwargs)
    if "{data}" not in path:
        with pytest.raises(JournalError, match=r"(?s)data\.X.*'run-{data}\.jsonl', is one journal"):
            cross_val_score(search, X, y, **outer)
        return
    scores = cross_val_score(search, X, y, **outer)
    assert len(list(tmp_path.glob("run-*.jsonl"))) == 2
    contents = {file: file.read_bytes() for file in tmp_path.glob("run-*.jsonl")}
    np.testing.assert_array_equal(cross_val_score(search, X, y, **outer), scores)
    assert {file: file.read_bytes() for file in tmp_path.glob("run-*.jsonl")} == contents


def test_a_finished_search_is_refitted_where_nothing_can_be_written(tmp_path, monkeypatch):
    path = tmp_path / "run.jsonl"
    kwargs = {"journal": path, "max_resources": 3, "n_brackets": 1}
    whole = search_of("torch", **kwargs).fit(X, y)
    open_file = os.open

    def refusing(path, flags, *args, **kwargs):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return open_file(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refusing)
    assert_same_results(search_of("torch", **kwargs).fit(X, y), whole)
    monkeypatch.undo()
    content = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(content[:-1]))
    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(JournalError, match="must be writable"):
        search_of("torch", **kwargs).fit(X, y)


def test_results_are_readable_while_it_runs(tmp_path):
    path = tmp_path / "run.jsonl"
    tables = []

    class Read:
        def on_trial_end(self, search, trial, results, score):
            tables.append(read_journal(path))

    search = search_of("torch", journal=path, callbacks=[Read()], error_score=0).fit(X, y)
    table, results = tables[-1], search.cv_results_
    assert [name for name in table if not name.endswith("time")] == [
        name for name in results if not name.endswith("time")
    ]
    np.testing.assert_array_equal(table["mean_test_score"], results["mean_test_score"])
    assert table["params"] == results["params"]


DISTURBED = """
    import os, signal, sys
    sys.path.insert(0, {folder!r})
    from test_resume import X, y, search_of

    class Disturb:
        left = {after}

        def on_fit_end(self, search, trial, result):
            Disturb.left -= 1
            if Disturb.left == 0:
                {how}

    search_of({name!r}, journal={path!r}, callbacks=[Disturb()], n_jobs={n_jobs}).fit(X, y)
"""


def disturb(path, name, after, n_jobs, how):
    script = DISTURBED.format(
        folder=os.path.dirname(__file__),
        **{"name": name, "after": after, "path": str(path), "n_jobs": n_jobs, "how": how},
    )
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, check=False, start_new_session=True)


@pytest.mark.parametrize(("name", "after", "n_jobs"), [("torch", 21, 1), ("forest", 6, 2)])
def test_killed_at_any_moment(name, after, n_jobs, tmp_path):
    path = tmp_path / "run.jsonl"
    out = disturb(path, name, after, n_jobs, "os.kill(os.getpid(), signal.SIGKILL)")
    assert out.returncode == -9
    assert len(lines(path)) == 1 + after
    resumed = search_of(name, journal=path).fit(X, y)
    assert_same_results(resumed, whole(name))
    fits = [(e["trial"], e["split"]) for e in lines(path)[1:]]
    assert len(fits) == len(set(fits))


# Workers that import torch take four times as long to start.
@pytest.mark.parametrize("name", ["forest", pytest.param("torch", marks=pytest.mark.slow)])
def test_ctrl_c_of_a_terminal_which_workers_get_too(name, tmp_path):
    path = tmp_path / "run.jsonl"
    disturb(path, name, 6, 2, "os.killpg(0, signal.SIGINT)")
    fits = lines(path)[1:]
    assert 6 <= len(fits) < 2 * len(whole(name).cv_results_["params"])
    assert not any(fit.get("error") for fit in fits)
    assert_same_results(search_of(name, journal=path).fit(X, y), whole(name))


def test_repeats_under_different_seeds(tmp_path):
    kwargs = {"n_repeats": 3, "refit": False}
    path = tmp_path / "run.jsonl"
    once = search_of("sgd in a pipeline", refit=False).fit(X, y)
    search = search_of("sgd in a pipeline", journal=path, **kwargs).fit(X, y)
    events = lines(path)[1:]
    assert {event["repeat"] for event in events} == {0, 1, 2}
    first = [e["test_scores"]["score"] for e in events if (e["trial"], e["split"]) == (0, 1)]
    assert search.cv_results_["split1_test_score"][0] == pytest.approx(np.mean(first))
    assert len(set(first)) > 1
    assert not np.allclose(
        search.cv_results_["mean_test_score"][:9], once.cv_results_["mean_test_score"][:9]
    )


def test_what_is_enqueued_comes_first():
    best_params = {"alpha": 0.25, "max_iter": 27}  # of a search without the penalty
    given = [{"alpha": 0.5, "penalty": "l1"}, best_params]
    space = {"alpha": uniform(0, 1), "penalty": ["l1", "l2"]}
    search = HalvingHyperbandSearchCV(
        SGDClassifier(), space, resource="max_iter", max_resources=3, cv=2, enqueue=given
    ).fit(X, y)
    tried = search.cv_results_["params"]
    assert tried[0] == {"alpha": 0.5, "penalty": "l1", "max_iter": 1}
    assert (tried[1]["alpha"], tried[1]["max_iter"]) == (0.25, 1)
    for outside in ({"alpha": 2.0}, {"beta": 1}, {"penalty": "l3"}):
        with pytest.raises(ValueError, match="must lie in the space"):
            search.set_params(enqueue=[outside]).fit(X, y)
