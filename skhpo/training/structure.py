"""Comparable descriptions of modules, and kinds of tensors."""

from __future__ import annotations

import copy
import functools
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

__all__ = [
    "copied",
    "copies_of_compressed",
    "frozen",
    "has_plain_state",
    "is_of_torch",
    "is_plain",
    "is_setting",
    "makes_layers",
    "numbers_of",
    "structure",
]

_OF_MODULE = {
    *("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "training"),
    *("_compiled_call_impl", *(name for name in vars(nn.Module()) if name.startswith("_"))),
}
_STATE_HOOKS = (
    *("_state_dict_pre_hooks", "_state_dict_hooks"),
    *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)
_COMPRESSED = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
_SIMPLE = {type(None), bool, int, str}
_BY_VALUE = (bool, int, float, complex, str, bytes, type, np.generic)
_OF_SETTINGS = (bool, int, float, str, np.generic, torch.dtype)
_RATED = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is numbers in memory, with which torch computes.

    Not sparse, nested, quantized, meta or lazy ones, and no floats of eight bits.
    """
    return (
        tensor.layout is torch.strided
        and not (tensor.is_nested or tensor.is_quantized or tensor.is_meta)
        and not (tensor.is_floating_point() and tensor.itemsize == 1)
        and not isinstance(tensor, UninitializedTensorMixin)
    )


def has_plain_state(module: nn.Module) -> bool:
    """Whether a state dict has a module's own tensors, which loading one only copies."""
    return (
        type(module).state_dict is nn.Module.state_dict
        and type(module).load_state_dict is nn.Module.load_state_dict
        and all(map(_has_plain_state, {type(layer) for layer in module.modules()}))
        and not any(getattr(layer, hooks) for layer in module.modules() for hooks in _STATE_HOOKS)
    )


def _has_plain_state(kind: type[nn.Module]) -> bool:
    """Whether a layer saves and loads its parameters and buffers, and nothing else, as torch's."""
    # Batch normalization only counts batches in addition.
    return all(
        getattr(kind, name).__module__.startswith("torch.nn.modules.")
        for name in ("_save_to_state_dict", "_load_from_state_dict")
    ) and (kind.get_extra_state is nn.Module.get_extra_state)


def makes_layers(factory: Any) -> bool:
    """Whether it is a class of layers of torch or of this package."""
    home = factory.__module__ if isinstance(factory, type) else ""
    return home.startswith("torch.nn.modules.") or home == "skhpo.modules"


def is_setting(value: Any) -> bool:
    """Whether a value is a number, a name, a class of layers, or a sequence of such."""
    if isinstance(value, list | tuple):
        return all(map(is_setting, value))
    return isinstance(value, _OF_SETTINGS) or value is None or makes_layers(value)


def is_of_torch(layer: nn.Module) -> bool:
    """Whether calls of a layer, apart from its children, run code of torch or this package only."""
    if not makes_layers(type(layer)):
        return False
    # Hooks may run any code.
    return not (layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))


def numbers_of(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the plain tensors of which a sparse, nested or quantized tensor consists."""
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    if tensor.is_nested:
        return [part for nested in tensor.unbind() for part in numbers_of(nested)]
    if tensor.is_quantized:
        return [tensor.int_repr(), tensor.dequantize()]
    return [] if tensor.is_meta else [tensor]


def copied(module: nn.Module) -> nn.Module:
    """Return a deep copy of a module, also if it has tensors that torch cannot copy so."""
    return copy.deepcopy(module, copies_of_compressed([*module.parameters(), *module.buffers()]))


def copies_of_compressed(tensors: Iterable[Any]) -> dict[int, Any]:
    """Return copies of the tensors that torch cannot copy, by the `id` of each, for `deepcopy`."""
    compressed = [t for t in tensors if isinstance(t, torch.Tensor) and t.layout in _COMPRESSED]
    return {id(t): t.clone() for t in compressed}


def structure(
    module: nn.Module, free: Iterable[str] = (), *, rated: bool = False
) -> tuple[Hashable, ...]:
    """Return a hashable description of a module: types, settings and shapes.

    Settings of the outermost module in `free` are left out, and with `rated` the rates of dropout.
    """
    layers: list[Hashable] = []
    seen: set[int] = set()
    for name, layer in module.named_modules(remove_duplicate=False):
        out = {*_OF_MODULE, *(free if layer is module else ())}
        if rated and isinstance(layer, _RATED):
            out.add("p")
        settings = tuple((k, frozen(v)) for k, v in vars(layer).items() if k not in out)
        tensors = [
            (k, None if t is None else (_shape(t), t.dtype, t.requires_grad, id(t) in seen))
            for k, t in (*layer._parameters.items(), *layer._buffers.items())
        ]
        seen |= {id(t) for t in layer._parameters.values() if t is not None}
        layers.append((name, type(layer), layer.training, settings, tuple(tensors)))
    return tuple(layers)


def _shape(tensor: torch.Tensor) -> Hashable:
    # Nested tensors have no shape that compares.
    return id(tensor) if tensor.is_nested else (tensor.layout, *tensor.shape)


def frozen(value: Any) -> Hashable:
    """Return what is equal for values that are known to be the same."""
    if type(value) in _SIMPLE:
        return type(value), value
    if isinstance(value, list | tuple):
        return type(value), tuple(frozen(item) for item in value)
    if isinstance(value, Mapping):
        return dict, tuple((frozen(k), frozen(v)) for k, v in value.items())
    if isinstance(value, functools.partial):
        return value.func, frozen(value.args), frozen(value.keywords)
    if isinstance(value, float) and value != value:
        return "nan"
    if value is None or isinstance(value, _BY_VALUE):
        return type(value), value
    named: Hashable = value
    if isinstance(value, torch.dtype | torch.device) or (callable(value) and _is_global(value)):
        return named
    # Other objects are equal only if they are identical.
    return id(value)


def _is_global(function: Any) -> bool:
    return hasattr(function, "__qualname__") and "<locals>" not in function.__qualname__
