"""Scorers of what an estimator costs: time, memory, size, beside other work of the machine."""

from __future__ import annotations

import sys
import time
import tracemalloc
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import cache
from statistics import median
from typing import Any

import numpy as np
from sklearn.utils.metadata_routing import MetadataRequest

from .._compat import num_samples
from ..rows import as_given, take_rows, with_rows
from ..wrappers import fitted_inside

__all__ = [
    "CostScorer",
    "FitTime",
    "Memory",
    "NParameters",
    "PredictTime",
    "fit_took",
    "n_parameters",
    "peak_bytes",
    "seconds_alone",
]

# Rows of a prediction that is measured, always as many: time per row depends on their number.
BATCH_SIZE = 1000

_fit_seconds: ContextVar[float] = ContextVar("_fit_seconds")

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]


# A call is repeated until the repeats had the processor for so many seconds, or lasted so many.
_SECONDS, _MOST_SECONDS = 0.1, 1.0
_LEAST, _MOST = 5, 200

# Like a prediction of a small network: a third of it is arithmetic, the rest Python. The products
# are too small for more than one thread.
_N_PRODUCTS, _SIZE, _N_STEPS = 8, 64, 1500
_ENOUGH = 100  # of its runs show how fast it is at best


@contextmanager
def fit_took(seconds: float) -> Iterator[None]:
    """While in the body, the estimator that is scored is known to have been fitted in `seconds`."""
    token = _fit_seconds.set(seconds)
    try:
        yield
    finally:
        _fit_seconds.reset(token)


class CostScorer(ABC):
    """A scorer that measures a fitted estimator: ``scorer(estimator, X, y)``, larger is better.

    What depends on predictions is measured on rows of `X`, alone: not as part of a forward pass
    that several networks share, and with all transformers before it.
    """

    def __call__(self, estimator: Any, X: Any = None, y: Any = None) -> float:
        return -self.cost(estimator, X)

    @abstractmethod
    def cost(self, estimator: Any, X: Any) -> float:
        """Return what is to be small.

        Parameters
        ----------
        estimator : estimator
            Fitted.
        X : array-like of shape (n_samples, n_features)
            The rows that the scorer gets.

        Returns
        -------
        float
            Of which the score is the negative.
        """

    def get_metadata_routing(self) -> MetadataRequest:
        """Return what scikit-learn is to pass: nothing.

        Returns
        -------
        MetadataRequest
            Without any request.
        """
        return MetadataRequest(owner=self)

    def _accept_sample_weight(self) -> bool:
        return False

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"


class PredictTime(CostScorer):
    """Seconds that ``predict`` takes per row.

    The prediction is repeated, after one that is not counted, and other work on the machine taken
    out as far as possible: time in which the thread waits for a processor does not count on Linux,
    and a fixed computation beside each repeat shows how much others slow the processor. A
    prediction that waits, for a device or threads of its own, counts by its shortest repeat.

    Parameters
    ----------
    batch_size : int, default=1000
        Rows of each prediction; those of `X` are repeated where there are fewer. 1 is the latency
        of a single row.

    See Also
    --------
    get_scorer : This scorer, and those of other costs, by name.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skhpo.scorers import PredictTime
    >>> X, y = load_iris(return_X_y=True)
    >>> -1e-3 < PredictTime()(LogisticRegression(max_iter=500).fit(X, y), X) < 0
    True
    """

    def __init__(self, batch_size: int = BATCH_SIZE) -> None:
        self.batch_size = batch_size

    def cost(self, estimator: Any, X: Any) -> float:
        rows = _rows(X, self.batch_size)
        estimator.predict(rows)
        return seconds_alone(lambda: estimator.predict(rows)) / self.batch_size


class Memory(CostScorer):
    """Bytes that ``predict`` allocates at its peak, beyond the estimator and its input.

    Counted are arrays of NumPy, tensors of torch and Python's objects, exactly; what other
    libraries allocate by themselves is not seen. Predictions of other threads count, too.

    Parameters
    ----------
    batch_size : int, default=1000
        Rows of the prediction; those of `X` are repeated where there are fewer.
    """

    def __init__(self, batch_size: int = BATCH_SIZE) -> None:
        self.batch_size = batch_size

    def cost(self, estimator: Any, X: Any) -> float:
        rows = _rows(X, self.batch_size)
        estimator.predict(rows)
        return float(peak_bytes(lambda: estimator.predict(rows)))


class NParameters(CostScorer):
    """Numbers that were fitted: weights of a network, coefficients, nodes of trees."""

    def cost(self, estimator: Any, X: Any) -> float:
        return float(n_parameters(estimator))


class FitTime(CostScorer):
    """Seconds that the fit took.

    Of networks that were trained together, the share of one; of a fit that continued another one,
    the time of what it added, scaled to the whole resource. Known in a search only.
    """

    def cost(self, estimator: Any, X: Any) -> float:
        try:
            return _fit_seconds.get()
        except LookupError:
            raise ValueError(
                "neg_fit_time is known while a search scores its fits, and not of a fitted "
                "estimator; score that by another metric"
            ) from None


def _rows(X: Any, n: int) -> Any:
    given = with_rows(X)
    return as_given(take_rows(given, np.arange(n) % num_samples(given)))


def n_parameters(estimator: Any) -> int:
    """Return how many numbers were fitted: weights of a network, coefficients, nodes of trees.

    Parameters
    ----------
    estimator : estimator
        Fitted; of a pipeline, or another wrapper, the one inside counts. Any estimator may say it
        itself, by an attribute `n_parameters_`.

    Raises
    ------
    TypeError
        If that is not known.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skhpo.scorers import n_parameters
    >>> n_parameters(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)))
    15
    """
    fitted = fitted_inside(estimator)
    if hasattr(fitted, "n_parameters_"):
        return int(fitted.n_parameters_)
    if hasattr(fitted, "module_"):
        return sum(parameter.numel() for parameter in fitted.module_.parameters())
    if hasattr(fitted, "coefs_"):
        return sum(np.size(part) for part in [*fitted.coefs_, *fitted.intercepts_])
    if hasattr(fitted, "coef_"):
        return int(np.size(fitted.coef_) + np.size(getattr(fitted, "intercept_", ())))
    if hasattr(fitted, "tree_"):
        return int(fitted.tree_.node_count)
    members = getattr(fitted, "estimators_", None)
    if members is not None:
        return sum(n_parameters(member) for member in np.ravel(members))
    raise TypeError(
        "n_parameters counts the weights of networks and of linear models, and nodes of trees, "
        f"but a {type(fitted).__name__} has none; give it an attribute n_parameters_, or use "
        "another measure"
    )


def seconds_alone(call: Callable[[], object]) -> float:
    """Return how many seconds a call would take if the machine did nothing else.

    While a thread waits for a processor that others have, its own processor time stands still. This
    is what counts, unless the thread gives the processor up by itself: a call that waits in every
    repeat, for a device or for threads of its own, counts by its shortest repeat. Where the system
    cannot tell (other than Linux), that counts for all.

    Other work also slows a thread that runs, because processors share caches and memory. So a
    computation that is always the same runs before and after each repeat, and what it takes more
    than at its best in this process, the call takes more, too: medians are compared.

    Parameters
    ----------
    call : callable
        Called at least five times.
    """
    elapsed: list[float] = []
    used: list[float] = []  # of repeats without waiting
    references = [_reference()]
    while len(elapsed) < _LEAST or (
        sum(used) < _SECONDS and sum(elapsed) < _MOST_SECONDS and len(elapsed) < _MOST
    ):
        n_waits, start_used, start = _n_waits(), time.thread_time(), time.perf_counter()
        call()
        elapsed.append(time.perf_counter() - start)
        spent = time.thread_time() - start_used
        if n_waits is not None and n_waits == _n_waits():
            used.append(spent)
        references.append(_reference())
    if not used:
        return min(elapsed)
    best = _best_reference()
    best[0] = min(best[0], *references)
    return median(used) * best[0] / median(references)


def _n_waits() -> int | None:
    """Return how often this thread gave its processor up by itself; None if that is not known."""
    if hasattr(resource, "RUSAGE_THREAD"):
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    return None


def _reference() -> float:
    """Return the processor time of a computation that is always the same."""
    one, other = _matrices()
    start = time.thread_time()
    for _ in range(_N_PRODUCTS):
        one @ other
    for _ in range(_N_STEPS):
        pass
    return time.thread_time() - start


@cache
def _matrices() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    one, other = rng.random((2, _SIZE, _SIZE), dtype=np.float32)
    return one, other


@cache
def _best_reference() -> list[float]:
    """Return the least processor time of the reference in this process, in a list."""
    return [min(_reference() for _ in range(_ENOUGH))]


def peak_bytes(call: Callable[[], Any]) -> int:
    """Return the bytes that a call holds at its peak, of Python, NumPy and torch.

    Parameters
    ----------
    call : callable
        Without arguments.
    """
    with ExitStack() as stack:
        if not tracemalloc.is_tracing():
            tracemalloc.start()
            stack.callback(tracemalloc.stop)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        tensors = None
        if "torch" in sys.modules:
            tensors = stack.enter_context(_tensors())
        result = call()
        _, peak = tracemalloc.get_traced_memory()
        del result
        return max(peak - before, 0 if tensors is None else tensors.peak - before)


def _tensors() -> Any:
    """Return a context that notes the largest sum of tensors that live and of what is traced."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Tensors(TorchDispatchMode):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
            self.live: dict[int, int] = {}  # bytes of storages that were made here
            self.total = self.peak = 0

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            given = {_key(leaf) for leaf in tree_leaves((args, kwargs)) if _is_tensor(leaf)}
            result = function(*args, **(kwargs or {}))
            for leaf in tree_leaves(result):
                if _is_tensor(leaf) and _key(leaf) not in given and _key(leaf) not in self.live:
                    storage = leaf.untyped_storage()
                    self.live[_key(leaf)] = storage.nbytes()
                    self.total += storage.nbytes()
                    weakref.finalize(storage, self._drop, _key(leaf))
            traced, _ = tracemalloc.get_traced_memory()
            self.peak = max(self.peak, self.total + traced)
            return result

        def _drop(self, key: int) -> None:
            self.total -= self.live.pop(key)

    return Tensors()


def _is_tensor(value: Any) -> bool:
    torch: Any = sys.modules["torch"]
    return isinstance(value, torch.Tensor) and value.layout is torch.strided


def _key(tensor: Any) -> int:
    return int(tensor.untyped_storage()._cdata)
