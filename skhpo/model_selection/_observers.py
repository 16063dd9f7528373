"""Those who watch a search: the user's callbacks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..space import SearchSpace

__all__ = ["Callbacks", "SearchStart"]


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


_EVENTS = ("on_search_begin", "on_fit_end", "on_trial_end", "on_search_end")


class Callbacks:
    """Passes events on to the search callbacks that implement them.

    Parameters
    ----------
    search : estimator
    callbacks : sequence of object

    Raises
    ------
    TypeError
        If one of them implements none of the events, or is a class.
    """

    def __init__(self, search, callbacks):
        for callback in callbacks:
            _check_callback(callback)
        self.search = search
        self.callbacks = callbacks

    @property
    def want_start(self):
        """Whether one of them is told of the beginning."""
        return any(hasattr(callback, "on_search_begin") for callback in self.callbacks)

    @property
    def want_curves(self):
        """Whether one of them asks for learning curves."""
        return any(getattr(callback, "curves", None) is True for callback in self.callbacks)

    def on_search_begin(self, start):
        self._call("on_search_begin", start)

    def on_ask(self, trials):
        pass

    def on_fit_end(self, trial, result):
        self._call("on_fit_end", trial, result)

    def on_trial_end(self, trial, results, score):
        self._call("on_trial_end", trial, results, score)

    def on_search_end(self):
        self._call("on_search_end")

    def _call(self, event, *args):
        for callback in self.callbacks:
            method = getattr(callback, event, None)
            if method is not None:
                method(self.search, *args)


def _check_callback(callback):
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
