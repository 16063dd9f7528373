"""The configurations of a replayed search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .base import Sampler, WrappingSampler, sample_at

__all__ = ["ReplayedSampler"]


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
        self._n_sampled += 1
        self.sampler.adopt(params, resource)
        return params
