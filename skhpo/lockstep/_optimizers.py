"""Steps of the optimizers of several nets, row by row of their parameters."""

from __future__ import annotations

import torch

from ._elementwise import ELEMENTWISE, Elementwise

__all__ = ["OPTIMIZERS", "make_optimizer", "settings_of"]


def settings_of(optimizer):
    """Return the settings of an optimizer's groups, as a comparable tuple."""
    return tuple(
        tuple((k, _plain(v)) for k, v in group.items() if k not in ("params", "initial_lr"))
        for group in optimizer.param_groups
    )


def _plain(value):
    if isinstance(value, torch.Tensor):
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def make_optimizer(parameters, nets, n_batches):
    """Return what steps the optimizers of nets in lockstep."""
    return OPTIMIZERS[type(nets[0].optimizer_)](parameters, nets, n_batches)


class _Fused:
    """Torch's fused kernels, called once for each run of nets with the same settings.

    Parameters
    ----------
    parameters : Parameters
    nets : list of estimator
        Their optimizers have the settings, and the states to continue from.
    n_batches : list of int
        Batches of an epoch of each net.
    """

    slots = ()

    def __init__(self, parameters, nets, n_batches):
        self.parameters = parameters
        self.nets = nets
        self.n_batches = n_batches
        self.settings = [settings_of(net.optimizer_) for net in nets]
        self.states = []
        self.steps = []
        for block in parameters.blocks:
            self.states.append({name: torch.zeros_like(block.values) for name in self.slots})
            self.steps.append(torch.zeros(len(nets), dtype=torch.float32, device="cpu"))
            for row, net in enumerate(nets):
                self._load(block, self.states[-1], self.steps[-1], row, net)
        if self.on_device:
            self.steps = [steps.to(parameters.blocks[0].values.device) for steps in self.steps]
        self._calls = {}

    on_device = True

    def _load(self, block, states, steps, row, net):
        own = dict(net.module_.named_parameters())
        begin = 0
        for name in block.names:
            end = begin + own[name].numel()
            state = net.optimizer_.state.get(own[name], {})
            for slot in self.slots:
                if state.get(slot) is not None:
                    states[slot][row, begin:end] = self.parameters.flat(name, state[slot])
            if state:
                steps[row] = self._steps_of(state)
            begin = end

    def _steps_of(self, state):
        return float(state.get("step", 1))

    def step(self, start, stop):
        """Step the optimizers of the nets from `start` to `stop`."""
        key = (start, stop)
        if key not in self._calls:
            self._calls[key] = self._make_calls(start, stop)
        steps, calls, lasting = self._calls[key]
        for counter in steps:
            counter += 1
        for function, args, kwargs in calls:
            function(*args, **kwargs)
        if not lasting:
            del self._calls[key]

    def _make_calls(self, start, stop):
        trained = [i for i, block in enumerate(self.parameters.blocks) if block.trained]
        steps = [self.steps[i][start:stop] for i in trained]
        calls = []
        groups = {}
        for i in trained:
            groups.setdefault(self.parameters.blocks[i].group, []).append(i)
        for group, members in groups.items():
            for a, b in self._runs(start, stop):
                calls.append(self._call(dict(self.settings[a][group]), members, a, b))
        return steps, calls, self._lasting(steps)

    def _lasting(self, steps):
        """Tell whether the next step is made by the same calls."""
        return True

    def _runs(self, start, stop):
        """Yield ranges of nets that step alike."""
        first = start
        for row in range(start + 1, stop + 1):
            if row == stop or self._alike(row) != self._alike(first):
                yield first, row
                first = row

    def _alike(self, row):
        steps = tuple(steps[row].item() for steps in self.steps)
        return self.settings[row], self.n_batches[row], steps

    def _lists(self, members, a, b):
        blocks = [self.parameters.blocks[i] for i in members]
        yield [block.values[a:b].view(-1) for block in blocks]
        yield [block.grads[a:b].view(-1) for block in blocks]
        for slot in self.slots:
            yield [self.states[i][slot][a:b].view(-1) for i in members]

    def look_again(self, row):
        """Read the settings of a net that may have changed."""
        settings = settings_of(self.nets[row].optimizer_)
        if settings != self.settings[row]:
            self.settings[row] = settings
            self._calls.clear()

    def forget_calls(self):
        """Make the calls anew; parameters thawed."""
        self._calls.clear()

    def keep(self, rows):
        """Drop all other nets."""
        self.nets = [self.nets[row] for row in rows]
        self.n_batches = [self.n_batches[row] for row in rows]
        self.settings = [self.settings[row] for row in rows]
        self.states = [{k: v[rows] for k, v in states.items()} for states in self.states]
        self.steps = [steps[rows] for steps in self.steps]
        self._calls.clear()

    def give_back(self, row):
        """Write the state of a net into its own optimizer."""
        net = self.nets[row]
        own = dict(net.module_.named_parameters())
        for i, block in enumerate(self.parameters.blocks):
            n_steps = self.steps[i][row].item()
            if block.group is None or not n_steps:
                continue
            group = net.optimizer_.param_groups[block.group]
            begin = 0
            for name in block.names:
                parameter = own[name]
                end = begin + parameter.numel()
                values = {
                    slot: _own(self.parameters.natural(name, states[row, begin:end]))
                    for slot, states in self.states[i].items()
                }
                self._give(net.optimizer_, group, parameter, values, n_steps)
                begin = end


def _own(view):
    return view.clone(memory_format=torch.contiguous_format)


class _Adam(_Fused):
    slots = ("exp_avg", "exp_avg_sq")

    def __init__(self, parameters, nets, n_batches):
        if any(group["amsgrad"] for group in nets[0].optimizer_.param_groups):
            self.slots = (*self.slots, "max_exp_avg_sq")
        super().__init__(parameters, nets, n_batches)

    def _call(self, settings, members, a, b):
        lists = list(self._lists(members, a, b))
        if not settings["amsgrad"]:
            lists = [*lists[:4], []]
        steps = [self.steps[i][a] for i in members]
        beta1, beta2 = settings["betas"]
        kwargs = {name: settings[name] for name in ("lr", "weight_decay", "eps")}
        kwargs |= {"beta1": beta1, "beta2": beta2}
        kwargs |= {name: settings[name] for name in ("amsgrad", "maximize")}
        function = torch._fused_adamw_ if self._decoupled(settings) else torch._fused_adam_
        return function, (*lists, steps), kwargs

    def _decoupled(self, settings):
        return settings.get("decoupled_weight_decay", False)

    def _give(self, optimizer, group, parameter, values, n_steps):
        fused = bool(group["fused"])
        wide = torch.get_default_dtype() == torch.float64 and not fused
        step = torch.tensor(
            n_steps,
            dtype=torch.float64 if wide else torch.float32,
            device=parameter.device if fused else "cpu",
        )
        if not group["amsgrad"]:
            values.pop("max_exp_avg_sq", None)
        optimizer.state[parameter] = {"step": step, **values}


class _AdamW(_Adam):
    def _decoupled(self, settings):
        return True


class _SGD(_Fused):
    slots = ("momentum_buffer",)
    on_device = False

    def _steps_of(self, state):
        return 0 if state.get("momentum_buffer") is None else 1

    def _lasting(self, steps):
        # From the second step on there is a momentum.
        return all(counter.all() for counter in steps)

    def _call(self, settings, members, a, b):
        values, grads, momenta = self._lists(members, a, b)
        first = not self.steps[members[0]][a].item()
        kwargs = {name: settings[name] for name in ("weight_decay", "momentum", "lr")}
        kwargs |= {name: settings[name] for name in ("dampening", "nesterov", "maximize")}
        kwargs |= {"is_first_step": first}
        return torch._fused_sgd_, (values, grads, momenta if settings["momentum"] else []), kwargs

    def _give(self, optimizer, group, parameter, values, n_steps):
        if group["momentum"]:
            optimizer.state[parameter] = values


OPTIMIZERS = {
    torch.optim.Adam: _Adam,
    torch.optim.AdamW: _AdamW,
    torch.optim.SGD: _SGD,
    **dict.fromkeys(ELEMENTWISE, Elementwise),
}
