"""Optimizers without kernels of their own: torch's, stepping over rows in place of parameters."""

from __future__ import annotations

import torch

__all__ = ["ELEMENTWISE", "Elementwise"]

# They treat each number on its own, so that all parameters of a net can be one vector.
ELEMENTWISE = (
    *(torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.Adadelta, torch.optim.Adamax),
    *(torch.optim.NAdam, torch.optim.RAdam, torch.optim.ASGD, torch.optim.Rprop),
)


class Elementwise:
    """One optimizer of torch with groups for each net.

    Parameters
    ----------
    parameters : Parameters
    nets : list of estimator
        Their optimizers have the settings, and the states to continue from.
    n_batches : list of int
        Not used: each net has groups of its own.
    """

    def __init__(self, parameters, nets, n_batches):
        self.parameters = parameters
        self.nets = nets
        states = [
            [self._joined_state(net, block.names) for block in parameters.blocks] for net in nets
        ]
        self._make(states)

    def _make(self, states):
        self.leaves = [
            [block.values[row].detach() for block in self.parameters.blocks]
            for row in range(len(self.nets))
        ]
        self.groups = []
        for net, leaves in zip(self.nets, self.leaves, strict=True):
            own = [_settings(group) for group in net.optimizer_.param_groups]
            for number, group in enumerate(own):
                group["params"] = [
                    leaf
                    for leaf, block in zip(leaves, self.parameters.blocks, strict=True)
                    if block.group == number
                ]
            self.groups.append(own)
        kind = type(self.nets[0].optimizer_)
        self.optimizer = kind([group for own in self.groups for group in own])
        for leaves, own in zip(self.leaves, states, strict=True):
            for leaf, state in zip(leaves, own, strict=True):
                if state:
                    self.optimizer.state[leaf] = state
        self.forget_calls()

    def forget_calls(self):
        """Make the gradients known anew; parameters thawed."""
        for row, leaves in enumerate(self.leaves):
            for leaf, block in zip(leaves, self.parameters.blocks, strict=True):
                leaf.grad = block.grads[row] if block.trained else None

    def step(self, start, stop):
        """Step the optimizers of the nets from `start` to `stop`."""
        self.optimizer.param_groups = [group for own in self.groups[start:stop] for group in own]
        self.optimizer.step()

    def look_again(self, row):
        """Read the settings of a net that may have changed."""
        groups = self.nets[row].optimizer_.param_groups
        for own, group in zip(self.groups[row], groups, strict=True):
            own.update(_settings(group))

    def keep(self, rows):
        """Drop all other nets."""
        states = [[self.optimizer.state.get(leaf, {}) for leaf in self.leaves[row]] for row in rows]
        self.nets = [self.nets[row] for row in rows]
        self._make(states)

    def give_back(self, row):
        """Write the state of a net into its own optimizer."""
        net = self.nets[row]
        own = dict(net.module_.named_parameters())
        for leaf, block in zip(self.leaves[row], self.parameters.blocks, strict=True):
            state = self.optimizer.state.get(leaf, {})
            begin = 0
            for name in block.names if state else ():
                parameter = own[name]
                end = begin + parameter.numel()
                net.optimizer_.state[parameter] = {
                    key: self._part_of(value, leaf, name, begin, end)
                    for key, value in state.items()
                }
                begin = end

    def _joined_state(self, net, names):
        """Return the state of some parameters of a net as that of one vector."""
        own = dict(net.module_.named_parameters())
        states = [net.optimizer_.state.get(own[name]) for name in names]
        if not all(states):
            return {}
        joined = {}
        for key, value in states[0].items():
            if not isinstance(value, torch.Tensor):
                joined[key] = value
            elif value.ndim and value.shape == own[names[0]].shape:
                pairs = zip(names, states, strict=True)
                joined[key] = torch.cat([self.parameters.flat(n, state[key]) for n, state in pairs])
            else:
                joined[key] = value.clone()
        return joined

    def _part_of(self, value, leaf, name, begin, end):
        if not isinstance(value, torch.Tensor):
            return value
        if value.ndim and value.shape == leaf.shape:
            value = self.parameters.natural(name, value[begin:end])
        return value.clone(memory_format=torch.contiguous_format)


def _settings(group):
    return {name: value for name, value in group.items() if name != "params"}
