"""The user's configurations first."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .base import Sampler, WrappingSampler, sample_at

__all__ = ["EnqueuedSampler"]

# Draws to find a dict of a conditional space that has the given parameters and values.
_TRIES = 1000


class EnqueuedSampler(WrappingSampler):
    """Proposes given configurations first, then those of another sampler.

    Parameters
    ----------
    sampler : Sampler
        Proposes the others, and observes all scores.
    configurations : sequence of mapping
        The first configurations. Missing parameters are drawn at random.
    random_state : int or None, default=None
        Seed of those draws.

    Raises
    ------
    TypeError
        If a configuration is not a dict.
    ValueError
        If a configuration is not in the sampler's space.

    Examples
    --------
    >>> from skhpo.samplers import EnqueuedSampler, RandomSampler
    >>> from skhpo.space import SearchSpace
    >>> space = SearchSpace({"units": [16, 32, 64]})
    >>> EnqueuedSampler(RandomSampler(space, random_state=0), [{"units": 64}]).sample(3)[0]
    {'units': 64}
    """

    def __init__(
        self,
        sampler: Sampler,
        configurations: Sequence[Mapping[str, Any]],
        random_state: int | None = None,
    ) -> None:
        super().__init__(sampler)
        for given in configurations:
            if not isinstance(given, Mapping):
                raise TypeError(
                    "what is enqueued must be a list of dicts, each with values of parameters, as "
                    f"in [{{'alpha': 0.1}}], but there is {given!r}"
                )
        rng = np.random.default_rng(random_state)
        self._queue = deque(self._complete(given, rng) for given in configurations)
        self._first = {self.space.key(params) for params in self._queue}

    def sample(self, n: int, *, resource: int | None = None) -> list[dict[str, Any]]:
        out = [self._queue.popleft() for _ in range(min(n, len(self._queue)))]
        while len(out) < n and (more := sample_at(self.sampler, n - len(out), resource)):
            finite = self.space.size is not None
            out += [p for p in more if not (finite and self.space.key(p) in self._first)]
        return out

    def adopt(self, params: dict[str, Any], resource: int | None = None) -> None:
        if self._queue:
            super().adopt(params, resource)
        else:
            self.sampler.adopt(params, resource)

    def _complete(self, given: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Draw the missing parameters, from a dict of the space that has the given ones."""
        reason = None
        for _ in range(_TRIES):
            drawn = self.space.from_unit(rng.random(self.space.n_dims))
            if given.keys() <= drawn.keys():
                params = {**drawn, **given}
                reason = self._why_not(params)
                if reason is None:
                    return params
        reason = reason or self._why_not(dict(given))
        raise ValueError(
            f"what is enqueued must lie in the space, but {dict(given)!r} does not: {reason}"
        ) from reason

    def _why_not(self, params: dict[str, Any]) -> ValueError | None:
        try:
            self.space.to_unit(params)
        except ValueError as error:
            return error
        return None if self.space.allows(params) else ValueError("it is forbidden")
