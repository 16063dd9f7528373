"""The front of a search: what is read, what is held, what is drawn."""

import matplotlib
import numpy as np
import pytest
from scipy.stats import uniform

from skhpo.inspection import IncumbentDisplay, ParetoFrontDisplay, read_search
from skhpo.objectives import hypervolume, pareto_ranks

matplotlib.use("Agg")
SPACE = {"a": uniform(0, 1)}


@pytest.fixture(autouse=True)
def _closed():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def table(n=30, seed=0, **more):
    """Return results of three objectives, of which one is a cost, on two splits."""
    rng = np.random.default_rng(seed)
    columns = {"params": [{"a": a} for a in rng.random(n)]}
    for name, sign in (("gain", 1), ("neg_cost", -100), ("other", 1)):
        splits = sign * rng.random((2, n))
        columns |= {f"split{i}_test_{name}": split for i, split in enumerate(splits)}
        columns[f"mean_test_{name}"] = splits.mean(axis=0)
    return {**columns, **more}


def test_the_front_is_of_feasible_rows_with_all_objectives():
    violation = np.arange(30) % 3 - 1.0
    found = table(violation=np.maximum(violation, 0))
    found["split0_test_gain"][4] = np.nan
    display = ParetoFrontDisplay.from_search((found, SPACE), objectives=["gain", "neg_cost"])
    assert list(display.rows) == [i for i in range(30) if i != 4]
    np.testing.assert_array_equal(display.is_feasible, violation[display.rows] <= 0)
    values = display.scores.mean(axis=2)
    expected = pareto_ranks(values, np.maximum(violation, 0)[display.rows, None]) == 1
    np.testing.assert_array_equal(display.is_front, expected)
    (axes,) = display.ax_
    assert [axes.get_xlabel(), axes.get_ylabel()] == ["gain", "cost"]
    assert axes.yaxis_inverted()
    assert not axes.xaxis_inverted()
    display.figure_.canvas.draw()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["dominated", "infeasible", "front"]
    # All that is dominated lies left of or below the line.
    line = next(one for one in axes.lines if len(one.get_xdata()) == expected.sum())
    np.testing.assert_array_equal(line.get_xdata(), np.sort(values[expected, 0]))


def test_three_objectives_are_pairs_and_two_are_needed():
    display = ParetoFrontDisplay.from_search(
        (table(), SPACE), objectives=["gain", "neg_cost", "other"]
    )
    labels = [(one.get_xlabel(), one.get_ylabel()) for one in display.ax_]
    assert labels == [("gain", "cost"), ("gain", "other"), ("cost", "other")]
    for given, message in (
        (["gain"], "two objectives at least"),
        (None, "has one objective; name those"),
        (["gain", "nothing"], "metric must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            ParetoFrontDisplay.from_search((table(), SPACE), objectives=given)


def record_with_objectives(seed):
    from dataclasses import replace

    return replace(read_search((table(seed=seed), SPACE)), objectives=("gain", "neg_cost"))


def test_hypervolume_grows_to_that_of_the_whole_front_and_all_share_a_reference_point():
    records = [record_with_objectives(seed) for seed in range(2)]
    display = IncumbentDisplay.from_searches({"both": records}, metric="hypervolume")
    reference = np.min([one.objective_values().min(axis=0) for one in records], axis=0)
    for record, (_, volumes) in zip(records, display.curves["both"], strict=True):
        values = record.objective_values()
        expected = [hypervolume(values[: i + 1], reference) for i in range(len(values))]
        np.testing.assert_allclose(volumes, expected)
    assert display.ax_.get_ylabel() == "hypervolume"
    given = IncumbentDisplay.from_search(records[0], metric="hypervolume", reference=[0, -1e3])
    assert given.curves[""][0][1][-1] == pytest.approx(hypervolume(values0(records), [0, -1e3]))


def values0(records):
    return records[0].objective_values()
