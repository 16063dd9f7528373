"""Seeds of fits, derived and never drawn, so that they depend on no order of execution."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np

__all__ = ["derive_seed", "seed_components"]


def derive_seed(seed: int, *key: int | str) -> int:
    """Return a seed for the fit that `key` names.

    Parameters
    ----------
    seed : int
        Seed of the search.
    *key : int or str
        What is fitted: a purpose, then numbers such as candidate and split.

    Returns
    -------
    int
        In [0, 2**31), which is what every scikit-learn estimator accepts.
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    sequence = np.random.SeedSequence(seed, spawn_key=words)
    return int(sequence.generate_state(1)[0] >> 1)


def seed_components(estimator: Any, seed_for: Callable[[str, Any], int]) -> None:
    """Set every ``random_state`` parameter that is None or an integer, nested ones too.

    Parameters
    ----------
    estimator : estimator
        Changed in place.
    seed_for : callable
        From a parameter's name (``"net__random_state"``) and value to its seed.
    """
    params = estimator.get_params(deep=True)
    names = (name for name in params if name.rpartition("__")[2] == "random_state")
    seeds = {
        name: seed_for(name, params[name])
        for name in names
        if params[name] is None or isinstance(params[name], Integral)
    }
    if seeds:
        estimator.set_params(**seeds)
