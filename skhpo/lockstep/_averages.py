"""Averages of the weights of several networks, moved together."""

from __future__ import annotations

import torch

from ..training.averaging import WeightAverage, is_averaged, is_finite, moved
from ._registry import LockstepError

__all__ = ["Averages"]


class Averages:
    """Moves the averages of networks in lockstep; their weights are views of joint tensors.

    Networks without an average, and those that do not average at a step, stay as they are. Raises
    LockstepError if a state dict has anything but parameters and buffers of its module.

    Parameters
    ----------
    parameters : Parameters
    states : list of TrainingState
    """

    def __init__(self, parameters, states):
        self.parameters = parameters
        self.states = states
        self._keys = {}
        if any(state.average is not None for state in states):
            self._keys = self._keys_of_module()
        self._join()

    def _keys_of_module(self):
        """Return the name of the parameter or buffer of each key of a module's state dict."""
        keys = {}
        for part, module in self.states[0].modules().items():
            tensors = (*module.named_parameters(), *module.named_buffers())
            names = {id(tensor): name for name, tensor in tensors}
            for key, value in module.state_dict(keep_vars=True).items():
                if part != "module" or id(value) not in names:
                    raise LockstepError(f"{key!r} of a state dict is no tensor of the module")
                keys[key] = names[id(value)]
        return keys

    def _join(self):
        """Gather the averages of all networks."""
        self._joint, self._parts = {}, {}
        begun = [row for row, state in enumerate(self.states) if _has_begun(state)]
        for key, name in self._keys.items():
            values = self.parameters.of_networks(name)
            mean = values.clone()
            for row in begun:
                mean[row].copy_(self.states[row].average.weights["module"][key])
            self._joint[key] = mean, values
        for row in begun:
            self._attach(row)

    def _attach(self, row):
        """Make the weights of an average views of the joint tensors."""
        state = self.states[row]
        weights = {part: {} for part in state.modules()}
        weights["module"] = {key: mean[row] for key, (mean, _) in self._joint.items()}
        state.average.keep_in(weights)

    def begin_epoch(self):
        """Find the averages that move after each step, and those that move after the epoch."""
        self._of_step, self._of_epoch = (
            [_moving(state, moves) for state in self.states]
            for moves in (WeightAverage.moves_in, WeightAverage.moves_after)
        )
        self._in_steps = any(self._of_step)

    def after_step(self, start, stop):
        """Average the weights of the networks from `start` to `stop` after a step."""
        if self._in_steps:
            self._move(start, self._of_step[start:stop])

    def after_epoch(self):
        """Average the weights of all networks after an epoch."""
        self._move(0, self._of_epoch)

    def _move(self, start, averages):
        """Move some averages; those of other networks are None."""
        if not any(averages):
            return
        kinds = {None if one is None else (one.n, one.decay) for one in averages}
        if len(kinds) == 1:
            shares = averages[0].share
        else:
            shares = [0 if one is None else one.share for one in averages]
        key = start, start + len(averages)
        if key not in self._parts:
            self._parts[key] = _Part(self._joint.values(), *key)
        self._parts[key].move(shares)
        for row, average in enumerate(averages, start):
            if average is not None:
                average.n += 1
                if average.weights is None:
                    with torch.inference_mode(False):
                        self._attach(row)

    def keep(self, rows):
        """Drop all other networks."""
        self.states = [self.states[row] for row in rows]
        self._join()

    def release(self, row):
        """Copy the average of a network out of the joint tensors."""
        state = self.states[row]
        if _has_begun(state):
            weights = state.average.weights
            weights["module"] = {key: _own(mean) for key, mean in weights["module"].items()}
            state.average.keep_in(weights)


class _Part:
    """The joint tensors of the networks from `start` to `stop`; `joint` are means and values."""

    def __init__(self, joint, start, stop):
        pairs = [(mean[start:stop], values[start:stop]) for mean, values in joint]
        averaged = [pair for pair in pairs if is_averaged(pair[0])]
        self.partial = [pair for pair in averaged if not is_finite(*pair)]
        finite = [pair for pair in averaged if is_finite(*pair)]
        self.means = [mean for mean, _ in finite]
        self.values = [values for _, values in finite]
        self.others = [pair for pair in pairs if not is_averaged(pair[0])]

    def move(self, shares):
        """Move means to the values by a share of the difference, or by one for each network."""
        rows, of_partial = ..., [shares] * len(self.partial)
        if isinstance(shares, list):
            rows = [row for row, share in enumerate(shares) if share]
            of_partial = _in_shapes_of([mean for mean, _ in self.partial], shares)
            shares = _in_shapes_of(self.means, shares)
        if self.means:
            torch._foreach_lerp_(self.means, self.values, shares)
        for (mean, values), share in zip(self.partial, of_partial, strict=True):
            mean.copy_(moved(mean, values, share))
        for mean, values in self.others:
            mean[rows] = values[rows]


def _has_begun(state):
    return state.average is not None and state.average.weights is not None


def _moving(state, moves):
    """Return the average of a network if it moves in the next epoch, else None."""
    average = state.average
    return average if average and moves(average, state.counters.n_epochs + 1) else None


def _in_shapes_of(tensors, shares):
    """Return a number for each network, in the dimensions and types of tensors of networks."""
    by_type = {}
    for tensor in tensors:
        if tensor.dtype not in by_type:
            by_type[tensor.dtype] = tensor.new_tensor(shares)
    return [by_type[tensor.dtype].view(-1, *[1] * (tensor.ndim - 1)) for tensor in tensors]


def _own(tensor):
    return tensor.clone(memory_format=torch.contiguous_format)
