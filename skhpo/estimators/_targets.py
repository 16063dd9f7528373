"""What targets mean, as learned from the first ones: labels here, numbers in ``_numbers``."""

from __future__ import annotations

import math
import numbers
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_array, column_or_1d
from torch import nn

from ..datasets import stored_targets
from ..names import resolve_criterion
from ..rows import Inputs
from ..training.data import as_array
from .feeding import first_batch, read_targets

__all__ = [
    "BINARY",
    "Labels",
    "Targets",
    "check_labels_of",
    "check_labels_of_dataset",
    "check_monitor_of_positions",
    "check_one_label",
    "current_smoothing",
    "encode",
    "is_one_hot",
    "kind_of_criterion",
    "multi_label_classes",
    "sorted_classes",
    "warn_of_one_hot",
    "weights_of_classes",
    "with_positions_as_rows",
]

# Marks an array among plain values.
_ARRAY = "array"

BINARY = (nn.BCEWithLogitsLoss, nn.BCELoss)


@dataclass(frozen=True, eq=False)
class Targets(ABC):
    """What targets mean. It never changes: whoever learns more makes another one."""

    # Type of the tensors; None for that of the encoded targets.
    dtype: ClassVar[torch.dtype | None] = None
    # Whether they are a dict, and the criterion gets whatever the module returns.
    are_heads: ClassVar[bool] = False

    def encode_items(self, y: Any) -> Any:
        """Encode targets of a `Dataset`, as is done with those of an array."""
        return y

    def scale(self, y: Any) -> Any:
        """Scale encoded targets, where that is wanted."""
        return y

    def with_scaling(self, y: Any, weight: Any) -> Self:
        """Return the same, with the scaling of targets of the training rows if one is wanted."""
        return self

    @abstractmethod
    def shaped(self, y: Any, meaning: str, output_shape: tuple[int, ...]) -> Any:
        """Return encoded targets as the criterion takes them, for outputs of a module."""

    def decode(self, y: Any) -> Any:
        """Convert encoded targets for a scorer."""
        return y

    def strata(self, y: Any) -> NDArray[Any]:
        """Return what a part of the rows should have the same shares of."""
        return np.zeros(len(y))

    def plain(self) -> dict[str, Any]:
        """Return the fields as plain values, for a checkpoint."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: (_ARRAY, value.dtype.str, value.tolist()) if type(value) is np.ndarray else value
            for name, value in values.items()
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Make what `plain` describes."""
        arrays = {k: v for k, v in plain.items() if isinstance(v, tuple) and v[:1] == (_ARRAY,)}
        made = {k: np.array(values, np.dtype(dtype)) for k, (_, dtype, values) in arrays.items()}
        return cls(**{**plain, **made})


@dataclass(frozen=True, eq=False)
class Labels(Targets):
    """Labels, encoded as positions among their classes, or as 0 and 1 for each of several.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        In sorted order; of several labels their numbers.
    order : ndarray or None, default=None
        The classes in the user's order, in which integer targets of a `Dataset` are positions.
    several : bool, default=False
        Whether a sample has any number of labels.
    shape : tuple of int, default=()
        Shape of a sample's targets if it has a label for each of many positions.
    """

    classes: NDArray[Any]
    order: NDArray[Any] | None = None
    several: bool = False
    shape: tuple[int, ...] = ()

    @classmethod
    def learned(
        cls, known: Labels | None, y: Any, given: Any, listed: Any, shape: tuple[int, ...] = ()
    ) -> Labels:
        """Return what is known, or what the first labels tell.

        `given` are the classes that a call got, `listed` those of a parameter.
        """
        if known is None:
            given = listed if given is None else given
            name = "y" if given is None else "classes"
            order = None if given is None else np.asarray(given)
            return cls(sorted_classes(y if given is None else given, name), order, shape=shape)
        if given is not None and set(given) != set(known.classes):
            raise ValueError(
                f"classes must be those of the first call, {known.classes!r}, but got {given!r}"
            )
        return known

    def encode_items(self, y: Any) -> Any:
        y = np.asarray(y)
        if self.several:
            return y
        if y.ndim == 2 and not self.shape and y.shape[1] == 1:
            y = y[:, 0]
        return encode(y, self.classes, order=self.classes if self.order is None else self.order)

    def shaped(self, y: Any, meaning: str, output_shape: tuple[int, ...]) -> Any:
        if self.several:
            return np.asarray(y).astype(np.float32)
        if meaning.startswith("binary"):
            return np.asarray(y).astype(np.float32).reshape(-1, *output_shape)
        return y

    def decode(self, y: Any) -> Any:
        return y if self.several else self.classes[y]

    def strata(self, y: Any) -> NDArray[Any]:
        return np.zeros(len(y)) if self.several or self.shape else y

    def row_weights(self, class_weight: Any, y: Any, sample_weight: Any) -> Any:
        """Return the weights of rows with encoded targets, times those of their classes."""
        if class_weight is None:
            return sample_weight
        per_class = weights_of_classes(class_weight, self.classes, y)[y]
        return per_class if sample_weight is None else per_class * sample_weight


def check_one_label(
    known: Labels | None, y: Any, given: Any, listed: Any, shape: tuple[int, ...] = ()
) -> tuple[Labels, NDArray[np.int64]]:
    """Check one label per sample; return `Labels.learned` and the labels as positions."""
    y = column_or_1d(y, warn=True)
    check_labels(y, "y")
    # Integers are labels, about which scikit-learn at most warns: if there are very many.
    are_integers = y.dtype.kind in "biu"
    if not are_integers:
        check_classification_targets(y)
    labels = Labels.learned(known, y, given, listed, shape)
    if are_integers and 2 * len(labels.classes) > len(y) - 2:
        check_classification_targets(y)
    return labels, encode(y, labels.classes)


def sorted_classes(labels: Any, name: str) -> NDArray[Any]:
    """Return the distinct labels in sorted order, as scorers expect them.

    ValueError, which uses `name`, if there are none, or some cannot be compared with each other.
    """
    labels = np.asarray(labels)
    check_labels(labels, name)
    return np.unique(labels)


def check_labels(labels: NDArray[Any], name: str) -> None:
    """Raise ValueError unless there are labels, all of one type and none of them missing."""
    if labels.ndim != 1 or not len(labels):
        raise ValueError(
            f"{name} must be a list of at least one label, but got {labels.tolist()!r}"
        )
    if labels.dtype.kind != "O" or set(map(type, labels)) == {str}:
        return
    missing = next((i for i, label in enumerate(labels) if _is_missing(label)), None)
    if missing is not None:
        raise ValueError(
            f"{name} must not have missing labels, but has {labels[missing]!r} at position "
            f"{missing}; drop those rows, or give them a label"
        )
    try:
        np.unique(labels)
    except TypeError:
        types = sorted({type(label).__name__ for label in labels.tolist()})
        raise ValueError(
            f"{name} must have labels of one type, which can be sorted, but has some of the types "
            f"{', '.join(types)}; convert them, as with y.astype(str)"
        ) from None


def _is_missing(label: Any) -> bool:
    # A comparison with pandas' NA is no bool.
    return bool(label is None or type(label).__name__ in ("NAType", "NaTType") or label != label)


def is_one_hot(y: NDArray[Any]) -> bool:
    """Whether each row of a 0/1 array has exactly one 1, in at least two columns."""
    return len(y) > 1 and bool((y.sum(axis=1) == 1).all()) and len(set(y.argmax(axis=1))) > 1


def warn_of_one_hot(n_labels: int) -> None:
    """Warn that targets look one-hot but are treated as several labels."""
    warnings.warn(
        f"y has exactly one 1 in each row, but is taken for {n_labels} labels of which a sample "
        "may have any number, each with a threshold; if it is one-hot, pass the classes: "
        "y.argmax(axis=1)",
        stacklevel=2,
    )


def multi_label_classes(n_labels: int) -> NDArray[np.int_]:
    """Return `classes_` where samples have several labels: 0 and 1 for each, shape (n_labels, 2).

    The positions of two labels alone would look like two classes.
    """
    return np.tile([0, 1], (n_labels, 1))


def encode(
    y: NDArray[Any], classes: NDArray[Any], *, order: NDArray[Any] | None = None
) -> NDArray[np.int64]:
    """Return the positions (int64) of labels among sorted classes; ValueError for other labels.

    With `order`, the classes in the user's order, integers in `y` are positions in it if the
    classes are names.
    """
    if order is not None and y.dtype.kind in "iu" and order.dtype.kind in "US":
        if len(y) and not 0 <= y.min() <= y.max() < len(order):
            raise ValueError(
                f"integer targets must be positions among the {len(order)} classes, but go from "
                f"{y.min()} to {y.max()}"
            )
        y = order[y]
    try:
        positions = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
        known = np.array_equal(classes[positions], y)
    except TypeError:
        known = False
    if not known:
        labels = set(classes.tolist())
        unseen = list(dict.fromkeys(label for label in y.ravel().tolist() if label not in labels))
        raise ValueError(
            f"y must have only the labels {classes!r} of the first call, but has {unseen!r}; "
            "pass all labels to the first call: partial_fit(X, y, classes=...)"
        )
    return positions.astype(np.int64)


def weights_of_classes(
    class_weight: Any, classes: NDArray[Any], y: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the weight of each class, of shape (n_classes,); `y` are positions of labels.

    "balanced" is ``n_samples / (n_classes * count)``; a class that a dict lacks has weight 1. Other
    labels, which a fold may lack, are ignored if all classes have a weight, else ValueError is
    raised as in scikit-learn; also for other or negative values.
    """
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(y, minlength=len(classes))
        weights: NDArray[np.float64] = len(y) / (len(classes) * np.maximum(counts, 1))
        return weights
    if not isinstance(class_weight, dict):
        raise ValueError(
            "class_weight must be None, 'balanced' or a dict from label to weight, but got "
            f"{class_weight!r}"
        )
    for label, weight in class_weight.items():
        if not isinstance(weight, numbers.Real) or not 0 <= float(weight) < math.inf:
            raise ValueError(
                f"class_weight must have weights >= 0, but that of {label!r} is {weight!r}"
            )
    labels = classes.tolist()
    unknown = [label for label in class_weight if label not in labels]
    unweighted = [label for label in labels if label not in class_weight]
    if unknown and unweighted:
        raise ValueError(
            f"class_weight has the labels {unknown!r}, but the classes are {classes!r}; where y "
            f"may lack labels, give {unweighted!r} weights, too, or pass all labels as classes"
        )
    return np.array([float(class_weight.get(label, 1)) for label in labels])


def current_smoothing(net: Any) -> float:
    """Return the label smoothing of a net in this epoch."""
    smoothing: float = net._scheduled.get("label_smoothing", getattr(net, "label_smoothing", 0.0))
    return smoothing


def check_monitor_of_positions(net: Any, has_positions: bool) -> None:
    """Raise ValueError if a net is to monitor a scorer of scikit-learn on images or the like."""
    if has_positions and net.monitor != "valid_loss":
        raise ValueError(
            f"monitor={net.monitor!r} takes targets of at most two dimensions, but y has more; set "
            "monitor='valid_loss'"
        )


def _refuse_dict(y: Any) -> None:
    if isinstance(y, Mapping | Inputs):
        raise ValueError(
            "y of a classifier must be labels, but is a dict of targets; for several heads use a "
            "TorchRegressor with a criterion of your own, in which integers may be classes"
        )


def _refuse_classes_of_samples(net: Any, y: NDArray[Any]) -> None:
    for name in ("class_weight", "batch_sampler"):
        if getattr(net, name) is not None:
            raise ValueError(
                f"{name}={getattr(net, name)!r} needs one label per sample, but y has the "
                f"shape {y.shape}; set {name}=None"
            )


def _check_shape_of_labels(net: Any, known: Labels | None, y: NDArray[Any]) -> None:
    _refuse_classes_of_samples(net, y)
    check_monitor_of_positions(net, True)
    if known is not None and y.shape[1:] != tuple(known.shape):
        raise ValueError(
            f"y must have labels of the shape {tuple(known.shape)} for each sample, as "
            f"in the first call, but got {y.shape[1:]}"
        )


def _check_several_labels(
    net: Any, known: Labels | None, y: NDArray[Any]
) -> tuple[Labels, NDArray[np.int64]]:
    _refuse_classes_of_samples(net, y)
    if known is None:
        known = Labels(np.arange(y.shape[1]), several=True)
        if is_one_hot(y):
            warn_of_one_hot(y.shape[1])
    elif y.shape[1] != len(known.classes):
        raise ValueError(
            f"y must have {len(known.classes)} labels as in the first call, but got {y.shape[1]}"
        )
    return known, y.astype(np.int64)


def check_labels_of(
    net: Any, known: Labels | None, y: Any, given: Any
) -> tuple[Labels, NDArray[np.int64]]:
    """Check and encode the labels of an array; `known` is what the first ones told, or None."""
    _refuse_dict(y)
    y = check_array(as_array(y), ensure_2d=False, allow_nd=True, dtype=None, input_name="y")
    two = y.ndim == 2 and y.shape[1] > 1
    several = two and type_of_target(y) == "multilabel-indicator"
    listed = given is not None or net.classes is not None
    if y.ndim > 2 or bool(known and known.shape) or (two and listed and not several):
        _check_shape_of_labels(net, known, y)
        labels, encoded = check_one_label(known, y.ravel(), given, net.classes, y.shape[1:])
        return labels, encoded.reshape(y.shape)
    if known is not None and several != known.several:
        raise ValueError(
            "y must have one label per sample, or several, as in the first call, but got the "
            f"shape {y.shape}"
        )
    if several:
        return _check_several_labels(net, known, y)
    return check_one_label(known, y, given, net.classes)


def check_labels_of_dataset(
    net: Any, known: Labels | None, dataset: Any, y: Any, given: Any
) -> tuple[Labels, Any]:
    """Check and encode the labels of a torch `Dataset`; None for those that are not read."""
    listed = net.classes if given is None else given
    if y is None:
        y = stored_targets(dataset)
    of_rows = [name for name in ("class_weight", "batch_sampler") if getattr(net, name) is not None]
    if y is None and (known is None or of_rows) and listed is None:
        y = read_targets(net, dataset)
        if y is None:
            first_batch(net, dataset)  # raises, because there are no pairs
    if y is None:
        if of_rows:
            raise ValueError(
                f"{of_rows[0]}={getattr(net, of_rows[0])!r} needs the targets of the Dataset, but "
                "with `classes` given they are not read beforehand; pass them as y, or leave "
                "`classes` out"
            )
        labels = Labels.learned(known, None, given, net.classes)
        if known is None:
            shape = np.shape(first_batch(net, dataset)[1])[1:]
            labels = replace(labels, shape=shape if len(shape) > 1 else ())
        return labels, None
    _refuse_dict(y)
    y, shape = np.asarray(y), ()
    if y.ndim > 2 or bool(known and known.shape):
        _check_shape_of_labels(net, known, y)
        shape = y.shape[1:]
    elif known.several if known is not None else y.ndim == 2 and y.shape[1] > 1:
        return _check_several_labels(net, known, y)
    labels = Labels.learned(known, y.ravel(), given, net.classes, shape)
    return labels, labels.encode_items(y)


def kind_of_criterion(net: Any) -> type[Any]:
    """Return the class of a net's criterion."""
    criterion = resolve_criterion(net.criterion)
    return criterion if isinstance(criterion, type) else type(criterion)


def with_positions_as_rows(criterion: Any, labels: Labels, output: torch.Tensor) -> torch.Tensor:
    """Return a few outputs with the positions as rows, of which each has a label."""
    if isinstance(criterion, BINARY):
        raise ValueError(
            f"criterion {type(criterion).__name__} takes numbers, but y has a label for "
            "each position; use criterion='cross_entropy' with an output for each class, or a "
            "TorchRegressor, for which 0 and 1 are numbers"
        )
    n_classes, shape = len(labels.classes), tuple(labels.shape)
    wanted = n_classes, *shape
    if tuple(output.shape[1:]) != wanted:
        raise ValueError(
            f"for {n_classes} classes and labels of shape {shape} the "
            f"module must return an output of shape (n, {', '.join(map(str, wanted))}), but "
            f"returns (n, {', '.join(map(str, output.shape[1:]))}); the classes come first, as "
            "torch's cross-entropy takes them"
        )
    return output.movedim(1, -1).flatten(0, -2)
