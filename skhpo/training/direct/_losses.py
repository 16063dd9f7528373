"""Rules of losses.

With ``l`` the loss of a row: ``forward`` returns all ``l``, and computes the gradient of the sum
of ``scale * l``, which ``backward`` returns. The loss of a row with several values is their mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ._rules import Unknown

__all__ = ["LOSSES", "make_loss"]


class Loss:
    """The loss of a program.

    Parameters
    ----------
    criterion : torch.nn.Module
    shape, target_shape : tuple of int
        Of the output and the targets of one network, batch size first.
    n_networks : int or None
    smoothing : float
        Label smoothing of two classes.
    of_probabilities : bool
        Whether the output consists of probabilities, whose logarithms are taken.
    """

    def __init__(
        self,
        criterion: Any,
        shape: tuple[int, ...],
        target_shape: tuple[int, ...],
        n_networks: int | None,
        smoothing: float = 0.0,
        of_probabilities: bool = False,
    ) -> None:
        if criterion.reduction != "mean":
            raise Unknown(f"the criterion's reduction is {criterion.reduction!r}")
        self.criterion = criterion
        self._many = n_networks is not None
        self._smoothing = smoothing
        self._of_probabilities = of_probabilities
        self._gradient: Any = None

    def forward(self, output: torch.Tensor, y: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Return the losses of the n rows; `scale` has the shape () or (n,)."""
        raise NotImplementedError

    def backward(self) -> torch.Tensor:
        """Return the gradient of the output."""
        gradient: torch.Tensor = self._gradient
        return gradient


class _ClassLoss(Loss):
    """A loss of integer classes.

    Buffers have the shape (..., n_classes, n): torch's kernels are several times faster along the
    rows of a batch than along a few classes.
    """

    def __init__(
        self,
        criterion: Any,
        shape: tuple[int, ...],
        target_shape: tuple[int, ...],
        *others: Any,
        **settings: Any,
    ) -> None:
        super().__init__(criterion, shape, target_shape, *others, **settings)
        if len(shape) != 2 or target_shape != shape[:1]:
            raise Unknown(f"targets of shape {target_shape} for an output of shape {shape}")
        if getattr(criterion, "ignore_index", -1) >= 0:
            raise Unknown("the criterion ignores a class")
        self._weight, self._n_classes = criterion.weight, shape[1]

    def _normalization(self, weights: torch.Tensor, scale: torch.Tensor) -> torch.Tensor | float:
        if scale.ndim:
            return 1.0
        # torch divides the loss of a batch by the sum of the weights of its targets.
        factor: torch.Tensor = weights.shape[-1] / weights.sum(-1, keepdim=True)
        return factor


class CrossEntropy(_ClassLoss):
    def __init__(self, criterion: Any, *others: Any, **settings: Any) -> None:
        super().__init__(criterion, *others, **settings)
        # For several networks a tensor of shape (n_networks, 1, 1).
        share = criterion.label_smoothing
        self._is_smoothed = isinstance(share, torch.Tensor) or share > 0
        self._logits: torch.Tensor | None = None
        self._logs: Any = None
        self._ones: Any = None
        self._scale: torch.Tensor | None = None

    def forward(self, output: torch.Tensor, y: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        logits, y = output.mT, y.unsqueeze(-2)
        if self._ones is None:
            self._ones = torch.ones_like(logits[..., :1, :])
            self._negative = torch.empty_like(logits, memory_format=torch.contiguous_format)
            if not logits.is_contiguous():
                self._logits = torch.empty_like(self._negative)
        if self._logits is not None:
            logits = self._logits.copy_(logits)
        if scale.ndim:  # weights may be less precise than the network
            self._minus_scale = -scale.unsqueeze(-2).to(logits.dtype)
        elif scale is not self._scale:  # which is the same in all steps
            self._scale, self._minus_scale = scale, self._ones * -scale
        self._logs = torch.log_softmax(logits, -2, out=self._logs)
        if self._weight is None and not self._is_smoothed:
            losses: torch.Tensor = self._logs.gather(-2, y).squeeze(-2).neg_()
            negative = self._negative.zero_().scatter_(-2, y, self._minus_scale)
        else:
            targets = self._targets(y, scale)
            if self._is_smoothed:
                losses = (targets * self._logs).sum(-2).neg_()
            else:  # logarithms of other classes may be infinite
                losses = (targets.gather(-2, y) * self._logs.gather(-2, y)).squeeze(-2).neg_()
            negative = torch.mul(targets, self._minus_scale, out=self._negative)
        # The gradient is exp(logs) * sum(targets) - targets, times the scale. Torch computes
        # exponentials here in half the time of `torch.exp`.
        self._gradient = torch._log_softmax_backward_data(
            negative, self._logs, -2, negative.dtype, out=self._gradient
        )
        return losses

    def _targets(self, y: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Return smoothed and weighted targets of all classes."""
        labels = torch.zeros_like(self._logs).scatter_(-2, y, self._ones)
        share = self.criterion.label_smoothing  # which may change between two steps
        targets: torch.Tensor = labels * (1 - share) + share / self._n_classes
        if self._weight is not None:
            of_classes = self._weight.unsqueeze(-1)
            targets *= of_classes
            of_labels = (labels * of_classes).sum(-2)
            factor = self._normalization(of_labels, scale)
            targets *= factor if isinstance(factor, float) else factor.unsqueeze(-2)
        return targets

    def backward(self) -> torch.Tensor:
        gradient: torch.Tensor = self._gradient.mT
        return gradient


class NLL(_ClassLoss):
    def forward(self, output: torch.Tensor, y: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        if self._gradient is None:
            self._gradient = torch.zeros_like(output)
        y = y.unsqueeze(-1)
        of_target = output.gather(-1, y)
        slopes = None
        if self._of_probabilities:
            of_target = of_target + torch.finfo(of_target.dtype).eps
            slopes = of_target.reciprocal()
            of_target = of_target.log_()
        factors = scale.expand(y.shape[:-1]) if scale.ndim == 0 else scale
        losses = -of_target.squeeze(-1)
        if self._weight is not None:
            weights = self._weight[y.squeeze(-1)]
            weights = weights * self._normalization(weights, scale)
            losses, factors = losses * weights, factors * weights
        factors = -factors.unsqueeze(-1)
        factors = factors if slopes is None else factors * slopes
        self._gradient.zero_().scatter_(-1, y, factors)
        return losses


class _ElementwiseLoss(Loss):
    """An elementwise loss."""

    def _losses(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _slopes(self, x: torch.Tensor, y: torch.Tensor, out: torch.Tensor) -> None:
        raise NotImplementedError

    def __init__(
        self,
        criterion: Any,
        shape: tuple[int, ...],
        target_shape: tuple[int, ...],
        *others: Any,
        **settings: Any,
    ) -> None:
        super().__init__(criterion, shape, target_shape, *others, **settings)
        if shape != target_shape:
            raise Unknown(f"targets of shape {target_shape} for an output of shape {shape}")
        if getattr(criterion, "weight", None) is not None:
            raise Unknown("the criterion has weights of its own")
        self._n_numbers = math.prod(shape[1:])

    def forward(self, output: torch.Tensor, y: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        if self._smoothing:
            y = y * (1 - self._smoothing) + self._smoothing / 2
        losses = self._losses(output, y)
        if self._gradient is None:
            self._gradient = torch.empty_like(output)
        self._slopes(output, y, self._gradient)
        n_leading = 1 + self._many
        if losses.ndim > n_leading:
            losses = losses.flatten(n_leading).mean(n_leading)
        if self._n_numbers > 1:
            scale = scale / self._n_numbers
        if scale.ndim:
            scale = scale.view(*scale.shape, *[1] * (output.ndim - scale.ndim))
        self._gradient.mul_(scale)
        return losses


class MSE(_ElementwiseLoss):
    def _losses(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.sub(x, y).square_()

    def _slopes(self, x: torch.Tensor, y: torch.Tensor, out: torch.Tensor) -> None:
        torch.sub(x, y, out=out).mul_(2)


class L1(_ElementwiseLoss):
    def _losses(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.sub(x, y).abs_()

    def _slopes(self, x: torch.Tensor, y: torch.Tensor, out: torch.Tensor) -> None:
        torch.sub(x, y, out=out).sign_()


class Huber(_ElementwiseLoss):
    """Also SmoothL1, which is a Huber loss divided by its threshold."""

    def __init__(self, criterion: Any, *others: Any, **settings: Any) -> None:
        super().__init__(criterion, *others, **settings)
        is_smooth = isinstance(criterion, nn.SmoothL1Loss)
        self._delta = criterion.beta if is_smooth else criterion.delta
        self._factor = 1 / self._delta if is_smooth and self._delta else 1.0
        if not self._delta:
            raise Unknown("SmoothL1Loss(beta=0)")

    def _losses(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        losses = nn.functional.huber_loss(x, y, reduction="none", delta=self._delta)
        return losses if self._factor == 1 else losses.mul_(self._factor)

    def _slopes(self, x: torch.Tensor, y: torch.Tensor, out: torch.Tensor) -> None:
        torch.sub(x, y, out=out).clamp_(-self._delta, self._delta)
        if self._factor != 1:
            out.mul_(self._factor)


class BCEWithLogits(_ElementwiseLoss):
    def __init__(self, criterion: Any, *others: Any, **settings: Any) -> None:
        super().__init__(criterion, *others, **settings)
        if criterion.pos_weight is not None:
            raise Unknown("the criterion has weights of its own")

    def _losses(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(x, y, reduction="none")

    def _slopes(self, x: torch.Tensor, y: torch.Tensor, out: torch.Tensor) -> None:
        torch.sigmoid(x, out=out).sub_(y)


class BCE(_ElementwiseLoss):
    def _losses(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy(x, y, reduction="none")

    def _slopes(self, x: torch.Tensor, y: torch.Tensor, out: torch.Tensor) -> None:
        one = torch.ones_like(x)
        torch.ops.aten.binary_cross_entropy_backward.grad_input(one, x, y, None, 0, grad_input=out)


class PoissonNLL(_ElementwiseLoss):
    def _losses(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        c = self.criterion
        return nn.functional.poisson_nll_loss(
            x, y, log_input=c.log_input, full=c.full, eps=c.eps, reduction="none"
        )

    def _slopes(self, x: torch.Tensor, y: torch.Tensor, out: torch.Tensor) -> None:
        if self.criterion.log_input:
            torch.exp(x, out=out).sub_(y)
        else:
            torch.add(x, self.criterion.eps, out=out).reciprocal_().mul_(-y).add_(1)


class MultiMargin(_ClassLoss):
    def forward(self, output: torch.Tensor, y: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        c, rows, labels = self.criterion, output.reshape(-1, output.shape[-1]), y.flatten()
        settings = c.p, c.margin, self._weight
        losses = nn.functional.multi_margin_loss(rows, labels, *settings, reduction="none")
        scales = scale.expand(y.shape).flatten()
        slopes = torch.ops.aten.multi_margin_loss_backward(scales, rows, labels, *settings, 0)
        self._gradient = slopes.view_as(output)
        return losses.view_as(y)


# From the exact type of a criterion to its rule.
LOSSES: dict[type[nn.Module], type[Loss]] = {
    nn.CrossEntropyLoss: CrossEntropy,
    nn.NLLLoss: NLL,
    nn.MultiMarginLoss: MultiMargin,
    nn.BCEWithLogitsLoss: BCEWithLogits,
    nn.BCELoss: BCE,
    nn.MSELoss: MSE,
    nn.L1Loss: L1,
    nn.SmoothL1Loss: Huber,
    nn.HuberLoss: Huber,
    nn.PoissonNLLLoss: PoissonNLL,
}


def make_loss(
    criterion: nn.Module,
    shape: Iterable[int],
    target_shape: Iterable[int],
    n_networks: int | None = None,
    **settings: Any,
) -> Loss:
    """Return the rule of a criterion; `Unknown` is raised if it has none."""
    kind = LOSSES.get(type(criterion))
    if kind is None:
        raise Unknown(f"{type(criterion).__name__} has no rule")
    return kind(criterion, tuple(shape), tuple(target_shape), n_networks, **settings)
