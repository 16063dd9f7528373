"""Numbers of 16 bits, of which some processors multiply matrices several times as fast.

They have 8 bits of precision, so that what is computed from them needs a bound on its error.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .process import TORCH_THREADS, one_thread

__all__ = ["ROUNDING", "adds_in_32_bits", "is_fast", "rounded"]

# Largest relative difference between a number and the nearest one of 16 bits: that of 257 and 256.
ROUNDING = 2.0**-8

# Rows, columns and inner length of the products that are timed, and how often.
_SHAPE, _REPEATS = (128, 1024, 256), 5


def rounded(values: NDArray[np.floating[Any]]) -> Any:
    """Return an array as a tensor of dtype bfloat16."""
    import torch

    return torch.from_numpy(np.array(values, dtype=np.float32, order="C")).bfloat16()


@functools.cache
def is_fast() -> bool:
    """Whether this machine multiplies such matrices in less than half the time of float32.

    It is measured, on one thread, because libraries do not say whether they use the instructions
    that a processor has. Products that are added up in 16 bits are none of these.
    """
    rows, columns, inner = _SHAPE
    rng = np.random.default_rng(0)
    left = rng.normal(size=(rows, inner)).astype(np.float32)
    right = rng.choice(np.array([-1, 1], np.float32), size=(inner, columns))
    left16, right16 = rounded(left), rounded(right)
    with one_thread(), TORCH_THREADS:
        TORCH_THREADS.set(1)
        if not adds_in_32_bits(left16 @ right16, left16, right16):
            return False
        return 2 * _seconds(lambda: left16 @ right16) < _seconds(lambda: left @ right)


def adds_in_32_bits(product: Any, left: Any, right: Any) -> bool:
    """Whether a product of matrices of 16 bits has no more error than that of its own rounding.

    The right one consists of 1 and -1.
    """
    exact = left.double() @ right.double()
    adding = left.shape[1] * 2.0**-24 * left.double().abs().sum(1, keepdim=True)
    return bool(((product.double() - exact).abs() <= ROUNDING * exact.abs() + adding).all())


def _seconds(product: Callable[[], Any]) -> float:
    """Return the seconds of a product, the least of several."""
    found = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        product()
        found.append(time.perf_counter() - start)
    return min(found)
