"""Which fits of a batch of trials are trained in lockstep."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..limits import Cut, FitTimeoutError, SearchTimeoutError, current_slot, limited
from ..rows import n_bytes
from ._setup import configured, n_together, network_inside
from ._tasks import FitGroup, FitTask, Setting
from ._workers import import_first

if TYPE_CHECKING:
    from ..trial import Trial
    from ._callbacks import FitContexts

__all__ = ["FitGrouping"]


# Bytes of data from which on the fits of a group share their transformers: what those return is
# all there while the group is trained.
_LARGE = 2**24

# Networks per group where lockstep is not faster, but was requested.
_INSISTED = 20

# Networks that a group has at least where there are more GPUs than groups.
_FEWEST = 4
# Networks that are one group on a CPU; more are an even number of groups, for two workers. Groups
# may have more than twice as many on a GPU, which computes one group at a time.
_WHOLE = 20

_log = logging.getLogger(__name__)


@contextmanager
def _unless(over: Callable[[], BaseException | None]) -> Iterator[None]:
    """Suppress the error with which the time limit ends the body."""
    try:
        yield
    except Cut:
        if type(over()) not in (FitTimeoutError, SearchTimeoutError):
            raise


class FitGrouping:
    """Divides the fits of a batch into groups, each to be trained in lockstep.

    Groups depend on the trials of the scheduler only, and on a machine with several GPUs on how
    many of them there are slots; neither on the number of workers nor on timing, so that results do
    not either.

    Parameters
    ----------
    setting : Setting
    X, y : array-like
        All data.
    lockstep : {"auto", True}
    across : bool
        Whether fits of several trials may be in one group.
    contexts : FitContexts or None, default=None
        What callbacks of scikit-learn are told.
    limits : dict, default={}
        Of the time in which one network can be looked at: as of `limited`.
    """

    def __init__(
        self,
        setting: Setting,
        X: Any,
        y: Any,
        lockstep: bool | str,
        *,
        across: bool,
        contexts: FitContexts | None = None,
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        self.setting = setting
        self.X = X
        self.y = y
        self.lockstep = lockstep
        self.across = across
        self.contexts = contexts
        self.limits = limits or {}
        self._known: dict[int, Any] = {}  # keys of candidates
        self._keys: dict[Any, Any] = {}  # each once, however many candidates have it
        self._sizes: dict[Any, int] = {}
        self._reported: set[str] = set()

    def divide(
        self, tasks: Sequence[FitTask], slots: Sequence[str | None] = (None,)
    ) -> list[FitGroup]:
        """Divide fits.

        Parameters
        ----------
        tasks : list of FitTask
        slots : sequence of (str or None), default=(None,)
            The devices that they may run on. Where these are several GPUs, each gets as many
            groups.

        Returns
        -------
        list of FitGroup
            Ordered by their first fits.

        Raises
        ------
        ValueError
            If ``lockstep=True`` and something stands in the way.
        """
        if self._no_network_can_be_among():
            return [FitGroup([task]) for task in tasks]
        with limited(slots[0]):
            return self._divided(tasks, len({slot for slot in slots if slot not in (None, "cpu")}))

    def takes_several(
        self, trial: Trial, slot: str | None = None, *, transforms: bool = False
    ) -> bool:
        """Whether splits of a trial are in one group; `divide` need not have seen the trial.

        Parameters
        ----------
        trial : Trial
        slot : str or None, default=None
            A device that they may run on.
        transforms : bool, default=False
            Whether fits share fitted transformers, each split its own.
        """
        if transforms and n_bytes(self.X) >= _LARGE:
            return False
        if self._no_network_can_be_among():
            return False
        task = FitTask(trial.number, trial.candidate, 0, 0, trial.params, (trial.resource,))
        with limited(slot):
            return self._sizes.get(self._key(task), 1) > 1

    def _no_network_can_be_among(self) -> bool:
        """Whether the torch estimators are not imported, and the reason was logged."""
        found = "skhpo.estimators" in sys.modules
        return self.lockstep == "auto" and bool(self._reported) and not found

    def _divided(self, tasks: Sequence[FitTask], n_gpus: int) -> list[FitGroup]:
        groups: dict[Any, list[int]] = {}
        is_large = n_bytes(self.X) >= _LARGE
        for i, task in enumerate(tasks):
            key, trial = self._key(task), None if self.across else task.trial
            name = i if key is None else (key, task.levels, trial, task.key if is_large else None)
            groups.setdefault(name, []).append(i)
        parts: list[list[int]] = []
        for group in groups.values():
            size = self._sizes.get(self._key(tasks[group[0]]), 1)
            n_parts = math.ceil(len(group) / size)
            if size > 1 and n_gpus > 1:
                alike = math.ceil(n_parts / n_gpus) * n_gpus
                n_parts = max(n_parts, min(alike, len(group) // _FEWEST))
            elif 1 < size <= 2 * _WHOLE < 2 * len(group):
                n_parts += n_parts % 2
            if n_parts == len(group):
                parts += [[i] for i in group]
            else:
                parts += [part.tolist() for part in np.array_split(group, n_parts)]
        together = sorted(parts, key=lambda part: part[0])
        return [FitGroup([tasks[i] for i in part]) for part in together]

    def _key(self, task: FitTask) -> Any:
        """Return a key that is equal for fits that may go together in lockstep, or None."""
        if task.candidate in self._known:
            return self._known[task.candidate]
        self._known[task.candidate] = None  # trained alone if this takes too long
        if self.limits.get("seconds") is not None:
            import_first()
        key = None
        with limited(current_slot(), **self.limits) as over, _unless(over):
            key = self._look_at(task)
            if key is None:  # cheap to compute again
                del self._known[task.candidate]
        if key is not None:
            self._known[task.candidate] = key = self._keys.setdefault(key, key)
        return key

    def _look_at(self, task: FitTask) -> Any:
        whole, fit_params = self.setting.estimator, self.setting.fit_params
        if "skhpo.estimators" in sys.modules:
            whole = configured(self.setting, task.params, split=0, candidate=task.candidate)
        found, reason = network_inside(whole, self.X, fit_params, self.setting.resource)
        if reason is None and self.contexts is not None and self.contexts.reach(len(found.names)):
            reason = "callbacks of the search look into each epoch"
        if reason is None:
            from ..lockstep import group_key

            key = group_key(found.estimator)
            if key not in self._sizes:
                size = n_together(found.estimator, self.X, self.y, sys.maxsize)
                insists = size == 1 and self.lockstep is True
                self._sizes[key] = _INSISTED if insists else size
            return key
        if self.lockstep is True:
            raise ValueError(
                f"lockstep=True insists on training in lockstep, but {reason} (candidate "
                f"{task.candidate}: {dict(task.params)!r}); change that, or use lockstep='auto'"
            )
        if reason not in self._reported:
            self._reported.add(reason)
            _log.debug("fits are not trained in lockstep: %s", reason)
        return None
