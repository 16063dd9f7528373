"""What the numbers that a classifier's module returns mean."""

from __future__ import annotations

import functools

import torch
from torch import nn

__all__ = ["as_probabilities", "meaning_of"]


def meaning_of(output, criterion, n_classes, multi_label=False):
    """Tell what a module returns, by the criterion and by a few rows of output.

    Parameters
    ----------
    output : Tensor of shape (n, ...)
    criterion : callable
    n_classes : int
        Or the number of labels.
    multi_label : bool, default=False
        Whether samples have any number of labels.

    Returns
    -------
    {"logits", "probabilities", "log_probabilities", "binary_logit", "binary_probability", \
            "label_logits", "label_probabilities"}

    Raises
    ------
    ValueError
        If the width of the output does not fit the number of classes.
    """
    if multi_label:
        return _meaning_of_labels(output, criterion, n_classes)
    name = type(criterion).__name__
    width = output.shape[1] if output.ndim > 1 else 1
    binary = isinstance(criterion, nn.BCEWithLogitsLoss | nn.BCELoss)
    if binary:
        fits, wanted = width == 1 and n_classes == 2, "1 output for exactly 2 classes"
    else:
        fits, wanted = width == n_classes, f"{n_classes} outputs for {n_classes} classes"
        # An unknown criterion may know what to do with a single output.
        fits = fits or (width == 1 and n_classes == 2 and not _is_of_torch(criterion))
    if not fits or output.ndim > 2:
        raise ValueError(
            f"with criterion {name} the module must return {wanted}, but y has {n_classes} "
            f"classes and the module returns an output of shape (n, "
            f"{', '.join(map(str, output.shape[1:]))}); let the module take `out_features`, or "
            "set the parameter of the module that is its width"
        )
    if isinstance(criterion, nn.BCELoss):
        return "binary_probability"
    if binary or width < n_classes:
        return "binary_logit"
    if isinstance(criterion, nn.CrossEntropyLoss):
        return "logits"
    if bool((output >= 0).all()) and torch.allclose(output.sum(1), output.new_ones(1), atol=1e-3):
        return "probabilities"
    if bool((output <= 0).all()) and torch.allclose(
        output.exp().sum(1), output.new_ones(1), atol=1e-3
    ):
        return "log_probabilities"
    if isinstance(criterion, nn.NLLLoss):
        raise ValueError(
            "criterion NLLLoss needs a module that returns probabilities or log-probabilities "
            "(its last layer is Softmax or LogSoftmax), but its rows do not sum to one; use "
            "criterion='cross_entropy' for a module that returns logits"
        )
    return "logits"


def _meaning_of_labels(output, criterion, n_labels):
    if output.ndim != 2 or output.shape[1] != n_labels:
        raise ValueError(
            f"the module must return {n_labels} outputs for {n_labels} labels, but it returns an "
            f"output of shape (n, {', '.join(map(str, output.shape[1:]))}); let the module take "
            "`out_features`, or set the parameter of the module that is its width"
        )
    if isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss | nn.MultiMarginLoss):
        raise ValueError(
            f"criterion {type(criterion).__name__} takes one class per sample, but y has several "
            "labels; use criterion='bce_with_logits'"
        )
    return "label_probabilities" if isinstance(criterion, nn.BCELoss) else "label_logits"


def as_probabilities(meaning):
    """Return the function from an output with this meaning to probabilities (n, n_classes)."""
    return {
        "logits": functools.partial(torch.softmax, dim=1),
        "log_probabilities": torch.exp,
        "probabilities": torch.clone,
        "binary_logit": _from_binary_logit,
        "binary_probability": _from_binary_probability,
        "label_logits": torch.sigmoid,
        "label_probabilities": torch.clone,
    }[meaning]


def _from_binary_logit(output):
    return _from_binary_probability(torch.sigmoid(output))


def _from_binary_probability(output):
    of_second = output.reshape(-1)
    return torch.stack((1 - of_second, of_second), 1)


def _is_of_torch(criterion):
    return type(criterion).__module__.startswith("torch.")
