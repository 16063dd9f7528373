"""Labels of classes, their positions and their weights."""

from __future__ import annotations

import math
import numbers
import warnings

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

__all__ = [
    "ClassesMixin",
    "check_labels",
    "encode",
    "is_one_hot",
    "multi_label_classes",
    "sorted_classes",
    "warn_of_one_hot",
    "weights_of_classes",
]


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
