"""A search as Weights & Biases shows it: a group of runs, one for each trial."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any

from .._late import import_extra
from ..model_selection import SearchStart
from ..trial import FitResult, Trial
from ._hparams import shown
from ._trials import (
    TrialLogger,
    answered_trials,
    is_failed,
    name_of,
    points_of,
    scalars_of,
    values_of,
)

__all__ = ["WandbLogger"]


class WandbLogger(TrialLogger):
    """Search callback that logs to Weights & Biases: a run for each trial, in one group.

    A run has its parameters as config (the resource is one of them), the learning curves by
    epoch, and the scores of every split, their means and its seconds as summary. It counts as
    failed if a fit failed.

    Parameters
    ----------
    project : str, default="skhpo"
        Made if it is not there.
    dir : str, path-like or None, default=None
        The folder in which the package keeps its files; None leaves it to the package.
    mode : {"online", "offline", "disabled"} or None, default=None
        "offline" keeps runs in `dir` until ``wandb sync`` uploads them. None leaves it to the
        package.
    curves : bool, default=True
        Whether to log the learning curves of estimators that keep some.

    Raises
    ------
    ImportError
        By ``fit`` of the search, before any training, if wandb is not installed.

    See Also
    --------
    TensorBoardLogger : The same for TensorBoard.
    MLflowLogger : The same for MLflow.

    Notes
    -----
    Names are those of `TensorBoardLogger`. The runs of trials that a journal answers are logged
    already, and left out. The process that called ``fit`` logs everything, whatever the joblib
    backend; a run that it has open is left alone.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from skhpo import BayesSearchCV
    >>> from skhpo.callbacks import WandbLogger
    >>> logger = WandbLogger("iris", mode="offline")
    >>> search = BayesSearchCV(SVC(), {"C": [0.1, 1, 10]}, n_iter=3, callbacks=[logger])
    >>> search.fit(*load_iris(return_X_y=True))  # doctest: +SKIP
    """

    def __init__(
        self,
        project: str = "skhpo",
        *,
        dir: str | os.PathLike[str] | None = None,
        mode: str | None = None,
        curves: bool = True,
    ) -> None:
        self.project = project
        self.dir = dir
        self.mode = mode
        self.curves = curves

    def on_search_begin(self, search: Any, start: SearchStart) -> None:
        self._wandb = import_extra("wandb", "WandbLogger")
        self._group = f"{type(search).__name__}-{start.identity[:12]}"
        self._logged = answered_trials(search, start)

    def _log(self, search: Any, trial: Trial, results: Sequence[FitResult]) -> None:
        values = {name: _plain(value) for name, value in values_of(search, trial).items()}
        run = self._wandb.init(
            project=self.project,
            dir=self.dir,
            mode=self.mode,
            name=name_of(trial),
            group=self._group,
            config={**values, "candidate": trial.candidate, "trial": trial.number},
            reinit="create_new",
            settings=self._wandb.Settings(silent=True, console="off"),
        )
        points = sorted(points_of(results), key=lambda point: point[0]) if self.curves else []
        for epoch, those in itertools.groupby(points, key=lambda point: point[0]):
            run.log({tag: value for _, tag, value in those}, step=epoch)
        run.summary.update(dict(scalars_of(search, results)))
        run.finish(exit_code=int(is_failed(results)))


def _plain(value: Any) -> bool | float | str | None:
    """Return a value that the config keeps as it is, else a short text."""
    return value if value is None or isinstance(value, bool | int | float) else shown(value)
