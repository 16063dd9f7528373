"""The parameters of several nets as rows of a few matrices."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

__all__ = ["Block", "Parameters", "Part"]


@dataclass
class Block:
    """Parameters that one group of the optimizer trains, a row for each net.

    Parameters
    ----------
    group : int or None
        Which group of the optimizer; None where no optimizer has them.
    names : list of str
    values : Tensor of shape (n_nets, n_values)
    grads : Tensor of shape (n_nets, n_values)
    """

    group: int | None
    names: list
    values: torch.Tensor
    grads: torch.Tensor
    trained: bool = True


@dataclass
class Part:
    """What the rows from `start` to `stop` are within a step.

    Attributes
    ----------
    values : dict of str to Tensor of shape (stop - start, ...)
        The parameters, each as its layer wants it; those that are trained are leaves of autograd.
    leaves : list of Tensor
        Those that are trained.
    grads : list of Tensor
        Where their gradients go.
    buffers : dict of str to Tensor of shape (stop - start, ...)
    """

    start: int
    stop: int
    values: dict = field(default_factory=dict)
    leaves: list = field(default_factory=list)
    grads: list = field(default_factory=list)
    buffers: dict = field(default_factory=dict)


class Parameters:
    """Parameters and buffers of nets that share a graph.

    Parameters
    ----------
    modules : list of torch.nn.Module
    groups : dict of str to (int, hashable)
        The optimizer's group of a parameter, and what else keeps parameters apart (such as
        when they thaw). Parameters that are left out are not trained.
    views : dict of str to callable
        What makes of a parameter of shape (n_nets, ...) what its layer wants: a view.
    apart : set of str
        Names of parameters whose values of all nets must be contiguous.
    transposed : set of str
        Names of matrices that are kept transposed.
    trained : bool, default=True
        Whether there will be gradients.
    """

    def __init__(self, modules, groups, views, apart, transposed, trained=True):
        named = dict(modules[0].named_parameters())
        self.shapes = {name: p.shape for name, p in named.items()}
        self.views = views
        self.transposed = transposed
        keys = {}
        for name in named:
            key = (groups.get(name), name if name in apart else None)
            keys.setdefault(key, []).append(name)
        rows = [dict(module.named_parameters()) for module in modules]
        self.blocks = []
        for (group, _), names in keys.items():
            with torch.no_grad():
                values = torch.stack(
                    [torch.cat([self.flat(name, row[name]) for name in names]) for row in rows]
                )
            learns = trained and named[names[0]].requires_grad
            grads = torch.zeros_like(values) if learns else values[:, :0]
            self.blocks.append(Block(group and group[0], names, values, grads, learns))
        of_nets = [dict(module.named_buffers()) for module in modules]
        self.buffers = {name: torch.stack([b[name] for b in of_nets]) for name in of_nets[0]}
        self._parts = {}

    def __len__(self):
        return len(self.blocks[0].values)

    def part(self, start, stop):
        """Return the rows from `start` to `stop`."""
        if (start, stop) not in self._parts:
            self._parts[start, stop] = self._make_part(start, stop)
        return self._parts[start, stop]

    def _make_part(self, start, stop):
        part = Part(start, stop)
        part.buffers = {name: buffer[start:stop] for name, buffer in self.buffers.items()}
        for block in self.blocks:
            for name, values, grads in self._split(block, start, stop):
                view = self.views.get(name, _as_it_is)
                leaf = view(values).detach()
                part.values[name] = leaf
                if block.trained:
                    part.leaves.append(leaf.requires_grad_())
                    part.grads.append(view(grads))
        return part

    def _split(self, block, start, stop):
        """Yield names, values and gradients of the parameters of a block."""
        begin = 0
        for name in block.names:
            end = begin + self.shapes[name].numel()
            shape = self.shape_kept(name)
            values = block.values[start:stop, begin:end].unflatten(1, shape or (1,))
            values = values if shape else values.flatten()
            grads = block.grads[start:stop, begin:end]
            yield name, values, grads.view_as(values) if block.trained else None
            begin = end

    def pairs(self, start, stop):
        """Return values and gradients by name, of shape (n_nets, ...); None where there is none."""
        return {
            name: tuple(t.mT if name in self.transposed and t is not None else t for t in pair)
            for block in self.blocks
            for name, *pair in self._split(block, start, stop)
        }

    def trained(self, start, stop):
        """Yield the parameters that are trained, as tensors of shape (n_nets, ...)."""
        pairs = self.pairs(start, stop).values()
        return (values for values, gradients in pairs if gradients is not None)

    def shape_kept(self, name):
        """Return the shape in which a parameter is kept."""
        shape = self.shapes[name]
        return shape[::-1] if name in self.transposed else shape

    def flat(self, name, tensor):
        """Return a parameter, or what has its shape, as it stands in a row."""
        tensor = tensor.detach()
        return (tensor.t() if name in self.transposed else tensor).reshape(-1)

    def natural(self, name, flat):
        """Return a part of a row in the shape of its parameter: a view."""
        tensor = flat.view(self.shape_kept(name))
        return tensor.t() if name in self.transposed else tensor

    def set_trained(self, trained):
        """Say which parameters rest; return whether that is something new.

        Parameters
        ----------
        trained : dict of str to bool
        """
        changed = False
        for block in self.blocks:
            wanted = trained[block.names[0]]
            if block.trained != wanted:
                block.trained = wanted
                block.grads = torch.zeros_like(block.values) if wanted else block.values[:, :0]
                self._parts.clear()
                changed = True
        return changed

    def keep(self, rows):
        """Drop all other rows.

        Parameters
        ----------
        rows : list of int
        """
        for block in self.blocks:
            block.values = block.values[rows]
            block.grads = block.grads[rows]
        self.buffers = {name: buffer[rows] for name, buffer in self.buffers.items()}
        self._parts.clear()

    def give_back(self, row, module):
        """Write a row into the module that it came from."""
        own = dict(module.named_parameters())
        with torch.no_grad():
            for block in self.blocks:
                parts = block.values[row].split([self.shapes[n].numel() for n in block.names])
                for name, values in zip(block.names, parts, strict=True):
                    own[name].copy_(self.natural(name, values))
            for name, buffer in module.named_buffers():
                buffer.copy_(self.buffers[name][row])


def _as_it_is(tensor):
    return tensor
