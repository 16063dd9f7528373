"""Saving and loading: pickles, and checkpoints of tensors, numbers and strings."""

from __future__ import annotations

import numpy as np
import torch

from ...define_by_run import recall, remember
from ...training.modes import usual_modes
from ...training.state import check_keys
from ..state import CheckpointMixin
from ._backend import import_keras
from ._randomness import OwnGlobals
from ._recipe import Recipe

__all__ = ["StateMixin"]

_FOUND = "_found_of_builder"


class StateMixin(CheckpointMixin):
    """`model_`, pickling, `save_checkpoint` and `load_checkpoint`."""

    _checkpoint_sections = ("variables", "generators")
    _checkpoint_plain = (
        *("n_iter_", "n_parameters_", "seed_", "history_", "n_features_in_", "input_shape_"),
        *("_integer_inputs", "_inferred", "_inputs", "_columns"),
    )

    @property
    def model_(self):
        """The fitted model, a `keras.Model`."""
        if "_net" not in vars(self):
            if "_packed" not in vars(self):
                raise AttributeError(f"{type(self).__name__} has no model_ before fit")
            # Made at the first access: a process that only passes on a fitted estimator needs no
            # Keras.
            self._net = self._unpacked(vars(self)["_packed"])
            del self._packed
        return self._net

    @usual_modes()
    def _unpacked(self, packed):
        model = self._recipe.model(self)
        _assign(model.variables, packed["model"])
        _assign(model.optimizer.variables, packed["optimizer"])
        model.history = import_keras().callbacks.History()
        model.history.set_model(model)
        model.history.history = {name: list(values) for name, values in self.history_.items()}
        model.history.epoch = list(range(self.n_iter_))
        return model

    def __getstate__(self):
        state = dict(super().__getstate__())
        if "_net" in state:
            state["_packed"] = _pack(state.pop("_net"))
        if (found := recall(self.build_fn)) is not None:
            state[_FOUND] = found
        return state

    def __setstate__(self, state):
        # A worker need not explore the builder again.
        remember(state["build_fn"], state.pop(_FOUND, None))
        super().__setstate__(state)

    def _trained_state(self):
        self._check_is_fitted()
        variables = vars(self).get("_packed") or _pack(self.model_)
        return {"variables": variables, "generators": self._generators.state()}

    def _restore(self, checkpoint):
        check_keys("variables of", ("model", "optimizer"), checkpoint["variables"])
        self._check_params()
        for name in ("_net", "_packed"):
            vars(self).pop(name, None)
        self._take_learned(checkpoint)
        self._recipe = Recipe.of(self, self._inferred, self._inputs)
        self._net = self._unpacked(checkpoint["variables"])
        self._callbacks = self._fresh_callbacks()
        self._generators = OwnGlobals(self.seed_, "train").set_state(checkpoint["generators"])


def _pack(model):
    return {"model": _tensors(model.variables), "optimizer": _tensors(model.optimizer.variables)}


def _tensors(variables):
    if import_keras().config.backend() == "torch":
        return [v.value.detach().cpu().clone() for v in variables]
    return [torch.from_numpy(np.array(import_keras().ops.convert_to_numpy(v))) for v in variables]


def _assign(variables, values):
    shapes = [tuple(v.shape) for v in variables], [tuple(v.shape) for v in values]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "the model must be the one whose state was saved, but build_fn makes variables of the "
            f"shapes {shapes[0]}, and the saved ones have {shapes[1]}; restore build_fn and the "
            "parameters"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value if import_keras().config.backend() == "torch" else value.numpy())
