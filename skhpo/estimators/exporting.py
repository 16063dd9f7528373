"""A trained network outside of its estimator: as a plain module, and as a graph in a file."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from ..process import ignoring
from ..training.modes import usual_modes
from ..training.structure import copied
from .feeding import batches_of, input_dtypes, rows_of
from .settings import NetPart
from .validation import checked_inputs

__all__ = ["ExportingMixin", "PlainModel"]

# What `predict_proba`, or `predict` of a regressor, makes of the output of a module.
_STEPS = {
    "logits": "softmax over dimension 1",
    "class_logits": "softmax over dimension 1",
    "log_probabilities": "exp",
    "logs": "exp",
    "each_probability": "division by the sum over dimension 1",
    "binary_logit": "sigmoid, the probability of the second class",
    "binary_probability": "the probability of the second class, as it is",
    "label_logits": "sigmoid, the probability of each label",
    "label_values": "limits of 0 and 1",
}
_NOTHING = "nothing"
# Packages that write a graph.
_WRITERS = ("onnx", "onnxscript")
# Bytes of weights beyond which they are in a file beside the graph, which is limited to 2 GiB.
_MOST_IN_ONE_FILE = 2**30


@dataclass(frozen=True, eq=False)
class PlainModel:
    """A trained module, and what an estimator does before and after it.

    Parameters
    ----------
    module : torch.nn.Module
        A copy on the CPU, in evaluation mode, which knows nothing of its estimator.
    before : str
        What it takes: types and shapes of its inputs.
    after : str
        What makes predictions of its output.
    classes : ndarray or None
        Labels in the order of the outputs; None of a regressor.
    predicting : torch.nn.Module
        Does what `after` says, too: it returns what ``predict_proba`` does, or ``predict`` of a
        regressor, for a tensor or a dict of tensors.
    """

    module: nn.Module
    before: str
    after: str
    classes: np.ndarray | None
    predicting: nn.Module

    def __repr__(self) -> str:
        classes = "" if self.classes is None else f"\nclasses: {self.classes.tolist()}"
        return f"{self.module}\nbefore: {self.before}\nafter: {self.after}{classes}"


class _Predicting(nn.Module):
    """A module and what is done with its output.

    `shape` is that of a row of predictions, None to leave it; `scaling` a pair of numbers or lists,
    a mean and a scale, or None.
    """

    def __init__(
        self, module: Any, nonlinearity: Any, shape: Any = None, scaling: Any = None
    ) -> None:
        super().__init__()
        self.module = module
        self.nonlinearity = nonlinearity
        self.shape = shape
        self.scaling = None if scaling is None else [torch.tensor(one) for one in scaling]

    def forward(self, inputs: Any) -> Any:
        """Return predictions for a tensor, or a dict of tensors."""
        is_dict = isinstance(inputs, dict)
        output = self.module(**inputs) if is_dict else self.module(inputs)
        output = output[0] if isinstance(output, tuple) else output
        output = self.nonlinearity(output)
        if self.shape is not None:
            output = output.reshape(-1, *self.shape)
        if self.scaling is not None:
            mean, scale = (one.to(output.device, output.dtype) for one in self.scaling)
            output = output * scale + mean
        return output


class ExportingMixin(NetPart):  # type: ignore[misc] # skorch has no types
    """`to_torch` and `to_onnx` of a torch estimator."""

    @usual_modes()
    def to_torch(self) -> Any:
        """Return the trained network as a plain module, with what is done before and after it.

        Returns
        -------
        model : PlainModel
            With `module`, `before`, `after` and `classes`; ``print(model)`` shows them.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        """
        self.check_is_fitted()
        if not self._has_seen_data:
            raise ValueError(
                "the meaning of the output must be known, which data tell, but the network was "
                "only initialized; call fit or partial_fit first"
            )
        module = self._plain_module()
        shape, scaling = self._shape_of_predictions(), getattr(self._targets, "scaling", None)
        steps = [self._named_nonlinearity()]
        if scaling is not None:
            steps.append("times target_scale_, plus target_mean_")
        steps = [step for step in steps if step != _NOTHING] or [_NOTHING]
        return PlainModel(
            module,
            self._described_inputs(),
            ", then ".join(steps),
            getattr(self, "classes_", None),
            _Predicting(module, self._get_predict_nonlinearity(), shape, scaling).eval(),
        )

    def to_onnx(self, path: Any, X: Any) -> Self:
        """Write the network and what is done with its output as an ONNX graph.

        The graph takes any number of rows, as tensors of the types that `to_torch` names, and
        returns what ``predict_proba`` does, or ``predict`` of a regressor. It needs the extra
        ``onnx``: ``pip install skhpo[onnx]``.

        Parameters
        ----------
        path : str or path-like
            Of the file. Weights of more than 1 GiB are in another file beside it.
        X : array-like of shape (n_samples, ...) or dict of str to array-like
            Some rows, as of ``predict``.

        Returns
        -------
        self : estimator
            The estimator itself.

        Raises
        ------
        ImportError
            If the packages that write a graph are missing.
        ValueError
            If `X` is not like the rows of ``fit``.
        """
        missing = [name for name in _WRITERS if importlib.util.find_spec(name) is None]
        if missing:
            raise ImportError(
                f"to_onnx needs the package {missing[0]}, which is not installed; "
                "pip install skhpo[onnx]"
            )
        model, batch = self.to_torch(), self._example(X)
        rows = torch.export.Dim("rows")
        is_dict = isinstance(batch, dict)
        sizes = {name: {0: rows} for name in batch} if is_dict else {0: rows}
        # Of the exporter itself: what of torch is deprecated, and what it finds installed.
        with ignoring(Warning):
            program = torch.export.export(model.predicting, (batch,), dynamic_shapes=(sizes,))
            torch.onnx.export(
                program,
                f=str(path),
                input_names=list(batch) if is_dict else ["X"],
                output_names=["predictions" if model.classes is None else "probabilities"],
                dynamo=True,
                verbose=False,
                external_data=_n_bytes(model.module) > _MOST_IN_ONE_FILE,
            )
        return self

    def _example(self, X: Any) -> Any:
        """Return two or more rows as the module gets them, on the CPU."""
        X, _ = checked_inputs(self, X, reset=False, needs_y=False)
        batch, _ = next(iter(batches_of(self, rows_of(self, X, training=False), training=False)))
        if isinstance(batch, Mapping):
            return {name: _at_least_two(value.cpu()) for name, value in batch.items()}
        return _at_least_two(batch.cpu())

    def _plain_module(self) -> Any:
        running: Any = self.module_
        module = copied(getattr(running, "_orig_mod", running))
        for parameter in module.parameters():
            parameter.grad = None
        return module.cpu().eval()

    def _shape_of_predictions(self) -> tuple[int, ...] | None:
        """Return the shape of a row of predictions; None where the output has it."""
        return None

    def _named_nonlinearity(self) -> Any:
        if self.predict_nonlinearity != "auto":
            return _NOTHING if self.predict_nonlinearity is None else "predict_nonlinearity"
        return _STEPS.get(self._meaning, _NOTHING)

    def _described_inputs(self) -> str:
        dtypes = input_dtypes(self)
        if isinstance(dtypes, Mapping):
            each = ", ".join(f"{name}: {_plain(dtype)}" for name, dtype in dtypes.items())
            return f"tensors as arguments of these names, rows first ({each})"
        shape = ", ".join(map(str, ("n", *(self.input_shape_ or ()))))
        names = getattr(self, "feature_names_in_", None)
        columns = "" if names is None else f", columns {', '.join(names)}"
        return f"a tensor of {_plain(dtypes)}, shape ({shape}){columns}"


def _n_bytes(module: Any) -> Any:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def _at_least_two(rows: Any) -> Any:
    # The number of rows of a graph that is traced with one row is taken for fixed.
    return rows if len(rows) > 1 else torch.cat([rows, rows])


def _plain(dtype: Any) -> Any:
    return str(dtype).removeprefix("torch.")
