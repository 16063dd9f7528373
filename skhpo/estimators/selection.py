"""Held-out data on which the network is checked during training."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import numpy as np
import scipy.sparse
import torch
from sklearn.metrics import get_scorer

from ..rows import RowSubset
from ..training.batches import RowBatches
from ..training.checks import Checks
from ..training.data import as_dict
from ..training.holdout import holdout_rows
from ..training.randomness import Stream

__all__ = ["Measure", "checks_of", "hold_out"]


def hold_out(net, X, y, weight):
    """Split data with encoded targets into a training part, and the `Checks` on the rest.

    Raises ValueError if `X` has no rows of numbers, or nothing could be held out.
    """
    if not all(_has_numbers(column) for column in as_dict(X).values()):
        raise ValueError(
            f"validation_fraction={net.validation_fraction} needs X as an array of numbers, but X "
            f"is a {type(X).__name__}; use train_split for it"
        )
    seed = net._seed_of("validation")
    train, valid = holdout_rows(X, net._strata(y), net.validation_fraction, seed)
    known = net._decode(y[valid])
    if net._slices_batches() and net._slices_batches(training=False):
        rows = net._as_dataset(X, y, weight, training=True)
        valid_rows = rows.subset(valid) if rows.resident else rows.view(valid)
        return rows.view(train), checks_of(net, valid_rows, known)

    def part(rows, *, training):
        some = {k: v[rows] for k, v in X.items()} if isinstance(X, Mapping) else X[rows]
        of_rows = None if weight is None else weight[rows]
        return net._as_dataset(some, y[rows], of_rows, training=training)

    return part(train, training=True), checks_of(net, part(valid, training=False), known)


def _has_numbers(column):
    if scipy.sparse.issparse(column):
        return True
    return isinstance(column, np.ndarray | RowSubset) and column.dtype.kind in "biuf"


def checks_of(net, valid, y, *, min_epochs=None):
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
    draw random numbers.
    """

    def __init__(self, net, valid, y, scorer):
        self.net = net
        self.valid = valid
        self.y = y
        self.scorer = scorer
        self.may_draw = True

    def __call__(self):
        """Return the current value."""
        return self._loss() if self.scorer is None else self._score()

    def _score(self):
        net, encoded = self.net, self.net._labels_are_encoded
        net._labels_are_encoded = False
        try:
            with self._drawing():
                return float(self.scorer(net, self.valid, self.y))
        finally:
            net._labels_are_encoded = encoded

    def _loss(self):
        net = self.net
        net._set_training(False)
        weighted = getattr(self.valid, "weight", None) is not None
        losses, sizes = [], []
        batches = net._batches(self.valid, training=False)
        forward = net._forward_of_training() if isinstance(batches, RowBatches) else net.infer
        with torch.no_grad(), self._drawing():
            for X, y, weight in batches.triples():
                net._batch_weight = weight
                losses.append(net.get_loss(forward(X), y, X=X, training=weighted))
                sizes.append(len(y))
        net._batch_weight = None
        mean = np.average(torch.stack(losses).tolist(), weights=sizes)
        return float(mean / self.valid.weight.mean()) if weighted else float(mean)

    def _drawing(self):
        if not self.may_draw:
            return contextlib.nullcontext()
        # A new stream for each check: checks must not shift the streams of training.
        return self.net._drawing_from(Stream(self.net.seed_, "check"))
