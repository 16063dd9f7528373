"""Batch normalization after training: new statistics, or a comparison with those of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ..limits import check_time

__all__ = ["by_batches", "has_batch_norm", "renew_statistics"]

# Rows, mean and variance of each channel, of an input of a layer.
_Seen = list[tuple[int, torch.Tensor, torch.Tensor]]


def has_batch_norm(module: torch.nn.Module) -> bool:
    """Whether a module normalizes by batches in training and by moving averages afterwards."""
    return any(map(_has_averages, module.modules()))


def _has_averages(layer: torch.nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and layer.running_mean is not None


@contextmanager
def by_batches(modules: Iterable[torch.nn.Module]) -> Iterator[list[_BatchNorm]]:
    """Normalize by batches within this context, with everything else as in predictions.

    The moving averages stay as they are. Layers that a module keeps in evaluation mode while it is
    trained do so here.

    Yields
    ------
    layers : list of Module
        Those that normalize by batches.
    """
    modules = list(modules)
    for module in modules:
        module.train()
    layers = [
        layer
        for module in modules
        for layer in module.modules()
        if isinstance(layer, _BatchNorm) and _has_averages(layer) and layer.training
    ]
    for module in modules:
        module.eval()
    try:
        for layer in layers:
            layer.train()
            layer.track_running_stats = False  # so it neither reads nor writes them
        yield layers
    finally:
        for layer in layers:
            layer.eval()
            layer.track_running_stats = True


def renew_statistics(
    modules: Iterable[torch.nn.Module], forward: Callable[[Any], Any], batches: Iterable[Any]
) -> None:
    """Replace the moving averages by means and variances over all batches.

    What goes into a layer is normalized by batches in the layers before it, as in training, but
    without dropout. See Wu, Johnson: Rethinking "Batch" in BatchNorm, 2021, section 3 ("precise
    BatchNorm").

    Parameters
    ----------
    modules : iterable of Module
        Parts of a network; left in evaluation mode.
    forward : callable
        Passes a batch through them.
    batches : iterable
        Each with at least two rows.
    """
    with by_batches(modules) as layers, torch.no_grad():
        seen: list[_Seen] = [[] for _ in layers]
        handles = [
            layer.register_forward_pre_hook(partial(_note, of_layer))
            for layer, of_layer in zip(layers, seen, strict=True)
        ]
        try:
            for batch in batches:
                check_time()
                forward(batch)
        finally:
            for handle in handles:
                handle.remove()
        for layer, of_layer in zip(layers, seen, strict=True):
            if of_layer:
                _set_statistics(layer, of_layer)


def _note(seen: _Seen, layer: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
    x = inputs[0].transpose(0, 1).flatten(1)  # channels x rows and places
    x = x if x.dtype == torch.float64 else x.float()
    seen.append((x.shape[1], x.mean(1), x.var(1, correction=0)))


def _set_statistics(layer: _BatchNorm, seen: _Seen) -> None:
    """Set mean and variance of all batches together."""
    sizes, batch_means, batch_variances = zip(*seen, strict=True)
    n = sum(sizes)
    means, variances = torch.stack(batch_means), torch.stack(batch_variances)
    weight = torch.tensor(sizes, dtype=means.dtype, device=means.device)[:, None] / n
    mean = (weight * means).sum(0)
    variance = (weight * (variances + (means - mean) ** 2)).sum(0)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance * (n / max(n - 1, 1)))
