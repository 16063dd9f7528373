"""The refit of candidates on all data."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from ..rows import Inputs, as_given
from ..wrappers import arguments_inside, inside, prepare
from ._continuation import advance, way_to_continue

if TYPE_CHECKING:
    from ._tasks import Setting

__all__ = ["refit", "refit_together"]


def refit(
    estimator: Any,
    setting: Setting,
    X: Any,
    y: Any,
    training: Callable[..., AbstractContextManager[Any]] = lambda estimator, depth=0: nullcontext(),
) -> None:
    """Fit a configured estimator on all data, as long as its resource says.

    This is its ``fit``, but for estimators that the search trained epoch by epoch: their ``fit``
    would stop by a rule of its own, earlier than what was scored. `training` is entered around
    either, as in `evaluation`.
    """
    X, y = as_given(X), as_given(y)
    found = inside(estimator, setting.resource)
    if way_to_continue(found.estimator, found.resource, y) != "partial_fit_per_epoch":
        args = (X,) if y is None else (X, y)
        with training(estimator):
            estimator.fit(*args, **setting.fit_params)
        return
    prepared = prepare(estimator, X, y, setting.fit_params, setting.resource)
    last = found.fresh
    seed, level = last.random_state, last.get_params()[found.resource]
    data = prepared.X, prepared.y, prepared.fit_params
    with training(last, len(found.names)):
        advance(last, None, found.resource, *data, done=0, target=level)
    last.set_params(random_state=seed)
    vars(estimator).update(vars(prepared.assembled(estimator, last)))


def refit_together(
    estimators: Sequence[Any], setting: Setting, X: Any, y: Any, lockstep: bool | str = "auto"
) -> None:
    """Fit configured estimators on all data, networks that share a graph in lockstep.

    Parameters
    ----------
    estimators : list of estimator
        Each one of its own; fitted in place, as by `refit`.
    setting : Setting
    X, y : array-like
    lockstep : bool or "auto", default="auto"
        False fits one after another.
    """
    several = lockstep is not False and len(estimators) > 1
    together = _in_lockstep(estimators, X, y, setting.fit_params) if several else set()
    for number, estimator in enumerate(estimators):
        if number not in together:
            refit(estimator, setting, X, y)
    _fit_in_lockstep([estimators[i] for i in sorted(together)], X, y, setting.fit_params)


def _fit_in_lockstep(
    estimators: Sequence[Any], X: Any, y: Any, fit_params: Mapping[str, Any]
) -> None:
    """Fit networks, also inside of wrappers, on the same data in lockstep, in place."""
    if not estimators:
        return
    from ..lockstep import Member, train_together

    X, y = as_given(X), as_given(y)
    fits = [(one, inside(one).fresh, prepare(one, X, y, fit_params)) for one in estimators]
    members = [Member(net, p.X, p.y, dict(p.fit_params), False) for _, net, p in fits]
    for error in train_together(members):
        if error is not None:
            raise error
    for whole, net, prepared in fits:
        vars(whole).update(vars(prepared.assembled(whole, net)))


def _in_lockstep(
    estimators: Sequence[Any], X: Any, y: Any, fit_params: Mapping[str, Any]
) -> set[int]:
    """Return the numbers of the networks for which lockstep pays."""
    torch_estimators = sys.modules.get("skhpo.estimators")
    if torch_estimators is None:  # nothing has imported it, so there is no network
        return set()
    from ..lockstep import built_for, group_key, obstacle, pays

    kinds = torch_estimators.TorchClassifier, torch_estimators.TorchRegressor
    groups: dict[Any, list[int]] = {}
    for number, estimator in enumerate(estimators):
        found = inside(estimator)
        if isinstance(found.estimator, kinds) and not (
            isinstance(X, Mapping | Inputs) and not found.transforms_X
        ):
            arguments = arguments_inside(estimator, fit_params)
            if obstacle(found.estimator, arguments) is None:
                groups.setdefault(group_key(found.estimator), []).append(number)
    together: set[int] = set()
    for numbers in groups.values():
        net = inside(estimators[numbers[0]]).estimator
        built = built_for(net, X, y)
        if pays(net if built is None else built, len(numbers)) > 1:
            together.update(numbers)
    return together
