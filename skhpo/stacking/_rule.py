"""When stacking pays, and how many nets a stack should have."""

from __future__ import annotations

from ._members import obstacle

__all__ = ["pays", "stack_size"]

_MOST = 60


def pays(net, n_members):
    """Return how many nets like this one to hand to `train_together` at once.

    Parameters
    ----------
    net : TorchClassifier or TorchRegressor
        With its parameters set; fitted or not.
    n_members : int
        Nets that there are to train.

    Returns
    -------
    size : int
    """
    return 1 if obstacle(net) is not None else min(_MOST, n_members)


def stack_size(net, batch_size, always=False):
    """Return how many built nets to train as one.

    Parameters
    ----------
    net : estimator
    batch_size : int
    always : bool, default=False
        Whether to stack also where that makes nothing faster.

    Returns
    -------
    size : int
        1 where a stack would not be faster.
    """
    return 20
