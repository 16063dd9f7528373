"""When stacking pays, and how many nets a stack should have."""

from __future__ import annotations

__all__ = ["pays"]

_NETS = 20


def pays(net, n_members):
    """Return how many nets like this one to train as one; 1 where a stack would not be faster.

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
    return min(_NETS, n_members)
