"""The loss of each row of several nets at once."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional as F

from ._errors import LockstepError

__all__ = ["RowLosses"]

_OF_ROWS = (
    *(nn.CrossEntropyLoss, nn.NLLLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.MSELoss, nn.L1Loss),
    *(nn.HuberLoss, nn.SmoothL1Loss, nn.PoissonNLLLoss, nn.MultiMarginLoss),
)
_BINARY = (nn.BCELoss, nn.BCEWithLogitsLoss)


class RowLosses:
    """What ``get_loss`` averages over a batch, row by row.

    Parameters
    ----------
    nets : list of estimator
    """

    def __init__(self, nets):
        criterion = nets[0].criterion_
        if type(criterion) not in _OF_ROWS:
            raise LockstepError(f"{type(criterion).__name__} has no form that is row by row")
        if criterion.reduction != "mean":
            raise LockstepError(f"the criterion's reduction is {criterion.reduction!r}")
        if getattr(criterion, "weight", None) is not None:
            raise LockstepError("the criterion has weights of its own")
        if getattr(criterion, "ignore_index", -1) >= 0:
            raise LockstepError("the criterion ignores a class")
        self.criterion = copy.copy(criterion)
        self.criterion.reduction = "none"
        if isinstance(criterion, nn.CrossEntropyLoss):
            self.criterion.label_smoothing = 0.0
        self.log = isinstance(criterion, nn.NLLLoss) and nets[0]._meaning == "probabilities"
        values = next(nets[0].module_.parameters())
        self.dtype, self.device = values.dtype, values.device
        self.smoothing = [getattr(net.criterion_, "label_smoothing", 0.0) for net in nets]

    def keep(self, rows):
        """Drop all other nets."""
        self.smoothing = [self.smoothing[row] for row in rows]

    def share(self, start, stop):
        """Return the label smoothing of some nets: a number where it is the same for all."""
        smoothing = self.smoothing[start:stop]
        if len(set(smoothing)) == 1:
            return smoothing[0]
        return torch.tensor(smoothing, dtype=self.dtype, device=self.device).view(-1, 1, 1)

    def __call__(self, output, y, part):
        """Return losses of shape (n_nets, n).

        Parameters
        ----------
        output : Tensor of shape (n_nets, n, ...)
        y : Tensor of shape (n_nets * n, ...)
        part : Part
        """
        n_nets, n = output.shape[:2]
        output = output.flatten(0, 1)
        if self.log:
            output = torch.log(output + torch.finfo(output.dtype).eps)
        smoothing = self.smoothing[part.start : part.stop]
        if any(smoothing):
            losses = self._smoothed(output, y, smoothing, n)
        else:
            losses = self.criterion.forward(output, y)
        if losses.ndim > 1:
            losses = losses.flatten(1).mean(1)
        return losses.view(n_nets, n)

    def _smoothed(self, output, y, smoothing, n):
        if len(set(smoothing)) == 1:
            return F.cross_entropy(output, y, reduction="none", label_smoothing=smoothing[0])
        share = torch.tensor(smoothing, dtype=output.dtype, device=output.device)
        share = share.repeat_interleave(n)
        log_probabilities = output.log_softmax(1)
        of_label = -log_probabilities.gather(1, y.unsqueeze(1)).squeeze(1)
        return (1 - share) * of_label - share * log_probabilities.mean(1)


def smoothed_targets(net, y):
    """Return the targets with which a net's criterion is called."""
    smoothing = getattr(net, "label_smoothing", 0)
    if smoothing and isinstance(net.criterion_, _BINARY):
        return y * (1 - smoothing) + smoothing / 2
    return y
