"""Random configurations."""

from __future__ import annotations

import numbers
from collections import deque
from collections.abc import Hashable
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from ..space import MOST_REFUSED, SearchSpace
from .base import Sampler

__all__ = ["RandomSampler"]

# After so many repeated draws in a row nearly nothing new can be drawn.
_MAX_REPEATS = 1000
# Most configurations drawn ahead; never more than were sampled before.
_MOST_AHEAD = 256


class RandomSampler(Sampler):
    """Configurations drawn at random, without replacement where the space is finite.

    All dicts of a conditional space are equally likely, as are all choices of a list, and numbers
    follow their distribution. Without replacement means that repeated draws are rejected. The
    configurations do not depend on how many are requested at a time.

    A finite space is exhausted when all its configurations were drawn, or, if it is too large to be
    listed, after a thousand draws without a new one (because few configurations have nearly all
    probability).

    Parameters
    ----------
    space : SearchSpace
        The space of the configurations.
    random_state : int, RandomState or None, default=None
        The seed; None draws one.

    See Also
    --------
    sklearn.model_selection.ParameterSampler : The same as an iterable.
    GridSampler : All configurations in order.
    BayesSampler : Learns from the scores.

    Examples
    --------
    >>> from skhpo.samplers import RandomSampler
    >>> from skhpo.space import SearchSpace
    >>> sampler = RandomSampler(SearchSpace({"a": [1, 2], "b": ["x", "y"]}), random_state=0)
    >>> sampler.sample(2)
    [{'a': 2, 'b': 'y'}, {'a': 1, 'b': 'y'}]
    >>> len(sampler.sample(100))
    2
    """

    def __init__(
        self, space: SearchSpace, random_state: int | np.random.RandomState | None = None
    ) -> None:
        super().__init__(space)
        self._random_state: np.random.RandomState = check_random_state(random_state)
        # A generator of the user's may be used by other code.
        self._may_draw_ahead = isinstance(random_state, numbers.Integral)
        self._ahead: deque[dict[str, Any]] = deque()
        self._n_sampled = 0
        self._drawn: set[Hashable] = set()
        self._rest: list[dict[str, Any]] | None = None  # reversed; None until it is listed

    def sample(self, n: int) -> list[dict[str, Any]]:
        if self.space.size is None:
            return self._from_infinite(n)
        configurations: list[dict[str, Any]] = []
        while len(configurations) < n and (params := self._draw()) is not None:
            configurations.append(params)
        return configurations

    def _from_infinite(self, n: int) -> list[dict[str, Any]]:
        """Draw, if possible ahead, because many draws at once take little more time than one."""
        self._n_sampled += n
        n_refused = 0
        while (missing := n - len(self._ahead)) > 0:
            if self._may_draw_ahead:
                missing = max(missing, min(self._n_sampled + n_refused, _MOST_AHEAD))
            points = self._random_state.random_sample((missing, self.space.n_dims))
            allowed = [p for p in self.space.from_units(points) if self.space.allows(p)]
            n_refused = 0 if allowed else n_refused + missing
            self.space.check_refused(n_refused)
            self._ahead.extend(allowed)
        return [self._ahead.popleft() for _ in range(n)]

    def _draw(self) -> dict[str, Any] | None:
        if len(self._drawn) == self.space.size:
            return None
        if self._rest is None:
            n_repeats = n_refused = 0
            while n_repeats < _MAX_REPEATS and n_refused < MOST_REFUSED:
                params = self.space.from_unit(self._random_state.random_sample(self.space.n_dims))
                if not self.space.allows(params):
                    n_refused += 1
                    continue
                key = self.space.key(params)
                if key not in self._drawn:
                    self._drawn.add(key)
                    return params
                n_repeats += 1
            self._rest = self._list_rest(n_refused)
        return self._rest.pop() if self._rest else None

    def _list_rest(self, n_refused: int) -> list[dict[str, Any]]:
        """The remaining configurations in the order of draws without replacement, reversed."""
        size = self.space.size or 0
        if size > 10 * len(self._drawn) + 10_000:
            self.space.check_refused(n_refused)
            return []
        missing = {
            key: params
            for params in map(self.space.nth, range(size))
            if (key := self.space.key(params)) not in self._drawn and self.space.allows(params)
        }
        rest = list(missing.values())
        # Sorted exponential variates of these rates are draws without replacement with
        # probability proportional to the rates (Efraimidis and Spirakis, 2006).
        rates = [self.space.probability(params) for params in rest]
        with np.errstate(divide="ignore"):  # rates that underflow to 0 come last
            arrivals = self._random_state.standard_exponential(len(rest)) / rates
        return [rest[i] for i in np.argsort(-arrivals, kind="stable")]
