"""Scores of the fits of a group, and the parts of the data that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._compat import num_samples, safe_indexing
from ..faults import warn_of_mistake
from ..scorers import fit_took
from ._devices import memory_freed
from ._predictions import noting, predicted
from ._scoring import answering, looks_at_outputs_only, looks_at_predictions_only, score
from ._setup import inner_rows, part_of, reads_rows, train_part

if TYPE_CHECKING:
    from ..wrappers import Prepared
    from ._tasks import FitTask, Setting

__all__ = ["GroupData", "Scored", "score_fits"]

# Largest number of outputs of a joint forward pass that are in memory at the same time.
_MOST_OUTPUTS = 2**25
_ALONE = "networks are scored one by one"


class GroupData:
    """Parts of the data for the fits of a group. Each is made once: many of them share it.

    Parameters
    ----------
    setting : Setting
    X, y : array-like
        All data.
    shared : dict
        Rows of splits by their numbers, fitted wrappers by their keys.
    keep : bool
        Whether there are several fits, so that parts are worth being kept.
    """

    def __init__(
        self, setting: Setting, X: Any, y: Any, shared: Mapping[Any, Any], *, keep: bool
    ) -> None:
        self.setting = setting
        self.X = X
        self.y = y
        self.shared = shared
        self.lazily = looks_at_predictions_only(setting.scorer)
        self.keep = keep
        self._made: dict[Any, Any] = {}

    def rows(self, task: FitTask, part: str) -> Any:
        train, test = self.shared[task.split]
        return test if part == "test" else train[: task.n_train]

    def prepared(self, task: FitTask) -> Prepared | None:
        return self.shared.get(task.key)

    def to_train(self, task: FitTask, estimator: Any) -> tuple[Any, Any, Mapping[str, Any]]:
        made: tuple[Any, Any, Mapping[str, Any]] = self._once(
            (task.split, task.n_train, reads_rows(estimator)),
            lambda: train_part(self.setting, estimator, self.X, self.y, self.rows(task, "train")),
        )
        return made

    def to_score(self, task: FitTask, estimator: Any, part: str) -> tuple[Any, Any]:
        """Return the rows as given by the user."""
        made: tuple[Any, Any] = self._once(
            (part, task.split, task.n_train, reads_rows(estimator)),
            lambda: self._given(task, estimator, part),
        )
        return made

    def _given(self, task: FitTask, estimator: Any, part: str) -> tuple[Any, Any]:
        others = (self.rows(task, "train"),) if part == "test" else ()
        rows = self.rows(task, part)
        return part_of(estimator, self.X, self.y, rows, *others, lazily=self.lazily)

    def to_score_inside(
        self, task: FitTask, whole: Any, prepared: Prepared, part: str
    ) -> tuple[Any, Any]:
        """Return the rows as the estimator inside gets them, and targets as given."""
        if task.key is None:
            return self.to_score(task, whole, part)

        def transformed() -> tuple[Any, Any]:
            if (X := self.inner_rows(task, whole, prepared, part)) is not None:
                return X, None if self.y is None else safe_indexing(self.y, self.rows(task, part))
            X, y = self._given(task, whole, part)
            return prepared.inner_data(X)[0], y

        made: tuple[Any, Any] = self._once((part, task.split, task.n_train, task.key), transformed)
        return made

    def inner_rows(self, task: FitTask, whole: Any, prepared: Prepared, part: str) -> Any:
        """Return the rows as the estimator inside reads them in place; None where it cannot."""
        if task.key is None or not self.lazily:
            return None
        return inner_rows(whole, prepared, self.X, self.rows(task, part))

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if not self.keep:
            return make()
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


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
    return hasattr(fit.net, "_predict_outputs") and looks_at_outputs_only(
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
        width = np.prod(getattr(fits[i].net, "_output_shape", (1,)), dtype=int)
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
            return [nets[0]._predict_outputs(Xs[0])]
        from ..lockstep import predict_together

        outputs: Sequence[Any] = predict_together(nets, Xs)
        return outputs
    except Exception as error:  # found when each is scored by itself
        warn_of_mistake(error, _ALONE)
        memory_freed(error)
        return [None] * len(nets)


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
