"""Checks of the arguments and the data of a search, before anything is trained."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.utils import indexable
from sklearn.utils.multiclass import type_of_target

from .._compat import num_samples
from ..arguments import synonyms
from ..rows import DatasetRows, Inputs, as_given, with_rows
from ..searchable import search_tags
from ..space import SearchSpace, nearest
from ..wrappers import arguments_inside, inside, owner_of

if TYPE_CHECKING:
    from ..schedulers import Scheduler
    from ._goals import Goals

_log = logging.getLogger(__name__)

# Those of a space.
Dicts = Sequence[Mapping[str, Any]]

# The parameter of an estimator whose values may be lists with one for each epoch.
_SCHEDULE = "hyperparameter_schedule"

__all__ = [
    "Dicts",
    "as_rows",
    "check_classes",
    "check_enqueued",
    "check_epochs",
    "check_fit_arguments",
    "check_keep_from",
    "check_lengths",
    "check_listening",
    "check_metrics_take",
    "check_name",
    "check_names",
    "check_passed",
    "enqueued",
    "has_classes",
    "rows_and_targets",
]


def as_rows(part: Any, n_samples: int) -> NDArray[np.intp]:
    """Return the rows of one part of a split: numbers, where a splitter may give masks or slices.

    Raises
    ------
    IndexError
        If there are no such rows.
    """
    part = part if isinstance(part, slice) else np.asarray(part)
    if np.size(part) == 0:
        return np.empty(0, dtype=int)
    try:
        return np.asarray(np.arange(n_samples)[part])
    except IndexError as error:
        raise IndexError(
            f"cv must yield row numbers of X, which has {n_samples} rows, or masks of that length, "
            f"but: {error}"
        ) from error


def check_names(estimator: Any, dicts: Dicts) -> None:
    """Raise ValueError if a name of the space is not a parameter of the estimator.

    A name may belong to something that the same dict puts in place, as in
    ``{"clf": [SVC()], "clf__C": [1, 10]}``; then every choice there must have it.
    """
    for space in dicts:
        for name in space:
            check_name(estimator, name, space, "every name in the space")


def check_enqueued(enqueue: Any, n_iter: int) -> None:
    """Raise ValueError if more configurations are enqueued than the search tries."""
    if not isinstance(enqueue, str) and len(enqueue) > n_iter:
        raise ValueError(
            f"len(enqueue) <= n_iter must hold, but got {len(enqueue)} configurations and "
            f"n_iter={n_iter}; raise n_iter, or leave some out"
        )


def enqueued(
    search: Any, estimator: Any, space: SearchSpace, resource: str | None
) -> Sequence[Mapping[str, Any]]:
    """Return the configurations that a search tries first.

    What an earlier search knows comes before the estimator's own parameters.

    Parameters
    ----------
    search : BaseTrialSearchCV
    estimator : estimator
        What is searched, with what the search set.
    space : SearchSpace
    resource : str or None
        Left out, as are epochs and averages that a search sets, so that they may be
        ``best_params_`` of another search.

    Returns
    -------
    sequence of dict
    """
    if not isinstance(search.enqueue, str):
        owner, prefix = owner_of(estimator)
        tags = search_tags(owner)
        left_out = {resource, *(prefix + name for name in (tags.counted, *tags.averages[:1]))}
        left_out &= set(estimator.get_params(deep=True)) - set(space.names)
        return [
            {name: value for name, value in given.items() if name not in left_out}
            if isinstance(given, Mapping)
            else given
            for given in search.enqueue
        ]
    if search.warm_start_from is not None:
        return ()
    own, reason = nearest(space, estimator.get_params(deep=True))
    if own is not None and not space.allows(own):
        own, reason = None, f"{own} is forbidden"
    if own is None:
        _log.info("the estimator's own parameters are not tried first: %s", reason)
    return () if own is None else (own,)


def check_passed(names: Iterable[str], resource: str | None, dicts: Dicts) -> None:
    """Raise ValueError if ``fit`` is passed an argument that the search sets itself.

    Parameters
    ----------
    names : iterable of str
        What ``fit`` of the search was passed for ``fit`` of the estimator.
    resource : str or None
    dicts : sequence of dict
        Of the space.
    """
    for name in names:
        if name == resource:
            raise ValueError(
                f"fit must not be passed {name!r}, which is the resource that the search sets; "
                "leave it out"
            )
        if any(name in space for space in dicts):
            raise ValueError(
                f"fit must not be passed {name!r}, which is in param_distributions; leave it out "
                "there, or here"
            )


def check_name(estimator: Any, name: str, space: Mapping[str, Any], what: str) -> None:
    """Raise ValueError unless a name, which is `what`, is a parameter of the estimator."""
    for changed, choice in _with_choices(estimator, name, space):
        known = changed.get_params(deep=True)
        if name in known or _takes(changed, name, known):
            continue
        where = "" if choice is None else f" with {choice[0]}={choice[1]!r}"
        hint = "" if choice is None else "; write a list of dicts, one for each kind of choice"
        raise ValueError(
            f"{what} must be a parameter of the estimator, but {type(estimator).__name__}{where} "
            f"has no parameter {name!r}; {_nearest(name, known)}{hint}"
        )


def _with_choices(
    estimator: Any, name: str, space: Mapping[str, Any]
) -> Iterator[tuple[Any, tuple[str, Any] | None]]:
    """Yield the estimator, or one for each choice of the component that has the parameter."""
    parts = name.split("__")
    owners = ["__".join(parts[:i]) for i in range(len(parts) - 1, 0, -1)]
    owner = next((o for o in owners if o in space and not hasattr(space[o], "rvs")), None)
    if owner is None:
        yield estimator, None
        return
    for choice in space[owner]:
        changed = clone(estimator)
        try:
            changed.set_params(**{owner: clone(choice, safe=False)})
        except (ValueError, AttributeError, TypeError):
            pass  # the name of its owner is wrong, too, and is reported when it is checked
        else:
            yield changed, (owner, choice)


def _takes(estimator: Any, name: str, known: Collection[str]) -> bool:
    """Whether the estimator takes a parameter that it does not list, as skorch's nets do."""
    if "__" in name and name.partition("__")[0] not in known:
        return False
    try:
        clone(estimator).set_params(**{name: None})
    except (ValueError, AttributeError, TypeError):
        return False
    return True


def _nearest(name: str, known: Iterable[str]) -> Any:
    """Guess which parameter was meant: the same one of a component, or a similar name."""
    close = synonyms(name, known) or get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(map(repr, close[:3]))}?"
    listed = sorted(known)
    return f"known are {', '.join(listed[:20])}{', ...' if len(listed) > 20 else ''}"


def check_listening(scheduler: Scheduler, goals: Goals) -> None:
    """Raise TypeError unless a scheduler and its sampler accept the keywords of a score.

    Parameters
    ----------
    scheduler : Scheduler
    goals : Goals
        Objectives and constraints of the search.
    """
    told = ["noise", "seconds"]
    measured = ["values"] if goals.objectives else []
    measured += ["violations"] if goals.constraints else []
    more = [*told, *measured, *(["value_noise"] if goals.objectives else [])]
    methods: list[tuple[Any, list[str]]] = [(scheduler.tell, more)]
    methods += [(scheduler.record, measured), (scheduler.sampler.observe, more)]
    for method, names in methods:
        signature = inspect.signature(method)
        any_keyword = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        lacking = [name for name in names if name not in signature.parameters]
        if lacking and not any_keyword:
            is_new = not {"noise", "seconds"} & set(lacking)
            why = " of a search with objectives or constraints" if is_new else ""
            raise TypeError(
                f"a scheduler's tell and record and a sampler's observe{why} must take the keyword "
                f"arguments {', '.join(names)}, but {method.__qualname__} is {method.__name__}"
                f"{signature}; add '*, {', '.join(f'{name}=None' for name in lacking)}'"
            )


def check_keep_from(search: Any, resource: str | None, max_resource: int | None) -> None:
    """Raise ValueError if `keep_from` has no meaning for a search.

    Parameters
    ----------
    search : BaseTrialSearchCV
    resource : str or None
    max_resource : int or None
        Its largest resource.
    """
    least = search.keep_from
    keeps = search.return_predictions or search._refits_ensemble or search.keep_models
    if not keeps:
        raise ValueError(
            f"keep_from says of which rows something is kept, but got keep_from={least} with "
            "return_predictions=False and keep_models=0; set one of them, or leave keep_from out"
        )
    if resource is None or (max_resource is not None and least > max_resource):
        most = "there is none" if resource is None else f"its largest is {max_resource}"
        raise ValueError(
            f"keep_from must be a resource of the search, but got keep_from={least}, and {most}; "
            "leave it out, or lower it"
        )


def check_epochs(search: Any, dicts: Dicts, resource: str | None, max_resource: int | None) -> None:
    """Raise ValueError where a parameter has no value for the last epoch of the longest fit.

    Parameters
    ----------
    search : BaseTrialSearchCV
    dicts : sequence of dict
        Of its space.
    resource : str or None
    max_resource : int or None
        Its largest resource.
    """
    inner = inside(search.estimator)
    counted = search_tags(inner.estimator).counted
    for space in dicts:
        if inner.may_be_moved_by(space):
            continue
        own = inner.own(space)
        if resource == inner.prefix + counted:
            longest = max_resource
        else:
            longest = _largest(own.get(counted, [vars(inner.estimator).get(counted)]))
        schedules = own.get(_SCHEDULE)
        for schedule in schedules if isinstance(schedules, list | tuple) else [None]:
            changed = {} if schedule is None else {_SCHEDULE: schedule}
            one = clone(inner.estimator).set_params(**changed) if changed else inner.estimator
            if longest is not None:
                search_tags(one).check_epochs(longest)


def _largest(values: Any) -> int | None:
    """Return the largest integer of a list or a distribution, None if it is unknown."""
    values = values.support() if hasattr(values, "support") else values
    known = [int(one) for one in values if isinstance(one, int | np.integer)]
    return max(known, default=None)


def check_fit_arguments(
    estimator: Any, X: Any, y: Any, fit_params: Mapping[str, Any], dicts: Dicts
) -> None:
    """Raise the errors that every ``fit`` would raise, as far as they are known before.

    Raises
    ------
    ValueError
        If the target is missing, a pipeline refuses an argument, or a network the data.
    TypeError
        If ``fit`` of the estimator, inside of its wrappers, has no argument of that name.
    """
    found = inside(estimator)
    owner = found.estimator
    if any(map(found.may_be_moved_by, dicts)):
        return  # by something that may take other arguments
    given = arguments_inside(estimator, fit_params)
    try:
        signature = inspect.signature(owner.fit)
    except (AttributeError, TypeError, ValueError):  # no fit, or a compiled one
        return
    taken = signature.parameters
    if y is None and "y" in taken and taken["y"].default is inspect.Parameter.empty:
        raise ValueError(
            f"{type(owner).__name__} requires y to be passed, but the target y is None"
        )
    varied = set().union(*map(found.own, dicts))
    # What is inside of a wrapper gets other rows; without y these do not matter. A method of the
    # user's may make targets of the rows.
    is_own = str(getattr(owner.fit, "__module__", "")).startswith("skhpo.")
    X = as_given(X) if (is_own if y is None else not found.names) else None
    y = None if found.keeps_unfitted else y
    search_tags(owner).check_data(X, y, given, varied)
    if any(one.kind is one.VAR_KEYWORD for one in taken.values()):
        return
    for name in given:
        if name not in taken:
            is_param = name in owner.get_params(deep=False)
            fix = f"set it in {type(owner).__name__}(...)" if is_param else "leave it out"
            raise TypeError(
                f"arguments of fit, beside those of the search, must be such of the estimator's "
                f"fit, but {type(owner).__name__}.fit{signature} has no "
                f"argument {name!r}; {fix}"
            )


def rows_and_targets(estimator: Any, X: Any, y: Any = None, verbose: int = 0) -> tuple[Any, Any]:
    """Return data that can be split by rows, and a target for each row.

    Parameters
    ----------
    estimator : estimator
        Of the search.
    X, y : object
        What ``fit`` got.
    verbose : int, default=0
        Whether to tell how many targets of a dataset were read.

    Raises
    ------
    TypeError
        If the rows cannot be told apart, or a dataset has no targets.
    ValueError
        If there are more or fewer targets than rows.
    """
    y = Inputs(y) if isinstance(y, Mapping) and not hasattr(y, "shape") else y
    X = with_rows(X, y)
    if isinstance(X, DatasetRows):
        from ._datasets import check_takes_datasets, read_targets

        check_takes_datasets(estimator, X)
        if y is None:
            y = read_targets(estimator, X, verbose)
        elif num_samples(y) != len(X):
            raise ValueError(
                f"y must have a target for each of the {len(X)} items of the Dataset X, but has "
                f"{num_samples(y)}; leave y out where the Dataset yields pairs (X, y)"
            )
    X, y = indexable(X, y)
    return X, y


def check_lengths(X: Any, params: Mapping[str, Any]) -> None:
    """Raise ValueError if the groups are not those of the rows.

    Parameters
    ----------
    X : array-like
    params : dict
        Metadata of ``fit``.
    """
    groups = params.get("groups")
    if groups is not None and np.ndim(groups) > 0 and num_samples(groups) != num_samples(X):
        raise ValueError(
            f"groups must have an entry for each of the {num_samples(X)} rows of X, but has "
            f"{num_samples(groups)}; inconsistent numbers of samples cannot be split"
        )


def has_classes(estimator: Any, y: Any) -> bool:
    """Whether an estimator is a classifier, and targets are one label per row."""
    if y is None or not is_classifier(estimator):
        return False
    return type_of_target(y) in {"binary", "multiclass"}


def check_classes(
    estimator: Any,
    y: Any,
    splits: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
    scorer: Any,
    metric: Any,
    error_score: Any = np.nan,
) -> None:
    """Warn, once for all splits, where the training part of one lacks a class.

    Parameters
    ----------
    estimator : estimator
    y : array-like
    splits : list of (ndarray, ndarray)
    scorer : callable
    metric : str or bool
        By which the best row is found.
    error_score : float or "raise", default=nan
        The score where the scorer raises an error.

    Raises
    ------
    ValueError
        If a network, which predicts the classes of its training part, has no score on a split
        whatever it predicts: the mean over the splits, by which candidates are compared, is then
        NaN for all of them.
    """
    if not has_classes(estimator, y):
        return
    labels = np.asarray(y)
    classes = np.unique(labels)
    lacking = []
    for i, (train, test) in enumerate(splits):
        missing = np.setdiff1d(classes, labels[train])
        untested = np.setdiff1d(classes, labels[test])
        if len(missing) or len(untested):
            from ._missing_classes import check_has_score

            check_has_score(estimator, scorer, metric, error_score, labels, i, train, test)
        if len(missing):
            lacking.append((i, missing.tolist()))
    if lacking:
        first, lacks = lacking[0]
        others = f" (of {len(lacking)} such splits the first one)" if lacking[1:] else ""
        warnings.warn(
            f"the training part of split {first} lacks the classes {lacks}{others}, so fits on it "
            "cannot predict them; use fewer splits, stratified ones, or merge rare classes",
            UserWarning,
            stacklevel=5,
        )


def check_metrics_take(y: Any, scorer: Any) -> None:
    """Raise ValueError for a metric of scikit-learn where targets have more than two dimensions.

    It would fail in all fits, which `GridSearchCV` shows only after training them. `y` has such
    targets, or is `Inputs`, a dict of targets.
    """
    several = isinstance(y, Inputs)
    for name, one in getattr(scorer, "_scorers", {"scoring": scorer}).items():
        metric = getattr(one, "_score_func", None)
        if metric is not None and metric.__module__.startswith("sklearn."):
            found = "is a dict" if several else f"has the shape {np.shape(y)}"
            raise ValueError(
                f"metrics of scikit-learn take targets of one or two dimensions, but y {found} and "
                f"{name} is {metric.__name__}; leave scoring at None, which is the estimator's own "
                "score, or give a function of your own (estimator, X, y)"
            )
