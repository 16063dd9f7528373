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
        self._start = time.monotonic()

    def is_short(self, n_observed: int, seconds: float) -> bool:
        """Whether a larger share of the time is used than of the candidates.

        Parameters
        ----------
        n_observed : int
            Candidates so far.
        seconds : float
            Of their fits.
        """
        used = 0.0
        if self.elapsed is not None:
            used = (time.monotonic() - self._start) / self.elapsed
        if self.worked is not None:
            used = max(used, seconds / self.worked)
        return used * self.n_candidates > n_observed
