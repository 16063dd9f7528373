"""What a search tries: the argument `sampler`, priors, the estimator's own parameters first."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from ..fingerprint import describe
from ..samplers import CONFIDENCE, Prior, Sampler, named
from ..space import SearchSpace

if TYPE_CHECKING:
    from ._plan import Plan

__all__ = [
    "PRIOR_WEIGHT",
    "enqueued",
    "make_sampler",
    "own_configuration",
    "prior_of",
    "proposes_by_model",
]

_log = logging.getLogger(__name__)

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
        beliefs, reason = own_configuration(search.estimator, plan.space)
        if beliefs is None:
            raise ValueError(
                "priors='defaults' are the estimator's own parameters, which must be in the space, "
                f"but {reason}; give a dict with those that are"
            )
    if not beliefs:
        return None
    return Prior(plan.space, beliefs, search.prior_confidence)


def enqueued(search: Any, space: SearchSpace) -> Sequence[Mapping[str, Any]]:
    """Return the configurations that a search tries first.

    What an earlier search knows comes before the estimator's own parameters.

    Parameters
    ----------
    search : BaseTrialSearchCV
    space : SearchSpace

    Returns
    -------
    sequence of dict
    """
    if not isinstance(search.enqueue, str):
        given: Sequence[Mapping[str, Any]] = search.enqueue
        return given
    if search.warm_start_from is not None:
        return ()
    own, reason = own_configuration(search.estimator, space)
    if own is not None and not space.allows(own):
        own, reason = None, f"{own} is forbidden"
    if own is None:
        _log.info("the estimator's own parameters are not tried first: %s", reason)
    return () if own is None else (own,)


def own_configuration(estimator: Any, space: SearchSpace) -> tuple[dict[str, Any] | None, str]:
    """Return what the estimator has itself, as a configuration of the space.

    A number outside its range becomes the nearest end of it. A dict of a conditional space that
    needs none of that comes before one that does.

    Returns
    -------
    params : dict or None
        None where a parameter is a choice that is not listed, no number (None, "scale"), or not
        there.
    reason : str
        What is the matter then.
    """
    own = estimator.get_params(deep=True)
    nearest, reason = None, ""
    for distributions in space.dicts:
        try:
            params, is_exact = _nearest(SearchSpace(distributions), own)
        except ValueError as error:
            reason = reason or str(error)
            continue
        if is_exact:
            return params, ""
        nearest = nearest or params
    return nearest, reason


def _nearest(space: SearchSpace, own: Mapping[str, Any]) -> Any:
    """Return the configuration of one dict nearest to an estimator's, and whether it is equal."""
    missing = [name for name in space.names if name not in own]
    if missing:
        raise ValueError(f"the estimator has no {missing[0]} to begin with")
    params = {name: own[name] for name in space.names}
    is_exact = True
    for place, dimension in enumerate(space.dimensions):
        name = str(dimension.name)
        if dimension.kind == "choice":
            params[name] = space.value_at(place, space.unit_at(place, own[name]))
        elif isinstance(own[name], Real) and not isinstance(own[name], bool):
            ends: Any = space.bounds(name)
            low, high = ends
            params[name] = min(max(own[name], low), high)
            if dimension.kind == "integer":
                params[name] = _in_steps(space, place, params[name])
            is_exact = is_exact and params[name] == own[name]
    space.to_unit(params)
    return params, is_exact


def _in_steps(space: SearchSpace, place: int, number: Any) -> Any:
    """Return a number of a coordinate with steps, the nearest integer if it is none of these."""
    try:
        return space.value_at(place, space.unit_at(place, number))
    except ValueError:
        return round(number)
