"""Whether a criterion of torch fits the outputs of a module and the targets, before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from sklearn.base import is_classifier
from torch import nn

from ..training.data import Rows
from ..training.randomness import Stream
from .feeding import batches_of, drawing_from
from .settings import overridden, slices_batches

__all__ = ["USUAL", "check_criterion"]

_FEW = 8
# Methods in which a loss of the user's may be computed.
_LOSSES = ("get_loss", "train_step", "train_step_single", "run_single_epoch")
# Those of classifiers and of regressors whose outputs are compared with the shape of y in any case.
USUAL = {
    True: (nn.CrossEntropyLoss, nn.NLLLoss, nn.BCEWithLogitsLoss, nn.BCELoss),
    False: (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss),
}
_OF_PROBABILITIES = nn.BCEWithLogitsLoss | nn.BCELoss | nn.MultiLabelSoftMarginLoss


def check_criterion(net: Any, train: Any, fit_params: Mapping[str, Any], *, is_new: bool) -> None:
    """Raise ValueError if torch's criterion does not take outputs of the module with targets.

    Criteria and losses of the user's are not called, which may keep something of each batch, nor
    are datasets read; a module is only called if it `is_new`, as it may keep something, too.
    """
    criterion = net.criterion_
    home = type(criterion).__module__
    plain = isinstance(train, Rows) and not train.are_items
    plain = plain and isinstance(train.targets, torch.Tensor)
    if not plain or overridden(net, *_LOSSES) or not home.startswith(("torch.nn.", "skhpo.")):
        return
    _check_values(net, criterion, train.targets)
    if not is_new or not slices_batches(net, training=False) or not len(train):
        return
    few = train.view(torch.arange(min(_FEW, len(train))))
    net._set_training(False)
    with torch.no_grad(), drawing_from(net, Stream(net.seed_, "trial")):
        batches = batches_of(net, few, training=False)
        batches.change = batches.change and batches.change.probe()
        X, y, _ = next(iter(batches.triples()))
        output = net.infer(X, **fit_params)
        if isinstance(output, torch.Tensor) and output.ndim > 1 and output.shape[1] == len(output):
            output, y = output[:-1], y[:-1]  # one target per row is no row of targets
        try:
            net.get_loss(output, y, X=X, training=False)
        except Exception as error:
            raise ValueError(
                f"criterion {type(criterion).__name__} must take what the module returns and the "
                f"targets, but for outputs of {_described(output)} and targets of {_described(y)} "
                f"it raised {type(error).__name__}: {error}; use {_usual(net)}, or a criterion of "
                "your own that converts them"
            ) from error


def _check_values(net: Any, criterion: Any, y: torch.Tensor) -> None:
    """Raise ValueError for targets with which torch computes a loss that means nothing."""
    if isinstance(criterion, nn.CrossEntropyLoss) and y.is_floating_point():
        if y.ndim < 2 or y.shape[1] < 2:
            raise ValueError(
                "criterion CrossEntropyLoss takes probabilities of several classes, each a column "
                f"of y, but y has 1 column; use {_usual(net)}, or TorchClassifier for labels"
            )
        wanted, fits = "numbers >= 0", y >= 0
    elif isinstance(criterion, _OF_PROBABILITIES):
        wanted, fits = "numbers from 0 to 1", (y >= 0) & (y <= 1)
    elif isinstance(criterion, nn.HingeEmbeddingLoss | nn.SoftMarginLoss):
        wanted, fits = "-1 and 1", y.abs() == 1
    elif isinstance(criterion, nn.PoissonNLLLoss) or (
        isinstance(criterion, nn.KLDivLoss) and not criterion.log_target
    ):
        wanted, fits = "numbers >= 0", y >= 0
    else:
        return
    if not bool(fits.all()):
        raise ValueError(
            f"criterion {type(criterion).__name__} takes targets that are {wanted}, but y has "
            f"{y[~fits][0].item():.3g}; use {_usual(net)}, or convert y"
        )


def _usual(net: Any) -> str:
    if is_classifier(net):
        return "criterion='cross_entropy', or 'bce_with_logits' for several labels per sample"
    return "criterion='mse'"


def _described(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return f"type {type(value).__name__}"
    return f"shape (n, {', '.join(map(str, value.shape[1:]))}) and {value.dtype}".replace(
        ", )", ",)"
    )
