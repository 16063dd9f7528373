"""Losses and gradients of nets in lockstep, without autograd."""

from __future__ import annotations

import torch
from torch import nn

from ..training.direct import Masks, Place, Unknown, is_traced, make_pass, prove, refuse_hooks

__all__ = ["DirectPasses"]


class DirectPasses:
    """The rules of direct steps, with the nets in front.

    Parameters
    ----------
    modules : list of torch.nn.Module
        In training mode; the first one is made rules of.
    streams : list of Stream
        What each net draws from.
    losses : RowLosses
    parameters : Parameters
    feed : Feed

    Raises
    ------
    Unknown
        If something has no rule.
    """

    def __init__(self, modules, streams, losses, parameters, feed):
        if any(
            block.values.dtype not in (torch.float32, torch.float64) for block in parameters.blocks
        ):
            raise Unknown("parameters that are neither float32 nor float64")
        for module in (*modules, losses.criterion):
            refuse_hooks(module)
        self._modules, self._streams = modules, streams
        self._losses, self._parameters = losses, parameters
        rows = feed.runs[0].batches.rows
        self._row, self._dtype = tuple(rows.source.shape[1:]), rows.dtype[None]
        self._target_row = tuple(rows.targets.shape[1:])
        if is_traced(modules[0]):
            shape = min(8, *(step.size for step in feed.steps)), *self._row
            is_integer = not self._dtype.is_floating_point
            place = Place.of(modules[0], shape, None, is_integer=is_integer)
            prove(modules[0], place, self._dtype)
        self._passes = {}
        for step in feed.steps:
            key = step.start, step.stop, step.size
            if key not in self._passes:
                self._passes[key] = self._make(*key)

    def __call__(self, step, x, y, weight):
        """Return the losses of the rows, and leave the gradients in the parameters.

        Parameters
        ----------
        step : object with `start`, `stop`, `size` and `lengths`
        x : Tensor of shape (n_nets, n, ...)
        y : Tensor of shape (n_nets, n, ...)
        weight : Tensor of shape (n_nets, n)
        """
        masks, compute_gradients = self._passes[step.start, step.stop, step.size]
        masks.lengths = step.lengths
        with torch.inference_mode():
            return compute_gradients(x, y, weight)

    def _make(self, start, stop, size):
        modules = self._modules[start:stop]
        masks = _Masks(modules, self._streams[start:stop])
        place = Place(
            (size, *self._row),
            self._parameters.pairs(start, stop),
            {name: buffer[start:stop] for name, buffer in self._parameters.buffers.items()},
            # Masks of a GPU are drawn by kernels that take no generator.
            masks if self._parameters.blocks[0].values.device.type == "cpu" else None,
            n_networks=stop - start,
            is_integer=not self._dtype.is_floating_point,
        )
        criterion, settings = self._losses.criterion_of(start, stop), self._losses.settings
        compute_gradients = make_pass(modules[0], criterion, place, self._target_row, **settings)
        trained = {name for name, (_, g) in place.parameters.items() if g is not None}
        if not trained <= place.read:
            raise Unknown("a parameter has no part in the output")
        return masks, compute_gradients


class _Masks:
    """Draws the dropout mask of each net as the net alone would.

    Parameters
    ----------
    modules : list of torch.nn.Module
    streams : list of Stream

    Attributes
    ----------
    lengths : list of int or None
        How many rows of a batch each net really has; None means all.
    """

    def __init__(self, modules, streams):
        self.lengths = None
        self._streams = streams
        self._draw = Masks(lambda: self._stream.generator())
        self._rates = {}
        kinds = nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d
        for name, layer in modules[0].named_modules():
            if isinstance(layer, kinds):
                rates = [module.get_submodule(name).p for module in modules]
                self._rates[f"{name}."] = rates
                if not rates[0] and any(rates):
                    raise Unknown("dropout that only some of the nets have")

    def __call__(self, mask, name, rate):
        """Fill the masks of a layer; `rate` is that of a layer that all nets have alike."""
        rates = self._rates.get(name) or [rate] * len(mask)
        lengths = self.lengths or [mask.shape[1]] * len(mask)
        nets = zip(mask.unbind(0), rates, lengths, self._streams, strict=True)
        for own, own_rate, length, self._stream in nets:
            if 0 < own_rate < 1:
                self._draw(own[:length], name, own_rate)
                own[length:].fill_(0)  # they count for nothing, as long as they are numbers
            else:
                own.fill_(1 - own_rate)
