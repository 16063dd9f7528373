"""The state of a network's training, and its checkpoints: files of tensors, numbers and strings.

Reading a checkpoint runs no code.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Container, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from .averaging import WeightAverage
from .randomness import Stream
from .schedule import Schedule
from .structure import has_plain_state, is_plain

__all__ = [
    "Counters",
    "TrainingState",
    "as_arrays",
    "check_complete",
    "check_keys",
    "plain_attributes",
    "plain_numbers",
    "serialised",
]


@dataclass
class Counters:
    """Progress of training.

    Attributes
    ----------
    n_epochs, n_batches : int
        Trained so far, over all calls of ``fit``. Batches are only counted where it is needed.
    n_checks, best_check : int
        Checks so far, and the number of the best one, from 1; 0 is none.
    best_epoch : int
        Epoch, from 1, of the best check; 0 is none.
    best, last : float or None
        Monitored value at the best and at the last check.
    recent : list of float
        Monitored values of the last checks.
    stopped : bool
        Whether patience has run out.
    """

    n_epochs: int = 0
    n_batches: int = 0
    n_checks: int = 0
    best_check: int = 0
    best_epoch: int = 0
    best: float | None = None
    last: float | None = None
    recent: list[float] = field(default_factory=list)
    stopped: bool = False


@dataclass(eq=False)
class TrainingState:
    """All that checkpoints and pickles save, and from which a rung continues.

    Attributes
    ----------
    parts : dict of str to object
        The module, the criterion and the optimizer, by these names, and other parts that are
        trained or have a state dict.
    streams : dict of str to Stream
    history : list of dict
        A row per epoch, with the method ``record`` of skorch's.
    schedule : Schedule or None
        Of the learning rate.
    counters : Counters
    frozen_until : dict of str to (int or True)
        Epochs for which parameters are frozen, by name; True is always.
    average : WeightAverage or None
        Of the weights, with which the module predicts and is checked.
    running_weights : dict or None
        Between two calls with checks or an average: the weights from which training continues, as
        the module has others.
    best_weights : dict or None
        Within a call: the weights at the best check so far.
    """

    parts: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)
    history: Any = None
    schedule: Schedule | None = None
    counters: Counters = field(default_factory=Counters)
    frozen_until: dict[str, Any] = field(default_factory=dict)
    average: WeightAverage | None = None
    running_weights: dict[str, Any] | None = None
    best_weights: dict[str, Any] | None = None

    def __copy__(self) -> TrainingState:
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        twin.parts, twin.counters = dict(self.parts), copy.deepcopy(self.counters)
        return twin

    @property
    def module(self) -> Any:
        """torch.nn.Module: the network."""
        return self.parts["module"]

    @property
    def criterion(self) -> Any:
        """callable: the loss."""
        return self.parts["criterion"]

    @property
    def optimizer(self) -> Any:
        """torch.optim.Optimizer: updates the weights."""
        return self.parts["optimizer"]

    def restart(self, streams: dict[str, Stream]) -> None:
        """Reset everything but the parts and the history."""
        self.streams, self.schedule, self.counters = streams, None, Counters()
        self.frozen_until, self.running_weights, self.best_weights = {}, None, None
        self.average = None

    def modules(self) -> dict[str, torch.nn.Module]:
        """Return the parts that are modules: networks and criteria."""
        parts = self.parts.items()
        return {name: part for name, part in parts if isinstance(part, torch.nn.Module)}

    def kept_values(self) -> Iterator[Any]:
        """Yield the values of the state dicts that are kept beside the modules."""
        averaged = None if self.average is None else self.average.weights
        for weights in (averaged, self.running_weights, self.best_weights):
            for of_part in (weights or {}).values():
                yield from of_part.values()

    def set_training(self, training: bool) -> None:
        """Put all modules into training or evaluation mode."""
        for module in self.modules().values():
            module.train(training)

    def copy_weights(self) -> dict[str, Any]:
        """Return copies of the state dicts of the modules."""
        return {
            name: {k: _copy(v) for k, v in module.state_dict().items()}
            for name, module in self.modules().items()
        }

    def set_weights(self, weights: dict[str, Any]) -> None:
        """Load copied state dicts."""
        for name, state in weights.items():
            part = self.parts[name]
            if isinstance(part, torch.nn.Module):
                if _copy_into(part, state):
                    continue
                _own_memory(part)
            part.load_state_dict(state)

    def resume(self, *, checked: bool) -> None:
        """Load the running weights again; keep the best ones if there are checks."""
        if self.running_weights is not None:
            self.best_weights = self.copy_weights() if checked else None
            self.set_weights(self.running_weights)
            self.running_weights = None
        if not checked:
            self.best_weights = None

    def settle(self) -> None:
        """Load the best or the averaged weights for predictions; keep the running ones."""
        weights = self.best_weights
        if weights is None and self.average is not None and self.running_weights is None:
            weights = self.average.weights_of(self.modules)
        if weights is not None:
            self.running_weights = self.copy_weights()
            self.set_weights(weights)
            self.best_weights = None

    def averaged(self) -> AbstractContextManager[None]:
        """Load the averaged weights, if there are any, within this context."""
        if self.average is None or self.average.weights is None:
            return contextlib.nullcontext()
        return self.average.exchanged(self.modules) or self._with(self.average.weights)

    @contextlib.contextmanager
    def _with(self, weights: Any) -> Iterator[None]:
        running = self.copy_weights()
        self.set_weights(weights)
        try:
            yield
        finally:
            self.set_weights(running)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as tensors, numbers and strings."""
        parts = {k: part for k, part in self.parts.items() if hasattr(part, "state_dict")}
        return {
            "states": {name: part.state_dict() for name, part in parts.items()},
            "plain": {name: plain_attributes(part) for name, part in self.parts.items()},
            "running": self.running_weights,
            "average": None if self.average is None else self.average.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "streams": {name: stream.state() for name, stream in self.streams.items()},
            "history": [plain_numbers(row) for row in self.history],
            "counters": asdict(self.counters),
            "frozen_until": dict(self.frozen_until),
        }

    def load_state_dict(self, state: dict[str, Any], schedule: Schedule | None) -> None:
        """Load what `state_dict` returned; parts and streams of these names must exist.

        `schedule` has the saved length.
        """
        self.schedule = schedule
        if schedule is not None:
            schedule.load_state_dict(state["schedule"])
        self.running_weights = state["running"]
        average = state.get("average")  # which older checkpoints lack
        self.average = None if average is None else WeightAverage.of_state(average)
        self.set_weights(state["states"])
        for name, plain in state["plain"].items():
            for layer, attributes in plain.items():
                vars(self.parts[name].get_submodule(layer)).update(attributes)
        for name, of_stream in state["streams"].items():
            self.streams[name].set_state(of_stream)
        self.counters = Counters(**state["counters"])
        self.frozen_until = state["frozen_until"]
        self.history[:] = state["history"]


def _copy_into(module: torch.nn.Module, state: dict[str, Any]) -> bool:
    """Copy a state dict into the tensors of a module; return False if that needs more."""
    if not has_plain_state(module):
        return False
    own = module.state_dict(keep_vars=True)
    if own.keys() != state.keys():
        return False
    for key, tensor in own.items():
        value = state[key]
        if not (is_plain(tensor) and isinstance(value, torch.Tensor) and is_plain(value)):
            return False
        if value.shape != tensor.shape or 0 in tensor.stride():
            return False
    if own:
        with torch.no_grad():
            torch._foreach_copy_(list(own.values()), [state[key] for key in own])
    return True


def _own_memory(module: torch.nn.Module) -> None:
    """Copy expanded buffers, whose values share memory, so that they can be loaded."""
    for layer in module.modules():
        for name, buffer in layer._buffers.items():
            if buffer is not None and is_plain(buffer) and 0 in buffer.stride():
                layer._buffers[name] = buffer.contiguous()


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def serialised(checkpoint: dict[str, Any]) -> memoryview:
    """Return the bytes of a checkpoint.

    In memory, because torch's file writer hides the error of an interrupted or failed write.
    """
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getbuffer()


def plain_attributes(module: object) -> dict[str, dict[str, Any]]:
    """Return the plain attributes of layers (such as a count of steps), by path and name."""
    if not isinstance(module, torch.nn.Module):
        return {}
    own = vars(torch.nn.Module())
    found = {
        path: {k: v for k, v in vars(layer).items() if k not in own and _is_plain(v)}
        for path, layer in module.named_modules()
    }
    return {path: attributes for path, attributes in found.items() if attributes}


def _is_plain(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    return value is None or type(value) in (bool, int, float, str)


def check_complete(checkpoint: Any, version: int, name: str, sections: Iterable[str]) -> None:
    """Raise ValueError unless a checkpoint belongs to estimator `name`, and has all sections."""
    if not isinstance(checkpoint, dict):
        raise ValueError(f"the checkpoint must be one of {name}, but is a {type(checkpoint)}")
    found = (checkpoint.get("format"), checkpoint.get("estimator"))
    if found != (version, name):
        raise ValueError(
            f"the checkpoint must be one of {name} in format {version}, but is one of "
            f"{found[1]} in format {found[0]}"
        )
    check_keys("section", sections, checkpoint)


def check_keys(what: str, needed: Iterable[str], found: Container[str]) -> None:
    """Raise ValueError if a part of a checkpoint lacks a key."""
    missing = [key for key in needed if key not in found]
    if missing:
        raise ValueError(
            f"the checkpoint must be complete, but lacks the {what} {missing[0]!r}; save it again"
        )


def as_arrays(value: Any) -> Any:
    """Convert tensors in a state dict to their types, shapes and bytes."""
    if isinstance(value, torch.Tensor):
        dense = value.detach().cpu()
        dense = dense if dense.layout is torch.strided else dense.to_dense()
        content = dense.contiguous().reshape(-1).view(torch.uint8).numpy()
        return str(value.dtype), tuple(value.shape), content
    if isinstance(value, dict):
        return {key: as_arrays(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_arrays(item) for item in value]
    return value


def plain_numbers(value: Any) -> Any:
    """Convert NumPy scalars and arrays in a row of the history to plain Python."""
    if isinstance(value, dict):
        return {key: plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(item) for item in value]
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
