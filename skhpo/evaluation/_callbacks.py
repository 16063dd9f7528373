"""Callbacks of the fits of a search: scikit-learn's, and the files of skorch's.

scikit-learn's are called as `GridSearchCV` calls them. A fit is a task of the search: it begins
when a worker starts it, ends when it is scored or has failed, and gets its training rows. Callbacks
that ask for it also see the estimator that is trained. Each fit has a folder for the files that
skorch's callbacks write.
"""

from __future__ import annotations

import copyreg
import functools
import inspect
import os
import pickle
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from sklearn.callback import AutoPropagatedCallback, CallbackContext

from .._compat import check_method_params, dumps
from ..rows import as_given, split_by_rows
from ._tasks import Environment

if TYPE_CHECKING:
    from ._tasks import FitTask, Setting

__all__ = ["FitContexts", "evaluation", "separate_files", "told"]


class FitContexts:
    """Makes the arguments of a search's callbacks for each fit.

    Parameters
    ----------
    search : estimator
    context : CallbackContext
        Of the task that all fits are part of.
    """

    def __init__(self, search: Any, context: Any) -> None:
        self.search = search
        self.context = context

    def reach(self, depth: int) -> bool:
        """Whether a callback of the search is also called for an estimator at this depth.

        Parameters
        ----------
        depth : int
            0 for the estimator of the search, 1 for a step of that.
        """
        depth += self.context._propagation_depth
        return any(
            isinstance(callback, AutoPropagatedCallback)
            and (callback.max_propagation_depth is None or callback.max_propagation_depth > depth)
            for callback in self.context._callbacks
        )

    def fit(self, number: int, *, leaves: bool) -> tuple[Any, Any] | bytes:
        """Return a `FitContext`, as bytes if it leaves this process.

        Parameters
        ----------
        number : int
            Of the fit, among all.
        leaves : bool
        """
        context = self.context.subcontext(task_name="candidate-split-evaluation", task_id=number)
        if not leaves:
            return self.search, context
        # Now, and not by the thread that sends it: further contexts would be added meanwhile.
        reducers = {CallbackContext: _without_children, type(self.search): _as_given}
        try:
            return bytes(dumps((self.search, context), reducers=reducers))
        except Exception as error:
            callbacks = getattr(self.search, "_skl_callbacks", [])
            raise TypeError(
                f"with worker processes the callbacks of scikit-learn must be picklable, but those "
                f"of the search, {callbacks}, or of its estimator are not ({error}); use threads: "
                "joblib.parallel_config('threading')"
            ) from error


def _without_children(context: Any) -> tuple[Any, ...]:
    state = {**vars(context), "_children_map": {}}
    return copyreg.__newobj__, (type(context),), state  # type: ignore[attr-defined]


def _as_given(search: Any) -> tuple[Any, ...]:
    """Reduce a search to its parameters, without those that only its own process uses."""
    state = {**search.get_params(deep=False), "callbacks": (), "cv": None}
    if hasattr(search, "_skl_callbacks"):
        state["_skl_callbacks"] = search._skl_callbacks
    return copyreg.__newobj__, (type(search),), state  # type: ignore[attr-defined]


@contextmanager
def evaluation(
    task: FitTask, setting: Setting, X: Any, y: Any, rows: Any
) -> Iterator[Callable[..., AbstractContextManager[None]]]:
    """Context of everything that is done for a fit; at its end callbacks are called.

    Parameters
    ----------
    task : FitTask
    setting : Setting
    X, y : array-like
        All data.
    rows : ndarray
        Those it is trained on.

    Yields
    ------
    training : callable
        ``training(estimator, depth)`` is the context manager around the training of an estimator,
        which is so deep in that of the search; callbacks are called when it is entered.
    """
    packed = isinstance(task.context, bytes)
    search, context = pickle.loads(task.context) if packed else task.context

    @functools.cache
    def data() -> tuple[Any, Any]:
        part, targets = split_by_rows(setting.estimator, X, y, rows)
        return as_given(part), targets

    def metadata() -> dict[str, Any] | None:
        weight = check_method_params(X, setting.fit_params, rows).get("sample_weight")
        return None if weight is None else {"sample_weight": weight}

    hooks = {"X": lambda: data()[0], "y": lambda: data()[1], "metadata": metadata}
    hooks["estimator"] = search
    begun = []

    @contextmanager
    def training(estimator: Any, depth: int = 0) -> Iterator[None]:
        with ExitStack() as stack:
            begun.append(estimator)
            with _no_fault_of_the_fit():
                stack.enter_context(told(context, hooks, estimator, depth))
            yield

    try:
        yield training
    finally:
        if begun:
            with _no_fault_of_the_fit():
                context.call_on_fit_task_end(**hooks)


@contextmanager
def told(context: Any, hooks: Mapping[str, Any], estimator: Any, depth: int = 0) -> Iterator[None]:
    """Context of the training of an estimator for a task; at its beginning callbacks are called.

    Parameters
    ----------
    context : CallbackContext
        Of the task.
    hooks : dict
        What callbacks are called with.
    estimator : estimator
        Callbacks that want it go on to this one.
    depth : int, default=0
        How deep it is in the estimator of the search.
    """
    context._propagation_depth = context.parent._propagation_depth + depth
    with context.propagate_callback_context(estimator):
        context.call_on_fit_task_begin(**hooks)
        yield


@contextmanager
def _no_fault_of_the_fit() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise Environment(error) from error


def separate_files(estimator: Any, folder: str) -> None:
    """Set the folders of skorch's callbacks, so that the files of a fit are in a folder of its own.

    All fits of a search have copies of the same callbacks. Files of `Checkpoint` and
    `TrainEndCheckpoint`, from which ``load_best`` reads again, would otherwise be those of the fit
    that wrote last.

    Parameters
    ----------
    estimator : estimator
        Unfitted, with networks anywhere in its parameters; their callbacks are changed.
    folder : str
        Below the one that is set, as ``"search-1f3a/candidate-0-split-2"``.

    Raises
    ------
    ValueError
        If a callback writes into several folders.
    """
    if "skorch" not in sys.modules:
        return
    for net in (estimator, *estimator.get_params(deep=True).values()):
        callbacks = getattr(net, "callbacks", None)
        if not isinstance(callbacks, list) or not hasattr(net, "_uniquely_named_callbacks"):
            continue
        named = {
            name: getattr(net, f"callbacks__{name}", callback)
            for name, callback in net._uniquely_named_callbacks()
        }
        written = {_move(each, net, f"callbacks__{name}__", folder) for name, each in named.items()}
        for callback in named.values():
            # What loads files goes with those that the fit writes; others are there already.
            for part in getattr(callback, "__dict__", {}).values():
                if not isinstance(part, type):
                    _move(part, None, "", folder, written)


def _move(
    callback: Any, net: Any, prefix: str, folder: str, only: Collection[str | None] | None = None
) -> str | None:
    """Move the files of a callback, if it has some: an instance, or a class with settings.

    Returns
    -------
    before : str or None
        The folder where they were; `only` those that were in one of some are moved.
    """
    settings = _files_of(callback)
    if not {"dirname", "fn_prefix"} <= settings.keys():
        return None
    of_net = {k: getattr(net, prefix + k) for k in settings if hasattr(net, prefix + k)}
    settings |= of_net
    before: str
    dirname, start = settings.pop("dirname"), settings.pop("fn_prefix")
    files = {name: value for name, value in settings.items() if value is not None}
    if not files or not all(isinstance(value, str) for value in files.values()):
        return None  # files in memory are copies of their own
    paths = {name: os.path.split(os.path.join(dirname, start + f)) for name, f in files.items()}
    folders = {head for head, _ in paths.values()}
    if len(folders) > 1:
        kind = getattr(callback, "__name__", type(callback).__name__)
        raise ValueError(
            f"in a search each fit has a folder of its own, so that all files of {kind} must lie "
            f"in one, but they lie in {sorted(folders)}; set its dirname, and no folder elsewhere"
        )
    (before,) = folders
    if only is not None and before not in only:
        return None
    moved = {name: tail for name, (_, tail) in paths.items()}
    moved |= {"dirname": os.path.join(before, folder), "fn_prefix": ""}
    for name, value in moved.items():
        if not isinstance(callback, type):
            setattr(callback, name, value)
        if isinstance(callback, type) or name in of_net:
            setattr(net, prefix + name, value)
    return before


def _files_of(callback: Any) -> dict[str, Any]:
    """Return the settings that say where a callback writes."""
    if isinstance(callback, type):
        parameters = inspect.signature(callback).parameters.values()
        settings = {p.name: p.default for p in parameters}
    else:
        settings = dict(getattr(callback, "__dict__", {}))
    names = ("dirname", "fn_prefix")
    return {k: v for k, v in settings.items() if k.startswith("f_") or k in names}
