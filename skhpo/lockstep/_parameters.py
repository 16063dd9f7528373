"""Parameters and buffers of several networks as tensors with the networks in front."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

__all__ = ["Block", "Parameters"]


@dataclass(eq=False)
class Block:
    """One parameter of all networks.

    Parameters
    ----------
    name : str
    group : int or None
        Which group of the optimizer trains it; None where none does.
    values : Tensor of shape (n_networks, ...)
    gradients : Tensor of shape (n_networks, ...) or None
        None where it is not trained.
    is_transposed : bool
        Whether matrices are kept transposed. Weights of linear layers are, (in, out): products with
        a transposed right factor take more than twice as long.
    """

    name: str
    group: int | None
    values: torch.Tensor
    gradients: torch.Tensor | None
    is_transposed: bool

    def natural(self, tensor):
        """Return what is kept as the values are, in the shape of the parameter."""
        return tensor if tensor is None or not self.is_transposed else tensor.mT

    def kept(self, tensors):
        """Return what has the shape of the parameter, of each network, as the values are kept."""
        return torch.stack([self.natural(tensor.detach()) for tensor in tensors])


class Parameters:
    """Parameters and buffers of networks that share a graph.

    Parameters
    ----------
    modules : list of torch.nn.Module
    groups : dict of str to int, default={}
        The optimizer's groups of parameters. Those that are left out are trained by none.
    trained : bool, default=True
        Whether there will be gradients.
    """

    def __init__(self, modules, groups=(), trained=True):
        self.modules = modules
        groups = dict(groups)
        linear = {m.weight for m in modules[0].modules() if type(m) is nn.Linear}
        rows = [dict(module.named_parameters()) for module in modules]
        self.blocks = []
        for name, parameter in rows[0].items():
            block = Block(name, groups.get(name), None, None, parameter in linear)
            block.values = block.kept([row[name] for row in rows])
            if trained and parameter.requires_grad:
                block.gradients = torch.zeros_like(block.values)
            self.blocks.append(block)
        of_networks = [dict(module.named_buffers()) for module in modules]
        self.buffers = {k: torch.stack([b[k] for b in of_networks]) for k in of_networks[0]}

    @property
    def dtype(self):
        """torch.dtype: of the first parameter."""
        return self.blocks[0].values.dtype

    def attach(self):
        """Let the modules of the networks have the rows as their parameters and buffers."""
        for row, module in enumerate(self.modules):
            own = dict(module.named_parameters())
            for block in self.blocks:
                own[block.name].data = block.natural(block.values[row])
            for name, buffer in module.named_buffers():
                buffer.data = self.buffers[name][row]

    def release(self, row):
        """Give a module parameters and buffers of its own."""
        for tensor in (*self.modules[row].parameters(), *self.modules[row].buffers()):
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
            tensor.grad = None

    def pairs(self, start, stop):
        """Return values and gradients by name, of shape (n_networks, ...); None where none is."""
        return {
            block.name: tuple(
                tensor if tensor is None else block.natural(tensor[start:stop])
                for tensor in (block.values, block.gradients)
            )
            for block in self.blocks
        }

    def trained(self, start, stop):
        """Yield the parameters that are trained, as tensors of shape (n_networks, ...)."""
        pairs = self.pairs(start, stop).values()
        return (values for values, gradients in pairs if gradients is not None)

    def set_trained(self, trained):
        """Mark parameters as trainable or frozen; return whether that changes any.

        Parameters
        ----------
        trained : dict of str to bool
        """
        changed = [b for b in self.blocks if trained[b.name] != (b.gradients is not None)]
        for block in changed:
            block.gradients = torch.zeros_like(block.values) if trained[block.name] else None
        return bool(changed)

    def keep(self, rows):
        """Drop all other networks.

        Parameters
        ----------
        rows : list of int
        """
        self.modules = [self.modules[row] for row in rows]
        for block in self.blocks:
            block.values = block.values[rows]
            if block.gradients is not None:
                block.gradients = block.gradients[rows]
        self.buffers = {name: buffer[rows] for name, buffer in self.buffers.items()}
        self.attach()
