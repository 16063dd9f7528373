"""The learning curves in the log of a search."""

import numpy as np
import pytest
from scipy.stats import loguniform, uniform
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")

from dashboard import interval, read
from logged import X, all_of_them, assert_rows_are_the_table, hyperband, search_of, y

import skhpo
from skhpo import TensorBoardLogger, TorchClassifier


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
    assert len(best) == search.cv_results_["n_resources"][search.best_index_]


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


def test_nets_trained_as_one_have_their_curves(tmp_path):
    model, space = TorchClassifier(max_epochs=3, batch_size=16), {"lr": loguniform(1e-3, 1e-1)}
    logs = []
    for lockstep in (True, False):
        search_of(tmp_path / str(lockstep), model, space, lockstep=lockstep).fit(X, y)
        logs.append(read(tmp_path / str(lockstep)))
    for together, alone in zip(*(log.rows for log in logs), strict=True):
        assert together.name == alone.name
        for part in ("split0", "split1", "mean"):
            curves = [log.scalars[alone.name][f"epoch_train_loss/{part}"] for log in logs]
            np.testing.assert_allclose(*curves, rtol=1e-3)


def test_what_self_tuning_networks_tune_is_a_curve(tmp_path):
    model = skhpo.SelfTuningClassifier(max_epochs=2, warmup_epochs=1)
    search_of(tmp_path, model, {"lr": [0.01]}, all_of_them).fit(X, y)
    scalars = read(tmp_path).scalars["trial-0000"]
    points = scalars["epoch_hyperparameters/weight_decay/mean"]
    assert [step for step, _ in points] == [1, 2]


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
