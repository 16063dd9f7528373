"""The recipe of a fit's model, by which the same model can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...define_by_run import definitions_of
from ...space import identity
from ._backend import for_model, operations_of, outputs_of
from ._builders import INFERRED, build_model, builder_arguments, builder_of, copy_model
from ._compiling import compile_model
from ._randomness import OwnGlobals

__all__ = ["Outputs", "Recipe", "outputs_for"]


class Outputs(NamedTuple):
    """A model's output for a few rows, and its last operations."""

    values: np.ndarray
    operations: frozenset


@dataclass(frozen=True)
class Recipe:
    """How a fit made its model.

    Arguments are those of the builder that are set, and those inferred from the data; the
    compilation is what is set of loss, optimizer and metrics; inputs, by name or None, have the
    shape of a sample and the type.
    """

    build_fn: Any
    arguments: Mapping[str, Any]
    compilation: Mapping[str, Any]
    seed: int
    inputs: Mapping[str | None, tuple]

    @classmethod
    def of(cls, estimator, inferred, inputs):
        """Make a recipe of an estimator's parameters and of arguments inferred from data."""
        known = builder_arguments(estimator.build_fn)
        settings = estimator._builder_settings()
        settings = {k: v for k, v in settings.items() if k not in INFERRED or v is not None}
        inferred = {k: v for k, v in inferred.items() if known is not None and k in known}
        return cls(
            build_fn=estimator.build_fn,
            arguments={**inferred, **settings},
            compilation={
                "loss": estimator.loss,
                "optimizer": estimator.optimizer,
                "metrics": estimator.metrics,
                "optimizer_settings": estimator._optimizer_settings(),
            },
            seed=estimator.seed_,
            inputs=inputs,
        )

    def differences(self, other):
        """Return the names of parameters that differ, with both values."""
        ours, theirs = self._parameters(), other._parameters()
        pairs = {name: (ours.get(name), theirs.get(name)) for name in ours | theirs}
        return {
            name: pair for name, pair in pairs.items() if identity(pair[0]) != identity(pair[1])
        }

    def _parameters(self):
        of_optimizer = self.compilation["optimizer_settings"]
        asked = definitions_of(self.build_fn) or {}
        return {
            **(builder_arguments(self.build_fn) or {}),
            **{name: definition.default for name, definition in asked.items()},
            **{
                name: value for name, value in self.compilation.items() if value is not of_optimizer
            },
            **{f"optimizer__{name}": value for name, value in of_optimizer.items()},
            **self.arguments,
            "build_fn": self.build_fn,
        }

    def model(self, estimator, few=None):
        """Make the model, built and compiled; the estimator learns from its output for `few` rows.

        Without `few` the model is built with rows of zeros, and nothing is learned.
        """
        with OwnGlobals(self.seed, "init").lent():
            builder = builder_of(self.build_fn)
            if builder is None:
                model = copy_model(self.build_fn)
            else:
                model = build_model(builder, self.arguments)
            rows = self._zeros() if few is None else few
            output = Outputs(outputs_for(model, rows), operations_of(model, rows))
            compile_model(
                model,
                **self.compilation,
                infer_loss=lambda: estimator._infer_loss(output),
                default_metrics=lambda loss: estimator._default_metrics(loss, output),
            )
            if few is not None:
                estimator._infer_output_format(model, output)
            # Otherwise Keras would build its metrics in the first epoch, and the order of samples
            # would differ after a pickle.
            targets = estimator._shape_targets(estimator._dummy_targets(len(output.values)))
            model.test_on_batch(for_model(rows), targets)
            model.reset_metrics()
            model.optimizer.build(model.trainable_variables)
        return model

    def _zeros(self):
        arrays = {k: np.zeros((2, *shape), dtype) for k, (shape, dtype) in self.inputs.items()}
        return arrays.get(None, arrays)


def outputs_for(model, rows):
    """Return a model's output for a few rows; ValueError if it fails or has several outputs."""
    try:
        output = outputs_of(model, rows)
    except Exception as error:
        named = rows.items() if isinstance(rows, Mapping) else [("X", rows)]
        shapes = ", ".join(f"{name} {value.shape}" for name, value in named)
        raise ValueError(
            f"the model must accept a batch of the data, but for inputs of shape {shapes} it "
            f"raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(output, np.ndarray):
        raise ValueError(
            f"the model must have one output, but returned a {type(output).__name__} of several; "
            "return a model with one output from build_fn"
        )
    return output
