"""The refit of a candidate on all data."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from ..rows import as_given
from ..wrappers import inside, prepare
from ._continuation import advance, way_to_continue

if TYPE_CHECKING:
    from ._tasks import Setting

__all__ = ["refit"]


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
    X = as_given(X)
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
