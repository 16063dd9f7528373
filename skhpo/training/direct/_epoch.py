"""Epochs of direct steps."""

from __future__ import annotations

import logging

import numpy as np
import torch

from ...limits import check_time
from ..engine import EpochReport
from ._program import compile_program

__all__ = ["DirectRunner", "DirectSteps"]

_log = logging.getLogger(__name__)


class DirectSteps:
    """Trains a module without autograd for as long as it is made of layers that are known.

    Parameters
    ----------
    describe : callable
        Returns the arguments of `compile_program`, or as a string why there is no program. A
        program holds as long as it returns the same.

    Attributes
    ----------
    program : Program or None
        What trains, after `can_train`.
    """

    def __init__(self, describe):
        self._describe = describe
        self.program = self._described = None
        self._is_known = True

    def can_train(self):
        """Tell whether the module as it is now can be trained so. Logged where that changes."""
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

    def train(self, batches, after_batch=None):
        """Train for an epoch.

        Parameters
        ----------
        batches : iterable of (X, y, weight)
            Each a tensor; `weight` may be None.
        after_batch : callable or None, default=None

        Returns
        -------
        losses : list of float
            Of the batches.
        sizes : list of int
            Rows of the batches.
        """
        losses = []
        step = self.program.step
        # Cheaper than without gradients alone: nothing that is made here can meet autograd.
        with torch.inference_mode():
            self.program.begin()
            try:
                for X, y, weight in batches:
                    check_time()
                    rows = step(X, y, weight)
                    losses.append(rows if weight is None else rows * weight)
                    if after_batch is not None:
                        with torch.inference_mode(False):
                            after_batch()
            finally:
                self.program.finish()
        # One transfer for an epoch: asking each batch for its loss would wait for the device.
        sizes = [rows.size(0) for rows in losses]
        values = torch.cat(losses).double().numpy(force=True)
        starts = np.cumsum([0, *sizes[:-1]])
        return (np.add.reduceat(values, starts) / sizes).tolist(), sizes


class DirectRunner:
    """Trains one network by direct steps in the epochs in which all of its layers have rules.

    Parameters
    ----------
    steps : DirectSteps
    otherwise : EpochRunner
        Trains the other epochs.
    """

    def __init__(self, steps, otherwise):
        self.steps = steps
        self.otherwise = otherwise

    def run(self, networks):
        """Train one network for an epoch."""
        (network,) = networks
        network.state.set_training(True)
        if not self.steps.can_train():
            return self.otherwise.run(networks)
        after_batch = network.after_batch if network.each_batch else None
        return [EpochReport(*self.steps.train(network.batches.triples(), after_batch))]

    def release(self, network):
        """Do nothing: the state was trained itself."""
