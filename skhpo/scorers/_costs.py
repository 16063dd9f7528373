"""What an estimator costs: time, memory and parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from sklearn.utils.metadata_routing import MetadataRequest

from .._compat import num_samples, safe_indexing
from ..rows import as_given, with_rows
from ..wrappers import fitted_inside
from ._peak import peak_bytes
from ._timing import seconds_alone

__all__ = [
    "CostScorer",
    "FitTime",
    "Memory",
    "NParameters",
    "PredictTime",
    "fit_took",
    "n_parameters",
]

# Rows of a prediction that is measured, always as many: time per row depends on their number.
BATCH_SIZE = 1000

_fit_seconds: ContextVar[float] = ContextVar("_fit_seconds")


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
    return as_given(safe_indexing(given, np.arange(n) % num_samples(given)))


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
