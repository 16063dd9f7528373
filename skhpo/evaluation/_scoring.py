"""Scores of a fitted estimator, as plain numbers."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from numbers import Number
from typing import TYPE_CHECKING, Any

from .._compat import MultimetricScorer, PassthroughScorer, check_method_params
from ..limits import FitTimeoutError
from ..scorers import PredictionScorer
from ._blame import FAILURES, failure, raise_unless_candidates
from ._devices import memory_freed

if TYPE_CHECKING:
    from ._tasks import Setting

__all__ = ["answering", "looks_at_outputs_only", "looks_at_predictions_only", "score"]


def looks_at_predictions_only(scorer: Any) -> bool:
    """Whether a scorer is known to use X only as the argument of the estimator."""
    return all(
        type(one).__module__.startswith("sklearn.") or isinstance(one, PredictionScorer)
        for one in _each(scorer)
    )


def looks_at_outputs_only(scorer: Any, net: Any, params: Mapping[str, Any]) -> bool:
    """Whether a scorer only needs the outputs of a network for X.

    Parameters
    ----------
    scorer : callable
    net : TorchClassifier or TorchRegressor
        Its ``score`` may be somebody's own.
    params : dict
        Metadata for the scorer; passed on to ``score``, they may mean anything.
    """
    if not looks_at_predictions_only(scorer):
        return False
    if not any(isinstance(scorer, PassthroughScorer) for scorer in _each(scorer)):
        return True
    home = type(net).score.__module__
    return not params and home.partition(".")[0] in ("sklearn", "skorch", "skhpo")


def _each(scorer: Any) -> Collection[Any]:
    return getattr(scorer, "_scorers", {"score": scorer}).values()


@contextmanager
def answering(net: Any, X: Any, outputs: Any) -> Iterator[None]:
    """Within this context a network returns `outputs` for `X` without a forward pass.

    Parameters
    ----------
    net : TorchClassifier or TorchRegressor
    X : array-like
        This very object; anything else is passed through the network.
    outputs : ndarray
        What it returns for `X`.
    """
    pass_through = net._predict_outputs

    def predict_outputs(given: Any) -> Any:
        return outputs.copy() if given is X else pass_through(given)

    vars(net)["_predict_outputs"] = predict_outputs
    try:
        yield
    finally:
        del vars(net)["_predict_outputs"]


def score(
    setting: Setting, estimator: Any, X: Any, y: Any, X_all: Any, rows: Any
) -> tuple[dict[str, float], str | None]:
    """Return scores as a dict of floats, and the traceback of a scorer that failed or None.

    The dict is ``{"score": ...}`` where there is one metric; failed metrics are left out.

    Raises
    ------
    ValueError
        If a score is no number: no fit is to blame for that.
    Exception
        What a scorer raises where errors are to be raised, or where memory was short.
    """
    params = check_method_params(X_all, setting.score_params, rows)
    args = (estimator, X) if y is None else (estimator, X, y)
    several = isinstance(setting.scorer, MultimetricScorer)
    try:
        scores = setting.scorer(*args, **params)
    except FitTimeoutError:  # which is the fit's, not the scorer's
        raise
    except FAILURES as exception:
        raise_unless_candidates(exception, setting)
        # A multimetric scorer of scikit-learn raises only errors that no estimator is to blame for.
        nobodys = several and isinstance(exception, Exception) and not setting.keep_errors
        if nobodys or memory_freed(exception):
            raise
        return {}, failure(exception, traceback.format_exc(), setting)
    if not isinstance(scores, Mapping):
        scores = {"score": scores}
    # It puts a traceback in the place of a failed score.
    failed = [name for name in scores if several and isinstance(scores[name], str)]
    numbers = {k: _number(k, score) for k, score in scores.items() if k not in failed}
    return numbers, (scores[failed[0]] if failed else None)


def _number(name: str, score: Any) -> float:
    number: Any = score
    if hasattr(score, "item"):
        with suppress(Exception):  # there may be several
            number = score.item()
    if isinstance(number, Number):
        with suppress(TypeError, ValueError, OverflowError):  # complex, 10**400
            return float(number)  # type: ignore[arg-type]
    raise ValueError(
        f"scoring must return a number, but {name!r} is {score!r} of type "
        f"{type(score).__name__}; return a float, or a dict of floats"
    )
