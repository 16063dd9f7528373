"""What a scheduler expects of a sampler."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar

from ..space import SearchSpace

__all__ = ["Sampler", "sample_at"]


class Sampler(ABC):
    """Proposes configurations, and may listen to how they scored.

    A sampler is deterministic given its seed, the calls of `sample` and what it observed.
    `skhpo.testing.SamplerContract` tests a new one.

    Parameters
    ----------
    space : SearchSpace
        Where the configurations come from.

    Attributes
    ----------
    learns : bool
        Whether later configurations depend on what was observed. Schedulers then ask for few
        at a time.
    """

    learns: ClassVar[bool] = False

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    @abstractmethod
    def sample(self, n: int) -> list[dict[str, Any]]:
        """The next `n` configurations.

        Parameters
        ----------
        n : int
            How many.
        resource : int or None
            A keyword that a subclass may take: ``sample(n, *, resource=None)`` is told the level of
            resource at which the configurations start. See `sample_at`.

        Returns
        -------
        configurations : list of dict
            Fewer than `n` where the space is exhausted.
        """

    def observe(  # noqa: B027
        self,
        params: dict[str, Any],
        score: float,
        resource: int | None,
        *,
        noise: float | None = None,
        seconds: float | None = None,
    ) -> None:
        """Take note of a score; the default does not listen.

        Parameters
        ----------
        params : dict of str to object
            The configuration.
        score : float
            Larger is better; NaN where the fit failed.
        resource : int or None
            What it was given in total; None for a full fit.
        noise : float or None, default=None
            Variance of the score, as the mean over splits and repeats that it is; None where
            that is unknown.
        seconds : float or None, default=None
            What the fits took, all splits and repeats together; None where that is unknown.
        """

    def observe_elsewhere(  # noqa: B027
        self,
        params: dict[str, Any],
        score: float,
        *,
        noise: float | None = None,
        seconds: float | None = None,
    ) -> None:
        """Take note of a score of another task: other data, another metric, another estimator.

        Such scores say where good configurations may be, and not how good they are here. The
        default does not listen.

        Parameters
        ----------
        params, score, noise, seconds
            As of `observe`, at the largest resource there was.
        """

    def replace(self, params: dict[str, Any], by: dict[str, Any]) -> None:  # noqa: B027
        """Take note that another configuration runs instead of one that was proposed.

        The default does nothing.

        Parameters
        ----------
        params, by : dict of str to object
            The configuration of `sample`, and what runs.
        """


def sample_at(sampler: Sampler, n: int, resource: int | None) -> list[dict[str, Any]]:
    """Return the next configurations of a sampler, for a level of resource.

    Parameters
    ----------
    sampler : Sampler
    n : int
    resource : int or None
        What the first trial of each will be given. Passed on if `sample` of the sampler has such
        an argument.
    """
    if _takes_resource(getattr(sampler.sample, "__func__", sampler.sample)):
        return sampler.sample(n, resource=resource)  # type: ignore[call-arg]
    return sampler.sample(n)


@lru_cache(maxsize=64)
def _takes_resource(sample: Callable[..., Any]) -> bool:
    return "resource" in inspect.signature(sample).parameters
