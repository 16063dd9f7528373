"""The maps between values of hyperparameters and unconstrained numbers.

Notation: u is the unconstrained number, b = lo + (hi - lo) sigmoid(u) the bounded one.

============================== ====================== =================
distribution                   value                  kind
============================== ====================== =================
continuous, bounded            b                      "linear"
`loguniform`                   exp(b), lo and hi logs "log"
`log_randint`                  floor(exp(b))          "log_integer"
`randint`, bounded discrete    floor(b)               "integer"
continuous on [lo, inf)        lo + softplus(u)       "positive"
============================== ====================== =================
"""

from __future__ import annotations

import math
import numbers

import numpy as np
import torch
from torch.nn import functional as F

from ..space import log_randint, make_axis

__all__ = ["Ranges", "average_values", "inverse_softplus"]

# Order of the columns; columns that share a map (exp, floor) are adjacent.
_KINDS = ("linear", "log", "log_integer", "integer", "positive")
# Initial share of the range where no value is given: near the low end, that is near "off".
_START = 0.05
# Ends of a range are infinite in u: initial values keep this share of the range from them.
_MARGIN = 5e-3
# The same for tuned values, which may lie outside their range by rounding to float32.
_NO_MARGIN = 1e-9


class Ranges:
    """The ranges of all hyperparameters, as columns of a matrix.

    A range is the support of a distribution. Missing initial values are 5% of the way from the low
    end (10% of the mean where there is no high end). Raises TypeError or ValueError if a
    distribution has no range to follow a gradient in, or a start lies outside.

    Attributes
    ----------
    names : list of str
        In the order of the columns.
    start : Tensor of shape (n_hyperparameters,)
        Unconstrained.
    """

    def __init__(self, distributions, initial):
        for name in initial:
            if name not in distributions:
                raise ValueError(
                    f"initial must have names among the hyperparameters, {sorted(distributions)}, "
                    f"but got {name!r}"
                )
        kinds = {name: _kind(name, values) for name, values in distributions.items()}
        self.names = sorted(kinds, key=lambda name: (_KINDS.index(kinds[name]), name))
        self.kinds = [kinds[name] for name in self.names]
        self._supports = {name: tuple(d.support()) for name, d in distributions.items()}
        bounds = [_bounds(kinds[name], distributions[name]) for name in self.names]
        self.low = torch.tensor([low for low, _ in bounds], dtype=torch.float32)
        self.span = torch.tensor([high - low for low, high in bounds], dtype=torch.float32)
        self.largest = torch.tensor(
            [_largest(kinds[name], distributions[name]) for name in self.names]
        )
        self._find_slices()
        starts = []
        for name, kind, (low, high) in zip(self.names, self.kinds, bounds, strict=True):
            if name in initial:
                _check_inside(name, initial[name], kind, low, high)
                starts.append(_unconstrained(initial[name], kind, low, high, _MARGIN))
            elif kind == "positive":
                starts.append(inverse_softplus(0.1 * (distributions[name].mean() - low)))
            else:
                starts.append(_logit(_START))
        self.start = torch.tensor(starts, dtype=torch.float32)

    def _find_slices(self):
        ends = np.cumsum([self.kinds.count(kind) for kind in _KINDS]).tolist()
        self._logs = slice(ends[0], ends[2])
        self._integers = slice(ends[1], ends[3])
        self._positives = slice(ends[3], ends[4])
        self._any = [part.stop > part.start for part in (self._logs, self._integers)]

    def __len__(self):
        return len(self.names)

    def to(self, device, dtype):
        """Move the bounds to a device and dtype."""
        for name in ("low", "span", "largest", "start"):
            setattr(self, name, getattr(self, name).to(device, dtype))
        return self

    def values(self, u):
        """Map unconstrained numbers to values without a gradient; integers are whole floats."""
        with torch.no_grad():
            values = torch.addcmul(self.low, self.span, torch.sigmoid(u))
            if self._any[0]:
                values[:, self._logs].exp_()
            if self._any[1]:
                whole = values[:, self._integers]
                # In float32 a sigmoid reaches 1.
                torch.minimum(whole.floor_(), self.largest[self._integers], out=whole)
            positives = self._positives
            if positives.stop > positives.start:
                values[:, positives] = self.low[positives] + F.softplus(u[:, positives])
        return values

    def follow(self, name, u):
        """Map unconstrained numbers to values of one hyperparameter that is no integer.

        They have a gradient.
        """
        i = self.names.index(name)
        if self.kinds[i] == "positive":
            return self.low[i] + F.softplus(u)
        bounded = self.low[i] + self.span[i] * torch.sigmoid(u)
        return bounded.exp() if self.kinds[i] == "log" else bounded

    def unconstrained(self, name, value):
        """Return the unconstrained number of a value."""
        i = self.names.index(name)
        low, span = float(self.low[i]), float(self.span[i])
        high = 0.0 if self.kinds[i] == "positive" else low + span
        return _unconstrained(value, self.kinds[i], low, high, _NO_MARGIN)

    def support(self, name):
        """Return the ends of a range."""
        return self._supports[name]

    def is_log(self, name):
        """Whether a hyperparameter is on a log scale."""
        return self.kinds[self.names.index(name)].startswith("log")

    def band(self, name, values, scales):
        """Return the values of each epoch minus and plus a standard deviation of perturbation."""
        i = self.names.index(name)
        kind, low, span = self.kinds[i], float(self.low[i]), float(self.span[i])
        bounds = (low, 0.0) if kind == "positive" else (low, low + span)
        u = [_unconstrained(value, kind, *bounds, _NO_MARGIN) for value in values]
        return tuple(
            [
                _constrain(a + sign * scale, kind, *bounds)
                for a, scale in zip(u, scales, strict=True)
            ]
            for sign in (-1, 1)
        )

    def as_dict(self, u):
        """Return the values at a point u of shape (n_hyperparameters,), as plain numbers."""
        row = self.values(u.detach()[None])[0].tolist()
        return {
            name: int(value) if _whole(kind) else value
            for name, kind, value in zip(self.names, self.kinds, row, strict=True)
        }


def average_values(distributions, rows):
    """Average values, dicts by name, in the unconstrained space.

    Those at an end of their range count as a billionth of the range away from it.
    """
    averaged = {}
    for name, distribution in distributions.items():
        kind = _kind(name, distribution)
        bounds = _bounds(kind, distribution)
        u = [_unconstrained(row[name], kind, *bounds, _NO_MARGIN) for row in rows]
        value = _constrain(math.fsum(u) / len(u), kind, *bounds)
        averaged[name] = min(value, int(_largest(kind, distribution))) if _whole(kind) else value
    return averaged


def _whole(kind):
    return "integer" in kind


def _constrain(u, kind, low, high):
    if kind == "positive":
        return low + max(u, 0.0) + math.log1p(math.exp(-abs(u)))
    bounded = low + (high - low) * (0.5 + 0.5 * math.tanh(u / 2))
    value = math.exp(bounded) if kind.startswith("log") else bounded
    return math.floor(value) if _whole(kind) else value


def _kind(name, distribution):
    if isinstance(distribution, log_randint):
        return "log_integer"
    if isinstance(distribution, str | numbers.Number) or distribution is None:
        raise TypeError(
            "hyperparameters must be frozen distributions of scipy.stats, or all of them numbers, "
            f"but {name!r} is {distribution!r}"
        )
    axis = make_axis(name, distribution)
    if axis.kind == "choice":
        raise ValueError(
            f"hyperparameters must be frozen distributions, but {name!r} is a list: there is no "
            "gradient between choices; search it with BayesSearchCV"
        )
    if not hasattr(distribution, "support"):
        raise ValueError(
            f"hyperparameters must be frozen distributions, but {name!r} is a range with steps: "
            "leave the steps out, or search it with BayesSearchCV"
        )
    low, high = distribution.support()
    if not math.isfinite(low) or (axis.kind == "integer" and not math.isfinite(high)):
        raise ValueError(
            f"the range of a hyperparameter must be bounded, or [low, inf) if it is continuous, "
            f"but that of {name!r} is [{low}, {high}]"
        )
    if axis.kind == "integer":
        return "integer"
    if not math.isfinite(high):
        return "positive"
    if not low < high:
        raise ValueError(f"low < high must hold, but the range of {name!r} is [{low}, {high}]")
    family = getattr(getattr(distribution, "dist", None), "name", type(distribution).__name__)
    return "log" if family.lower() in ("loguniform", "reciprocal") else "linear"


def _bounds(kind, distribution):
    """Return the ends of b; the high end of integers is one above the last integer."""
    low, high = map(float, distribution.support())
    if "integer" in kind:
        high += 1
    if kind.startswith("log"):
        return math.log(low), math.log(high)
    return low, 0.0 if kind == "positive" else high


def _largest(kind, distribution):
    return float(distribution.support()[1]) if "integer" in kind else math.inf


def _check_inside(name, value, kind, low, high):
    whole = _whole(kind)
    plain_low, plain_high = map(math.exp, (low, high)) if kind.startswith("log") else (low, high)
    if kind == "positive":
        plain_high = math.inf
    shown = f"[{plain_low:g}, {round(plain_high) - 1 if whole else plain_high:g}]"
    slack = 1e-9 * max(abs(plain_low), abs(value) if _is_number(value) else 0)
    inside = _is_number(value) and plain_low - slack <= value <= plain_high + slack
    if not inside or (whole and (value != int(value) or value >= plain_high - 0.5)):
        raise ValueError(
            f"initial values must lie within their range, but initial[{name!r}]={value!r} and "
            f"the range is {shown}"
        )


def _unconstrained(value, kind, low, high, margin):
    """Map a value to u, after moving it to at least `margin` of the range from the ends."""
    if kind == "positive":
        return inverse_softplus(max(value - low, margin))
    if _whole(kind):
        value = value + 0.5
    if kind.startswith("log"):
        value = math.log(value)
    share = (value - low) / (high - low)
    return _logit(min(max(share, margin), 1 - margin))


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _logit(share):
    return math.log(share / (1 - share))


def inverse_softplus(value):
    """Invert softplus; zero counts as a millionth."""
    value = max(value, 1e-6)
    return value if value > 20 else math.log(math.expm1(value))
