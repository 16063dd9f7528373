"""A clock that runs out without waiting."""

import time
from contextlib import contextmanager
from unittest import mock


class Clock:
    """Counts the fits of a search, as a callback of it."""

    def __init__(self, n_fits):
        self.n_fits = n_fits

    def on_fit_end(self, search, trial, result):
        self.n_fits -= 1


@contextmanager
def clock_ahead_after(n_fits):
    """Give a callback after whose `n_fits`-th fit the clock is days ahead."""
    clock, real = Clock(n_fits), time.monotonic

    def monotonic():
        return real() + (1e6 if clock.n_fits <= 0 else 0)

    with mock.patch.object(time, "monotonic", monotonic):
        yield clock
