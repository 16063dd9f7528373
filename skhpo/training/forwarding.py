"""What a forward pass takes and needs: device, precision, arguments of ``forward``, memory."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..limits import current_slot

__all__ = [
    "ResultBytes",
    "arguments_for",
    "as_float32",
    "call_module",
    "cast_bytes",
    "cast_floats",
    "low_precision",
    "plain_tuple",
    "resolve_device",
    "row_count",
]


def resolve_device(device: Any) -> torch.device:
    """Return a torch device; ValueError if it does not exist.

    "auto" is the device that a search assigned to the running fit, if any, else the first
    available of cuda, mps and cpu; None is the CPU.
    """
    if device is None:
        return torch.device("cpu")
    if isinstance(device, str) and device == "auto":
        slot = current_slot()
        if slot is not None:
            return torch.device(slot)
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if _count(kind)))
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError):
        resolved = None
    if resolved is None or (resolved.index or 0) >= _count(resolved.type):
        found = [
            f"{kind}:{i}" if kind == "cuda" else kind
            for kind in ("cpu", "cuda", "mps")
            for i in range(_count(kind))
        ]
        raise ValueError(
            f"device must be 'auto' or a device of this machine, but got {device!r}; "
            f"there are: {', '.join(map(repr, found))}"
        )
    return resolved


def _count(kind: str) -> int:
    if kind == "cpu":
        return 1
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    try:
        return int(torch.get_device_module(kind).device_count())
    except (AttributeError, RuntimeError):
        return int(kind == "meta")


def low_precision(amp: bool | str, device: torch.device) -> str | None:
    """Return the device type on which forward passes run in bfloat16, or None.

    "auto" means CUDA devices that support it; most CPUs are slower with it. ValueError if `amp` is
    True and the device does not support it.
    """
    if amp is False:
        return None
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bfloat16 = device.type == "cpu" and amp is True
    if amp is True and not has_bfloat16:
        raise ValueError(
            f"amp=True needs a device that computes in bfloat16, but device {device} does not; "
            "set amp='auto' or amp=False"
        )
    return device.type if has_bfloat16 else None


def as_float32(output: Any) -> Any:
    """Convert bfloat16 outputs, also in a tuple or dict, to float32."""
    if isinstance(output, tuple):
        items = [as_float32(item) for item in output]
        return type(output)(*items) if hasattr(output, "_fields") else tuple(items)
    if isinstance(output, dict):
        return {name: as_float32(item) for name, item in output.items()}
    if isinstance(output, torch.Tensor) and output.dtype is torch.bfloat16:
        return output.float()
    return output


def plain_tuple(output: Any) -> Any:
    """Convert a named tuple to a plain tuple, as skorch needs it; return others unchanged."""
    return tuple(output) if hasattr(output, "_fields") else output


def cast_floats(X: Any, dtype: Any, *, integers: bool = False) -> Any:
    """Cast nested tensors of real numbers, and with `integers` of integers, to a dtype."""
    if isinstance(X, torch.Tensor):
        return X.to(dtype) if integers or X.is_floating_point() else X
    if type(X) is dict:
        return {name: cast_floats(value, dtype, integers=integers) for name, value in X.items()}
    if type(X) in (list, tuple):
        return type(X)(cast_floats(value, dtype, integers=integers) for value in X)
    return X


def cast_bytes(X: Any, dtype: Any) -> Any:
    """Cast nested tensors of bytes, as images are read, to a dtype."""
    if isinstance(X, torch.Tensor):
        return X.to(dtype) if X.dtype is torch.uint8 else X
    if type(X) is dict:
        return {name: cast_bytes(value, dtype) for name, value in X.items()}
    if type(X) in (list, tuple):
        return type(X)(cast_bytes(value, dtype) for value in X)
    return X


def call_module(module: nn.Module, inputs: Any, fit_params: Mapping[str, Any] | None = None) -> Any:
    """Pass a batch through a module.

    Parameters
    ----------
    module : torch.nn.Module
    inputs : Tensor, dict, list or tuple
        The values of a dict are passed by name, those with an integer as name by position. The
        items of a list or tuple are passed as several arguments if the module needs as many.
        A key ``("lengths", name)`` has the lengths of padded sequences: they are passed as the
        arguments that are named so below, if the module has such.
    fit_params : dict, default=None
        Further arguments.

    Notes
    -----
    For the first sequence the arguments are ``lengths`` (a tensor on the CPU), ``mask`` or
    ``attention_mask`` (True where there is an item), and ``padding_mask``, ``key_padding_mask``
    or ``src_key_padding_mask`` (True where there is none); for an input ``text`` also
    ``text_lengths``, ``text_mask`` and so on.
    """
    args, named = arguments_for(module, inputs, fit_params)
    return module(*args, **named)


def arguments_for(
    module: nn.Module, inputs: Any, fit_params: Mapping[str, Any] | None = None
) -> tuple[list[Any], Mapping[str, Any]]:
    """Return the arguments of ``forward``, by position and by name; see `call_module`."""
    fit_params = fit_params or {}
    if isinstance(inputs, Mapping):
        args = [value for name, value in inputs.items() if isinstance(name, int)]
        named = {name: value for name, value in inputs.items() if isinstance(name, str)}
        lengths = {name[1]: v for name, v in inputs.items() if isinstance(name, tuple)}
        if lengths:
            named |= _arguments_of_lengths(module, inputs, lengths, {*named, *fit_params})
        if twice := named.keys() & fit_params.keys():
            raise ValueError(
                f"X and the arguments of fit must not have the same names, but both have "
                f"{', '.join(sorted(twice))}; leave it out in one of them"
            )
        return args, {**named, **fit_params}
    if type(inputs) in (list, tuple) and _n_needed(module) == len(inputs) > 1:
        return list(inputs), fit_params
    return [inputs], fit_params


def _parameters(module: Any) -> Mapping[str, inspect.Parameter]:
    module = getattr(module, "_orig_mod", module)  # of a compiled one
    try:
        return inspect.signature(module.forward).parameters
    except (TypeError, ValueError):
        return {}


def _n_needed(module: nn.Module) -> int:
    """Return how many arguments a module must be given by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = _parameters(module).values()
    return sum(one.kind in kinds and one.default is one.empty for one in found)


def _arguments_of_lengths(
    module: nn.Module, inputs: Any, lengths: Mapping[Any, torch.Tensor], taken: set[str]
) -> dict[str, Any]:
    arguments = {}
    known = _parameters(module).keys() - taken
    for number, (name, values) in enumerate(lengths.items()):
        prefixes = ([""] if number == 0 else []) + ([f"{name}_"] if isinstance(name, str) else [])
        for prefix in prefixes:
            for suffix, make in _FROM_LENGTHS.items():
                if prefix + suffix in known:
                    arguments[prefix + suffix] = make(inputs[name], values)
    return arguments


def _lengths(padded: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return lengths.cpu()  # where torch's packed sequences need them


def _mask(padded: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    place = torch.arange(padded.shape[1], device=padded.device)
    return place < lengths.to(padded.device)[:, None]


def _padding(padded: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return ~_mask(padded, lengths)


_FROM_LENGTHS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "lengths": _lengths,
    "mask": _mask,
    "attention_mask": _mask,
    "padding_mask": _padding,
    "key_padding_mask": _padding,
    "src_key_padding_mask": _padding,
}


class ResultBytes(TorchDispatchMode):
    """Sums the bytes of all results of operations within this context as `n_bytes`.

    A pass without gradients never needs more at once, because it frees some of them earlier.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        # A view, such as a transposed weight, takes no memory.
        if not any(returned.alias_info for returned in func._schema.returns):
            self.add(made)
        return made

    def add(self, tensors: Any) -> None:
        """Add the bytes of nested tensors."""
        tensors = (leaf for leaf in tree_leaves(tensors) if isinstance(leaf, torch.Tensor))
        self.n_bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def row_count(batch: Any) -> int:
    """Return the number of rows of nested tensors; 0 where there is none."""
    if isinstance(batch, torch.Tensor) and batch.ndim:
        return len(batch)
    tensors = (leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor))
    return next((len(tensor) for tensor in tensors if tensor.ndim), 0)
