"""Those who watch a search: observers of its loop, one of which calls the user's callbacks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..space import SearchSpace
from ..trial import FitResult, Trial

if TYPE_CHECKING:
    from ..evaluation import FitContexts

__all__ = ["Callbacks", "Observer", "SearchCallback", "SearchStart", "contexts_of"]


@dataclass(frozen=True, slots=True)
class SearchStart:
    """What search callbacks are told before anything is trained.

    Parameters
    ----------
    space : SearchSpace
    metrics : tuple of str or None
        Names of the scores; None where a callable `scoring` decides when it is called.
    max_resource : int or None
        The largest resource of a trial, where known.
    identity : str
        Equal for two calls of ``fit`` of one and the same search (one goes on with the journal of
        the other, or all that results depend on is the same), different for any other search.
    known : collection of (int, int, int)
        Trial, split and repeat of the fits that the journal answers.
    """

    space: SearchSpace
    metrics: tuple[str, ...] | None
    max_resource: int | None
    identity: str
    known: Collection[tuple[int, int, int]]


class SearchCallback(Protocol):
    """What may be an item of `callbacks` of a search: an object with at least one of these methods.

    They are called in the process that called ``fit``, in this order; what they raise ends the
    search. One that has an attribute ``curves``, and it is True, finds learning curves in results.
    """

    def on_search_begin(self, search: Any, start: SearchStart) -> None:
        """Called before anything is trained.

        Parameters
        ----------
        search : estimator
            With `param_distributions_` and `n_splits_`.
        start : SearchStart
        """

    def on_fit_end(self, search: Any, trial: Trial, result: FitResult) -> None:
        """Called for every fit, in finishing order; also for those that a journal answers."""

    def on_trial_end(
        self, search: Any, trial: Trial, results: Sequence[FitResult], score: float
    ) -> bool | None:
        """Called when all fits of a trial have ended, in the order in which the scheduler is told.

        One that returns True stops the search: no new fit starts, those that run are waited for,
        and the best of what is finished is refitted.

        Parameters
        ----------
        search : estimator
        trial : Trial
        results : sequence of FitResult
            By split and repeat.
        score : float
            What the scheduler is told; NaN where the trial failed.

        Returns
        -------
        bool or None
            True to stop.
        """

    def on_search_end(self, search: Any) -> None:
        """Called after the refit, also where the search was cut short; not where ``fit`` raises."""


# The methods of `SearchCallback`.
_EVENTS = ("on_search_begin", "on_fit_end", "on_trial_end", "on_search_end")


class Observer:
    """What a loop reports to; by default nothing happens."""

    def on_ask(self, trials: Sequence[Trial]) -> None:
        """Take note of trials that start."""

    def on_fit_end(self, trial: Trial, result: FitResult) -> None:
        """Take note of a fit, in finishing order."""

    def on_trial_end(self, trial: Trial, results: Sequence[FitResult], score: float) -> bool | None:
        """Take note of what the scheduler was told; True ends the loop."""


class Callbacks(Observer):
    """Passes events on to the search callbacks that implement them.

    Parameters
    ----------
    search : estimator
    callbacks : sequence of SearchCallback

    Raises
    ------
    TypeError
        If one of them implements none of the events, or is a class.
    """

    def __init__(self, search: Any, callbacks: Sequence[Any]) -> None:
        for callback in callbacks:
            _check_callback(callback)
        self.search = search
        self.callbacks = callbacks

    @property
    def want_start(self) -> bool:
        """Whether one of them is told of the beginning."""
        return any(hasattr(callback, "on_search_begin") for callback in self.callbacks)

    @property
    def want_curves(self) -> bool:
        """Whether one of them asks for learning curves."""
        return any(getattr(callback, "curves", None) is True for callback in self.callbacks)

    def on_search_begin(self, start: SearchStart) -> None:
        self._call("on_search_begin", start)

    def on_fit_end(self, trial: Trial, result: FitResult) -> None:
        self._call("on_fit_end", trial, result)

    def on_trial_end(self, trial: Trial, results: Sequence[FitResult], score: float) -> bool:
        return self._call("on_trial_end", trial, results, score)

    def on_search_end(self) -> None:
        self._call("on_search_end")

    def _call(self, event: str, *args: Any) -> bool:
        """Call all that have a method; return whether one of them returned True."""
        wants_end = False
        for callback in self.callbacks:
            method = getattr(callback, event, None)
            if method is not None:
                wants_end = method(self.search, *args) is True or wants_end
        return wants_end


def _check_callback(callback: Any) -> None:
    if isinstance(callback, type):
        fix = f"call it: {callback.__name__}()"
    elif any(callable(getattr(callback, event, None)) for event in _EVENTS):
        return
    elif hasattr(callback, "on_fit_task_begin"):
        fix = "callbacks of scikit-learn are set by set_callbacks"
    else:
        fix = "leave it out, or give it one of them"
    raise TypeError(
        f"callbacks of a search must have a method {', '.join(_EVENTS[:-1])} or {_EVENTS[-1]}, but "
        f"got {callback!r}; {fix}"
    )


def contexts_of(search: Any, context: Any) -> FitContexts | None:
    """Return what callbacks of scikit-learn are told of fits, None where there are no callbacks."""
    from ..evaluation import FitContexts

    parts = [search, search.estimator, *search.estimator.get_params().values()]
    watched = any(getattr(part, "_skl_callbacks", None) for part in parts)
    return FitContexts(search, context) if watched else None
