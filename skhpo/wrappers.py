"""The estimator inside wrappers that only transform its inputs and outputs.

These are `Pipeline`, `TransformedTargetRegressor` and `FixedThresholdClassifier`, in any order and
depth, but not their subclasses. A fit is divided: `fit_wrappers` runs the wrappers' own ``fit``
around a stand-in, which records the data for the estimator inside; then that one is trained in some
way; then `Prepared.assembled` replaces the stand-in by it. What the wrappers do (metadata routing,
checks of y, caches) is not implemented again.

Anything else is fitted as a whole, and `whats_lost` explains what that costs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import process_routing

from ._compat import routing_enabled
from .rows import TransformedRows

__all__ = [
    "Inside",
    "Prepared",
    "arguments_inside",
    "fit_wrappers",
    "fitted_inside",
    "inside",
    "owner_of",
    "whats_lost",
]


# Classes of scikit-learn by name, so that they need not be imported: the parameter with the
# estimator inside, and the attribute with the fitted one.
_HOLDERS: dict[str, tuple[str, str | None]] = {
    "TransformedTargetRegressor": ("regressor", "regressor_"),
    "FixedThresholdClassifier": ("estimator", "estimator_"),
}
# With wrappers that fit what is inside several times, or on parts.
_ANY: dict[str, tuple[str, str | None]] = {
    **_HOLDERS,
    "CalibratedClassifierCV": ("estimator", None),
    "TunedThresholdClassifierCV": ("estimator", "estimator_"),
    "FrozenEstimator": ("estimator", "estimator"),
}
# Transformers that map each value separately, so that rows may be transformed in any portions.
_NUMBER_BY_NUMBER = {
    *("MaxAbsScaler", "MinMaxScaler", "PowerTransformer"),
    *("QuantileTransformer", "RobustScaler", "StandardScaler"),
}


@dataclass(frozen=True)
class Inside:
    """The estimator inside the wrappers of an estimator.

    Parameters
    ----------
    names : tuple of str
        Path of parameters from wrapper to wrapper: ``("regressor", "net")``. Empty if there are no
        wrappers.
    estimator : estimator
    resource : str or None
        Its parameter that is the resource. None if there is none, or rows are the resource.
    transforms_X : bool
        Whether a pipeline has transformers, which many fits may share.
    keeps_unfitted : bool
        Whether a wrapper stores the unfitted estimator in addition to the fitted one.
    """

    names: tuple[str, ...]
    estimator: Any
    resource: str | None
    transforms_X: bool = False
    keeps_unfitted: bool = False

    @property
    def prefix(self) -> str:
        """Prefix of the names of its parameters."""
        return "__".join((*self.names, ""))

    @property
    def fresh(self) -> Any:
        """The estimator to fit, a clone if the wrappers keep the unfitted one."""
        return clone(self.estimator) if self.keeps_unfitted else self.estimator

    def own(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return those parameters of the whole that belong to it, without the prefix."""
        n = len(self.prefix)
        return {name[n:]: value for name, value in params.items() if name.startswith(self.prefix)}

    def may_be_moved_by(self, params: Mapping[str, Any]) -> bool:
        """Return whether parameters of the whole may replace the estimator or a wrapper."""
        return any(
            self.prefix.startswith(f"{name}__") or name.rpartition("__")[2] == "steps"
            for name in params
        )

    def key_of_wrappers(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the parameters of the wrappers in a configuration, as a hashable key.

        Objects are compared by identity: a search space returns the same object for a choice.
        """
        plain = (bool, int, float, str, type(None))
        path = "__".join(self.names)
        touching = sorted(
            (name, type(value).__name__, repr(value) if isinstance(value, plain) else id(value))
            for name, value in params.items()
            if name != path and not name.startswith(self.prefix)
        )
        return (self.names, *touching)


def inside(estimator: Any, resource: str | None = None) -> Inside:
    """Find the estimator inside wrappers.

    `resource` is a parameter of `estimator`, or ``"n_samples"``. A wrapper whose own parameter it
    is counts as the estimator, because its fits differ by level.
    """
    if resource == "n_samples":
        resource = None
    names, transforms_X, keeps_unfitted = [], False, False
    while (name := _name_of_child(estimator)) is not None:
        if resource is not None and not resource.startswith(f"{name}__"):
            break
        names.append(name)
        if type(estimator) is Pipeline:
            transforms_X |= len(estimator.steps) > 1
        else:
            keeps_unfitted = True
        estimator = _child_of(estimator, name)
        resource = None if resource is None else resource.removeprefix(f"{name}__")
    return Inside(tuple(names), estimator, resource, transforms_X, keeps_unfitted)


def arguments_inside(estimator: Any, fit_params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of ``fit`` that reach the estimator inside.

    Raises ValueError if a wrapper refuses some.
    """
    while (name := _name_of_child(estimator)) is not None:
        if routing_enabled():
            fit_params = dict(process_routing(estimator, "fit", **fit_params)[name]["fit"])
        elif type(estimator) is Pipeline:
            fit_params = _arguments_of_last_step(estimator, fit_params)
        elif fit_params and type(estimator) is FixedThresholdClassifier:
            raise ValueError(
                f"FixedThresholdClassifier.fit takes {', '.join(fit_params)} only with metadata "
                "routing; call sklearn.set_config(enable_metadata_routing=True)"
            )
        estimator = _child_of(estimator, name)
    return fit_params


def fitted_inside(estimator: Any) -> Any:
    """Return the fitted estimator inside a fitted one, for inspection."""
    while True:
        if isinstance(estimator, Pipeline):
            child = estimator.steps[-1][1]
        else:
            _, attribute = _holder(type(estimator), _ANY)
            child = None if attribute is None else getattr(estimator, attribute, None)
        if not hasattr(child, "fit"):
            return estimator
        estimator = child


def owner_of(estimator: Any, prefix: str = "") -> tuple[Any, str]:
    """Return the estimator inside wrappers of any kind, and the prefix of its parameters."""
    if isinstance(estimator, Pipeline) and estimator.steps:
        name, child = estimator.steps[-1]
    else:
        name, _ = _holder(type(estimator), _ANY)
        child = getattr(estimator, name) if name is not None else None
    return owner_of(child, f"{prefix}{name}__") if hasattr(child, "fit") else (estimator, prefix)


def whats_lost(estimator: Any, resource: str | None = None) -> str | None:
    """Return what fitting an estimator as a whole costs, as a sentence, or None if nothing."""
    found = inside(estimator, resource)
    whole = found.estimator
    frozen = isinstance(whole, FrozenEstimator)
    params = {} if frozen else whole.get_params(deep=True)
    nets = [value for value in params.values() if _is_network(value)]
    lost = []
    if found.resource is not None and "__" in found.resource:
        lost.append(f"no fit is continued to a larger {resource}, each is repeated")
    if nets:
        lost.append("networks are not trained together")
        if not _shows_what_is_inside(whole):
            lost.append("their learning curves are not kept")
    if not lost:
        return None
    what = f", with the {type(nets[0]).__name__} inside" if nets else ""
    return f"{type(whole).__name__} is fitted whole{what}: {', '.join(lost)}"


def _shows_what_is_inside(estimator: Any) -> bool:
    """Return whether `fitted_inside` will find the network of an unfitted estimator."""
    while isinstance(estimator, Pipeline) or _holder(type(estimator), _ANY)[1] is not None:
        estimator = _child_of(estimator, str(_holder(type(estimator), _ANY)[0]))
    return _is_network(estimator)


def _name_of_child(estimator: Any) -> str | None:
    """Return the name of a wrapper's parameter with the estimator inside; None if no wrapper."""
    if type(estimator) is Pipeline and estimator.steps:
        name = estimator.steps[-1][0]
    else:
        name = _holder(type(estimator))[0]
    if name is None:
        return None
    child = _child_of(estimator, name)
    return name if hasattr(child, "fit") and not isinstance(child, type) else None


def _child_of(wrapper: Any, name: str) -> Any:
    return wrapper.steps[-1][1] if isinstance(wrapper, Pipeline) else getattr(wrapper, name)


def _holder(
    cls: type[Any], holders: Mapping[str, tuple[str, str | None]] = _HOLDERS
) -> tuple[str | None, str | None]:
    """Return parameter and attribute of a (supported) wrapper with the estimator inside."""
    return holders.get(cls.__name__, (None, None)) if _is_of_sklearn(cls) else (None, None)


def _is_of_sklearn(cls: type[Any]) -> bool:
    return cls.__module__.startswith("sklearn.")


def _arguments_of_last_step(pipeline: Any, fit_params: Mapping[str, Any]) -> dict[str, Any]:
    names = [name for name, _ in pipeline.steps]
    for key in fit_params:
        step, _, inner = key.partition("__")
        if not inner:
            raise ValueError(
                f"Pipeline.fit does not accept the {key} parameter; name the step that it is for, "
                f"such as {names[-1]}__{key}"
            )
        if step not in names:
            raise ValueError(
                f"arguments of Pipeline.fit must begin with the name of a step, {', '.join(names)}"
                f", but got {key!r}"
            )
    prefix = f"{names[-1]}__"
    return {k.removeprefix(prefix): v for k, v in fit_params.items() if k.startswith(prefix)}


def _is_network(value: Any) -> bool:
    """Whether a parameter is an estimator around a network: of this package, or of skorch."""
    if isinstance(value, type | FrozenEstimator):
        return False
    return hasattr(value, "initialize_module") or hasattr(value, "__skhpo_tags__")


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
        """Return the whole estimator, fitted, from itself unfitted and the fitted one inside.

        Without `transforming` the result has no transformers, and takes transformed X.
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
        kinds = set(map(type, steps))
        if not all(_is_of_sklearn(cls) and cls.__name__ in _NUMBER_BY_NUMBER for cls in kinds):
            return None
        found = TransformedRows(X, rows, partial(_transformed, steps))
        return found if type(found.first) is np.ndarray else None

    def _wrappers(self) -> Iterator[Any]:
        """Yield the fitted wrappers, the outermost first."""
        wrapper = self.wrapper
        for _ in self.names:
            yield wrapper
            wrapper = _fitted_child(wrapper)


def fit_wrappers(
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
    return getattr(wrapper, str(_holder(type(wrapper))[1]))


def _with_inside(wrapper: Any, names: Sequence[str], leaf: Any) -> Any:
    """Return copies of wrappers with another estimator inside."""
    if not names:
        return leaf
    name, *others = names
    copied = copy.copy(wrapper)
    child = _with_inside(_child_of(wrapper, name), others, leaf)
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
    unfitted = _child_of(whole, name)
    child = _assembled(_fitted_child(wrapper), unfitted, others, fitted, transforming)
    done = copy.copy(wrapper)
    if isinstance(wrapper, Pipeline):
        done.steps = [*(wrapper.steps[:-1] if transforming else ()), (name, child)]
        return done
    setattr(done, name, unfitted)
    setattr(done, str(_holder(type(wrapper))[1]), child)
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
