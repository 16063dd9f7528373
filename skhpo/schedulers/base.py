"""The interface of schedulers, and their common bookkeeping."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any

from numpy.typing import NDArray

from ..samplers import Sampler, sample_at
from ..trial import Trial

__all__ = ["Scheduler"]


class Scheduler(ABC):
    """Allots resource: decides which trials to run, by the scores that it is told.

    A search is the loop ``while trials := scheduler.ask(): run and tell each``. Trials are numbered
    in the order of `ask`, candidates in the order of sampling. A scheduler is deterministic given
    its sampler and the scores. `skhpo.testing.SchedulerContract` tests a new one.

    A subclass implements `ask`, making its trials with `new_candidates` (or `add_candidate`) and
    `new_trial`, and `record`.

    Parameters
    ----------
    sampler : Sampler
        Samples the candidates. The scheduler owns it and passes results on.

    Attributes
    ----------
    n_trials : int or None
        Trials of the whole search if no fit fails and the space is not exhausted; None if unknown.
    max_resource : int or None
        Largest resource of a candidate; None for full fits.
    looks_ahead : bool
        Whether `ask` may be called while trials run. Whole batches are then told in any order, on
        which no number, candidate or promotion depends, nor on how often `ask` was called between.

    See Also
    --------
    FullScheduler : Every candidate once.
    Hyperband : Many candidates briefly, the best ones longer.
    skhpo.SearchCV : The search that runs a scheduler.
    skhpo.samplers.Sampler : Proposes the candidates.

    Examples
    --------
    All configurations of a finite space, one after another:

    >>> from skhpo.samplers import GridSampler
    >>> from skhpo.schedulers import Scheduler
    >>> from skhpo.space import SearchSpace
    >>> class OneByOne(Scheduler):
    ...     def ask(self):
    ...         new = self.new_candidates(1)
    ...         return [self.new_trial(candidate, resource=None, tags={}) for candidate in new]
    ...
    ...     def record(self, trial, score, **more):
    ...         print(trial.params, score)
    >>> scheduler = OneByOne(GridSampler(SearchSpace({"depth": [1, 2]})))
    >>> while trials := scheduler.ask():
    ...     for trial in trials:
    ...         scheduler.tell(trial, score=trial.params["depth"] / 2)
    {'depth': 1} 0.5
    {'depth': 2} 1.0
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
        self._newly_told: list[int] = []  # since the last call of `released`
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
        values: NDArray[Any] | None = None,
        value_noise: NDArray[Any] | None = None,
        violations: NDArray[Any] | None = None,
    ) -> None:
        """Tell the result of a trial, which is passed on to the sampler.

        Parameters
        ----------
        trial : Trial
            One that `ask` returned.
        score : float
            Larger is better; NaN if the fit failed.
        noise, seconds : float or None, default=None
            Variance of the score and duration of its fits, for the sampler; see
            `skhpo.samplers.Sampler.observe`.
        values, value_noise, violations : ndarray or None, default=None
            Of several objectives, and of constraints; see there.

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
        measured = {"values": values, "violations": violations}
        known = {name: array for name, array in measured.items() if array is not None}
        more = known if value_noise is None else {**known, "value_noise": value_noise}
        self.sampler.observe(
            dict(trial.params), score, trial.resource, noise=noise, seconds=seconds, **more
        )
        self.record(trial, score, **known)

    def may_continue(self) -> set[int]:
        """Return the told trials that a trial not yet asked for may name as its parent.

        Returns
        -------
        numbers : set of int
            Numbers of trials.
        """
        return set()

    def released(self) -> Collection[int]:
        """Return the told trials that `may_continue` will never return again, each once.

        Called from time to time to delete their checkpoints. The default compares successive
        results of `may_continue`; a scheduler with many candidates overrides both methods.

        Returns
        -------
        numbers : collection of int
            Numbers of trials.
        """
        before = self._continuable.union(self._newly_told)
        self._newly_told.clear()
        self._continuable = before & self.may_continue()
        return before - self._continuable

    @abstractmethod
    def record(
        self,
        trial: Trial,
        score: float,
        *,
        values: NDArray[Any] | None = None,
        violations: NDArray[Any] | None = None,
    ) -> None:
        """Record the score of a trial, NaN for a failed one; called by `tell`.

        A scheduler for one objective need not take `values` and `violations`: they are passed only
        where the search has objectives or constraints.

        Parameters
        ----------
        trial : Trial
            One that `ask` returned.
        score : float
            Larger is better.
        values : ndarray of shape (n_objectives,), default=None
            Of all objectives, larger is better.
        violations : ndarray of shape (n_constraints,), default=None
            How far each bound is exceeded; at most 0 where it holds.
        """

    def new_candidates(self, n: int, resource: int | None = None) -> list[int]:
        """Sample configurations and number them.

        Parameters
        ----------
        n : int
            How many.
        resource : int or None, default=None
            Resource of the first trial of each, see `skhpo.samplers.sample_at`.

        Returns
        -------
        candidates : list of int
            Fewer than `n` if the space is exhausted.

        Raises
        ------
        ValueError
            If the sampler proposes what is forbidden.
        """
        first = len(self._candidates)
        for params in sample_at(self.sampler, n, resource):
            if not self.sampler.space.allows(params):
                raise ValueError(
                    f"a sampler must propose no configuration that is forbidden, but "
                    f"{type(self.sampler).__name__} proposes {params!r}; leave out those for "
                    "which space.allows(params) is False"
                )
            self._candidates.append(params)
        return list(range(first, len(self._candidates)))

    def add_candidate(self, params: dict[str, Any]) -> int:
        """Number a configuration that does not come from the sampler; return its number.

        Parameters
        ----------
        params : dict of str to object
            The configuration.

        Returns
        -------
        candidate : int
            Its number.
        """
        self._candidates.append(params)
        return len(self._candidates) - 1

    def wrap_sampler(self, wrap: Callable[[Sampler, int], Sampler]) -> None:
        """Put another sampler around that of the candidates, before any is sampled.

        Parameters
        ----------
        wrap : callable
            Maps the sampler, and the number of the first candidate that it samples, to another.
        """
        self.sampler = wrap(self.sampler, 0)

    def params_of(self, candidate: int) -> dict[str, Any]:
        """Return the configuration of a candidate.

        Parameters
        ----------
        candidate : int
            From `new_candidates` or `add_candidate`.

        Returns
        -------
        params : dict of str to object
            The configuration.
        """
        return self._candidates[candidate]

    def new_trial(
        self,
        candidate: int,
        *,
        resource: int | None,
        tags: Mapping[str, int],
        parent: int | None = None,
        number: int | None = None,
    ) -> Trial:
        """Make a trial, which is pending from now on.

        Parameters
        ----------
        candidate : int
            From `new_candidates`.
        resource : int or None
            Total resource of the candidate after the trial; None for a full fit.
        tags : mapping of str to int
            Columns of ``cv_results_``, such as the bracket.
        parent : int or None, default=None
            Number of the trial that this one continues.
        number : int or None, default=None
            A reserved number; None for the next one.

        Returns
        -------
        trial : Trial
            To be returned by `ask`.
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
