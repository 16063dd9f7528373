"""Which fits become a group, and when a group can start."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import StandardScaler

from skhpo import TorchClassifier
from skhpo.evaluation import Setting, _grouping
from skhpo.evaluation._grouping import FitGrouping
from skhpo.evaluation._planning import Waiting
from skhpo.evaluation._tasks import FitGroup, FitTask, TransformTask
from skhpo.lockstep import _members

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)


def tasks(n_trials, n_splits, levels=(None,), **params):
    return [
        FitTask(trial, trial, split, 0, {"lr": 0.1 / (1 + trial), **params}, levels)
        for trial in range(n_trials)
        for split in range(n_splits)
    ]


def grouping(estimator=None, lockstep="auto", across=True, data=(X, y)):
    estimator = TorchClassifier(module__n_units=4) if estimator is None else estimator
    setting = Setting(estimator, scorer=None, seed=0, resource="max_epochs")
    return FitGrouping(setting, *data, lockstep, across=across)


def alone(tasks):
    return [FitGroup([task]) for task in tasks]


def names(works):
    return [[task.name for task in work.tasks] for work in works]


def test_groups_are_cut_from_the_batch_in_trial_order_and_alike_in_size():
    fits = tasks(17, 3)
    works = grouping().divide(fits)
    assert [name for group in names(works) for name in group] == [fit.name for fit in fits]
    sizes = [len(work.tasks) for work in works]
    assert len(works) > 1
    assert max(sizes) - min(sizes) <= 1


def test_groups_are_as_large_as_pays_on_their_device(monkeypatch):
    monkeypatch.setitem(_members._MOST, "cpu", 128)  # as on a GPU
    assert [len(work.tasks) for work in grouping().divide(tasks(17, 3))] == [51]


@pytest.mark.parametrize(
    ("slots", "n_fits", "sizes"),
    [
        (["meta:0", "meta:1", "meta:2", "meta:3"], 135, [34, 34, 34, 33]),
        (["meta:0", "meta:1", "meta:2"], 400, [67] * 4 + [66] * 2),
        (["meta:0", "meta:1", "meta:2", "meta:3"], 10, [5, 5]),
        (["meta:0", "meta:1", "meta:2", "meta:3"], 3, [3]),
        (["meta:0"] * 4, 135, [68, 67]),
        (["cpu"] * 4, 45, [23, 22]),
        (["cpu"] * 4, 75, [19, 19, 19, 18]),
        (["cpu"] * 4, 20, [20]),
        ([None] * 4, 45, [23, 22]),
    ],
)
def test_each_of_several_devices_gets_as_many_groups(slots, n_fits, sizes, monkeypatch):
    monkeypatch.setitem(_members._MOST, "meta", 128)  # as on a GPU
    works = grouping().divide(tasks(n_fits, 1), slots)
    assert [len(work.tasks) for work in works] == sizes
    assert names(works)[0] == [(trial, 0, 0) for trial in range(sizes[0])]


def test_what_differs_in_work_or_architecture_is_apart():
    short, long = tasks(2, 2, levels=(1,)), tasks(2, 2, levels=(1, 3))
    wide = tasks(1, 2, levels=(1,), module__n_units=9)
    wide = [FitTask(9, 9, task.split, 0, task.params, task.levels) for task in wide]
    assert [len(work.tasks) for work in grouping().divide(short + long + wide)] == [4, 4, 2]


def test_a_trial_at_a_time():
    works = grouping(across=False).divide(tasks(3, 5))
    assert [{name[0] for name in group} for group in names(works)] == [{0}, {1}, {2}]


def test_nothing_to_train_in_lockstep():
    fits = tasks(2, 2)
    assert grouping(SGDClassifier()).divide(fits[:0]) == []
    other = [FitTask(0, 0, split, 0, {"alpha": 0.1}, (None,)) for split in range(3)]
    assert grouping(SGDClassifier()).divide(other) == alone(other)
    with pytest.raises(ValueError, match="SGDClassifier is no torch estimator"):
        grouping(SGDClassifier(), lockstep=True).divide(other)


def test_data_that_no_network_can_be_built_for_beforehand():
    frame = [["a", "b"]] * len(y)
    works = grouping(data=(frame, y)).divide(tasks(1, 3))
    assert sum(len(work.tasks) for work in works) == 3


def keyed(trial, key, levels=(None,)):
    return FitTask(trial, trial, 0, 0, {}, levels, key=key)


def test_a_group_starts_when_the_last_of_its_transformers_is_there():
    waiting = Waiting()
    waiting.add(FitGroup([keyed(0, (0,)), keyed(1, (1,))]))
    transforms = [waiting.take(), waiting.take()]
    assert all(isinstance(task, TransformTask) for task in transforms)
    waiting.take_transformed((1,), StandardScaler(), [])
    assert not waiting
    assert waiting.n_blocked == 1
    waiting.take_transformed((0,), StandardScaler(), [])
    assert names([waiting.take()]) == [[(0, 0, 0), (1, 0, 0)]]
    assert waiting.n_blocked == 0


def test_fits_whose_transformers_fail_leave_the_group():
    waiting = Waiting()
    waiting.add(FitGroup([keyed(0, (0,)), keyed(1, (1,)), keyed(2, (2,))]))
    assert [fit.name for fit in waiting.give_up((1,))] == [(1, 0, 0)]
    assert [waiting.take().key for _ in range(len(waiting))]
    waiting.take_transformed((0,), StandardScaler(), [])
    waiting.take_transformed((2,), StandardScaler(), [])
    assert names([waiting.take()]) == [[(0, 0, 0), (2, 0, 0)]]


def test_transformers_are_kept_while_something_needs_them():
    waiting = Waiting()
    needed = FitGroup([keyed(1000, ("needed",))])
    waiting.take_transformed(("needed",), StandardScaler(), [needed])
    gone = []
    for i in range(70):
        waiting.transformed.note(keyed(i, (i,)))
        gone += waiting.take_transformed((i,), StandardScaler(), [needed])
    assert gone
    assert ("needed",) in waiting.transformed


def ranked(trial, key, rank):
    return FitTask(trial, trial, 0, 0, {}, (None,), key=key, rank=rank)


def test_work_of_a_smaller_rank_starts_first_and_its_transformers_too():
    waiting = Waiting()
    waiting.add(FitGroup([ranked(4, None, 4), ranked(5, None, 4)]))
    waiting.add(FitGroup([ranked(6, ("both",), 6)]))
    waiting.add(FitGroup([ranked(7, ("later",), 6)]))
    waiting.add(FitGroup([ranked(8, None, 0), ranked(9, None, 0)]))
    waiting.add(FitGroup([ranked(10, ("both",), 0)]))
    assert waiting.take().key == ("both",)
    assert names([waiting.take()]) == [[(8, 0, 0), (9, 0, 0)]]
    waiting.take_transformed(("both",), StandardScaler(), [])
    assert waiting.take_fits(4) is None
    assert names([waiting.take_fits(0), waiting.take()]) == [[(10, 0, 0)], [(4, 0, 0), (5, 0, 0)]]
    assert names([waiting.take()]) == [[(6, 0, 0)]]
    assert waiting.take_fits(6) is None  # transformers
    assert waiting.take().key == ("later",)


def test_fits_with_large_data_share_a_group_only_with_their_transformers(monkeypatch):
    fits = [keyed(trial, (0, None, trial % 2)) for trial in range(6)]
    assert len(grouping().divide(fits)) == 1
    monkeypatch.setattr(_grouping, "_LARGE", 1)
    assert [[name[0] for name in group] for group in names(grouping().divide(fits))] == [
        [0, 2, 4],
        [1, 3, 5],
    ]
