"""Hyperband: brackets of successive halving that trade candidates for resource."""

from __future__ import annotations

import math
from fractions import Fraction
from numbers import Integral, Real
from typing import Literal

from .._compat import StrOptions
from ..arguments import COUNT, Number, check_arguments
from ..samplers import Sampler
from .halving import BracketScheduler, Plan

__all__ = ["Hyperband", "exactly", "hyperband_plan"]

# A factor near 1 would make millions.
_MOST_RUNGS = 200
_CONSTRAINTS = {
    "min_resources": [COUNT],
    "max_resources": [COUNT],
    "factor": [Number(Real, 1, None, closed="neither")],
    "n_brackets": [COUNT, StrOptions({"all"})],
}


class Hyperband(BracketScheduler):
    """Hyperband [1]_: brackets from many candidates with little resource to few with all of it.

    The most aggressive bracket starts first, and each is completed before the next. While trials
    run, `ask` looks ahead into later brackets, unless the sampler learns.

    Parameters
    ----------
    sampler : Sampler
        Samples the candidates.
    min_resources : int, default=1
        The smallest resource of a candidate.
    max_resources : int, default=81
        Resource of the last rung of every bracket.
    factor : float, default=3
        Each rung has about one `factor`-th of the candidates of the one below and `factor` times
        its resource. More than 1.
    n_brackets : int or "all", default="all"
        Number of brackets, from the most aggressive one.
    n_iterations : int or None, default=1
        Number of repetitions of all brackets, each with new candidates; None is unlimited.
    full_first : bool, default=False
        Start one of the candidates of the last bracket, which get all of the resource at once,
        before all others; the work stays the same. For a configuration that is known beforehand.

    See Also
    --------
    SuccessiveHalving : One bracket.
    AsynchronousHyperband : Promotes without waiting for a rung.
    skhpo.HalvingHyperbandSearchCV : The search that uses it.

    References
    ----------
    .. [1] Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar, "Hyperband: a novel bandit-based
       approach to hyperparameter optimization", JMLR 18(185), 2018, algorithm 1.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from skhpo.samplers import RandomSampler
    >>> from skhpo.schedulers import Hyperband
    >>> from skhpo.space import SearchSpace
    >>> sampler = RandomSampler(SearchSpace({"lr": loguniform(1e-4, 1)}), random_state=0)
    >>> scheduler = Hyperband(sampler, max_resources=9)
    >>> while trials := scheduler.ask():
    ...     print([(trial.tags["bracket"], trial.resource) for trial in trials])
    ...     for trial in trials:
    ...         scheduler.tell(trial, score=-trial.params["lr"])
    [(0, 1), (0, 1), (0, 1), (0, 1), (0, 1), (0, 1), (0, 1), (0, 1), (0, 1)]
    [(0, 3), (0, 3), (0, 3)]
    [(0, 9)]
    [(1, 3), (1, 3), (1, 3), (1, 3), (1, 3)]
    [(1, 9)]
    [(2, 9), (2, 9), (2, 9)]
    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        min_resources: int = 1,
        max_resources: int = 81,
        factor: float | Fraction = 3,
        n_brackets: int | Literal["all"] = "all",
        n_iterations: int | None = 1,
        full_first: bool = False,
    ) -> None:
        brackets = hyperband_plan(min_resources, max_resources, factor, n_brackets)
        super().__init__(sampler, Plan(brackets, n_iterations, full_first=full_first))


def exactly(factor: float | Fraction) -> Fraction:
    """Convert a number to a fraction without rounding."""
    if isinstance(factor, Fraction):
        return factor
    return Fraction(int(factor) if isinstance(factor, Integral) else float(factor))


def hyperband_plan(
    min_resources: int = 1,
    max_resources: int = 81,
    factor: float | Fraction = 3,
    n_brackets: int | Literal["all"] = "all",
) -> list[list[tuple[int, int]]]:
    """The brackets of Hyperband, in exact arithmetic.

    In floating point, ``floor(log(243, 3))`` would be 4.

    Parameters
    ----------
    min_resources, max_resources, factor, n_brackets
        As in `Hyperband`.

    Returns
    -------
    plan : list of list of (n_candidates, resource)
        Brackets, most aggressive first, each with its rungs from the bottom up. Rungs whose
        levels coincide after rounding down are one rung.

    Raises
    ------
    TypeError
        If an argument is not a number of the right kind.
    ValueError
        If ``1 <= min_resources <= max_resources``, ``factor > 1`` or
        ``1 <= n_brackets <= number of brackets`` does not hold.

    Examples
    --------
    >>> from skhpo.schedulers import hyperband_plan
    >>> for bracket in hyperband_plan(max_resources=27):
    ...     print(bracket)
    [(27, 1), (9, 3), (3, 9), (1, 27)]
    [(12, 3), (4, 9), (1, 27)]
    [(6, 9), (2, 27)]
    [(4, 27)]
    """
    check_arguments(
        "Hyperband",
        _CONSTRAINTS,
        min_resources=min_resources,
        max_resources=max_resources,
        factor=factor,
        n_brackets=n_brackets,
    )
    min_resources, max_resources = int(min_resources), int(max_resources)
    if min_resources > max_resources:
        raise ValueError(
            "min_resources <= max_resources must hold, but got "
            f"(min_resources={min_resources}, max_resources={max_resources})"
        )
    ratio = exactly(factor)
    _check_n_rungs(min_resources, max_resources, ratio)
    s_max = 0
    while min_resources * ratio ** (s_max + 1) <= max_resources:
        s_max += 1
    n_kept = s_max + 1 if isinstance(n_brackets, str) else int(n_brackets)
    if n_kept > s_max + 1:
        raise ValueError(
            f"1 <= n_brackets <= {s_max + 1} must hold with these resources and factor, "
            f"but got n_brackets={n_kept}; 'all' takes all {s_max + 1}"
        )
    return [
        _rungs(s, s_max, min_resources, max_resources, ratio)
        for s in range(s_max, s_max - n_kept, -1)
    ]


def _check_n_rungs(min_resources: int, max_resources: int, factor: Fraction) -> None:
    """Raise ValueError if there are too many rungs, before any is made."""
    # By logarithms, as the numbers may be too large for floats.
    ratio = math.log(max_resources) - math.log(min_resources)
    n_rungs = 1 + math.floor(ratio / math.log1p(float(factor - 1)) + 1e-9)
    if n_rungs > _MOST_RUNGS:
        raise ValueError(
            f"a bracket may have at most {_MOST_RUNGS} rungs, but factor={float(factor)!r}, "
            f"min_resources={min_resources} and max_resources={max_resources} make {n_rungs:,}; "
            "use a larger factor, 3 is usual"
        )


def _rungs(
    s: int, s_max: int, min_resources: int, max_resources: int, factor: Fraction
) -> list[tuple[int, int]]:
    """Bracket s of algorithm 1."""
    n = math.ceil((s_max + 1) * factor**s / (s + 1))
    rungs: list[tuple[int, int]] = []
    for i in range(s + 1):
        level = max(min_resources, math.floor(max_resources / factor ** (s - i)))
        if not rungs or level > rungs[-1][1]:
            rungs.append((math.floor(n / factor**i), level))
    return rungs
