"""The data of a search as rows and targets; the targets of a dataset are read once."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils import indexable

from .._compat import num_samples
from ..datasets import DatasetRows
from ..rows import Inputs, with_rows
from ..searchable import search_tags
from ..wrappers import inside

__all__ = ["check_lengths", "rows_and_targets"]

_log = logging.getLogger(__name__)

# Seconds between two reports of the number of targets that were read.
_EVERY = 2.0


def rows_and_targets(estimator: Any, X: Any, y: Any = None, verbose: int = 0) -> tuple[Any, Any]:
    """Return data that can be split by rows, and a target for each row.

    Parameters
    ----------
    estimator : estimator
        Of the search.
    X, y : object
        What ``fit`` got.
    verbose : int, default=0
        Whether to tell how many targets of a dataset were read.

    Raises
    ------
    TypeError
        If the rows cannot be told apart, or a dataset has no targets.
    ValueError
        If there are more or fewer targets than rows.
    """
    y = Inputs(y) if isinstance(y, Mapping) and not hasattr(y, "shape") else y
    X = with_rows(X, y)
    if isinstance(X, DatasetRows):
        _check_takes_datasets(estimator, X)
        if y is None:
            y = _read(estimator, X, verbose)
        elif num_samples(y) != len(X):
            raise ValueError(
                f"y must have a target for each of the {len(X)} items of the Dataset X, but has "
                f"{num_samples(y)}; leave y out where the Dataset yields pairs (X, y)"
            )
    X, y = indexable(X, y)
    return X, y


def _check_takes_datasets(estimator: Any, X: DatasetRows) -> None:
    """Raise TypeError if the first step that gets X takes arrays only."""
    found = inside(estimator)
    name = type(X.dataset).__name__
    if found.transforms_X:
        raise TypeError(
            f"transformers of a pipeline take arrays, but X is a torch Dataset ({name}); transform "
            "items where the Dataset makes them, or give X and y as arrays"
        )
    own = type(found.estimator)
    if own.__module__.partition(".")[0] == "sklearn":
        raise TypeError(
            f"an estimator must take what X is, but {own.__name__} takes arrays and X is a torch "
            f"Dataset ({name}); use a TorchClassifier or TorchRegressor, or give X and y as arrays"
        )


def _read(estimator: Any, X: DatasetRows, verbose: int) -> Any:
    from ..training.items import targets_of

    read = search_tags(inside(estimator).estimator).dataset_targets
    report = _Reading(len(X), verbose > 0)
    y = (read or targets_of)(X.dataset, report)
    report.finish()
    y = Inputs(y) if isinstance(y, Mapping) else y
    if y is None:
        raise TypeError(
            "a search needs a target for each row, y or a torch Dataset of pairs (X, y), but y is "
            f"None and X is a {type(X.dataset).__name__} whose items are no pairs; give y"
        )
    if len(y) != len(X):
        raise ValueError(
            f"a Dataset must yield a target for each of its {len(X)} items, but {len(y)} were "
            "read; what collates its items must not drop any"
        )
    return y


class _Reading:
    """Reports the number of targets that were read, on stderr or in the log."""

    def __init__(self, n: int, printed: bool) -> None:
        self.n = n
        self.printed = printed
        self.n_read = 0
        self._start = self._told = time.monotonic()

    def __call__(self, n_read: int) -> None:
        self.n_read = n_read
        if time.monotonic() - self._told > _EVERY:
            self._told = time.monotonic()
            self._tell(f"read {n_read} of {self.n} targets of the dataset")

    def finish(self) -> None:
        seconds = time.monotonic() - self._start
        if self.n_read and seconds > _EVERY:
            self._tell(
                f"read {self.n_read} targets of the dataset in {seconds:.0f} s; pass them as y, or "
                "store them in an attribute `targets`, and they need not be read"
            )

    def _tell(self, line: str) -> None:
        if self.printed:
            print(line, file=sys.stderr, flush=True)
        else:
            _log.info(line)


def check_lengths(X: Any, params: Mapping[str, Any]) -> None:
    """Raise ValueError if the groups are not those of the rows.

    Parameters
    ----------
    X : array-like
    params : dict
        Metadata of ``fit``.
    """
    groups = params.get("groups")
    if groups is not None and np.ndim(groups) > 0 and num_samples(groups) != num_samples(X):
        raise ValueError(
            f"groups must have an entry for each of the {num_samples(X)} rows of X, but has "
            f"{num_samples(groups)}; inconsistent numbers of samples cannot be split"
        )
