"""The goals of a search (objectives, constraints of candidates), and what a scheduler is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arguments import nearest_first
from ..objectives import bound_violations, pareto_ranks, total_violation
from ..results import mean_measure, mean_score, variance_of_mean
from ..scorers import get_scorer_names
from ..trial import FitResult

__all__ = ["Constraint", "Goals", "Told", "check_rule", "goals_of", "n_splits_done"]


class Told(NamedTuple):
    """What a scheduler is told of a trial; see `skhpo.samplers.Sampler.observe`."""

    score: float
    noise: float | None
    seconds: float
    values: NDArray[np.float64] | None = None
    value_noise: NDArray[np.float64] | None = None
    violations: NDArray[np.float64] | None = None

    @property
    def is_feasible(self) -> bool:
        """Whether all constraints hold."""
        return self.violations is None or bool((self.violations <= 0).all())

    def on_part(self, n_done: int, n_splits: int, whole: Told | None) -> Told:
        """Return what is told where a trial was fitted on some of the splits only.

        Fewer splits say less of the mean, and how much less one split alone does not say: scores
        are taken to vary over the splits as much as those of another trial do, at least.

        Parameters
        ----------
        n_done, n_splits : int
            Splits that were fitted, and all of them.
        whole : Told or None
            Of a trial that was fitted on all, the best one; None for none.
        """

        def larger(own: Any, usual: Any) -> NDArray[np.float64]:
            # None becomes NaN, which means unknown.
            per_split = np.array(own, float) * n_done, np.array(usual, float) * n_splits
            return np.asarray(np.fmax(*per_split) / n_done)

        noise = float(larger(self.noise, None if whole is None else whole.noise))
        told = self._replace(noise=noise if noise > 0 else None)
        if self.value_noise is None:
            return told
        usual = None if whole is None else whole.value_noise
        return told._replace(value_noise=larger(self.value_noise, usual))

    @property
    def more(self) -> dict[str, Any]:
        """The values beside the score, by keyword."""
        fields = self._asdict()
        del fields["score"]
        always = ("noise", "seconds")
        return {k: v for k, v in fields.items() if v is not None or k in always}


def n_splits_done(results: Sequence[FitResult]) -> int:
    """Return on how many splits a trial was fitted."""
    return len({result.split for result in results if not result.is_left_out})


@dataclass(frozen=True)
class Constraint:
    """Bounds of a number that each candidate has: the mean over splits and repeats.

    Parameters
    ----------
    name : str
    of : "metric", "attribute" or callable
        Where the number comes from; an attribute unless it turns out to be a metric, where a
        callable `scoring` decides.
    low, high : float or None
        None is no bound.
    """

    name: str
    of: Any
    low: float | None
    high: float | None

    def violations(self, value: Any) -> list[Any]:
        """Return how far each bound is exceeded, relative to the bound; of one value or several."""
        return bound_violations(value, self.low, self.high)


@dataclass(frozen=True)
class Goals:
    """Objectives and constraints of a search.

    Parameters
    ----------
    objectives : tuple of str
        Names of metrics; empty where the search has one objective.
    constraints : tuple of Constraint
    are_checked : bool, default=True
        Whether the metrics are known; a callable `scoring` shows them when it is called.
    """

    objectives: tuple[str, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    are_checked: bool = True

    def __bool__(self) -> bool:
        return bool(self.objectives or self.constraints)

    @property
    def measures(self) -> dict[str, Any]:
        """What each fit measures of its estimator: an attribute or a callable, by name."""
        return {
            one.name: one.name if one.of == "attribute" else one.of
            for one in self.constraints
            if one.of != "metric"
        }

    @property
    def bounds(self) -> dict[str, tuple[float | None, float | None]]:
        """Bounds of what may be known before a fit, by name."""
        return {one.name: (one.low, one.high) for one in self.constraints if one.of == "attribute"}

    def told(self, results: Sequence[FitResult], error_score: float) -> dict[str, Any]:
        """Return what is told of a trial beside its score.

        Raises
        ------
        ValueError
            If a callable `scoring` lacks an objective, or the metric of a constraint.
        """
        told: dict[str, Any] = {}
        names = dict.fromkeys(name for result in results for name in result.test_scores)
        if names and not self.are_checked:
            for name in self.objectives:
                _check_metric(name, list(names), "objectives")
        if self.objectives:
            values = [mean_score(results, name, error_score) for name in self.objectives]
            noise = [variance_of_mean(results, name, error_score) for name in self.objectives]
            told["values"] = np.array(values)
            told["value_noise"] = np.array([np.nan if one is None else one for one in noise])
        if self.constraints:
            violations: list[float] = []
            for one in self.constraints:
                if one.of == "metric" or one.name in names:
                    value = mean_score(results, one.name, np.nan)
                else:
                    value = mean_measure(results, one.name)
                violations += one.violations(value)
            told["violations"] = np.array(violations)
        return told

    def values(self, table: Mapping[str, Any]) -> NDArray[np.float64]:
        """Return the objectives of the rows of ``cv_results_``, (n_rows, n_objectives)."""
        return np.column_stack([table[f"mean_test_{name}"] for name in self.objectives])

    def add_columns(self, table: dict[str, Any], metric: str, may_win: NDArray[np.bool_]) -> None:
        """Add the columns of constraints and objectives to ``cv_results_``.

        Parameters
        ----------
        table : dict
            Changed.
        metric : str
            What counts where there is one objective.
        may_win : ndarray of bool
            Rows that can be compared; the others rank last.
        """
        n_rows = len(table["params"])
        columns = [np.zeros(n_rows)]
        for one in self.constraints:
            key = f"constraint_{one.name}"
            if f"mean_test_{one.name}" in table:
                table[key] = table[f"mean_test_{one.name}"].copy()
            elif key not in table:  # no fit was made
                table[key] = np.full(n_rows, np.nan)
            columns += one.violations(table[key])
        violation = total_violation(np.column_stack(columns))
        if self.constraints:
            table["violation"] = violation
            table["feasible"] = violation == 0
        values = self.values(table) if self.objectives else table[f"mean_test_{metric}"][:, None]
        values = np.where(may_win[:, None], values, np.nan)
        table["pareto_rank"] = pareto_ranks(values, violation[:, None])


def goals_of(search: Any, metrics: Sequence[str] | None) -> Goals:
    """Return the objectives and constraints of a search.

    Parameters
    ----------
    search : BaseTrialSearchCV
    metrics : sequence of str or None
        Names of its metrics; None where a callable `scoring` decides when it is called.

    Raises
    ------
    ValueError
        If `objectives` or `constraints` are no such.
    """
    constraints = _constraints(search.constraints, metrics)
    return Goals(_objectives(search, metrics), constraints, are_checked=metrics is not None)


def _objectives(search: Any, metrics: Sequence[str] | None) -> tuple[str, ...]:
    if search.objectives is None:
        return ()
    names = tuple(search.objectives)
    if not names:
        raise ValueError("objectives must name at least one metric, but got none; use None")
    for name in names:
        if not isinstance(name, str):
            raise ValueError(
                f"objectives must be names of metrics, but got {name!r}; name it in scoring, a "
                "dict, and give the name"
            )
        if names.count(name) > 1:
            raise ValueError(
                f"objectives must be different metrics, but {name!r} is there "
                f"{names.count(name)} times; leave it out once"
            )
        if metrics is not None:
            _check_metric(name, metrics, "objectives")
    return names


def check_rule(search: Any) -> None:
    """Raise ValueError if `refit` of a search with objectives does not select a row."""
    if search.refit is not True or len(search.objectives) < 2:
        return
    names = list(search.objectives)
    raise ValueError(
        f"refit=True does not say which of the best rows of objectives={names} is to be refitted; "
        f"name the metric that decides, as in refit={names[0]!r}, or give a rule: knee_point() or "
        "scalarize({...}) of skhpo.model_selection, or refit=False"
    )


def _check_metric(name: str, metrics: Sequence[str], what: str) -> None:
    if name in metrics:
        return
    single = list(metrics) == ["score"]
    fix = "give scoring as a dict or a list of names" if single else "add it to scoring"
    known = ", ".join(map(repr, nearest_first(name, metrics)))
    raise ValueError(
        f"{what} must be metrics of scoring, which are {known}, but got {name!r}; {fix}"
    )


def _constraints(given: Any, metrics: Sequence[str] | None) -> tuple[Constraint, ...]:
    found: dict[str, Constraint] = {}
    for key, bounds in (given or {}).items():
        name, of = _source(key, metrics)
        if name in found:
            raise ValueError(
                f"constraints must have different names, but two of them are {name!r}; rename one "
                "of the functions"
            )
        found[name] = Constraint(name, of, *_bounds(name, bounds))
    return tuple(found.values())


def _source(key: Any, metrics: Sequence[str] | None) -> tuple[str, str | Callable[[Any], float]]:
    if isinstance(key, str):
        if metrics is not None and key in get_scorer_names() and key not in metrics:
            _check_metric(key, metrics, "constraints")
        return key, "metric" if key in (metrics or ()) else "attribute"
    if callable(key):
        return getattr(key, "__name__", type(key).__name__), key
    raise ValueError(
        "a constraint must be of a metric, an attribute of the fitted estimator or a function of "
        f"it, but got {key!r}; give a name or a callable"
    )


def _bounds(name: str, bounds: Any) -> tuple[float | None, float | None]:
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ValueError(
            f"a constraint must be (low, high), None being no bound, but that of {name!r} is "
            f"{bounds!r}; write (None, high), (low, None) or (low, high)"
        )
    for bound in bounds:
        is_number = isinstance(bound, Real) and not isinstance(bound, bool)
        if bound is not None and not (is_number and math.isfinite(bound)):
            raise ValueError(
                f"bounds of a constraint must be finite numbers or None, but that of {name!r} is "
                f"{bounds!r}; use None for no bound"
            )
    low, high = bounds
    if low is None and high is None:
        raise ValueError(f"a constraint must have a bound, but {name!r} has none; leave it out")
    if low is not None and high is not None and low > high:
        raise ValueError(
            f"low <= high must hold for a constraint, but got ({name!r}: low={low}, high={high})"
        )
    return None if low is None else float(low), None if high is None else float(high)
