"""Integers on a logarithmic scale."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

__all__ = ["log_randint"]


@dataclass(frozen=True, slots=True)
class log_randint:
    """Frozen log-uniform distribution over the integers low, ..., high - 1.

    An integer k has the probability of [k, k + 1) under the continuous log-uniform distribution on
    [low, high), so that 1 to 9 is as likely as 10 to 99.

    Parameters
    ----------
    low : int
        Smallest integer, at least 1.
    high : int
        One more than the largest integer, as in `scipy.stats.randint`.

    Raises
    ------
    TypeError
        If a bound is not an integer.
    ValueError
        If ``1 <= low < high`` does not hold.

    See Also
    --------
    scipy.stats.loguniform : The same for real numbers.
    scipy.stats.randint : Integers that are equally likely.

    Examples
    --------
    >>> from skhpo import log_randint
    >>> units = log_randint(1, 1000)
    >>> units.rvs(size=5, random_state=0)
    array([ 44, 139,  64,  43,  18])
    >>> units.cdf([9, 99]).round(6)
    array([0.333333, 0.666667])
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            bound = getattr(self, name)
            if not isinstance(bound, numbers.Integral):
                raise TypeError(
                    f"the bounds of log_randint must be integers, but got {name}={bound!r}"
                )
            object.__setattr__(self, name, int(bound))
        if not 1 <= self.low < self.high:
            raise ValueError(
                f"1 <= low < high must hold, but got (low={self.low}, high={self.high}); "
                "high itself is not drawn"
            )

    def support(self) -> tuple[int, int]:
        """Return the smallest and the largest integer.

        Returns
        -------
        low, high : int
            Both included.
        """
        return self.low, self.high - 1

    def pmf(self, k: ArrayLike) -> Any:
        """Return the probability of each of `k`.

        Parameters
        ----------
        k : array-like
            Integers.

        Returns
        -------
        probability : ndarray or float
            For each of `k`; 0 outside of the support.
        """
        x = np.asarray(k, dtype=float)
        inside = (x >= self.low) & (x < self.high) & (x == np.floor(x))
        return (np.log1p(1 / np.where(inside, x, np.inf)) / self._log_ratio)[()]

    def cdf(self, k: ArrayLike) -> Any:
        """Return the probability of an integer up to `k`.

        Parameters
        ----------
        k : array-like
            Integers.

        Returns
        -------
        probability : ndarray or float
            For each of `k`.
        """
        x = np.clip(np.floor(np.asarray(k, dtype=float)), self.low - 1, self.high - 1)
        return (np.log((x + 1) / self.low) / self._log_ratio)[()]

    def ppf(self, q: ArrayLike) -> Any:
        """Return the smallest integer whose cdf is at least `q`; ``low - 1`` at 0, as in scipy.

        Parameters
        ----------
        q : array-like
            Probabilities, from 0 to 1.

        Returns
        -------
        k : ndarray or float
            For each of `q`.
        """
        q = np.asarray(q, dtype=float)
        x = np.ceil(self.low * np.exp(np.where((q < 0) | (q > 1), np.nan, q) * self._log_ratio)) - 1
        x = np.clip(x, self.low - 1, self.high - 1)
        x = np.where(self.cdf(x) < q, np.minimum(x + 1, self.high - 1), x)
        return np.where(self.cdf(x - 1) >= q, np.maximum(x - 1, self.low - 1), x)[()]

    def rvs(
        self,
        size: int | tuple[int, ...] | None = None,
        random_state: int | np.random.RandomState | np.random.Generator | None = None,
    ) -> Any:
        """Draw integers: an int where `size` is None, else an array.

        Parameters
        ----------
        size : int, tuple of int or None, default=None
            Shape of the result.
        random_state : int, RandomState, Generator or None, default=None
            The seed, or a generator; None is that of numpy.

        Returns
        -------
        k : int or ndarray of int
            Drawn independently.
        """
        generator = (
            random_state
            if isinstance(random_state, np.random.Generator)
            else check_random_state(random_state)
        )
        k = np.maximum(self.ppf(generator.uniform(size=size)), self.low)
        return int(k) if size is None else k.astype(np.int64)

    @property
    def _log_ratio(self) -> float:
        return math.log(self.high / self.low)
