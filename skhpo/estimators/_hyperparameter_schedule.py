"""Hyperparameters of a net that change from epoch to epoch, by given values."""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import nn

from ..arguments import check_arguments
from ..names import nearest_first, resolve_optimizer, resolve_scheduler
from ..training.initialization import NamedInitialization
from ..training.schedule import EpochValues
from ..training.state import plain_attributes
from ..training.structure import numbers_of

__all__ = [
    "HyperparameterSchedule",
    "check_epochs_of_schedule",
    "check_hyperparameter_schedule",
    "scheduled_arguments",
]

_KINDS = "lr, optimizer__*, label_smoothing, module__* and criterion__*"
_OF_PARTS = ("module", "criterion")
# Schedules of the learning rate that set the momentum, too.
_CYCLES = (torch.optim.lr_scheduler.OneCycleLR, torch.optim.lr_scheduler.CyclicLR)
# In place of an attribute's name.
_CLASS, _WEIGHTS = "(class)", "(weights)"


def check_hyperparameter_schedule(net: Any) -> None:
    """Raise ValueError for a schedule that cannot be, whatever the data."""
    given = net.hyperparameter_schedule
    if not (isinstance(given, dict) and given and all(isinstance(name, str) for name in given)):
        raise ValueError(
            "hyperparameter_schedule must be None or a dict from names of parameters to a value "
            f"for each epoch, but got {given!r}"
        )
    for name, value in given.items():
        _check_name(net, name)
        is_list = isinstance(value, list | tuple) or np.ndim(value) == 1
        if not (is_list or (callable(value) and not hasattr(value, "rvs"))):
            raise ValueError(
                "hyperparameter_schedule must have a list with a value for each epoch, or a "
                f"function of the number of epochs before, but for {name!r} it has {value!r}; a "
                "value that stays is the parameter itself, a range is for a search"
            )
    if "lr" in given and net.lr_scheduler is not None:
        raise ValueError(
            f"hyperparameter_schedule has 'lr', but lr_scheduler={net.lr_scheduler!r} sets it, "
            "too; leave one of them out"
        )
    if "optimizer__momentum" in given and _cycles_momentum(net):
        raise ValueError(
            f"hyperparameter_schedule has 'optimizer__momentum', but lr_scheduler="
            f"{net.lr_scheduler!r} sets it in each batch; set lr_scheduler__cycle_momentum=False, "
            "or leave one of them out"
        )
    of_optimizer = [name for name in given if _component(name) == "optimizer"]
    if of_optimizer and getattr(net, "optimizer__param_groups", None):
        raise ValueError(
            f"hyperparameter_schedule has {of_optimizer[0]!r}, of which optimizer__param_groups "
            "has values of its own; use lr_multipliers, or leave one of them out"
        )
    if "criterion__label_smoothing" in given and (
        "label_smoothing" in given or bool(getattr(net, "label_smoothing", 0))
    ):
        raise ValueError(
            "label_smoothing and criterion__label_smoothing are the same; leave one of them out"
        )
    values = _values(net)
    for name in given:
        if name in ("lr", "label_smoothing"):
            item = f"hyperparameter_schedule[{name!r}]"
            constraint = {item: net._parameter_constraints[name]}
            for end in values.support(name):
                check_arguments(type(net).__name__, constraint, **{item: end})


def check_epochs_of_schedule(net: Any, n_epochs: int) -> None:
    """Raise ValueError for lists that have no value for the last of `n_epochs` epochs."""
    check_hyperparameter_schedule(net)
    _values(net).check_epochs(n_epochs)


def _cycles_momentum(net: Any) -> bool:
    if net.lr_scheduler is None or resolve_scheduler(net.lr_scheduler) not in _CYCLES:
        return False
    return vars(net).get("lr_scheduler__cycle_momentum") is not False


def _check_name(net: Any, name: str) -> None:
    known = net.get_params(deep=True)
    component, nested, argument = name.partition("__")
    if name not in known:
        if not nested:
            net._raise_unknown(name, known)
        net._check_nested_name(name)
    if name == "optimizer__lr" or not (
        name == "lr"
        or (name == "label_smoothing" and name in known)
        or (argument and component in ("optimizer", *_OF_PARTS))
    ):
        can = nearest_first(name, _KINDS.replace(" and ", ", ").split(", "))
        raise ValueError(
            f"{name!r} cannot change while the network trains; a hyperparameter_schedule can have "
            f"{', '.join(can)}. Search others, as with BayesSearchCV"
        )
    if not isinstance(known.get(name), numbers.Real | torch.Tensor | None):
        raise ValueError(
            f"a hyperparameter_schedule can have numbers, but {name!r} is {known[name]!r}; leave "
            "it out"
        )


def _component(name: str) -> str:
    return "optimizer" if name == "lr" else name.partition("__")[0]


def _values(net: Any, n_epochs: int = 0) -> EpochValues:
    """Return the values, of which those of the first epochs are checked."""
    given = {
        name: value if callable(value) else list(value)
        for name, value in net.hyperparameter_schedule.items()
    }
    values = EpochValues(given, max(n_epochs, net.max_epochs, net.schedule_epochs or 0))
    values.check_shapes({})
    return values


def scheduled_arguments(net: Any, component: str) -> dict[str, Any]:
    """Return arguments with which a component is built so that its values can change later."""
    values, prefix = _values(net), component + "__"
    names = [name for name in values.names if name.startswith(prefix)]
    return {name.removeprefix(prefix): _two_values(values, name)[0] for name in names}


def _two_values(values: EpochValues, name: str) -> tuple[Any, Any]:
    """Return two of the values that are not 0, at which a module may leave out a layer."""
    given = values.distinct(name)
    one = max(given, key=lambda value: (abs(value), value))
    others = [value for value in given if value not in (0, one)]
    if others:
        return one, others[0]
    return one, one / 2 if isinstance(one, float) else 0


class HyperparameterSchedule:
    """Sets the hyperparameters of a built net at the beginning of an epoch.

    An argument of the module or the criterion stands for the attributes of layers that are equal to
    it, found by building the part with two values; it may change nothing else.

    Parameters
    ----------
    net : torch estimator
        Built.
    n_epochs : int
        Epochs that will have been trained in all.

    Raises
    ------
    ValueError
        If values are missing, are refused by the part that gets them, or cannot change there.
    """

    def __init__(self, net: Any, n_epochs: int) -> None:
        self.net = net
        self.values = _values(net, n_epochs)
        self.values.check_epochs(n_epochs)
        self._places: dict[str, list[tuple[str, nn.Module, str]]] = {}
        for name in self.values.names:
            if _component(name) == "optimizer":
                self._check_of_optimizer(name)
            elif _component(name) in _OF_PARTS:
                self._places[name] = self._places_of(name)
        self._compared = self._values_of_checks()

    def begin_epoch(self, epoch: int) -> dict[str, Any]:
        """Set the values of an epoch; return the columns of its row in the history."""
        net, values = self.net, self.values[epoch]
        net._scheduled = values
        self._set_parts(values)
        self._set_criterion(values)
        for name, value in values.items():
            component, _, argument = name.partition("__")
            if component in _OF_PARTS:
                continue
            if component != "label_smoothing":
                for group in net.optimizer_.param_groups:
                    factor = group.get("lr_multiplier", 1) if component == "lr" else 1
                    group[argument or component] = value * factor
        return {"hyperparameters": values}

    @contextlib.contextmanager
    def compared(self) -> Iterator[None]:
        """Let the criterion be the same in all epochs within this context, for checks.

        It has the values of the estimator's own parameters, else the defaults of the criterion; an
        argument without a default has that of the first epoch.
        """
        net = self.net
        current = net._scheduled
        self._set_criterion(self._compared)
        net._scheduled = {k: v for k, v in current.items() if k != "label_smoothing"}
        try:
            yield
        finally:
            net._scheduled = current
            self._set_criterion(current)

    def _values_of_checks(self) -> dict[str, Any]:
        """Return the values of the criterion with which checks of all epochs are compared."""
        found = {k: v for k, v in self.values[0].items() if _component(k) == "criterion"}
        if found:
            try:
                part = self._built("criterion", {})
            except TypeError:  # an argument that has no default
                part = None
            layers = dict(part.named_modules()) if isinstance(part, nn.Module) else {}
            for name in found if layers else ():
                for path, _, attribute in self._places[name][:1]:
                    found[name] = getattr(layers[path], attribute)
        if "label_smoothing" in self.values.names:
            found["label_smoothing"] = self.net.label_smoothing
        return found

    def _set_criterion(self, values: Mapping[str, Any]) -> None:
        self._set_parts({k: v for k, v in values.items() if _component(k) == "criterion"})
        if "label_smoothing" in values and isinstance(self.net.criterion_, nn.CrossEntropyLoss):
            _set(self.net.criterion_, "label_smoothing", values["label_smoothing"])

    def return_to_best(self) -> None:
        """Set the values of the epoch with the best check in the parts, whose weights predict."""
        best_epoch = self.net._state.counters.best_epoch
        if best_epoch:
            self._set_parts(self.values[best_epoch - 1])

    def _set_parts(self, values: Mapping[str, Any]) -> None:
        for name in values.keys() & self._places.keys():
            for _, layer, attribute in self._places[name]:
                _set(layer, attribute, values[name])

    def _check_of_optimizer(self, name: str) -> None:
        argument = name.removeprefix("optimizer__")
        present = self.net.optimizer_.param_groups[0].get(argument)
        if not isinstance(present, int | float) or isinstance(present, bool):
            raise ValueError(
                f"{name!r} cannot change while the network trains, because it is no number of the "
                f"{type(self.net.optimizer_).__name__}; search it with BayesSearchCV"
            )
        factory = resolve_optimizer(self.net.optimizer)
        for end in self.values.support(name):
            with _naming(name, end):
                factory([torch.zeros(1, requires_grad=True)], **{"lr": 0.1, argument: end})

    def _places_of(self, name: str) -> list[tuple[str, nn.Module, str]]:
        """Return the layers that an argument sets, as paths, layers and attributes."""
        low, *_, high = 2 * self.values.distinct(name)
        for end in (low, high):
            with _naming(name, end):
                self._built_with(name, end)
        if low == high:
            return []  # what it was built with
        pair = _two_values(self.values, name)
        one, other = (self._built_with(name, value) for value in pair)
        found = _changes(name, one, other, pair)
        part = getattr(self.net, _component(name) + "_")
        part = getattr(part, "_orig_mod", part)  # if it is compiled
        layers = dict(part.named_modules())
        missing = [path for path, _ in found if path not in layers]
        if missing:
            raise ValueError(
                f"the layer {missing[0]!r}, which {name!r} sets, must be there from the beginning, "
                "but the value was 0 in all epochs of the first call; set schedule_epochs to the "
                "epochs of all calls"
            )
        return [(path, layers[path], attribute) for path, attribute in found]

    def _built_with(self, name: str, value: Any) -> Any:
        """Build the module or the criterion with a value of an argument; nothing else is built."""
        component = _component(name)
        others = [other for other in self.values.names if _component(other) == component]
        changed = {other: _two_values(self.values, other)[0] for other in others}
        return self._built(component, changed | {name: value})

    def _built(self, component: str, changed: Mapping[str, Any]) -> Any:
        """Build the module or the criterion of the net with some parameters changed."""
        net = self.net
        twin = clone(net).set_params(hyperparameter_schedule=None)
        vars(twin).update(changed)
        twin._inferred, twin._few_inputs, twin.seed_ = net._inferred, None, net.seed_
        twin._targets = net._targets
        with (
            twin._current_init_context(component),
            NamedInitialization(net._seed_of("init")),
        ):
            getattr(twin, f"initialize_{component}")()
        return getattr(twin, component + "_")


@contextlib.contextmanager
def _naming(name: str, value: float) -> Iterator[None]:
    """Say which value it was that the constructor of a part refuses."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"hyperparameter_schedule must have valid values in all epochs, but {name!r} becomes "
            f"{value:g}: {error}"
        ) from error


def _changes(name: str, one: object, other: object, pair: tuple[Any, Any]) -> list[tuple[str, str]]:
    """Return the (path, attribute) that differ as a pair of values; nothing else may differ."""
    before, after = _described(one), _described(other)
    if before.keys() != after.keys():
        changed = sorted(before.keys() ^ after.keys(), key=str)[0]
        raise _cannot_change(name, f"the part {'.'.join(changed)!r} is there only for some values")
    found = []
    for key, value in before.items():
        if _same(value, after[key]):
            continue
        if key[-1] in (_CLASS, _WEIGHTS) or (value, after[key]) != pair:
            raise _cannot_change(name, f"{'.'.join(filter(None, key))!r} depends on it")
        found.append(key)
    if not found:
        raise _cannot_change(name, "no layer has it as an attribute")
    return found


def _cannot_change(name: str, why: str) -> ValueError:
    return ValueError(
        f"{name!r} cannot change while the network trains, because {why} (an argument must be "
        "passed on to layers as it is); search it with BayesSearchCV"
    )


def _described(part: object) -> dict[tuple[str, str], Any]:
    """Return attributes of layers and their weights, by path and name."""
    if not isinstance(part, nn.Module):
        return {}
    found = {
        (path, attribute): value
        for path, attributes in plain_attributes(part).items()
        for attribute, value in attributes.items()
    }
    for path, layer in part.named_modules():
        found[path, _CLASS] = type(layer)
    for path, tensor in (*part.named_parameters(), *part.named_buffers()):
        found[path, _WEIGHTS] = None if nn.parameter.is_lazy(tensor) else tensor
    return found


def _same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.layout != other.layout:
            return False
        parts, of_other = numbers_of(one), numbers_of(other)
        return len(parts) == len(of_other) and all(map(_equal, parts, of_other))
    return type(one) is type(other) and one == other


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.is_floating_point() and one.itemsize == 1:  # with which torch does not compute
        one, other = one.float(), other.float()
    return (
        one.shape == other.shape
        and torch.equal(one.isnan(), other.isnan())
        and bool(torch.equal(one.nan_to_num(), other.nan_to_num()))
    )


def _set(layer: object, attribute: str, value: Any) -> None:
    # A program without autograd holds as long as attributes are the same objects.
    if getattr(layer, attribute) != value:
        setattr(layer, attribute, value)
