"""How a fit is continued from one resource level to a larger one.

How depends on the estimator that counts the resource:

=====================================================  ====================================
estimator and resource                                 from ``done`` to ``target``
=====================================================  ====================================
``TorchClassifier``, ``TorchRegressor`` and skorch's   ``partial_fit`` for
nets: ``max_epochs``                                   ``target - done`` epochs
``KerasClassifier``, ``KerasRegressor``: ``epochs``    the same
``MLPClassifier``, ``MLPRegressor``,                   one ``partial_fit`` per epoch
``SGDClassifier``, ``SGDRegressor``: ``max_iter``
forests, extra trees, bagging, gradient boosting:      ``warm_start``, the count being
``n_estimators``; histogram boosting: ``max_iter``     a total
anything else, and ``n_samples``                       trained again from scratch
=====================================================  ====================================

The second row falls back to the last where scikit-learn's ``partial_fit`` does not do what
``fit`` does: ``solver="lbfgs"``, ``learning_rate="adaptive"``, ``early_stopping=True``,
``class_weight="balanced"``, multi-label targets. The stopping rule of ``tol`` is not looked at: as
many epochs are trained as the level says, in the refit too. The third row falls back to the last
where an ensemble stops early, or objects to ``warm_start`` (``oob_score`` of bagging, balanced
class weights). (``warm_start`` is no way out there: raising ``max_iter`` from 3 to 9 trains
9 more epochs, and resets the optimizer.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import is_classifier

from .._compat import imported_class
from ..searchable import search_tags

__all__ = [
    "advance",
    "begin",
    "end",
    "holds_all_in_checkpoint",
    "is_one_of",
    "set_horizon",
    "way_to_continue",
]

# Their ``partial_fit`` trains one epoch, which `max_iter` counts. By name, because a user who has
# such an estimator has imported its class.
_ONE_EPOCH_PER_PARTIAL_FIT = (
    "linear_model.SGDClassifier",
    "linear_model.SGDRegressor",
    "neural_network.MLPClassifier",
    "neural_network.MLPRegressor",
)
# Their ``fit`` continues with ``warm_start`` up to a total, which is the parameter given here.
_TOTAL_BY_WARM_START: dict[str | None, Sequence[str]] = {
    "n_estimators": (
        "ensemble.BaggingClassifier",
        "ensemble.BaggingRegressor",
        "ensemble.ExtraTreesClassifier",
        "ensemble.ExtraTreesRegressor",
        "ensemble.GradientBoostingClassifier",
        "ensemble.GradientBoostingRegressor",
        "ensemble.RandomForestClassifier",
        "ensemble.RandomForestRegressor",
    ),
    "max_iter": (
        "ensemble.HistGradientBoostingClassifier",
        "ensemble.HistGradientBoostingRegressor",
    ),
}
_BAGGING = ("ensemble.BaggingClassifier", "ensemble.BaggingRegressor")


def is_one_of(estimator: Any, names: Sequence[str]) -> bool:
    """Whether an estimator is of one of some classes of scikit-learn, or of a subclass."""
    classes = tuple(found for found in map(imported_class, names) if found is not None)
    return isinstance(estimator, classes)


def set_horizon(estimator: Any, resource: str | None, max_resource: int | None) -> None:
    """Give a learning-rate schedule the length of the longest fit of a search.

    All fits of a candidate, and the refit, then follow one and the same schedule, however far
    they go. A length set by the user stays.

    Parameters
    ----------
    estimator : estimator
        Unfitted; changed in place.
    resource : str or None
        Parameter of `estimator` that counts the work.
    max_resource : int or None
        Its largest value.
    """
    if resource is None or max_resource is None or resource.rpartition("__")[2] != "max_epochs":
        return
    name = resource.removesuffix("max_epochs") + "schedule_epochs"
    params = estimator.get_params()
    if name in params and params[name] is None:
        estimator.set_params(**{name: max_resource})


def way_to_continue(estimator: Any, resource: str | None, y: Any = None) -> str:
    """Return how a fit of `estimator` is continued.

    Parameters
    ----------
    estimator : estimator
        With its parameters set.
    resource : str or None
        The parameter of `estimator` that counts the work.
    y : array-like or None, default=None
        Target; multi-label targets cannot always be continued.

    Returns
    -------
    {"partial_fit", "partial_fit_per_epoch", "warm_start", "retrain"}
    """
    if resource == search_tags(estimator).counted and hasattr(estimator, "partial_fit"):
        return "partial_fit"
    if resource == "max_iter" and is_one_of(estimator, _ONE_EPOCH_PER_PARTIAL_FIT):
        params = estimator.get_params(deep=False)
        exact = (
            hasattr(estimator, "partial_fit")
            and params.get("solver") != "lbfgs"
            and params.get("learning_rate") != "adaptive"
            and not params.get("early_stopping")
            and params.get("class_weight") != "balanced"
            and not _has_several_columns(y)
        )
        return "partial_fit_per_epoch" if exact else "retrain"
    if is_one_of(estimator, _TOTAL_BY_WARM_START.get(resource, ())):
        return "retrain" if _stops_or_objects(estimator, y) else "warm_start"
    return "retrain"


def _has_several_columns(y: Any) -> bool:
    return np.ndim(y) > 1 and np.shape(y)[1] > 1


def _stops_or_objects(estimator: Any, y: Any) -> bool:
    """Whether an ensemble may stop early, or refuses or warns of ``warm_start``."""
    params = estimator.get_params(deep=False)
    early = params.get("early_stopping", params.get("n_iter_no_change") is not None)
    if early == "auto":  # histogram boosting decides by the number of rows
        early = y is not None and len(y) > 10_000
    bagging = is_one_of(estimator, _BAGGING)
    return (
        early
        or (bagging and params["oob_score"])
        or params.get("class_weight") in ("balanced", "balanced_subsample")
    )


def advance(
    fresh: Any,
    state: Any,
    resource: str | None,
    X: Any,
    y: Any,
    fit_params: Mapping[str, Any],
    *,
    done: int,
    target: int,
) -> tuple[Any, Any]:
    """Train an estimator up to `target`, from `state` where there is one.

    Parameters
    ----------
    fresh : estimator
        Unfitted, with the candidate's parameters and its seed.
    state : estimator or None
        The same candidate as fitted up to `done`. It is changed in place.
    resource : str or None
        Parameter that counts the work. None means a full fit.
    X, y : array-like
        Training data.
    fit_params : dict
        Further arguments of ``fit`` and ``partial_fit``.
    done, target : int
        Resource of `state`, and the one to reach.

    Returns
    -------
    fitted : estimator
    state : estimator or None
        From which the next level is continued; None if it cannot be.
    """
    way = way_to_continue(fresh, resource, y)
    net, continuing = begin(way, fresh, state, resource, done, target)
    if way == "partial_fit_per_epoch":
        _partial_fit_per_epoch(net, state is None, X, y, fit_params, target - done)
    elif continuing:
        net.partial_fit(X, y, **fit_params)
    else:  # as `GridSearchCV` does: without y where there is none, whatever ``fit`` returns
        net.fit(*((X,) if y is None else (X, y)), **fit_params)
    return net, end(way, net, resource, target)


def begin(
    way: str, fresh: Any, state: Any, resource: str | None, done: int, target: int
) -> tuple[Any, bool]:
    """Prepare an estimator for training up to `target`.

    Parameters
    ----------
    way : str
        From `way_to_continue`.
    fresh, state, resource, done, target
        As of `advance`.

    Returns
    -------
    net : estimator
        The fresh one, or the state.
    continuing : bool
        Whether ``partial_fit`` trains it, or ``fit``.
    """
    net = fresh if state is None or way == "retrain" else state
    continuing = way == "partial_fit" and net is state
    if way == "warm_start":
        net.set_params(warm_start=True)
    if resource is not None and way != "partial_fit_per_epoch":
        net.set_params(**{resource: target - done if continuing else target})
    return net, continuing


def end(way: str, net: Any, resource: Any, target: int) -> Any:
    """Return the trained estimator if it can be continued, else None."""
    if way == "retrain":
        return None
    if way == "partial_fit":
        # skorch's nets swallow Ctrl-C: fewer epochs than were asked for mean that it was pressed.
        if not hasattr(net, "save_checkpoint") and hasattr(net, "history") and not net.callbacks:
            finished = sum("train_loss" in epoch for epoch in net.history)
            if finished < target:
                raise KeyboardInterrupt
        net.set_params(**{resource: target})
    return net


def _partial_fit_per_epoch(
    net: Any, is_fresh: bool, X: Any, y: Any, fit_params: Mapping[str, Any], n_epochs: int
) -> None:
    if is_fresh:
        # With an integer every partial_fit would restart the generator, and so shuffle alike.
        if isinstance(net.random_state, int | np.integer):
            net.set_params(random_state=np.random.RandomState(net.random_state))
        if is_classifier(net):
            fit_params = {**fit_params, "classes": np.unique(y)}
    for _ in range(n_epochs):
        net.partial_fit(X, y, **fit_params)


def holds_all_in_checkpoint(state: Any) -> bool:
    """Whether training continues from a checkpoint exactly as without it."""
    if not hasattr(state, "save_checkpoint"):
        return False
    # skorch callbacks have states of their own, which checkpoints do not hold.
    return not getattr(state, "callbacks", None) or state.callbacks == "disable"
