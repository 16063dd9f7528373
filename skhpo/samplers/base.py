"""The interface of samplers."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar

from numpy.typing import NDArray

from .. import space as spaces

__all__ = ["Sampler", "sample_at"]


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

        The default proposes one and replaces it. A sampler that computes its proposals, and whose
        later ones need not be the same in all processes, spares itself the computation.

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
