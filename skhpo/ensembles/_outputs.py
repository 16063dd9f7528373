"""What the members of an ensemble return for the same rows, networks in one forward pass."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from ..evaluation import answering

__all__ = ["aligned", "common_method", "outputs_of", "votes"]

METHODS = ("predict_proba", "decision_function", "predict")


def common_method(members: Sequence[Any]) -> str:
    """Return the first of `METHODS` that all members have."""
    return next(name for name in METHODS if all(hasattr(member, name) for member in members))


def outputs_of(members: Sequence[Any], method: str, X: Any) -> list[NDArray[Any]]:
    """Return what a method of each fitted member returns for `X`."""
    members, inputs = _without_transformers(members, X)
    outputs = _in_one_pass(members, inputs)
    found = []
    for member, given, output in zip(members, inputs, outputs, strict=True):
        if output is None:
            found.append(np.asarray(getattr(member, method)(given)))
            continue
        with answering(member, given, output):
            found.append(np.asarray(getattr(member, method)(given)))
    return found


def _without_transformers(members: Sequence[Any], X: Any) -> tuple[list[Any], list[Any]]:
    """Return the last steps of pipelines and what they get, equal arrays being one object."""
    shown: list[Any] = []
    inputs: list[Any] = []
    made: list[Any] = []
    for member in members:
        if type(member) is not Pipeline or len(member) < 2:
            shown.append(member)
            inputs.append(X)
            continue
        given = member[:-1].transform(X)
        known = next((one for one in made if _are_equal(one, given)), None)
        if known is None:
            made.append(given)
            known = given
        shown.append(member[-1])
        inputs.append(known)
    return shown, inputs


def _are_equal(one: Any, other: Any) -> bool:
    both = isinstance(one, np.ndarray) and isinstance(other, np.ndarray)
    return both and one.dtype == other.dtype and np.array_equal(one, other)


def _in_one_pass(members: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """Return what torch networks make of their inputs, None for anything else."""
    outputs: list[Any] = [None] * len(members)
    estimators = sys.modules.get("skhpo.estimators")
    if estimators is None:  # nothing has imported it, so there is no network
        return outputs
    kinds = estimators.TorchClassifier, estimators.TorchRegressor
    nets = [i for i, member in enumerate(members) if isinstance(member, kinds)]
    if len(nets) > 1:
        from ..lockstep import predict_together

        found = predict_together([members[i] for i in nets], [inputs[i] for i in nets])
        for i, output in zip(nets, found, strict=True):
            outputs[i] = output
    return outputs


def votes(labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.float64]:
    """Return labels as a column for each class, 1 for the label.

    Parameters
    ----------
    labels : array-like of shape (n_samples,)
    classes : ndarray of shape (n_classes,)

    Returns
    -------
    ndarray of shape (n_samples, n_classes)

    Examples
    --------
    >>> import numpy as np
    >>> from skhpo.ensembles import votes
    >>> votes(["yes", "no"], np.array(["no", "yes"])).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    return np.asarray(np.asarray(labels)[:, None] == classes, dtype=float)


def aligned(
    outputs: NDArray[Any], method: str, own: NDArray[Any], classes: NDArray[Any]
) -> NDArray[Any]:
    """Return outputs of a member with a column for each class of the ensemble, which has all.

    Raises ValueError if the member lacks a class and has decision values, which say nothing of
    that.
    """
    if method == "predict" and classes.ndim == 1:
        return votes(outputs, classes)
    if classes.ndim == 2 or len(own) == len(classes):
        return outputs
    if method == "decision_function":
        raise ValueError(
            "members with decision values must know all classes, because there is no value that "
            f"stands for an unknown one, but one knows {own.tolist()} of {classes.tolist()}; use "
            "splits that are stratified, or method='predict'"
        )
    wide = np.zeros((len(outputs), len(classes)), dtype=outputs.dtype)
    wide[:, np.searchsorted(classes, own)] = outputs
    return wide
