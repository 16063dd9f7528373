"""The page and the commands."""

import os
import re
import subprocess
import sys
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.linear_model import SGDClassifier
from test_importance import table

from skhpo import HalvingHyperbandSearchCV
from skhpo.__main__ import main
from skhpo.exceptions import StorageError
from skhpo.inspection import read_search, report

EVIL = '</script><script>alert("x")</script>'
# Elements without an end tag.
VOID = {"meta", "input", "br"}


class Checked(HTMLParser):
    """Raises unless every element is closed by its own end tag."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.scripts = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def parsed(path):
    with open(path, encoding="utf-8") as file:
        content = file.read()
    page = Checked()
    page.feed(content)
    assert page.open == []
    return page, content


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "run.jsonl"
    search = HalvingHyperbandSearchCV(
        SGDClassifier(random_state=0),
        {"alpha": loguniform(1e-5, 10), "penalty": ["l1", "l2"]},
        resource="max_iter",
        max_resources=9,
        n_iterations=3,
        cv=3,
        journal=path,
        random_state=0,
    )
    return search.fit(*load_iris(return_X_y=True)), path


def test_a_page_says_what_was_found(journal, tmp_path):
    search, path = journal
    page, content = parsed(report(path, tmp_path / "page.html"))
    text = " ".join(page.texts)
    assert f"{search.best_score_:.5g}" in text
    for heading in ("The best", "What matters", "Rung by rung", "Configurations", "All rows"):
        assert any(text.startswith(heading) for text in page.texts)
    assert f"max_iter={search.cv_results_['n_resources'][search.best_index_]}" in text
    assert len(re.findall(r"<tr data-row=", content)) == len(search.cv_results_["params"])
    assert page.scripts == 1
    # Nothing is loaded from anywhere.
    assert not re.search(r"(src|href)=|url\(|@import", content)
    again, _ = parsed(report(search, tmp_path / "search.html", title="A & B"))
    assert "A & B" in again.texts


def test_the_code_fits_the_best_again(journal, tmp_path):
    search, _ = journal
    page, _ = parsed(report(search, tmp_path / "page.html"))
    code = next(text for text in page.texts if "best.fit(X, y)" in text)
    X, y = load_iris(return_X_y=True)
    names = {"estimator": search.estimator, "X": X, "y": y}
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        exec(code, names)
    again = names["best"].get_params()
    assert {name: again[name] for name in search.best_params_} == search.best_params_


def test_names_and_values_are_text(tmp_path):
    space = {EVIL: [EVIL, "b"], "a&b": uniform(0, 1)}
    data, _ = table(space, lambda **params: params["a&b"] + (params[EVIL] == "b"), 20)
    page, content = parsed(report((data, space), tmp_path / "page.html", title=EVIL))
    assert page.scripts == 1
    assert "alert(" not in re.sub(r"&lt;/script&gt;.*?&lt;/script&gt;", "", content)
    assert any(EVIL in text for text in page.texts)


@pytest.mark.parametrize("n", [0, 1, 9, 12])
def test_a_page_of_a_search_that_has_just_begun(journal, n, tmp_path):
    _, path = journal
    lines = path.read_bytes().splitlines(keepends=True)
    beginning = tmp_path / "run.jsonl"
    beginning.write_bytes(b"".join(lines[: 1 + n]))
    page, _ = parsed(report(beginning, tmp_path / "page.html"))
    assert ("No row has a score yet." in page.texts) == (n < 3)


def test_failures_are_on_the_page(tmp_path):
    data, space = table({"a": uniform(0, 1)}, lambda a: np.nan if a > 0.5 else a, 30)
    page, _ = parsed(report((data, space), tmp_path / "page.html"))
    n = 3 * sum(params["a"] > 0.5 for params in data["params"])
    assert f"{n} fits have no score." in page.texts
    nothing = table({"a": uniform(0, 1)}, lambda a: np.nan, 5)
    page, _ = parsed(report(nothing, tmp_path / "page.html"))
    assert "No row has a score yet." in page.texts


def test_rungs_show_the_best_and_nothing_of_failures(tmp_path):
    space = {"penalty": ["none of them", "l1", "l2"], "alpha": [0.01]}
    search = HalvingHyperbandSearchCV(
        SGDClassifier(random_state=0), space, resource="max_iter", max_resources=3, cv=3
    ).set_params(random_state=0, enqueue=[{"penalty": "none of them"}])
    with pytest.warns(FitFailedWarning):
        search.fit(*load_iris(return_X_y=True))
    page, content = parsed(report(search, tmp_path / "page.html"))
    assert not re.search(r'="[^"]*\bnan\b', content)
    assert any(text.startswith("Importances need ten rows") for text in page.texts)
    rungs = content.split("Rung by rung", 1)[1].split("</svg>")[0]
    # A dot for each candidate but the one that failed, and one more for the best.
    assert rungs.count("<circle") == len({*search.cv_results_["candidate"]}) == 3
    std = search.cv_results_["std_test_score"][search.best_index_]
    assert f"best score ± {std:.2g} over splits" in page.texts


def test_a_page_stays_small(tmp_path):
    space = {f"parameter_{i:02}": uniform(0, 1) for i in range(10)}
    sizes = []
    for n_trials in (20, 60):
        data = table(space, lambda **params: sum(params.values()), n_trials)
        sizes.append(os.path.getsize(report(data, tmp_path / "page.html")))
    of_500_trials = sizes[1] + (500 - 60) * (sizes[1] - sizes[0]) / 40
    assert of_500_trials < 2_000_000


def test_what_a_report_refuses(journal, tmp_path):
    search, path = journal
    with pytest.raises(ValueError, match=r"a report is an HTML file, but got .*run.jsonl"):
        report(search, path)
    with pytest.raises(StorageError, match=r"gone"):
        report(search, tmp_path / "missing" / "page.html")
    with pytest.raises(ValueError, match="metric must be one of"):
        report(search, tmp_path / "page.html", metric="f1")


def test_commands(journal, tmp_path, capsys):
    search, path = journal
    assert main(["show", str(path), "--rows", "2"]) == 0
    first, head, *rows = capsys.readouterr().out.splitlines()
    record = read_search(path)
    assert f"{record.has_fit.sum()} fits in {record.n_rows} finished rows, 0 failed" in first
    assert head.split() == ["row", "score", "max_iter", "configuration"]
    assert len(rows) == 2
    assert rows[0].split()[:2] == [str(search.best_index_), f"{search.best_score_:.5g}"]
    page = tmp_path / "page.html"
    assert main(["report", str(path), "--output", str(page)]) == 0
    assert page.stat().st_size > 10_000
    capsys.readouterr()
    for arguments in (
        ["show", str(tmp_path / "missing")],
        ["show", str(path), "--metric", "f1"],
        ["show", str(path), "--rows", "0"],
        ["report", str(path), "--output", "page.txt"],
    ):
        assert main(arguments) == 1
        assert capsys.readouterr().err.startswith("error: ")


def test_help_lists_the_commands():
    out = subprocess.run(
        [sys.executable, "-m", "skhpo", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for command in ("repair", "show", "report"):
        assert re.search(rf"^ +{command} ", out, re.MULTILINE)
