"""What travels between the evaluator and its workers: settings, tasks, outcomes, failures."""

from __future__ import annotations

import errno
import os
import re
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import cloudpickle

from .. import evaluation
from ..exceptions import StorageError
from ..journal import CheckpointFile
from ..limits import FitTimeoutError, current_slot, is_interrupt
from ..trial import FitResult

__all__ = [
    "FAILURES",
    "SAVED",
    "Environment",
    "FitGroup",
    "FitTask",
    "Job",
    "Outcome",
    "Setting",
    "TransformTask",
    "failed",
    "failure",
    "is_saved",
    "memory_freed",
    "raise_unless_candidates",
    "raised_by",
    "refused_by_system",
    "saved",
    "skipped",
]

SAVED = "saved"

# Failures of candidates. Other exceptions, such as those by which libraries cancel, are passed on.
FAILURES = (Exception, SystemExit, FitTimeoutError)


def _layer_rules() -> dict[type, Any]:
    # Where nothing has imported the package there are none.
    lockstep = sys.modules.get("skhpo.lockstep")
    return {} if lockstep is None else dict(lockstep.LAYER_RULES)


@dataclass(frozen=True)
class Setting:
    """What all fits of a search share, except the data.

    Parameters
    ----------
    estimator : estimator
        Never fitted itself.
    scorer : callable
        ``scorer(estimator, X, y, **score_params)`` gives a number or a dict of numbers.
    seed : int
        Seed of the search.
    fit_params, score_params : dict
        Metadata for ``fit`` and for the scorer, for all rows.
    resource : str or None, default=None
        Parameter of the estimator that a trial's resource sets, or ``"n_samples"``.
    max_resource : int or None, default=None
        Its largest value in the search.
    return_train_score : bool, default=False
    raise_errors : bool, default=False
        Whether a failing fit raises, or is reported in its result.
    keep_errors : bool, default=False
        Whether its result has the exception, too, see `Failure`.
    curves : bool, default=False
        Whether results have the learning curves of the estimators that keep some.
    starts : object or None, default=None
        Where estimators tune themselves while they train: what makes parameters of a
        configuration, which is where they start, ``starts.placed(params)``, and reads off a fitted
        estimator where it ended, ``starts.found(estimator)``.
    validates_on_fold : bool, default=False
        Whether ``fit`` inside of wrappers gets the test part as ``validation_data``.
    first_repeat : int, default=0
        Number of the first repeat for seeds: earlier fits of the search have the smaller ones.
    noted : str or None, default=None
        Attribute of the fitted estimator, inside of wrappers, that results have in `found`.
    measures : mapping of str to (str or callable), default={}
        What results have in `measures`, by name: an attribute of the fitted estimator, inside of
        wrappers, or what a function of the whole returns.
    bounds : mapping of str to (low, high), default={}
        Of measures that may be known without a fit, which is not made if they are broken.
    predictions : PredictionKind or None, default=None
        Which predictions for the test part are kept.
    layer_rules : dict
        Rules of layers that were registered for training in lockstep.
    name : str
        Of the folders where callbacks of its fits write files; a new one each time.
    """

    estimator: Any
    scorer: Any
    seed: int
    fit_params: Mapping[str, Any] = field(default_factory=dict)
    score_params: Mapping[str, Any] = field(default_factory=dict)
    resource: str | None = None
    max_resource: int | None = None
    return_train_score: bool = False
    raise_errors: bool = False
    keep_errors: bool = False
    curves: bool = False
    starts: Any = None
    validates_on_fold: bool = False
    first_repeat: int = 0
    noted: str | None = None
    measures: Mapping[str, Any] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    predictions: evaluation.PredictionKind | None = None
    layer_rules: Mapping[type, Any] = field(default_factory=_layer_rules)
    name: str = field(default_factory=lambda: f"search-{uuid.uuid4().hex[:8]}")


@dataclass(frozen=True, slots=True)
class TransformTask:
    """Fit the transformers of a pipeline, under one setting, on one split.

    Parameters
    ----------
    key : tuple
        Which ones; also its `name`.
    params : mapping of str to object
        Of a candidate that has them.
    split : int
    n_train : int or None, default=None
        As of a `FitTask`.
    """

    key: tuple[Any, ...]
    params: Mapping[str, Any]
    split: int
    n_train: int | None = None
    tasks: ClassVar[tuple[FitTask, ...]] = ()

    @property
    def name(self) -> tuple[Any, ...]:
        return self.key


@dataclass(frozen=True, slots=True)
class FitTask:
    """Fit one trial on one split, under one seed.

    Parameters
    ----------
    trial, candidate, split, repeat : int
    params : mapping of str to object
    levels : tuple of (int or None)
        Resource of the candidate's trials so far, this one's last.
    n_train : int or None, default=None
        Training rows to use: the first ones of the split. None means all.
    state : estimator, Packed or None, default=None
        The candidate as fitted on this split up to the last level but one.
    load, save : CheckpointFile or None, default=None
        Checkpoint to continue from, and where to leave one. Without a state and a checkpoint
        the earlier levels are trained again.
    keep : CheckpointFile or None, default=None
        Where to leave the fitted estimator, should its row be one of the best.
    key : tuple or None, default=None
        The fitted transformers that this fit shares.
    context : tuple, bytes or None, default=None
        What `FitContexts` made for it, where scikit-learn's callbacks watch.
    rank : int, default=0
        What starts first: the smaller number. Fits that were asked for together have the same.
    """

    trial: int
    candidate: int
    split: int
    repeat: int
    params: Mapping[str, Any]
    levels: tuple[int | None, ...]
    n_train: int | None = None
    state: Any = None
    load: CheckpointFile | None = None
    save: CheckpointFile | None = None
    keep: CheckpointFile | None = None
    key: tuple[Any, ...] | None = None
    context: Any = None
    rank: int = 0

    @property
    def name(self) -> tuple[int, int, int]:
        """What tells it from all other fits."""
        return self.trial, self.split, self.repeat

    def result(self, **fields: Any) -> FitResult:
        """Return the result of this fit."""
        return FitResult(*self.name, **fields)


@dataclass(frozen=True, slots=True)
class FitGroup:
    """Fits that one worker does together: one, or several that are trained in lockstep.

    They were asked for together, and have the same rank.
    """

    tasks: Sequence[FitTask]

    @property
    def name(self) -> tuple[int, int, int]:
        """What tells it from all other groups."""
        return self.tasks[0].name

    @property
    def rank(self) -> int:
        return self.tasks[0].rank


Job = FitGroup | TransformTask  # what a worker does at once


@dataclass(frozen=True, slots=True)
class Outcome:
    """What comes back from a fit.

    Parameters
    ----------
    result : FitResult
    state : estimator, Packed, SAVED or None
        What continues this fit at the next level; SAVED where it is in a checkpoint file.
    out_of_memory : bool
        Whether it failed because a device had no memory left.
    model : Packed, SAVED or None
        The fitted estimator, where it is to be kept.
    """

    result: FitResult
    state: Any = None
    out_of_memory: bool = False
    model: Any = None


def is_saved(state: Any) -> bool:
    """Return whether a fit is continued from a checkpoint file."""
    return isinstance(state, str) and state == SAVED


def failed(
    task: FitTask,
    error: str,
    seconds: float = 0.0,
    run: Mapping[str, Any] | None = None,
    *,
    out_of_memory: bool = False,
) -> Outcome:
    """Return the outcome of a fit that came to nothing; `run` has its start and its worker."""
    result = task.result(fit_time=seconds, device=current_slot(), error=error, **(run or {}))
    return Outcome(result, out_of_memory=out_of_memory)


def skipped(
    task: FitTask, constraint: str, measures: Mapping[str, float], run: Mapping[str, Any]
) -> Outcome:
    """Return the outcome of a fit that was not made, because it breaks a constraint."""
    return Outcome(task.result(measures=measures, skipped=constraint, **run))


class Environment(BaseException):
    """An error that is not a candidate's; passes everything that handles errors of candidates."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def raise_unless_candidates(error: BaseException, setting: Setting) -> None:
    """Raise an error again if it is no failure of a candidate (Ctrl-C), or if all are raised."""
    if is_interrupt(error):
        raise KeyboardInterrupt from error
    if setting.raise_errors:
        raise error


class Failure(str):
    """The traceback of a fit that failed, with the exception, which may be raised later."""

    raised: BaseException

    def __new__(cls, text: str, raised: BaseException | None = None) -> Failure:
        made = super().__new__(cls, text)
        made.raised = RuntimeError(text) if raised is None else raised
        return made


def failure(error: BaseException, text: str, setting: Setting) -> str:
    """Return the text of an error for a result; with the error itself, where those are kept."""
    if not setting.keep_errors:
        return text
    try:
        cloudpickle.loads(cloudpickle.dumps(error))  # also of a class of the user's script
    except Exception:  # it could not leave a worker
        return Failure(text)
    return Failure(text, error)


def raised_by(result: FitResult) -> BaseException | None:
    """Return the exception of what failed in a fit, its scores included; None if nothing did."""
    for text in (result.error, result.score_error, result.unpredicted):
        if text is not None:
            error = text.raised if isinstance(text, Failure) else RuntimeError(text)
            was_elsewhere = error.__traceback__ is None  # it was raised in another process
            if was_elsewhere and text not in getattr(error, "__notes__", ()):
                error.add_note(text)
            return error
    return None


def memory_freed(exception: BaseException) -> bool:
    """Return whether a device ran out of memory, and free unused memory."""
    cls = type(exception)
    if cls.__name__ != "OutOfMemoryError" or cls.__module__.partition(".")[0] != "torch":
        return False
    sys.modules["torch"].cuda.empty_cache()
    return True


def saved(state: Any, file: CheckpointFile) -> None:
    """Write the checkpoint of a fit; an error of the system is not the candidate's failure."""
    try:
        file.save(state)
    except StorageError as error:
        raise Environment(error) from error


def refused_by_system(error: Exception, folder: str) -> StorageError | None:
    """Return a StorageError if the system kept a call from reaching its worker, else None.

    Large arrays go to workers through files. joblib hands over what went wrong with them as text.

    Parameters
    ----------
    error : Exception
    folder : str
        Where the files are.
    """
    found = re.findall(r"OSError: \[Errno (\d+)\]", str(error.__cause__))
    if isinstance(error, OSError):
        number = error.errno or errno.EIO
    elif found:
        number = int(found[-1])
    else:
        return None
    return StorageError(number, os.strerror(number), getattr(error, "filename", None) or folder)
