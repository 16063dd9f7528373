"""Parameters of scikit-optimize and Optuna, recognised without these packages."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np
from scipy import stats

from ._log_randint import log_randint
from ._ordered import ordered

__all__ = ["Levels", "translated"]

# Most steps of a range that is listed.
_MAX_STEPS = 2**16


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


def translated(param_distributions: Any) -> Any:
    """Return a space with the objects of other packages converted to those of this one.

    scikit-optimize's ``Real``, ``Integer`` and ``Categorical``, and Optuna's ``FloatDistribution``,
    ``IntDistribution`` and ``CategoricalDistribution`` are recognised by their attributes. Bounds
    are inclusive. Transformations are ignored, as they belong to a model.

    Parameters
    ----------
    param_distributions : dict or list of dict
        Not changed; anything else is returned as given.

    Returns
    -------
    dict or list of dict

    Raises
    ------
    ValueError
        If a range has too many steps to be listed, or a logarithmic range starts below 1.
    """
    if isinstance(param_distributions, Mapping):
        return {name: _known(name, values) for name, values in param_distributions.items()}
    if isinstance(param_distributions, list | tuple):
        return [
            translated(item) if isinstance(item, Mapping) else item for item in param_distributions
        ]
    return param_distributions


def _known(name: Any, values: Any) -> Any:
    if isinstance(values, ordered) and len(values) > 1:
        return Levels(tuple(values), (1.0,) * len(values), "integer")
    if isinstance(values, Sequence | np.ndarray | Levels):
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
        raise ValueError(
            f"at most {_MAX_STEPS} steps can be listed, but {name}={values!r} has {n_steps}; "
            "use a larger step, or none"
        )
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
