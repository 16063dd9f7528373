"""Epochs of direct steps."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ...limits import check_time
from ..engine import EpochReport, EpochRunner
from ._program import compile_program

__all__ = ["DirectRunner", "DirectSteps"]

_log = logging.getLogger(__name__)


class DirectSteps:
    """Trains a module without autograd as long as all of its layers have rules.

    Parameters
    ----------
    describe : callable
        Returns the arguments of `compile_program`, or a string with the reason why there is no
        program. A program is used as long as the result is the same.

    Attributes
    ----------
    program : Program or None
        Set by `can_train`.
    """

    def __init__(self, describe: Any) -> None:
        self._describe = describe
        self.program: Any = None
        self._described: Any = None
        self._is_known = True

    def can_train(self) -> Any:
        """Whether there is a program for the current module; changes are logged."""
        if not self._is_known:
            return False
        described = self._describe()
        is_same = self.program is not None and described == self._described
        if not is_same or not self.program.holds():
            self._described = described
            if isinstance(described, str):
                self.program, reason = None, described
            else:
                self.program, reason = compile_program(**described)
            self._is_known = self.program is not None
            if self._is_known:
                _log.debug("steps without autograd: all layers have rules")
            else:
                _log.debug("steps by autograd: %s", reason)
        return self._is_known

    def give_up(self) -> None:
        """Have no program from now on."""
        self.program, self._is_known = None, False

    def train(self, batches: Any, after_batch: Any = None) -> Any:
        """Train for an epoch of batches (X, y, weight or None); return their losses and sizes."""
        losses = []
        step = self.program.step
        # Cheaper than torch.no_grad: no tensor made here is used by autograd.
        with torch.inference_mode():
            self.program.begin()
            try:
                for X, y, weight in batches:
                    check_time()
                    rows = step(X, y, weight)
                    losses.append(rows if weight is None else rows * weight)
                    if after_batch is not None and not self.program.n_waiting:
                        with torch.inference_mode(False):
                            after_batch()
                if self.program.n_waiting:
                    self.program.complete_step()
                    if after_batch is not None:
                        with torch.inference_mode(False):
                            after_batch()
            finally:
                self.program.finish()
        if not losses:
            return [], []
        # One transfer per epoch: reading the loss of each batch would wait for the device.
        sizes = [rows.size(0) for rows in losses]
        values = torch.cat(losses).double().numpy(force=True)
        starts = np.cumsum([0, *sizes[:-1]])
        return (np.add.reduceat(values, starts) / sizes).tolist(), sizes


class DirectRunner(EpochRunner):
    """Trains one network by direct steps; another runner trains epochs for which they cannot."""

    def __init__(self, steps: Any, otherwise: Any) -> None:
        self.steps = steps
        self.otherwise = otherwise

    def run(self, networks: Any) -> Any:
        """Train one network for an epoch."""
        (network,) = networks
        network.state.set_training(True)
        if not self.steps.can_train():
            return self.otherwise.run(networks)
        after_batch = network.after_batch if network.each_batch else None
        batches = _Alike(network.batches, self.steps.program.accumulate)
        losses, sizes = self.steps.train(batches, after_batch)
        if batches.others is not None:
            _log.debug("steps by autograd: batches have several shapes or types")
            self.steps.give_up()
            more = self.otherwise.train(network, batches.others)
            losses, sizes = losses + more[0], sizes + more[1]
        return [EpochReport(losses, sizes)]


class _Alike:
    """The batches of an epoch up to the first that is not what is known of their rows.

    Those of items of a dataset, and what transforms return, may have several shapes or types.
    `others` are then the others, from the first of its step of `accumulate` batches on.
    """

    def __init__(self, batches: Any, accumulate: int) -> None:
        self.batches = batches
        self.accumulate = accumulate
        self.others: Any = None

    def __iter__(self) -> Iterator[Any]:
        triples = self.batches.triples()
        if not self.batches.rows.are_items and self.batches.change is None:
            yield from triples
            return
        (shape, dtype), (target_shape, target_dtype) = self.batches.formats
        triples = _as_autograd_needs(triples)
        of_a_step: list[Any] = []
        for batch in triples:
            X, y, _ = batch
            alike = X.shape[1:] == shape and X.dtype == dtype
            if not (alike and y.shape[1:] == target_shape and y.dtype == target_dtype):
                self.others = itertools.chain(of_a_step, [batch], triples)
                return
            of_a_step.append(batch)
            if len(of_a_step) == self.accumulate:
                yield from map(_contiguous, of_a_step)
                of_a_step = []
        yield from map(_contiguous, of_a_step)


def _contiguous(batch: Any) -> Any:
    X, *rest = batch
    return X.contiguous(), *rest


def _as_autograd_needs(batches: Any) -> Iterator[Any]:
    """Yield batches that autograd can use, and that a transform can change or keep."""
    while True:
        with torch.inference_mode(False):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch
