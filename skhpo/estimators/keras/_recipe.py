"""What a fit made its model of, so that the same model can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ._backend import for_model, operations_of, outputs_of
from ._builders import INFERRED, builder_arguments, builder_of, copied, fresh_model
from ._compiling import compiled
from ._randomness import OwnGlobals

__all__ = ["Outputs", "Recipe", "outputs_for"]


class Outputs(NamedTuple):
    """What a model returns for a few rows, and the operations that it comes from."""

    values: np.ndarray
    operations: frozenset


@dataclass(frozen=True)
class Recipe:
    """How a fit made its model.

    Parameters
    ----------
    build_fn : callable, keras.Model or None
    arguments : dict
        Of the builder: those set, and those inferred from the data.
    compilation : dict
        What is set of loss, optimizer and metrics.
    seed : int
    inputs : dict of str or None to (tuple of int, str)
        Shape of a sample and type of each input.
    """

    build_fn: Any
    arguments: Mapping[str, Any]
    compilation: Mapping[str, Any]
    seed: int
    inputs: Mapping[str | None, tuple]

    @classmethod
    def of(cls, estimator, inferred, inputs):
        """Collect what an estimator's parameters say.

        Parameters
        ----------
        estimator : KerasEstimator
        inferred : dict
            Arguments that the data say.
        inputs : dict of str or None to (tuple of int, str)
        """
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

    def model(self, estimator, few=None):
        """Make the model, built and compiled.

        Parameters
        ----------
        estimator : KerasEstimator
            Says what a model without a loss is compiled with, and is shown a few outputs.
        few : ndarray or dict of str to ndarray, default=None
            A few rows; zeros, where the estimator has seen outputs before.

        Returns
        -------
        keras.Model
        """
        with OwnGlobals(self.seed, "init").lent():
            builder = builder_of(self.build_fn)
            model = copied(self.build_fn) if builder is None else self._call(builder)
            rows = self._zeros() if few is None else few
            output = Outputs(outputs_for(model, rows), operations_of(model, rows))
            compiled(
                model,
                **self.compilation,
                infer_loss=lambda: estimator._infer_loss(output),
                default_metrics=lambda loss: estimator._default_metrics(loss, output),
            )
            if few is not None:
                estimator._understand(model, output)
            # Keras builds its metrics with a batch of the first epoch, whose order would then be
            # another one after a pickle.
            targets = estimator._shape_targets(estimator._dummies(len(output.values)))
            model.test_on_batch(for_model(rows), targets)
            model.reset_metrics()
            model.optimizer.build(model.trainable_variables)
        return model

    def _call(self, builder):
        return fresh_model(builder, self.arguments)

    def _zeros(self):
        arrays = {k: np.zeros((2, *shape), dtype) for k, (shape, dtype) in self.inputs.items()}
        return arrays.get(None, arrays)


def outputs_for(model, rows):
    """Return what a model returns for a few rows, an array of shape (n, ...).

    Raises
    ------
    ValueError
        If it does not accept them, or has several outputs.
    """
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
