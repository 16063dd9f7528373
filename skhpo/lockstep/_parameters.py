"""Parameters and buffers of several networks as tensors of shape (n_networks, ...)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..training.structure import is_plain
from ._errors import LockstepError

__all__ = ["Block", "Parameters"]

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
        linear = {m.weight for m in modules[0].modules() if _is_transposed(m)}
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


def _is_transposed(layer):
    return type(layer) is nn.Linear and not 1 < layer.out_features < _MANY_OUTPUTS
