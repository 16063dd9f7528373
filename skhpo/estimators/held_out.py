"""Rows that a network is checked on while it trains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.metrics import get_scorer
from torch.utils.data import Subset

from ..rows import Inputs, RowSubset, is_row_numbers, take_rows
from ..training.batches import RowBatches
from ..training.data import as_dict
from ..training.engine import Checks
from ..training.forwarding import row_count
from ..training.holdout import holdout_rows
from ..training.items import EncodedTargets, ItemRows
from ..training.randomness import Stream
from ..training.schedule import needs_monitor
from .feeding import batches_of, drawing_from, encode_as_trained, rows_of
from .settings import reads_as_given, slices_batches
from .validation import check_dataset, checked_inputs

__all__ = ["ARGUMENTS", "Measure", "check_sources", "checks_of", "hold_out", "one_argument"]

# Arguments of ``fit`` with rows to check on.
ARGUMENTS = ("validation_data", "X_val", "y_val")


def one_argument(validation_data: Any = None, X_val: Any = None, y_val: Any = None) -> Any:
    """Return the rows to check on that ``fit`` got: a pair, a `Dataset` or row numbers; or None.

    Raises ValueError for other types, and if it got several.
    """
    if X_val is None and y_val is None:
        if validation_data is not None:
            _check_type(validation_data)
        return validation_data
    if validation_data is not None:
        raise ValueError(
            "rows to check on must come from one source, but fit got validation_data and "
            f"{'y_val' if X_val is None else 'X_val'}; leave one of them out"
        )
    if X_val is None or y_val is None:
        given, missing = ("y_val", "X_val") if X_val is None else ("X_val", "y_val")
        raise ValueError(f"{given} needs {missing}, which fit did not get; pass both, or none")
    return X_val, y_val


def _check_type(given: object) -> None:
    is_pair = isinstance(given, tuple | list) and len(given) == 2
    is_dataset = isinstance(given, torch.utils.data.Dataset)
    if not (is_pair or is_dataset or is_row_numbers(given)):
        shape = getattr(given, "shape", None)
        found = type(given).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")
        raise ValueError(
            "validation_data must be a pair (X, y), a torch Dataset, or the numbers or a mask of "
            f"rows of X, but got {found}"
        )


def check_sources(net: Any, given: object) -> None:
    """Raise ValueError for two sources of rows to check on, and for settings that need one.

    `given` is what ``fit`` got, or None.
    """
    if given is not None:
        for name in ("validation_fraction", "train_split"):
            if getattr(net, name):
                raise ValueError(
                    "rows to check on must come from one source, but fit got validation_data and "
                    f"{name}={getattr(net, name)!r} holds rows out; set {name}=None, or leave "
                    "validation_data out"
                )
        return
    if net.validation_fraction is not None:
        return
    for name in ("patience", "check_every"):
        if getattr(net, name) is not None:
            raise ValueError(
                f"{name}={getattr(net, name)} needs rows to check on, but "
                "validation_fraction=None; set it, such as to 0.1, or pass validation_data to fit"
            )
    if net.lr_scheduler is not None and needs_monitor(net.lr_scheduler):
        raise ValueError(
            f"lr_scheduler={net.lr_scheduler!r} waits for the monitored value to stall, but "
            "validation_fraction=None; set it, such as to 0.1, pass validation_data to fit, or "
            "choose another schedule"
        )


def hold_out(
    net: Any, X: Any, y: Any, weight: NDArray[Any] | None, given: Any = None
) -> tuple[Any, Checks]:
    """Return the training part of data with encoded targets, and the `Checks` on other rows.

    These are what ``fit`` was given, a pair, a dataset or a mask of the rows, else a part of the
    rows. Raises ValueError if nothing could be held out.
    """
    if isinstance(given, np.ndarray):
        return _parted(net, X, y, weight, np.flatnonzero(~given), np.flatnonzero(given))
    if given is not None:
        net._targets = net._targets.with_scaling(y, weight)
        return rows_of(net, X, y, weight, training=True), _checks_on(net, given)
    if isinstance(X, torch.utils.data.IterableDataset):
        raise ValueError(
            f"validation_fraction={net.validation_fraction} needs rows that are read by number, "
            f"but X is a {type(X).__name__}, an IterableDataset; pass validation_data to fit"
        )
    seed = net._seed_of("validation")
    strata = np.zeros(len(X)) if y is None else net._targets.strata(y)
    content = X
    if not all(_has_numbers(column) for column in as_dict(X).values()):
        content = np.arange(len(strata))[:, None]  # rows of any kind are chosen by number
    parts = holdout_rows(content, strata, net.validation_fraction, seed)
    return _parted(net, X, y, weight, *parts)


def _parted(
    net: Any,
    X: Any,
    y: Any,
    weight: NDArray[Any] | None,
    train: Any,
    valid: Any,
) -> tuple[Any, Checks]:
    known = None if y is None else net._targets.decode(y[valid])
    if y is not None:
        weight_of_train = None if weight is None else weight[train]
        net._targets = net._targets.with_scaling(y[train], weight_of_train)
    if isinstance(X, torch.utils.data.Dataset):
        X = rows_of(net, X, y, weight, training=True)
        if isinstance(X, ItemRows):
            checked = X.view(valid)
            return X.view(train), checks_of(net, checked, _labels(net, checked.given, known))
        checked = Subset(X, valid)
        return Subset(X, train), checks_of(net, checked, _labels(net, checked, known))
    if slices_batches(net) and slices_batches(net, training=False) and not reads_as_given(net, X):
        rows = rows_of(net, X, y, weight, training=True)
        valid_rows = rows.subset(valid) if rows.resident else rows.view(valid)
        return rows.view(train), checks_of(net, valid_rows, known)

    def part(rows: NDArray[np.intp], *, training: bool) -> Any:
        if isinstance(X, Mapping):
            some = {k: take_rows(v, rows) for k, v in X.items()}
        else:
            some = take_rows(X, rows)
        of_rows = None if weight is None else weight[rows]
        return rows_of(net, some, y[rows], of_rows, training=training)

    return part(train, training=True), checks_of(net, part(valid, training=False), known)


def _checks_on(net: Any, given: Any) -> Checks:
    """Return the checks on a pair or a dataset that ``fit`` was given."""
    X, y = given if isinstance(given, tuple | list) else (given, None)
    y = Inputs(y) if isinstance(y, Mapping) else y
    is_dataset = isinstance(X, torch.utils.data.Dataset)
    if not (is_dataset or net._targets_are_encoded):
        raise ValueError(
            "validation_data must be a Dataset or numbers of rows where X is a Dataset, but is a "
            f"pair with a {type(X).__name__}; make it skorch.dataset.Dataset(X, y)"
        )
    try:
        if is_dataset:
            return _checks_on_dataset(net, X, y)
        X, y = checked_inputs(net, X, y, reset=False, needs_y=True)
        y = net._check_targets(y, None, False)
    except ValueError as error:
        raise ValueError(f"validation_data must be like X and y, but: {error}") from error
    return checks_of(net, rows_of(net, X, y, training=False), net._targets.decode(y))


def _checks_on_dataset(net: Any, X: Any, y: Any) -> Checks:
    of_training = net._class_weight_of_loader
    X, y = check_dataset(net, X, y, None, False)
    net._class_weight_of_loader = of_training
    known = _labels(net, X, None if y is None else net._targets.decode(y))
    if net._targets_are_encoded:
        X = EncodedTargets(X, partial(encode_as_trained, net))
    return checks_of(net, X, known)


def _labels(net: Any, dataset: Any, known: Any) -> Any:
    """Return the targets of a dataset as a scorer needs them; None where the loss is monitored."""
    if known is not None or net.monitor == "valid_loss":
        return known
    return net._labels_of_dataset(dataset)


def _has_numbers(column: object) -> bool:
    if scipy.sparse.issparse(column):
        return True
    return isinstance(column, np.ndarray | RowSubset) and column.dtype.kind in "biuf"


def checks_of(net: Any, valid: Any, y: Any, *, min_epochs: int | None = None) -> Checks:
    """Return the checks of a net on held-out rows by its `monitor`.

    `valid` has encoded targets, `y` those of the user; `min_epochs` replaces that of the net.
    """
    is_loss = net.monitor == "valid_loss"
    return Checks(
        net._state,
        Measure(net, valid, y, None if is_loss else get_scorer(net.monitor)),
        net.monitor if is_loss else f"valid_{net.monitor}",
        lower_is_better=is_loss,
        every=net.check_every,
        patience=net.patience,
        min_epochs=net.min_epochs if min_epochs is None else min_epochs,
    )


class Measure:
    """The monitored value of a net on held-out rows: of a scorer, or the loss if that is None.

    `valid` has encoded targets, `y` those of the user. `may_draw` tells whether a forward pass may
    draw random numbers; within a context of `compared` losses of all epochs are comparable.
    """

    def __init__(self, net: Any, valid: Any, y: Any, scorer: Callable[..., float] | None) -> None:
        self.net = net
        self.valid = valid
        self.y = y
        self.scorer = scorer
        self.may_draw = True
        self.compared: Callable[[], contextlib.AbstractContextManager[Any]]
        self.compared = contextlib.nullcontext

    def __call__(self) -> float:
        """Return the current value."""
        return self._loss() if self.scorer is None else self._score(self.scorer)

    def _score(self, scorer: Callable[..., float]) -> float:
        net, encoded = self.net, self.net._labels_are_encoded
        net._labels_are_encoded = False
        try:
            with self._drawing():
                return float(scorer(net, self.valid, self.y))
        finally:
            net._labels_are_encoded = encoded

    def _loss(self) -> float:
        net = self.net
        net._set_training(False)
        weighted = getattr(self.valid, "weight", None) is not None
        losses, sizes = [], []
        batches = batches_of(net, self.valid, training=False)
        forward = net._forward_in_training if isinstance(batches, RowBatches) else net.infer
        with torch.no_grad(), self._drawing(), self.compared():
            for X, y, weight in batches.triples():
                net._batch_weight = weight
                losses.append(net.get_loss(forward(X), y, X=X, training=weighted))
                sizes.append(row_count(y))
        net._batch_weight = None
        mean = np.average(torch.stack(losses).tolist(), weights=sizes)
        return float(mean / self.valid.weights.mean()) if weighted else float(mean)

    def _drawing(self) -> contextlib.AbstractContextManager[Any]:
        if not self.may_draw:
            return contextlib.nullcontext()
        # A new stream for each check: checks must not shift the streams of training.
        return drawing_from(self.net, Stream(self.net.seed_, "check"))
