"""Forward and backward passes of networks that share a graph: joint parameters, losses, rules."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass

import torch
from torch import nn

from ..estimators.fitting import is_of_probabilities
from ..training.direct import (
    LOSSES,
    Networks,
    Place,
    Unknown,
    find_differences,
    is_traced,
    make_pass,
    make_rule,
    refuse_hooks,
)
from ..training.structure import is_plain
from ._registry import LAYER_RULES, LockstepError

__all__ = ["NORMALIZATIONS", "Parameters", "Passes", "RowLosses"]

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

# Layers with fewer outputs, which do not fill a vector register, take 0.3 to 0.9 of the time with
# their weights in the order (out, in). One output is the same in both orders, and computed as here.
_MANY_OUTPUTS = 16


@dataclass(eq=False)
class Block:
    """One parameter of all networks.

    Parameters
    ----------
    name : str
    group : int or None
        Index of the optimizer's group, if any.
    values : Tensor of shape (n_networks, ...)
    gradients : Tensor of shape (n_networks, ...) or None
        None if it is not trained.
    is_transposed : bool
        Whether matrices are stored transposed, as those of most linear layers, (in, out): products
        with a transposed right factor take more than twice as long.
    """

    name: str
    group: int | None
    values: torch.Tensor
    gradients: torch.Tensor | None
    is_transposed: bool

    def natural(self, tensor):
        """Convert a stored tensor to the shape of the parameter."""
        return tensor if tensor is None or not self.is_transposed else tensor.mT

    def kept(self, tensors):
        """Stack tensors in the shape of the parameter, in the stored order."""
        return torch.stack([self.natural(tensor.detach()) for tensor in tensors])


class Parameters:
    """Parameters and buffers of networks that share a graph.

    `groups` maps names of parameters to the optimizer's groups; without `trained` there are no
    gradients. Raises LockstepError if a buffer is sparse, or otherwise no plain tensor.
    """

    def __init__(self, modules, groups=(), trained=True):
        self.modules = modules
        groups = dict(groups)
        linear = {
            m.weight
            for m in modules[0].modules()
            if type(m) is nn.Linear and not 1 < m.out_features < _MANY_OUTPUTS
        }
        rows = [dict(module.named_parameters()) for module in modules]
        self.blocks = []
        for name, parameter in rows[0].items():
            block = Block(name, groups.get(name), None, None, parameter in linear)
            block.values = block.kept([row[name] for row in rows])
            if trained and parameter.requires_grad:
                block.gradients = torch.zeros_like(block.values)
            self.blocks.append(block)
        of_networks = [dict(module.named_buffers()) for module in modules]
        for name, buffer in of_networks[0].items():
            if not is_plain(buffer):
                raise LockstepError(f"the buffer {name!r} is no plain tensor")
        self.buffers = {k: torch.stack([b[k] for b in of_networks]) for k in of_networks[0]}

    @property
    def dtype(self):
        """torch.dtype: of the first parameter."""
        return self.blocks[0].values.dtype

    def attach(self):
        """Make the parameters and buffers of the modules views of the joint tensors."""
        for row, module in enumerate(self.modules):
            own = dict(module.named_parameters())
            for block in self.blocks:
                own[block.name].data = block.natural(block.values[row])
            for name, buffer in module.named_buffers():
                buffer.data = self.buffers[name][row]

    def release(self, row):
        """Copy the parameters and buffers of a module out of the joint tensors."""
        for tensor in (*self.modules[row].parameters(), *self.modules[row].buffers()):
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
            tensor.grad = None

    def pairs(self, start, stop):
        """Return values and gradients (or None) by name, of shape (n_networks, ...)."""
        return {
            block.name: tuple(
                tensor if tensor is None else block.natural(tensor[start:stop])
                for tensor in (block.values, block.gradients)
            )
            for block in self.blocks
        }

    def of_networks(self, name):
        """Return a parameter or a buffer by name, of shape (n_networks, ...)."""
        if name in self.buffers:
            return self.buffers[name]
        block = next(block for block in self.blocks if block.name == name)
        return block.natural(block.values)

    def trained(self, start, stop):
        """Yield the trained parameters, of shape (n_networks, ...)."""
        pairs = self.pairs(start, stop).values()
        return (values for values, gradients in pairs if gradients is not None)

    def set_trained(self, trained):
        """Mark parameters, by name, as trainable or frozen; return whether that changes any."""
        changed = [b for b in self.blocks if trained[b.name] != (b.gradients is not None)]
        for block in changed:
            block.gradients = torch.zeros_like(block.values) if trained[block.name] else None
        return bool(changed)

    def keep(self, rows):
        """Drop all other networks."""
        self.modules = [self.modules[row] for row in rows]
        for block in self.blocks:
            block.values = block.values[rows]
            if block.gradients is not None:
                block.gradients = block.gradients[rows]
        self.buffers = {name: buffer[rows] for name, buffer in self.buffers.items()}
        self.attach()


class RowLosses:
    """The losses of single rows, whose mean is ``get_loss``."""

    def __init__(self, nets):
        self.criterion = criterion = nets[0].criterion_
        if type(criterion) not in LOSSES:
            raise LockstepError(f"{type(criterion).__name__} has no form that is row by row")
        if criterion.reduction != "mean":
            raise LockstepError(f"the criterion's reduction is {criterion.reduction!r}")
        if list(criterion.buffers()):
            raise LockstepError("the criterion has weights of its own")
        if getattr(criterion, "ignore_index", -1) >= 0:
            raise LockstepError("the criterion ignores a class")
        self.settings = {}
        if is_of_probabilities(nets[0]):
            self.settings["of_probabilities"] = True
        values = next(nets[0].module_.parameters())
        self.dtype, self.device = values.dtype, values.device
        self.smoothing = [getattr(net.criterion_, "label_smoothing", 0.0) for net in nets]

    def keep(self, rows):
        """Drop all other nets."""
        self.smoothing = [self.smoothing[row] for row in rows]

    def criterion_of(self, start, stop):
        """Return the criterion of some networks, with label smoothing per network if it differs."""
        smoothing = self.smoothing[start:stop]
        # The criterion may be that of a net that has left.
        if set(smoothing) == {getattr(self.criterion, "label_smoothing", 0.0)}:
            return self.criterion
        criterion = copy.copy(self.criterion)
        share = torch.tensor(smoothing, dtype=self.dtype, device=self.device)
        criterion.label_smoothing = share.view(-1, 1, 1)
        return criterion


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
            self._modules[start],
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
