"""What the user of a search believes of good values."""

from __future__ import annotations

from typing import Any

from ..samplers import CONFIDENCE, Prior
from ._own import own_configuration
from ._plan import Plan

__all__ = ["PRIOR_WEIGHT", "prior_of"]

# Factors of the weight of the prior in the acquisition function.
PRIOR_WEIGHT = {"low": 0.5, "medium": 1.0, "high": 2.0}
_DEFAULT = "medium"  # confidence, of all searches
assert PRIOR_WEIGHT.keys() == CONFIDENCE.keys()


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
