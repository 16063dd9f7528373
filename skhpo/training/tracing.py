"""Thread-safe tracing of a module's ``forward``."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import fx, nn

__all__ = ["Tracer", "Untraceable"]


class Untraceable(Exception):
    """A module's ``forward`` is no graph; the message gives its error."""


class Tracer(fx.Tracer):
    """Traces modules by hooks on a copy of them.

    While torch's tracer is active it replaces ``torch.nn.Module.__call__`` of the whole process:
    networks in other threads would get graph nodes instead of tensors.
    """

    def trace(self, root: nn.Module) -> fx.Graph:  # type: ignore[override]
        """Return the graph of a module, without changing it; Untraceable if it has none."""
        with _users_code():
            root = copy.deepcopy(root)
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
        with _users_code():
            forward, args = self.create_args_for_root(type(root).forward, True)
            output = self.create_arg(forward(*args))
        self.create_node("output", "output", (output,), {})
        return self.graph

    def _called(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return self.call_module(module, module._call_impl, args, kwargs)

    def _read(self, cache: dict[str, Any], name: str, parameter: nn.Parameter) -> Any:
        return self.getattr(name, parameter, cache)


@contextlib.contextmanager
def _users_code() -> Iterator[None]:
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
