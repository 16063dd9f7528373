"""The interface of samplers, and their names for ``sampler=`` of the searches."""

from __future__ import annotations

import difflib
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar

from numpy.typing import NDArray

from .. import space as spaces

__all__ = ["Sampler", "made", "named", "register", "sample_at"]


class Sampler(ABC):
    """Proposes configurations, and may learn from their scores.

    A sampler is deterministic given its seed, the calls of `sample` and its observations.
    `skhpo.testing.SamplerContract` tests a new one.

    Parameters
    ----------
    space : SearchSpace
        The space of the configurations.

    Attributes
    ----------
    learns : bool
        Whether later configurations depend on observations. Schedulers then ask for few at a time.

    See Also
    --------
    RandomSampler : Draws at random.
    GridSampler : All configurations in order.
    BayesSampler : A Gaussian process over the scores.
    skhpo.schedulers.Scheduler : Decides how long a configuration is trained.

    Examples
    --------
    >>> import numpy as np
    >>> from skhpo.samplers import Sampler
    >>> from skhpo.space import SearchSpace
    >>> class Centre(Sampler):
    ...     def sample(self, n):
    ...         return self.space.from_units(np.full((n, self.space.n_dims), 0.5))
    >>> Centre(SearchSpace({"x": [1, 2, 3]})).sample(2)
    [{'x': 2}, {'x': 2}]
    """

    learns: ClassVar[bool] = False

    def __init__(self, space: spaces.SearchSpace) -> None:
        self.space = space

    @abstractmethod
    def sample(self, n: int) -> list[dict[str, Any]]:
        """Return the next `n` configurations.

        Parameters
        ----------
        n : int
            Number of configurations.

        Returns
        -------
        configurations : list of dict
            Fewer than `n` if the space is exhausted.

        Notes
        -----
        A subclass may take the keyword ``resource=None``, the level of resource at which the
        configurations start; see `sample_at`.
        """

    def observe(  # noqa: B027
        self,
        params: dict[str, Any],
        score: float,
        resource: int | None,
        *,
        noise: float | None = None,
        seconds: float | None = None,
        values: NDArray[Any] | None = None,
        value_noise: NDArray[Any] | None = None,
        violations: NDArray[Any] | None = None,
    ) -> None:
        """Observe a score; ignored by default.

        The last three are passed only where a search has objectives or constraints, so that a
        sampler for one objective need not take them.

        Parameters
        ----------
        params : dict of str to object
            The configuration.
        score : float
            Larger is better; NaN if the fit failed.
        resource : int or None
            Total resource of the configuration; None for a full fit.
        noise : float or None, default=None
            Variance of the score, a mean over splits and repeats; None if unknown.
        seconds : float or None, default=None
            Duration of the fits of all splits and repeats; None if unknown.
        values : ndarray of shape (n_objectives,), default=None
            Of all objectives, larger is better: means over splits and repeats, NaN where there is
            none. None where the search has one objective, which then is `score`.
        value_noise : ndarray of shape (n_objectives,), default=None
            Variance of each value, NaN where it is unknown; given with `values`.
        violations : ndarray of shape (n_constraints,), default=None
            How far each bound is exceeded, relative to the bound (``value - 1`` for a `value` in
            units of it): at most 0 where it holds, NaN where it is unknown. None without
            constraints. A configuration that is known to break one before it is fitted is not
            fitted: `score` and `values` are NaN and a violation is positive.
        """

    def observe_elsewhere(  # noqa: B027
        self,
        params: dict[str, Any],
        score: float,
        *,
        noise: float | None = None,
        seconds: float | None = None,
        values: NDArray[Any] | None = None,
        value_noise: NDArray[Any] | None = None,
        violations: NDArray[Any] | None = None,
    ) -> None:
        """Observe a score of another task: other data, another metric, another estimator.

        Such scores indicate where good configurations may be, not how good they are here. Ignored
        by default.

        Parameters
        ----------
        params, score, noise, seconds, values, value_noise, violations : object
            As in `observe`, at the largest resource of that task.
        """

    def replace(self, params: dict[str, Any], by: dict[str, Any]) -> None:  # noqa: B027
        """Note that another configuration runs instead of a proposed one; ignored by default.

        Parameters
        ----------
        params, by : dict of str to object
            The proposed configuration, and the one that runs.
        """

    def adopt(self, params: dict[str, Any], resource: int | None = None) -> None:
        """Take a configuration from another process in the place of the next proposal.

        The default proposes one and replaces it. A sampler that computes its proposals spares
        itself the computation, where later ones need not be the same in all processes, or where
        none are to come.

        Parameters
        ----------
        params : dict of str to object
            The configuration, which runs now.
        resource : int or None, default=None
            As of `sample_at`.
        """
        for proposed in sample_at(self, 1, resource):
            if self.space.key(proposed) != self.space.key(params):
                self.replace(proposed, params)


def sample_at(sampler: Sampler, n: int, resource: int | None) -> list[dict[str, Any]]:
    """Return the next configurations of a sampler, for a level of resource.

    Parameters
    ----------
    sampler : Sampler
    n : int
    resource : int or None
        Resource of the first trial of each; passed on if `sample` has such an argument.
    """
    if _takes_resource(getattr(sampler.sample, "__func__", sampler.sample)):
        return sampler.sample(n, resource=resource)  # type: ignore[call-arg]
    return sampler.sample(n)


@lru_cache(maxsize=64)
def _takes_resource(sample: Callable[..., Any]) -> bool:
    return "resource" in inspect.signature(sample).parameters


MakeSampler = Callable[["spaces.SearchSpace", int], Sampler]

# Those of this package by their classes, which are imported when they are asked for.
_known: dict[str, str | MakeSampler] = {"bayes": "BayesSampler", "random": "RandomSampler"}
_AUTO = "auto"  # of HalvingHyperbandSearchCV, which replaces it by one of these names


def register(name: str, make: MakeSampler) -> None:
    """Give a sampler a name, which ``sampler=`` of the searches accepts from then on.

    Registered in this process only: a script that continues a journal must register it, too.

    Parameters
    ----------
    name : str
        A new name. A class or function that is defined again, as in a cell of a notebook that
        runs again, replaces the one before.
    make : callable
        Called as ``make(space, random_state)`` with a `SearchSpace` and an integer; returns a
        `Sampler`. A subclass of `Sampler` with these parameters is one.

    Raises
    ------
    ValueError
        If the name has another sampler already, or is "auto".
    TypeError
        If `make` is not callable.

    Examples
    --------
    >>> from skhpo import HalvingHyperbandSearchCV
    >>> from skhpo.samplers import RandomSampler, register
    >>> class Twice(RandomSampler):
    ...     '''Draws each configuration twice.'''
    ...     def sample(self, n):
    ...         return [params for params in super().sample(n - n // 2) for _ in range(2)][:n]
    >>> register("twice", Twice)
    >>> search = HalvingHyperbandSearchCV(None, {}, sampler="twice")
    """
    if not callable(make):
        raise TypeError(
            f"make must be callable as make(space, random_state), but got {make!r}; pass a class "
            "or a function"
        )
    if name == _AUTO:
        raise ValueError(
            f"{_AUTO!r} leaves the choice of a sampler to the search, and cannot be the name of "
            "one; choose another name"
        )
    if name in _known and _origin(named(name)) != _origin(make):
        raise ValueError(
            f"a name stands for one sampler, but {name!r} is {named(name)!r} already; choose "
            "another name"
        )
    _known[name] = make


def _origin(make: MakeSampler) -> Any:
    if not hasattr(make, "__qualname__"):
        return make
    return make.__module__, make.__qualname__


def named(name: str) -> MakeSampler:
    """Return what was registered under a name.

    Raises
    ------
    ValueError
        If the name is not known.
    """
    if name not in _known:
        names = sorted([_AUTO, *_known])
        near = difflib.get_close_matches(name, names, n=1)
        raise ValueError(
            f"The 'sampler' parameter must be one of the names {names}, a Sampler or a "
            f"callable. Got {name!r} instead"
            + (f" (did you mean {near[0]!r}?)" if near else "")
            + "; skhpo.samplers.register adds a name"
        )
    made = _known[name]
    return getattr(sys.modules[__package__], made) if isinstance(made, str) else made


def made(sampler: Any, space: spaces.SearchSpace, random_state: int) -> Sampler:
    """Return the sampler that a name, or a callable as `register` takes, stands for.

    Raises
    ------
    ValueError
        If the name is not known.
    TypeError
        If the callable returns anything else than a `Sampler`.
    """
    found: object = (named(sampler) if isinstance(sampler, str) else sampler)(space, random_state)
    if not isinstance(found, Sampler):
        raise TypeError(
            f"a callable sampler must return a skhpo.samplers.Sampler, but {sampler!r} returned "
            f"{found!r}"
        )
    return found
