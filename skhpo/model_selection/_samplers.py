"""What a search samples with: its argument `sampler`, and what the user believes of good values."""

from __future__ import annotations

import copy
from typing import Any

from ..fingerprint import describe
from ..samplers import CONFIDENCE, Prior, Sampler, named
from ..space import SearchSpace
from ._own import own_configuration
from ._plan import Plan

__all__ = ["PRIOR_WEIGHT", "make_sampler", "prior_of", "proposes_by_model"]

# Factors of the weight of the prior in the acquisition function.
PRIOR_WEIGHT = {"low": 0.5, "medium": 1.0, "high": 2.0}
_DEFAULT = "medium"  # confidence, of all searches
assert PRIOR_WEIGHT.keys() == CONFIDENCE.keys()


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


def prior_of(search: Any, plan: Plan) -> Prior | None:
    """Return the prior of a search, None for none.

    Parameters
    ----------
    search : estimator
        Has `priors` and `prior_confidence`.
    plan : Plan

    Raises
    ------
    TypeError, ValueError
        If a name or a value is not in the space, or there is a confidence in nothing.
    """
    beliefs = search.priors
    if not beliefs and search.prior_confidence != _DEFAULT:
        raise ValueError(
            f"prior_confidence={search.prior_confidence!r} says how narrow priors around single "
            f"values are, but priors is {beliefs!r}; give priors, or leave prior_confidence out"
        )
    if isinstance(beliefs, str):
        beliefs, reason = own_configuration(search.estimator, plan.distributions)
        if beliefs is None:
            raise ValueError(
                "priors='defaults' are the estimator's own parameters, which must be in the space, "
                f"but {reason}; give a dict with those that are"
            )
    if not beliefs:
        return None
    return Prior(plan.space, beliefs, search.prior_confidence)
