"""Every private name of scikit-learn, and of joblib and loky in it, in this one file.

When a release moves one of these, only this file changes. The methods of
``joblib.parallel.ParallelBackendBase`` are public: backends of others have them, too.
"""

import queue
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from joblib.externals.loky import BrokenProcessPool, reusable_executor
from joblib.externals.loky.backend import resource_tracker
from joblib.externals.loky.backend.reduction import dumps
from joblib.hashing import Hasher
from sklearn.base import _fit_context
from sklearn.metrics._scorer import _BaseScorer, _MultimetricScorer, _PassthroughScorer
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    Options,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._pprint import _EstimatorPrettyPrinter
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.metadata_routing import _routing_enabled as routing_enabled
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.metaestimators import _safe_split as safe_split
from sklearn.utils.validation import _check_feature_names_in as feature_names
from sklearn.utils.validation import _check_method_params as check_method_params
from sklearn.utils.validation import _num_samples as num_samples

fit_context = _fit_context
MultimetricScorer = _MultimetricScorer
PassthroughScorer = _PassthroughScorer

__all__ = [
    "BaseSearchCV",
    "HasMethods",
    "Interval",
    "LokyWorkers",
    "MultimetricScorer",
    "Options",
    "PassthroughScorer",
    "StrOptions",
    "backend_arguments",
    "check_method_params",
    "dumps",
    "feature_names",
    "fit_context",
    "hashed_as",
    "imported_class",
    "metadata_of_scorer",
    "num_samples",
    "output_container",
    "print_inside",
    "resource_tracker",
    "routing_enabled",
    "safe_indexing",
    "safe_split",
    "scorer_parts",
    "validate_parameter_constraints",
]


def imported_class(name: str) -> Any:
    """Return a public class of scikit-learn, as "compose.ColumnTransformer".

    None if nothing has imported its module: no object at hand is of it then, and importing takes
    long.
    """
    module, _, own = name.rpartition(".")
    return getattr(sys.modules.get(f"sklearn.{module}"), own, None)


def print_inside(cls: Any, shown: Callable[[Any], Any]) -> None:
    """Have estimators of a class print alike alone and inside of other estimators.

    scikit-learn prints a pipeline without ``__repr__`` of its steps, from their parameters. Its
    printer has a function for each ``__repr__`` that it knows: this adds one, that of the class.
    `shown` maps an estimator to one whose parameters print as they should.
    """

    def pprint(printer: Any, estimator: Any, *args: Any) -> None:
        printer._pprint_estimator(shown(estimator), *args)

    _EstimatorPrettyPrinter._dispatch[cls.__repr__] = pprint


def output_container(transformer: Any) -> str:
    """Return what a transformer's ``transform`` is to return: "default", "pandas" or "polars"."""
    container: str = _get_output_config("transform", transformer)["dense"]
    return container


def metadata_of_scorer(scorer: Any, names: Iterable[str], *, routed: bool) -> set[str]:
    """Return which metadata of ``fit`` of a search its scorer gets, of those with some names.

    Where metadata are routed what it requests, else ``sample_weight`` where it takes that.
    """
    if routed:
        return set(get_routing_for_object(scorer).consumes("score", names))
    accepts = getattr(scorer, "_accept_sample_weight", None)
    return {"sample_weight"} & set(names) if accepts is not None and accepts() else set()


def scorer_parts(scorer: Any) -> tuple[Any, int, Any] | None:
    """Return the metric of a scorer, its sign, and the method that it asks.

    The metric is None where the scorer has arguments for it. None for what ``make_scorer`` did not
    make.
    """
    if not isinstance(scorer, _BaseScorer):
        return None
    function = None if scorer._kwargs else scorer._score_func
    return function, scorer._sign, scorer._response_method


def hashed_as(kind: type, values_of: Callable[[Any], Any]) -> None:
    """Have ``joblib.hash`` hash the objects of exactly a class by what a function returns of them.

    It hashes pickles, in which torch's tensors have addresses, and sorts the keys of dicts, which
    tensors cannot be.
    """
    Hasher.dispatch[kind] = lambda hasher, value: hasher.save((kind, values_of(value)))


def backend_arguments(parallel: Any) -> dict[str, Any]:
    """Return the arguments with which a ``joblib.Parallel`` configures its backend."""
    arguments: dict[str, Any] = parallel._backend_kwargs
    return arguments


class LokyWorkers:
    """The worker processes of a configured backend of kind loky, which joblib shares and reuses."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    @property
    def executor(self) -> Any:
        """The pool of processes that the backend uses."""
        return self._backend._workers

    @executor.setter
    def executor(self, executor: Any) -> None:
        self._backend._workers = executor

    def call_first(self, function: Callable[..., Any], *args: Any) -> None:
        """Have workers that start from now on call a function first, unless the user has one."""
        executor = self.executor
        if executor._initializer is None:
            executor._initializer, executor._initargs = function, args

    def folder_of_call(self) -> str:
        """Have arrays written where the backend's ``terminate`` removes them; return the folder."""
        folders = self.executor._temp_folder_manager
        folders.set_current_context(self._backend.parallel._id)
        folder: str = folders.resolve_temp_folder_name()
        return folder

    def end_calls_without_thread(self) -> None:
        """End the calls as lost, if the thread that hands them to workers has failed."""
        thread = self.executor._executor_manager_thread
        if thread is None or thread.is_alive() or not self.executor._pending_work_items:
            return
        thread.terminate_broken(
            BrokenProcessPool("the thread that hands calls to workers ended by an error of its own")
        )

    def drop_waiting(self) -> None:
        """Forget calls that no worker has taken."""
        with suppress(queue.Empty):
            while True:
                self.executor._work_ids.get_nowait()

    def successors(self, configure: Callable[[], Any], submit: Callable[[], Any]) -> Any:
        """Start a first one of new workers while the present ones stay; return their executor.

        `configure` configures the backend, `submit` submits a call to it. joblib has turned to the
        new ones then, the backend has not.
        """
        present = self.executor
        try:
            with reusable_executor._executor_lock:
                reusable_executor._executor = None  # joblib would end the present ones
                configure()
            executor = self.executor
            # One worker alone is there the sooner; the others start with the next call.
            n_jobs, executor._max_workers = executor._max_workers, 1
            submit()
            executor._max_workers = n_jobs
        finally:
            self.executor = present
        return executor
