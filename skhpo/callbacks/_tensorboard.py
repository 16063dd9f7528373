"""A search as TensorBoard's HParams dashboard shows it."""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from .._late import import_extra
from ..files import read_file, write_atomically
from ..model_selection import SearchStart
from ..trial import FitResult, Trial
from ._events import INCOMPLETE, EventFile, experiment, session_end, session_start
from ._hparams import Domain, domain_of, domain_of_choices
from ._trials import (
    TrialLogger,
    answered_trials,
    description_of,
    is_failed,
    name_of,
    points_of,
    scalars_of,
    seconds_of,
    values_of,
)

__all__ = ["TensorBoardLogger"]

_EVENTS = "events.out.tfevents.skhpo"
_NOTE = "skhpo.json"
_UNFINISHED = re.compile(rf"{INCOMPLETE}(\.[0-9a-f]+\.part)?")
_SESSION = re.compile(r"trial-(\d{4,})(-c\d{4,})?")


class TensorBoardLogger(TrialLogger):
    """Search callback that writes a log for TensorBoard's HParams dashboard.

    The log has the hyperparameters with their domains, the metrics, and a session for each trial:
    its hyperparameters (the resource is one of them), its metrics, whether a fit failed, the
    scores of every split and the learning curves. ``tensorboard --logdir <log_dir>`` shows it,
    also while the search runs.

    Parameters
    ----------
    log_dir : str or path-like
        A local folder for the log of one search. It is made if it is missing. The same search may
        be fitted again with it: sessions of trials that its journal has are left as they are, all
        others are replaced.
    curves : bool, default=True
        Whether to log the learning curves of estimators that keep some: the torch and Keras
        estimators, skorch's nets, scikit-learn's multilayer perceptrons and boosting.
    overwrite : bool, default=False
        Whether the log of another search in the folder is replaced, or an error.

    Raises
    ------
    ImportError
        By ``fit`` of the search, before any training, if tensorboard is not installed.
    ValueError
        By ``fit`` of the search, before any training, if `log_dir` cannot be written, or holds the
        log of another search.

    See Also
    --------
    MLflowLogger : The same for MLflow.
    WandbLogger : The same for Weights & Biases.
    skhpo.inspection.SearchCurvesDisplay : A picture of the scores, without a server.

    Notes
    -----
    *A session is a trial*, a row of ``cv_results_``. A candidate that is promoted has a session for
    every resource it got, each with the learning curves from its first epoch on. So rows of one
    resource can be compared in the table, which is what a filter on the resource is for.

    *Names.* The run of a trial is ``trial-0007``, or ``trial-0007-c0003`` where a resource
    varies. Its metrics are ``mean_test_<scorer>``, ``mean_train_<scorer>`` where asked for, and
    ``mean_fit_time``, as in ``cv_results_``; further scalars are ``test_<scorer>/split0`` and so
    on, with the resource as step, and ``epoch_<curve>/split0`` and ``epoch_<curve>/mean`` by epoch.

    *Values.* Parameters with choices of several types, or of other types than numbers, strings and
    bools, are shown as strings. A distribution is an interval, without ends where one is infinite.

    The process that called ``fit`` writes everything, whatever the joblib backend. A log that
    cannot be written any more (a full disk) ends with a warning, and the search goes on.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import SGDClassifier
    >>> from skhpo import HalvingHyperbandSearchCV, TensorBoardLogger
    >>> log_dir = tempfile.mkdtemp()
    >>> search = HalvingHyperbandSearchCV(
    ...     SGDClassifier(),
    ...     {"alpha": [1e-4, 1e-2]},
    ...     resource="max_iter",
    ...     max_resources=3,
    ...     random_state=0,
    ...     callbacks=[TensorBoardLogger(log_dir)],
    ... )
    >>> _ = search.fit(*load_iris(return_X_y=True))
    >>> sorted(os.listdir(log_dir))[2:]
    ['trial-0000-c0000', 'trial-0001-c0001', 'trial-0002-c0001']
    """

    def __init__(
        self, log_dir: str | os.PathLike[str], *, curves: bool = True, overwrite: bool = False
    ) -> None:
        self.log_dir = log_dir
        self.curves = curves
        self.overwrite = overwrite

    def on_search_begin(self, search: Any, start: SearchStart) -> None:
        import_extra("tensorboard.plugins.hparams.api_pb2", "TensorBoardLogger")
        if "://" in os.fspath(self.log_dir):
            raise ValueError(f"log_dir must be a local folder, but is {self.log_dir!r}")
        self._folder = Path(self.log_dir).absolute()  # the working directory may change
        self._domains = {name: domain_of(start.space, name) for name in start.space.names}
        resource = getattr(search, "resource_", None)
        if resource is not None:
            largest = start.max_resource
            interval = None if largest is None else (1.0, float(largest))
            self._domains[resource] = Domain("number", interval=interval)
        self._logged = answered_trials(search, start)
        self._described = self._broken = False
        try:
            self._prepare(start.identity)
            if start.metrics is not None:
                self._describe(search, start.metrics)
        except OSError as error:
            raise ValueError(
                f"log_dir must be a folder that can be written, but {str(self.log_dir)!r} cannot: "
                f"{error.strerror}; give another path"
            ) from error

    def on_trial_end(
        self, search: Any, trial: Trial, results: Sequence[FitResult], score: float
    ) -> None:
        if self._broken:
            return
        try:
            names = max((list(result.test_scores) for result in results), key=len)
            if names and not self._described:
                self._describe(search, names)
            log = self._folder / name_of(trial) / _EVENTS
            if not (trial.number in self._logged and log.exists()):
                self._log(search, trial, results)
        except OSError as error:
            self._broken = True
            warnings.warn(
                f"the log in {str(self.log_dir)!r} ends here, because it cannot be written any "
                f"more: {error.strerror}; the search goes on",
                UserWarning,
                stacklevel=2,
            )

    def _prepare(self, identity: str) -> None:
        """Make the folder, refuse another search's, and remove sessions that will not be kept."""
        self._folder.mkdir(parents=True, exist_ok=True)
        note = self._folder / _NOTE
        same, found = False, _search_of(note)
        if found is not None:
            same = found == identity
            if not (same or self.overwrite):
                raise ValueError(
                    f"log_dir must be empty or hold the log of this very search, but that in "
                    f"{str(self.log_dir)!r} is of another one (other settings, data, estimator or "
                    "seed); give another path, or overwrite=True"
                )
        if not same:
            self._logged = set()
        for folder in self._folder.iterdir():
            match = _SESSION.fullmatch(folder.name)
            if match and folder.is_symlink():
                raise ValueError(
                    f"a session must be a folder of its own, but {str(folder)!r} is a link; remove "
                    "it, or give another log_dir"
                )
            if match and int(match[1]) not in self._logged:
                for file in list(folder.iterdir()):
                    if file.name == _EVENTS or _UNFINISHED.fullmatch(file.name):
                        file.unlink()
                if not any(folder.iterdir()):
                    folder.rmdir()
        write_atomically(note, json.dumps({"search": identity}).encode())

    def _describe(self, search: Any, names: Collection[str]) -> None:
        tags = [f"mean_test_{name}" for name in names]
        if search.return_train_score:
            tags += [f"mean_train_{name}" for name in names]
        file = EventFile(self._folder, _EVENTS)
        experiment(file, self._domains, [*tags, "mean_fit_time"], description_of(search))
        file.write()
        self._described = True

    def _domain(self, name: str, value: Any) -> Domain:
        """Return the domain of a parameter, also of one that a scheduler added to the space's."""
        return self._domains.get(name) or domain_of_choices([value])

    def _log(self, search: Any, trial: Trial, results: Sequence[FitResult]) -> None:
        values = values_of(search, trial)
        hparams = {name: self._domain(name, value).value(value) for name, value in values.items()}
        file = EventFile(self._folder / name_of(trial), _EVENTS)
        session_start(file, hparams, time.time() - seconds_of(results))
        for tag, value in scalars_of(search, results):
            file.add_scalar(tag, value, step=trial.resource or 0)
        for epoch, tag, value in points_of(results) if self.curves else ():
            file.add_scalar(tag, value, step=epoch)
        session_end(file, failed=is_failed(results))
        file.write()


def _search_of(note: Path) -> str | None:
    """Return which search the log in a folder is of, None where there is none."""
    try:
        found = json.loads(read_file(note))["search"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        found = None
    if not isinstance(found, str):
        raise ValueError(
            f"{_NOTE} in log_dir must say which search the log is of, but {str(note)!r} was torn "
            "by a crash, or is no file of skhpo's; remove it, or give another path"
        )
    return found
