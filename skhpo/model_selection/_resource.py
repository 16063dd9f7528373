"""The resource of a search: its name, and its smallest and largest amount."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..searchable import search_tags
from ..wrappers import owner_of
from ._checks import check_name, dicts_of
from ._classes import has_classes

if TYPE_CHECKING:
    from ._plan import Plan

__all__ = ["check_resource", "own_amount", "resource_limits", "resource_of"]

# What "auto" is as the largest amount of any resource but rows.
_MOST = 81


def resource_of(search: Any, param_distributions: Any) -> str | None:
    """Return the name of a search's resource, None where all fits are full ones.

    There is one rule for ``resource="auto"``, the default of each search that has the argument: the
    parameter that counts the epochs of the network, also inside of a pipeline (`max_epochs` of a
    torch estimator, `epochs` of a Keras one), unless the space or `stage_params` set it. Other
    estimators have no resource until one is named.

    Parameters
    ----------
    search : BaseTrialSearchCV
    param_distributions : dict, list of dict or "model"
        Its space; "model" varies only what a builder asks for.
    """
    if search.resource != "auto":
        name: str | None = search.resource
        return name
    owner, prefix = owner_of(search.estimator)
    counted = search_tags(owner).counted
    varied = [] if isinstance(param_distributions, str) else [*dicts_of(param_distributions)]
    varied.append(getattr(search, "stage_params", None) or {})
    if not hasattr(owner, "get_params") or counted not in owner.get_params(deep=False):
        return None
    return None if any(prefix + counted in space for space in varied) else prefix + counted


def check_resource(estimator: Any, resource: str, param_distributions: Any) -> None:
    """Raise ValueError unless the estimator has the resource and the space does not.

    Parameters
    ----------
    estimator : estimator
    resource : str
    param_distributions : dict or list of dict
    """
    for space in dicts_of(param_distributions):
        if resource in space:
            raise ValueError(
                f"the resource must not be in the space, because the search sets it, but "
                f"resource={resource!r} is in param_distributions; remove it there"
            )
        if resource != "n_samples":
            check_name(estimator, resource, space, "the resource, unless it is 'n_samples',")
    owner, prefix = owner_of(estimator)
    search_tags(owner).check_resource(resource.removeprefix(prefix))


def own_amount(search: Any, resource: str | None) -> int | None:
    """Return what the estimator itself has of a resource; None if the largest is not more.

    Parameters
    ----------
    search : estimator
        Has `max_resources`, a number or "auto".
    resource : str or None
    """
    own = search.estimator.get_params().get(resource)
    most = _MOST if search.max_resources == "auto" else search.max_resources
    return int(own) if isinstance(own, int | np.integer) and 0 < own < most else None


def resource_limits(search: Any, plan: Plan) -> tuple[int, int]:
    """Return the smallest and the largest resource of a search as numbers.

    Parameters
    ----------
    search : estimator
        Has `min_resources` and `max_resources`, numbers or "auto".
    plan : Plan
        With the resource.

    Returns
    -------
    min_resources, max_resources : int
        "auto" being a 27th of the largest and 81; where the resource is ``"n_samples"`` twice the
        number of classes (or 2), and the smallest training part.

    Raises
    ------
    ValueError
        Unless subsamples of these sizes exist and hold every class.
    """
    limits = search.min_resources, search.max_resources
    if plan.setting.resource == "n_samples":
        return _subsample_sizes(search.estimator, plan.y, plan.splits, *limits)
    least, most = limits
    most = _MOST if most == "auto" else most
    # A fit of its own costs what ten epochs of a small network do, and first epochs hardly rank:
    # shorter rungs save little and lose the better ones (docs/benchmarks/anytime.md).
    return max(1, most // 27) if least == "auto" else least, most


def _subsample_sizes(
    estimator: Any,
    y: Any,
    splits: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
    min_resources: Any,
    max_resources: Any,
) -> tuple[int, int]:
    largest = min(len(train) for train, _ in splits)
    n_classes = len(np.unique(y)) if has_classes(estimator, y) else 1
    min_resources = 2 * n_classes if min_resources == "auto" else min_resources
    max_resources = largest if max_resources == "auto" else max_resources
    if max_resources > largest:
        raise ValueError(
            f"max_resources <= rows of the smallest training part must hold where the resource "
            f"is 'n_samples', but got max_resources={max_resources} and {largest} rows; "
            f"lower it, or use max_resources='auto'"
        )
    if min_resources < n_classes:
        raise ValueError(
            f"min_resources >= number of classes must hold where the resource is "
            f"'n_samples', so that no class is lost, but got min_resources={min_resources} "
            f"and {n_classes} classes; use min_resources='auto'"
        )
    return min_resources, max_resources
