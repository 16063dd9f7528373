"""What the stages of Harmonica found, as plain lists and tables, and what follows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import samplers, schedulers

if TYPE_CHECKING:
    from ..schedulers import Scheduler
    from ..space import SearchSpace

__all__ = ["full_base", "hyperband_base", "important_parameters", "iterations", "stage_table"]


def stage_table(space: SearchSpace, stage: Any) -> dict[str, Any]:
    """Return a stage as a dict of plain values.

    Returns
    -------
    dict
        An item of `stages_`, see `HarmonicaSearchCV`.
    """
    region = stage.region
    first = len(region.terms) - len(stage.terms)
    return {
        "n_samples": stage.n_samples,
        "n_failed": stage.n_failed,
        "mean_score": stage.mean_score,
        "best_score": stage.best_score,
        "intercept": stage.intercept,
        "terms": [
            {"term": _label(space, term), "coefficient": term.coefficient, "share": share}
            for term, share in zip(stage.terms, stage.shares, strict=True)
        ],
        "explained": stage.explained,
        "restrictions": [
            {"terms": list(pattern[first:]), "score": stage.intercept + sum(pattern)}
            for pattern in region.patterns
            if stage.terms
        ],
    }


def _label(space: SearchSpace, term: Any) -> list[tuple[str, str]]:
    """Return pairs of a parameter and the values for which its function is positive."""
    return [
        (space.dimensions[factor.dimension].name or "dict", factor.label)
        for factor in term.factors
        if factor.label is not None
    ]


def important_parameters(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the terms of all stages as a table: dict of str to ndarray.

    Parameters
    ----------
    stages : list of dict
        `stages_` of a search.
    """
    rows = [
        {
            "stage": number,
            "parameters": tuple(dict.fromkeys(name for name, _ in term["term"])),
            **term,
        }
        for number, stage in enumerate(stages)
        for term in stage["terms"]
    ]
    table = {
        "stage": np.array([row["stage"] for row in rows], dtype=int),
        "parameters": _objects([row["parameters"] for row in rows]),
        "term": _objects([row["term"] for row in rows]),
    }
    for name in ("coefficient", "share"):
        table[name] = np.array([row[name] for row in rows], dtype=float)
    return table


def _objects(values: Sequence[Any]) -> NDArray[np.object_]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def hyperband_base(
    space: SearchSpace,
    random_state: int,
    *,
    sampler: str,
    kind: Callable[..., Scheduler],
    **kwargs: Any,
) -> Scheduler:
    """Return Hyperband over the rest of a space."""
    return kind(samplers.made(sampler, space, random_state), **kwargs)


def iterations(search: Any, space: SearchSpace, limits: tuple[int, int], amount: int) -> int:
    """Return how often Hyperband repeats its brackets after the stages of a search.

    Parameters
    ----------
    search : HarmonicaSearchCV
    space : SearchSpace
    limits : tuple of int
        The smallest and the largest resource of Hyperband.
    amount : int
        What each sample of the stages is given of it.
    """
    from ..schedulers.harmonica import samples_of_stage

    if isinstance(search.n_iterations, Integral):
        return int(search.n_iterations)
    arguments = search.n_samples, search.n_terms, search.n_stages, search.degree
    n_samples: int = search.n_stages * samples_of_stage(space, *arguments)
    n_samples = n_samples if space.size is None else min(n_samples, space.size)
    brackets = schedulers.hyperband_plan(*limits, search.factor, search.n_brackets)
    once = sum(  # a candidate that is promoted goes on
        n * (level - below)
        for rungs in brackets
        for (n, level), (_, below) in zip(rungs, [(0, 0), *rungs], strict=False)
    )
    return max(1, round(n_samples * amount / once))


def full_base(
    space: SearchSpace,
    random_state: int,
    *,
    sampler: str,
    n_candidates: int,
    resource: int | None,
    asynchronous: bool,
) -> Scheduler:
    """Return full fits of candidates of the rest of a space."""
    return schedulers.FullScheduler(
        samplers.made(sampler, space, random_state),
        n_candidates,
        resource=resource,
        asynchronous=asynchronous,
    )
