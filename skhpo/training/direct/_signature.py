"""Detection of changes on which a program depends."""

from __future__ import annotations

import operator
import types

from ._layers import has_global_hooks, has_hooks
from ._place import Unknown

__all__ = ["Signature"]

_EMPTY = types.CellType()


class Signature:
    """Tensors, settings and hooks of modules, which are kept alive for comparison.

    With `reads_classes` also the attributes of classes and the globals that a traced ``forward``
    may read. Raises `Unknown` if ``forward`` is no function.
    """

    def __init__(self, modules, reads_classes):
        self._modules, self._reads_classes = modules, reads_classes
        self._noted = self._sign()

    def holds(self):
        """Whether the modules are unchanged."""
        (kept, numbers), (kept_before, numbers_before) = self._sign(), self._noted
        return (
            numbers == numbers_before
            and len(kept) == len(kept_before)
            and all(map(operator.is_, kept, kept_before))
        )

    def _sign(self):
        kept, numbers = [has_global_hooks()], []
        for layer in (layer for module in self._modules for layer in module.modules()):
            kept.extend(_leaves(vars(layer)))
            if self._reads_classes and not type(layer).__module__.startswith("torch."):
                kept.extend(_leaves(_read_by(type(layer))))
            kept.append(has_hooks(layer))
            for tensor in (*layer._parameters.values(), *layer._buffers.values()):
                if tensor is not None:
                    kept.append(tensor)
                    numbers += (tensor.data_ptr(), tensor.requires_grad)
        return kept, numbers


def _read_by(kind):
    """Return class attributes, globals and closures that ``forward`` may read."""
    if not isinstance(kind.forward, types.FunctionType):
        raise Unknown(f"forward of {kind.__name__} is no function")
    own = [vars(base) for base in kind.__mro__ if not base.__module__.startswith("torch.")]
    names, outer = kind.forward.__code__.co_names, kind.forward.__globals__
    cells = [cell.cell_contents for cell in kind.forward.__closure__ or () if cell != _EMPTY]
    return [*map(dict, own), *(outer.get(name) for name in names), *cells]


def _leaves(value):
    """Yield the items of nested containers."""
    if type(value) in (dict, list, tuple):
        for one in value.values() if type(value) is dict else value:
            yield from _leaves(one)
    else:
        yield value
