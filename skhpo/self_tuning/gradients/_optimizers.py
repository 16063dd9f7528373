"""Steps of torch's optimizers as differentiable functions of all weights in one vector.

Notation: w weights, g the gradient of the loss, s the state; each is a vector of n_weights, or a
dict of such. Settings (learning rate, ...) are numbers, tensors with a gradient, or vectors of
n_weights.

========== ========================================================================================
optimizer  step
========== ========================================================================================
SGD        b' = m b + (1 - dampening) g; w' = w - lr b', with Nesterov's w - lr (g + m b')
Adam       b' = b1 b + (1 - b1) g; c' = b2 c + (1 - b2) g^2;
           w' = w - lr b' / (1 - b1^t) / (sqrt(c' / (1 - b2^t)) + eps)
AdamW      the same, after w (1 - lr weight_decay)
RMSprop    c' = alpha c + (1 - alpha) g^2; w' = w - lr g / (sqrt(c') + eps)
========== ========================================================================================
"""

from __future__ import annotations

import torch

__all__ = ["FlatOptimizer", "check_can_unroll"]

# The root has no derivative at 0, where units are dead; far below eps^2 for any eps that is used.
_SMALLEST_SQUARE = 1e-30
_STATES = {
    torch.optim.SGD: ("momentum_buffer",),
    torch.optim.Adam: ("exp_avg", "exp_avg_sq"),
    torch.optim.AdamW: ("exp_avg", "exp_avg_sq"),
    torch.optim.RMSprop: ("square_avg",),
}
# What is tuned, by optimizer.
_TUNED = {
    torch.optim.SGD: ("lr", "momentum"),
    torch.optim.Adam: ("lr", "beta1", "beta2"),
    torch.optim.AdamW: ("lr", "beta1", "beta2"),
    torch.optim.RMSprop: ("lr",),
}
# Settings that change the step in ways that are not written here.
_UNKNOWN = ("amsgrad", "maximize", "centered")
# What is called so in other optimizers.
_CALLED = {"momentum": "beta1", "beta1": "momentum"}


def check_can_unroll(optimizer, names):
    """Raise ValueError unless the steps of an optimizer, and these settings, are known."""
    kind = type(optimizer)
    if kind not in _STATES:
        raise ValueError(
            "variant='unrolled' needs the optimizer 'sgd', 'adam', 'adamw' or 'rmsprop', but got "
            f"{kind.__name__}"
        )
    group = optimizer.param_groups[0]
    wrong = [name for name in _UNKNOWN if group.get(name)]
    if kind is torch.optim.RMSprop and group["momentum"]:
        wrong.append("momentum")
    if wrong:
        raise ValueError(
            f"variant='unrolled' needs {wrong[0]} of the optimizer at its default, but "
            f"optimizer__{wrong[0]}={group[wrong[0]]}"
        )
    for name in names:
        setting = name.rpartition(".")[2]
        if setting not in _TUNED[kind]:
            raise ValueError(
                f"{name!r} is no setting of {kind.__name__} that can be tuned; "
                f"{_in_place_of(name, _TUNED[kind])}"
            )


def _in_place_of(name, known):
    """Say which setting of the optimizer to tune in place of one that it lacks."""
    layer, dot, setting = name.rpartition(".")
    if _CALLED.get(setting) in known:
        return f"tune {layer + dot + _CALLED[setting]!r} in place of it"
    return f"there are: {', '.join(known)}"


class FlatOptimizer:
    """The steps of an optimizer whose parameters are one vector.

    `gather` reads the state of the optimizer, `scatter` writes it. `parameters` are those that are
    trained, by name; `tuned` maps hyperparameters, whose last part is the setting, to such names.
    """

    def __init__(self, optimizer, parameters, tuned):
        self.optimizer, self.parameters = optimizer, parameters
        self.kind = type(optimizer)
        self.sizes = [p.numel() for p in parameters.values()]
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        self.groups = [groups[id(p)] for p in parameters.values()]
        self.names = {
            (name.rpartition(".")[2], parameter): name
            for name, penalised in tuned.items()
            for parameter in penalised
        }

    def gather(self):
        """Return the weights and the state as vectors."""
        states = [self.optimizer.state.get(p, {}) for p in self.parameters.values()]
        w = torch.cat([p.detach().flatten() for p in self.parameters.values()])
        found = {}
        for key in _STATES[self.kind]:
            parts = [
                torch.zeros_like(p).flatten() if state.get(key) is None else state[key].flatten()
                for p, state in zip(self.parameters.values(), states, strict=True)
            ]
            found[key] = torch.cat(parts).detach()
        # SGD does not count its steps; only the first one differs.
        begun = [float(state.get("momentum_buffer") is not None) for state in states]
        steps = [float(state.get("step", n)) for state, n in zip(states, begun, strict=True)]
        found["step"] = self._joined([w.new_tensor(step) for step in steps], steps)
        return w, found

    @torch.no_grad()
    def scatter(self, w, state):
        """Write weights and state into the parameters and the optimizer."""
        columns = {key: self._split(state[key]) for key in _STATES[self.kind]}
        steps = state["step"].expand(len(w)).split(self.sizes)
        for i, (part, p) in enumerate(zip(self._split(w), self.parameters.values(), strict=True)):
            p.copy_(part)
            if self.kind is torch.optim.SGD and not self._has_momentum(i):
                continue
            own = {key: column[i].detach().clone() for key, column in columns.items()}
            if self.kind is not torch.optim.SGD:
                own["step"] = steps[i][0].detach().float().clone()
            self.optimizer.state[p] = own

    def settings_of_groups(self):
        """Return the tuned settings of each group of the optimizer, as dicts of key to name.

        None if parameters of one group have different ones.
        """
        found = []
        for group in self.optimizer.param_groups:
            own = [
                {key: tuned for (key, of), tuned in self.names.items() if of == name}
                for name, of_parameter in zip(self.parameters, self.groups, strict=True)
                if of_parameter is group
            ]
            if any(names != own[0] for names in own):
                return None
            found.append(own[0] if own else {})
        return found

    def views(self, w):
        """Return the parameters as views of a vector, by name."""
        return dict(zip(self.parameters, self._split(w), strict=True))

    def _split(self, vector):
        parts = vector.split(self.sizes)
        shapes = [p.shape for p in self.parameters.values()]
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]

    def _has_momentum(self, i):
        name = list(self.parameters)[i]
        return ("momentum", name) in self.names or self.groups[i]["momentum"]

    def _joined(self, values, keys):
        """Return the common value of all parameters, or a vector with that of each."""
        if len(set(keys)) == 1:
            return values[0]
        pairs = zip(values, self.sizes, strict=True)
        return torch.cat([value.expand(size) for value, size in pairs])

    def setting(self, key, h, like):
        """Return a setting: that of the groups, or a hyperparameter's value."""
        values, keys = [], []
        for name, group in zip(self.parameters, self.groups, strict=True):
            tuned = self.names.get((key, name))
            factor = group.get("lr_multiplier", 1) if key == "lr" else 1
            if tuned is None:
                number = group["betas"][int(key[-1]) - 1] if key.startswith("beta") else group[key]
                values.append(number)
                keys.append(number)
            else:
                values.append(h[tuned] * factor)
                keys.append((tuned, factor))
        if len(set(keys)) == 1:
            return values[0]
        return self._joined([torch.as_tensor(v, dtype=like.dtype) for v in values], keys)

    def step(self, w, g, state, h):
        """Return the weights and the state after a step, for values `h` of hyperparameters."""
        settings = _Settings(self, h, w)
        decay = settings["weight_decay"]
        decoupled = self.kind is torch.optim.AdamW or self.groups[0].get("decoupled_weight_decay")
        if isinstance(decay, torch.Tensor) or decay:
            if decoupled:
                w = w * (1 - settings["lr"] * decay)
            else:
                g = g + decay * w
        if self.kind is torch.optim.SGD:
            return _sgd(w, g, state, settings)
        if self.kind is torch.optim.RMSprop:
            return _rmsprop(w, g, state, settings)
        return _adam(w, g, state, settings)


class _Settings:
    def __init__(self, optimizer, h, like):
        self.optimizer, self.h, self.like = optimizer, h, like

    def __getitem__(self, key):
        return self.optimizer.setting(key, self.h, self.like)

    def plain(self, key):
        return self.optimizer.groups[0][key]


def _sgd(w, g, state, settings):
    momentum, buffer, t = settings["momentum"], state["momentum_buffer"], state["step"]
    if not isinstance(momentum, torch.Tensor) and not momentum:
        return w - settings["lr"] * g, {**state, "step": t + 1}
    # The first buffer is the gradient, without dampening.
    fresh = torch.where(t > 0, 1 - settings.plain("dampening"), 1.0)
    buffer = momentum * buffer + fresh * g
    g = g + momentum * buffer if settings.plain("nesterov") else buffer
    return w - settings["lr"] * g, {"momentum_buffer": buffer, "step": t + 1}


def _adam(w, g, state, settings):
    t = state["step"] + 1
    b1, b2 = settings["beta1"], settings["beta2"]
    mean = b1 * state["exp_avg"] + (1 - b1) * g
    square = b2 * state["exp_avg_sq"] + (1 - b2) * g * g
    root = (square / (1 - b2**t)).clamp_min(_SMALLEST_SQUARE).sqrt() + settings.plain("eps")
    w = w - settings["lr"] * (mean / (1 - b1**t)) / root
    return w, {"exp_avg": mean, "exp_avg_sq": square, "step": t}


def _rmsprop(w, g, state, settings):
    alpha = settings.plain("alpha")
    square = alpha * state["square_avg"] + (1 - alpha) * g * g
    root = square.clamp_min(_SMALLEST_SQUARE).sqrt() + settings.plain("eps")
    return w - settings["lr"] * g / root, {"square_avg": square, "step": state["step"] + 1}
