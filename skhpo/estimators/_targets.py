"""Targets of a classifier: one label per sample, or several; their classes and weights."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_array, column_or_1d
from torch import nn

from ..datasets import stored_targets
from ..names import resolve_criterion
from ..rows import Inputs
from ..training.data import as_array
from ._outputs import last_operations, meaning_of
from .feeding import first_batch, read_targets
from .settings import changed_settings, reads_by_number

__all__ = [
    "BINARY",
    "ClassesMixin",
    "LabelsMixin",
    "check_labels",
    "check_monitor_of_positions",
    "current_smoothing",
    "encode",
    "is_one_hot",
    "multi_label_classes",
    "sorted_classes",
    "warn_of_one_hot",
    "weights_of_classes",
]

BINARY = (nn.BCEWithLogitsLoss, nn.BCELoss)


class ClassesMixin:
    """The classes of a classifier, targets as positions among them, and their weights."""

    # The classes in the user's order, in which integer targets of a Dataset are positions.
    _order_of_classes = None

    @property
    def _labels(self):
        """The classes as plain values, for checkpoints."""
        classes, order = self._known_classes, self._order_of_classes
        labels = {"dtype": classes.dtype.str, "values": classes.tolist()}
        return labels if order is None else {**labels, "order": order.tolist()}

    @_labels.setter
    def _labels(self, labels):
        self._known_classes = np.array(labels["values"], dtype=np.dtype(labels["dtype"]))
        order = labels.get("order")
        self._order_of_classes = None if order is None else np.array(order)

    def _check_one_label(self, y, classes, reset):
        """Learn the classes, and return one label per sample as positions among them."""
        y = column_or_1d(y, warn=True)
        check_labels(y, "y")
        check_classification_targets(y)
        self._learn_classes(y, classes, reset)
        return encode(y, self._known_classes)

    def _listed_classes(self):
        """Return the classes that a parameter lists, or None."""

    def _learn_classes(self, y, classes, reset):
        if reset:
            classes = self._listed_classes() if classes is None else classes
            name = "y" if classes is None else "classes"
            self._known_classes = sorted_classes(y if classes is None else classes, name)
            self._order_of_classes = None if classes is None else np.asarray(classes)
        elif classes is not None and set(classes) != set(self._known_classes):
            raise ValueError(
                f"classes must be those of the first call, {self._known_classes!r}, but got "
                f"{classes!r}"
            )

    def _row_weights(self, y, sample_weight):
        if self.class_weight is None:
            return sample_weight
        per_class = weights_of_classes(self.class_weight, self._known_classes, y)[y]
        return per_class if sample_weight is None else per_class * sample_weight


def sorted_classes(labels, name):
    """Return the distinct labels in sorted order, as scorers expect them.

    ValueError, which uses `name`, if there are none, or some cannot be compared with each other.
    """
    labels = np.asarray(labels)
    check_labels(labels, name)
    return np.unique(labels)


def check_labels(labels, name):
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


def _is_missing(label):
    # A comparison with pandas' NA is no bool.
    return label is None or type(label).__name__ in ("NAType", "NaTType") or label != label


def is_one_hot(y):
    """Whether each row of a 0/1 array has exactly one 1, in at least two columns."""
    return len(y) > 1 and bool((y.sum(axis=1) == 1).all()) and len(set(y.argmax(axis=1))) > 1


def warn_of_one_hot(n_labels):
    """Warn that targets look one-hot but are treated as several labels."""
    warnings.warn(
        f"y has exactly one 1 in each row, but is taken for {n_labels} labels of which a sample "
        "may have any number, each with a threshold; if it is one-hot, pass the classes: "
        "y.argmax(axis=1)",
        stacklevel=2,
    )


def multi_label_classes(n_labels):
    """Return `classes_` where samples have several labels: 0 and 1 for each, shape (n_labels, 2).

    The positions of two labels alone would look like two classes.
    """
    return np.tile([0, 1], (n_labels, 1))


def encode(y, classes, *, order=None):
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


def weights_of_classes(class_weight, classes, y):
    """Return the weight of each class, of shape (n_classes,); `y` are positions of labels.

    "balanced" is ``n_samples / (n_classes * count)``; a class that a dict lacks has weight 1. Other
    labels, which a fold may lack, are ignored if all classes have a weight, else ValueError is
    raised as in scikit-learn; also for other or negative values.
    """
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(y, minlength=len(classes))
        return len(y) / (len(classes) * np.maximum(counts, 1))
    if not isinstance(class_weight, dict):
        raise ValueError(
            "class_weight must be None, 'balanced' or a dict from label to weight, but got "
            f"{class_weight!r}"
        )
    for label, weight in class_weight.items():
        if not isinstance(weight, numbers.Real) or not 0 <= weight < math.inf:
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


def current_smoothing(net):
    """Return the label smoothing of a net in this epoch."""
    return net._scheduled.get("label_smoothing", getattr(net, "label_smoothing", 0.0))


def check_monitor_of_positions(net, has_positions):
    """Raise ValueError if a net is to monitor a scorer of scikit-learn on images or the like."""
    if has_positions and net.monitor != "valid_loss":
        raise ValueError(
            f"monitor={net.monitor!r} takes targets of at most two dimensions, but y has more; set "
            "monitor='valid_loss'"
        )


def _refuse_dict(y):
    if isinstance(y, Mapping | Inputs):
        raise ValueError(
            "y of a classifier must be labels, but is a dict of targets; for several heads use a "
            "TorchRegressor with a criterion of your own, in which integers may be classes"
        )


class LabelsMixin(ClassesMixin):
    """The methods of a `TorchEstimator` for the targets of a classifier."""

    _multi_label = False
    # Shape of a sample's targets if it has a label for each of many positions, else ().
    _label_shape = ()
    _checkpointed = ("_labels", "_meaning", "_output_shape", "_multi_label", "_label_shape")

    def _check_params(self):
        super()._check_params()
        if self.batch_sampler and vars(self).get("iterator_train__shuffle") is False:
            raise ValueError(
                f"batch_sampler={self.batch_sampler!r} orders the samples, but "
                "iterator_train__shuffle=False keeps their order; leave one of them out"
            )
        smoothing = self.label_smoothing
        if not smoothing and "label_smoothing" not in (self.hyperparameter_schedule or ()):
            return
        if "label_smoothing" in changed_settings(self, "criterion"):
            raise ValueError(
                "label_smoothing and criterion__label_smoothing are the same; set one of them"
            )
        kind = self._kind_of_criterion()
        if not issubclass(kind, (*BINARY, nn.CrossEntropyLoss)):
            raise ValueError(
                f"label_smoothing={smoothing} needs criterion 'cross_entropy' or "
                f"'bce_with_logits', but criterion={self.criterion!r}"
            )

    def _check_targets(self, y, classes, reset):
        _refuse_dict(y)
        y = check_array(as_array(y), ensure_2d=False, allow_nd=True, dtype=None, input_name="y")
        several = y.ndim == 2 and y.shape[1] > 1
        multi_label = several and type_of_target(y) == "multilabel-indicator"
        listed = classes is not None or self.classes is not None or bool(self._label_shape)
        if y.ndim > 2 or (several and listed and not multi_label):
            return self._check_positions(y, classes, reset)
        if reset:
            self._multi_label, self._label_shape = multi_label, ()
        elif multi_label != self._multi_label:
            raise ValueError(
                "y must have one label per sample, or several, as in the first call, but got the "
                f"shape {y.shape}"
            )
        if multi_label:
            return self._check_several_labels(y, reset)
        return self._check_one_label(y, classes, reset)

    def _check_positions(self, y, classes, reset):
        """Check an array with a label for each position of a sample, and encode it."""
        self._check_shape_of_labels(y, reset)
        return self._check_one_label(y.ravel(), classes, reset).reshape(y.shape)

    def _check_shape_of_labels(self, y, reset):
        self._refuse_classes_of_samples(y)
        check_monitor_of_positions(self, True)
        if reset:
            self._multi_label, self._label_shape = False, y.shape[1:]
        elif y.shape[1:] != tuple(self._label_shape):
            raise ValueError(
                f"y must have labels of the shape {tuple(self._label_shape)} for each sample, as "
                f"in the first call, but got {y.shape[1:]}"
            )

    def _refuse_classes_of_samples(self, y):
        for name in ("class_weight", "batch_sampler"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} needs one label per sample, but y has the "
                    f"shape {y.shape}; set {name}=None"
                )

    def _are_integer_labels(self, y):
        arrays = y, getattr(self, "_known_classes", None)
        plain = (type(a) is np.ndarray and a.ndim == 1 and a.dtype.kind in "iu" for a in arrays)
        return all(plain) and len(y) > 0 and not self._multi_label

    def _has_positions(self, shape):
        return bool(self._label_shape)

    def _score_of_positions(self, y, predicted, sample_weight):
        return float(np.average((y == predicted).mean(axis=1), weights=sample_weight))

    def _check_several_labels(self, y, reset):
        self._refuse_classes_of_samples(y)
        if reset:
            self._known_classes = np.arange(y.shape[1])
            if is_one_hot(y):
                warn_of_one_hot(y.shape[1])
        elif y.shape[1] != len(self._known_classes):
            raise ValueError(
                f"y must have {len(self._known_classes)} labels as in the first call, but got "
                f"{y.shape[1]}"
            )
        return y.astype(np.int64)

    def _listed_classes(self):
        return self.classes

    def _learn_classes_alone(self):
        if self.classes is None:
            raise ValueError(
                f"{type(self).__name__} must know the labels to predict them, but has seen no y; "
                "call fit or partial_fit first, or set classes"
            )
        self._learn_classes(None, None, True)

    def _check_dataset_targets(self, dataset, y, classes, reset):
        given = self.classes if classes is None else classes
        if y is None:
            y = stored_targets(dataset)
        needed = reset or self.class_weight is not None or self.batch_sampler is not None
        if y is None and needed and given is None:
            y = read_targets(self, dataset)
            if y is None:
                first_batch(self, dataset)  # raises, because there are no pairs
        if y is None:
            for name in ("class_weight", "batch_sampler"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name}={getattr(self, name)!r} needs the targets of the Dataset, but "
                        "with `classes` given they are not read beforehand; pass them as y, or "
                        "leave `classes` out"
                    )
            self._learn_classes(None, classes, reset)
            if reset:
                shape = np.shape(first_batch(self, dataset)[1])[1:]
                self._label_shape = shape if len(shape) > 1 else ()
            return None
        _refuse_dict(y)
        y = np.asarray(y)
        if y.ndim > 2:
            self._check_shape_of_labels(y, reset)
            self._learn_classes(y.ravel(), classes, reset)
            return self._encode_of_dataset(y)
        if reset:
            self._multi_label, self._label_shape = y.ndim == 2 and y.shape[1] > 1, ()
        if self._multi_label:
            return self._check_several_labels(y, reset)
        self._learn_classes(y, classes, reset)
        y = self._encode_of_dataset(y)
        self._class_weight_of_loader = None
        if self.class_weight is not None and not reads_by_number(self, dataset, training=True):
            per_class = weights_of_classes(self.class_weight, self._known_classes, y)
            self._class_weight_of_loader = per_class / per_class[y].mean()
        return y

    def _labels_of_dataset(self, dataset, report=None):
        y = super()._labels_of_dataset(dataset, report)
        if y is None or isinstance(y, Mapping) or y.ndim != 1 or self.classes is None:
            return y
        classes = np.unique(self.classes)
        return classes[encode(y, classes, order=np.asarray(self.classes))]

    def _encode_of_dataset(self, y):
        if self._multi_label:
            return y
        order = self._order_of_classes
        return encode(y, self._known_classes, order=self._known_classes if order is None else order)

    def _kind_of_criterion(self):
        criterion = resolve_criterion(self.criterion)
        return criterion if isinstance(criterion, type) else type(criterion)

    def initialize_criterion(self):
        """Make the criterion, that of several labels where samples have several.

        Returns
        -------
        self : estimator
            The estimator itself.
        """
        kind = self._kind_of_criterion()
        if self._multi_label and kind is nn.CrossEntropyLoss:
            kwargs = changed_settings(self, "criterion")
            self.criterion_ = self.initialized_instance(nn.BCEWithLogitsLoss, kwargs)
            return self
        super().initialize_criterion()
        if self.label_smoothing and isinstance(self.criterion_, nn.CrossEntropyLoss):
            self.criterion_.label_smoothing = float(self.label_smoothing)
        return self

    def _out_features(self):
        if not hasattr(self, "_known_classes"):
            return None
        binary = issubclass(self._kind_of_criterion(), BINARY) and not self._multi_label
        return 1 if binary else len(self._known_classes)

    def _infer_output_format(self, output):
        n_classes = len(self._known_classes)
        ask = isinstance(self.predict_nonlinearity, str)
        operations, output = last_operations(output), output.detach()
        self._output_shape = tuple(output.shape[1:])
        if self._label_shape:
            output = self._of_positions(output)
        self._meaning = meaning_of(
            output, operations, self.criterion_, n_classes, self._multi_label, ask=ask
        )

    def _of_positions(self, output):
        """Return an output with the positions as rows."""
        if isinstance(self.criterion_, BINARY):
            raise ValueError(
                f"criterion {type(self.criterion_).__name__} takes numbers, but y has a label for "
                "each position; use criterion='cross_entropy' with an output for each class, or a "
                "TorchRegressor, for which 0 and 1 are numbers"
            )
        n_classes = len(self._known_classes)
        wanted = n_classes, *self._label_shape
        if tuple(output.shape[1:]) != wanted:
            raise ValueError(
                f"for {n_classes} classes and labels of shape {tuple(self._label_shape)} the "
                f"module must return an output of shape (n, {', '.join(map(str, wanted))}), but "
                f"returns (n, {', '.join(map(str, output.shape[1:]))}); the classes come first, as "
                "torch's cross-entropy takes them"
            )
        return output.movedim(1, -1).flatten(0, -2)

    def _shape_targets(self, y):
        if self._multi_label:
            return y.astype(np.float32)
        if self._meaning.startswith("binary"):
            return y.astype(np.float32).reshape(-1, *self._output_shape)
        return y

    def _decode(self, y):
        return y if self._multi_label else self._known_classes[y]

    def _strata(self, y):
        return np.zeros(len(y)) if self._multi_label or self._label_shape else y

    def _classes_to_balance(self, y):
        return None if self.batch_sampler is None else y

    def _encode_batch(self, y):
        encoded = np.asarray(y)
        if not self._targets_are_encoded:
            encoded = self._encode_of_dataset(encoded)
        if self._class_weight_of_loader is not None:
            weight = self._class_weight_of_loader[encoded].astype(np.float32)
            self._batch_weight = torch.as_tensor(weight, device=self.device_)
        encoded = self._shape_targets(encoded)
        return torch.as_tensor(encoded, device=self.device_)

    def get_loss(self, y_pred, y_true, X=None, training=False):
        y_pred = self._for_criterion(y_pred)
        if isinstance(self.criterion_, nn.NLLLoss) and self._meaning == "probabilities":
            y_pred = torch.log(y_pred + torch.finfo(y_pred.dtype).eps)
        if isinstance(self.criterion_, BINARY) and (smoothing := current_smoothing(self)):
            y_true = y_true * (1 - smoothing) + smoothing / 2
        return super().get_loss(y_pred, y_true, X=X, training=training)
