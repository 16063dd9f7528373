"""What a search may use until it ends: seconds of all workers, epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from .. import evaluation
from ..trial import FitResult, Trial
from ..wrappers import inside

__all__ = ["COST_IS_USED", "Budget", "budget_of"]

COST_IS_USED = "max_cost was used up"

_UNITS = ("epochs", "seconds")


class Budget:
    """Admits trials as long as what they use stays within a limit.

    Parameters
    ----------
    limits : dict of {"epochs", "seconds"} to float
        Epochs are units of the resource, whatever that counts. A trial that would exceed them does
        not start. Seconds are those of fits and scores of all workers; when they are over no fit
        starts.
    n_fits : int
        Per trial.
    continues : bool
        Whether a trial continues the one before it, and uses what it adds.
    own : int, default=0
        Units of the resource of a trial that does not vary it.
    folds : FoldSchedule or None, default=None
        On how many splits trials are fitted. None is on all.
    """

    def __init__(
        self,
        limits: Mapping[str, float],
        n_fits: int,
        *,
        continues: bool,
        own: int = 0,
        folds: evaluation.FoldSchedule | None = None,
    ) -> None:
        self.limits = limits
        self.n_fits = n_fits
        self.continues = continues
        self.own = own
        self.folds = evaluation.FoldSchedule(n_fits) if folds is None else folds
        self.epochs = 0  # of the trials that were admitted
        self.seconds = 0.0
        self._levels: dict[int, int] = {}  # by trial
        self._by_split: dict[int, list[int]] = {}  # epochs of each fit, by trial

    def with_folds(self, folds: evaluation.FoldSchedule) -> Budget:
        """Return a new budget with the same limits."""
        return Budget(self.limits, self.n_fits, continues=self.continues, own=self.own, folds=folds)

    @property
    def is_in_order(self) -> bool:
        """Whether the trials that are admitted must not depend on timing."""
        return "epochs" in self.limits

    @property
    def is_used(self) -> bool:
        """Whether there are no seconds left."""
        return self.seconds >= self.limits.get("seconds", float("inf"))

    def admit(self, trials: Sequence[Trial]) -> int:
        """Return how many of the trials may start, the first ones."""
        if not self.is_in_order:
            return len(trials)
        for i, trial in enumerate(trials):
            level = self.own if trial.resource is None else trial.resource
            before = None if trial.parent is None else self._levels.get(trial.parent)
            by_split = self.folds.added(before, level, continues=self.continues)
            epochs = sum(by_split) * (self.n_fits // self.folds.n_splits)
            if self.epochs + epochs > self.limits["epochs"]:
                return i
            self.epochs += epochs
            self._levels[trial.number] = level
            self._by_split[trial.number] = by_split
        return len(trials)

    def spend(self, result: FitResult) -> None:
        """Count what a finished fit used; a fit that was not made returns its epochs."""
        self.seconds += result.fit_time + result.score_time
        if result.skipped is not None and result.trial in self._by_split:
            self.epochs -= self._by_split[result.trial][result.split]


def budget_of(search: Any, resource: str | None, n_splits: int) -> Budget:
    """Return the budget of a search that has one.

    Parameters
    ----------
    search : BaseTrialSearchCV
    resource : str or None
        Its name.
    n_splits : int

    Raises
    ------
    ValueError
        If `max_cost` is no such thing.
    """
    limits, n_fits = search.max_cost, n_splits * search.n_repeats
    wrong = [name for name in limits if name not in _UNITS]
    if wrong or not limits:
        raise ValueError(
            f"max_cost must have the keys 'epochs' or 'seconds', but got {limits!r}; write "
            "max_cost={'epochs': 5000}"
        )
    for name, limit in limits.items():
        is_number = isinstance(limit, Real) and not isinstance(limit, bool)
        if not (is_number and float(limit) > 0):
            raise ValueError(f"max_cost must be positive numbers, but got {{{name!r}: {limit!r}}}")
    if "epochs" in limits and resource is None:
        raise ValueError(
            "max_cost={'epochs': ...} counts the resource of the search, but it has none; use "
            "max_cost={'seconds': ...}, or a search with resource='max_epochs'"
        )
    found = inside(search.estimator, resource)
    way = evaluation.way_to_continue(found.estimator, found.resource)
    own = search.estimator.get_params().get(resource)
    own = own if isinstance(own, Integral) else 0
    return Budget(limits, n_fits, continues=way != "retrain", own=int(own))
