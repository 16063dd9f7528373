"""Scores of fits as plain numbers, of a group by one joint forward pass."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from numbers import Number
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._compat import (
    MultimetricScorer,
    PassthroughScorer,
    check_method_params,
    num_samples,
)
from ..faults import warn_of_mistake
from ..limits import FitTimeoutError
from ..scorers import each_scorer, fit_took, looks_at_predictions_only
from ..searchable import search_tags
from ._predictions import predicted
from ._tasks import FAILURES, failure, memory_freed, raise_unless_candidates

if TYPE_CHECKING:
    from ._setup import GroupData
    from ._tasks import Setting

__all__ = [
    "Scored",
    "answering",
    "looks_at_outputs_only",
    "score",
    "score_fits",
]


# Largest number of outputs of a joint forward pass that are in memory at the same time.
_MOST_OUTPUTS = 2**25
_ALONE = "networks are scored one by one"


class Scored(NamedTuple):
    """Scores of a fit on a part of the data, and what it predicted there if that is kept.

    Parameters
    ----------
    scores : dict of str to float
    error : str or None
        Traceback of a scorer that failed.
    predictions : ndarray or None
    unpredicted : str or None
        Why there are none.
    """

    scores: dict[str, float]
    error: str | None
    predictions: NDArray[np.floating[Any]] | None = None
    unpredicted: str | None = None


def score_fits(fits: Sequence[Any], data: GroupData, part: str) -> list[Scored | None]:
    """Score all fits on a part of the data, in one forward pass where the scorer allows it.

    Predictions of the test part are kept from the same pass.

    Returns
    -------
    list of Scored or None
        None for fits that have failed.
    """
    passes = {}
    for i, fit in enumerate(fits):
        if fit.error is None and _shares(fit):
            try:
                shown = _shown(fit, data, part)
            except Exception as error:  # raised again when the fit is scored by itself
                warn_of_mistake(error, _ALONE)
                continue
            if shown is not None:
                passes[i] = shown
    at_once = {i: passes[i] for i in passes if not fits[i].alone or _keeps(fits[i], part)}
    for portion in _in_portions(fits, at_once):
        outputs = _outputs([fits[i].net for i in portion], [passes[i].X for i in portion])
        for i, output in zip(portion, outputs, strict=True):
            passes[i].outputs = output
    return [
        fit.attempt_to_score(_score, fit, data, part, passes.get(i)) for i, fit in enumerate(fits)
    ]


def _shares(fit: Any) -> bool:
    """Whether the fit can be scored from the outputs of the joint forward pass."""
    return search_tags(fit.net).output_size is not None and looks_at_outputs_only(
        fit.setting.scorer, fit.net, fit.setting.score_params
    )


def _keeps(fit: Any, part: str) -> bool:
    """Whether predictions of the fit for a part are kept."""
    return part == "test" and fit.setting.predictions is not None


def _shown(fit: Any, data: GroupData, part: str) -> SimpleNamespace | None:
    """Return what a scorer is shown: the network's own inputs, and what takes them.

    None for a fit of its own whose rows would have to be transformed for that, unless what its
    network returns is kept, too.
    """
    work = fit.work
    on_purpose = _keeps(fit, part) or not fit.alone
    if not on_purpose and data.inner_rows(fit.task, fit.fitted, work.prepared, part) is None:
        return None
    X, y = data.to_score_inside(fit.task, fit.fitted, work.prepared, part)
    shown = work.prepared.assembled(work.whole, fit.net, transforming=False)
    return SimpleNamespace(estimator=shown, X=X, y=y, outputs=None)


def _in_portions(fits: Sequence[Any], passes: Mapping[int, Any]) -> Iterator[list[int]]:
    """Divide the fits into portions whose outputs for all rows take little memory."""
    portion: list[int] = []
    size = 0
    for i, shown in passes.items():
        output_size = search_tags(fits[i].net).output_size
        width = 1 if output_size is None else output_size()
        size += num_samples(shown.X) * width
        if portion and size > _MOST_OUTPUTS:
            yield portion
            portion, size = [], num_samples(shown.X) * width
        portion.append(i)
    if portion:
        yield portion


def _outputs(nets: Sequence[Any], Xs: Sequence[Any]) -> Sequence[Any]:
    try:
        if len(nets) == 1:
            return [nets[0].predict_outputs(Xs[0])]
        from ..lockstep import predict_together

        outputs: list[Any] = predict_together(nets, Xs, return_exceptions=True)
    except Exception as error:  # found when each is scored by itself
        warn_of_mistake(error, _ALONE)
        memory_freed(error)
        return [None] * len(nets)
    for i, output in enumerate(outputs):
        if isinstance(output, Exception):
            warn_of_mistake(output, _ALONE)
            memory_freed(output)
            outputs[i] = None
    return outputs


def _score(fit: Any, data: GroupData, part: str, shown: Any) -> Scored:
    rows = data.rows(fit.task, part)
    ready: AbstractContextManager[None] = nullcontext()
    if shown is None:
        estimator = fit.fitted
        X, y = data.to_score(fit.task, estimator, part)
    else:
        estimator, X, y = shown.estimator, shown.X, shown.y
        if shown.outputs is not None:
            ready = answering(fit.net, X, shown.outputs)
    if not _keeps(fit, part):
        with ready, fit_took(fit.seconds_of_all_levels):
            return Scored(*score(fit.setting, estimator, X, y, data.X, rows))
    with ready, fit_took(fit.seconds_of_all_levels):
        with noting(fit.setting, estimator, X) as noted:
            scores, error = score(fit.setting, estimator, X, y, data.X, rows)
        return Scored(scores, error, *predicted(fit.setting, estimator, X, len(rows), noted))


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
    if not any(isinstance(scorer, PassthroughScorer) for scorer in each_scorer(scorer)):
        return True
    home = type(net).score.__module__
    return not params and home.partition(".")[0] in ("sklearn", "skorch", "skhpo")


@contextmanager
def noting(setting: Setting, estimator: Any, X: Any) -> Iterator[list[Any]]:
    """Collect the predictions for `X` that the estimator makes within the context.

    Only where the scorer is scikit-learn's: others may do anything with an estimator.

    Yields
    ------
    list
        Empty, or with the answer.
    """
    noted: list[Any] = []
    method = setting.predictions and setting.predictions.method
    own = getattr(estimator, "__dict__", None)
    asks = getattr(estimator, method, None) if method else None
    if asks is None or own is None or not looks_at_predictions_only(setting.scorer):
        yield noted
        return

    @functools.wraps(asks)  # scikit-learn looks at its name
    def asked(given: Any, *args: Any, **kwargs: Any) -> Any:
        answer = asks(given, *args, **kwargs)
        if given is X and not (args or kwargs or noted):
            noted.append(_copied(answer))
        return answer

    before = own.get(method, asked)
    own[method] = asked
    try:
        yield noted
    finally:
        if before is asked:
            del own[method]
        else:
            own[method] = before


def _copied(answer: Any) -> Any:
    """Return a copy that the caller of the method cannot change."""
    return [part.copy() for part in answer] if isinstance(answer, list) else answer.copy()


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
    pass_through = net.predict_outputs

    def predict_outputs(given: Any) -> Any:
        return outputs.copy() if given is X else pass_through(given)

    vars(net)["predict_outputs"] = predict_outputs
    try:
        yield
    finally:
        del vars(net)["predict_outputs"]


def score(
    setting: Setting, estimator: Any, X: Any, y: Any, X_all: Any, rows: Any
) -> tuple[dict[str, float], str | None]:
    """Return scores as a dict of floats, and the traceback of a scorer that failed or None.

    The dict is ``{"score": ...}`` where there is one metric; failed metrics are left out.

    Raises
    ------
    ValueError
        If there is no score, or one is no number: no fit is to blame for that.
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
    if not scores:
        raise ValueError(f"scoring must return one score at least, but returned {scores!r}")
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
