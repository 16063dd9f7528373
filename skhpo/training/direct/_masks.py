"""Dropout masks."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

__all__ = ["Masks"]


class Masks:
    """Draws dropout masks, bit for bit those of `torch.nn.functional.dropout` on a CPU.

    `generator` is a function that returns the generator.
    """

    def __init__(self, generator: Callable[[], torch.Generator] | None = None) -> None:
        self._generator = generator
        self._uniform: dict[int, torch.Tensor] = {}
        self._scales: dict[float, torch.Tensor] = {}

    def __call__(self, mask: torch.Tensor, rate: float) -> None:
        """Fill a mask with draws from the generator."""
        assert self._generator is not None
        self.fill(mask, rate, self._generator())

    def fill(self, mask: torch.Tensor, rate: float, generator: torch.Generator) -> None:
        """Fill a mask; a value is zero with probability `rate`, between 0 and 1."""
        if mask.is_contiguous() and _draws_uniform_numbers():
            n = mask.numel()
            if n not in self._uniform:
                self._uniform[n] = mask.new_empty(n, dtype=torch.float64)
            numbers = self._uniform[n].uniform_(generator=generator)
            torch.lt(numbers.view(mask.shape), 1 - rate, out=mask)
        else:
            mask.bernoulli_(1 - rate, generator=generator)
        if rate not in self._scales:
            self._scales[rate] = torch.ones_like(mask.view(-1)[0]).div_(1 - rate)
        mask.mul_(self._scales[rate])


@functools.cache
def _draws_uniform_numbers() -> bool:
    """Whether ``bernoulli_`` equals a comparison of doubles, which takes half the time."""
    ours, theirs = (torch.Generator().manual_seed(0) for _ in range(2))
    wanted = torch.empty(1000).bernoulli_(0.3, generator=theirs)
    found = torch.empty(1000, dtype=torch.float64).uniform_(generator=ours) < 0.3
    same_state = torch.equal(ours.get_state(), theirs.get_state())
    return same_state and torch.equal(found, wanted.bool())
