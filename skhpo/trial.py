"""The two frozen records that travel between a scheduler and the evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RACED", "UNSCHEDULED", "FitResult", "Trial"]

# In the place of a constraint, of a fit that racing, or the schedule of folds, left out. No
# attribute has such a name.
RACED = "(racing)"
UNSCHEDULED = "(fold schedule)"


@dataclass(frozen=True, slots=True)
class Trial:
    """What to run: one configuration, at one resource level.

    Parameters
    ----------
    number : int
        Position in the plan of the search, from 0; the order of `cv_results_`. Numbers of slots
        that nobody was promoted to, because fits failed, stay unused.
    candidate : int
        The configuration's number, from 0. A configuration that is promoted has several
        trials, all with the same `candidate`.
    params : mapping of str to object
        The configuration. It never contains the resource.
    resource : int or None, default=None
        Cumulative resource (epochs so far, say). None means a full fit.
    parent : int or None, default=None
        Number of the trial of the same candidate that this one continues.
    tags : mapping of str to int
        Where the scheduler put it: ``{"bracket": 0, "iter": 2}``. They become columns of
        ``cv_results_``; every trial of a search has the same keys.
    """

    number: int
    candidate: int
    params: Mapping[str, Any]
    resource: int | None = None
    parent: int | None = None
    tags: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FitResult:
    """What came out: one trial fitted and scored on one split, under one seed.

    Parameters
    ----------
    trial : int
        Number of the trial.
    split : int
        Index of the cross-validation split.
    repeat : int
        Which of the repeats under different seeds.
    test_scores : mapping of str to float
        Scores on the split's test part, by scorer name (``"score"`` for a single metric); without
        those that failed.
    train_scores : mapping of str to float or None
        The same on the training part, where asked for.
    fit_time, score_time : float
        Seconds.
    device : str or None
        Where it ran, if it was given a device.
    error : str or None
        Traceback of a fit that failed; it has no scores.
    score_error : str or None
        Traceback of a scorer that failed, the first one, where the fit did not.
    curves : mapping of str to sequence of float, or None
        Learning curves, a number per epoch since the candidate's first; NaN where an epoch has
        none. Only where a search callback asks for them and the estimator keeps some.
    found : mapping of str to float, or None
        Values of parameters that the fit found itself, where it tunes them while it trains; the
        attribute of the fitted estimator that a rule for ``refit`` goes by; and the epoch (and its
        step) with the best check, where it was checked.
    predictions : ndarray of shape (n_test, ...) or None
        What it predicted for the test part, on the way to where that is kept.
    unpredicted : str or None
        Traceback of why there are none, where they were asked for and the fit did not fail.
    start : float or None
        When it started, in seconds since 1970 by its worker's clock. Fits that were trained
        together have the same, and each a share of the time. None where that is unknown.
    worker : str or None
        What ran it: ``"<host>:<process>"``, and ``":<thread>"`` where that is not the main one.
    measures : mapping of str to float, or None
        What constraints are about, beside scores, by name.
    skipped : str or None
        Name of the constraint that was known to be broken without a fit, which therefore was not
        made: no failure, but there are no scores. `RACED` where the trial was stopped before,
        because it was hopeless on the splits until then; `UNSCHEDULED` where its level of the
        resource has fewer splits.
    """

    trial: int
    split: int
    repeat: int = 0
    test_scores: Mapping[str, float] = field(default_factory=dict)
    train_scores: Mapping[str, float] | None = None
    fit_time: float = 0.0
    score_time: float = 0.0
    device: str | None = None
    error: str | None = None
    score_error: str | None = None
    curves: Mapping[str, Sequence[float]] | None = None
    found: Mapping[str, float] | None = None
    predictions: NDArray[np.floating[Any]] | None = field(default=None, compare=False)
    unpredicted: str | None = None
    start: float | None = None
    worker: str | None = None
    measures: Mapping[str, float] | None = None
    skipped: str | None = None

    @property
    def name(self) -> tuple[int, int, int]:
        """Trial, split and repeat, which tell it from all other fits of a search."""
        return self.trial, self.split, self.repeat

    @property
    def is_left_out(self) -> bool:
        """Whether the fit was not made, and its trial is scored on the other splits."""
        return self.skipped in (RACED, UNSCHEDULED)
