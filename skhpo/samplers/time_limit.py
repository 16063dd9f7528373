"""Whether time is likely to be over before all candidates of a search are tried."""

from __future__ import annotations

import time

__all__ = ["TimeLimit"]


class TimeLimit:
    """What a search of full fits may take, from now on.

    Parameters
    ----------
    n_candidates : int
        How many the search would try.
    elapsed : float or None, default=None
        Seconds until it ends; None for no limit.
    worked : float or None, default=None
        Seconds of fits, those of all workers together; None for no limit.
    """

    def __init__(
        self, n_candidates: int, elapsed: float | None = None, worked: float | None = None
    ) -> None:
        self.n_candidates = n_candidates
        self.elapsed = elapsed
        self.worked = worked
        self._n_replayed = 0
        self._start = self._begun = time.monotonic()

    def begin(self, n_replayed: int) -> None:
        """Note how many candidates were tried before, so that they take no time.

        Parameters
        ----------
        n_replayed : int
            Candidates with which a journal begins. Their fits count as `worked`.
        """
        self._n_replayed = n_replayed

    def is_short(self, n_observed: int, seconds: float) -> bool:
        """Whether a larger share of the time is used than of the candidates.

        Parameters
        ----------
        n_observed : int
            Candidates so far, replayed ones included.
        seconds : float
            Of their fits.
        """
        if self.worked is not None and seconds * self.n_candidates > n_observed * self.worked:
            return True
        if self.elapsed is None:
            return False
        n_new = n_observed - self._n_replayed
        now = time.monotonic()
        if n_new <= 0:  # nothing is known yet of how long a candidate takes now
            self._begun = now
            return False
        left = self.elapsed - (self._begun - self._start)
        return (now - self._begun) * (self.n_candidates - self._n_replayed) > n_new * left
