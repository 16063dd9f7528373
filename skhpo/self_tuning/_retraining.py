"""The refit: a new plain network, trained with the tuned hyperparameters."""

from __future__ import annotations

import copy

import torch

from ..estimators.callbacks import NetWatcher
from ..estimators.feeding import batches_of
from ..estimators.fitting import end_of_fit
from ..estimators.held_out import checks_of
from ..training.data import as_dict
from ..training.engine import ActiveNetwork, train
from ..training.schedule import EpochValues

__all__ = ["retrain"]


def retrain(net, train_part, checks):
    """Train a new plain network with the tuned schedule, and use it for predictions.

    It has the same initial weights, rows and checks. ``refit="schedule"`` uses the values of each
    epoch, "final" the last ones. The trained `net` gets `refit_history_`.
    """
    rows = net.history[:, "hyperparameters"]
    n_epochs = len(rows)
    if net.refit == "final":
        rows = rows[-1:] * n_epochs
    values = EpochValues({name: [row[name] for row in rows] for name in rows[0]})
    net.tuning_.best_weights = net._state.copy_weights()
    twin = copy.copy(net)
    twin.random_state, twin.history_, twin.callbacks = net.seed_, None, None
    X, _, _ = train_part.take(torch.arange(min(8, len(train_part))))
    few = {name: value.cpu() for name, value in as_dict(X).items()}
    twin._few_inputs = few.get(None, few)
    twin.initialize()
    twin._few_inputs = None
    twin.tuning_.follow(twin, values)
    # Patience must not stop the refit earlier than the tuning.
    measure = checks.measure
    twin_checks = checks_of(twin, measure.valid, measure.y, min_epochs=n_epochs)
    batches = batches_of(twin, train_part, training=True)
    network = ActiveNetwork(
        *(twin._state, batches, n_epochs),
        NetWatcher(twin, {"dataset_train": train_part, "dataset_valid": None}),
        twin_checks,
        parameters=list(twin.get_all_learnable_params()),
        at_end=end_of_fit(twin, train_part, batches, twin_checks),
    )
    train([network], twin._make_runner(batches, None))
    net.module_ = twin.module_
    net.criterion_ = twin.criterion_
    net.refit_history_ = twin.history
