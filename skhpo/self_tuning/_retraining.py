"""A plain network trained anew under the hyperparameters found."""

from __future__ import annotations

import copy

import torch

from ..estimators._extras import Extras
from ..estimators._selection import checks_of
from ..estimators._training import check_loss
from ..training.checks import copy_weights, set_weights
from ..training.data import as_dict
from ._epochs import epochs_of

__all__ = ["retrain"]


def retrain(net, train, checks):
    """Have a fresh plain network predict, trained for as many epochs under the schedule found.

    It starts from the same weights, sees the same rows, and its best epoch is chosen by the same
    checks. ``refit="schedule"`` follows the values epoch by epoch, "final" takes the last ones.

    Parameters
    ----------
    net : estimator
        Trained; gets `refit_history_`.
    train : Rows
    checks : Checks
        On the rows held out.
    """
    rows = net.history[:, "hyperparameters"]
    if net.refit == "final":
        rows = rows[-1:] * len(rows)
    net.tuning_.best_weights = copy_weights(net)
    twin = copy.copy(net)
    twin.random_state, twin.history_, twin.callbacks = net.seed_, None, None
    X, _, _ = train.take(torch.arange(min(8, len(train))))
    few = {name: value.cpu() for name, value in as_dict(X).items()}
    twin._few_inputs = few.get(None, few)
    twin.initialize()
    twin._few_inputs = None
    twin.tuning_.to_follow = rows
    twin_checks = checks_of(twin, checks.valid, checks.y)
    extras = Extras(twin, twin_checks)
    run_epoch = epochs_of(twin, twin._batches(train, training=True), twin_checks, extras)
    for _ in rows:
        extras.begin_epoch()
        run_epoch()
        twin.n_iter_ += 1
        check_loss(twin)
        extras.after_epoch()
    if twin_checks.best_weights is not None:
        set_weights(twin, twin_checks.best_weights)
    net.module_ = twin.module_
    net.criterion_ = twin.criterion_
    net.refit_history_ = twin.history
