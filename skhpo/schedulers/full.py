"""The same resource for every candidate."""

from __future__ import annotations

from typing import Any

from ..arguments import COUNT, check_arguments
from ..samplers import Sampler
from ..trial import Trial
from .base import Scheduler

__all__ = ["FullScheduler"]


# Trials per `ask`: planned trials take memory, but those planned together may be trained together.
_AT_ONCE = 500
_NO_TAGS: dict[str, int] = {}


class FullScheduler(Scheduler):
    """Every candidate once, with a full fit: random, grid and model-based search.

    Each candidate is one trial; nothing is promoted.

    Parameters
    ----------
    sampler : Sampler
        Samples the candidates.
    n_candidates : int
        Number of candidates.
    batch_size : int or None, default=None
        Candidates that run at a time. None is one if the sampler learns, else there is no limit,
        and `ask` returns hundreds.
    resource : int or None, default=None
        Resource of each candidate; None for that of the estimator.
    asynchronous : bool, default=False
        `ask` returns one more candidate however many are pending; the caller decides how many run
        at a time, and `batch_size` is ignored.

    See Also
    --------
    Hyperband : Trains most candidates briefly.
    skhpo.SearchCV : The search that runs it.

    Examples
    --------
    >>> from skhpo.samplers import RandomSampler
    >>> from skhpo.schedulers import FullScheduler
    >>> from skhpo.space import SearchSpace
    >>> sampler = RandomSampler(SearchSpace({"alpha": [0.1, 1, 10]}), random_state=0)
    >>> scheduler = FullScheduler(sampler, n_candidates=2)
    >>> [trial.params for trial in scheduler.ask()]
    [{'alpha': 1}, {'alpha': 10}]
    """

    def __init__(
        self,
        sampler: Sampler,
        n_candidates: int,
        batch_size: int | None = None,
        resource: int | None = None,
        *,
        asynchronous: bool = False,
    ) -> None:
        super().__init__(sampler)
        check_arguments(
            "FullScheduler",
            {"n_candidates": [COUNT], "batch_size": [COUNT, None], "resource": [COUNT, None]},
            n_candidates=n_candidates,
            batch_size=batch_size,
            resource=resource,
        )
        self.n_trials: int = int(n_candidates)
        self.max_resource = None if resource is None else int(resource)
        self.looks_ahead = batch_size is None and not sampler.learns
        self._batch_size = 1 if batch_size is None else int(batch_size)
        self._asynchronous = asynchronous

    def ask(self) -> list[Trial]:
        if self._asynchronous:
            room = 1
        elif self.looks_ahead:
            room = _AT_ONCE
        else:
            room = self._batch_size - len(self._pending)
        room = min(room, self.n_trials - len(self._candidates))
        candidates = self.new_candidates(room, self.max_resource)
        return [
            self.new_trial(candidate, resource=self.max_resource, tags=_NO_TAGS)
            for candidate in candidates
        ]

    def record(self, trial: Trial, score: float, **more: Any) -> None:
        pass
