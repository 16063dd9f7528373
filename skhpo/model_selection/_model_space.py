"""Spaces that the model of an estimator defines."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from sklearn.base import is_classifier

from ..define_by_run import shapes_of
from ..searchable import search_tags
from ..wrappers import inside, owner_of

if TYPE_CHECKING:
    from ..results import TrialTable

__all__ = ["model_distributions", "warn_about_newcomers"]


def model_distributions(search: Any, X: Any, y: Any) -> Any:
    """Return the space that a search gets from the builder of its estimator.

    Raises
    ------
    TypeError
        If the estimator, inside of its wrappers, has no builder that takes ``hp``.
    """
    owner, prefix = owner_of(search.estimator)
    model_space = search_tags(owner).model_space
    if model_space is None:
        raise TypeError(
            "param_distributions='model' needs a TorchClassifier, TorchRegressor, KerasClassifier "
            "or KerasRegressor, alone or inside of a pipeline, but the estimator is a "
            f"{type(owner).__name__}; give a dict instead"
        )
    space = model_space(_shapes(search, X, y, prefix))
    dicts = [space] if isinstance(space, dict) else space
    dicts = [{prefix + name: values for name, values in one.items()} for one in dicts]
    return dicts[0] if isinstance(space, dict) else dicts


def warn_about_newcomers(search: Any, table: TrialTable, X: Any, y: Any) -> None:
    """Say which parameters appeared in a trial only, and had their defaults there."""
    owner, prefix = owner_of(search.estimator)
    shapes = _shapes(search, X, y, prefix)
    new_parameters = search_tags(owner).new_parameters
    assert new_parameters is not None  # as there is a model_space
    new: dict[str, Any] = {}
    for params in {trial.candidate: trial.params for trial in table.trials()}.values():
        of_owner = {k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)}
        new.update(new_parameters(of_owner, shapes))
    if new:
        named = ", ".join(f"{prefix}{name}={default!r}" for name, default in sorted(new.items()))
        warnings.warn(
            f"the model asked for parameters in branches that were not found beforehand; there "
            f"they had their defaults: {named}. To search them, write them into a dict of "
            "param_distributions beside those of param_distributions_",
            UserWarning,
            stacklevel=5,
        )


def _shapes(search: Any, X: Any, y: Any, prefix: str) -> dict[str, Any]:
    found = inside(search.estimator)
    shapes = shapes_of(X, y, classifier=is_classifier(search.estimator))
    if found.prefix == prefix and not found.transforms_X:
        return shapes
    # Behind transformers the inputs may have any shape.
    return {name: width for name, width in shapes.items() if name == "out_features"}
