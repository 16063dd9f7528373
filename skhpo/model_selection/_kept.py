"""What a search keeps of its fits: where predictions and estimators lie, and how they are read."""

from __future__ import annotations

import os
import secrets
import tempfile
import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from .. import evaluation
from ..files import storing
from ..fingerprint import digest
from ..journal import ModelFiles, PredictionFiles
from ..process import remove_at_last, remove_now

if TYPE_CHECKING:
    from ..evaluation import PredictionKind
    from ..trial import Trial

__all__ = [
    "KeptModels",
    "KeptPredictions",
    "ModelStore",
    "Name",
    "PredictionStore",
    "digest_of_targets",
    "temporary_folder",
]

# Bytes of predictions in memory, where there is no journal; further ones lie in temporary files.
_MOST_IN_MEMORY = 2**28

# Trial, split and repeat of a fit.
Name = tuple[int, int, int]


def temporary_folder(owner: object) -> Path:
    """Make a folder that is removed with its owner, at the latest when this process ends."""
    with storing(tempfile.gettempdir()):
        path = tempfile.mkdtemp(prefix="skhpo-kept-")
    remove_at_last(path)
    weakref.finalize(owner, _remove, path, os.getpid())
    return Path(path)


def _remove(path: str, process: int) -> None:
    if os.getpid() == process:  # and not a forked child
        remove_now(path)


class _Store:
    """What is kept of fits, by (trial, split, repeat): in files, or in memory.

    Parameters
    ----------
    files : FitFiles or None, default=None
        Beside a journal.
    read_only : bool, default=False
        Whether no file can be written, so that new ones lie in memory.
    """

    def __init__(self, files: Any = None, *, read_only: bool = False) -> None:
        self.files = files
        self.read_only = read_only
        self._beside_journal = files is not None
        self._in_memory: dict[Name, Any] = {}

    def get(self, name: Name) -> Any:
        """Return what is kept of a fit, None where it is missing or damaged."""
        if name in self._in_memory:
            return self._in_memory[name]
        return None if self.files is None else self._in_file(name)

    def _in_file(self, name: Name) -> Any:
        return self.files.content(name)

    def has_file(self, name: Name) -> bool:
        """Whether there was a file of a fit when this was asked first."""
        return self.files is not None and self.files.has(name)

    def drop(self, name: Name) -> None:
        """Drop what is kept of a fit, if there is something."""
        held = self._in_memory.pop(name, None)
        if held is None and self.files is not None and not self.read_only:
            self.files.drop(name)

    def sweep(self, kept: Collection[Name]) -> None:
        """Drop all but those of some fits."""
        for name in [name for name in self._in_memory if name not in kept]:
            self.drop(name)
        if self.files is not None and not self.read_only:
            self.files.sweep(kept)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a pickle: all that lies in memory and in temporary files."""
        state = self.__dict__.copy()
        if self.files is not None and not self._beside_journal:
            found = {name: self._in_file(name) for name in self.files.names()}
            held = {k: bytes(v) if isinstance(v, memoryview) else v for k, v in found.items()}
            state["_in_memory"] = {**self._in_memory, **held}
            state["files"] = None
        return state


class PredictionStore(_Store):
    """Predictions of fits: in the files of a journal, or in memory up to a limit.

    Beyond the limit they lie in temporary files.
    """

    _n_bytes = 0  # of those in memory

    def put(self, name: Name, predictions: NDArray[Any], *, sync: bool = False) -> None:
        """Keep the predictions of a fit.

        Raises
        ------
        StorageError
            If the system refuses.
        """
        if self._beside_journal and not self.read_only:
            self.files.put(name, predictions, sync=sync)
            return
        if not self.read_only and self._n_bytes + predictions.nbytes > _MOST_IN_MEMORY:
            if self.files is None:
                self.files = PredictionFiles(temporary_folder(self), secrets.token_hex(8))
            self.files.put(name, predictions)
            return
        self._in_memory[name] = predictions
        self._n_bytes += predictions.nbytes

    def _in_file(self, name: Name) -> NDArray[np.floating[Any]] | None:
        found: NDArray[np.floating[Any]] | None = self.files.get(name)
        return found

    def drop(self, name: Name) -> None:
        self._n_bytes -= getattr(self._in_memory.get(name), "nbytes", 0)
        super().drop(name)


class ModelStore(_Store):
    """Fitted estimators of fits: networks as checkpoint files, others as pickles in memory.

    The files are temporary ones where there is no journal.
    """

    def __init__(self, files: ModelFiles | None) -> None:
        super().__init__(files)
        if files is None:
            self.files = ModelFiles(temporary_folder(self), secrets.token_hex(8))

    def put(self, name: Name, resource: int | None, model: Any) -> None:
        """Keep what came back from a fit: a checkpoint, a pickle, or word that a file is there.

        Raises
        ------
        StorageError
            If the system refuses.
        """
        if getattr(model, "is_checkpoint", False):
            self.files.file(name, resource).write(lambda file: file.write(model.content))
        elif not isinstance(model, str):
            self._in_memory[name] = model


def digest_of_targets(y: Any) -> str | None:
    """Return a short hash of targets: the same for a list, an array and a frame of equal values.

    Numbers are compared as single precision has them, so that their type does not count. None
    where there are no targets, and for sparse ones.
    """
    if y is None or issparse(y):
        return None
    values = np.asarray(y)
    with np.errstate(over="ignore"):
        values = values.astype(np.float32 if values.dtype.kind in "biuf" else str)
    return digest(np.ascontiguousarray(values.reshape(len(values), -1)))


class KeptPredictions:
    """What the fits of a search predicted for the test parts of its splits.

    Parameters
    ----------
    store : PredictionStore
    kind : PredictionKind
    trials : sequence of int
        Of each row of ``cv_results_``.
    missing : mapping of int to str
        Of rows that are not kept, why.
    test_rows : list of ndarray
    n_samples : int
    n_repeats : int
    targets : str or None, default=None
        What `digest_of_targets` returns for those of the data.

    Attributes
    ----------
    method : {"predict_proba", "decision_function", "predict"}
        What they are.
    classes : ndarray, tuple of ndarray or None
        Labels of a classifier's columns, in order; a tuple where rows have several labels. None
        for other estimators.
    rows : list of int
        Rows of ``cv_results_`` whose predictions are kept, of all splits and repeats.
    test_rows : list of ndarray
        Rows of the data that each split tests.
    n_samples : int
        Rows of the data.
    n_repeats : int
    """

    def __init__(
        self,
        store: PredictionStore,
        kind: PredictionKind,
        trials: Sequence[int],
        missing: Mapping[int, str],
        test_rows: Sequence[NDArray[np.intp]],
        n_samples: int,
        n_repeats: int,
        targets: str | None = None,
    ) -> None:
        self._store = store
        self._targets = targets
        self._trials = trials
        self._missing = missing
        self.method = kind.method
        self.classes = kind.classes
        self.rows = [row for row in range(len(trials)) if row not in missing]
        self.test_rows = list(test_rows)
        self.n_samples = n_samples
        self.n_repeats = n_repeats

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {self.method} of {len(self.rows)} of {len(self._trials)} "
            f"rows, {len(self.test_rows)} splits, {self.n_repeats} repeats>"
        )

    def check_targets(self, y: Any) -> None:
        """Raise ValueError if targets are not, in this order, those that ``fit`` got."""
        if self._targets is not None and digest_of_targets(y) != self._targets:
            raise ValueError(
                "y must be what fit got, in the order of the rows there, but has other values or "
                "another order"
            )

    def of_fit(self, row: int, split: int, repeat: int = 0) -> NDArray[np.floating[Any]]:
        """Return what one fit predicted.

        Parameters
        ----------
        row : int
            Of ``cv_results_``.
        split : int
        repeat : int, default=0

        Returns
        -------
        ndarray of shape (n_test,) or (n_test, n_outputs)
            For the rows ``test_rows[split]``.

        Raises
        ------
        ValueError
            If they are not kept; says why.
        """
        if row in self._missing:
            raise ValueError(f"predictions of row {row} are not kept: {self._missing[row]}")
        if not (0 <= row < len(self._trials)):
            raise ValueError(
                f"row must be one of the {len(self._trials)} rows of cv_results_, but is {row}"
            )
        name = self._trials[row], split, repeat
        found: NDArray[np.floating[Any]] | None = self._store.get(name)
        if found is None:
            raise ValueError(
                f"the predictions of row {row} on split {split} were deleted or damaged after the "
                "search; fit it again with its journal, which makes them again"
            )
        return found

    def out_of_fold(self, row: int) -> NDArray[np.floating[Any]]:
        """Return what the fits of a row predicted for all rows of the data.

        Parameters
        ----------
        row : int
            Of ``cv_results_``.

        Returns
        -------
        ndarray of shape (n_repeats, n_samples) or (n_repeats, n_samples, n_outputs)
            NaN where no split tests a row of the data; the mean where several do.

        Raises
        ------
        ValueError
            If they are not kept; says why.
        """
        total: Any = None
        count = np.zeros(self.n_samples)
        dtype = np.dtype(np.float32)
        for split, tested in enumerate(self.test_rows):
            count[tested] += 1
            for repeat in range(self.n_repeats):
                found = self.of_fit(row, split, repeat)
                if total is None:
                    total = np.zeros((self.n_repeats, self.n_samples, *found.shape[1:]))
                if found.shape[1:] != total.shape[2:]:
                    raise ValueError(
                        f"predictions of all splits must have the same columns, but those of row "
                        f"{row} have the shapes {total.shape[2:]} and {found.shape[1:]}; see what "
                        "of_fit returns"
                    )
                dtype = np.promote_types(dtype, found.dtype)
                total[repeat, tested] += found
        with np.errstate(invalid="ignore"):
            total /= count.reshape(1, -1, *[1] * (total.ndim - 2))
        result: NDArray[np.floating[Any]] = total.astype(dtype)
        return result


class KeptModels:
    """The fitted estimators of a search's best rows, one for each split and repeat.

    Parameters
    ----------
    store : ModelStore
    setting : Setting
        Of the search, without data.
    trials : sequence of Trial
        Of each row of ``cv_results_``.
    missing : mapping of int to str
        Of rows that are not kept, why.
    train_rows : list of ndarray
    n_repeats : int

    Attributes
    ----------
    rows : list of int
        Rows of ``cv_results_`` whose estimators are kept, of all splits and repeats.
    """

    def __init__(
        self,
        store: ModelStore,
        setting: evaluation.Setting,
        trials: Sequence[Trial],
        missing: Mapping[int, str],
        train_rows: Sequence[NDArray[Any]],
        n_repeats: int,
    ) -> None:
        self._store = store
        self._setting = setting
        self._trials = trials
        self._missing = missing
        self._train_rows = train_rows
        self._n_repeats = n_repeats
        self.rows = [row for row in range(len(trials)) if row not in missing]

    def __repr__(self) -> str:
        n_fits = len(self._train_rows) * self._n_repeats
        return f"<{type(self).__name__}: {n_fits} estimators of each of the rows {self.rows}>"

    def check(self, row: int) -> None:
        """Raise ValueError if the estimators of a row are not kept; says why, and what is left."""
        if row in self._missing:
            raise ValueError(
                f"the estimators of row {row} are not kept: {self._missing[row]}; those of rows "
                f"{self.rows} are"
            )

    def need_data(self, row: int) -> bool:
        """Whether the data are needed: what is around a network is fitted again, not the network.

        Parameters
        ----------
        row : int
            Of ``cv_results_``.
        """
        self.check(row)
        trial = self._trials[row]
        content = self._store.get((trial.number, 0, 0))
        is_pickle = isinstance(content, evaluation.Packed)
        return not is_pickle and evaluation.needs_data(self._setting, trial.params)

    def of_row(
        self,
        row: int,
        X: Any = None,
        y: Any = None,
        fit_params: Any = None,
        shared: dict[Any, Any] | None = None,
    ) -> list[Any]:
        """Return the fitted estimators of a row.

        Parameters
        ----------
        row : int
            Of ``cv_results_``.
        X, y : array-like, default=None
            All data, where they are needed.
        fit_params : dict, default=None
            Metadata for ``fit`` of the estimator.
        shared : dict, default=None
            Transformers that were fitted for other rows, with the same data; new ones are added.

        Returns
        -------
        list of estimator
            By split, and then by repeat.
        """
        self.check(row)
        trial = self._trials[row]
        setting = replace(self._setting, fit_params=fit_params or {})
        shared = {} if shared is None else shared
        found = []
        for split, repeat in product(range(len(self._train_rows)), range(self._n_repeats)):
            content = self._store.get((trial.number, split, repeat))
            if content is None:
                raise ValueError(
                    f"the estimator of row {row} on split {split} was deleted or damaged after "
                    f"the search; those of rows {[r for r in self.rows if r != row]} may be there"
                )
            n_train = trial.resource if setting.resource == "n_samples" else None
            task = evaluation.FitTask(
                trial=trial.number,
                candidate=trial.candidate,
                split=split,
                repeat=repeat,
                params=trial.params,
                levels=(trial.resource,),
                n_train=n_train,
            )
            train = self._train_rows[split]
            found.append(evaluation.restored(setting, task, content, X, y, train, shared))
        return found
