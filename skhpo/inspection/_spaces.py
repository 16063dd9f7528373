"""The space of a search, as its journal describes it, and with the order that numbers have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

import numpy as np
from scipy import stats

from ..space import Levels, SearchSpace, log_randint, ordered

__all__ = ["described_space", "is_logarithmic", "ordered_space"]

# The largest number of a range is so many times the smallest before its scale is taken for a
# logarithmic one: below that the two look alike.
_WIDE = 10.0


def ordered_space(distributions):
    """Return a space in which lists of different numbers are ordered, and equal ranges one.

    To `SearchSpace` a list is choices without an order. What matters, and how, is seen better
    where 0.01, 0.1 and 1 are known to follow one another.
    """
    if isinstance(distributions, Mapping):
        return SearchSpace({name: _in_order(values) for name, values in distributions.items()})
    known = {}
    return SearchSpace(
        [{name: _shared(_in_order(v), known) for name, v in one.items()} for one in distributions]
    )


def _shared(values, known):
    """Return the first of equal distributions: in a space they are one coordinate only then."""
    if hasattr(values, "dist") and hasattr(values, "kwds"):
        key = values.dist.name, repr(values.args), repr(sorted(values.kwds.items()))
        return known.setdefault(key, values)
    return values


def _in_order(values):
    if not isinstance(values, list | tuple | np.ndarray):
        return values
    numbers = values.tolist() if isinstance(values, np.ndarray) else list(values)
    are_numbers = all(
        isinstance(v, Real) and not isinstance(v, bool | np.bool_) and math.isfinite(v)
        for v in numbers
    )
    if not are_numbers or len(set(numbers)) < max(len(numbers), 2):
        return values
    return ordered(sorted(numbers))


def is_logarithmic(space, dimension):
    """Whether the values of a coordinate are spread evenly over a logarithmic scale."""
    if space.dimensions[dimension].kind == "choice":
        return False
    low, middle, high = (space.value_at(dimension, u) for u in (0.01, 0.5, 0.99))
    if not (low > 0 and high >= _WIDE * low):
        return False
    geometric, arithmetic = math.log(low * high) / 2, math.log((low + high) / 2)
    return abs(math.log(middle) - geometric) < abs(math.log(middle) - arithmetic)


def described_space(description, params):
    """Return the space that the fingerprint of a journal describes (`skhpo.fingerprint.describe`).

    Choices that are no JSON are only in the configurations, `params`, as text; where a distribution
    is not one of scipy's, their smallest and largest numbers are its ends.
    """
    if isinstance(description, list):
        names = [set(one) for one in description]
        return [
            _described(one, [p for p in params if set(p) == own])
            for one, own in zip(description, names, strict=True)
        ]
    return _described(description, params)


def _described(description, params):
    return {
        name: _values(values, [p[name] for p in params if name in p])
        for name, values in description.items()
    }


def _values(described, seen):
    if isinstance(described, list):
        return _choices(described, seen)
    fields = described.get("fields", {})
    if "distribution" in described:
        law = getattr(stats, described["distribution"], None)
        if isinstance(law, stats.rv_continuous | stats.rv_discrete):
            return law(*described["args"], **described["kw"])
    if set(fields) == {"low", "high"}:
        return log_randint(fields["low"], fields["high"])
    if set(fields) == {"values", "weights", "kind"}:
        values = _choices(fields["values"], seen)
        weights = fields["weights"] if len(values) == len(fields["values"]) else [1.0] * len(values)
        return Levels(tuple(values), tuple(weights), fields["kind"])
    return _range(seen)


def _choices(described, seen):
    """Return the choices of a list: those that JSON keeps, and as text those that were seen."""
    kept = [value for value in described if not isinstance(value, dict | list)]
    if len(kept) < len(described):
        texts = dict.fromkeys(value for value in seen if isinstance(value, str | None))
        kept += [value for value in texts if value not in kept]
    # A space has one value at least, also before the first is seen.
    return kept or ["(not seen yet)"]


def _range(seen):
    """Return the range of numbers that were seen; choices where they are no numbers."""
    numbers = [v for v in seen if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(seen) or not seen:
        # To a dict 1 and True are one key.
        return list({(type(v), v): v for v in seen}.values()) or ["(not seen yet)"]
    low, high = min(numbers), max(numbers)
    if low == high:
        return [low]
    if all(isinstance(number, int) for number in numbers):
        return stats.randint(low, high + 1)
    return stats.uniform(low, math.nextafter(high - low, math.inf) * (1 + 1e-12))  # with its ends
