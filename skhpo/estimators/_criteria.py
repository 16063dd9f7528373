"""Criteria of torch that need more than an output and a target."""

from __future__ import annotations

from torch import nn

__all__ = ["GaussianNLL"]


class GaussianNLL(nn.GaussianNLLLoss):
    """`GaussianNLLLoss` of a module that returns a pair of mean and variance."""

    def forward(self, output, target, var=None):
        """Return the loss of a pair of tensors, or of torch's three arguments."""
        if var is not None:
            return super().forward(output, target, var)
        if not isinstance(output, tuple) or len(output) != 2:
            raise ValueError(
                "criterion 'gaussian_nll' needs a module that returns a pair (mean, variance), but "
                f"it returned {type(output).__name__}"
            )
        return super().forward(output[0], target, output[1])
