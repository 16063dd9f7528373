"""Saving and loading: pickles that survive a change of device, and checkpoints."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import torch
from sklearn.base import BaseEstimator
from skorch import NeuralNet
from skorch.exceptions import DeviceWarning
from skorch.history import History

from ..files import write_atomically
from ..training.checkpoint import (
    check_complete,
    check_keys,
    plain_attributes,
    plain_numbers,
    serialised,
)
from ..training.device import resolve_device
from ..training.schedule import Schedule

__all__ = ["CheckpointMixin"]

_FORMAT = 1
_SECTIONS = (*("states", "running", "schedule", "streams", "history", "learned", "feature_names"),)
_PACKED = "_packed_for_pickle"
# Plain attributes that a fit leaves and that a checkpoint carries.
_PLAIN = (
    *(
        "n_iter_",
        "seed_",
        "n_features_in_",
        "input_shape_",
        "_inferred",
        "_integer_inputs",
        "_row_bytes",
    ),
    *("_counters", "_frozen_until"),
)


class CheckpointMixin:
    """`save_checkpoint`, `load_checkpoint`, and pickling."""

    _checkpointed = ()
    # Names of further attributes, less the underscore at their end, that have a state dict.
    _stateful = ()

    def save_checkpoint(self, path):
        """Write what is needed to predict, and to continue training bit by bit.

        The file holds tensors, numbers and strings only: ``torch.load(path, weights_only=True)``
        reads it, and loading runs no code from it. It has the weights (the best and the running
        ones, where a validation part chooses) and the numbers and strings that layers keep beside
        them, the optimizer's and the schedule's state, the states of the random streams, the
        history and what ``fit`` learned about the data; it has neither the parameters nor the
        states of skorch callbacks.

        Parameters
        ----------
        path : str, path-like or binary file
            A file at that path is replaced at once, when the new one is complete.

        Returns
        -------
        self : estimator

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        StorageError
            If the system does not let the file be written.
        """
        self.check_is_fitted()
        parts = (*self._modules, *self._criteria, *self._optimizers, *self._stateful)
        owners = {name: getattr(self, name + "_") for name in parts}
        checkpoint = {
            "format": _FORMAT,
            "estimator": type(self).__name__,
            "states": {k: v.state_dict() for k, v in owners.items() if hasattr(v, "state_dict")},
            "plain": {k: plain_attributes(v) for k, v in owners.items()},
            "running": self._running_weights,
            "schedule": None if self.lr_schedule_ is None else self.lr_schedule_.state_dict(),
            "streams": {name: stream.state() for name, stream in self._streams.items()},
            "history": [plain_numbers(row) for row in self.history],
            "learned": {k: getattr(self, k) for k in self._checkpoint_names()},
            "feature_names": [str(name) for name in getattr(self, "feature_names_in_", ())],
        }
        if hasattr(path, "write"):
            torch.save(checkpoint, path)
        else:
            write_atomically(path, serialised(checkpoint))
        return self

    def load_checkpoint(self, path):
        """Become what was saved: an estimator that predicts, and that ``partial_fit`` continues.

        Call it on an estimator with the parameters of the saved one, fitted or not. The running
        optimizer gets the learning rate and the other settings it was saved with.

        Parameters
        ----------
        path : str, path-like or binary file

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            If the file is the checkpoint of another kind of estimator.
        """
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        check_complete(checkpoint, _FORMAT, type(self).__name__, _SECTIONS)
        check_keys("weights of", self._modules, checkpoint["states"])
        for name, value in checkpoint["learned"].items():
            setattr(self, name, value)
        self.__dict__.pop("feature_names_in_", None)
        if checkpoint["feature_names"]:
            self.feature_names_in_ = np.array(checkpoint["feature_names"], dtype=object)
        self._check_params()
        self.initialize()
        for name, value in checkpoint["learned"].items():
            setattr(self, name, value)
        schedule = checkpoint["schedule"]
        if schedule is not None:
            self.lr_schedule_ = Schedule(self, schedule["epochs"], schedule["batches"])
            self.lr_schedule_.load_state_dict(schedule)
        self._running_weights = checkpoint["running"]
        for name, state in checkpoint["states"].items():
            getattr(self, name + "_").load_state_dict(state)
        for name, plain in checkpoint.get("plain", {}).items():
            for layer, attributes in plain.items():
                vars(getattr(self, name + "_").get_submodule(layer)).update(attributes)
        for name, state in checkpoint["streams"].items():
            stream = self._streams[name]
            stream.seed = self._seed_of(name)
            stream.set_state(state)
        self.history_ = History(checkpoint["history"])
        return self

    def _checkpoint_names(self):
        return [name for name in (*_PLAIN, *self._checkpointed) if hasattr(self, name)]

    def __getstate__(self):
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

    def __setstate__(self, state):
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
            # As safe as the pickle that it is part of.
            state |= torch.load(io.BytesIO(packed), map_location=location, weights_only=False)
        BaseEstimator.__setstate__(self, state)

    def load_params(self, *args, **kwargs):
        """Load what ``save_params`` saved; see skorch's `NeuralNet.load_params`."""
        with self._concrete_device():
            NeuralNet.load_params(self, *args, **kwargs)

    @contextlib.contextmanager
    def _concrete_device(self):
        # skorch compares this parameter with devices, and "auto" is none.
        device = self.device
        vars(self)["device"] = str(getattr(self, "device_", None) or resolve_device(device))
        try:
            yield
        finally:
            vars(self)["device"] = device
