"""Definitions of hyperparameters by a builder: name, values and default."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from scipy import stats

from ..arguments import Number, check_arguments
from ..space import log_randint, ordered

__all__ = ["Choice", "Definition", "Fixed", "Range"]

# Steps of a range up to which it becomes a list of numbers.
_MAX_STEPS = 2**16


class Definition:
    """Values of one hyperparameter."""

    name: str
    default: Any

    def distribution(self) -> Any:
        """The values for a search: a list, or a frozen distribution."""
        raise NotImplementedError

    def probes(self) -> list[Any]:
        """Values with which is tested whether other parameters depend on it."""
        raise NotImplementedError

    def all_values(self) -> list[Any] | None:
        """All values, or None if they cannot be listed."""
        raise NotImplementedError


@dataclass(frozen=True)
class Fixed(Definition):
    """One value."""

    name: str
    default: Any

    def distribution(self) -> list[Any]:
        return [self.default]

    def probes(self) -> list[Any]:
        return []

    def all_values(self) -> list[Any]:
        return [self.default]

    def __str__(self) -> str:
        return f"Fixed({self.name!r}, {self.default!r})"


@dataclass(frozen=True)
class Choice(Definition):
    """One of some values."""

    name: str
    values: tuple[Any, ...]
    default: Any

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(
                f"hp.Choice({self.name!r}, ...) needs at least one value, but got none"
            )
        if not any(_same(self.default, value) for value in self.values):
            raise ValueError(
                f"the default of hp.Choice({self.name!r}, ...) must be one of its values "
                f"{list(self.values)!r}, but is {self.default!r}"
            )

    def distribution(self) -> list[Any]:
        return list(self.values)

    def probes(self) -> list[Any]:
        return list(self.values)

    def all_values(self) -> list[Any]:
        return list(self.values)

    def __str__(self) -> str:
        return f"Choice({self.name!r}, {list(self.values)!r}, default={self.default!r})"


@dataclass(frozen=True)
class Range(Definition):
    """Numbers from one to another, both included.

    Parameters
    ----------
    kind : {"Int", "Float"}
    step : int, float or None
        Distance of successive values; their ratio where `sampling` is "log".
    sampling : {"linear", "log"}
    """

    kind: str
    name: str
    min_value: Any
    max_value: Any
    step: Any
    sampling: str
    default: Any

    def __post_init__(self) -> None:
        given = str(self)
        wanted = numbers.Integral if self.kind == "Int" else numbers.Real
        finite = [Number(wanted, None, None, closed="neither")]
        least = 1 if self.sampling == "log" else 0
        names: dict[str, list[Any]] = dict.fromkeys(("min_value", "max_value", "default"), finite)
        names["step"] = [Number(wanted, least, None, closed="neither"), None]
        check_arguments(f"hp.{given}", names, **{name: getattr(self, name) for name in names})
        if self.min_value > self.max_value:
            raise ValueError(f"min_value <= max_value must hold, but got {given}")
        if not self.min_value <= self.default <= self.max_value:
            raise ValueError(f"the default must be within the bounds, but got {given}")
        if self.sampling not in ("linear", "log"):
            raise ValueError(f"sampling must be 'linear' or 'log', but got {given}")
        if self.sampling == "log" and self.min_value <= 0:
            raise ValueError(f"sampling='log' needs min_value > 0, but got {given}")
        if self.step is not None and len(self._levels()) > _MAX_STEPS:
            raise ValueError(
                f"a step must make at most {_MAX_STEPS} values, but got {given}; leave it out"
            )

    def distribution(self) -> Any:
        low, high = self.min_value, self.max_value
        if low == high:
            return [low]
        whole, log = self.kind == "Int", self.sampling == "log"
        if self.step is not None and not (whole and not log and self.step == 1):
            return ordered(self._levels())
        if whole:
            return log_randint(low, high + 1) if log else stats.randint(low, high + 1)
        return stats.loguniform(low, high) if log else stats.uniform(low, high - low)

    def probes(self) -> list[Any]:
        # With the most layers a builder requests the parameters of all layers.
        levels = self._levels() if self.step is not None else [self.min_value, self.max_value]
        return [levels[0], levels[-1]] if self.kind == "Int" else []

    def all_values(self) -> list[Any] | None:
        if self.step is not None:
            return self._levels()
        if self.kind == "Float" or self.max_value - self.min_value >= _MAX_STEPS:
            return None
        return list(range(self.min_value, self.max_value + 1))

    def _levels(self) -> list[Any]:
        # In decimals, so that 0.1 + 2 * 0.1 is 0.3.
        cast = int if self.kind == "Int" else float
        low, high, step = (Decimal(str(x)) for x in (self.min_value, self.max_value, self.step))
        levels = [low]
        while len(levels) <= _MAX_STEPS:
            level = levels[-1] * step if self.sampling == "log" else levels[-1] + step
            if level > high:
                break
            levels.append(level)
        return [cast(level) for level in levels]

    def __str__(self) -> str:
        further = {"step": None, "sampling": "linear"}
        shown = [f"{k}={getattr(self, k)!r}" for k, v in further.items() if getattr(self, k) != v]
        shown.append(f"default={self.default!r}")
        return f"{self.kind}({self.name!r}, {self.min_value}, {self.max_value}, {', '.join(shown)})"


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)
