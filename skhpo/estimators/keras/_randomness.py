"""Random numbers of a Keras fit.

Keras draws from the global generators of Python, NumPy and torch, and from one of its own. While
a model is built or trained they have the states of the fit; afterwards they are restored.
"""

from __future__ import annotations

import contextlib
import random

import numpy as np
import torch

from ...training.randomness import LentGenerators, Stream, stream_seed
from ._backend import lend_seed_generator

__all__ = ["OwnGlobals"]


class OwnGlobals:
    """States of the global generators during a fit; `name` is "init" or "train".

    Fits in several threads of one process wait for each other.
    """

    def __init__(self, seed, name):
        self._torch = Stream(seed, name)
        self._python = random.Random(stream_seed(seed, name)).getstate()
        self._numpy = np.random.RandomState(stream_seed(seed, name) % 2**32).get_state()
        self._keras = None

    @contextlib.contextmanager
    def lent(self):
        """Set the global generators within this context; keep the states they then have."""
        devices = [torch.device("cpu")]
        if torch.cuda.is_available():
            devices.append(torch.device("cuda", torch.cuda.current_device()))
        if torch.backends.mps.is_available():  # where Keras then computes
            devices.append(torch.device("mps"))
        with LentGenerators(self._torch, *devices), lend_seed_generator(self._keras) as keras_now:
            python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
            random.setstate(self._python)
            np.random.set_state(self._numpy)  # noqa: NPY002
            try:
                yield
            finally:
                self._python, self._numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
                self._keras = keras_now()
                random.setstate(python)
                np.random.set_state(legacy)  # noqa: NPY002

    def state(self):
        """Return the state as tensors, numbers and strings."""
        name, words, *rest = self._numpy
        return {
            "torch": self._torch.state(),
            "python": [list(part) if isinstance(part, tuple) else part for part in self._python],
            "numpy": [name, words.tolist(), *rest],
            "keras": self._keras,
        }

    def set_state(self, state):
        """Restore the result of `state`."""
        self._torch.set_state(state["torch"])
        version, words, rest = state["python"]
        self._python = (version, tuple(words), rest)
        name, words, *rest = state["numpy"]
        self._numpy = (name, np.array(words, dtype=np.uint32), *rest)
        self._keras = state["keras"]
        return self
