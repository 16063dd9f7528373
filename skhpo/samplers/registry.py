"""Names of samplers, for ``sampler=`` of the searches."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from ..space import SearchSpace
from .base import Sampler
from .random import RandomSampler

__all__ = ["named", "register"]

MakeSampler = Callable[[SearchSpace, int], Sampler]


def _bayes(space: SearchSpace, random_state: int) -> Sampler:
    from .bayes import BayesSampler  # slow to import

    return BayesSampler(space, random_state)


_known: dict[str, MakeSampler] = {"bayes": _bayes, "random": RandomSampler}
_AUTO = "auto"  # of HalvingHyperbandSearchCV, which replaces it by one of these names


def register(name: str, make: MakeSampler) -> None:
    """Give a sampler a name, which ``sampler=`` of the searches accepts from then on.

    Registered in this process only: a script that continues a journal must register it, too.

    Parameters
    ----------
    name : str
        A new name. A class or function that is defined again, as in a cell of a notebook that
        runs again, replaces the one before.
    make : callable
        Called as ``make(space, random_state)`` with a `SearchSpace` and an integer; returns a
        `Sampler`. A subclass of `Sampler` with these parameters is one.

    Raises
    ------
    ValueError
        If the name has another sampler already, or is "auto".
    TypeError
        If `make` is not callable.

    Examples
    --------
    >>> from skhpo import HalvingHyperbandSearchCV
    >>> from skhpo.samplers import RandomSampler, register
    >>> class Twice(RandomSampler):
    ...     '''Draws each configuration twice.'''
    ...     def sample(self, n):
    ...         return [params for params in super().sample(n - n // 2) for _ in range(2)][:n]
    >>> register("twice", Twice)
    >>> search = HalvingHyperbandSearchCV(None, {}, sampler="twice")
    """
    if not callable(make):
        raise TypeError(
            f"make must be callable as make(space, random_state), but got {make!r}; pass a class "
            "or a function"
        )
    if name == _AUTO:
        raise ValueError(
            f"{_AUTO!r} leaves the choice of a sampler to the search, and cannot be the name of "
            "one; choose another name"
        )
    if name in _known and _origin(_known[name]) != _origin(make):
        raise ValueError(
            f"a name stands for one sampler, but {name!r} is {_known[name]!r} already; choose "
            "another name"
        )
    _known[name] = make


def _origin(make: MakeSampler) -> Any:
    if not hasattr(make, "__qualname__"):
        return make
    return make.__module__, make.__qualname__


def named(name: str) -> MakeSampler:
    """Return what was registered under a name.

    Raises
    ------
    ValueError
        If the name is not known.
    """
    if name not in _known:
        names = sorted([_AUTO, *_known])
        near = difflib.get_close_matches(name, names, n=1)
        raise ValueError(
            f"The 'sampler' parameter must be one of the names {names}, a Sampler or a "
            f"callable. Got {name!r} instead"
            + (f" (did you mean {near[0]!r}?)" if near else "")
            + "; skhpo.samplers.register adds a name"
        )
    return _known[name]
