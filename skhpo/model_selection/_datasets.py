"""Torch datasets as X of a search: who takes them, and their targets."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from ..rows import DatasetRows, Inputs
from ..searchable import search_tags
from ..wrappers import inside

__all__ = ["check_takes_datasets", "read_targets"]

_log = logging.getLogger(__name__)

# Seconds between two reports of the number of targets that were read.
_EVERY = 2.0


def check_takes_datasets(estimator: Any, X: DatasetRows) -> None:
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


def read_targets(estimator: Any, X: DatasetRows, verbose: int) -> Any:
    """Return the target of each item of a dataset; TypeError if there are none."""
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
