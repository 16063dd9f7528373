"""Displays: what they hold, what they draw, what they refuse."""

import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from scipy.stats import loguniform, randint, uniform
from sklearn.datasets import load_iris
from sklearn.linear_model import SGDClassifier
from test_importance import table

from skhpo import HalvingHyperbandSearchCV
from skhpo.inspection import (
    EffectDisplay,
    ImportanceDisplay,
    IncumbentDisplay,
    ParallelCoordinatesDisplay,
    RungDisplay,
    SearchCurvesDisplay,
    SlicesDisplay,
    read_search,
)
from skhpo.inspection._drawing import score_limits, short

matplotlib.use("Agg")
SPACE = [
    {"lr": loguniform(1e-4, 1), "act": ["relu", "tanh"], "depth": randint(1, 6)},
    {"lr": loguniform(1e-4, 1), "act": ["elu"], "drop": uniform(0, 1)},
]
# Of a hundred letters and a dollar, which matplotlib would take for a formula.
WIDE = {f"a_{'very_' * 12}long_name__of_part_{i:02}": uniform(0, 1) for i in range(40)}
ALL = [ImportanceDisplay, IncumbentDisplay, ParallelCoordinatesDisplay, SlicesDisplay]
RUNGS = [RungDisplay, SearchCurvesDisplay]


def score(lr, act, depth=0, drop=0.0):
    return -((np.log10(lr) + 2) ** 2) + (act == "relu") + 0.1 * depth - drop


def drawn(display):
    """Draw the figure, so that what cannot be drawn fails; return its texts."""
    display.figure_.canvas.draw()
    return [text.get_text() for text in display.figure_.findobj(matplotlib.text.Text)]


@pytest.fixture(autouse=True)
def _closed():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture(scope="module")
def data():
    return table(SPACE, score, 60)


@pytest.fixture(scope="module")
def hyperband():
    search = HalvingHyperbandSearchCV(
        SGDClassifier(random_state=0),
        {"alpha": loguniform(1e-5, 10)},
        resource="max_iter",
        max_resources=27,
        cv=3,
        random_state=0,
    )
    return search.fit(*load_iris(return_X_y=True))


def test_importances_are_bars_with_intervals(data):
    display = ImportanceDisplay.from_search(data, n_bootstrap=10, random_state=0, n_pairs=2)
    texts = drawn(display)
    found = display.importance
    assert [name for name in found.names if name in texts] == found.names
    assert sum(" × " in text for text in texts) <= 2
    widths = [patch.get_width() for patch in display.ax_.patches]
    np.testing.assert_allclose(widths[: len(found.names)], found.importances_mean)
    few = ImportanceDisplay(importance=found).plot(max_params=1, n_pairs=0)
    assert f"{len(found.names) - 1} others" in drawn(few)
    assert few.ax_.patches[1].get_width() == pytest.approx(found.importances_mean[1:].sum())


@pytest.mark.parametrize(
    ("params", "scale", "label"),
    [("lr", "log", "score"), ("act", "linear", "score"), (("lr", "act"), "log", "act")],
)
def test_effects(data, params, scale, label):
    display = EffectDisplay.from_search(data, params, random_state=0)
    assert display.ax_.get_xscale() == scale
    assert display.ax_.get_ylabel() == label
    texts = drawn(display)
    assert ({"relu", "tanh", "elu"} <= set(texts)) == ("act" in params)


def test_the_incumbent_against_what_it_cost(hyperband):
    record = read_search(hyperband)
    display = IncumbentDisplay.from_search(hyperband)
    [(spent, best)] = display.curves[""]
    means = record.means()
    np.testing.assert_array_equal(spent, 3 * np.arange(1, record.n_rows + 1))
    np.testing.assert_array_equal(best, np.maximum.accumulate(means))
    drawn(display)
    # What a rung continues is not trained again.
    display = IncumbentDisplay.from_search(hyperband, against="resource")
    [(spent, _)] = display.curves[""]
    last = [record.resources[record.candidates == c].max() for c in np.unique(record.candidates)]
    assert spent[-1] == 3 * sum(last)
    assert display.ax_.get_xlabel() == "max_iter in total"
    display = IncumbentDisplay.from_search(hyperband, against="seconds")
    [(spent, _)] = display.curves[""]
    assert spent[-1] == pytest.approx((record.fit_seconds + record.score_seconds).sum())


def test_several_searches_in_one_picture(data):
    seeds = [table(SPACE, score, n, seed=n) for n in (20, 30)]
    display = IncumbentDisplay.from_searches({"one": data, "seeds": seeds})
    assert {"one", "seeds"} <= set(drawn(display))
    line = display.ax_.lines[1]
    spent = [3 * np.arange(1, n + 1) for n in (20, 30)]
    best = [np.maximum.accumulate(t["mean_test_score"]) for t, _ in seeds]
    assert line.get_xdata()[-1] == min(spent[0][-1], spent[1][-1])
    at_end = [best[0][-1], best[1][19]]
    assert line.get_ydata()[-1] == pytest.approx(np.median(at_end))
    with pytest.raises(TypeError, match="a dict of labels to searches"):
        IncumbentDisplay.from_searches([data])
    with pytest.raises(ValueError, match=r"against must be one of \['fits'"):
        IncumbentDisplay.from_search(data, against="epochs")
    with pytest.raises(ValueError, match="needs a search whose resource varies"):
        IncumbentDisplay.from_search(data, against="resource")


def test_parallel_coordinates(data):
    display = ParallelCoordinatesDisplay.from_search(data)
    texts = drawn(display)
    assert set(display.names) <= set(texts)
    assert {"relu", "tanh", "elu", "1e-04"[:1]} - set(texts) <= {"1"}
    record = read_search(data)
    drop = display.places[:, display.names.index("drop")]
    absent = ["drop" not in params for params in record.params]
    np.testing.assert_array_equal(np.isnan(drop), absent)
    lr = display.places[:, display.names.index("lr")]
    expected = [(np.log10(params["lr"]) + 4) / 4 for params in record.params]
    np.testing.assert_allclose(lr, expected)
    only = ParallelCoordinatesDisplay.from_search(data, params=["drop", "lr"])
    assert only.names == ["drop", "lr"]
    drawn(ParallelCoordinatesDisplay.from_search(data, params=["lr"]))


def test_slices(data):
    display = SlicesDisplay.from_search(data)
    drawn(display)
    assert [ax.get_xlabel() for ax in display.ax_] == ["act", "depth", "drop", "lr"]
    assert [ax.get_xscale() for ax in display.ax_] == ["linear"] * 3 + ["log"]
    offsets = display.ax_[3].collections[0].get_offsets()
    shown = {round(float(y), 9) for _, y in offsets}
    assert shown <= {round(float(s), 9) for s in display.scores}
    again = SlicesDisplay.from_search(data, params="lr", n_columns=1)
    assert len(again.ax_) == 1
    with pytest.raises(ValueError, match="ax must have 4 axes, but has 1"):
        display.plot(ax=again.ax_)


def test_slices_of_alike_choices_and_of_parameters_that_do_not_vary():
    choices = [1, 1.0, True, np.nan]
    space = [{"a": choices, "b": [3], "c": [2.0]}, {"a": choices, "c": uniform(0, 1)}]
    table_, space = table(space, lambda a, c, b=0: c, 30)
    params = [
        {**one, "a": float("nan") if one["a"] != one["a"] else one["a"]} for one in table_["params"]
    ]
    display = SlicesDisplay.from_search(({**table_, "params": params}, space))
    drawn(display)
    shown = display.ax_[0].collections[0].get_offsets()[:, 0]
    assert [repr(choices[round(x)]) for x in shown] == [repr(one["a"]) for one in params]
    assert display.ax_[1].get_xlim()[0] < 3 < display.ax_[1].get_xlim()[1]
    low, high = display.ax_[2].get_xlim()
    assert low < 0 < 2 < high


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_forty_parameters_with_long_names_and_a_diverged_row(kind):
    data, space = table(WIDE, lambda **params: sum(params.values()), 30)
    data["mean_test_score"][3] = -1e9
    for i in range(3):
        data[f"split{i}_test_score"][3] = -1e9
    more = {"n_bootstrap": 2, "random_state": 0} if kind is ImportanceDisplay else {}
    display = kind.from_search((data, space), **more)
    display.figure_.canvas.draw()
    width, height = display.figure_.get_size_inches()
    assert width < 45
    assert height < 25
    renderer = display.figure_.canvas.get_renderer()
    for ax in np.atleast_1d(display.ax_):
        if kind is not ImportanceDisplay:
            low, high = ax.get_ylim()
            assert high - low < 100 or kind is ParallelCoordinatesDisplay
        boxes = [
            label.get_window_extent(renderer)
            for label in ax.get_yticklabels()
            if label.get_text() and label.get_visible()
        ]
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))


def test_rungs(hyperband):
    record = read_search(hyperband)
    display = RungDisplay.from_search(hyperband)
    assert display.levels == record.levels == [1, 3, 9, 27]
    drawn(display)
    first, later = (
        dict(zip(record.candidates[rows], record.means()[rows], strict=True))
        for rows in (record.resources == 1, record.resources == 3)
    )
    both = sorted(first.keys() & later.keys())
    assert display.counts[0, 1] == len(both)
    from scipy.stats import spearmanr

    expected = spearmanr([first[c] for c in both], [later[c] for c in both]).statistic
    assert display.correlations[1, 0] == pytest.approx(expected)
    curves = SearchCurvesDisplay.from_search(hyperband)
    texts = drawn(curves)
    top = len(np.unique(record.candidates[record.resources == 27]))
    assert f"reached the top ({top})" in texts
    assert f"dropped ({len(np.unique(record.candidates)) - top})" in texts
    assert np.isfinite(curves.scores).sum() == record.n_rows


@pytest.mark.parametrize("kind", RUNGS, ids=lambda kind: kind.__name__)
def test_rungs_need_levels(kind, data):
    with pytest.raises(ValueError, match=r"at least 2 levels .* this one has 0"):
        kind.from_search(data)


def test_axes_leave_diverged_scores_at_the_edge():
    low, high = score_limits([0.9, 0.8, 0.85, 0.7, -1e300, np.nan, np.inf])
    assert -1 < low < 0.7
    assert 0.9 < high < 1
    assert score_limits([]) == (0.0, 1.0)
    low, high = score_limits([0.5, 0.5])
    assert low < 0.5 < high
    assert short("net__module__n_units_of_the_second_layer", 20) == "net__modul…ond_layer"
    assert short("a\nb") == "a b"


def test_a_missing_matplotlib_is_named(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"SlicesDisplay.plot needs .*matplotlib.*skhpo\[plot\]"):
        SlicesDisplay.from_search(data)


def test_what_is_given_to_draw_on_is_drawn_on(data):
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(1, 4)
    for ax, display in zip(
        axes,
        (
            IncumbentDisplay.from_search(data, ax=axes[0]),
            ParallelCoordinatesDisplay.from_search(data, ax=axes[1]),
            EffectDisplay.from_search(data, "lr", ax=axes[2], random_state=0),
            ImportanceDisplay.from_search(data, ax=axes[3], n_bootstrap=2, random_state=0),
        ),
        strict=True,
    ):
        assert display.ax_ is ax
        assert display.figure_ is ax.figure
