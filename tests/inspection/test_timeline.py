"""Workers against time: from fits to lines, and drawn."""

import json
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_iris
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV

from skhpo import HalvingHyperbandSearchCV, TorchClassifier
from skhpo.inspection import SearchRecord, TimelineDisplay, read_search, report
from skhpo.inspection._timeline import timeline
from skhpo.journal import seal

matplotlib.use("Agg")
X, y = load_iris(return_X_y=True)


def record(fits, resources=None, failed=()):
    """Return a record of fits (worker, start, seconds), one split each."""
    n = len(fits)
    worker, start, seconds = zip(*fits, strict=True)
    scores = np.zeros((n, 1, 1))
    scores[list(failed)] = np.nan
    return SearchRecord(
        distributions={"x": uniform(0, 1)},
        params=[{"x": 0.5}] * n,
        scores={"score": scores},
        has_fit=np.ones((n, 1, 1), dtype=bool),
        fit_seconds=np.reshape(seconds, (n, 1, 1)),
        score_seconds=np.zeros((n, 1, 1)),
        candidates=np.arange(n),
        resources=resources and np.array(resources),
        resource=resources and "max_epochs",
        starts=np.reshape(np.array(start, dtype=float), (n, 1, 1)),
        workers=np.array(worker, dtype=object).reshape(n, 1, 1),
    )


def drawn(display):
    display.figure_.canvas.draw()
    return [text.get_text() for text in display.figure_.findobj(matplotlib.text.Text)]


@pytest.fixture(autouse=True)
def _closed():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def test_lines_bars_and_idle_time():
    fits = [("a:1", 100, 4), ("b:7", 101, 2), ("a:1", 106, 2), ("b:7", 103, 5), ("a:1", 104, 1)]
    found = timeline(record(fits, resources=[1, 3, 3, 9, 1], failed=[2]))
    assert found.workers == [["a:1"], ["b:7"]]
    np.testing.assert_array_equal(found.lane, [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(found.begin, [0, 1, 6, 3, 4])
    np.testing.assert_array_equal(found.end, [4, 3, 8, 8, 5])
    np.testing.assert_array_equal(found.level, [0, 1, -1, 2, 0])
    np.testing.assert_array_equal(found.idle, [[1], [1]])
    assert found.busy_share == pytest.approx(14 / 16)
    assert len(found.bars()) == 5
    # Those that cannot be told apart are one bar, unless their levels differ.
    merged = found.bars(shortest=4.5)
    assert [(bar.begin, bar.end, bar.level, bar.row) for bar in merged if bar.lane == 0] == [
        (0, 5, 0, None),
        (6, 8, -1, 2),
    ]


def test_fits_of_a_group_lie_above_one_another():
    found = timeline(record([("a:1", 10, 2), ("a:1", 10, 2), ("a:1", 14, 3), ("a:1", 10, 2)]))
    np.testing.assert_array_equal(found.begin, [0, 0, 4, 0])
    np.testing.assert_array_equal(found.end, [6, 6, 7, 6])
    np.testing.assert_array_equal(found.n_together, [3, 3, 1, 3])
    assert sorted(found.place[[0, 1, 3]]) == [0, 1, 2]
    shares = sorted((bar.low, bar.high) for bar in found.bars() if bar.row != 2)
    np.testing.assert_allclose(shares, [(0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1)])


def test_the_time_between_two_runs_is_cut_out():
    first = [("a:1", 0, 5), ("a:2", 1, 6)]
    second = [("a:8", 1007, 4), ("a:9", 1008, 1), ("a:10", 1010, 2)]
    found = timeline(record(first + second))
    assert found.workers == [["a:1", "a:8"], ["a:2", "a:9"], ["a:10"]]
    np.testing.assert_array_equal(found.pauses, [1000])
    np.testing.assert_array_equal(found.runs, [[0, 7], [7, 12]])
    np.testing.assert_array_equal(found.begin, [0, 1, 7, 8, 10])
    np.testing.assert_array_equal(found.idle, [[2, 1], [1, 4], [np.nan, 3]])
    texts = drawn(TimelineDisplay(timeline=found).plot())
    assert {"1 …", "2 …", "10", "16.7 minutes later"} <= set(texts)
    # Workers that wait for one another are of one run.
    assert len(timeline(record([("a:1", 0, 5), ("a:1", 1007, 4)])).runs) == 1


times = st.floats(0, 1e4).map(lambda value: round(value, 3))
fits_of = st.lists(
    st.tuples(st.sampled_from(["a:1", "a:2", "b:1"]), times, times), min_size=1, max_size=12
)


@given(fits_of, st.floats(0, 100))
def test_nothing_is_lost(fits, shortest):
    found = timeline(record(fits))
    assert found.begin.min() == 0
    assert (found.end >= found.begin).all()
    assert (found.idle[~np.isnan(found.idle)] >= 0).all()
    for lane in range(len(found.workers)):
        # Also where fits of one worker overlap, as after its clock was set.
        bars = [bar for bar in found.bars(shortest) if bar.lane == lane]
        at = found.lane == lane
        assert min(bar.begin for bar in bars) == found.begin[at].min()
        assert max(bar.end for bar in bars) == found.end[at].max()
    assert sorted(bar.row for bar in found.bars()) == list(range(len(fits)))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    path = tmp_path_factory.mktemp("timeline") / "run.jsonl"
    search = HalvingHyperbandSearchCV(
        TorchClassifier(lr=0.1),
        {"lr": loguniform(1e-3, 1)},
        max_resources=3,
        cv=2,
        journal=path,
        random_state=0,
    )
    return search.fit(X.astype(np.float32), y), path


def test_a_search_and_its_journal(searched, tmp_path):
    search, path = searched
    display = TimelineDisplay.from_search(search)
    texts = drawn(display)
    assert {"max_epochs", "1", "3", "idle"} <= set(texts)
    found = display.timeline
    assert len(found.begin) == 2 * len(search.cv_results_["params"])
    assert found.n_together.max() > 1  # in lockstep
    again = TimelineDisplay.from_search(path).timeline
    np.testing.assert_array_equal(found.begin, again.begin)
    # Answered by the journal, they are the fits of then.
    search.fit(X.astype(np.float32), y)
    again = TimelineDisplay.from_search(search).timeline
    np.testing.assert_array_equal(found.begin, again.begin)
    page = (tmp_path / "page.html", "utf-8")
    with open(report(path, page[0]), encoding=page[1]) as file:
        assert "<h2>Who ran what</h2><p>1 worker, busy" in file.read()
    # Of a search that runs, what is there.
    lines = path.read_bytes().splitlines(keepends=True)
    running = tmp_path / "running.jsonl"
    running.write_bytes(b"".join(lines[:4]))
    assert len(TimelineDisplay.from_search(running).timeline.begin) == 3


def test_a_journal_of_an_earlier_version(searched, tmp_path):
    _, path = searched
    header, *lines = path.read_bytes().splitlines()
    identity = json.loads(header)["journal"]
    events = [json.loads(line) for line in lines]
    for event in events:
        del event["start"], event["worker"], event["sum"]
    old = tmp_path / "old.jsonl"
    old.write_bytes(b"".join([header + b"\n", *(seal(event, identity) for event in events)]))
    read = read_search(old)
    np.testing.assert_array_equal(read.means(), read_search(path).means())
    with pytest.raises(ValueError, match=r"needs to know when fits started.*known of none"):
        TimelineDisplay.from_search(old)
    with open(report(old, tmp_path / "page.html"), encoding="utf-8") as file:
        assert "Who ran what" not in file.read()


def test_searches_of_others_do_not_know():
    search = GridSearchCV(SGDClassifier(random_state=0), {"alpha": [0.1, 0.01]}, cv=2).fit(X, y)
    with pytest.raises(ValueError, match=r"give a fitted search of skhpo, or its journal"):
        TimelineDisplay.from_search(search)


@pytest.mark.parametrize("n_workers", [1, 30, 500])
def test_names_do_not_overlap(n_workers):
    fits = [(f"node{k % 3}:{1000 + k}", k % 7, 5) for k in range(n_workers)]
    display = TimelineDisplay.from_search(record(fits, resources=[1] * n_workers))
    display.figure_.canvas.draw()
    assert max(display.figure_.get_size_inches()) < 10
    boxes = [label.get_window_extent() for label in display.ax_.get_yticklabels()]
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))
