"""Checks of the arguments of Harmonica, and the values of "auto"."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..._compat import StrOptions
from ...arguments import COUNT, POSITIVE, check_arguments
from ...process import total_memory
from ...space import SearchSpace
from .coding import WHOLE, code

_log = logging.getLogger(__name__)

__all__ = [
    "CONSTRAINTS",
    "check_degree",
    "check_n_samples",
    "check_n_terms",
    "check_params",
    "check_resource",
    "check_work",
    "least_samples",
    "samples_of_stage",
]

CONSTRAINTS = {
    "n_stages": [COUNT],
    "n_samples": [COUNT, StrOptions({"auto"})],
    "degree": [COUNT, StrOptions({"auto"})],
    "n_restrictions": [COUNT],
    "alpha": [POSITIVE, StrOptions({"auto"})],
    "resource": [COUNT, None],
}

# Samples per logarithm of the number of products. For 60 two-valued parameters and degree 3 this
# gives the 300 of the paper.
_SAMPLES_PER_LOG = 28.6

# Largest number of products for which "auto" is degree 3. 1,000 two-valued parameters have 1.7e8;
# 200 parameters with ten values each have 1.3e9, each of which occurs in half a sample of a stage.
_MOST_AUTOMATIC = 2**28

# Longest computation of a stage, in minutes, and products times samples that one core computes in a
# minute, from docs/benchmarks/scale_maths.md.
_MOST_MINUTES, _PER_MINUTE = 15, 2.2e11

# Bytes for the value of a function on a sample: the value, its part in heads, and its square.
_BYTES = 12

# Products times samples that take as long as the 0.3 ms for each head (all factors but two).
_PER_HEAD = 1.1e6


def least_samples(n_terms: int) -> int:
    """Return two samples for each coefficient, including the intercept."""
    return 2 * (n_terms + 1)


def check_n_terms(n_terms: int | Sequence[int], n_stages: int) -> list[int]:
    given = n_terms if isinstance(n_terms, Sequence) else [n_terms] * n_stages
    for n in given:
        check_arguments("Harmonica", {"n_terms": [COUNT]}, n_terms=n)
    if len(given) != n_stages:
        raise ValueError(
            f"n_terms must be one number, or one for each of the n_stages={n_stages} stages, "
            f"but got n_terms={n_terms!r}"
        )
    return [int(n) for n in given]


def check_degree(degree: int | Literal["auto"], sizes: Sequence[int]) -> int:
    """Return the largest number of factors of a term, given the functions per coordinate."""
    n_parameters = sum(size > 0 for size in sizes)
    if isinstance(degree, str):
        most = min(3, n_parameters)
        while most > 2 and count_products(sizes, most) > _MOST_AUTOMATIC:
            most -= 1
        return most
    if (n := int(degree)) > n_parameters:
        raise ValueError(
            f"degree <= number of parameters with a choice must hold, but got degree={n} and "
            f"{n_parameters} parameters; 'auto' takes at most {min(3, n_parameters)}"
        )
    return n


def check_n_samples(
    n_samples: int | Literal["auto"], n_terms: int, sizes: Sequence[int], degree: int
) -> int:
    """Return the samples of a stage, given how many functions each coordinate has."""
    least = least_samples(n_terms)
    if isinstance(n_samples, str):
        n_products = count_products(sizes, degree)
        return max(least, round(_SAMPLES_PER_LOG * math.log(n_products)))
    if (n := int(n_samples)) < least:
        raise ValueError(
            f"n_samples >= {least} must hold, two for each of n_terms + 1 coefficients, but got "
            f"n_samples={n} and n_terms={n_terms}; draw more samples, or ask for fewer terms"
        )
    return n


def samples_of_stage(
    space: SearchSpace,
    n_samples: int | Literal["auto"],
    n_terms: int | Sequence[int],
    n_stages: int,
    degree: int | Literal["auto"],
) -> int:
    """Return how many samples each stage of `Harmonica` with these arguments has."""
    sizes = [len(code(space, d, WHOLE)) for d in range(space.n_dims)]
    most = max(check_n_terms(n_terms, n_stages))
    return check_n_samples(n_samples, most, sizes, check_degree(degree, sizes))


def count_products(sizes: Sequence[int], degree: int) -> int:
    """Return the number of products of functions of up to `degree` different parameters."""
    counts = [1] + [0] * degree
    for size in sizes:
        for k in range(degree, 0, -1):
            counts[k] += size * counts[k - 1]
    return sum(counts[1:])


def check_work(sizes: Sequence[int], degree: int, n_samples: int) -> None:
    """Refuse stages that would take too long to compute; log the time of the others."""
    minutes = _minutes(sizes, degree, n_samples)
    counted = (
        f"{count_products(sizes, degree):,} products of functions of up to degree={degree} "
        f"parameters ({sum(sizes):,} functions in all) and {n_samples:,} samples"
    )
    if minutes > _MOST_MINUTES:
        smaller = range(degree - 1, 0, -1)
        fit = (d for d in smaller if _minutes(sizes, d, n_samples) <= _MOST_MINUTES)
        fewer = "fewer values in the longest lists, ranges in their place or fewer parameters"
        if (d := next(fit, None)) is not None:
            fewer = f"degree={d} ({count_products(sizes, d):,} products), {fewer}"
        raise ValueError(
            f"a stage must not take longer to learn from than about {_MOST_MINUTES} minutes, but "
            f"with {counted} it takes {minutes:,.0f}; use {fewer}"
        )
    needed = _BYTES * n_samples * sum(sizes)
    most = total_memory()
    if most is not None and needed > most:
        raise ValueError(
            f"what a stage learns from must fit into memory, but with {sum(sizes):,} functions and "
            f"{n_samples:,} samples it takes {needed / 1e9:.1f} GB of {most / 1e9:.1f} GB; use "
            "fewer values in the longest lists, ranges in their place or fewer samples"
        )
    if minutes > 0.25:
        _log.info("each stage has %s: about %.1f minutes of computing", counted, minutes)


def _minutes(sizes: Sequence[int], degree: int, n_samples: int) -> float:
    """Return roughly how many minutes the computation of a stage takes on one core."""
    n_heads = count_products(sizes, degree - 2) if degree > 2 else 0
    return (float(count_products(sizes, degree)) * n_samples + _PER_HEAD * n_heads) / _PER_MINUTE


def check_resource(resource: int | None, most: int | None) -> int | None:
    if resource is None:
        return most
    n = int(resource)
    if most is None or n > most:
        raise ValueError(
            f"the resource of the stages must not be larger than what the base gives, but got {n} "
            f"and {most}; a base without a resource needs resource=None"
        )
    return n


def check_params(params: Mapping[str, Any] | None, space: SearchSpace) -> dict[str, Any]:
    for name in params or ():
        if name in space.names:
            raise ValueError(
                f"what the stages set must not be in the space, but {name!r} is; remove it from "
                "one of the two"
            )
    return dict(params or {})
