"""The loss of each row of several networks at once."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..estimators.fitting import is_of_probabilities
from ..training.direct import LOSSES
from ._errors import LockstepError

__all__ = ["RowLosses"]

_BINARY = (nn.BCELoss, nn.BCEWithLogitsLoss)


class RowLosses:
    """The losses of single rows, whose mean is ``get_loss``."""

    def __init__(self, nets):
        self.criterion = criterion = nets[0].criterion_
        if type(criterion) not in LOSSES:
            raise LockstepError(f"{type(criterion).__name__} has no form that is row by row")
        if criterion.reduction != "mean":
            raise LockstepError(f"the criterion's reduction is {criterion.reduction!r}")
        if list(criterion.buffers()):
            raise LockstepError("the criterion has weights of its own")
        if getattr(criterion, "ignore_index", -1) >= 0:
            raise LockstepError("the criterion ignores a class")
        self.settings = {}
        if is_of_probabilities(nets[0]):
            self.settings["of_probabilities"] = True
        values = next(nets[0].module_.parameters())
        self.dtype, self.device = values.dtype, values.device
        self.smoothing = [getattr(net.criterion_, "label_smoothing", 0.0) for net in nets]

    def keep(self, rows):
        """Drop all other nets."""
        self.smoothing = [self.smoothing[row] for row in rows]

    def criterion_of(self, start, stop):
        """Return the criterion of some networks, with label smoothing per network if it differs."""
        smoothing = self.smoothing[start:stop]
        # The criterion may be that of a net that has left.
        if set(smoothing) == {getattr(self.criterion, "label_smoothing", 0.0)}:
            return self.criterion
        criterion = copy.copy(self.criterion)
        share = torch.tensor(smoothing, dtype=self.dtype, device=self.device)
        criterion.label_smoothing = share.view(-1, 1, 1)
        return criterion


def smoothed_targets(net, y):
    """Return the targets that a network's criterion gets."""
    smoothing = getattr(net, "label_smoothing", 0)
    if smoothing and isinstance(net.criterion_, _BINARY):
        return y * (1 - smoothing) + smoothing / 2
    return y
