"""A divided fit: fitted wrappers, and the estimator inside."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from .._compat import imported_class
from ..rows import TransformedRows
from ._inside import child_of, holder, inside

__all__ = ["Prepared", "prepare"]

# Transformers that map each value separately, so that rows may be transformed in any portions.
# Classes by name, so that they need not be imported.
_NUMBER_BY_NUMBER = (
    "preprocessing.MaxAbsScaler",
    "preprocessing.MinMaxScaler",
    "preprocessing.PowerTransformer",
    "preprocessing.QuantileTransformer",
    "preprocessing.RobustScaler",
    "preprocessing.StandardScaler",
)


@dataclass(frozen=True)
class Prepared:
    """Wrappers fitted on a training part, and the data for the estimator inside.

    Parameters
    ----------
    names : tuple of str
        The path to the estimator, see `Inside`.
    wrapper : estimator
        The outermost one, fitted; without wrappers the estimator itself, unfitted.
    X, y : array-like
        As the estimator inside gets them; some transformers (target encoders) transform training
        data differently than ``transform`` does.
    fit_params : dict
    """

    names: tuple[str, ...]
    wrapper: Any
    X: Any
    y: Any
    fit_params: dict[str, Any]

    def assembled(self, whole: Any, fitted: Any, *, transforming: bool = True) -> Any:
        """Return the whole estimator, fitted.

        Parameters
        ----------
        whole : estimator
            Unfitted, with all parameters.
        fitted : estimator
            The estimator inside.
        transforming : bool, default=True
            If False, the result has no transformers, and takes transformed X.
        """
        return _assembled(self.wrapper, whole, self.names, fitted, transforming)

    def inner_data(self, X: Any, y: Any = None) -> tuple[Any, Any]:
        """Transform other data than the training part for the estimator inside."""
        for wrapper in self._wrappers():
            if isinstance(wrapper, Pipeline):
                X = _transformed(_steps(wrapper), X)
            elif hasattr(wrapper, "transformer_") and y is not None:
                y = _transformed_target(wrapper, y)
        return X, y

    def inner_rows(self, X: NDArray[Any], rows: NDArray[np.intp]) -> TransformedRows | None:
        """Return rows of an array that are transformed for the estimator inside when they are read.

        None if a transformer may need all of them at once.
        """
        pipelines = (wrapper for wrapper in self._wrappers() if isinstance(wrapper, Pipeline))
        steps = [step for pipeline in pipelines for step in _steps(pipeline)]
        known = [imported_class(name) for name in _NUMBER_BY_NUMBER]
        if not all(type(step) in known for step in steps):
            return None
        found = TransformedRows(X, rows, partial(_transformed, steps))
        return found if type(found.first) is np.ndarray else None

    def _wrappers(self) -> Iterator[Any]:
        """Yield the fitted wrappers, the outermost first."""
        wrapper = self.wrapper
        for _ in self.names:
            yield wrapper
            wrapper = _fitted_child(wrapper)


def prepare(
    estimator: Any, X: Any, y: Any, fit_params: Mapping[str, Any], resource: str | None = None
) -> Prepared:
    """Fit the transformers of an unfitted estimator in place, but not the estimator inside."""
    found = inside(estimator, resource)
    if not found.names:
        return Prepared((), estimator, X, y, dict(fit_params))
    stand_in = _StandIn(found.estimator)
    wrapper = _with_inside(estimator, found.names, stand_in)
    args = (X,) if y is None else (X, y)
    wrapper.fit(*args, **fit_params)
    return Prepared(found.names, wrapper, *stand_in.release())


class _StandIn:
    """Replaces the estimator inside wrappers, and records the data that it would be fitted on."""

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator
        self._taken: Any = None

    def fit(self, X: Any, y: Any = None, **params: Any) -> _StandIn:
        self._taken = X, y, params
        return self

    def release(self) -> tuple[Any, Any, dict[str, Any]]:
        """Return the arguments of ``fit``, and drop all references."""
        taken: tuple[Any, Any, dict[str, Any]] = self._taken
        self._taken = self._estimator = None
        return taken

    def set_callbacks(self, *callbacks: Any) -> _StandIn:
        self._skl_callbacks = list(callbacks)
        return self

    def __sklearn_clone__(self) -> _StandIn:
        return self

    def __getattr__(self, name: str) -> Any:
        # Wrappers ask for tags, for requests of metadata, and whether there are methods.
        if name.startswith("_") and not name.startswith("__sklearn"):
            raise AttributeError(name)
        return getattr(self._estimator, name)


def _steps(pipeline: Pipeline) -> list[Any]:
    """Return its transformers."""
    return [step for _, step in pipeline.steps[:-1] if step is not None and step != "passthrough"]


def _transformed(steps: Sequence[Any], X: Any) -> Any:
    for step in steps:
        X = step.transform(X)
    return X


def _fitted_child(wrapper: Any) -> Any:
    if isinstance(wrapper, Pipeline):
        return wrapper.steps[-1][1]
    return getattr(wrapper, str(holder(type(wrapper))[1]))


def _with_inside(wrapper: Any, names: Sequence[str], leaf: Any) -> Any:
    """Return copies of wrappers with another estimator inside."""
    if not names:
        return leaf
    name, *others = names
    copied = copy.copy(wrapper)
    child = _with_inside(child_of(wrapper, name), others, leaf)
    if isinstance(wrapper, Pipeline):
        copied.steps = [*wrapper.steps[:-1], (name, child)]
    else:
        setattr(copied, name, child)
    return copied


def _assembled(
    wrapper: Any, whole: Any, names: Sequence[str], fitted: Any, transforming: bool
) -> Any:
    if not names:
        return fitted
    name, *others = names
    unfitted = child_of(whole, name)
    child = _assembled(_fitted_child(wrapper), unfitted, others, fitted, transforming)
    done = copy.copy(wrapper)
    if isinstance(wrapper, Pipeline):
        done.steps = [*(wrapper.steps[:-1] if transforming else ()), (name, child)]
        return done
    setattr(done, name, unfitted)
    setattr(done, str(holder(type(wrapper))[1]), child)
    for attribute in ("n_features_in_", "feature_names_in_"):
        if hasattr(child, attribute) and not hasattr(done, attribute):
            setattr(done, attribute, getattr(child, attribute))
    return done


def _transformed_target(wrapper: Any, y: Any) -> NDArray[Any]:
    y = np.asarray(y)
    transformed: NDArray[Any] = wrapper.transformer_.transform(
        y.reshape(-1, 1) if y.ndim == 1 else y
    )
    column = transformed.ndim == 2 and transformed.shape[1] == 1
    return transformed[:, 0] if column and y.ndim == 1 else transformed
