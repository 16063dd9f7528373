"""The line that says how far a search is, and what a journal answered."""

import itertools
import logging
import re

import pytest
from scripted import Scripted
from sklearn.datasets import load_iris

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV
from skhpo.exceptions import SearchStoppedWarning
from skhpo.model_selection import _observers
from skhpo.model_selection._goals import Told
from skhpo.model_selection._observers import Progress
from skhpo.trial import FitResult, Trial

X, y = load_iris(return_X_y=True)


def worse_with_time(estimator, X, y):
    return 1 / estimator.i - (0 if estimator.data is None else estimator.data / 100)


def hyperband(**kwargs):
    kwargs = {"resource": "i", "max_resources": 9, "cv": 2, "scoring": worse_with_time} | kwargs
    space = {"data": list(range(40))}
    return HalvingHyperbandSearchCV(Scripted(), space, verbose=1, random_state=0, **kwargs)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_best_is_shown_with_its_level_and_ends_as_the_search(asynchronous, capsys):
    search = hyperband(asynchronous=asynchronous).fit(X, y)
    lines = capsys.readouterr().err.splitlines()
    n_fits = 2 * len(search.cv_results_["params"])
    assert 5 <= len(lines) <= 10
    shown = [re.search(r"best score so far ([\d.]+) at i=\d$", line)[1] for line in lines]
    assert shown == sorted(shown, key=float)
    best = f"best score so far {search.best_score_:.4g} at i=1"
    assert lines[-1] == f"{n_fits}/{n_fits} fits, 0:00:00 left, {best}"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_a_fold_schedule_leaves_out_is_not_expected(asynchronous, capsys):
    search = hyperband(cv=4, fold_schedule="auto", asynchronous=asynchronous).fit(X, y)
    shown = re.findall(r"\d+/(\d+) fits", capsys.readouterr().err)
    assert set(shown) == {str(search.cv_results_["n_splits_done"].sum())}


def test_several_metrics_and_none_that_chooses(capsys):
    def scores(estimator, X, y):
        return {"a": estimator.i, "b": -estimator.i}

    search = hyperband(scoring=scores, refit="b").fit(X, y)
    assert capsys.readouterr().err.endswith(f"best score so far {search.best_score_:.4g} at i=1\n")
    hyperband(scoring=scores, refit=False).fit(X, y)
    assert capsys.readouterr().err.endswith("best score so far 9 at i=9\n")


def test_on_a_terminal_the_line_is_rewritten(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    search = BayesSearchCV(Scripted(), {"i": [1, 2, 3]}, n_iter=3, cv=2, verbose=1).fit(X, y)
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "1/6 fits" in shown
    assert "no score so far" in shown
    assert shown.rstrip().endswith(f"best score so far {search.best_score_:.4g}")


@pytest.mark.parametrize(
    ("total", "until", "left"),
    [
        (None, None, ""),
        (None, 1e4, "2:45:00 left, "),
        (3, None, "0:03:20 left, "),
        (3, 150, "0:00:50 left, "),
        (3, 1e4, "0:03:20 left, "),
    ],
)
def test_the_time_left_is_that_of_the_fits_or_until_the_limit(
    capsys, monkeypatch, total, until, left
):
    # Fits of 100 s, of which one has ended.
    now = itertools.chain([0], itertools.repeat(100))
    monkeypatch.setattr(_observers.time, "monotonic", lambda: next(now))
    progress = Progress(total, 1, lambda results: Told(1.0, None, 100), None, (), until)
    progress.on_fit_end(Trial(0, 0, {}), FitResult(0, 0, 0, {"score": 1.0}, None, 100, 0))
    n_fits = "1/3 fits" if total else "1 fit"
    assert capsys.readouterr().err == f"{n_fits}, {left}best score so far 1\n"


def test_where_the_number_of_fits_is_open_lines_grow_rarer(capsys):
    search = hyperband(n_iterations="auto", max_time=1e6).fit(X, y)
    *lines, _ = capsys.readouterr().err.splitlines()
    shown = [int(line.split()[0]) for line in lines if line.split()[1] in ("fit,", "fits,")]
    n_fits = 2 * len(search.cv_results_["params"])
    assert len(shown) < n_fits / 2
    assert all(new >= 1.1 * old for old, new in itertools.pairwise(shown))
    # Of a million seconds, 277:46:40, none has passed but a few.
    assert lines[0].startswith("1 fit, 277:4")
    assert all(" left, " in line for line in lines if " fit" in line and "answered" not in line)


class Interrupt:
    def __init__(self, after):
        self.after = after

    def on_fit_end(self, search, trial, result):
        self.after -= 1
        if self.after == 0:
            raise KeyboardInterrupt


def test_a_stopped_search_and_its_end(capsys, caplog, tmp_path):
    journal = tmp_path / "run.jsonl"
    with pytest.warns(SearchStoppedWarning):
        search = hyperband(journal=journal, callbacks=[Interrupt(20)]).fit(X, y)
    level = search.best_params_["i"]
    best = f"best score so far {search.best_score_:.4g} at i={level}"
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(rf"\d+/\d+ fits, stopped because it was interrupted, {best}", line)
    n_done = len(journal.read_text().splitlines()) - 1
    with caplog.at_level(logging.INFO, logger="skhpo"):
        search = hyperband(journal=journal).fit(X, y)
        n_fits = 2 * len(search.cv_results_["params"])
        hyperband(journal=journal).set_params(verbose=0).fit(X, y)
    expected = f"{n_done} of {n_fits} fits answered by run.jsonl"
    *lines, last = capsys.readouterr().err.splitlines()
    assert last == expected
    lefts = [re.match(r"(\d+)/\d+ fits, (\S+) left", line).groups() for line in lines]
    # How long a fit takes is not known from those in the journal.
    assert [left == "?" for _, left in lefts] == [int(done) <= n_done for done, _ in lefts]
    assert lefts[-1] == (str(n_fits), "0:00:00")
    told = [record.message for record in caplog.records if "answered" in record.message]
    assert told == [expected, f"{n_fits} of {n_fits} fits answered by run.jsonl"]
