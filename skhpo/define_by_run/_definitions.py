"""What a builder asks for: a name, the values, and a default."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from scipy import stats

from ..space import Steps, log_randint

__all__ = ["Choice", "Definition", "Fixed", "Range"]

# Steps of a range up to which it becomes a list of numbers.
_MAX_STEPS = 2**16


class Definition:
    """Values of one hyperparameter."""

    name: str
    default: Any

    def distribution(self) -> Any:
        """What a search takes for it: a list, or a frozen distribution."""
        raise NotImplementedError

    def probes(self) -> list[Any]:
        """The values by which it is seen whether other parameters depend on it."""
        raise NotImplementedError

    def all_values(self) -> list[Any] | None:
        """All values; None where they cannot be listed."""
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
        Added to the last value; where `sampling` is "log" a factor.
    sampling : {"linear", "log", "reverse_log"}
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
        bounds = self.min_value, self.max_value
        wanted = numbers.Integral if self.kind == "Int" else numbers.Real
        for number in (*bounds, self.default):
            if not isinstance(number, wanted) or isinstance(number, bool):
                raise ValueError(
                    f"the bounds and the default of hp.{self.kind} must be "
                    f"{'integers' if self.kind == 'Int' else 'numbers'}, but got {given}"
                )
            if not math.isfinite(number):
                raise ValueError(f"the bounds of hp.{self.kind} must be finite, but got {given}")
        if self.min_value > self.max_value:
            raise ValueError(f"min_value <= max_value must hold, but got {given}")
        if not self.min_value <= self.default <= self.max_value:
            raise ValueError(f"the default must be within the bounds, but got {given}")
        if self.sampling not in ("linear", "log"):
            raise ValueError(f"sampling must be 'linear' or 'log', but got {given}")
        if self.sampling == "log" and self.min_value <= 0:
            raise ValueError(f"sampling='log' needs min_value > 0, but got {given}")
        if self.step is not None:
            least = 1 if self.sampling == "log" else 0
            if not isinstance(self.step, wanted) or self.step <= least:
                raise ValueError(
                    f"step must be {'an integer' if self.kind == 'Int' else 'a number'} > {least} "
                    f"with sampling={self.sampling!r}, but got {given}"
                )
            if len(self._levels()) > _MAX_STEPS:
                raise ValueError(
                    f"a step must make at most {_MAX_STEPS} values, but got {given}; leave it out"
                )

    def distribution(self) -> Any:
        low, high = self.min_value, self.max_value
        if low == high:
            return [low]
        whole, log = self.kind == "Int", self.sampling == "log"
        if self.step is not None and not (whole and not log and self.step == 1):
            return Steps(self._levels())
        if whole:
            return log_randint(low, high + 1) if log else stats.randint(low, high + 1)
        return stats.loguniform(low, high) if log else stats.uniform(low, high - low)

    def probes(self) -> list[Any]:
        # A number of layers shows at its largest value what it may lead to.
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
