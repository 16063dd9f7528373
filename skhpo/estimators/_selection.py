"""Model selection within a fit: rows held out, checks on them, the best weights kept."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Mapping

import numpy as np
import scipy.sparse
import torch
from sklearn.metrics import get_scorer

from ..rows import RowSubset
from ._data import RowBatches, as_dict, n_rows
from ._randomness import Stream, stream_seed

__all__ = ["Checks", "copy_weights", "fresh_counters", "hold_out", "holdout_rows", "set_weights"]

# Checks over which trend and spread are taken where there is no patience.
_RECENT = 5


def holdout_rows(X, strata, fraction, seed):
    """Choose the rows on which a fit checks itself.

    A row is chosen by a keyed hash of its content, so that rows with the same content end on the
    same side, and the choice depends neither on the order of the rows nor on a generator.

    Parameters
    ----------
    X : ndarray, CSR matrix or dict of ndarray
    strata : ndarray of shape (n_samples,)
        Classes, each of which is split in the same proportion; their last distinct row is never
        held out.
    fraction : float
    seed : int

    Returns
    -------
    train, valid : ndarray of int64
        Sorted.

    Raises
    ------
    ValueError
        If nothing could be held out.
    """
    digests = _digest_rows(X, stream_seed(seed, "validation").to_bytes(8, "little"))
    groups, first, members, sizes = np.unique(
        digests, return_index=True, return_inverse=True, return_counts=True
    )
    # Groups are sorted by their digests, that is at random. Each gets its relative place among
    # those of its stratum; the smallest places of all strata are held out.
    places = np.empty(len(groups))
    of_stratum = strata[first]
    for number, stratum in enumerate(np.unique(of_stratum)):
        mine = np.flatnonzero(of_stratum == stratum)
        offset = stream_seed(seed, "validation", str(number)) / 2**63
        places[mine] = (np.arange(len(mine)) + offset) / len(mine)
        places[mine[-1]] = np.inf
    order = np.argsort(places, kind="stable")
    order = order[np.isfinite(places[order])]
    wanted = max(1, round(fraction * len(strata)))
    n_groups = np.searchsorted(np.cumsum(sizes[order]), wanted, side="right")
    chosen = np.zeros(len(groups), dtype=bool)
    chosen[order[: max(1, n_groups)]] = True
    held_out = chosen[members]
    if not held_out.any():
        raise ValueError(
            f"validation_fraction={fraction} needs at least two distinct rows of a class, "
            f"but n_samples={len(strata)}, {len(groups)} of them distinct"
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _digest_rows(X, key):
    n = n_rows(X)
    digests = np.empty(n, dtype=np.uint64)
    columns = list(as_dict(X).values())
    for i in range(n):
        digest = hashlib.blake2b(key=key, digest_size=8)
        for column in columns:
            for part in _content(column, i):
                digest.update(np.ascontiguousarray(part))
        digests[i] = int.from_bytes(digest.digest(), "little")
    return digests


def _content(column, i):
    if scipy.sparse.issparse(column):
        part = slice(column.indptr[i], column.indptr[i + 1])
        return column.indices[part].astype(np.int64), column.data[part]
    return (column[i],)


def hold_out(net, X, y, weight):
    """Split training data into what a net trains on and its checks on the rest.

    Parameters
    ----------
    net : estimator
        Initialized.
    X : ndarray, CSR matrix, dict of ndarray, container as given, or torch Dataset
    y : ndarray
        Encoded targets.
    weight : ndarray of shape (n_samples,) or None

    Returns
    -------
    dataset : Rows or Dataset
    checks : Checks

    Raises
    ------
    ValueError
        If `X` has no rows of numbers, or nothing could be held out.
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
        return rows.view(train), Checks(net, valid_rows, known)

    def part(rows, *, training):
        some = {k: v[rows] for k, v in X.items()} if isinstance(X, Mapping) else X[rows]
        of_rows = None if weight is None else weight[rows]
        return net._as_dataset(some, y[rows], of_rows, training=training)

    return part(train, training=True), Checks(net, part(valid, training=False), known)


def _has_numbers(column):
    if scipy.sparse.issparse(column):
        return True
    return isinstance(column, np.ndarray | RowSubset) and column.dtype.kind in "biuf"


def fresh_counters():
    """Return the counters of a fit that has not begun: plain numbers."""
    counts = dict.fromkeys(("n_batches", "n_checks", "best_check", "best_epoch"), 0)
    return {**counts, "best": None, "last": None, "recent": [], "stopped": False}


class Checks:
    """Scores a network on held-out rows while it is trained.

    Parameters
    ----------
    net : estimator
        Its `_counters` are advanced.
    valid : Rows or Dataset
        With encoded targets.
    y : ndarray
        Their targets as the user knows them, for scorers.

    Attributes
    ----------
    best_weights : dict or None
        Copies of the state dicts at the best check so far.
    """

    def __init__(self, net, valid, y):
        self.net = net
        self.valid = valid
        self.y = y
        self.name = net.monitor if net.monitor == "valid_loss" else f"valid_{net.monitor}"
        self.scorer = None if net.monitor == "valid_loss" else get_scorer(net.monitor)
        self.best_weights = None
        self.may_draw = True
        self.values = []
        self.improved = False

    def begin_epoch(self):
        """Forget the checks of the epoch before."""
        self.values, self.improved = [], False

    def after_batch(self, n_batches):
        """Check, if it is time for it."""
        every = self.net.check_every
        if every is not None and n_batches % every == 0:
            self.check()
            self.net._set_training(True)

    def end_epoch(self):
        """Check, if epochs are what checks go by; write the history; see whether to stop."""
        net, counters = self.net, self.net._counters
        if net.check_every is None:
            self.check()
        if self.values:
            window = counters["recent"]
            net.history.record(self.name, self.values[-1])
            net.history.record(f"{self.name}_best", self.improved)
            net.history.record(f"{self.name}_trend", _slope(window))
            net.history.record(f"{self.name}_spread", float(np.std(window)))
        net.history.record("checks", list(self.values))
        waited = counters["n_checks"] - counters["best_check"]
        enough = net.patience is not None and waited >= net.patience
        counters["stopped"] = bool(enough and net.n_iter_ + 1 >= net.min_epochs)

    def check(self):
        """Score the network as it is now."""
        net, counters = self.net, self.net._counters
        value = self._valid_loss() if self.scorer is None else self._score()
        better = counters["best"] is None or (
            value < counters["best"] if self.scorer is None else value > counters["best"]
        )
        counters["n_checks"] += 1
        counters["last"] = value
        length = max(net.patience or _RECENT, 2)
        counters["recent"] = [*counters["recent"], value][-length:]
        self.values.append(value)
        if better and math.isfinite(value):
            counters |= {
                "best": value,
                "best_check": counters["n_checks"],
                "best_epoch": net.n_iter_ + 1,
            }
            self.improved = True
            self.best_weights = copy_weights(net)

    def _score(self):
        net, encoded = self.net, self.net._labels_are_encoded
        net._labels_are_encoded = False
        try:
            with self._drawing():
                return float(self.scorer(net, self.valid, self.y))
        finally:
            net._labels_are_encoded = encoded

    def _valid_loss(self):
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
        # A stream of its own, which starts anew: checks must not shift the training's.
        return self.net._drawing_from(Stream(self.net.seed_, "check"))


def copy_weights(net):
    """Return copies of the state dicts of the modules and the criteria."""
    states = {}
    for name in (*net._modules, *net._criteria):
        part = getattr(net, name + "_")
        if isinstance(part, torch.nn.Module):
            states[name] = {k: _copy(v) for k, v in part.state_dict().items()}
    return states


def set_weights(net, states):
    """Put copied state dicts back."""
    for name, state in states.items():
        getattr(net, name + "_").load_state_dict(state)


def _copy(value):
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _slope(values):
    """Return the slope of the least-squares line, per check; 0 for a single check."""
    if len(values) < 2 or not np.isfinite(values).all():
        return 0.0
    places = np.arange(len(values)) - (len(values) - 1) / 2
    return float(places @ np.asarray(values) / (places @ places))
