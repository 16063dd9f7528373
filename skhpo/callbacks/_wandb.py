"""A search as Weights & Biases shows it: a group of runs, one for each trial."""

from __future__ import annotations

import math

from ._hparams import shown
from ._trials import TrialLogger, curves_of, is_failed, name_of, scalars_of, values_of

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

    def __init__(self, project="skhpo", *, dir=None, mode=None, curves=True):
        self.project = project
        self.dir = dir
        self.mode = mode
        self.curves = curves

    def on_search_begin(self, search, start):
        """Take note of what the journal answers.

        Parameters
        ----------
        search : estimator
            The search that is fitted.
        start : SearchStart
            What the search is about to do, and what its journal has.
        """
        self._wandb = _import_wandb()
        self._group = f"{type(search).__name__}-{start.identity[:12]}"
        counts = {}
        for trial, _, _ in start.known:
            counts[trial] = counts.get(trial, 0) + 1
        n_fits = search.n_splits_ * search.n_repeats
        self._logged = {trial for trial, n in counts.items() if n == n_fits}

    def _log(self, search, trial, results):
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
        curves = dict(curves_of(results)) if self.curves else {}
        for epoch in range(max(map(len, curves.values()), default=0)):
            at = {tag: curve[epoch] for tag, curve in curves.items() if epoch < len(curve)}
            run.log({tag: v for tag, v in at.items() if math.isfinite(v)}, step=epoch + 1)
        scalars = {tag: v for tag, v in scalars_of(search, results) if math.isfinite(v)}
        run.summary.update(scalars)
        run.finish(exit_code=int(is_failed(results)))


def _plain(value):
    """Return a value that the config keeps as it is, else a short text."""
    return value if value is None or isinstance(value, bool | int | float) else shown(value)


def _import_wandb():
    try:
        import wandb
    except ImportError as error:
        raise ImportError(
            "WandbLogger needs the package wandb, which is not installed: pip install skhpo[wandb]"
        ) from error
    return wandb
