"""Checks of Harmonica's arguments, and what "auto" means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..._compat import StrOptions
from ...arguments import COUNT, POSITIVE, check_arguments
from ...space import SearchSpace

__all__ = [
    "CONSTRAINTS",
    "check_degree",
    "check_n_samples",
    "check_n_terms",
    "check_params",
    "check_resource",
    "least_samples",
]

CONSTRAINTS = {
    "n_stages": [COUNT],
    "n_samples": [COUNT, StrOptions({"auto"})],
    "degree": [COUNT, StrOptions({"auto"})],
    "n_restrictions": [COUNT],
    "alpha": [POSITIVE, StrOptions({"auto"})],
    "resource": [COUNT, None],
}

# Samples per logarithm of the number of products: with 60 two-valued parameters and degree 3 that
# is the 300 of the paper.
_SAMPLES_PER_LOG = 28.6


def least_samples(n_terms: int) -> int:
    """Two for each coefficient, the intercept's included."""
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
    """Return the most factors of a term, given how many functions each coordinate has."""
    n_parameters = sum(size > 0 for size in sizes)
    if isinstance(degree, str):
        return min(3, n_parameters)
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
        n_products = _count_products(sizes, degree)
        return max(least, round(_SAMPLES_PER_LOG * math.log(n_products)))
    if (n := int(n_samples)) < least:
        raise ValueError(
            f"n_samples >= {least} must hold, two for each of n_terms + 1 coefficients, but got "
            f"n_samples={n} and n_terms={n_terms}; draw more samples, or ask for fewer terms"
        )
    return n


def _count_products(sizes: Sequence[int], degree: int) -> int:
    """How many products of functions of up to `degree` different parameters there are."""
    counts = [1] + [0] * degree
    for size in sizes:
        for k in range(degree, 0, -1):
            counts[k] += size * counts[k - 1]
    return sum(counts[1:])


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
