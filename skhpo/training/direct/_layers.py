"""From a module to its rule."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from ...modules import MLP, ConvNet, TableInputs
from ._autograd import make_local_rule
from ._graph import Graph
from ._normalizations import BatchNorm, GroupNorm, LayerNorm, Table
from ._products import Convolution, Embedding, SparseLinear
from ._rules import ACTIVATIONS, Dropout, FeatureDropout, Identity, Place, Rule, Unknown
from ._shapes import POOLS, Flatten, Unflatten

__all__ = [
    "READ_IN_STEPS",
    "RULES",
    "has_global_hooks",
    "has_hooks",
    "is_known",
    "is_traced",
    "make_rule",
    "refuse_hooks",
]

_DROPOUTS = {
    nn.Dropout: Dropout,
    nn.Dropout1d: FeatureDropout,
    nn.Dropout2d: FeatureDropout,
    nn.Dropout3d: FeatureDropout,
}
# Shares that rules read in each step.
READ_IN_STEPS: dict[Any, str] = {
    **dict.fromkeys(_DROPOUTS, "p"),
    nn.CrossEntropyLoss: "label_smoothing",
}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# From the exact type of a layer to its rule.
RULES: dict[Any, Any] = {
    nn.Identity: Identity,
    nn.Linear: SparseLinear,
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), Convolution),
    nn.Embedding: Embedding,
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), BatchNorm),
    nn.LayerNorm: LayerNorm,
    nn.GroupNorm: GroupNorm,
    nn.Flatten: Flatten,
    nn.Unflatten: Unflatten,
    TableInputs: Table,
    **ACTIVATIONS,
    **_DROPOUTS,
    **POOLS,
}


# Layers that compute the same in any precision.
_PRECISE = {nn.Identity, nn.Flatten, nn.Unflatten, *_DROPOUTS}
# ``forward`` methods that call all children in order. The functions map such a module and the
# shape of its input to a layer that must be called first, or None.
SEQUENCES = {
    nn.Sequential.forward: lambda module, shape: None,
    MLP.forward: lambda module, shape: nn.Flatten() if len(shape) > 2 else None,
    ConvNet.forward: lambda module, shape: (
        nn.Unflatten(1, (1, shape[1])) if module.is_gray else None
    ),
}


class Chain(Rule):
    """A sequence of layers, given as pairs of name and layer."""

    def __init__(self, layers: Any, place: Place) -> None:
        rules, outer = [], place.path
        self.keeps_output, self.aliases = not place.may_overwrite, True
        for name, layer in layers:
            place = place.at(path=f"{outer}{name}.")
            rule = make_rule(layer, place)
            learns = place.needs_gradient or place.trains
            rules.append((rule, learns))
            self.keeps_output = rule.keeps_output
            self.aliases = self.aliases and rule.aliases
            place = place.at(
                shape=rule.shape,
                needs_gradient=learns,
                may_overwrite=not rule.keeps_output,
                is_integer=place.is_integer and not isinstance(layer, nn.Embedding),
            )
        self.shape = place.shape
        self._forwards = [rule.forward for rule, _ in rules]
        # Layers before the first one that learns need no gradient.
        self._backwards = [rule.backward for rule, learns in reversed(rules) if learns]

    def forward(self, x: Any) -> Any:
        for forward in self._forwards:
            x = forward(x)
        return x

    def backward(self, gradient: torch.Tensor) -> Any:
        for backward in self._backwards:
            gradient = backward(gradient)
        return gradient


def make_rule(module: nn.Module, place: Place) -> Any:
    """Return the rule of a module; `Unknown` is raised if it has none."""
    kind, networks = type(module), place.networks
    if networks is None or (_is_sequence(kind) and kind not in networks.rules):
        return _make_rule(module, place)
    if kind in networks.rules or (networks.precision and kind not in _PRECISE):
        return make_local_rule(module, place)
    n_parts = len(networks.parts)
    try:
        rule = _make_rule(module, place)
    except Unknown:
        return make_local_rule(module, place)
    by_autograd = networks.parts[n_parts:]
    if len(by_autograd) > 1:
        # The whole module at once is faster than several of its parts.
        with contextlib.suppress(Unknown):
            del networks.parts[n_parts:]
            return make_local_rule(module, place)
        networks.parts[n_parts:] = by_autograd
    return rule


def _make_rule(module: nn.Module, place: Place) -> Any:
    kind = type(module)
    if _is_sequence(kind):
        make: Any = SEQUENCES[kind.forward]
        before = make(module, place.shape)
        first = [] if before is None else [("before", before)]
        return Chain([*first, *module._modules.items()], place)
    rules = RULES if place.rules is None else place.rules
    rule = rules.get(kind)
    if rule is None and kind.__module__.startswith("torch."):
        raise Unknown(f"{kind.__name__} has no rule")
    if rule is None:
        return Graph(module, place, make_rule, partial(_is_leaf, place.networks, rules))
    if kind in _DROPOUTS and not (module.training and any(one.p for one in place.layers(module))):
        rule = rules[nn.Identity]
    return rule(module, place)


def _is_sequence(kind: Any) -> Any:
    iterates = getattr(kind, "__iter__", None) is nn.Sequential.__iter__
    return iterates and kind.forward in SEQUENCES


def is_known(kind: Any, rules: Any = RULES) -> bool:
    """Whether modules of a class have a rule without being traced."""
    return kind in rules or _is_sequence(kind)


def _is_leaf(networks: Any, rules: Any, kind: Any) -> Any:
    return is_known(kind, rules) or (networks is not None and kind in networks.rules)


def is_traced(module: nn.Module, rules: Any = RULES) -> bool:
    """Whether parts of a module have rules by their graphs only."""
    return not all(
        is_known(type(m), rules) or type(m).__module__.startswith("torch.")
        for m in module.modules()
    )


def refuse_hooks(module: nn.Module) -> None:
    """Raise Unknown if a module has hooks, or replaced parameters or ``forward``."""
    if has_global_hooks():
        raise Unknown("torch has global hooks")
    for name, layer in module.named_modules():
        changed = "forward" in vars(layer) or layer._compiled_call_impl is not None
        if has_hooks(layer) or changed or type(layer).__call__ is not nn.Module.__call__:
            raise Unknown(f"{name or 'the module'} has hooks")
        if hasattr(layer, "parametrizations"):
            raise Unknown(f"{name or 'the module'} has parametrizations")
        if type(layer) in RULES and any(map(partial(_is_replaced, layer), ("weight", "bias"))):
            raise Unknown(f"{name or 'the module'} has a weight that is no parameter")


def _is_replaced(layer: Any, name: str) -> Any:
    """Whether another tensor is in the place of a parameter, of which rules do not know."""
    return name not in layer._parameters and isinstance(getattr(layer, name, None), torch.Tensor)


def has_global_hooks() -> bool:
    """Whether there are hooks of all modules."""
    return any(getattr(torch_module, f"_global{name}") for name in _HOOKS)


def has_hooks(layer: Any) -> bool:
    """Whether a layer or its parameters have hooks."""
    return any(getattr(layer, name) for name in _HOOKS) or any(
        p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None)
        for p in layer._parameters.values()
        if p is not None
    )
