"""Samplers before another one: configurations of the user's, or of a journal, come first."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .base import Sampler, sample_at

__all__ = ["EnqueuedSampler", "ReplayedSampler", "WrappingSampler"]

# Draws to find a dict of a conditional space that has the given parameters and values.
_TRIES = 1000


class WrappingSampler(Sampler):
    """A sampler that stands before another one, which observes all scores.

    Parameters
    ----------
    sampler : Sampler
    """

    def __init__(self, sampler: Sampler) -> None:
        super().__init__(sampler.space)
        self.sampler = sampler
        self.learns = sampler.learns  # type: ignore[misc]

    def observe(
        self,
        params: dict[str, Any],
        score: float,
        resource: int | None,
        *,
        noise: float | None = None,
        seconds: float | None = None,
        **more: Any,
    ) -> None:
        self.sampler.observe(params, score, resource, noise=noise, seconds=seconds, **more)

    def observe_elsewhere(
        self,
        params: dict[str, Any],
        score: float,
        *,
        noise: float | None = None,
        seconds: float | None = None,
        **more: Any,
    ) -> None:
        self.sampler.observe_elsewhere(params, score, noise=noise, seconds=seconds, **more)

    def replace(self, params: dict[str, Any], by: dict[str, Any]) -> None:
        self.sampler.replace(params, by)


class EnqueuedSampler(WrappingSampler):
    """Proposes given configurations first, then those of another sampler.

    Parameters
    ----------
    sampler : Sampler
        Proposes the others, and observes all scores.
    configurations : sequence of mapping
        The first configurations, each of which is tried once. Missing parameters are drawn at
        random.
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
        completed = [self._complete(given, rng) for given in configurations]
        by_key = {self.space.key(params): params for params in completed}
        self._queue = deque(by_key.values())
        self._first = set(by_key)  # that the other sampler has not proposed, too

    def sample(self, n: int, *, resource: int | None = None) -> list[dict[str, Any]]:
        out = [self._queue.popleft() for _ in range(min(n, len(self._queue)))]
        while len(out) < n and (more := sample_at(self.sampler, n - len(out), resource)):
            out += [params for params in more if not self._was_first(params)]
        return out

    def _was_first(self, params: dict[str, Any]) -> bool:
        n_first = len(self._first)
        self._first.discard(self.space.key(params))
        return len(self._first) < n_first

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


class ReplayedSampler(WrappingSampler):
    """Proposes what an interrupted search proposed, then continues as another sampler would.

    The other sampler is asked as well, so that it gets into the same state. If its proposal differs
    (a model fitted on another processor differs by rounding) `Sampler.replace` is called.

    Parameters
    ----------
    sampler : Sampler
    records : mapping of int to object
        Records of configurations, by their number in the order of proposals; some may be missing,
        and others may be added later.
    restore : callable
        From a proposed configuration and its record to the recorded configuration; returns the
        same object if they do not differ.
    first : int, default=0
        Number of the first configuration that is sampled.
    adopts : bool, default=False
        Whether single configurations with a record are adopted by the other sampler, which does not
        propose them (`Sampler.adopt`). What it proposes later may then be something else.

    Examples
    --------
    >>> from skhpo.samplers import RandomSampler, ReplayedSampler
    >>> from skhpo.space import SearchSpace
    >>> space = SearchSpace({"units": [16, 32, 64, 128]})
    >>> sampler = ReplayedSampler(RandomSampler(space, 0), {1: 16}, lambda _, n: {"units": n})
    >>> sampler.sample(3)
    [{'units': 64}, {'units': 16}, {'units': 128}]
    """

    def __init__(
        self,
        sampler: Sampler,
        records: Mapping[int, Any],
        restore: Callable[[dict[str, Any], Any], dict[str, Any]],
        first: int = 0,
        *,
        adopts: bool = False,
    ) -> None:
        super().__init__(sampler)
        self._records = records
        self._restore = restore
        self._adopts = adopts
        self._n_sampled = first

    def sample(self, n: int, *, resource: int | None = None) -> list[dict[str, Any]]:
        if n == 1 and self._adopts and (adopted := self._adopted(resource)) is not None:
            return [adopted]
        out = []
        for proposed in sample_at(self.sampler, n, resource):
            params = proposed
            if self._n_sampled in self._records:
                params = self._restore(proposed, self._records[self._n_sampled])
            self._n_sampled += 1
            if params is not proposed:
                self.sampler.replace(proposed, params)
            out.append(params)
        return out

    def _adopted(self, resource: int | None) -> dict[str, Any] | None:
        """Return the next configuration as its record says, None where it does not say all."""
        if self._n_sampled not in self._records:
            return None
        params = self._restore({}, self._records[self._n_sampled])
        try:
            self.space.to_unit(params)
        except (ValueError, TypeError):
            return None
        self.adopt(params, resource)
        return params

    def adopt(self, params: dict[str, Any], resource: int | None = None) -> None:
        self._n_sampled += 1
        self.sampler.adopt(params, resource)
