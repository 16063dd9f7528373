"""What makes a search the one it is, as JSON: so that no other search continues its journal.

Of the user's functions and classes it is the byte code, and not files, which may have been edited
since they were imported; so those of a notebook, of ``__main__`` and lambdas count, too. White
space and comments do not; another minor version of Python does.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import json
import math
import pickle
import site
import sys
import sysconfig
import types
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from . import space

__all__ = ["describe", "differences", "digest", "hash_of_code", "of_search", "versions"]


# Parameters of a search that change neither what is fitted nor, but for rounding, how it scores;
# and `average`, which is in the description of the estimator where it is set.
_FREE = {
    "average",
    "callbacks",
    "confirm",
    "cv",
    "devices",
    "estimator",
    "fit_timeout",
    "journal",
    "keep_from",
    "keep_models",
    "lockstep",
    "max_cost",
    "max_time",
    "n_jobs",
    "param_distributions",
    "refit",
    "refit_epochs",
    "return_predictions",
    "shared",
    "verbose",
}
# Parameters with the defaults that they have in journals which do not name them.
_NEW = {
    "constraints": None,
    "early_stopping_on": "inner",
    "fold_schedule": None,
    "forbidden": None,
    "objectives": None,
    "prior_confidence": "medium",
    "priors": None,
    "racing": None,
}

_METHODS = types.MethodType | types.BuiltinMethodType | types.MethodWrapperType

# Attributes of a class that do not affect its behaviour.
_ABOUT = {"__annotations__", "__doc__", "__firstlineno__", "__module__", "__qualname__"}
_ABOUT |= {"__static_attributes__", "_abc_impl"}
_ABOUT |= {"__slotnames__"}  # which copying or pickling an instance adds
# Globals about the location of code, which differ between an imported and an executed file.
_OF_MODULE = {"__file__", "__name__", "__package__"}
_WRAPPERS = types.FunctionType | type(functools.cache(int))
_PLAIN = bool | int | float | complex | str | bytes | None


def of_search(
    settings: Mapping[str, Any],
    estimator: Any,
    distributions: Any,
    cv: Any,
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe what makes a search the one it is, as JSON.

    Parameters
    ----------
    settings : dict
        Parameters of the search.
    estimator : estimator
    distributions : dict or list of dict
        Its space.
    cv : splitter
    data : dict
        What ``fit`` got, by name.

    Returns
    -------
    fingerprint : dict
    """
    changed = {k: v for k, v in settings.items() if k not in _NEW or v != _NEW[k]}
    return {
        "settings": {k: describe(v) for k, v in changed.items() if k not in _FREE},
        "space": describe(space.translated(distributions)),
        "estimator": describe(estimator),
        "cv": describe(cv),
        "data": {name: _digest_of_data(name, value) for name, value in data.items()},
        "versions": versions("skhpo", "numpy", "scipy", "scikit-learn", "torch", "skorch"),
    }


def _digest_of_data(name: str, value: Any) -> str:
    try:
        return digest(value)
    except pickle.PicklingError as error:
        raise TypeError(
            "a search with a journal, warm_start_from or logs is known by a hash of its data, that "
            f"must be picklable, but {name}, a {type(value).__name__}, is not ({error.args[0]}); "
            "define what it holds at the top level of a module, or leave those out"
        ) from error


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

    Scalars, containers, arrays and tensors are described by what they hold, scipy's frozen
    distributions by name and arguments, estimators by class and parameters, functions by name and
    what they close over, bound methods also by what they are bound to, torch modules by class,
    parts and weights, anything else by class and attributes; functions and classes of the user's
    own by their code too.
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
        function = value.__func__ if isinstance(value, types.MethodType) else value.__name__
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
        own = sorted(code for code in codes if code is not None)
        parts = {"parts": own} if own else {}
        return {**_class(type(value)), "text": str(value), "weights": digest(weights), **parts}
    attributes = _attributes(value)
    if attributes is not None:
        return {**_class(type(value)), "attributes": inner(attributes)}
    return {**_class(type(value)), "text": repr(value)}


def _attributes(value: Any) -> dict[str, Any] | None:
    """What an instance holds, in slots too; None where its text tells more, or all there is."""
    written: Any = type(value).__repr__
    has_text = written is not object.__repr__ and not dataclasses.is_dataclass(value)
    if has_text and not hasattr(value, "__dict__"):
        return None  # slots of a path, say, are caches
    held: Any = object.__getstate__(value)
    parts = [part for part in (held if isinstance(held, tuple) else (held,)) if part is not None]
    if not parts and not hasattr(value, "__dict__"):
        return None
    return {name: one for part in parts for name, one in part.items()}


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


def hash_of_code(thing: Any) -> str | None:
    """Hash the code of a user's function or class; None for other code.

    The hash includes what the code refers to by global names: other functions and classes of the
    user, and constants (numbers, strings, tuples of them); of a class its bases and constant
    attributes. Lists, dicts and objects are excluded, because they may change when they are used,
    and constants that the code itself sets. A warning tells if the code cannot be read, as that of
    compiled extensions.
    """
    thing = _unwrapped(thing)
    if not _is_own(thing):
        return None
    if not _is_readable(thing):
        warnings.warn(
            f"the code of {thing.__module__}.{thing.__qualname__} cannot be read, so a journal "
            "cannot tell whether it has changed; start a new one when it has",
            UserWarning,
            stacklevel=2,
        )
        return None
    text = json.dumps(_Reader().read_all(thing), sort_keys=True)
    major, minor, *_ = sys.version_info
    return f"{major}.{minor}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class _Reader:
    """Converts code to JSON without names of modules, which differ if a file is executed."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._found: list[Any] = []

    def read_all(self, thing: Any) -> list[Any]:
        """Return descriptions of a function or class and all of the user's that it refers to."""
        self._refer(thing)
        described = []
        for own in self._found:  # grows during the loop
            described.append(self._class(own) if isinstance(own, type) else self._function(own))
        return described

    def _refer(self, value: Any) -> Any:
        value = _unwrapped(value)
        if isinstance(value, _PLAIN):
            return [type(value).__name__, repr(value)]
        if isinstance(value, tuple):
            return [self._refer(item) for item in value]
        if isinstance(value, frozenset):
            return sorted((self._refer(item) for item in value), key=repr)
        if isinstance(value, types.CodeType):
            return self._code(value)
        if isinstance(value, property):
            return [self._refer(part) for part in (value.fget, value.fset, value.fdel)]
        if isinstance(value, functools.partial):
            return [self._refer(value.func), self._refer(value.args), self._named(value.keywords)]
        if not isinstance(value, types.FunctionType | type):
            value = type(value)
        if not _is_own(value):
            return f"{value.__module__}.{value.__qualname__}"
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._found)
            self._found.append(value)
        return self._numbers[id(value)]

    def _class(self, cls: type[Any]) -> list[Any]:
        parts = {name: value for name, value in vars(cls).items() if name not in _ABOUT}
        codes = [getattr(_unwrapped(part), "__code__", None) for part in parts.values()]
        kept = {name for code in codes if code is not None for name in _set_by(code)}
        parts = {k: v for k, v in parts.items() if not (isinstance(v, _PLAIN) and k in kept)}
        return [cls.__qualname__, self._refer(cls.__bases__), self._named(parts)]

    def _function(self, function: Any) -> list[Any]:
        code = function.__code__
        return [
            self._code(code, function.__doc__),
            self._refer(function.__defaults__),
            self._named(function.__kwdefaults__ or {}),
            [self._refer(cell.cell_contents) for cell in function.__closure__ or () if _full(cell)],
            self._named(dict(_globals_of(code, function.__globals__))),
        ]

    def _code(self, code: types.CodeType, doc: str | None = None) -> list[Any]:
        constants = [None if doc and c == doc else self._refer(c) for c in code.co_consts]
        arguments = code.co_argcount + code.co_kwonlyargcount
        return [
            *(code.co_code.hex(), code.co_exceptiontable.hex(), code.co_flags, constants),
            *(code.co_names, code.co_varnames[:arguments], code.co_freevars),
        ]

    def _named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._refer(value) for name, value in values.items()}


def _globals_of(code: types.CodeType, known: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of globals that code, or code within it, refers to."""
    own = set(_set_by(code))
    for instruction in dis.get_instructions(code):
        name = instruction.argval
        if instruction.opname not in ("LOAD_GLOBAL", "LOAD_NAME") or name not in known:
            continue
        if name in _OF_MODULE:
            continue
        value = known[name]
        if isinstance(value, types.ModuleType):
            if _is_own_file(getattr(value, "__file__", None)):
                inner = (other for other in code.co_names if hasattr(value, other))
                yield from ((f"{name}.{other}", getattr(value, other)) for other in inner)
        elif name not in own:
            yield name, value
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals_of(constant, known)


def _set_by(code: types.CodeType) -> Iterator[str]:
    """Yield the names of globals and attributes that code sets."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("STORE_GLOBAL", "STORE_ATTR"):
            yield instruction.argval


def _unwrapped(value: Any) -> Any:
    """Return the function in a method, and in decorators that set ``__wrapped__``."""
    if isinstance(value, classmethod | staticmethod | types.MethodType):
        value = value.__func__
    if isinstance(value, functools.cached_property):
        value = value.func
    while isinstance(value, _WRAPPERS) and hasattr(value, "__wrapped__") and not _is_own(value):
        value = value.__wrapped__
    return value


def _is_own(thing: Any) -> bool:
    if not isinstance(thing, type):
        code = getattr(thing, "__code__", None)
        return code is not None and _is_own_file(code.co_filename)
    name = thing.__module__
    if not isinstance(name, str) or name.partition(".")[0] in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is None or _is_own_file(file)  # None: a notebook


def _is_readable(thing: Any) -> bool:
    if not isinstance(thing, type):
        return isinstance(thing, types.FunctionType)
    file = getattr(sys.modules.get(thing.__module__), "__file__", None)
    parts = map(_unwrapped, vars(thing).values())
    return (
        file is None
        or file.endswith((".py", ".pyc"))
        or any(isinstance(part, types.FunctionType) for part in parts)
    )


def _is_own_file(file: str | None) -> bool:
    if file is None or file.startswith("<frozen"):
        return False
    return file.startswith("<") or not any(Path(file).is_relative_to(at) for at in _installed())


@functools.cache
def _installed() -> tuple[str, ...]:
    """Return the folders of Python, of installed packages, and of this one."""
    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    here = str(Path(__file__).parent)
    folders = {*paths, *site.getsitepackages(), site.getusersitepackages(), here}
    return tuple(folder for folder in folders if folder)


def _full(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
