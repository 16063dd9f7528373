"""Steps of the optimizers of several networks."""

from __future__ import annotations

import torch

from ..training.direct import FUSED, fused_call, slots

__all__ = ["OPTIMIZERS", "make_optimizer", "settings_of"]

# Elementwise optimizers: one of them can step the parameters of all networks.
_ELEMENTWISE = (
    *(torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.Adadelta, torch.optim.Adamax),
    *(torch.optim.NAdam, torch.optim.RAdam, torch.optim.ASGD, torch.optim.Rprop),
)
_NUMBERS = {float, int, bool, type(None)}
OPTIMIZERS = (*FUSED, *_ELEMENTWISE)


def settings_of(optimizer):
    """Return the settings of an optimizer's groups, as a comparable tuple."""
    return tuple(
        tuple((k, _plain(v)) for k, v in group.items() if k not in ("params", "initial_lr"))
        for group in optimizer.param_groups
    )


def _plain(value):
    if type(value) in _NUMBERS:
        return value
    if isinstance(value, torch.Tensor):
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def make_optimizer(parameters, nets, n_batches):
    """Return the joint optimizer of networks in lockstep."""
    if isinstance(nets[0].optimizer_, FUSED):
        return _Fused(parameters, nets, n_batches)
    return _Joined(parameters, nets)


class _Joined:
    """One optimizer of torch with the groups of all networks."""

    def __init__(self, parameters, nets):
        self.parameters = parameters
        self.nets = nets
        self.own = [dict(net.module_.named_parameters()) for net in nets]
        self._join()

    def _join(self):
        self.optimizer = type(self.nets[0].optimizer_)(
            [{"params": list(own.values())} for own in self.own]
        )
        for net in self.nets:
            self.optimizer.state.update(net.optimizer_.state)
        self.rebuild_calls()

    def rebuild_calls(self):
        """Set the current gradients, after parameters were frozen or unfrozen."""
        for row, own in enumerate(self.own):
            for block in self.parameters.blocks:
                gradients = block.natural(block.gradients)
                own[block.name].grad = None if gradients is None else gradients[row]

    def step(self, start, stop):
        """Step the optimizers of the networks from `start` to `stop`."""
        # One call for all parameters of a group, instead of a loop in Python.
        self.optimizer.param_groups = [
            {**group, "foreach": group["foreach"] is not False}
            for net in self.nets[start:stop]
            for group in net.optimizer_.param_groups
        ]
        # The state that it allocates must be usable outside of inference mode.
        with torch.inference_mode(False), torch.no_grad():
            self.optimizer.step()

    def refresh_settings(self, rows):
        """Do nothing: the settings of networks are read in each step."""

    def keep(self, rows):
        """Drop all other networks."""
        states = self.optimizer.state
        self.nets, self.own = ([of[row] for row in rows] for of in (self.nets, self.own))
        self._join()
        self.optimizer.state.update(
            {p: states[p] for own in self.own for p in own.values() if p in states}
        )

    def release(self, row):
        """Write the state of a network into its own optimizer."""
        for parameter in self.own[row].values():
            if parameter in self.optimizer.state:
                state = self.optimizer.state[parameter].items()
                self.nets[row].optimizer_.state[parameter] = {k: _own(v) for k, v in state}


def _own(value):
    if not isinstance(value, torch.Tensor):
        return value
    return value.clone(memory_format=torch.contiguous_format)


class _Fused:
    """Torch's fused kernels, called once for adjacent networks with the same settings.

    `n_batches` are the batches of an epoch of each network; `counts`, of shape (n_blocks,
    n_networks), are the steps so far.
    """

    def __init__(self, parameters, nets, n_batches):
        self.nets, self.n_batches = nets, n_batches
        self.blocks = [block for block in parameters.blocks if block.group is not None]
        self.states, counts = [], []
        for block in self.blocks:
            states = [self._own_state(row, block.name) for row in range(len(nets))]
            zeros = torch.zeros_like(block.natural(block.values)[0])
            kept = {}
            for name in self._slots(nets[0], block):
                found = [state.get(name) for state in states]
                kept[name] = block.kept([zeros if slot is None else slot for slot in found])
            self.states.append(kept)
            counts.append([_count(state) for state in states])
        self.counts = torch.tensor(counts, dtype=torch.float32, device=zeros.device)
        self.settings = [settings_of(net.optimizer_) for net in nets]
        self.rebuild_calls()

    def _own_state(self, row, name):
        net = self.nets[row]
        return net.optimizer_.state.get(net.module_.get_parameter(name), {})

    def _slots(self, net, block):
        return slots(net.optimizer_, net.optimizer_.param_groups[block.group])

    def rebuild_calls(self):
        """Make new calls, after parameters were frozen or unfrozen."""
        self._calls = {}
        trained = [[float(block.gradients is not None)] for block in self.blocks]
        ones = torch.tensor(trained, dtype=torch.float32, device=self.counts.device)
        self._ones = ones.repeat(1, self.counts.shape[1])

    def step(self, start, stop):
        """Step the optimizers of the networks from `start` to `stop`."""
        key = start, stop
        if key not in self._calls:
            self._calls[key] = self._make_calls(start, stop)
        counts, ones, calls, are_first = self._calls[key]
        counts.add_(ones)
        for call in calls:
            call()
        if are_first:
            del self._calls[key]

    def _make_calls(self, start, stop):
        n_steps = self.counts.tolist()
        groups = {}
        for i, block in enumerate(self.blocks):
            if block.gradients is not None:
                groups.setdefault((block.group, not any(n_steps[i])), []).append(i)
        calls = [
            self._call(group, members, first, row, n_steps)
            for (group, _), members in groups.items()
            for first, row in self._runs(start, stop, n_steps)
        ]
        members = [i for of_group in groups.values() for i in of_group]
        are_first = not all(all(n_steps[i][start:stop]) for i in members)
        return self.counts[:, start:stop], self._ones[:, start:stop], calls, are_first

    def _runs(self, start, stop, n_steps):
        """Yield ranges of networks whose steps are one call."""
        alike = [
            (self.settings[row], self.n_batches[row], *[of_block[row] for of_block in n_steps])
            for row in range(start, stop)
        ]
        first = start
        for row in range(start + 1, stop + 1):
            if row == stop or alike[row - start] != alike[first - start]:
                yield first, row
                first = row

    def _call(self, group, members, first, stop, n_steps):
        """Return the call that steps some blocks of a range of networks."""
        names = self.states[members[0]]
        blocks = [self.blocks[i] for i in members]
        lists = [
            [block.values for block in blocks],
            [block.gradients for block in blocks],
            *([self.states[i][name] for i in members] for name in names),
        ]
        optimizer = self.nets[first].optimizer_
        return fused_call(
            optimizer,
            optimizer.param_groups[group],
            [[tensor[first:stop].flatten() for tensor in tensors] for tensors in lists],
            [self.counts[i, first] for i in members],
            is_first=not n_steps[members[0]][first],
            is_fixed=True,  # `refresh_settings` makes new calls
        )

    def refresh_settings(self, rows):
        """Read the settings of networks that may have changed."""
        for row in rows:
            settings = settings_of(self.nets[row].optimizer_)
            if settings != self.settings[row]:
                self.settings[row] = settings
                self._calls = {}

    def keep(self, rows):
        """Drop all other networks."""
        self.nets, self.settings, self.n_batches = (
            [of[row] for row in rows] for of in (self.nets, self.settings, self.n_batches)
        )
        self.states = [{k: v[rows] for k, v in states.items()} for states in self.states]
        self.counts = self.counts[:, rows]
        self.rebuild_calls()

    def release(self, row):
        """Write the state of a network into its own optimizer."""
        optimizer = self.nets[row].optimizer_
        parameters = dict(self.nets[row].module_.named_parameters())
        counts_steps = not isinstance(optimizer, torch.optim.SGD)
        counts = self.counts[:, row].tolist()
        for block, states, n_steps in zip(self.blocks, self.states, counts, strict=True):
            if not n_steps:
                continue
            own = {k: _own(block.natural(v[row])) for k, v in states.items()}
            if counts_steps:
                group = optimizer.param_groups[block.group]
                own = {"step": _as_step(n_steps, group, block.values.device), **own}
            if own:
                optimizer.state[parameters[block.name]] = own


def _count(state):
    """Return the count of steps in a state; for SGD whether there was one."""
    return float(state.get("step", state.get("momentum_buffer") is not None))


def _as_step(n_steps, group, device):
    """Return a count of steps in the form of torch's optimizer."""
    is_fused = bool(group["fused"])
    is_double = torch.get_default_dtype() == torch.float64 and not is_fused
    dtype = torch.float64 if is_double else torch.float32
    return torch.tensor(n_steps, dtype=dtype, device=device if is_fused else "cpu")
