"""Every candidate gets the same resource."""

from __future__ import annotations

from ..arguments import COUNT, check_arguments
from ..samplers import Sampler
from ..trial import Trial
from .base import Scheduler

__all__ = ["FullScheduler"]


# What is planned and does not run takes memory; what is planned together may be trained together.
_AT_ONCE = 500
_NO_TAGS: dict[str, int] = {}


class FullScheduler(Scheduler):
    """Every candidate once, with a full fit: random, grid and model-based search.

    Parameters
    ----------
    sampler : Sampler
        Where the candidates come from.
    n_candidates : int
        How many.
    batch_size : int or None, default=None
        How many run at a time. None means one where the sampler learns; else as many as there is
        room for, asked for by hundreds.
    asynchronous : bool, default=False
        `ask` gives one more candidate however many are pending, so that whoever asks decides how
        many run at a time. `batch_size` is not used then.
    resource : int or None, default=None
        What each candidate is given; None for whatever the estimator itself says.

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

    def record(self, trial: Trial, score: float) -> None:
        pass
