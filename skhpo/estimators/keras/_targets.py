"""Targets of the Keras classifier: one label per sample, or several."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_array

from ...training.data import as_array
from .._outputs import SOFTMAX, are_logits, only, sum_to_one
from .._targets import Labels, check_one_label, is_one_hot, warn_of_one_hot
from ._backend import import_keras
from ._compiling import is_of_keras, loss_name, takes_logits, warn_of_logits

__all__ = ["LabelsMixin"]


class LabelsMixin:
    """The methods of a `KerasEstimator` for the targets of a classifier."""

    _kinds_of_targets = (Labels,)
    _one_per_row = _one_hot = False
    _checkpointed = (
        *("_plain_targets", "_meaning", "_width", "_sparse", "_one_per_row", "_one_hot"),
    )

    def _check_targets(self, y, classes, reset):
        y = check_array(as_array(y), ensure_2d=False, dtype=None, input_name="y")
        several = y.ndim == 2 and y.shape[1] > 1 and type_of_target(y) == "multilabel-indicator"
        known = None if reset else self._targets
        if known is not None and (
            several != known.several or (several and y.shape[1] != len(known.classes))
        ):
            raise ValueError(
                "y must have as many labels per sample as in the first call, but got the shape "
                f"{y.shape}"
            )
        if not several:
            self._targets, y = check_one_label(known, y, classes, None)
            return y
        if self.class_weight is not None:
            raise ValueError(
                f"class_weight={self.class_weight!r} needs one label per sample, but y has "
                f"the shape {y.shape}; set class_weight=None"
            )
        if known is None:
            self._targets = Labels(np.arange(y.shape[1]), several=True)
            self._one_per_row = is_one_hot(y)
        return y.astype(np.int64)

    def _row_weights(self, y, sample_weight):
        return self._targets.row_weights(self.class_weight, y, sample_weight)

    def _out_features(self):
        return len(self._targets.classes)

    def _binary_outputs(self, output, loss=None):
        if self._targets.several:
            return not self._is_categorical(loss, output)
        return output.values.shape[1:] in ((), (1,))

    def _is_categorical(self, loss, output):
        """Say whether targets are one-hot: a row of one 1 for a loss or an output of one class."""
        categorical = "categorical" in loss_name(loss) if loss else only(output.operations, SOFTMAX)
        return self._targets.several and self._one_per_row and categorical

    def _infer_loss(self, output):
        self._check_width(output.values, "no loss can be inferred for the uncompiled model: ")
        losses = import_keras().losses
        logits = self._returns_logits(None, output) is not False
        if self._binary_outputs(output):
            return losses.BinaryCrossentropy(from_logits=logits)
        if self._targets.several:
            return losses.CategoricalCrossentropy(from_logits=logits)
        return losses.SparseCategoricalCrossentropy(from_logits=logits)

    def _default_metrics(self, loss, output):
        if self._binary_outputs(output, loss) and self._returns_logits(loss, output):
            return [import_keras().metrics.BinaryAccuracy(name="accuracy", threshold=0.0)]
        return ["accuracy"]

    def _returns_logits(self, loss, output):
        """Whether outputs are logits, by the loss, else by the outputs; None where unknown."""
        logits = None if loss is None else takes_logits(loss)
        if logits is not None:
            return logits
        values = torch.from_numpy(output.values)
        if not self._binary_outputs(output, loss) and sum_to_one(values):
            return False
        return are_logits(values, output.operations)

    def _check_width(self, output, prefix=""):
        n_classes = len(self._targets.classes)
        width = output.shape[1] if output.ndim == 2 else None
        enough = (
            width == n_classes
            if self._targets.several
            else width is not None and (width >= n_classes or (width == 1 and n_classes == 2))
        )
        if not enough:
            what = f"for each of {n_classes} {'labels' if self._targets.several else 'classes'}"
            raise ValueError(
                f"{prefix}the model must have an output {what}"
                f"{', or one' if n_classes == 2 else ''}, but returns the shape "
                f"(n_samples, {', '.join(map(str, output.shape[1:]))}); let the builder take "
                "out_features, which is inferred from the data"
            )

    def _infer_output_format(self, model, output):
        values = output.values
        output = output._replace(values=values.reshape(-1, 1) if values.ndim == 1 else values)
        self._check_width(output.values)
        self._width = output.values.shape[1]
        self._one_hot = self._is_categorical(model.loss, output)
        if self._targets.several and self._one_per_row and not self._one_hot:
            warn_of_one_hot(len(self._targets.classes))
        warn_of_logits(model.loss, output)
        logits = self._returns_logits(model.loss, output)
        if logits is None:
            values = output.values
            logits = not ((values >= 0) & (values <= 1)).all()
            warnings.warn(
                f"neither the loss {loss_name(model.loss)} nor the model tells whether its outputs "
                f"(from {values.min():.3g} to {values.max():.3g}) are logits or probabilities; "
                f"they are taken for {'logits' if logits else 'probabilities'}; let the model end "
                "in a sigmoid, a softmax or a linear layer",
                stacklevel=2,
            )
        self._meaning = "probabilities" if logits is False else "logits"
        self._sparse = self._takes_positions(model.loss, output.values)

    def _takes_positions(self, loss, values):
        """Whether a loss takes positions of classes as targets, rather than one-hot rows."""
        if not loss or loss_name(loss).startswith("sparse"):
            return True
        if self._targets.several or self._width == 1 or is_of_keras(loss) or not callable(loss):
            return False
        # A user's loss takes positions if it fails for one-hot rows but not for positions.
        values = import_keras().ops.convert_to_tensor(values)
        positions = np.arange(len(values)) % self._width
        for targets in (np.eye(self._width, dtype=np.float32)[positions], positions):
            try:
                loss(import_keras().ops.convert_to_tensor(targets), values)
            except Exception:
                continue
            return targets.ndim == 1
        return False

    def _dummy_targets(self, n):
        return np.zeros(
            (n, len(self._targets.classes)) if self._targets.several else n, dtype=np.int64
        )

    def _shape_targets(self, y):
        if self._one_hot and self._sparse:
            return y.argmax(axis=1)
        if self._targets.several:
            return y.astype(np.float32)
        if self._width == 1:
            return y.astype(np.float32).reshape(-1, 1)
        return y if self._sparse else np.eye(self._width, dtype=np.float32)[y]
