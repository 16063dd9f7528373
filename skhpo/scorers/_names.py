"""Scorers by their names, those of this package beside scikit-learn's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from sklearn import metrics

__all__ = [
    "each_scorer",
    "get_scorer",
    "get_scorer_names",
    "looks_at_predictions_only",
    "resolved",
]

_OWN = (
    "neg_calibration_error",
    "neg_fit_time",
    "neg_memory",
    "neg_n_parameters",
    "neg_predict_latency",
    "neg_predict_time",
    "worst_class_recall",
)


@cache
def _own() -> dict[str, Any]:
    """Return the scorers of this package, by name."""
    from ._costs import FitTime, Memory, NParameters, PredictTime
    from ._metrics import CalibrationError, worst_class_recall

    scorers = (
        CalibrationError(),
        FitTime(),
        Memory(),
        NParameters(),
        PredictTime(batch_size=1),
        PredictTime(),
        metrics.make_scorer(worst_class_recall),
    )
    return dict(zip(_OWN, scorers, strict=True))


def get_scorer_names() -> list[str]:
    """Return the names of all scorers, of this package and of scikit-learn.

    Returns
    -------
    list of str
        Sorted.

    Examples
    --------
    >>> from skhpo.scorers import get_scorer_names
    >>> {"accuracy", "neg_predict_time"} <= set(get_scorer_names())
    True
    """
    return sorted([*_OWN, *metrics.get_scorer_names()])


def get_scorer(scoring: Any) -> Any:
    """Return a scorer by its name; a callable is returned as it is.

    Parameters
    ----------
    scoring : str or callable
        A name of scikit-learn's scorers or of this package's, see `get_scorer_names`.

    Returns
    -------
    scorer : callable
        Called as ``scorer(estimator, X, y)``; larger is better.

    Raises
    ------
    ValueError
        If there is none of that name.

    Examples
    --------
    >>> from skhpo.scorers import get_scorer
    >>> get_scorer("neg_predict_time")
    PredictTime(batch_size=1000)
    """
    _check_name(scoring)
    if isinstance(scoring, str) and scoring in _OWN:
        return _own()[scoring]
    return metrics.get_scorer(scoring)


def resolved(scoring: Any) -> Any:
    """Return the `scoring` of a search with scorers in the place of this package's names.

    Everything else is left to scikit-learn, errors too, but for unknown names.
    """
    _check_name(scoring)
    if isinstance(scoring, str):
        return _own()[scoring] if scoring in _OWN else scoring
    if isinstance(scoring, Mapping):
        return {name: resolved(one) for name, one in scoring.items()}
    if isinstance(scoring, list | tuple | set) and all(isinstance(one, str) for one in scoring):
        names = list(scoring)
        for name in names:
            _check_name(name)
        if len(set(names)) == len(names) and not set(_OWN).isdisjoint(names):
            return {name: resolved(name) for name in names}
    return scoring


def _check_name(scoring: Any) -> None:
    """Raise ValueError for a name that no scorer has."""
    if not isinstance(scoring, str) or scoring in _OWN or scoring in metrics.get_scorer_names():
        return
    from ..arguments import nearest_first

    near = ", ".join(map(repr, nearest_first(scoring, get_scorer_names())[:3]))
    raise ValueError(
        f"a scorer must have one of the names of skhpo.scorers.get_scorer_names(), but got "
        f"{scoring!r}; nearest are {near}"
    )


def each_scorer(scorer: Any) -> Collection[Any]:
    """Return the scorers of which scikit-learn's multimetric scorer is made, or the only one."""
    return getattr(scorer, "_scorers", {"score": scorer}).values()


def looks_at_predictions_only(scorer: Any) -> bool:
    """Whether a scorer is known to use X only as the argument of the estimator."""
    from ._metrics import PredictionScorer

    return all(
        type(one).__module__.startswith("sklearn.") or isinstance(one, PredictionScorer)
        for one in each_scorer(scorer)
    )
