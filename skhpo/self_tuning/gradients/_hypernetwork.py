"""All weights of a network as a function of its hyperparameters."""

from __future__ import annotations

import math

import torch
from torch import nn

from ...process import total_memory
from ...training.randomness import stream_seed

__all__ = ["MARGIN", "HyperNetwork"]

# Positions drawn in training keep this distance from the ends, which are infinite unconstrained.
MARGIN = 5e-3
# Standard deviation of the last layer's initial weights: at first all positions have nearly the
# same weights.
_SCALE = 1e-2


class HyperNetwork(nn.Module):
    """Maps positions in the ranges to all weights of a network, by one hidden layer.

    Initially they are those of the module everywhere.
    """

    def __init__(self, module, n_hyperparameters, n_hidden, seed):
        super().__init__()
        parameters = dict(module.named_parameters())
        first = next(iter(parameters.values()))
        self._shapes = {name: p.shape for name, p in parameters.items()}
        n_weights = sum(p.numel() for p in parameters.values())
        _check_memory(n_weights, n_hidden, first.element_size())
        generator = torch.Generator().manual_seed(stream_seed(seed, "hypernetwork"))

        def normal(*shape, scale):
            draws = torch.randn(shape, generator=generator, dtype=first.dtype) * scale
            return nn.Parameter(draws.to(first.device))

        self.hidden = normal(n_hidden, n_hyperparameters, scale=n_hyperparameters**-0.5)
        self.offset = normal(n_hidden, scale=1.0)
        self.response = normal(n_weights, n_hidden, scale=_SCALE * n_hidden**-0.5)
        weights = torch.cat([p.detach().flatten() for p in parameters.values()])
        self.weight = nn.Parameter(weights)

    def forward(self, s):
        """Return the weights at positions of shape (n_hyperparameters,), by name."""
        hidden = torch.tanh(self.hidden @ (2 * s - 1) + self.offset)
        w = self.weight + self.response @ hidden
        parts = w.split([math.prod(shape) for shape in self._shapes.values()])
        pairs = zip(self._shapes.items(), parts, strict=True)
        return {name: part.view(shape) for (name, shape), part in pairs}


def _check_memory(n_weights, n_hidden, item):
    """Raise ValueError if weights, gradients and the optimizer's state would not fit."""
    needed, there = 4 * n_weights * n_hidden * item, total_memory()
    if there is not None and needed > there:
        raise ValueError(
            f"variant='global' needs about {needed / 2**30:.1f} GiB, as it has {n_hidden} numbers "
            f"for each of {n_weights} weights, but there are {there / 2**30:.1f}; it is for small "
            "networks, use variant='implicit'"
        )
