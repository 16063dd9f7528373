"""What is read and written of a search with several objectives and constraints."""

import re

import numpy as np
import pytest
from scipy.stats import randint, uniform
from sklearn.datasets import load_iris
from test_report import parsed

from skhpo import SearchCV, TorchClassifier
from skhpo.inspection import (
    IncumbentDisplay,
    hyperparameter_importance,
    read_search,
    report,
    summary_lines,
)
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

SPACE = {"module__n_units": randint(4, 400), "module__dropout": uniform(0, 0.5)}
LARGEST = 2000


def twenty(space, random_state):
    return FullScheduler(RandomSampler(space, random_state), n_candidates=20)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    path = tmp_path_factory.mktemp("objectives") / "run.jsonl"
    search = SearchCV(
        TorchClassifier(max_epochs=1, lr=0.02),
        SPACE,
        scheduler=twenty,
        scoring=["accuracy", "neg_n_parameters", "neg_log_loss"],
        objectives=["accuracy", "neg_n_parameters"],
        constraints={"n_parameters": (None, LARGEST), "neg_log_loss": (-1.05, None)},
        refit="accuracy",
        cv=2,
        journal=path,
        random_state=0,
    )
    return search.fit(*load_iris(return_X_y=True)), path


@pytest.fixture(params=["search", "journal"])
def record(searched, request):
    return read_search(searched[request.param == "journal"])


def test_constraints_are_read(searched, record):
    search, _ = searched
    table = search.cv_results_
    np.testing.assert_array_equal(record.violation, table["violation"])
    np.testing.assert_array_equal(record.is_feasible, table["feasible"])
    assert record.bounds == search.constraints
    for name, values in record.constraints.items():
        np.testing.assert_array_equal(values, table[f"constraint_{name}"])
    is_large = table["constraint_n_parameters"] > LARGEST
    assert 0 < is_large.sum() < len(is_large)
    np.testing.assert_array_equal(record.skipped, np.tile(is_large[:, None, None], (1, 2, 1)))
    assert not record.failed().any()
    assert record.n_skipped == 2 * is_large.sum()


def test_what_breaks_a_constraint_is_not_the_best(searched, record):
    search, _ = searched
    assert record.best_row() == search.best_index_
    feasible = np.flatnonzero(record.is_feasible)
    # The smallest loss of all belongs to a row without a fit or one that breaks nothing.
    for metric in ("neg_n_parameters", "neg_log_loss"):
        means = record.means(metric)
        assert record.best_row(metric) == feasible[np.argmax(means[feasible])]
    best = np.maximum.accumulate(np.where(record.is_feasible, record.means(), -np.inf))
    display = IncumbentDisplay.from_search(record)
    [(_, drawn)] = display.curves[""]
    np.testing.assert_array_equal(drawn, np.where(np.isfinite(best), best, np.nan))
    lines = summary_lines(record, n_rows=20)
    assert " 0 failed" in lines[0]
    assert f"{len(feasible)} of 20 rows keep the constraints" in lines[1]
    assert lines[3].split()[0] == str(search.best_index_)
    numbers = [int(line.split()[0]) for line in lines[3:]]
    assert set(numbers[: len(feasible)]) == set(feasible.tolist())


def test_importance_of_each_objective(searched):
    record = read_search(searched[0])
    found = hyperparameter_importance(record, metric="neg_n_parameters", random_state=0)
    assert found.names[0] == "module__n_units"
    assert found.importances_mean[0] > 0.9
    assert found.metric == "neg_n_parameters"


def test_a_page_shows_the_front(searched, tmp_path):
    search, path = searched
    record = read_search(path)
    page, content = parsed(report(record, tmp_path / "page.html"))
    text = " ".join(page.texts)
    for heading in ("The front", "What matters to accuracy", "What matters to neg_n_parameters"):
        assert heading in page.texts
    n_large = int(record.skipped.all(axis=(1, 2)).sum())
    assert f"n_parameters at most 2,000: {n_large} of 20 break it." in text
    assert f"{2 * n_large} fits were not made" in text
    front = re.search(r'<svg[^>]*aria-label="The front of .*?</svg>', content)[0]
    drawn = {int(row) for row in re.findall(r'r="4"[^>]*data-row="(\d+)"', front)}
    assert drawn == set(search.pareto_front_)
    crosses = {int(row) for row in re.findall(r'<path[^>]*data-row="(\d+)"', front)}
    assert crosses == set(np.flatnonzero(~record.is_feasible & ~np.isnan(record.means())))
    assert "hypervolume of the front so far" in text
    assert "failed fits" in text
    assert not any(heading == "Failures" for heading in page.texts)


def test_constraints_without_several_objectives(searched, tmp_path):
    from dataclasses import replace

    record = replace(read_search(searched[1]), objectives=())
    page, _ = parsed(report(record, tmp_path / "page.html"))
    assert "The front" not in page.texts
    assert any("rows keep all constraints" in text for text in page.texts)
    # Nothing is feasible, and costs need a logarithmic axis below 1: the page is still one.
    worse = replace(
        record,
        violation=record.violation + 1.0,
        chosen=None,
        scores={**record.scores, "neg_n_parameters": record.scores["neg_n_parameters"] ** 3 / 1e12},
        objectives=("accuracy", "neg_n_parameters"),
    )
    page, _ = parsed(report(worse, tmp_path / "page.html"))
    assert any("0 of 20 rows keep all constraints" in text for text in page.texts)
    assert "The front" in page.texts
