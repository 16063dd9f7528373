"""What makes a search the one it is, as JSON: so that no other search continues its journal."""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
import types
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import joblib
import numpy as np

from .own_code import hash_of_code

__all__ = ["describe", "differences", "digest", "versions"]

_METHODS = types.MethodType | types.BuiltinMethodType | types.MethodWrapperType


def digest(value: Any) -> str:
    """Return a short hash of data: arrays, frames, sparse matrices, lists."""
    return str(joblib.hash(value, coerce_mmap=True))


def versions(*packages: str) -> dict[str, str | None]:
    """Return the installed versions of packages, None for those that are not installed."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def describe(value: Any, _depth: int = 0) -> Any:
    """Describe any object as JSON that is the same in another process.

    Parameters
    ----------
    value : object
        Scalars, containers, arrays and tensors are described by what they hold, scipy's frozen
        distributions by name and arguments, estimators by class and parameters, functions by
        name and what they close over, bound methods also by what they are bound to, torch modules
        by class, parts and weights, anything else by class and attributes; functions and classes
        of the user's own by their code too.

    Returns
    -------
    None, bool, int, float, str, list or dict
    """
    if _depth > 20:
        return _name(type(value))
    inner = functools.partial(describe, _depth=_depth + 1)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, type):
        named = _class(value)
        return named if "code" in named else named["class"]
    if isinstance(value, list | tuple):
        return [inner(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((inner(item) for item in value), key=repr)
    if isinstance(value, Mapping):
        return {_key(key): inner(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return {"array": list(value.shape), "hash": digest(value)}
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _tensor(value, torch)
    if isinstance(value, np.random.RandomState | np.random.Generator):
        return {**_class(type(value)), "hash": digest(value)}
    if isinstance(value, functools.partial):
        return {
            "partial": inner(value.func),
            "args": inner(value.args),
            "kw": inner(value.keywords),
        }
    if isinstance(value, _METHODS) and not isinstance(value.__self__, types.ModuleType):
        is_own = isinstance(value, types.MethodType)
        function = value.__func__ if is_own else value.__name__
        return {"method": inner(function), "of": inner(value.__self__)}
    if hasattr(value, "__code__"):
        return _function(value, inner)
    if hasattr(value, "dist") and hasattr(value, "kwds"):  # scipy's frozen distributions
        return {"distribution": value.dist.name, "args": inner(value.args), "kw": inner(value.kwds)}
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {**_class(type(value)), "fields": inner(fields)}
    if hasattr(value, "get_params"):
        params = dict(sorted(value.get_params(deep=False).items()))
        return {**_class(type(value)), "params": inner(params)}
    if hasattr(value, "state_dict"):
        weights = {name: inner(held) for name, held in value.state_dict().items()}
        codes = {hash_of_code(type(part)) for part in getattr(value, "modules", tuple)()}
        parts = {"parts": sorted(codes - {None})} if codes - {None} else {}
        return {**_class(type(value)), "text": str(value), "weights": digest(weights), **parts}
    if hasattr(value, "__dict__"):
        return {**_class(type(value)), "attributes": inner(vars(value))}
    return {**_class(type(value)), "text": repr(value)}


def _key(key: Any) -> str:
    return _name(key) if callable(key) and hasattr(key, "__qualname__") else str(key)


def _name(cls: type[Any]) -> Any:
    return f"{cls.__module__}.{cls.__qualname__}"


def _class(cls: type[Any]) -> Any:
    code = hash_of_code(cls)
    return {"class": _name(cls)} | ({} if code is None else {"code": code})


def _function(function: Any, inner: Any) -> Any:
    """Describe a function by name, code and what it closes over."""
    code = hash_of_code(function)
    cells = function.__closure__ or ()
    return {
        "function": _name(function),
        **({} if code is None else {"code": code}),
        "defaults": inner(function.__defaults__),
        "closure": inner([cell.cell_contents for cell in cells]),
    }


def _tensor(value: Any, torch: Any) -> Any:
    """Describe a tensor of torch by its type and what it holds, if it holds anything yet."""
    described = {**_class(type(value)), "dtype": str(value.dtype)}
    if hasattr(value, "materialize"):  # of a lazy layer
        return described
    from .training.structure import numbers_of  # loads torch

    shape = {} if value.is_nested else {"array": list(value.shape)}
    # As bytes, because NumPy lacks some of the types.
    held = [
        part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        for part in numbers_of(value)
    ]
    return {**described, **shape, "hash": digest(held[0] if len(held) == 1 else held)}


def differences(old: Any, new: Any, _path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, old value, new value) wherever two descriptions differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            path = f"{_path}.{key}" if _path else key
            missing = "(absent)"
            yield from differences(old.get(key, missing), new.get(key, missing), path)
    elif old != new:
        yield _path, old, new
