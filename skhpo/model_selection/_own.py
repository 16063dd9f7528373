"""The estimator's own parameters, as a configuration of the space."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from ..space import SearchSpace, translated

if TYPE_CHECKING:
    pass

__all__ = ["enqueued", "own_configuration"]

_log = logging.getLogger(__name__)


def enqueued(
    search: Any, param_distributions: Any, space: SearchSpace
) -> Sequence[Mapping[str, Any]]:
    """Return the configurations that a search tries first.

    What an earlier search knows comes before the estimator's own parameters.

    Parameters
    ----------
    search : BaseTrialSearchCV
    param_distributions : dict or list of dict
    space : SearchSpace
        The same.

    Returns
    -------
    sequence of dict
    """
    if not isinstance(search.enqueue, str):
        given: Sequence[Mapping[str, Any]] = search.enqueue
        return given
    if search.warm_start_from is not None:
        return ()
    own, reason = own_configuration(search.estimator, param_distributions)
    if own is not None and not space.allows(own):
        own, reason = None, f"{own} is forbidden"
    if own is None:
        _log.info("the estimator's own parameters are not tried first: %s", reason)
    return () if own is None else (own,)


def own_configuration(
    estimator: Any, param_distributions: Any
) -> tuple[dict[str, Any] | None, str]:
    """Return what the estimator has itself, as a configuration of the space.

    A number outside its range becomes the nearest end of it. A dict of a conditional space that
    needs none of that comes before one that does.

    Parameters
    ----------
    estimator : estimator
    param_distributions : dict or list of dict

    Returns
    -------
    params : dict or None
        None where a parameter is a choice that is not listed, no number (None, "scale"), or not
        there.
    reason : str
        What is the matter then.
    """
    own = estimator.get_params(deep=True)
    dicts = translated(param_distributions)
    nearest, reason = None, ""
    for distributions in [dicts] if isinstance(dicts, Mapping) else dicts:
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
            one = SearchSpace({name: space.choices(name)})
            params[name] = one.from_unit(one.to_unit({name: own[name]}))[name]
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
