"""What constraints are about: numbers of estimators, fitted or not."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

from ..scorers import n_parameters
from ..wrappers import fitted_inside

if TYPE_CHECKING:
    from ._setup import Work

__all__ = ["known_before", "measured"]


def measured(
    measures: Mapping[str, Any], fitted: Any, scores: Collection[str]
) -> dict[str, float] | None:
    """Return what a fit is measured by, None where there is nothing.

    Parameters
    ----------
    measures : mapping of str to (str or callable)
        As of `Setting`.
    fitted : estimator
    scores : collection of str
        Names of its scores, which are no attributes.

    Raises
    ------
    ValueError
        If one is no number: no fit is to blame for that.
    """
    found = {
        name: _number(name, fitted, what, scores)
        for name, what in measures.items()
        if callable(what) or name not in scores
    }
    return found or None


def _number(name: str, fitted: Any, what: Any, scores: Collection[str]) -> float:
    owner = fitted_inside(fitted)
    if callable(what):
        value = what(fitted)
    elif name == "n_parameters":
        value = n_parameters(fitted)
    else:
        value = getattr(owner, what, None)
    if hasattr(value, "item") and getattr(value, "size", None) == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        known = ", ".join(map(repr, scores))
        raise ValueError(
            f"what a constraint is about must be a number, but {name!r} of a fitted "
            f"{type(owner).__name__} is {value!r}; give a metric ({known}), 'n_parameters', an "
            "attribute that is a number, or a function of the estimator"
        )
    return float(value)


def known_before(
    bounds: Mapping[str, tuple[float | None, float | None]], work: Work
) -> tuple[dict[str, float], str | None]:
    """Return what is known of an estimator without a fit, and which bound of it is broken.

    Parameters
    ----------
    bounds : mapping of str to (low, high)
    work : Work
        What is to be trained.

    Returns
    -------
    measures : dict of str to float
    broken : str or None
    """
    if "n_parameters" not in bounds:
        return {}, None
    count = _parameters_of_unfitted(work)
    if count is None:
        return {}, None
    low, high = bounds["n_parameters"]
    least, most = -math.inf if low is None else low, math.inf if high is None else high
    is_broken = not least <= count <= most
    return {"n_parameters": float(count)}, "n_parameters" if is_broken else None


def _parameters_of_unfitted(work: Work) -> int | None:
    """Return how many parameters a network will have for such data; None if that is not known."""
    estimators: Any = sys.modules.get("skhpo.estimators")
    if estimators is None or work.y is None or not hasattr(work.X, "shape"):
        return None
    if not isinstance(work.fresh, (estimators.TorchClassifier, estimators.TorchRegressor)):
        return None
    from ..lockstep import built_for

    built = built_for(work.fresh, work.X, work.y)
    return None if built is None else n_parameters(built)
