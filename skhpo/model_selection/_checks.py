"""What is wrong with a search is said before anything is trained."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from difflib import get_close_matches

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.utils.multiclass import type_of_target

__all__ = ["check_classes", "check_names", "check_resource", "check_subsample_sizes"]


def check_names(estimator, param_distributions):
    """Raise ValueError if a name of the space is not a parameter of the estimator.

    A name may belong to something that the same dict puts in place, as in
    ``{"clf": [SVC()], "clf__C": [1, 10]}``.
    """
    one = isinstance(param_distributions, Mapping)
    known = estimator.get_params(deep=True)
    for space in [param_distributions] if one else param_distributions:
        for name in space:
            if name not in known and not _is_settable(estimator, name, space):
                raise ValueError(_unknown_name(estimator, name, known))


def _is_settable(estimator, name, space):
    """Whether the estimator takes a parameter that it does not list, as it is or after a choice."""
    parts = name.split("__")
    owners = ["__".join(parts[:i]) for i in range(1, len(parts))]
    choices = [(owner, space[owner]) for owner in owners if owner in space]
    before = [{}] + [
        {owner: choice}
        for owner, values in choices
        if not hasattr(values, "rvs")
        for choice in values
    ]
    return any(_takes(estimator, first, name) for first in before)


def _takes(estimator, first, name):
    try:
        clone(estimator).set_params(**clone(first, safe=False)).set_params(**{name: None})
    except (ValueError, AttributeError, TypeError):
        return False
    return True


def _unknown_name(estimator, name, known):
    """Say that an estimator lacks a parameter, and which it may have been."""
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        hint = f"did you mean {' or '.join(map(repr, close))}?"
    else:
        hint = f"the known ones are {', '.join(sorted(known))}"
    return (
        f"every name in the space must be a parameter of the estimator, but "
        f"{type(estimator).__name__} has no parameter {name!r}; {hint}"
    )


def check_resource(estimator, resource, names):
    """Raise ValueError unless the estimator has the resource and the space leaves it alone.

    Parameters
    ----------
    estimator : estimator
    resource : str
    names : collection of str
        Parameters in the space.
    """
    if resource in names:
        raise ValueError(
            f"the resource must not be in the space, because the search sets it, but "
            f"resource={resource!r} is in param_distributions; remove it there"
        )
    known = estimator.get_params(deep=True)
    if resource == "n_samples" or resource in known:
        return
    ends = [name for name in known if name.rpartition("__")[2] == resource.rpartition("__")[2]]
    close = ends or get_close_matches(resource, known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ValueError(
        f"resource must be 'n_samples' or a parameter of the estimator, but "
        f"{type(estimator).__name__} has no parameter {resource!r}{hint}"
    )


def check_subsample_sizes(estimator, y, splits, min_resources, max_resources):
    """Raise ValueError unless subsamples of these sizes exist and hold every class.

    Returns
    -------
    int
        `max_resources`, ``"auto"`` being resolved to the smallest training part.
    """
    largest = min(len(train) for train, _ in splits)
    if max_resources == "auto":
        max_resources = largest
    if max_resources > largest:
        raise ValueError(
            f"max_resources <= rows of the smallest training part must hold where the resource "
            f"is 'n_samples', but got max_resources={max_resources} and {largest} rows; "
            f"lower it, or use max_resources='auto'"
        )
    if is_classifier(estimator) and type_of_target(y) in {"binary", "multiclass"}:
        n_classes = len(np.unique(y))
        if min_resources < n_classes:
            raise ValueError(
                f"min_resources >= number of classes must hold where the resource is "
                f"'n_samples', so that no class is lost, but got min_resources={min_resources} "
                f"and {n_classes} classes; set min_resources={2 * n_classes}, say"
            )
    return max_resources


def check_classes(estimator, y, splits):
    """Warn where the training part of a split lacks a class."""
    if not is_classifier(estimator) or type_of_target(y) not in {"binary", "multiclass"}:
        return
    labels = np.asarray(y)
    classes = np.unique(labels)
    for i, (train, _) in enumerate(splits):
        missing = np.setdiff1d(classes, labels[train])
        if len(missing):
            warnings.warn(
                f"the training part of split {i} lacks the classes {missing.tolist()}, so fits "
                f"on it cannot predict them; use fewer splits, stratified ones, or merge rare "
                f"classes",
                UserWarning,
                stacklevel=3,
            )
