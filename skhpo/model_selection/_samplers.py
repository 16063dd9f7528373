"""What ``sampler=`` of a search may be: a name, a class, an instance or a callable."""

from __future__ import annotations

import copy
from typing import Any

from ..fingerprint import describe
from ..samplers import Sampler, named
from ..space import SearchSpace

__all__ = ["make_sampler", "proposes_by_model"]


def make_sampler(sampler: Any, space: SearchSpace, random_state: int) -> Sampler:
    """Return the sampler that the parameter `sampler` of a search stands for.

    Parameters
    ----------
    sampler : str, Sampler, type or callable
        A registered name, an instance (copied, because it is a parameter), or a callable as
        `skhpo.samplers.register` takes.
    space : SearchSpace
    random_state : int
        Not used by an instance, which has its own.

    Raises
    ------
    ValueError
        If the name is not known, or an instance has another space.
    TypeError
        If a callable returns anything else than a `Sampler`.
    """
    if isinstance(sampler, str):
        sampler = named(sampler)
    if isinstance(sampler, Sampler):
        if describe(sampler.space) != describe(space):
            raise ValueError(
                "an instance as sampler must have the space of the search, but its space is "
                f"{sampler.space!r}; pass its class, or a function (space, random_state) that "
                "makes it"
            )
        return copy.deepcopy(sampler)
    made: object = sampler(space, random_state)
    if not isinstance(made, Sampler):
        raise TypeError(
            f"a callable sampler must return a skhpo.samplers.Sampler, but {sampler!r} returned "
            f"{made!r}"
        )
    return made


def proposes_by_model(search: Any) -> bool:
    """Whether the candidates of a search come from a model unless it is told otherwise.

    So it is with several objectives, of whose front random candidates find less.
    """
    return search.objectives is not None and len(search.objectives) > 1
