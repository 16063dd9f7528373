"""What built networks must have in common to be trained jointly."""

from __future__ import annotations

from torch import nn

from ..training.structure import structure
from ._optimizers import settings_of

__all__ = ["graph_of"]

# Settings of optimizers that may differ from network to net.
_FREE = {
    *("lr", "betas", "eps", "weight_decay", "momentum", "dampening", "lr_multiplier"),
    *("max_momentum", "base_momentum", "max_lr", "min_lr", "alpha", "rho", "lambd", "t0"),
    *("momentum_decay", "lr_decay", "etas", "step_sizes"),
}


def graph_of(run):
    """Return a hashable description of everything that networks of a group must share."""
    net, state = run.net, run.network.state
    smoothing = ("label_smoothing",) if isinstance(net.criterion_, nn.CrossEntropyLoss) else ()
    positions = {id(p): name for name, p in net.module_.named_parameters()}
    groups = tuple(
        (
            tuple(positions.get(id(p)) for p in group["params"]),
            tuple((k, v) for k, v in setting if k not in _FREE),
            bool(group.get("momentum")),
        )
        for group, setting in zip(
            net.optimizer_.param_groups, settings_of(net.optimizer_), strict=True
        )
    )
    frozen = tuple(state.frozen_until.items())
    return (
        type(net),
        structure(net.module_, rated=True),
        structure(net.criterion_, smoothing),
        getattr(net, "_meaning", None),
        type(net.optimizer_),
        groups,
        frozen and (frozen, state.counters.n_epochs),
        run.batches.batch_size,
        net.accumulate,
        run.batches.formats,
        run.batches.rows.formats,
        net.device_,
        net._low_precision,
    )
