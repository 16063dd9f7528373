"""Several heads: a dict of targets, and a criterion of the user's for what the module returns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from sklearn.utils.validation import check_array

from ..names import resolve_criterion
from ..rows import Inputs
from ..training.data import as_array
from .feeding import rows_of
from .held_out import Measure
from .validation import check_dataset, check_sample_weight, checked_inputs

__all__ = ["HeadsMixin"]


class HeadsMixin:
    """The methods of a regressor for a dict of targets.

    Integers stay integers, for criteria of classes; other numbers become float32. The criterion
    gets what the module returns, and the targets of the batch as a dict of tensors; predictions are
    what the module returns, as arrays.
    """

    def _check_heads(self, y, reset):
        """Check a dict of targets; return `Inputs` of arrays."""
        self._refuse_with_heads()
        y = {name: _checked(name, value) for name, value in Inputs(_as_dict(y)).arrays.items()}
        shapes = {name: value.shape[1:] for name, value in y.items()}
        if reset:
            self._heads, self._target_shape = shapes, ()
            self._scaling, self._learns_scaling = None, False
        elif shapes != {name: tuple(shape) for name, shape in (self._heads or {}).items()}:
            raise ValueError(
                f"y must be a dict of targets of the shapes {self._heads}, as in the first call, "
                f"but has {shapes}"
            )
        return Inputs(y)

    def _refuse_with_heads(self):
        if self.has_own_epochs:
            raise ValueError(
                "a self-tuning network needs y as an array, but it is a dict of targets; use a "
                "TorchRegressor for several heads"
            )
        criterion = resolve_criterion(self.criterion)
        kind = criterion if isinstance(criterion, type) else type(criterion)
        if kind.__module__.startswith("torch."):
            raise ValueError(
                "a dict of targets needs a criterion of your own, which gets what the module "
                f"returns and a dict of tensors, but criterion={self.criterion!r}"
            )
        for name, needed in (
            ("scale_target", None),
            ("monitor", "valid_loss"),
            ("train_split", None),
        ):
            if getattr(self, name) != needed:
                raise ValueError(
                    f"{name} must be {needed!r} where y is a dict of targets, but is "
                    f"{getattr(self, name)!r}"
                )

    def _learn_heads(self, output):
        """Learn what the module returns for a few rows."""
        parts = output.values() if isinstance(output, Mapping) else output
        if not isinstance(output, Mapping | tuple) or not all(
            isinstance(part, torch.Tensor) for part in parts
        ):
            raise ValueError(
                "for a dict of targets the module must return a dict or a tuple of tensors, but "
                f"returns a {type(output).__name__}"
            )
        self._meaning, self._output_shape = "own", ()

    def _encode_heads(self, y):
        """Return the dict of targets of a batch of a `Dataset` on the device."""
        made = {name: torch.as_tensor(value) for name, value in y.items()}
        return {
            name: value.to(
                self.device_, torch.float32 if value.is_floating_point() else torch.int64
            )
            for name, value in made.items()
        }

    def _score_of_heads(self, X, y, sample_weight):
        """Return minus the mean of the criterion over batches."""
        y = None if y is None else Inputs(_as_dict(y))
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, len(X) if y is None else len(y))
            sample_weight = sample_weight.astype(np.float32)
        if isinstance(X, torch.utils.data.Dataset):
            X, _ = check_dataset(self, X, y, None, False)
            rows = rows_of(self, X, None, sample_weight, training=False)
        else:
            X, _ = checked_inputs(self, X, y, reset=False, needs_y=True)
            y = self._check_targets(y, None, False)
            rows = rows_of(self, X, y, sample_weight, training=False)
        return -Measure(self, rows, None, None)()


def _as_dict(y):
    return y.arrays if isinstance(y, Inputs) else dict(y)


def _checked(name, value):
    value, shown = as_array(value), f"y[{name!r}]"
    if np.asarray(value).dtype.kind in "OUS":
        raise ValueError(
            f"{shown} must be of numbers, but is of the type {np.asarray(value).dtype}; give each "
            "label a number, as by sklearn.preprocessing.LabelEncoder"
        )
    value = check_array(value, ensure_2d=False, allow_nd=True, dtype="numeric", input_name=shown)
    return value.astype(np.float32 if value.dtype.kind == "f" else np.int64)
