"""Parameters of a search space as maps between values and the unit interval."""

from __future__ import annotations

import math
import numbers
import sys
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# Equal to Python's own values that they hold.
_NUMPY_SCALARS = (np.bool_, np.number, np.str_, np.bytes_)

# Widest discrete distribution that is tabulated: exact round trips, and no call to scipy for each
# draw. Wider ones use their cdf and ppf.
_MAX_TABLE = 2**16

# Largest probability beyond the table of an unbounded discrete distribution.
_MAX_TAIL = 0.01

# Replaces the ends of the unit interval where a distribution is infinite there.
_EDGE = 2.0**-53

Kind = Literal["choice", "integer", "continuous"]


def plain(value: Any) -> Any:
    """Convert NumPy scalars to Python's types; return anything else unchanged."""
    return value.item() if isinstance(value, _NUMPY_SCALARS) else value


class _ById:
    """Compares by the identity of the wrapped object; survives pickling."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def identity(value: Any, *, open_estimators: bool = False) -> Hashable:
    """Hashable identity of a value: ``1``, ``1.0`` and ``True`` differ, two nans do not.

    Estimators are compared by identity (a fitted one is more than its parameters), or with
    `open_estimators` by their parameters, so that a clone equals its original.
    """

    def inner(item: Any) -> Hashable:
        return identity(item, open_estimators=open_estimators)

    kind = f"{type(value).__module__}.{type(value).__qualname__}"  # not all types can be pickled
    if isinstance(value, float) and math.isnan(value):
        return (kind, "nan")
    if isinstance(value, np.ndarray):
        return (kind, value.dtype.str, value.shape, inner(value.tolist()))
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        # Tensors hash by identity, and their comparison returns no bool.
        return (kind, str(value.dtype), tuple(value.shape), inner(value.tolist()))
    if isinstance(value, list | tuple):
        return (kind, tuple(map(inner, value)))
    if isinstance(value, dict):
        return (kind, frozenset((inner(key), inner(item)) for key, item in value.items()))
    if open_estimators and hasattr(value, "get_params") and not isinstance(value, type):
        return (kind, inner(value.get_params(deep=False)))
    try:
        hash(value)
    except TypeError:
        return _ById(value)
    return (kind, value)


@dataclass(frozen=True, slots=True)
class Levels:
    """Values with weights.

    Parameters
    ----------
    values : tuple
    weights : tuple of float
        Positive.
    kind : {"choice", "integer"}
        Whether the values have an order.
    """

    values: tuple[Any, ...]
    weights: tuple[float, ...]
    kind: Literal["choice", "integer"]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)


class Axis(ABC):
    """A map between the values of a parameter and the unit interval."""

    kind: Kind
    n_levels: int | None
    ends: list[float] | None = None  # upper ends of the cells of levels, if there are cells

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def value(self, u: float) -> Any:
        """The value at `u` in [0, 1]."""

    @abstractmethod
    def values(self, u: NDArray[np.float64]) -> list[Any]:
        """The values at many positions in [0, 1]."""

    @abstractmethod
    def key(self, value: Any) -> Hashable:
        """Identity of a value; ValueError if it is not on this axis."""

    @abstractmethod
    def unit(self, value: Any) -> float:
        """The position of a value in [0, 1], the centre of its cell if values have cells."""

    @abstractmethod
    def snap(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """``unit(value(u))`` of each position in [0, 1]."""

    @abstractmethod
    def probability(self, value: Any) -> float:
        """Probability of drawing exactly this value."""

    @abstractmethod
    def level(self, index: int) -> Any:
        """The value number `index`; TypeError if values have no numbers."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float] | None:
        """Smallest and largest number; None if the values have no order."""


class LevelAxis(Axis):
    """Finitely many values (`levels`), each with a cell as wide as its probability.

    `edges` are the upper ends of the cells, increasing.
    """

    def __init__(self, name: str, kind: Kind, levels: Sequence[Any], edges: list[float]) -> None:
        super().__init__(name)
        self.kind = kind
        self.n_levels: int = len(levels)
        self._levels = levels
        self.ends = self._edges = edges
        uppers = np.array(edges)
        self._uppers = uppers
        self._centres = (np.concatenate([[0.0], uppers[:-1]]) + uppers) / 2
        self._positions = {identity(level): i for i, level in enumerate(levels)}

    def value(self, u: float) -> Any:
        return self._levels[min(bisect_right(self._edges, u), self.n_levels - 1)]

    def values(self, u: NDArray[np.float64]) -> list[Any]:
        cells = np.minimum(np.searchsorted(self._uppers, u, side="right"), self.n_levels - 1)
        return [self._levels[cell] for cell in cells.tolist()]

    def key(self, value: Any) -> int:
        for form in _equal_forms(plain(value)):
            position = self._positions.get(identity(form))
            if position is not None:
                return position
        wanted = identity(value, open_estimators=True)
        for position, level in enumerate(self._levels):
            if identity(level, open_estimators=True) == wanted:
                return position
        shown = ", ".join(map(repr, self._levels[:10])) + (", ..." if self.n_levels > 10 else "")
        raise ValueError(f"{self.name}={value!r} is not in the space; its values are: {shown}")

    def unit(self, value: Any) -> float:
        low, high = self._cell(self.key(value))
        return (low + high) / 2

    def snap(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        cells = np.searchsorted(self._uppers, u, side="right")
        return np.asarray(self._centres[np.minimum(cells, self.n_levels - 1)])

    def probability(self, value: Any) -> float:
        low, high = self._cell(self.key(value))
        return high - low

    def level(self, index: int) -> Any:
        return self._levels[index]

    @property
    def bounds(self) -> tuple[float, float] | None:
        return None if self.kind == "choice" else (self._levels[0], self._levels[-1])

    def _cell(self, position: int) -> tuple[float, float]:
        return self._edges[position - 1] if position else 0.0, self._edges[position]


class _DistributionAxis(Axis):
    cast: ClassVar[type]
    largest: ClassVar[float]  # representable number

    def __init__(self, name: str, distribution: Any) -> None:
        super().__init__(name)
        self._distribution = distribution
        self._low, self._high = map(float, distribution.support())

    @property
    def bounds(self) -> tuple[float, float]:
        return self._low, self._high

    def value(self, u: float) -> Any:
        return self.values(np.array([u]))[0]

    def values(self, u: NDArray[np.float64]) -> list[Any]:
        return [self.cast(x) for x in self._inside(u).tolist()]

    def _inside(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        x = _ppfs(self._distribution, u)
        if not np.isfinite(x).all():
            within = _ppfs(self._distribution, np.clip(u, _EDGE, 1 - _EDGE))
            x = np.where(np.isfinite(x), x, within)
        # ppf may leave the support: by rounding, because scipy's ppf(0) of a discrete distribution
        # is one below its lowest value, and for heavy tails.
        x = np.clip(x, self._low, self._high)
        return np.asarray(np.clip(x, -self.largest, self.largest), dtype=float)

    def key(self, value: Any) -> Hashable:
        if isinstance(value, numbers.Real | np.number) and not isinstance(value, bool):
            number = float(value)
            if self._low <= number <= self._high and math.isfinite(number):
                result: Hashable = self.cast(value)
                if result == value:
                    return result
        raise ValueError(
            f"{self.name}={value!r} is not in the space; it takes "
            f"{'integers' if self.cast is int else 'numbers'} "
            f"from {self._low:g} to {self._high:g}"
        )


class IntegerAxis(_DistributionAxis):
    """The integers of a discrete distribution that is infinite or too wide for a table."""

    kind: Kind = "integer"
    cast = int
    largest = 2.0**63 - 2**10  # of floats that fit into 64-bit integers

    def __init__(self, name: str, distribution: Any) -> None:
        super().__init__(name, distribution)
        finite = math.isfinite(self._low) and math.isfinite(self._high)
        self.n_levels = int(self._high) - int(self._low) + 1 if finite else None

    def unit(self, value: Any) -> float:
        k = self.key(value)
        low, high = self._distribution.cdf(np.array([k, k], dtype=float) - [1.0, 0.0])
        return float(low + high) / 2

    def snap(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        k = self._inside(u)
        low, high = self._distribution.cdf(k - 1.0), self._distribution.cdf(k)
        return np.asarray((low + high) / 2, dtype=float)

    def probability(self, value: Any) -> float:
        return float(self._distribution.pmf(self.key(value)))

    def level(self, index: int) -> int:
        return int(self._low) + index


class ContinuousAxis(_DistributionAxis):
    """The numbers of a continuous distribution."""

    kind: Kind = "continuous"
    n_levels = None
    cast = float
    largest = float(np.finfo(float).max)

    def unit(self, value: Any) -> float:
        return float(self._distribution.cdf(self.key(value)))

    def snap(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        return u

    def probability(self, value: Any) -> float:
        self.key(value)
        return 0.0

    def level(self, index: int) -> float:
        raise TypeError(f"the values of {self.name!r} are continuous and have no number")


def make_axis(name: str, values: Any) -> Axis:
    """Make the axis of a list of choices or of a frozen distribution.

    Raises TypeError for anything else, and ValueError if there is no value or the distribution is
    invalid.
    """
    if isinstance(values, np.ndarray | Sequence) and not isinstance(values, str | bytes):
        if isinstance(values, np.ndarray) and values.ndim != 1:
            raise ValueError(
                f"choices must be one-dimensional, but the array of {name!r} has shape "
                f"{values.shape}; a list of arrays makes each array a choice"
            )
        if len(values) == 0:
            raise ValueError(
                f"every parameter needs at least one value, but got {name}={values!r}; add a value "
                "or leave the parameter out"
            )
        return _choices(name, values, [1.0] * len(values))
    if isinstance(values, Levels) and values.kind == "choice":
        return _choices(name, values.values, values.weights)
    if isinstance(values, Levels):
        edges = np.cumsum(values.weights) / sum(values.weights)
        return LevelAxis(name, values.kind, values.values, edges.tolist())
    if isinstance(values, stats.rv_continuous | stats.rv_discrete):
        raise TypeError(
            f"distributions must be frozen, but {name!r} got the unfrozen {values.name!r}; call it "
            f"with its arguments, as in scipy.stats.loguniform(1e-4, 1)"
        )
    if not all(hasattr(values, method) for method in ("cdf", "support")) or not (
        hasattr(values, "ppf") or hasattr(values, "icdf")
    ):
        raise TypeError(
            "every parameter needs a list of choices or a frozen univariate scipy.stats "
            f"distribution, but got {name}={values!r}; a fixed value is a list of one, [value]"
        )
    return _distribution(name, values)


def _choices(
    name: str, values: Sequence[Any] | np.ndarray[Any, Any], weights: Sequence[float]
) -> LevelAxis:
    # A choice listed twice is one level with twice the weight.
    first: dict[Hashable, Any] = {}
    totals: dict[Hashable, float] = {}
    for value, weight in zip(map(plain, values), weights, strict=True):
        key = identity(value)
        first.setdefault(key, value)
        totals[key] = totals.get(key, 0) + weight
    edges = np.cumsum(list(totals.values())) / sum(totals.values())
    return LevelAxis(name, "choice", tuple(first.values()), edges.tolist())


def _distribution(name: str, distribution: Any) -> Axis:
    try:
        low, high = distribution.support()
    except Exception as error:  # of scipy for integers of more than 64 bits
        raise ValueError(
            f"a distribution must know its smallest and largest value, but that of {name!r} raised "
            f"{type(error).__name__}: {error}; use bounds that fit into 64 bits"
        ) from error
    if np.ndim(low) or np.ndim(high):
        raise ValueError(
            f"distributions must be univariate, but that of {name!r} has arguments of shape "
            f"{np.shape(low)}; use scalars"
        )
    if not low <= high:
        raise ValueError(
            f"the distribution of {name!r} has no values; check the arguments that it was made with"
        )
    if math.isfinite(low) and math.isinf(high) and _counts_up(distribution):
        return _table(name, distribution, low, low + _MAX_TABLE - 1, tail=_MAX_TAIL)
    median = _ppf(distribution, 0.5)
    if not math.isfinite(median):
        raise ValueError(
            f"the median of a distribution must be finite, but that of {name!r} is {median}; check "
            "the arguments that it was made with"
        )
    # scipy's newer continuous distributions have a pmf, too, which is zero.
    if not (hasattr(distribution, "pmf") and distribution.pmf(median) > 0):
        return ContinuousAxis(name, distribution)
    if high - low >= _MAX_TABLE:
        return IntegerAxis(name, distribution)
    return _table(name, distribution, low, high)


def _counts_up(distribution: Any) -> bool:
    """Whether scipy finds quantiles by an iteration over values, endless in a tail."""
    general = getattr(distribution, "dist", None)
    return isinstance(general, stats.rv_discrete) and (type(general)._ppf is stats.rv_discrete._ppf)


def _table(name: str, distribution: Any, low: float, high: float, tail: float = 1e-6) -> LevelAxis:
    values = np.arange(np.floor(low), np.ceil(high) + 1)
    # Faster than the cdf, which some distributions of scipy sum again for every value.
    upper = np.cumsum(distribution.pmf(values))
    if tail > 1e-6 and not upper[-1] > 1 - tail:
        raise ValueError(
            f"at most {tail:.0%} of a distribution without end may lie above {high:g}, but of that "
            f"of {name!r} {1 - upper[-1]:.1%} do; use a lighter tail, log_randint, or a list"
        )
    if tail <= 1e-6 and not abs(upper[-1] - 1) < 1e-6:
        raise ValueError(
            f"discrete distributions must be over integers, but that of {name!r} is not; "
            "use a list of choices"
        )
    upper /= upper[-1]
    lower = np.concatenate([[0.0], upper[:-1]])
    middle = (lower + upper) / 2
    # Without gaps in the support, and tails that no float in [0, 1] reaches.
    possible = (lower <= middle) & (middle < upper)
    levels = values[possible].astype(int).tolist()
    return LevelAxis(name, "integer", levels, upper[possible].tolist())


def _ppf(distribution: Any, u: float) -> float:
    return float(_ppfs(distribution, u))


def _ppfs(distribution: Any, u: Any) -> Any:
    ppf = distribution.ppf if hasattr(distribution, "ppf") else distribution.icdf
    with np.errstate(over="ignore"):  # heavy tails
        return ppf(u)


def _equal_forms(value: Any) -> Iterator[Any]:
    """The value, then an equal number of the other type (tables convert integers to floats)."""
    yield value
    if isinstance(value, float) and value.is_integer():
        yield int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield float(value)


def make_axes(param_distributions: Mapping[str, Any]) -> dict[str, Axis]:
    """The axes of one dict, by sorted name."""
    for name in param_distributions:
        if not isinstance(name, str):
            raise TypeError(f"parameter names must be strings, but got {name!r}")
    return {
        name: make_axis(name, param_distributions[name]) for name in sorted(param_distributions)
    }
