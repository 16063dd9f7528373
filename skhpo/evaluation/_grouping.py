"""Which fits are trained in lockstep."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..limits import Cut, FitTimeoutError, SearchTimeoutError, current_slot, limited
from ..rows import Inputs
from ..wrappers import arguments_inside, inside
from ._setup import configured
from ._tasks import FitGroup, FitTask
from ._travel import n_bytes
from ._workers import import_first

if TYPE_CHECKING:
    from ..trial import Trial
    from ._callbacks import FitContexts
    from ._tasks import Setting

__all__ = ["FitGrouping"]

# Fits that one worker gets at once.
_MOST = 20

# Bytes of data from which on the fits of a group share their transformers: what those return is
# all there while the group is trained.
_LARGE = 2**24

# Networks per group where lockstep is not faster, but was requested.
_INSISTED = 20

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

    Groups depend on the trials of the scheduler only, neither on the number of workers nor on
    timing, so that results do not either.

    Parameters
    ----------
    setting : Setting
    X, y : array-like
        All data.
    lockstep : {"auto", True, False}
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

    def divide(self, tasks: Sequence[FitTask], slot: str | None = None) -> list[FitGroup]:
        """Divide fits.

        Parameters
        ----------
        tasks : list of FitTask
        slot : str or None, default=None
            A device that they may run on.

        Returns
        -------
        list of FitGroup
            Ordered by their first fits.

        Raises
        ------
        ValueError
            If ``lockstep=True`` and something stands in the way.
        """
        if self.lockstep is False or self._no_network_can_be_among():
            return [FitGroup([task]) for task in tasks]
        with limited(slot):
            return self._divided(tasks)

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
        if self.lockstep is False or self._no_network_can_be_among():
            return False
        task = FitTask(trial.number, trial.candidate, 0, 0, trial.params, (trial.resource,))
        with limited(slot):
            return self._sizes.get(self._key(task), 1) > 1

    def _no_network_can_be_among(self) -> bool:
        """Whether the torch estimators are not imported, and the reason was logged."""
        found = "skhpo.estimators" in sys.modules
        return self.lockstep == "auto" and bool(self._reported) and not found

    def _divided(self, tasks: Sequence[FitTask]) -> list[FitGroup]:
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
        net, reason = self._network(task)
        if reason is None:
            from ..lockstep import group_key

            key = group_key(net)
            if key not in self._sizes:
                self._sizes[key] = self._size(net)
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

    def _size(self, net: Any) -> int:
        """Return how many networks like this one to train in lockstep."""
        from ..lockstep import built_for, pays

        built = None if self.y is None else built_for(net, self.X, self.y)
        size = pays(net if built is None else built, _MOST)
        return size if size > 1 or self.lockstep == "auto" else _INSISTED

    def _network(self, task: FitTask) -> tuple[Any, str | None]:
        """Return the network of a fit, and why it cannot be trained in lockstep."""
        # Without torch there are no networks; it is not imported to find that out.
        kinds: tuple[type[Any], ...] = ()
        whole = self.setting.estimator
        estimators = sys.modules.get("skhpo.estimators")
        if estimators is not None:
            whole = configured(self.setting, task.params, split=0, candidate=task.candidate)
            kinds = estimators.TorchClassifier, estimators.TorchRegressor
        found = inside(whole, self.setting.resource)
        net = found.estimator
        if not isinstance(net, kinds):
            return None, f"a {type(net).__name__} is no torch estimator of this package"
        if self.contexts is not None and self.contexts.reach(len(found.names)):
            return None, "callbacks of the search look into each epoch"
        if isinstance(self.X, Mapping | Inputs) and not found.transforms_X:
            return None, "X is a dict"
        from ..lockstep import obstacle

        return net, obstacle(net, arguments_inside(whole, self.setting.fit_params))
