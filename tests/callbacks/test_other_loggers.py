"""MLflow and Weights & Biases: what their own packages, in their local modes, have of a search."""

import os
import sys

import pytest
from scipy.stats import loguniform
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier

from skhpo import HalvingHyperbandSearchCV
from skhpo.callbacks import MLflowLogger, WandbLogger

X, y = load_iris(return_X_y=True)
# Of these packages themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def search_of(logger, **more):
    return HalvingHyperbandSearchCV(
        MLPClassifier((4,), random_state=0),
        {"alpha": loguniform(1e-5, 1), "activation": ["relu", "tanh"]},
        resource="max_iter",
        max_resources=3,
        cv=2,
        random_state=0,
        callbacks=[logger],
        **more,
    )


def test_mlflow_has_a_run_for_each_trial(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    logger = MLflowLogger("digits", tracking_uri=uri)
    search = search_of(logger, journal=tmp_path / "run.jsonl").fit(X, y)
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("digits").experiment_id
    runs = client.search_runs([experiment])
    trials = {run.data.tags.get("skhpo.trial"): run for run in runs}
    table = search.cv_results_
    assert trials.keys() == {None, *map(str, range(len(table["params"])))}
    parent = trials.pop(None)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best_score"] == search.best_score_
    for number, run in trials.items():
        row = int(number)
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params["max_iter"] == str(table["n_resources"][row])
        assert run.data.params["activation"] == table["params"][row]["activation"]
        assert run.data.metrics["mean_test_score"] == table["mean_test_score"][row]
        assert run.info.status == "FINISHED"
    last = max(trials.values(), key=lambda run: int(run.data.params["max_iter"]))
    assert len(client.get_metric_history(last.info.run_id, "epoch_train_loss/mean")) == 3
    search.fit(X, y)  # of which the journal has everything
    assert len(client.search_runs([experiment])) == len(runs)


def test_wandb_has_a_run_for_each_trial(tmp_path):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    search = search_of(WandbLogger("iris", dir=tmp_path, mode="offline")).fit(X, y)
    runs = [name for name in os.listdir(tmp_path / "wandb") if name.startswith("offline-run-")]
    assert len(runs) == len(search.cv_results_["params"])
    written = b"".join(
        (tmp_path / "wandb" / name / file).read_bytes()
        for name in runs
        for file in os.listdir(tmp_path / "wandb" / name)
        if file.endswith(".wandb")
    )
    for text in (b"mean_test_score", b"epoch_train_loss", b"trial-0000-c0000", b"max_iter"):
        assert text in written


@pytest.mark.parametrize(
    ("logger", "package"), [(MLflowLogger(), "mlflow"), (WandbLogger(), "wandb")]
)
def test_a_missing_package_is_named_before_training(logger, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"skhpo\[{package}\]"):
        search_of(logger).fit(X, y)
