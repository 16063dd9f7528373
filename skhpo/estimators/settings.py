"""Settings of a net and its components: names, which differ from defaults, which are invalid.

Also what they say of the way in which data are read.
"""

from __future__ import annotations

import functools
import inspect
import numbers
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import skorch.dataset
import torch
from sklearn import get_config
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.utils.metadata_routing import process_routing
from torch.utils.data import DataLoader, IterableDataset

from ..arguments import COUNT_OR_ZERO, NON_NEGATIVE, check_arguments
from ..names import nearest_first, resolve_optimizer, resolve_scheduler
from ..space import as_written
from ..training.data import is_read_by_rows
from ..training.initialization import INITIALIZATIONS
from ._hyperparameter_schedule import check_hyperparameter_schedule

__all__ = [
    "STREAMS",
    "TRANSFORMS",
    "HiddenParameter",
    "NetPart",
    "arguments_of",
    "arguments_of_callbacks",
    "arguments_of_transform",
    "begins_with_hp",
    "changed_settings",
    "check_settings",
    "collates_plainly",
    "has_own_dataset",
    "made_request_methods",
    "nested_parameters",
    "overridden",
    "own_classes",
    "reads_as_given",
    "reads_by_number",
    "refuse_changes",
    "routed",
    "same_value",
    "signature_of",
    "slices_batches",
]

if TYPE_CHECKING:
    # What a part of the estimators can ask of a net: anything, as skorch has no types.
    from skorch import NeuralNet as NetPart
else:
    NetPart = object

# In the order in which they are applied.
TRANSFORMS = ("transform", "train_transform")
# Streams of random numbers that `seeds` can set.
STREAMS = ("init", "shuffle", "forward", "validation", "augment")
# Methods of skorch's that decide when the optimizer steps.
_STEPS = ("train_step", "get_train_step_accumulator", "_zero_grad_optimizer")
_OF_PACKAGES = ("skorch", "skhpo", "sklearn", "torch", "builtins", "abc")
# Settings of an iterator that need no DataLoader: slices of tensors implement the first line, and
# the others do not change the batches.
_ITERATOR_SETTINGS = {
    *("batch_size", "shuffle", "drop_last"),
    *("num_workers", "persistent_workers", "prefetch_factor", "multiprocessing_context"),
    *("pin_memory", "pin_memory_device", "timeout"),
}
# Those that say in a way of their own which items a batch has.
_OWN_ORDER = {"sampler", "batch_sampler", "generator"}


def changed_settings(net: Any, component: str) -> dict[str, Any]:
    """Return the settings of a component that differ from its defaults, as a dict.

    Only these may select an implementation: setting a parameter to its default changes nothing,
    not even rounding. Components are "callbacks", "module", "criterion", "iterator_train", ...
    """
    own = nested_parameters(net, component)
    if not own:
        return {}
    if component == "callbacks":
        defaults = arguments_of_callbacks(dict(net._default_callbacks))
    else:
        defaults = net._arguments_of(component) or {}
    return {k: v for k, v in own.items() if k not in defaults or not same_value(v, defaults[k])}


def nested_parameters(net: Any, component: str) -> dict[str, Any]:
    """Return the parameters of a component that are set, as a dict."""
    prefix = component + "__"
    # Asked dozens of times per fit, and most often there is none.
    if prefix not in "\n".join(vars(net)):
        return {}
    return {k.removeprefix(prefix): v for k, v in vars(net).items() if k.startswith(prefix)}


def own_classes(cls: Any) -> tuple[type[Any], ...]:
    """Return the user's classes among the bases of a class.

    Of an estimator's bases they are all that the package's do not have, also one of skorch's.
    """
    return _find_own_classes(cls)


@functools.lru_cache(maxsize=256)
def _find_own_classes(cls: Any) -> tuple[type[Any], ...]:
    bases: tuple[type[Any], ...] = cls.__mro__
    homes = [base.__module__.partition(".")[0] for base in bases]
    ours = [base for base, home in zip(bases, homes, strict=True) if home == "skhpo"]
    if ours:
        known = {base for one in ours for base in one.__mro__}
        return tuple(base for base in bases if base not in known)
    pairs = zip(bases, homes, strict=True)
    return tuple(base for base, home in pairs if home not in _OF_PACKAGES)


def overridden(net: Any, *names: str) -> list[str]:
    """Return which of some methods a net has from a class of the user's."""
    own = own_classes(type(net))
    return [name for name in names if own and _home_of(type(net), name) in own]


def _home_of(cls: Any, name: str) -> Any:
    return next((base for base in cls.__mro__ if name in vars(base)), None)


def has_own_dataset(net: Any) -> bool:
    """Whether `X` is given to a dataset of the user's."""
    return (
        net.dataset is not skorch.dataset.Dataset
        or bool(changed_settings(net, "dataset"))
        or bool(overridden(net, "get_dataset"))
    )


def reads_as_given(net: Any, X: Any) -> bool:
    """Whether `X` is passed to a `Dataset` as given, whose rows may have any type."""
    return has_own_dataset(net) or bool(is_read_by_rows(X))


def collates_plainly(net: Any, *, training: bool) -> bool:
    """Whether a batch is what torch makes of the items, by a `DataLoader` or without one."""
    name = "iterator_train" if training else "iterator_valid"
    return (
        getattr(net, name) is DataLoader
        and set(changed_settings(net, name)) <= _ITERATOR_SETTINGS
        and not callable(net.collate)
        and not overridden(net, "get_iterator")
    )


def slices_batches(net: Any, *, training: bool = True) -> bool:
    """Whether no setting needs a `Dataset` or a `DataLoader`, so that arrays are sliced."""
    return (
        collates_plainly(net, training=training)
        and not (training and overridden(net, "get_split_datasets"))
        and not has_own_dataset(net)
    )


def reads_by_number(net: Any, dataset: object, *, training: bool) -> bool:
    """Whether a net decides which items of a dataset a batch has, and asks for them by number."""
    name = "iterator_train" if training else "iterator_valid"
    settings = changed_settings(net, name)
    return (
        getattr(net, name) is DataLoader
        and not _OWN_ORDER & set(settings)
        and settings.get("batch_size", 1) is not None
        and (training or not settings.get("shuffle"))
        and not isinstance(dataset, IterableDataset)
        and not overridden(net, "get_iterator")
    )


def signature_of(factory: Any) -> tuple[inspect.Parameter, ...]:
    """Return the parameters of a callable; those of classes and functions are cached."""
    cached = isinstance(factory, type | types.FunctionType)
    return (_read_signature if cached else _read_signature.__wrapped__)(factory)


@functools.lru_cache(maxsize=256)
def _read_signature(factory: Any) -> tuple[inspect.Parameter, ...]:
    return tuple(inspect.signature(factory).parameters.values())


def begins_with_hp(factory: Any) -> bool:
    """Whether the first argument of what makes a module is ``hp``, also by position only."""
    try:
        parameters = signature_of(factory)
    except (TypeError, ValueError):
        return False
    return bool(parameters) and parameters[0].name == "hp"


def arguments_of(factory: Any) -> dict[str, Any] | None:
    """Return the arguments of a class or callable, from name to default (None where none).

    None if the signature has ``**kwargs`` or cannot be read: any name may be valid then.
    """
    cached = isinstance(factory, type | types.FunctionType)
    found = (_read_arguments if cached else _read_arguments.__wrapped__)(factory)
    return None if found is None else dict(found)


@functools.lru_cache(maxsize=256)
def _read_arguments(factory: Any) -> dict[str, Any] | None:
    try:
        parameters = signature_of(factory)
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    named = (p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return {p.name: None if p.default is p.empty else p.default for p in named}


def arguments_of_callbacks(callbacks: Any) -> dict[str, Any]:
    """Return callbacks by name, and their parameters by names such as ``"print_log__sink"``."""
    known = {}
    for name, callback in callbacks.items():
        known[name] = callback
        arguments = callback.get_params() if hasattr(callback, "get_params") else {}
        known |= {f"{name}__{argument}": value for argument, value in arguments.items()}
    return known


def same_value(one: Any, other: Any) -> bool:
    """Whether two values of a parameter are known to be the same."""
    if one is other:
        return True
    if type(one) is type(other) and hasattr(one, "get_params"):
        ours, theirs = one.get_params(deep=False), other.get_params(deep=False)
        return ours.keys() == theirs.keys() and all(same_value(ours[k], theirs[k]) for k in ours)
    kinds = (numbers.Number, str)
    return isinstance(one, kinds) and isinstance(other, kinds) and one == other


def refuse_changes(changes: Mapping[str, tuple[Any, Any]], what: str) -> None:
    """Raise ValueError if there are parameters that a trained network was made with otherwise.

    `changes` maps their names to the value now and that of the network.
    """
    if not changes:
        return
    given, made = (
        ", ".join(f"{name}={as_written(pair[i])!r}" for name, pair in changes.items())
        for i in range(2)
    )
    raise ValueError(
        f"with warm_start=True fit goes on with the trained {what}, which cannot take {given}, as "
        f"it was made with {made}; set warm_start=False for a new one, or set the parameters back"
    )


def made_request_methods(cls: type) -> list[str]:
    """Return the ``set_*_request`` methods that scikit-learn made for a class by its signatures."""
    return [
        name
        for name, method in vars(cls).items()
        if name.startswith("set_") and name.endswith("_request") and not inspect.isfunction(method)
    ]


class HiddenParameter:
    """A parameter that is no attribute, as what has ``transform`` is a transformer to scikit-learn.

    Code of this package reads it from ``vars``.
    """

    def __set_name__(self, owner: Any, name: str) -> None:
        self.name = name

    def __get__(self, net: Any, owner: Any = None) -> NoReturn:
        raise AttributeError(
            f"{self.name!r} of a network is a parameter and no attribute; see get_params()"
        )

    def __set__(self, net: Any, value: Any) -> None:
        vars(net)[self.name] = value


def arguments_of_transform(value: Any) -> dict[str, Any] | None:
    """Return the arguments of a transform that are parameters, from name to default.

    Those of a class, and those of a function after the first; an object has none. None if any name
    is valid.
    """
    if isinstance(value, type):
        return arguments_of(value)
    if not isinstance(value, types.FunctionType | functools.partial):
        return {}
    found = arguments_of(value)
    return None if found is None else dict(list(found.items())[1:])


def check_settings(net: Any) -> None:
    """Raise ValueError for an invalid value or two settings that exclude each other."""
    _check_selection(net)
    if net.average_from is not None or net.accumulate > 1 or net.max_grad_norm is not None:
        _check_steps(net)
    set_ones = [name for name in vars(net) if name.startswith("lr_scheduler__")]
    if net.lr_scheduler is not None:
        resolve_scheduler(net.lr_scheduler)
    elif set_ones:
        raise ValueError(f"{set_ones[0]} is set, but lr_scheduler=None; set both or none")
    if net.hyperparameter_schedule is not None:
        check_hyperparameter_schedule(net)
    if net.init not in INITIALIZATIONS:
        known = ", ".join(map(repr, nearest_first(net.init, INITIALIZATIONS)))
        raise ValueError(f"init must be one of {known}, but got {net.init!r}")
    if (net.init, net.init_gain) != ("default", 1) and isinstance(net.module, torch.nn.Module):
        raise ValueError(
            f"init={net.init!r} and init_gain={net.init_gain} would replace the weights of an "
            "instance given as module; leave them at their defaults, or pass the class"
        )
    if net.lr_multipliers is not None or net.freeze is not None:
        _check_groups(net)
    if net.collate is not None or net.group_by_length is True:
        _check_collate(net)
    for name in ("shuffle", "drop_last"):
        if vars(net).get(f"iterator_valid__{name}"):
            raise ValueError(
                f"predictions must be those of the rows in their order, but iterator_valid__{name}="
                f"{vars(net)[f'iterator_valid__{name}']!r}; leave it out"
            )
    for name, seed in net._pinned_seeds().items():
        if name not in STREAMS:
            known = ", ".join(map(repr, nearest_first(name, STREAMS)))
            raise ValueError(f"seeds must have keys among {known}, but got {name!r}")
        _check_item(net, "seeds", name, seed, [COUNT_OR_ZERO, None])


def _check_steps(net: Any) -> None:
    if net.average_from is not None and net.average is None:
        raise ValueError(
            f"average_from={net.average_from} is the first epoch that is averaged, but "
            "average=None; set it to 'ema' or 'swa', or leave average_from out"
        )
    changed = [f"accumulate={net.accumulate}"] if net.accumulate > 1 else []
    if net.max_grad_norm is not None:
        changed.append(f"max_grad_norm={net.max_grad_norm}")
    if not changed:
        return
    if resolve_optimizer(net.optimizer) is torch.optim.LBFGS:
        raise ValueError(
            f"{changed[0]} needs an optimizer that takes one gradient per step, but "
            f"optimizer={net.optimizer!r} asks for the loss again; leave one of them out"
        )
    if own := overridden(net, *_STEPS):
        raise ValueError(
            f"{changed[0]} makes steps of its own, but {type(net).__name__} overrides {own[0]}; "
            "leave one of them out"
        )


def _check_selection(net: Any) -> None:
    fraction = net.validation_fraction
    if fraction is not None and net.train_split:
        raise ValueError(
            f"validation_fraction={fraction} and train_split={net.train_split!r} both hold "
            "data out; set one of them to None"
        )
    if net.monitor == "valid_loss":
        return
    try:
        get_scorer(net.monitor)
    except (ValueError, TypeError):
        known = nearest_first(net.monitor, ["valid_loss", *get_scorer_names()])[:12]
        raise ValueError(
            "monitor must be 'valid_loss' or the name of a scorer of scikit-learn, but got "
            f"{net.monitor!r}; the nearest: {', '.join(map(repr, known))}"
        ) from None
    if not isinstance(net.monitor, str):
        raise ValueError(f"monitor must be a name, but got {net.monitor!r}")


def _check_collate(net: Any) -> None:
    for name in ("iterator_train__collate_fn", "iterator_valid__collate_fn"):
        if net.collate is not None and vars(net).get(name) is not None:
            raise ValueError(
                f"collate={net.collate!r} and {name}={vars(net)[name]!r} both make batches; set "
                "one of them to None"
            )
    if net.group_by_length is True and getattr(net, "batch_sampler", None) is not None:
        raise ValueError(
            f"group_by_length=True and batch_sampler={net.batch_sampler!r} both choose the rows of "
            "a batch; set one of them"
        )


def _check_groups(net: Any) -> None:
    for name in ("lr_multipliers", "freeze"):
        value = getattr(net, name)
        if value is not None and not (
            isinstance(value, dict) and all(isinstance(key, str) for key in value)
        ):
            raise ValueError(
                f"{name} must be None or a dict from patterns of parameter names to values, "
                f"but got {value!r}"
            )
    for pattern, factor in (net.lr_multipliers or {}).items():
        _check_item(net, "lr_multipliers", pattern, factor, [NON_NEGATIVE])
    if net.lr_multipliers and getattr(net, "optimizer__param_groups", None):
        raise ValueError(
            "lr_multipliers and optimizer__param_groups both group the parameters; set one of them"
        )
    for pattern, epochs in (net.freeze or {}).items():
        _check_item(net, "freeze", pattern, epochs, [COUNT_OR_ZERO, "boolean"])


def _check_item(net: Any, name: str, key: Any, value: Any, constraint: Any) -> None:
    item = f"{name}[{key!r}]"
    check_arguments(type(net).__name__, {item: constraint}, **{item: value})


def routed(net: Any, method: str, fit_params: dict[str, Any]) -> tuple[Any, Any]:
    """Return the parameters of the module's ``forward``, and those of `train_split`.

    Without routing both get all of them, as in skorch. With routing TypeError is raised for a
    parameter that was not requested.
    """
    if not get_config()["enable_metadata_routing"]:
        return fit_params, fit_params
    requests = net._get_metadata_request()
    if method == "partial_fit" and not any(requests.partial_fit.requests.values()):
        # Without requests for partial_fit those for fit hold, as in a search.
        method = "fit"
    found = process_routing(net, method, **fit_params)
    asked = getattr(requests, method).requests
    of_forward = {k: v for k, v in fit_params.items() if asked.get(k)}
    return of_forward, found.get("splitter", {"split": {}})["split"]
