"""Distributions: of this package, and those of scikit-optimize and Optuna as such."""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.utils import check_random_state

from ._axes import Levels, plain

__all__ = ["known", "log_randint", "ordered"]

# Most steps of a range that is listed.
_MAX_STEPS = 2**16
# Of integers that distributions of scipy can have.
_MAX_INTEGER = 2**63 - 1


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


class ordered(list[Any]):
    """Numbers whose order counts: neighbours are alike for the samplers of this package.

    A plain list is choices, of which each differs from each other as much, because a number may
    be a name (a class, a seed, a variant). Neighbours here are equally far from each other,
    whatever their difference: ``ordered([16, 32, 64])`` is a logarithmic scale. Other packages see
    a list.

    Parameters
    ----------
    numbers : iterable of int or float
        Increasing, for example ``[16, 32, 64]``, ``range(0, 101, 5)``, the steps of a range
        (``numpy.linspace(0, 1, 11)``) or of a logarithmic one (``numpy.geomspace(1e-4, 1, 9)``).

    Raises
    ------
    TypeError
        If a value is no number.
    ValueError
        If there is none, they do not increase, or a range has more than 65,536.

    See Also
    --------
    log_randint : Integers on a logarithmic scale.
    SearchSpace : What is searched, as a unit cube.

    Examples
    --------
    >>> from skhpo import SearchSpace, ordered
    >>> space = SearchSpace({"n_units": ordered([16, 32, 64])})
    >>> [space.to_unit({"n_units": n}).round(2).item() for n in (16, 32, 64)]
    [0.17, 0.5, 0.83]
    """

    def __init__(self, numbers: Iterable[Any]) -> None:
        if isinstance(numbers, range) and _is_long(numbers):
            raise _too_many(f"ordered({numbers!r})", _size(numbers), f"use {_as_integers(numbers)}")
        super().__init__(map(plain, numbers))
        for number in self:
            if isinstance(number, bool) or not isinstance(number, Real):
                raise TypeError(
                    f"ordered takes numbers, but there is {number!r}; leave None, text and other "
                    "choices in a plain list"
                )
        if not self:
            raise ValueError("ordered needs at least one number, but there is none")
        if not all(map(math.isfinite, self)):
            raise ValueError(f"the numbers of ordered must be finite, but got {list(self)!r}")
        for before, after in itertools.pairwise(self):
            if not before < after:
                raise ValueError(
                    f"the numbers of ordered must increase, but {after!r} comes after {before!r}; "
                    "sort them, and list each once"
                )

    def __repr__(self) -> str:
        return f"ordered({super().__repr__()})"


def known(name: Any, values: Any) -> Any:
    """Return a distribution of another package as one of this one; anything else unchanged.

    scikit-optimize's ``Real``, ``Integer`` and ``Categorical``, and Optuna's ``FloatDistribution``,
    ``IntDistribution`` and ``CategoricalDistribution`` are recognised by their attributes. Bounds
    are inclusive. Transformations are ignored, as they belong to a model. A Python range with more
    values than can be choices is a distribution of integers. ValueError is raised if a range has
    too many steps to be listed, or a logarithmic range starts below 1.
    """
    if isinstance(values, ordered) and len(values) > 1:
        return Levels(tuple(values), (1.0,) * len(values), "integer")
    if isinstance(values, range) and _is_long(values):
        return _long_range(name, values)
    if isinstance(values, Sequence | np.ndarray | Levels):
        if isinstance(values, tuple):
            _check_is_no_range(name, values)
        return values
    if _has(values, "low", "high", "log", "step"):
        whole = all(isinstance(v, numbers.Integral) for v in (values.low, values.high, values.step))
        return _range(name, values, whole=whole, log=bool(values.log), step=values.step)
    if _has(values, "low", "high", "prior", "dtype"):
        whole = np.issubdtype(np.dtype(values.dtype), np.integer)
        return _range(name, values, whole=whole, log=values.prior == "log-uniform")
    if _has(values, "categories", "prior", "rvs"):
        return _weighted(name, values.categories, values.prior)
    if _has(values, "choices", "to_external_repr"):
        return list(values.choices)
    return values


def _check_is_no_range(name: Any, values: tuple[Any, ...]) -> None:
    """Raise ValueError for (low, high, prior), a range of scikit-optimize."""
    if len(values) != 3 or not isinstance(values[2], str):
        return
    low, high = map(plain, values[:2])
    are_bounds = all(isinstance(v, Real) and not isinstance(v, bool) for v in (low, high))
    if not are_bounds or not low < high or values[2] not in ("uniform", "log-uniform"):
        return
    log = values[2] == "log-uniform"
    if isinstance(low, int) and isinstance(high, int):
        meant = f"{'skhpo.log_randint' if log else 'scipy.stats.randint'}({low}, {high + 1})"
    elif log:
        meant = f"scipy.stats.loguniform({low!r}, {high!r})"
    else:
        meant = f"scipy.stats.uniform({low!r}, {high - low!r})"
    raise ValueError(
        f"a tuple is three choices here, not a range, but got {name}={values!r}; use {meant}, or a "
        "list if these are the choices"
    )


def _size(values: range) -> int:
    # `len` raises OverflowError for more than fit into 64 bits.
    return (values[-1] - values[0]) // values.step + 1 if values else 0


def _is_long(values: range) -> bool:
    return _size(values) > _MAX_STEPS


def _as_integers(values: range) -> str:
    low, high = sorted((values[0], values[-1]))
    return f"scipy.stats.randint({low}, {high + 1})"


def _long_range(name: Any, values: range) -> Any:
    """Return the integers of a range that is too long for choices, without listing them."""
    low, high = sorted((values[0], values[-1]))
    if abs(values.step) > 1:
        fix = f"use a larger step, or {_as_integers(values)} for all integers"
        raise _too_many(f"{name}={values!r}", _size(values), fix)
    if max(-low, high) > _MAX_INTEGER:
        raise ValueError(
            f"integers must fit into 64 bits, but got {name}={values!r}; search the exponent, or "
            "use scipy.stats.loguniform and convert the numbers in the estimator"
        )
    return stats.randint(low, high + 1)


def _too_many(what: str, n_steps: int, fix: str) -> ValueError:
    return ValueError(f"at most {_MAX_STEPS} steps can be listed, but {what} has {n_steps}; {fix}")


def _has(values: Any, *attributes: str) -> bool:
    return all(hasattr(values, attribute) for attribute in attributes)


def _range(name: Any, values: Any, *, whole: bool, log: bool, step: Any = None) -> Any:
    """Convert a range from `low` to `high`, both included."""
    low, high = values.low, values.high
    if low == high:
        return [int(low) if whole else float(low)]
    if whole and step in (None, 1):
        if not log:
            return stats.randint(int(low), int(high) + 1)
        if low < 1:
            raise ValueError(
                f"integers on a logarithmic scale must start at 1 or above, but got {name}="
                f"{values!r}"
            )
        return log_randint(int(low), int(high) + 1)
    if step is not None:
        return _steps(name, values, whole, step)
    if log:
        return stats.loguniform(float(low), float(high))
    return stats.uniform(float(low), float(high) - float(low))


def _steps(name: Any, values: Any, whole: bool, step: Any) -> Levels:
    # In decimals, so that 0.1 + 2 * 0.1 is 0.3.
    low, high, width = (Decimal(str(number)) for number in (values.low, values.high, step))
    if not width > 0:
        raise ValueError(
            f"step > 0 must hold, but got {name}={values!r}; leave step out for all numbers"
        )
    n_steps = math.floor((high - low) / width) + 1
    if n_steps > _MAX_STEPS:
        raise _too_many(f"{name}={values!r}", n_steps, "use a larger step, or none")
    kind = int if whole else float
    levels = tuple(kind(low + i * width) for i in range(n_steps))
    return Levels(levels, (1.0,) * n_steps, "integer")


def _weighted(
    name: Any, categories: Sequence[Any], prior: Sequence[float] | None
) -> Levels | list[Any]:
    if prior is None:
        return list(categories)
    if len(prior) != len(categories):
        raise ValueError(
            f"a prior must have a weight for each category, but that of {name!r} has {len(prior)} "
            f"for {len(categories)}: {list(prior)!r}"
        )
    weights = tuple(map(float, prior))
    if not all(0 < weight < math.inf for weight in weights):
        raise ValueError(
            f"the weights of a prior must be positive, but those of {name!r} are {list(prior)!r}; "
            "leave out a category that is not to be drawn"
        )
    return Levels(tuple(categories), weights, "choice")
