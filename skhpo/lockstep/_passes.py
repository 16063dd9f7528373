"""Forward and backward passes of networks that share a graph, by rules."""

from __future__ import annotations

import contextlib

import torch
from torch import nn

from ..training.direct import (
    Networks,
    Place,
    Unknown,
    find_differences,
    is_traced,
    make_pass,
    make_rule,
    refuse_hooks,
)
from ._errors import LockstepError
from ._registry import LAYER_RULES

__all__ = ["NORMALIZATIONS", "Passes"]

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Passes:
    """Joint forward and backward passes of networks.

    Raises LockstepError if the networks cannot be computed jointly.

    Parameters
    ----------
    modules : list of torch.nn.Module
        In the mode (training or evaluation) of the passes. Rules are made for the first one.
    parameters : Parameters
    x : Tensor of shape (n_networks, n, ...)
        A few rows, on which rules of user-defined modules are compared with the modules.
    streams : list of Stream, default=()
        Random numbers of each network; empty if nothing may draw.
    precision : str or None, default=None
        See `Networks`.

    Attributes
    ----------
    by_autograd : list of str
        The parts without a rule, which autograd differentiates.
    mixes_rows : bool
        Whether a row's output may depend on the other rows of its batch, so that batches must not
        be filled up.
    """

    def __init__(self, modules, parameters, x, streams=(), precision=None):
        self._modules, self._streams, self._precision = modules, streams, precision
        self._parameters = parameters
        self._row, self._is_integer = tuple(x.shape[2:]), not x.is_floating_point()
        self._passes = {}
        with _refused():
            for module in modules:
                refuse_hooks(module)
            self._compare(x)

    def _compare(self, x):
        module, name = self._modules[0], type(self._modules[0]).__name__
        named = list(module.named_parameters(remove_duplicate=False))
        if len({id(parameter) for _, parameter in named}) < len(named):
            raise Unknown("layers share a parameter")
        place = self._place(0, len(self._modules), x.shape[1])
        place.networks.precision = None  # rounding would hide differences
        make_rule(module, place)
        self.by_autograd = place.networks.parts
        is_unread = is_traced(module) or bool(self.by_autograd)
        normalizes = [m for m in module.modules() if isinstance(m, NORMALIZATIONS)]
        by_batch = any(m.training or m.running_mean is None for m in normalizes)
        self.mixes_rows = is_unread or by_batch
        learns = {k for k, (_, gradient) in place.parameters.items() if gradient is not None}
        if not learns <= place.read:
            raise Unknown("a parameter has no part in the output")
        if not is_unread:
            return
        differ = find_differences(self._modules, place, x)
        if "the output" in differ:
            raise Unknown(f"{name} computes something else in lockstep")
        if differ:
            raise Unknown(f"{name} has other gradients of {', '.join(differ)} in lockstep")

    def keep(self, rows):
        """Drop all other networks."""
        self._modules = [self._modules[row] for row in rows]
        self._streams = [self._streams[row] for row in rows]

    def prepare(self, steps, target_row, losses):
        """Make the passes of an epoch, for modules in training mode.

        `steps` have `start`, `stop` and `size`; `target_row` is the shape of the target of a row.
        Raises LockstepError if the loss has no rule.
        """
        keys = {(step.start, step.stop, step.size) for step in steps}
        with _refused():
            self._passes = {key: self._make(*key, target_row, losses) for key in keys}

    def forward(self, x):
        """Return outputs for x of shape (n_networks, n, ...), which the next call may overwrite."""
        size = x.shape[1]
        if size not in self._passes:
            self._passes[size] = make_rule(self._modules[0], self._place(0, len(x), size))
        return self._passes[size].forward(x)

    def gradients(self, step, x, y, weight):
        """Write the gradients of a batch to the parameters, and return the losses of the rows.

        To be called within `context`. Inputs and targets have the shape (n_networks, n, ...),
        weights (n_networks, n).
        """
        networks, compute_gradients = self._passes[step.start, step.stop, step.size]
        networks.lengths = step.lengths
        return compute_gradients(x, y, weight)

    def context(self):
        """Return the context for calls of `gradients`, in which autograd can compute its parts."""
        uses_autograd = any(networks.parts for networks, _ in self._passes.values())
        # Autograd cannot use tensors made in inference mode.
        return torch.no_grad() if uses_autograd else torch.inference_mode()

    def _make(self, start, stop, size, target_row, losses):
        place = self._place(start, stop, size)
        draws = any(isinstance(m, _DROPOUTS) for m in self._modules[0].modules())
        compute_gradients = make_pass(
            self._modules[0],
            losses.criterion_of(start, stop),
            place,
            target_row,
            may_capture=not (draws or self.by_autograd or self._precision),
            **losses.settings,
        )
        return place.networks, compute_gradients

    def _place(self, start, stop, size):
        networks = Networks(
            self._modules[start:stop], self._streams[start:stop], LAYER_RULES, self._precision
        )
        return Place(
            (size, *self._row),
            self._parameters.pairs(start, stop),
            {name: buffer[start:stop] for name, buffer in self._parameters.buffers.items()},
            networks.draw,
            n_networks=stop - start,
            networks=networks,
            is_integer=self._is_integer,
        )


@contextlib.contextmanager
def _refused():
    """Convert Unknown within this context to LockstepError."""
    try:
        yield
    except Unknown as reason:
        raise LockstepError(str(reason)) from reason
