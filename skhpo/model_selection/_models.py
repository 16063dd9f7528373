"""Fitted estimators that a search keeps: where they lie, and how they are made again."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from .. import evaluation
from ..journal import ModelFiles
from ._predictions import Name, temporary_folder

if TYPE_CHECKING:
    from ..trial import Trial

__all__ = ["KeptModels", "ModelStore"]


class ModelStore:
    """Fitted estimators of fits: networks as checkpoint files, others as pickles in memory.

    Parameters
    ----------
    files : ModelFiles or None
        Beside a journal; None for temporary ones.
    """

    def __init__(self, files: ModelFiles | None) -> None:
        self._beside_journal = files is not None
        self.files: ModelFiles | None = files
        if files is None:
            self.files = ModelFiles(temporary_folder(self), secrets.token_hex(8))
        self._in_memory: dict[Name, Any] = {}  # pickles; checkpoints that a pickle brought

    def put(self, name: Name, resource: int | None, model: Any) -> None:
        """Keep what came back from a fit: a checkpoint, a pickle, or word that a file is there.

        Raises
        ------
        StorageError
            If the system refuses.
        """
        if getattr(model, "is_checkpoint", False):
            assert self.files is not None
            self.files.file(name, resource).write(lambda file: file.write(model.content))
        elif not isinstance(model, str):
            self._in_memory[name] = model

    def get(self, name: Name) -> Any:
        """Return what is kept of a fit, None where it is missing or damaged."""
        if name in self._in_memory:
            return self._in_memory[name]
        return None if self.files is None else self.files.content(name)

    def has_file(self, name: Name) -> bool:
        """Whether there was a file of a fit when this was asked first."""
        return self.files is not None and self.files.has(name)

    def drop(self, name: Name) -> None:
        """Drop what is kept of a fit, if there is something."""
        if self._in_memory.pop(name, None) is None and self.files is not None:
            self.files.drop(name)

    def sweep(self, kept: Collection[Name]) -> None:
        """Drop all but those of some fits."""
        for name in [name for name in self._in_memory if name not in kept]:
            del self._in_memory[name]
        if self.files is not None:
            self.files.sweep(kept)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a pickle: all estimators in memory and in temporary files."""
        state = self.__dict__.copy()
        if not self._beside_journal and self.files is not None:
            held = {name: bytes(self.files.content(name) or b"") for name in self.files.names()}
            state["_in_memory"] = {**self._in_memory, **held}
            state["files"] = None
        return state


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
