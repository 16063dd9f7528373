"""Rules of user-defined modules by the graph of their ``forward``, and how it is traced."""

from __future__ import annotations

import contextlib
import operator
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ..randomness import DRAWING
from ..structure import copied, structure
from ._autograd import ByAutograd, vmapped
from ._functions import FUNCTIONS, OPERATIONS
from ._rules import Place, Rule, Unknown, on_meta, users_code
from ._shapes import Reshape

__all__ = ["Graph", "Tracer", "Untraceable", "global_states"]

# From functions and methods that only change the shape to the method.
_VIEWS = {
    **dict.fromkeys((torch.flatten, "flatten"), "flatten"),
    **dict.fromkeys((torch.reshape, "reshape", "view"), "reshape"),
    **dict.fromkeys((torch.squeeze, "squeeze"), "squeeze"),
    **dict.fromkeys((torch.unsqueeze, "unsqueeze"), "unsqueeze"),
    **dict.fromkeys((torch.unflatten, "unflatten"), "unflatten"),
}
# Functions that may compute with shapes while a graph is made.
_OF_SHAPES = {operator.add, operator.sub, operator.mul, operator.floordiv, operator.getitem}


class Graph(Rule):
    """Rules in the order of a graph.

    `is_known` tells whether modules of a class have a rule without being traced. Raises `Unknown`
    if ``forward`` cannot be traced, has an operation without a rule, or has side effects.
    """

    # Its output may be the input of other nodes, or its own input.
    keeps_output = aliases = True

    def __init__(self, module: nn.Module, place: Place, make_rule: Any, is_known: Any) -> None:
        self._make_rule = make_rule
        self._module, self._place = module, place
        self._called: set[Any] = set()
        if module not in place.graphs:
            place.graphs[module] = _trace(module, is_known)
        nodes = list(place.graphs[module].nodes)
        self._learns: dict[Any, bool] = {}  # whether a node's gradient is needed, by node
        self._overwritable: dict[Any, bool] = {}
        # Whether others than its user read the memory of a node.
        self._shared: dict[Any, bool] = {}
        # Shapes of nodes that are tensors; values of all others.
        self._shapes: dict[Any, tuple[int, ...]] = {}
        self._known: dict[Any, Any] = {}
        self._steps: list[Any] = []
        # Values and gradients of parameters and buffers, by node.
        self._attributes: dict[Any, Any] = {}
        for node in nodes:
            self._add(node, is_input=node is nodes[0])
        self._input, self._output = nodes[0], nodes[-1].args[0]
        if self._output not in self._shapes:
            raise Unknown("forward returns more than one tensor")
        self.shape = self._shapes[self._output]

    def _add(self, node: Any, is_input: Any) -> None:
        if is_input:
            self._shapes[node] = tuple(self._place.shape)
            self._learns[node] = self._place.needs_gradient
            self._overwritable[node] = self._place.may_overwrite
            self._shared[node] = not self._place.may_overwrite
        elif node.op == "placeholder":
            if not node.args:
                raise Unknown("forward takes more than one argument")
            self._known[node] = node.args[0]
        elif node.op == "call_module":
            self._add_layer(node)
        elif node.op in ("call_function", "call_method"):
            self._add_call(node)
        elif node.op == "get_attr" and self._place.networks is not None:
            self._add_attribute(node)
        elif node.op != "output":
            raise Unknown(f"forward reads {node.target}")

    def _add_layer(self, node: Any) -> None:
        layer = self._module.get_submodule(node.target)
        has_state = any(True for _ in (*layer.parameters(), *layer.buffers()))
        if len(node.args) != 1 or node.kwargs or (has_state and node.target in self._called):
            raise Unknown(f"{node.target} is called several times, or with several arguments")
        self._called.add(node.target)
        self._add_rule_of(node, layer, str(node.target))

    def _add_rule_of(self, node: Any, layer: Any, name: str, make_rule: Any = None) -> None:
        source = node.args[0]
        if source not in self._shapes:
            raise Unknown(f"{node} of something else than a tensor")
        is_alone = len(source.users) == 1
        parts = layer.modules() if isinstance(layer, nn.Module) else ()
        is_shared = self._shared[source] or not is_alone
        if is_shared and any(getattr(part, "inplace", False) for part in parts):
            raise Unknown(f"{node} works in place")
        place = self._place.at(
            path=f"{self._place.path}{name}.",
            shape=self._shapes[source],
            needs_gradient=self._learns[source],
            may_overwrite=is_alone and self._overwritable[source],
            is_integer=self._is_integer(source),
        )
        rule = (make_rule or self._make_rule)(layer, place)
        self._add_step(node, rule, [source], place.trains)
        self._overwritable[node] = not rule.keeps_output
        self._shared[node] = is_shared and rule.aliases

    def _is_integer(self, source: Any) -> Any:
        return self._place.is_integer and source.op == "placeholder"

    def _add_step(self, node: Any, rule: Any, sources: Any, trains: bool = False) -> None:
        if not node.users:
            raise Unknown(f"nothing is made of {node}")
        self._shapes[node] = rule.shape
        self._overwritable[node] = self._shared[node] = False
        self._learns[node] = trains or any(self._learns[source] for source in sources)
        self._steps.append((node, rule, sources))

    def _add_attribute(self, node: Any) -> None:
        name = self._place.path + node.target
        if not node.users:
            return
        pair: Any = self._place.buffers.get(name), None
        if name in self._place.parameters:
            pair = self._place.parameter(node.target)
        if pair[0] is None:
            raise Unknown(f"{node.target} is neither a parameter nor a buffer")
        self._attributes[node] = pair
        self._shapes[node] = tuple(pair[0].shape[1:])
        self._learns[node], self._shared[node] = pair[1] is not None, True
        self._overwritable[node] = False

    def _add_call(self, node: Any) -> None:
        if not self._is_call_of_tensors(node):
            self._known[node] = self._computed(node)
            return
        try:
            if any(source in self._attributes for source in node.all_input_nodes):
                raise Unknown(f"{node.target} of parameters")
            self._add_call_of_tensors(node)
        except Unknown:
            if self._place.networks is None:
                raise
            self._add_call_by_autograd(node)

    def _is_call_of_tensors(self, node: Any) -> Any:
        of_tensors = any(arg in self._shapes for arg in node.all_input_nodes)
        return of_tensors and node.target not in ("size", "dim") and node.target is not getattr

    def _add_call_by_autograd(self, node: Any) -> Any:
        name = node.target if isinstance(node.target, str) else node.target.__name__
        if name.endswith("_") or name == "setitem" or node.kwargs.keys() & {"inplace", "out"}:
            raise Unknown(f"{node} works in place")
        sources = [source for source in node.all_input_nodes if source in self._shapes]
        known = self._known
        place = self._place.at(is_integer=any(map(self._is_integer, sources)))

        def call(*tensors: torch.Tensor) -> Any:
            values = dict(zip(sources, tensors, strict=True))
            args, kwargs = (
                fx.node.map_arg(part, lambda arg: values[arg] if arg in values else known[arg])
                for part in (node.args, node.kwargs)
            )
            if node.op == "call_method":
                return getattr(args[0], node.target)(*args[1:], **kwargs)
            return node.target(*args, **kwargs)

        function = vmapped(call, type(self._module).__name__)
        rule = ByAutograd(
            lambda part, *tensors: function(*tensors),
            [self._shapes[source] for source in sources],
            place,
            [self._learns[source] for source in sources],
            own=False,
        )
        self._place.networks.parts.append(str(node))
        self._add_step(node, rule, sources)

    def _add_call_of_tensors(self, node: Any) -> None:
        if node.target in _VIEWS:
            self._add_view(node)
        elif node.target in FUNCTIONS and len(node.all_input_nodes) == 1:
            with users_code(f"{node} has arguments without a rule"):
                layer = FUNCTIONS[node.target](*node.args[1:], **node.kwargs)
            self._add_rule_of(node, layer, f"({node})")
        elif node.target in OPERATIONS:
            self._add_operation(node)
        else:
            raise Unknown(f"{node.target} has no rule")

    def _computed(self, node: Any) -> Any:
        """Return the value of a node that is not a tensor."""
        args = fx.node.map_arg(node.args, lambda arg: self._known.get(arg, arg))
        if node.target == "dim" or args[1:] == ("ndim",):
            return len(self._shapes[args[0]])
        if node.target == "size" or args[1:] == ("shape",):
            shape = self._shapes[args[0]]
            return shape[args[1]] if node.target == "size" and len(args) > 1 else shape
        if node.target not in _OF_SHAPES or node.kwargs:
            raise Unknown(f"{node.target} has no rule")
        with users_code(f"{node} of {args}"):
            return node.target(*args)

    def _add_view(self, node: Any) -> None:
        if not node.args:
            raise Unknown(f"{node} of {dict(node.kwargs)}")
        source, *args = fx.node.map_arg(node.args, lambda arg: self._known.get(arg, arg))
        if node.kwargs.keys() - {"dim", "start_dim", "end_dim"} or source not in self._shapes:
            raise Unknown(f"{node} of {args}, {dict(node.kwargs)}")
        view = getattr(torch.Tensor, _VIEWS[node.target])
        try:
            shape = on_meta(lambda x: view(x, *args, **node.kwargs), self._shapes[source])
        except (RuntimeError, TypeError, IndexError) as error:
            raise Unknown(str(error)) from error
        self._add_rule_of(node, shape, f"({node})", self._in_place_of(Reshape))

    def _in_place_of(self, rule: Any) -> Any:
        return (self._place.rules or {}).get(rule, rule)

    def _add_operation(self, node: Any) -> None:
        args = node.args
        if args and isinstance(args[0], list | tuple):
            args = [*args[0], *args[1:]]
        sources = [arg for arg in args if isinstance(arg, fx.Node) and arg in self._shapes]
        args = [None if arg in sources else self._known.get(arg, arg) for arg in args]
        shapes = [self._shapes[source] for source in sources]
        kind = self._in_place_of(OPERATIONS[node.target])
        rule = kind(shapes, args, dict(node.kwargs), self._place)
        self._add_step(node, rule, sources)

    def forward(self, x: Any) -> Any:
        values = {node: value for node, (value, _) in self._attributes.items()}
        values[self._input] = x
        for node, rule, sources in self._steps:
            values[node] = rule.forward(*[values[source] for source in sources])
        return values[self._output]

    def backward(self, gradient: torch.Tensor) -> Any:
        gradients = {self._output: gradient}
        for node, rule, sources in reversed(self._steps):
            if not self._learns[node]:
                continue
            found = rule.backward(gradients.pop(node))
            found = found if isinstance(found, list) else [found]
            for source, value in zip(sources, found, strict=True):
                if not self._learns[source]:
                    continue
                if source in gradients:
                    gradients[source] = gradients[source].add_(value)
                else:
                    gradients[source] = value
        for node, (_, gradient) in self._attributes.items():
            if gradient is not None:
                gradient.copy_(gradients.pop(node))
        return gradients.get(self._input)


class Untraceable(Exception):
    """A module's ``forward`` is no graph; the message gives its error."""


class Tracer(fx.Tracer):
    """Traces modules by hooks on a copy of them.

    While torch's tracer is active it replaces ``torch.nn.Module.__call__`` of the whole process:
    networks in other threads would get graph nodes instead of tensors.
    """

    def trace(self, root: nn.Module) -> fx.Graph:  # type: ignore[override]
        """Return the graph of a module, without changing it; Untraceable if it has none."""
        with _tracing():
            root = copied(root)
        self.root = root
        self.graph = fx.Graph(tracer_cls=type(self))
        self.submodule_paths = {module: name for name, module in root.named_modules()}
        self.tensor_attrs = {}
        cache: dict[str, Any] = {}
        for module in root.modules():
            # torch calls this instead of `forward` and its hooks.
            vars(module)["_compiled_call_impl"] = partial(self._called, module)
            proxies = _Proxies(module._parameters)
            proxies.of = partial(self._read, cache)
            vars(module)["_parameters"] = proxies
        with _tracing():
            forward, args = self.create_args_for_root(type(root).forward, True)
            output = self.create_arg(forward(*args))
        self.create_node("output", "output", (output,), {})
        return self.graph

    def _called(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return self.call_module(module, module._call_impl, args, kwargs)

    def _read(self, cache: dict[str, Any], name: str, parameter: nn.Parameter) -> Any:
        return self.getattr(name, parameter, cache)


@contextlib.contextmanager
def _tracing() -> Iterator[None]:
    """Convert errors within this context to Untraceable: a ``forward`` may raise any for nodes."""
    try:
        yield
    except Exception as error:
        raise Untraceable(str(error)) from error


class _Proxies(dict[str, Any]):
    """Parameters of a module; access by name returns a node of the graph."""

    of: Callable[[str, Any], Any]

    def __getitem__(self, name: str) -> Any:
        return self.of(name, super().__getitem__(name))


class _Tracer(Tracer):
    def __init__(self, is_known: Any) -> None:
        super().__init__()
        self._is_known = is_known

    def is_leaf_module(self, module: nn.Module, name: str) -> Any:
        return self._is_known(type(module)) or super().is_leaf_module(module, name)


class _WithoutDraws(TorchFunctionMode):
    """Raises for draws of random numbers that would not be nodes of the graph."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in DRAWING and not any(issubclass(kind, fx.Proxy) for kind in types):
            raise Unknown(f"{func.__name__} draws numbers of which anything may depend")
        return func(*args, **(kwargs or {}))


def _trace(module: nn.Module, is_known: Any) -> Any:
    """Return the graph of a module."""
    name = type(module).__name__
    tracer = _Tracer(is_known)
    states = global_states()
    try:
        with _WithoutDraws():
            graph = tracer.trace(module)
    except Untraceable as error:
        raise Unknown(f"{name} cannot be traced: {error}") from error
    if global_states() != states:
        raise Unknown(f"{name} draws from a global generator")
    if any(isinstance(leaf, fx.Proxy) for m in tracer.root.modules() for leaf in _kept_by(m)):
        raise Unknown(f"{name} keeps what it computes")
    before, after = (_user_structure(one, is_known) for one in (module, tracer.root))
    pairs = zip(
        module.buffers(), tracer.root.buffers(), strict=False
    )  # as many, if before == after
    if before != after or not all(torch.equal(*pair) for pair in pairs):
        raise Unknown(f"{name} keeps more than tensors and settings")
    return graph


def _kept_by(module: nn.Module) -> Any:
    """Return what a module has as attributes and buffers, also in lists and dicts."""
    return tree_leaves(vars(module))


def _user_structure(module: nn.Module, is_known: Any) -> list[Any]:
    """Return the structure of the user-defined parts of a module."""
    described: tuple[Any, ...] = structure(module)
    return [
        of for of in described if not (of[1].__module__.startswith("torch.") or is_known(of[1]))
    ]


def global_states() -> Any:
    """Return the states of the global generators of Python and NumPy."""
    keys: Any
    _, keys, position, *_ = np.random.get_state()  # noqa: NPY002
    return random.getstate(), keys.tobytes(), position
