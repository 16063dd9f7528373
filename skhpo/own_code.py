"""Hashes of the user's code, which change when its behaviour may have changed.

The byte code is hashed, not files, which may have been edited since they were imported; so
functions of a notebook, of ``__main__`` and lambdas have hashes, too. White space and comments do
not count; another minor version of Python does.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import json
import site
import sys
import sysconfig
import types
import warnings
from pathlib import Path

__all__ = ["hash_of_code"]

# Attributes of a class that do not affect its behaviour.
_ABOUT = {"__annotations__", "__doc__", "__firstlineno__", "__module__", "__qualname__"}
_ABOUT |= {"__static_attributes__", "_abc_impl"}
_ABOUT |= {"__slotnames__"}  # which copying or pickling an instance adds
# Globals about the location of code, which differ between an imported and an executed file.
_OF_MODULE = {"__file__", "__name__", "__package__"}
_WRAPPERS = types.FunctionType | type(functools.cache(int))
_PLAIN = bool | int | float | complex | str | bytes | None


def hash_of_code(thing):
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

    def __init__(self):
        self._numbers = {}
        self._found = []

    def read_all(self, thing):
        """Return descriptions of a function or class and all of the user's that it refers to."""
        self._refer(thing)
        described = []
        for own in self._found:  # grows during the loop
            described.append(self._class(own) if isinstance(own, type) else self._function(own))
        return described

    def _refer(self, value):
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

    def _class(self, cls):
        parts = {name: value for name, value in vars(cls).items() if name not in _ABOUT}
        codes = [getattr(_unwrapped(part), "__code__", None) for part in parts.values()]
        kept = {name for code in codes if code is not None for name in _set_by(code)}
        parts = {k: v for k, v in parts.items() if not (isinstance(v, _PLAIN) and k in kept)}
        return [cls.__qualname__, self._refer(cls.__bases__), self._named(parts)]

    def _function(self, function):
        code = function.__code__
        return [
            self._code(code, function.__doc__),
            self._refer(function.__defaults__),
            self._named(function.__kwdefaults__ or {}),
            [self._refer(cell.cell_contents) for cell in function.__closure__ or () if _full(cell)],
            self._named(dict(_globals_of(code, function.__globals__))),
        ]

    def _code(self, code, doc=None):
        constants = [None if doc and c == doc else self._refer(c) for c in code.co_consts]
        arguments = code.co_argcount + code.co_kwonlyargcount
        return [
            *(code.co_code.hex(), code.co_exceptiontable.hex(), code.co_flags, constants),
            *(code.co_names, code.co_varnames[:arguments], code.co_freevars),
        ]

    def _named(self, values):
        return {name: self._refer(value) for name, value in values.items()}


def _globals_of(code, known):
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


def _set_by(code):
    """Yield the names of globals and attributes that code sets."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("STORE_GLOBAL", "STORE_ATTR"):
            yield instruction.argval


def _unwrapped(value):
    """Return the function in a method, and in decorators that set ``__wrapped__``."""
    if isinstance(value, classmethod | staticmethod | types.MethodType):
        value = value.__func__
    if isinstance(value, functools.cached_property):
        value = value.func
    while isinstance(value, _WRAPPERS) and hasattr(value, "__wrapped__") and not _is_own(value):
        value = value.__wrapped__
    return value


def _is_own(thing):
    if not isinstance(thing, type):
        code = getattr(thing, "__code__", None)
        return code is not None and _is_own_file(code.co_filename)
    name = thing.__module__
    if not isinstance(name, str) or name.partition(".")[0] in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is None or _is_own_file(file)  # None: a notebook


def _is_readable(thing):
    if not isinstance(thing, type):
        return isinstance(thing, types.FunctionType)
    file = getattr(sys.modules.get(thing.__module__), "__file__", None)
    parts = map(_unwrapped, vars(thing).values())
    return (
        file is None
        or file.endswith((".py", ".pyc"))
        or any(isinstance(part, types.FunctionType) for part in parts)
    )


def _is_own_file(file):
    if file is None or file.startswith("<frozen"):
        return False
    return file.startswith("<") or not any(Path(file).is_relative_to(at) for at in _installed())


@functools.cache
def _installed():
    """Return the folders of Python, of installed packages, and of this one."""
    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    here = str(Path(__file__).parent)
    folders = {*paths, *site.getsitepackages(), site.getusersitepackages(), here}
    return tuple(folder for folder in folders if folder)


def _full(cell):
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
