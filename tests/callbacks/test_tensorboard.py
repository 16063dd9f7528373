"""The log of a search, read by TensorBoard's own HParams plugin."""

import inspect
import sys
import warnings

import numpy as np
import pytest
from scipy.stats import loguniform, norm, uniform
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")

from dashboard import choices, interval, read

import skhpo
from skhpo import (
    HalvingHyperbandSearchCV,
    HarmonicaSearchCV,
    SearchCV,
    TensorBoardLogger,
    TorchClassifier,
)
from skhpo.model_selection._base import BaseTrialSearchCV
from skhpo.samplers import GridSampler, RandomSampler
from skhpo.schedulers import FullScheduler

X, y = make_classification(n_samples=60, n_features=5, random_state=0)
X = X.astype(np.float32)


class Untrainable(SVC):
    def fit(self, X, y):
        raise ValueError("trained")


def four(space, random_state):
    return FullScheduler(RandomSampler(space, random_state), n_candidates=4)


def all_of_them(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def search_of(log_dir, estimator=None, space=None, scheduler=four, **kwargs):
    kwargs = {"cv": 2, "random_state": 0, "callbacks": [TensorBoardLogger(log_dir)], **kwargs}
    estimator = estimator or DecisionTreeClassifier()
    return SearchCV(estimator, space or {"max_depth": [1, 2, 3, 4]}, scheduler=scheduler, **kwargs)


def hyperband(log_dir, estimator, space, **kwargs):
    kwargs = {
        "max_resources": 4,
        "factor": 2,
        "cv": 2,
        "random_state": 0,
        "callbacks": [TensorBoardLogger(log_dir)],
        **kwargs,
    }
    return HalvingHyperbandSearchCV(estimator, space, **kwargs)


def assert_rows_are_the_table(log, search, resource=None):
    """A session per row of cv_results_, with its parameters and its scores."""
    table = search.cv_results_
    assert len(log.rows) == len(table["params"])
    for number, row in enumerate(log.rows):
        assert row.name.startswith(f"trial-{number:04}")
        assert row.params == pytest.approx(table["params"][number])
        for tag in log.metrics:
            assert row.metrics[tag] == pytest.approx(table[tag][number], rel=1e-6)
        scalars = log.scalars[row.name]
        step = 0 if resource is None else table["n_resources"][number]
        for split in range(search.n_splits_):
            expected = np.float32(table[f"split{split}_test_score"][number])
            assert scalars[f"test_score/split{split}"] == [(step, expected)]


def test_the_sessions_are_the_rows_of_cv_results(tmp_path):
    search = search_of(tmp_path, return_train_score=True).fit(X, y)
    log = read(tmp_path)
    assert log.metrics == ["mean_test_score", "mean_train_score", "mean_fit_time"]
    assert_rows_are_the_table(log, search)
    assert [row.status for row in log.rows] == ["SUCCESS"] * 4
    assert choices(log.hparams["max_depth"]) == [1, 2, 3, 4]
    assert all(row.seconds > 0 for row in log.rows)
    assert log.scalars["trial-0000"].keys() == {
        *log.metrics,
        *(f"{part}_score/split{i}" for part in ("test", "train") for i in (0, 1)),
    }


SEARCHES = [
    name
    for name in skhpo.__all__
    if isinstance(cls := getattr(skhpo, name), type) and issubclass(cls, BaseTrialSearchCV)
]


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize(("torch", "n_jobs"), [(True, 2), (False, 1)])
def test_every_search_class(tmp_path, name, torch, n_jobs):
    options = {
        "scheduler": four,
        "n_iter": 3,
        "n_stages": 1,
        "n_samples": 4,
        "n_terms": 1,
        "max_resources": 3,
        "resource": "max_epochs" if torch else "max_iter",
    }
    cls = getattr(skhpo, name)
    options = {k: v for k, v in options.items() if k in inspect.signature(cls).parameters}
    if name == "SearchCV":
        del options["resource"]
    model = TorchClassifier(max_epochs=2) if torch else SGDClassifier(max_iter=1)
    space = {
        "lr" if torch else "alpha": loguniform(1e-4, 1e-2),
        "batch_size" if torch else "penalty": [16, 32] if torch else ["l1", "l2"],
    }
    search = cls(
        model,
        space,
        cv=2,
        random_state=0,
        n_jobs=n_jobs,
        callbacks=[TensorBoardLogger(tmp_path)],
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(X, y)
    log = read(tmp_path)
    assert_rows_are_the_table(log, search, resource=search.resource)
    assert {row.status for row in log.rows} == {"SUCCESS"}
    assert set(log.hparams) == {*space, *({search.resource} - {None})}
    curves = {tag for tags in log.scalars.values() for tag in tags if tag[:5] == "epoch"}
    assert bool(curves) == torch


def test_parameters_that_only_the_stages_of_a_search_have(tmp_path):
    search = HarmonicaSearchCV(
        DecisionTreeClassifier(),
        {"max_depth": [1, 2, 3, 4], "min_samples_leaf": [1, 2]},
        stage_params={"splitter": "random"},
        n_stages=1,
        n_samples=4,
        n_terms=1,
        n_iter=2,
        cv=2,
        random_state=0,
        callbacks=[TensorBoardLogger(tmp_path)],
    )
    search.fit(X, y)
    log = read(tmp_path)
    assert_rows_are_the_table(log, search)
    assert sum(row.params.get("splitter") == "random" for row in log.rows) == 4


def test_domains_and_types(tmp_path):
    space = [
        {
            "kernel": ["rbf"],
            "C": loguniform(1e-2, 10),
            "gamma": ["scale", 0.1, None],
            "shrinking": [True, False],
            "tol": norm(0, 1),
            "class_weight": [{0: 1, 1: 2}, None],
        },
        {"kernel": ["linear"], "C": [20, 30], "tol": [np.inf, 1.0]},
    ]
    with pytest.raises(ValueError, match="trained"):
        search_of(tmp_path, Untrainable(), space).fit(X, y)
    log = read(tmp_path)
    assert choices(log.hparams["kernel"]) == ["rbf", "linear"]
    assert interval(log.hparams["C"]) == (1e-2, 30)
    assert choices(log.hparams["gamma"]) == ["scale", "0.1", "None"]
    assert choices(log.hparams["shrinking"]) == [True, False]
    assert choices(log.hparams["class_weight"]) == ["{0: 1, 1: 2}", "None"]
    assert interval(log.hparams["tol"]) is None


def test_values_of_several_types_are_strings_in_sessions_too(tmp_path):
    space = {"max_depth": [1, None], "max_features": [0.5, "sqrt"], "ccp_alpha": norm(1, 1e-6)}
    search_of(tmp_path, space=space).fit(X, y)
    for row in read(tmp_path).rows:
        assert row.params["max_depth"] in {"1", "None"}
        assert row.params["max_features"] in {"0.5", "sqrt"}
        assert isinstance(row.params["ccp_alpha"], float)


def test_a_trial_with_a_failed_fit_is_a_failure(tmp_path):
    space = {"max_depth": [2, "nonsense"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search_of(tmp_path, space=space, scheduler=all_of_them).fit(X, y)
    good, bad = read(tmp_path).rows
    assert (good.params["max_depth"], good.status) == ("2", "SUCCESS")
    assert (bad.params["max_depth"], bad.status) == ("nonsense", "FAILURE")
    assert "mean_test_score" not in bad.metrics


def test_several_metrics_and_metrics_that_only_a_callable_knows(tmp_path):
    def both(estimator, X, y):
        return {"a": 0.25, "b": estimator.max_depth}

    search_of(tmp_path / "names", scoring=["accuracy", "f1"], refit="f1").fit(X, y)
    search_of(tmp_path / "callable", scoring=both, refit="a").fit(X, y)
    assert read(tmp_path / "names").metrics == [
        "mean_test_accuracy",
        "mean_test_f1",
        "mean_fit_time",
    ]
    log = read(tmp_path / "callable")
    assert log.metrics == ["mean_test_a", "mean_test_b", "mean_fit_time"]
    assert [row.metrics["mean_test_b"] for row in log.rows] == [
        row.params["max_depth"] for row in log.rows
    ]


def test_hyperband_has_a_session_per_rung_with_the_curve_from_the_first_epoch(tmp_path):
    space = {"lr": loguniform(1e-3, 1e-1)}
    model = TorchClassifier(validation_fraction=0.25, batch_size=16)
    search = hyperband(tmp_path, model, space).fit(X, y)
    log = read(tmp_path)
    assert_rows_are_the_table(log, search, resource="max_epochs")
    assert interval(log.hparams["max_epochs"]) == (1, 4)
    assert interval(log.hparams["lr"]) == pytest.approx((1e-3, 1e-1))
    for row in log.rows:
        for curve in ("train_loss", "valid_loss"):
            for part in ("split0", "split1", "mean"):
                steps = [step for step, _ in log.scalars[row.name][f"epoch_{curve}/{part}"]]
                assert steps == list(range(1, 1 + int(row.params["max_epochs"])))
    rungs = {}
    for row in log.rows:
        rungs.setdefault(row.name.partition("-c")[2], []).append(row.name)
    promoted = next(names for names in rungs.values() if len(names) == 3)
    first, _, last = (log.scalars[name]["epoch_train_loss/split0"] for name in promoted)
    assert last[: len(first)] == first
    best = search.best_estimator_.history
    assert len(best) == len(last)


@pytest.mark.parametrize(
    ("estimator", "resource", "curves"),
    [
        (make_pipeline(StandardScaler(), MLPClassifier((4,))), "mlpclassifier__max_iter", True),
        (SGDClassifier(), "max_iter", False),
        (DecisionTreeClassifier(), "n_samples", False),
    ],
)
def test_any_estimator_and_resource(tmp_path, estimator, resource, curves):
    name = "ccp_alpha" if resource == "n_samples" else resource.replace("max_iter", "alpha")
    size = {"min_resources": 10, "max_resources": 20} if resource == "n_samples" else {}
    search = hyperband(tmp_path, estimator, {name: uniform(0, 0.01)}, resource=resource, **size)
    search.fit(X, y)
    log = read(tmp_path)
    assert len(log.rows) == len(search.cv_results_["params"])
    assert [row.params[resource] for row in log.rows] == list(search.cv_results_["n_resources"])
    logged = {tag for row in log.rows for tag in log.scalars[row.name] if tag[:5] == "epoch"}
    parts = ("split0", "split1", "mean") if curves else ()
    assert logged == {f"epoch_train_loss/{part}" for part in parts}


def test_keras_models_have_their_curves(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip("keras", reason="the extra keras is not installed")
    model = skhpo.KerasClassifier(n_units=4, validation_split=0.25)
    space = {"optimizer__learning_rate": loguniform(1e-3, 1e-1)}
    search = hyperband(tmp_path, model, space, resource="epochs", max_resources=2).fit(X, y)
    log = read(tmp_path)
    assert_rows_are_the_table(log, search, resource="epochs")
    for row in log.rows:
        for curve in ("loss", "accuracy", "val_loss"):
            points = log.scalars[row.name][f"epoch_{curve}/split1"]
            assert [step for step, _ in points] == list(range(1, 1 + int(row.params["epochs"])))


def test_repeats_are_averaged_and_processes_write_the_same_log(tmp_path):
    model = TorchClassifier(max_epochs=2, batch_size=32)
    logs = []
    for n_jobs in (1, 2):
        folder = tmp_path / str(n_jobs)
        search = search_of(folder, model, {"lr": [0.01, 0.1, 1.0, 3.0]}, n_repeats=2, n_jobs=n_jobs)
        search.fit(X, y)
        logs.append(read(folder))
        assert_rows_are_the_table(logs[-1], search)
    for run, tags in logs[0].scalars.items():
        for tag in tags.keys() - {"mean_fit_time"}:
            assert logs[1].scalars[run][tag] == tags[tag]


def test_nets_trained_as_one_have_their_curves(tmp_path):
    model, space = TorchClassifier(max_epochs=3, batch_size=16), {"lr": loguniform(1e-3, 1e-1)}
    logs = []
    for stack in (True, False):
        search_of(tmp_path / str(stack), model, space, stack=stack).fit(X, y)
        logs.append(read(tmp_path / str(stack)))
    for together, alone in zip(*(log.rows for log in logs), strict=True):
        assert together.name == alone.name
        for part in ("split0", "split1", "mean"):
            curves = [log.scalars[alone.name][f"epoch_train_loss/{part}"] for log in logs]
            np.testing.assert_allclose(*curves, rtol=1e-3)


def test_asynchronous_searches_are_logged_and_resumed(tmp_path):
    for _ in range(2):
        search = hyperband(
            tmp_path / "log",
            TorchClassifier(batch_size=32),
            {"lr": loguniform(1e-3, 1e-1)},
            asynchronous=True,
            journal=tmp_path / "run",
        ).fit(X, y)
        assert_rows_are_the_table(read(tmp_path / "log"), search, resource="max_epochs")


def test_no_curves_when_nobody_asks(tmp_path):
    class Seen:
        def __init__(self, curves):
            self.curves = curves

        def on_fit_end(self, search, trial, result):
            self.found = result.curves

    model = TorchClassifier(max_epochs=2)
    for curves in (True, False):
        seen = Seen(curves)
        search_of(tmp_path, model, {"lr": [0.01]}, scheduler=all_of_them, callbacks=[seen]).fit(
            X, y
        )
        assert (seen.found is not None) == curves
    logger = TensorBoardLogger(tmp_path, curves=False)
    search_of(tmp_path, model, {"lr": [0.01]}, all_of_them, callbacks=[logger]).fit(X, y)
    assert not [tag for tag in read(tmp_path).scalars["trial-0000"] if tag[:5] == "epoch"]


def test_resuming_adds_the_missing_sessions_and_doubles_none(tmp_path):
    class Interrupts:
        def __init__(self, after):
            self.after = after

        def on_trial_end(self, search, trial, results, score):
            if trial.number == self.after:
                raise KeyboardInterrupt

    model, space = TorchClassifier(max_epochs=2), {"lr": loguniform(1e-3, 1)}

    def fit(folder, *callbacks, journal=None):
        callbacks = [TensorBoardLogger(folder), *callbacks]
        journal = journal and tmp_path / journal
        return search_of(folder, model, space, callbacks=callbacks, journal=journal).fit(X, y)

    def files():
        paths = (tmp_path / "log").rglob("*tfevents*")
        return {path.parent.name: path.read_bytes() for path in paths}

    with pytest.warns(UserWarning, match="interrupted"):
        fit(tmp_path / "log", Interrupts(after=1), journal="run")
    before = files()
    assert before.keys() == {"log", "trial-0000", "trial-0001"}
    search = fit(tmp_path / "log", journal="run")
    after = files()
    assert all(after[name] == before[name] for name in ("trial-0000", "trial-0001"))
    log = read(tmp_path / "log")
    assert_rows_are_the_table(log, search)
    fit(tmp_path / "other", journal="run")  # the journal has the curves too
    other = read(tmp_path / "other").scalars
    assert {run: tags for run, tags in other.items() if run != "."} == log.scalars


def test_the_same_search_again_replaces_its_sessions(tmp_path):
    search_of(tmp_path).fit(X, y)
    (tmp_path / "trial-0099").mkdir()
    (tmp_path / "trial-0000" / "notes.txt").write_text("of the user")
    search = search_of(tmp_path).fit(X, y)
    assert_rows_are_the_table(read(tmp_path), search)
    assert not (tmp_path / "trial-0099").exists()
    assert (tmp_path / "trial-0000" / "notes.txt").exists()


def test_the_log_of_another_search_is_refused_before_any_training(tmp_path):
    search_of(tmp_path).fit(X, y)
    before = sorted(tmp_path.rglob("*"))
    other = search_of(tmp_path, Untrainable(), {"C": [1, 2]})
    with pytest.raises(ValueError, match="of another one"):
        other.fit(X, y)
    assert sorted(tmp_path.rglob("*")) == before
    logger = TensorBoardLogger(tmp_path, overwrite=True)
    smaller = search_of(tmp_path, space={"max_depth": [1, 2]}, callbacks=[logger]).fit(X, y)
    assert_rows_are_the_table(read(tmp_path), smaller)


def test_a_folder_that_cannot_be_written_is_told_before_any_training(tmp_path):
    (tmp_path / "file").write_text("")
    for folder, rule in [
        (tmp_path / "file", "can be written"),
        (tmp_path / "file" / "below", "can be written"),
        ("gs://bucket/log", "local folder"),
    ]:
        with pytest.raises(ValueError, match=f"(?s)log_dir must be.*{rule}.*"):
            search_of(folder, Untrainable(), {"C": [1, 2]}).fit(X, y)


def test_without_tensorboard_the_extra_is_named_before_any_training(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install skhpo\[tensorboard\]"):
        search_of(tmp_path, Untrainable(), {"C": [1, 2]}).fit(X, y)


def test_a_full_disk_ends_the_log_and_not_the_search(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    class FillsTheDisk:
        def on_trial_end(self, search, trial, results, score):
            monkeypatch.setattr("os.replace", full)

    search = search_of(tmp_path)
    search.callbacks = [*search.callbacks, FillsTheDisk()]
    with pytest.warns(UserWarning, match="No space left") as seen:
        search.fit(X, y)
    assert len(seen) == 1
    assert len(search.cv_results_["params"]) == 4
    monkeypatch.undo()
    assert [row.name for row in read(tmp_path).rows] == ["trial-0000"]


def test_a_search_with_a_logger_can_be_cloned(tmp_path):
    search = clone(search_of(tmp_path)).fit(*load_iris(return_X_y=True))
    assert_rows_are_the_table(read(tmp_path), search)
