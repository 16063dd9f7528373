"""Builders that take ``hp``: what they ask for, cached, and the functions that estimators use."""

from __future__ import annotations

import functools
import inspect
import random
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..arguments import nearest_first
from ..faults import warn_of_mistake
from ._definitions import Definition
from ._explore import Exploration, explore
from ._hyperparameters import HyperParameters

__all__ = [
    "asked_for",
    "check_all_known",
    "definitions_of",
    "distributions_of",
    "explored",
    "is_asked_for",
    "newcomers",
    "recall",
    "remember",
    "shapes_of",
    "split",
    "takes_hp",
]

MAX_RUNS = 500

# Placeholders for arguments that estimators infer from the data.
_PLACEHOLDERS = {"in_features": 8, "in_channels": 1, "input_shape": (8,), "out_features": 3}

_KNOWN: WeakKeyDictionary[Any, Exploration] = WeakKeyDictionary()


def takes_hp(builder: Any) -> bool:
    """Whether the first argument of a builder is ``hp``."""
    cached = isinstance(builder, type | types.FunctionType)
    return callable(builder) and (_has_hp if cached else _has_hp.__wrapped__)(builder)


@functools.lru_cache(maxsize=256)
def _has_hp(builder: Any) -> bool:
    try:
        return next(iter(inspect.signature(builder).parameters), None) == "hp"
    except (TypeError, ValueError):
        return False


def distributions_of(
    builder: Callable[..., Any], *, max_runs: int = MAX_RUNS, **arguments: Any
) -> Any:
    """Find the hyperparameters of a builder that defines them while it runs.

    The builder is run repeatedly with other values, all changed at once as long as it requests the
    same names. Otherwise the parameter on which others depend makes branches, one for each of its
    values. Dependence on a value in a continuous range, or in the interior of a range of integers,
    is not detected; a search warns when it finds such a parameter.

    Parameters
    ----------
    builder : callable
        Its first argument is ``hp``, see `HyperParameters`.
    max_runs : int, default=500
        Largest number of runs; a warning tells if they are not enough.
    **arguments : dict
        Further arguments of the builder. ``in_features``, ``in_channels``, ``input_shape`` and
        ``out_features``, which estimators infer from the data, have defaults (8, 1, (8,) and 3).

    Returns
    -------
    param_distributions : dict of str to list or distribution, or list of such dicts
        The space for a search, with the builder's names. In a list there is a dict per branch; a
        search draws each dict equally often.

    Raises
    ------
    TypeError
        If the first argument of the builder is not ``hp``.
    ValueError
        If two definitions of one name differ, or a definition is invalid.

    Examples
    --------
    >>> from skhpo import distributions_of
    >>> def build(hp):
    ...     for i in range(hp.Int("n_layers", 1, 2)):
    ...         hp.Int(f"units_{i}", 32, 64, step=32)
    >>> for space in distributions_of(build):
    ...     print(space)
    {'n_layers': [1], 'units_0': ordered([32, 64])}
    {'n_layers': [2], 'units_0': ordered([32, 64]), 'units_1': ordered([32, 64])}
    """
    return explored(builder, arguments, max_runs=max_runs, anew=True).distributions()


def explored(
    builder: Callable[..., Any],
    arguments: Mapping[str, Any] | None = None,
    *,
    max_runs: int = MAX_RUNS,
    anew: bool = False,
) -> Exploration:
    """Return the exploration of a builder, from the cache unless it is the first one, or `anew`."""
    if not anew and (known := recall(builder)) is not None:
        return known
    if not takes_hp(builder):
        raise TypeError(
            "a builder that defines its hyperparameters must have hp as its first argument, as in "
            f"build(hp), but got {builder!r}"
        )
    run = functools.partial(_run, builder, _complete(builder, arguments or {}))
    with _undisturbed():
        found = explore(run, max_runs=max_runs)
    if not found.complete:
        warnings.warn(
            f"the exploration of {getattr(builder, '__name__', builder)!r} was cut short after "
            f"{found.n_runs} runs, so the space may lack branches or values; raise max_runs of "
            "distributions_of, use fewer values for what decides which parameters there are, or "
            "write the dicts yourself",
            UserWarning,
            stacklevel=3,
        )
    remember(builder, found)
    return found


def asked_for(
    builder: Callable[..., Any], arguments: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Definition]:
    """Return the hyperparameters that a builder requests under some values."""
    hp = HyperParameters(values)
    with _undisturbed():
        _run(builder, _complete(builder, arguments), hp)
    return hp.definitions


def newcomers(
    builder: Callable[..., Any], arguments: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Definition]:
    """Return hyperparameters that a builder requests under some values but were not explored."""
    found = explored(builder, arguments)
    new = {k: d for k, d in asked_for(builder, arguments, values).items() if k not in found.names}
    found.definitions.update(new)
    return new


def check_all_known(
    builder: Callable[..., Any], arguments: Mapping[str, Any], hp: HyperParameters
) -> None:
    """Raise ValueError for a value that was set but is never requested.

    New hyperparameters that were requested are added to the exploration.
    """
    unasked = [name for name in hp.given if name not in hp.definitions]
    found = recall(builder) if not unasked else explored(builder, arguments)
    if found is None:
        return
    for name in unasked:
        if name not in found.definitions:
            raise ValueError(
                f"the builder never asks for {name!r}, which is set; it asks for "
                f"{', '.join(map(repr, nearest_first(name, found.definitions)))}"
            )
    for name, definition in hp.definitions.items():
        found.definitions.setdefault(name, definition)


def recall(builder: Any) -> Exploration | None:
    """Return the cached exploration of a builder in this process."""
    try:
        return _KNOWN.get(builder)
    except TypeError:  # no weak reference, or no hash
        return None


def remember(builder: Any, found: Exploration | None) -> None:
    """Cache the exploration of a builder, made here or in another process."""
    try:
        if found is not None:
            _KNOWN[builder] = found
    except TypeError:
        pass


def _complete(builder: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(builder).parameters
    placeholders = {k: v for k, v in _PLACEHOLDERS.items() if k in parameters}
    return {**placeholders, **arguments}


def _run(builder: Callable[..., Any], arguments: Mapping[str, Any], hp: HyperParameters) -> None:
    """Run a builder, if possible without memory for the weights."""
    twin = HyperParameters(hp.given)
    try:
        with _without_memory():
            builder(twin, **arguments)
    except Exception:
        builder(hp, **arguments)
    else:
        hp.definitions, hp.values = twin.definitions, twin.values


@contextmanager
def _without_memory() -> Iterator[None]:
    with ExitStack() as stack:
        if (torch := sys.modules.get("torch")) is not None:
            stack.enter_context(torch.device("meta"))
        keras = sys.modules.get("keras")
        if keras is not None and keras.config.backend() == "torch":
            stack.enter_context(keras.device("meta"))
        yield


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Restore the global generators afterwards: making layers draws from them."""
    torch = sys.modules.get("torch")
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    of_torch = None if torch is None else torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        if torch is not None:
            torch.set_rng_state(of_torch)


def definitions_of(builder: Any) -> dict[str, Definition] | None:
    """Return the known hyperparameters of a builder (none without ``hp``).

    None if it cannot be run without data.
    """
    if not takes_hp(builder):
        return {}
    try:
        return explored(builder).definitions
    except Exception as error:
        warn_of_mistake(error, "the hyperparameters of a builder are not known")
        return None


def is_asked_for(builder: Callable[..., Any], name: str, values: Mapping[str, Any]) -> bool:
    """Whether a name is known, or requested under these values, with which it becomes known."""
    definitions = definitions_of(builder)
    if definitions is None or name in definitions:
        return True
    try:
        asked = asked_for(builder, {}, split(builder, values)[1].given)
    except Exception as error:
        warn_of_mistake(error, f"whether a builder asks for {name!r} is not known")
        return False
    found = recall(builder)
    if found is not None and name in asked:
        found.definitions.setdefault(name, asked[name])
    return name in asked


def split(
    builder: Callable[..., Any], settings: Mapping[str, Any]
) -> tuple[dict[str, Any], HyperParameters]:
    """Split settings of a builder into its arguments and the values of ``hp``."""
    written = inspect.signature(builder).parameters
    arguments = {k: v for k, v in settings.items() if k in written}
    return arguments, HyperParameters({k: v for k, v in settings.items() if k not in written})


def shapes_of(X: Any, y: Any, *, classifier: bool) -> dict[str, Any]:
    """Return ``in_features``, ``in_channels``, ``input_shape`` and ``out_features`` of data.

    They are inferred as by estimators; unknown ones are left out.
    """
    shapes: dict[str, Any] = {}
    shape = tuple(getattr(X, "shape", ()))[1:]
    if shape:
        shapes = {
            "in_features": int(np.prod(shape)),
            "in_channels": shape[0],
            "input_shape": shape,
        }
    if y is not None:
        y = np.asarray(y)
        width = len(np.unique(y)) if classifier and y.ndim == 1 else int(np.prod(y.shape[1:]))
        shapes["out_features"] = width
    return shapes
