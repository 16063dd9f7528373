"""Priors of a search, and samplers that are given as instances."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from ..fingerprint import describe
from ..samplers import CONFIDENCE, Prior, Sampler
from ..space import nearest

if TYPE_CHECKING:
    from ..space import SearchSpace
    from ._plan import Plan

__all__ = ["DEFAULT_CONFIDENCE", "PRIOR_WEIGHT", "copied", "prior_of"]

# Factors of the weight of the prior in the acquisition function.
PRIOR_WEIGHT = {"low": 0.5, "medium": 1.0, "high": 2.0}
DEFAULT_CONFIDENCE = "medium"  # of all searches
assert PRIOR_WEIGHT.keys() == CONFIDENCE.keys()


def copied(sampler: Sampler, space: SearchSpace) -> Sampler:
    """Return a copy of a sampler that is a parameter of a search.

    Raises
    ------
    ValueError
        If it has another space.
    """
    if describe(sampler.space) != describe(space):
        raise ValueError(
            "an instance as sampler must have the space of the search, but its space is "
            f"{sampler.space!r}; pass its class, or a function (space, random_state) that "
            "makes it"
        )
    return copy.deepcopy(sampler)


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
    if not beliefs and search.prior_confidence != DEFAULT_CONFIDENCE:
        raise ValueError(
            f"prior_confidence={search.prior_confidence!r} says how narrow priors around single "
            f"values are, but priors is {beliefs!r}; give priors, or leave prior_confidence out"
        )
    if isinstance(beliefs, str):
        beliefs, reason = nearest(plan.space, plan.setting.estimator.get_params(deep=True))
        if beliefs is None:
            raise ValueError(
                "priors='defaults' are the estimator's own parameters, which must be in the space, "
                f"but {reason}; give a dict with those that are"
            )
    if not beliefs:
        return None
    return Prior(plan.space, beliefs, search.prior_confidence)
