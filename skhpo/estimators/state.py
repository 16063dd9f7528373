"""The training state of an estimator: attributes under skorch's names, pickles, checkpoints."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from skorch import NeuralNet
from skorch.exceptions import DeviceWarning
from torch import nn

from .._compat import hashed_as
from ..files import write_atomically
from ..training.forwarding import resolve_device
from ..training.modes import usual_modes
from ..training.state import TrainingState, as_arrays, check_complete, check_keys, serialised
from ..training.structure import copied, copies_of_compressed
from .fitting import make_schedule
from .settings import NetPart

__all__ = ["CheckpointMixin", "StateMixin", "held_part"]

_PACKED = "_packed_for_pickle"


def _learned(state: TrainingState) -> Any:
    """Return what is equal for equal fits, in which epochs take other times."""
    values = state.state_dict()
    rows = ({k: v for k, v in row.items() if k != "dur"} for row in values["history"])
    return as_arrays({**values, "history": [*rows]})


hashed_as(TrainingState, _learned)


class CheckpointMixin(NetPart):  # type: ignore[misc] # skorch has no types
    """`save_checkpoint` and `load_checkpoint`.

    A subclass has `_trained_state`, which returns its own sections of the file, and raises
    `NotFittedError` before ``fit``; and `_restore`, which takes up a file that was read.
    """

    # Version of the file, its sections, and the plain fitted attributes that it holds.
    _checkpoint_format = 2
    _checkpoint_sections: tuple[str, ...] = ()
    _checkpoint_plain: tuple[str, ...] = ()
    # Further ones of a subclass.
    _checkpointed: tuple[str, ...] = ()
    # What targets mean, `Targets`; None before the first ones.
    _targets: Any = None

    def save_checkpoint(self, path: Any) -> Self:
        """Write what is needed to predict, and to continue training exactly.

        The file holds tensors, numbers and strings only: ``torch.load(path, weights_only=True)``
        reads it, and loading runs no code from it. It has the weights (with a validation part both
        the best and the current ones) and other state of layers, the states of the optimizer, the
        schedule and the random generators, the history, and what ``fit`` learned about the data;
        it has neither the parameters nor the states of callbacks.

        Parameters
        ----------
        path : str, path-like or binary file
            A file at that path is replaced at once, when the new one is complete.

        Returns
        -------
        self : estimator
            The estimator itself.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        StorageError
            If the system does not let the file be written.
        """
        checkpoint = self._checkpoint()
        if hasattr(path, "write"):
            torch.save(checkpoint, path)
        else:
            write_atomically(path, serialised(checkpoint))
        return self

    def _checkpoint(self) -> dict[str, Any]:
        return {
            "format": self._checkpoint_format,
            "estimator": type(self).__name__,
            **self._trained_state(),
            "learned": {k: getattr(self, k) for k in self._checkpoint_names()},
            "feature_names": [str(name) for name in getattr(self, "feature_names_in_", ())],
        }

    @usual_modes()
    def load_checkpoint(self, path: Any) -> Self:
        """Restore a saved estimator, which predicts and which ``partial_fit`` continues.

        Call it on an estimator with the parameters of the saved one, fitted or not. The optimizer
        gets the saved learning rate and other settings.

        Parameters
        ----------
        path : str, path-like or binary file
            What ``save_checkpoint`` wrote.

        Returns
        -------
        self : estimator
            The estimator itself.

        Raises
        ------
        ValueError
            If the file is the checkpoint of another kind of estimator, or of another network.
        """
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        sections = (*self._checkpoint_sections, "learned", "feature_names")
        check_complete(checkpoint, self._checkpoint_format, type(self).__name__, sections)
        self._restore(checkpoint)
        return self

    def _take_learned(self, checkpoint: Any) -> None:
        """Set the fitted attributes from a checkpoint."""
        for name, value in checkpoint["learned"].items():
            setattr(self, name, value)
        self.__dict__.pop("feature_names_in_", None)
        if checkpoint["feature_names"]:
            self.feature_names_in_ = np.array(checkpoint["feature_names"], dtype=object)

    @property
    def _plain_targets(self) -> Any:
        """What targets mean, as plain values: the name of a class and its fields."""
        if self._targets is None:
            raise AttributeError("no targets were seen")
        return {"kind": type(self._targets).__name__, **self._targets.plain()}

    @_plain_targets.setter
    def _plain_targets(self, plain: Any) -> None:
        kinds = {kind.__name__: kind for kind in self._kinds_of_targets}
        fields = {name: value for name, value in plain.items() if name != "kind"}
        self._targets = kinds[plain["kind"]].from_plain(fields)

    def _checkpoint_names(self) -> Any:
        names = (*self._checkpoint_plain, *self._checkpointed)
        return [name for name in names if hasattr(self, name)]


def held_part(name: str, doc: Any) -> Any:
    """Return the property that reads and sets a part of the training state."""

    def get(net: Any) -> Any:
        parts = {} if net._state is None else net._state.parts
        if name not in parts:
            raise AttributeError(f"{type(net).__name__} has no {name}_ before fit")
        return parts[name]

    def put(net: Any, value: Any) -> None:
        net._made_state().parts[name] = value

    return property(get, put, doc=doc)


class _CopiedByClone:
    """A module that is a parameter; `clone` makes a copy that torch may refuse `deepcopy`."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __sklearn_clone__(self) -> Any:
        return copied(self.module)


class StateMixin(CheckpointMixin):
    """Fitted attributes as views of the training state, the only thing saved of training."""

    _checkpoint_format = 3
    _checkpoint_sections = (
        *("states", "plain", "running", "schedule", "streams", "history", "counters"),
        "frozen_until",
    )
    _checkpoint_plain = (
        *("seed_", "n_features_in_", "input_shape_", "_inferred", "_integer_inputs", "_row_bytes"),
        "_columns",
    )
    # Names (without the final underscore) of further attributes that have a state dict.
    _stateful: tuple[str, ...] = ()
    # A `TrainingState`; None before it is made.
    _state: Any = None

    module_ = held_part("module", "The network, a `torch.nn.Module`.")
    criterion_ = held_part("criterion", "The loss, a callable.")
    optimizer_ = held_part("optimizer", "What updates the weights, a `torch.optim.Optimizer`.")

    @property
    def history_(self) -> Any:
        """History: a row per epoch."""
        return None if self._state is None else self._state.history

    @history_.setter
    def history_(self, history: Any) -> None:
        self._made_state().history = history

    @property
    def lr_schedule_(self) -> Any:
        """The current schedule; None without one."""
        return None if self._state is None else self._state.schedule

    @property
    def n_iter_(self) -> Any:
        """Epochs trained so far, over all calls."""
        if self._state is None or not self._state.streams:
            raise AttributeError(f"{type(self).__name__} has no n_iter_ before fit")
        return self._state.counters.n_epochs

    @property
    def best_epoch_(self) -> Any:
        """Epoch, from 1, with the best check; the last one where there was none."""
        last = self.n_iter_
        return self._state.counters.best_epoch or last

    def _made_state(self) -> Any:
        if self._state is None:
            self._state = TrainingState()
        return self._state

    def _gathered_state(self) -> Any:
        """Return the state, including further modules and optimizers of a subclass."""
        names = (*self._modules, *self._criteria, *self._optimizers, *self._stateful)
        # A net that is built only for inspection has no optimizer.
        made = (name for name in names if hasattr(self, name + "_"))
        self._state.parts = {name: getattr(self, name + "_") for name in made}
        return self._state

    def _trained_state(self) -> Any:
        self.check_is_fitted()
        return self._gathered_state().state_dict()

    def _restore(self, checkpoint: Any) -> None:
        check_keys("weights of", self._modules, checkpoint["states"])
        self._take_learned(checkpoint)
        self._check_params()
        self.initialize()
        self._take_learned(checkpoint)
        for name, stream in self._state.streams.items():
            stream.seed = self._seed_of(name)
        saved = checkpoint["schedule"]
        schedule = saved and make_schedule(self, saved["epochs"], saved["batches"])
        self._state.load_state_dict(checkpoint, schedule)
        if self.hyperparameter_schedule and self.history_:
            self._scheduled = self.history_[-1].get("hyperparameters", {})

    def __copy__(self) -> Any:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(vars(self))
        if self._state is not None:
            twin.__dict__["_state"] = self._state.__copy__()
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        state = self._state
        parts, values = ((), ()) if state is None else (state.parts.values(), state.kept_values())
        modules = [one for one in (*vars(self).values(), *parts) if isinstance(one, nn.Module)]
        tensors = (t for module in modules for t in (*module.parameters(), *module.buffers()))
        memo.update(copies_of_compressed([*tensors, *values]))
        twin = memo[id(self)] = type(self).__new__(type(self))
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return twin

    def __sklearn_clone__(self) -> Any:
        modules = {k: v for k, v in vars(self).items() if isinstance(v, nn.Module)}
        if not modules:
            return BaseEstimator.__sklearn_clone__(self)
        twin = self.__copy__()
        twin.__dict__.update({name: _CopiedByClone(value) for name, value in modules.items()})
        return BaseEstimator.__sklearn_clone__(twin)

    def __getstate__(self) -> Any:
        state = dict(BaseEstimator.__getstate__(self))
        device = state.get("device_", torch.device("cpu"))
        if device.type == "cpu":
            return state
        # On a machine without this device the tensors must be mapped to another one.
        prefixes = tuple(self.cuda_dependent_attributes_)
        packed = {k: state.pop(k) for k in list(state) if k.startswith(prefixes)}
        buffer = io.BytesIO()
        torch.save(packed, buffer)
        state[_PACKED] = buffer.getvalue()
        return state

    def __setstate__(self, state: Any) -> None:
        state = dict(state)
        packed = state.pop(_PACKED, None)
        if packed is not None:
            try:
                resolve_device(state["device_"])
            except ValueError:
                fallback = resolve_device("auto")
                warnings.warn(
                    f"The estimator was trained on {state['device_']}, which this machine lacks; "
                    f"it is loaded to {fallback}.",
                    DeviceWarning,
                    stacklevel=2,
                )
                state["device_"] = fallback
            location = state["device_"]
            # As safe as the pickle that contains it.
            state |= torch.load(io.BytesIO(packed), map_location=location, weights_only=False)
        BaseEstimator.__setstate__(self, state)

    def load_params(self, *args: Any, **kwargs: Any) -> None:
        """Load what ``save_params`` saved; see skorch's `NeuralNet.load_params`.

        Parameters
        ----------
        *args, **kwargs : object
            As in skorch.
        """
        with self._concrete_device():
            NeuralNet.load_params(self, *args, **kwargs)

    @contextlib.contextmanager
    def _concrete_device(self) -> Iterator[Any]:
        # skorch compares this parameter with devices; "auto" is none.
        device = self.device
        self.__dict__["device"] = str(getattr(self, "device_", None) or resolve_device(device))
        try:
            yield
        finally:
            self.__dict__["device"] = device
