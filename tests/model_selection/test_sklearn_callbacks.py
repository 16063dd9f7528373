"""scikit-learn's callbacks are told what GridSearchCV tells them, wherever fits run."""

import json
import threading

import joblib
import numpy as np
import pytest
from scripted import Scripted
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_like_grid_search import whole_grid

from skhpo import HalvingHyperbandSearchCV, SearchCV, TorchClassifier
from skhpo.exceptions import SearchStoppedWarning

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)


class Recorder:
    """Writes down what it is told, in whatever process."""

    def __init__(self, path):
        self.path = str(path)

    def setup(self, estimator, context):
        self._write("setup", context)

    def teardown(self, estimator, context):
        self._write("teardown", context)

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self._write("begin", context, estimator, X, y, metadata)

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None):
        self._write("end", context, estimator, X, y, metadata)

    def _write(self, event, context, estimator=None, X=None, y=None, metadata=None):
        place = context
        path = []
        while place is not None:
            path.insert(0, (place.task_name, place.source_task_name, place.task_id))
            place = place.parent
        rows = None if X is None else [len(X), float(np.sum(X)), int(np.sum(y))]
        weights = (metadata or {}).get("sample_weight")
        weights = None if weights is None else float(np.sum(weights))
        name = None if estimator is None else type(estimator).__name__.replace("Grid", "")
        with open(self.path, "a") as file:
            line = [event, path, name, context.max_subtasks, rows, weights]
            file.write(json.dumps(line) + "\n")


class Propagated(Recorder):
    def __init__(self, path, max_propagation_depth=None):
        super().__init__(path)
        self.max_propagation_depth = max_propagation_depth


def told(recorder):
    with open(recorder.path) as file:
        return [json.loads(line) for line in file]


def recorded(search, recorder, **params):
    search.set_callbacks(recorder).fit(X, y, **params)
    return told(recorder)


def count(events, name, kind="begin"):
    return sum(event[0] == kind and event[1][-1][0] == name for event in events)


def scored(estimator, X, y):
    return 1.0


def grid_of(estimator, grid, **kwargs):
    return SearchCV(estimator, grid, scheduler=whole_grid, **{"cv": 2, "scoring": scored} | kwargs)


@pytest.mark.filterwarnings("ignore:The scoring:UserWarning")
@pytest.mark.filterwarnings("ignore:The estimator Scripted does not support:UserWarning")
@pytest.mark.parametrize("cls", [Recorder, Propagated])
@pytest.mark.parametrize(
    ("estimator", "grid"),
    [
        (TorchClassifier(max_epochs=2, batch_size=50), {"lr": [0.1, 0.01]}),
        (StandardScaler(), {"with_mean": [True, False]}),
        (Scripted(), {"i": [0, 1]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_as_grid_search(estimator, grid, cls, tmp_path):
    params = {} if isinstance(estimator, Scripted) else {"sample_weight": np.arange(150.0)}
    theirs = GridSearchCV(estimator, grid, cv=2, scoring=scored)
    expected = recorded(theirs, cls(tmp_path / "theirs"), **params)
    ours = grid_of(estimator, grid, lockstep=False)
    assert recorded(ours, cls(tmp_path / "ours"), **params) == expected


def test_what_is_trained_in_a_pipeline_is_seen_as_deep_as_grid_search_lets_it(tmp_path):
    pipeline = make_pipeline(StandardScaler(), TorchClassifier(max_epochs=2, batch_size=50))
    grid = {"torchclassifier__lr": [0.1, 0.01]}
    for depth in (None, 1, 0):
        theirs = GridSearchCV(pipeline, grid, cv=2, scoring=scored)
        expected = recorded(theirs, Propagated(tmp_path / f"theirs {depth}", depth))
        events = recorded(grid_of(pipeline, grid), Propagated(tmp_path / f"ours {depth}", depth))
        assert count(events, "epoch") == count(expected, "epoch") == (10 if depth is None else 0)
    # Those that stay with the search are told of fits, in whatever order they were trained.
    assert sorted(map(str, events)) == sorted(map(str, expected))


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_wherever_fits_run(backend, tmp_path):
    grid = {"with_mean": [True, False], "with_std": [True, False]}
    expected = recorded(grid_of(StandardScaler(), grid), Propagated(tmp_path / "serial"))
    with joblib.parallel_config(backend):
        search = grid_of(StandardScaler(), grid, n_jobs=2, callbacks=[NotPicklable()])
        events = recorded(search, Propagated(tmp_path / "parallel"))
    assert sorted(map(str, events)) == sorted(map(str, expected))


class NotPicklable:
    """A callback of either kind that stays where it is."""

    def __init__(self):
        self.lock = threading.Lock()

    def on_search_end(self, *args, **kwargs):
        pass

    setup = teardown = on_fit_task_begin = on_fit_task_end = on_search_end


def test_callbacks_that_cannot_go_to_processes_are_refused():
    search = grid_of(Scripted(), {"i": [0, 1]}, n_jobs=2).set_callbacks(NotPicklable())
    with pytest.raises(TypeError, match="callbacks of scikit-learn must be picklable"):
        search.fit(X, y)


def hyperband(lockstep, **kwargs):
    net = TorchClassifier(module__n_units=4, batch_size=50)
    kwargs = {"max_resources": 3, "cv": 2, "lockstep": lockstep, "refit": False} | kwargs
    return HalvingHyperbandSearchCV(net, {"lr": [0.1, 0.01]}, random_state=0, **kwargs)


def test_fits_that_are_trained_together(tmp_path):
    search = hyperband(True)
    events = recorded(search, Recorder(tmp_path / "recorder"))
    n_fits = 2 * len(search.cv_results_["params"])
    for kind in ("begin", "end"):
        assert count(events, "candidate-split-evaluation", kind) == n_fits
    assert {event[4][0] for event in events if len(event[1]) == 3} == {75}
    with pytest.raises(ValueError, match="callbacks of the search look into each epoch"):
        recorded(hyperband(True), Propagated(tmp_path / "refused"))
    search = hyperband("auto")
    events = recorded(search, Propagated(tmp_path / "alone"))
    # A rung that continues adds the difference.
    n_epochs = np.where(search.cv_results_["iter"] == 0, search.cv_results_["n_resources"], 2)
    assert count(events, "epoch") == 2 * n_epochs.sum()


def test_fits_of_a_journal_are_no_tasks(tmp_path):
    kwargs = {"journal": tmp_path / "journal"}
    grid_of(Scripted(), {"i": [0, 1]}, **kwargs).fit(X, y)
    events = recorded(grid_of(Scripted(), {"i": [0, 1]}, **kwargs), Recorder(tmp_path / "a"))
    assert count(events, "candidate-split-evaluation") == 0
    assert [event[3] for event in events if event[1][-1][0] == "search"] == [0, 0]


class Fails(Scripted):
    def fit(self, X, y):
        if self.i == 1:
            raise RuntimeError("no luck")
        if self.i == 2:
            raise KeyboardInterrupt
        return super().fit(X, y)


def test_whatever_has_begun_ends(tmp_path):
    search = grid_of(Fails(), {"i": [0, 1, 2, 3]})
    with pytest.warns(SearchStoppedWarning), pytest.warns(FitFailedWarning):
        events = recorded(search, Recorder(tmp_path / "a"))
    begun, ended = (count(events, "candidate-split-evaluation", k) for k in ("begin", "end"))
    assert begun == ended == 5


@pytest.mark.parametrize("event", ["on_fit_task_begin", "on_fit_task_end"])
def test_an_error_of_a_callback_is_no_failed_fit(event, tmp_path):
    class Broken(Recorder):
        def _write(self, event, context, *rest):
            if context.task_name == "candidate-split-evaluation":
                raise OSError("no such luck")

    log = tmp_path / "log"
    search = grid_of(Scripted(log=str(log)), {"i": [0, 1]}).set_callbacks(Broken(tmp_path / "a"))
    with pytest.raises(OSError, match="no such luck"):
        search.fit(X, y)


def test_callbacks_of_the_estimator_alone_know_their_place(tmp_path):
    recorder = Recorder(tmp_path / "a")
    scaler = StandardScaler().set_callbacks(recorder)
    grid_of(scaler, {"with_mean": [True]}, refit=False).fit(X, y)
    paths = [[name for name, *_ in path] for kind, path, *_ in told(recorder) if kind == "begin"]
    assert paths == [["fit", "search", "fit"]] * 2


def test_a_refit_by_epochs_is_seen(tmp_path):
    pipeline = make_pipeline(StandardScaler(), SGDClassifier())
    search = HalvingHyperbandSearchCV(
        pipeline,
        {"sgdclassifier__alpha": [1e-4]},
        resource="sgdclassifier__max_iter",
        max_resources=1,
        cv=2,
    )
    events = recorded(search, Propagated(tmp_path / "a", 1))
    for kind in ("begin", "end"):
        assert count(events, "refit-with-best-params", kind) == 1
