"""Labels of classes, their positions and their weights."""

from __future__ import annotations

import numpy as np

__all__ = ["encode", "weights_of_classes"]


def encode(y, classes, *, positions_allowed=False):
    """Return the positions of labels among the classes.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    classes : ndarray of shape (n_classes,)
    positions_allowed : bool, default=False
        Whether integers are positions already where the classes are names.

    Returns
    -------
    positions : ndarray of int64, shape (n_samples,)

    Raises
    ------
    ValueError
        If there is a label that is no class.
    """
    if positions_allowed and y.dtype.kind in "iu" and classes.dtype.kind in "US":
        y = classes[y]
    order = np.argsort(classes)
    found = np.searchsorted(classes, y, sorter=order)
    positions = order[np.minimum(found, len(classes) - 1)]
    if not np.array_equal(classes[positions], y):
        unseen = np.setdiff1d(y, classes)
        raise ValueError(
            f"y must have only the labels {classes!r} of the first call, but has {unseen!r}; "
            "pass all labels to the first call: partial_fit(X, y, classes=...)"
        )
    return positions.astype(np.int64)


def weights_of_classes(class_weight, classes, y):
    """Return the weight of each class.

    Parameters
    ----------
    class_weight : dict or "balanced"
        "balanced" is ``n_samples / (n_classes * count)``; a class that a dict lacks has 1.
    classes : ndarray of shape (n_classes,)
    y : ndarray of int64, shape (n_samples,)
        Positions of the labels.

    Returns
    -------
    weights : ndarray of shape (n_classes,)

    Raises
    ------
    ValueError
        If `class_weight` is something else, or names a label that is no class.
    """
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(y, minlength=len(classes))
        return len(y) / (len(classes) * np.maximum(counts, 1))
    if not isinstance(class_weight, dict):
        raise ValueError(
            "class_weight must be None, 'balanced' or a dict from label to weight, but got "
            f"{class_weight!r}"
        )
    labels = classes.tolist()
    unknown = [label for label in class_weight if label not in labels]
    if unknown:
        raise ValueError(
            f"class_weight has the labels {unknown!r}, but the classes are {classes!r}"
        )
    return np.array([float(class_weight.get(label, 1)) for label in labels])
