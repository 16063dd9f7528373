"""Pipelines taken apart, so that transformers are fitted once for many candidates."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import process_routing

from .._compat import routing_enabled

__all__ = [
    "Transformed",
    "assemble",
    "final_step",
    "fit_params_of",
    "fit_transformers",
    "transformer_setting",
]


@dataclass(frozen=True)
class Transformed:
    """Transformers of a pipeline, fitted on the training part of one split.

    Parameters
    ----------
    steps : list of (str, transformer)
        All steps but the last.
    X : array-like of shape (n_train_samples, n_features_out)
        What ``fit_transform`` returned, which for some transformers (target encoders) is not
        what ``transform`` would return.
    """

    steps: list[tuple[str, Any]]
    X: Any


def final_step(estimator, resource=None):
    """Return the name of the last step if the pipeline can be taken apart there, else None.

    It cannot where the resource belongs to a transformer, whose fits then differ by level.
    """
    if not isinstance(estimator, Pipeline) or estimator.transform_input is not None:
        return None
    name, final = estimator.steps[-1]
    if resource not in (None, "n_samples") and not resource.startswith(name + "__"):
        return None
    return name if hasattr(final, "fit") else None


def transformer_setting(params, final):
    """Return the part of a configuration that touches the transformers, as a hashable key.

    Values without a natural equality are compared by identity: a search space hands out the
    same object for the same choice.
    """
    touching = (
        (name, value)
        for name, value in params.items()
        if name != final and not name.startswith(final + "__")
    )
    plain = (bool, int, float, str, type(None))
    return tuple(
        sorted(
            (name, type(value).__name__, repr(value) if isinstance(value, plain) else id(value))
            for name, value in touching
        )
    )


def fit_params_of(pipeline, fit_params):
    """Split the arguments of ``Pipeline.fit`` into those of the head and those of the last step."""
    final = pipeline.steps[-1][0]
    if routing_enabled():
        of_final = dict(process_routing(pipeline, "fit", **fit_params)[final]["fit"])
        if len(pipeline.steps) == 1:
            return {}, of_final
        routing = pipeline[:-1].get_metadata_routing()
        consumed = routing.consumes("fit_transform", fit_params.keys())
        return {name: fit_params[name] for name in consumed}, of_final
    prefix = final + "__"
    of_final = {k.removeprefix(prefix): v for k, v in fit_params.items() if k.startswith(prefix)}
    of_head = {k: v for k, v in fit_params.items() if not k.startswith(prefix)}
    return of_head, of_final


def fit_transformers(pipeline, X, y, fit_params):
    """Fit all steps but the last of an unfitted pipeline."""
    if len(pipeline.steps) == 1:
        return Transformed([], X)
    head = pipeline[:-1]
    Xt = head.fit_transform(X, y, **fit_params)
    return Transformed(list(head.steps), Xt)


def assemble(pipeline, transformed, fitted_final):
    """Return the fitted pipeline made of fitted transformers and a fitted last step."""
    fitted = copy.copy(pipeline)
    fitted.steps = [*transformed.steps, (pipeline.steps[-1][0], fitted_final)]
    return fitted
