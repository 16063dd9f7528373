"""What a search expects of a scheduler, and the bookkeeping that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

from ..samplers import Sampler, sample_at
from ..trial import Trial

__all__ = ["Scheduler"]


class Scheduler(ABC):
    """Allots resource: says which trials to run, and is told how they scored.

    A search is the loop ``while trials := scheduler.ask(): run and tell each``. In that loop trials
    are numbered in the order they are asked for; candidates are numbered in the order they are
    sampled. A scheduler is deterministic given its sampler and what it was told.
    `skhpo.testing.SchedulerContract` tests a new one.

    A subclass implements `ask`, making its trials with `new_candidates` and `new_trial`, and
    `record`.

    Parameters
    ----------
    sampler : Sampler
        Where the candidates come from. The scheduler owns it and passes results on.

    Attributes
    ----------
    n_trials : int or None
        Trials that the whole search takes if no fit fails and the space is not exhausted; None
        where that is unknown.
    max_resource : int or None
        The most that any candidate is given; None for full fits.
    looks_ahead : bool
        Whether `ask` may be called again while trials run. Whole batches are then told in any
        order, and no number, candidate or promotion depends on that order, nor on how often
        `ask` was called between.
    """

    n_trials: int | None = None
    max_resource: int | None = None
    looks_ahead: bool = False

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self._candidates: list[dict[str, Any]] = []
        self._next_number = 0
        self._pending: dict[int, Trial] = {}
        self._is_told = bytearray()  # by number
        self._newly_told: list[int] = []  # that `released` has not looked at
        self._continuable: set[int] = set()

    @abstractmethod
    def ask(self) -> list[Trial]:
        """The trials to start next; the search is over when there are none and none is running."""

    def tell(
        self,
        trial: Trial,
        score: float,
        *,
        noise: float | None = None,
        seconds: float | None = None,
    ) -> None:
        """Take the result of a trial and pass it on to the sampler.

        Parameters
        ----------
        trial : Trial
            One that was asked for.
        score : float
            Larger is better; NaN where the fit failed.
        noise, seconds : float or None, default=None
            Variance of the score, and what its fits took: for the sampler, as in
            `skhpo.samplers.Sampler.observe`.

        Raises
        ------
        ValueError
            If the trial was not asked for, or has been told already.
        """
        if trial.number not in self._pending:
            told = any(self._is_told[trial.number : trial.number + 1])
            raise ValueError(
                "every trial that was asked for is told once, but trial "
                f"{trial.number} {'has been told already' if told else 'was not asked for'}"
            )
        asked = self._pending[trial.number]
        if (trial.candidate, trial.resource) != (asked.candidate, asked.resource):
            raise ValueError(
                "only trials that were asked for are told, but trial "
                f"{trial.number} was asked for as {asked}, not as {trial}"
            )
        del self._pending[trial.number]
        self._is_told.extend(bytes(max(0, trial.number + 1 - len(self._is_told))))
        self._is_told[trial.number] = True
        self._newly_told.append(trial.number)
        self.sampler.observe(
            dict(trial.params), score, trial.resource, noise=noise, seconds=seconds
        )
        self.record(trial, score)

    def may_continue(self) -> set[int]:
        """Numbers of told trials that a trial not yet asked for may name as its parent."""
        return set()

    def released(self) -> Collection[int]:
        """Numbers of told trials that `may_continue` will not name any more, each once.

        Called now and then to drop what they would be continued from. The default compares what
        `may_continue` says with what it said before; where that is long a scheduler overrides
        both methods, and notes who drops out when a score is recorded.
        """
        before = self._continuable.union(self._newly_told)
        self._newly_told.clear()
        self._continuable = before & self.may_continue()
        return before - self._continuable

    @abstractmethod
    def record(self, trial: Trial, score: float) -> None:
        """Note the score of a trial, NaN for a failed one; `tell` calls it."""

    def new_candidates(self, n: int, resource: int | None = None) -> list[int]:
        """Sample configurations and number them.

        Parameters
        ----------
        n : int
        resource : int or None, default=None
            What the first trial of each will be given, see `skhpo.samplers.sample_at`.

        Returns
        -------
        candidates : list of int
            Fewer than `n` where the space is exhausted.
        """
        first = len(self._candidates)
        self._candidates.extend(sample_at(self.sampler, n, resource))
        return list(range(first, len(self._candidates)))

    def new_trial(
        self,
        candidate: int,
        *,
        resource: int | None,
        tags: Mapping[str, int],
        parent: int | None = None,
        number: int | None = None,
    ) -> Trial:
        """Make a trial, which runs from now on.

        Parameters
        ----------
        candidate : int
            From `new_candidates`.
        resource, tags, parent
            As of a `skhpo.trial.Trial`.
        number : int or None, default=None
            One that was reserved; None for the next.
        """
        if number is None:
            number = self._next_number
        trial = Trial(
            number=number,
            candidate=candidate,
            params=self._candidates[candidate],
            resource=resource,
            parent=parent,
            tags=tags,
        )
        self._next_number = max(self._next_number, number + 1)
        self._pending[trial.number] = trial
        return trial
