"""The direct steps (without autograd) of an estimator."""

from __future__ import annotations

import torch
from torch import nn

from ..training.direct import DirectSteps, Masks
from ._targets import BINARY, current_smoothing

__all__ = ["describe_training", "direct_steps"]


def direct_steps(net, batches):
    """Return the `DirectSteps` of a built estimator."""
    masks = Masks(lambda: net._state.streams["forward"].generator())
    return DirectSteps(lambda: describe_training(net, batches, masks))


def describe_training(net, batches, masks):
    """Return the arguments of `Program`, or a string with the reason why there is none."""
    rows = batches.rows
    reasons = {
        f"the device is of type {net.device_.type}": net.device_.type not in ("cpu", "cuda"),
        "the module is compiled": net.compile,
        "infer is overridden, or computes in low precision": (
            net._forward_of_training() is not net.module_
        ),
        "get_loss is overridden": (
            "get_loss" in vars(net)
            or not type(net).get_loss.__module__.startswith("skhpo.estimators.")
        ),
        "autograd looks for anomalies": torch.is_anomaly_enabled(),
        "autocast is on": torch.is_autocast_enabled(net.device_.type),
        "there are several modules": len(net._modules) + len(net._criteria) > 2,
        "there are no targets": not rows.are_items and rows.targets is None,
        "there are no batches": len(batches) == 0,
        "the criterion is no module": not isinstance(net.criterion_, nn.Module),
    }
    found = next((reason for reason, holds in reasons.items() if holds), None)
    if found is not None:
        return found
    if batches.formats is None:
        return "there are several inputs, or what collates or transforms rows makes them"
    inputs, targets = batches.formats
    settings = {}
    if isinstance(net.criterion_, BINARY):
        settings["smoothing"] = current_smoothing(net)
    if isinstance(net.criterion_, nn.NLLLoss):
        settings["of_probabilities"] = getattr(net, "_meaning", None) == "probabilities"
    return {
        "module": net.module_,
        "criterion": net.criterion_,
        "optimizer": net.optimizer_,
        "inputs": inputs,
        "targets": targets,
        "sizes": batches.sizes(),
        "max_grad_norm": net.max_grad_norm,
        "accumulate": net.accumulate,
        # On a GPU, kernels that accept no generator draw the masks.
        "draw_mask": masks if net.device_.type == "cpu" else None,
        **settings,
    }
