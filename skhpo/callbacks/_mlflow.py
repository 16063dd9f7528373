"""A search as MLflow keeps it: a run for the search, and one below it for each trial."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from .._late import import_extra
from ..model_selection import SearchStart
from ..trial import FitResult, Trial
from ._hparams import shown
from ._trials import (
    TrialLogger,
    description_of,
    is_failed,
    name_of,
    points_of,
    scalars_of,
    seconds_of,
    values_of,
)

__all__ = ["MLflowLogger"]

# What one call of MLflow's takes (its REST API's limits).
_METRICS_AT_ONCE, _PARAMS_AT_ONCE = 1000, 100


class MLflowLogger(TrialLogger):
    """Search callback that logs to MLflow: a run for the search, and below it one for each trial.

    A trial's run has its parameters (the resource is one of them), the scores of every split and
    their means, its seconds, the learning curves by epoch, and the status FAILED if a fit failed.

    Parameters
    ----------
    experiment_name : str, default="skhpo"
        Made if it is not there.
    tracking_uri : str or None, default=None
        Where MLflow keeps runs: ``"sqlite:///mlflow.db"``, or a server's address. None leaves it to
        MLflow.
    curves : bool, default=True
        Whether to log the learning curves of estimators that keep some.

    Raises
    ------
    ImportError
        By ``fit`` of the search, before any training, if MLflow is not installed.

    See Also
    --------
    TensorBoardLogger : The same for TensorBoard.
    WandbLogger : The same for Weights & Biases.

    Notes
    -----
    Names are those of `TensorBoardLogger`. A search that is fitted again with its journal logs
    only what is new: the runs of one search know each other by a tag. The process that called
    ``fit`` logs everything, whatever the joblib backend.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from skhpo import BayesSearchCV
    >>> from skhpo.callbacks import MLflowLogger
    >>> logger = MLflowLogger("iris", tracking_uri="sqlite:///mlflow.db")
    >>> search = BayesSearchCV(SVC(), {"C": [0.1, 1, 10]}, n_iter=3, callbacks=[logger])
    >>> search.fit(*load_iris(return_X_y=True))  # doctest: +SKIP
    """

    def __init__(
        self,
        experiment_name: str = "skhpo",
        *,
        tracking_uri: str | None = None,
        curves: bool = True,
    ) -> None:
        self.experiment_name = experiment_name
        self.tracking_uri = tracking_uri
        self.curves = curves

    def on_search_begin(self, search: Any, start: SearchStart) -> None:
        client = import_extra("mlflow", "MLflowLogger").MlflowClient(self.tracking_uri)
        self._client = client
        found = client.get_experiment_by_name(self.experiment_name)
        self._experiment = (
            client.create_experiment(self.experiment_name) if found is None else found.experiment_id
        )
        self._search = start.identity
        runs = client.search_runs(
            [self._experiment], f"tags.`skhpo.search` = '{start.identity}'", max_results=10_000
        )
        known = {trial for trial, _, _ in start.known}
        self._logged = set()
        self._parent = None
        for run in runs:
            trial = run.data.tags.get("skhpo.trial")
            if trial is None:
                self._parent = run.info.run_id
            elif int(trial) in known:
                self._logged.add(int(trial))
        if self._parent is None:
            tags = {"skhpo.search": start.identity}
            run = client.create_run(self._experiment, tags=tags, run_name=description_of(search))
            self._parent = run.info.run_id
        else:
            client.update_run(self._parent, status="RUNNING")

    def _log(self, search: Any, trial: Trial, results: Sequence[FitResult]) -> None:
        from mlflow.entities import Metric, Param

        client = self._client
        now = round(1000 * time.time())
        tags = {
            "mlflow.parentRunId": self._parent,
            "skhpo.search": self._search,
            "skhpo.trial": str(trial.number),
            "skhpo.candidate": str(trial.candidate),
        }
        began = now - round(1000 * seconds_of(results))
        run = client.create_run(self._experiment, began, tags=tags, run_name=name_of(trial))
        run = run.info.run_id
        metrics = [
            Metric(tag, value, now, trial.resource or 0)
            for tag, value in scalars_of(search, results)
        ]
        if self.curves:
            metrics += [Metric(tag, value, now, epoch) for epoch, tag, value in points_of(results)]
        params = [Param(name, str(shown(v))) for name, v in values_of(search, trial).items()]
        for i in range(0, len(params), _PARAMS_AT_ONCE):
            client.log_batch(run, params=params[i : i + _PARAMS_AT_ONCE])
        for i in range(0, len(metrics), _METRICS_AT_ONCE):
            client.log_batch(run, metrics=metrics[i : i + _METRICS_AT_ONCE])
        client.set_terminated(run, "FAILED" if is_failed(results) else "FINISHED", now)

    def on_search_end(self, search: Any) -> None:
        """Log what is best, and end the search's run.

        Parameters
        ----------
        search : estimator
            The search that is fitted.
        """
        score = getattr(search, "best_score_", None)
        if score is not None and math.isfinite(score):
            self._client.log_metric(self._parent, "best_score", score)
        for name, value in getattr(search, "best_params_", {}).items():
            self._client.set_tag(self._parent, f"best.{name}", str(shown(value)))
        self._client.set_terminated(self._parent, "FINISHED")
