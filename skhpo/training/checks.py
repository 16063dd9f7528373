"""Checks on rows held out while a network is trained, and the best weights kept."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import torch

from .batches import RowBatches
from .randomness import Stream

__all__ = ["Checks", "copy_weights", "fresh_counters", "set_weights"]

# Checks over which trend and spread are taken where there is no patience.
_RECENT = 5


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
    scorer : callable or None, default=None
        From net, `valid` and `y` to what is monitored; None is the loss.

    Attributes
    ----------
    best_weights : dict or None
        Copies of the state dicts at the best check so far.
    """

    def __init__(self, net, valid, y, scorer=None):
        self.net = net
        self.valid = valid
        self.y = y
        self.name = net.monitor if net.monitor == "valid_loss" else f"valid_{net.monitor}"
        self.scorer = scorer
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
