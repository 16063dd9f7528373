"""What the fits of a search are checked on: training rows, given rows, or the fold."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rows import is_row_numbers, row_mask
from ..space import translated
from ..wrappers import arguments_inside, inside

__all__ = ["VALIDATION_ARGUMENTS", "check_early_stopping", "check_masks", "with_masks"]

# Arguments of ``fit`` with rows to check on, under the names of this package and of scikit-learn.
VALIDATION_ARGUMENTS = ("validation_data", "X_val", "y_val")


def with_masks(params: Mapping[str, Any], n_samples: int) -> dict[str, Any]:
    """Return the arguments of ``fit``, with a mask in the place of numbers of rows to check on.

    Numbers would mean other rows in the training part of a split; a mask is divided like `X`.
    """
    return {
        name: row_mask(value, n_samples, name) if _is_rows(name, value) else value
        for name, value in params.items()
    }


def check_masks(
    fit_params: Mapping[str, Any], splits: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]
) -> None:
    """Raise ValueError where a split has no row to check on, or none to train on."""
    for name, value in fit_params.items():
        if not _is_rows(name, value):
            continue
        for number, (train, _) in enumerate(splits):
            chosen = np.asarray(value)[train]
            if not chosen.any() or chosen.all():
                raise ValueError(
                    f"{name} must name some training rows of every split and leave some, but of "
                    f"split {number} it names {'all' if chosen.any() else 'none'}; name other "
                    "rows, pass a pair (X, y), or use another cv"
                )


def _is_rows(name: str, value: Any) -> bool:
    return name.rpartition("__")[2] == "validation_data" and is_row_numbers(value)


def check_early_stopping(search: Any, distributions: Any, fit_params: Mapping[str, Any]) -> None:
    """Raise ValueError where fits cannot be checked on the fold; warn of the score where they can.

    Parameters
    ----------
    search : BaseTrialSearchCV
    distributions : dict or list of dict
        Its space.
    fit_params : dict
        Arguments of ``fit`` of the estimator.
    """
    if search.refit is not False and search.refit_epochs == "same":
        raise ValueError(
            "early_stopping_on='fold' leaves the refit no fold to stop on, so it needs "
            "refit_epochs='auto', 'median' or 'scaled', but refit_epochs='same'; set it, or "
            "refit=False"
        )
    inner = inside(search.estimator)
    spaces = translated(distributions)
    spaces = [spaces] if isinstance(spaces, Mapping) else spaces
    if not any(inner.may_be_moved_by(space) for space in spaces):
        owner, given = inner.estimator, arguments_inside(search.estimator, fit_params)
        if "validation_data" not in inspect.signature(owner.fit).parameters:
            raise ValueError(
                "early_stopping_on='fold' passes the fold to fit as validation_data, but "
                f"{type(owner).__name__}.fit has no such argument; use 'inner'"
            )
        passed = [name for name in VALIDATION_ARGUMENTS if given.get(name) is not None]
        own = {name: [value] for name, value in owner.get_params(deep=False).items()}
        for space in spaces:
            found = [
                f"{name}={value!r}"
                for name in ("validation_fraction", "train_split", "validation_split")
                for value in _values({**own, **inner.own(space)}.get(name, ()))
                if value
            ]
            if passed or found:
                what = passed[0] if passed else found[0]
                raise ValueError(
                    "rows to check on must come from one source, but got early_stopping_on='fold' "
                    f"and {what}; leave one of them out"
                )
    warnings.warn(
        "early_stopping_on='fold' ends each fit at the epoch that predicts best the rows by which "
        "it is scored: scores are optimistic, by as much as docs/end_of_training.md says; 'inner' "
        "is honest",
        UserWarning,
        stacklevel=6,
    )


def _values(values: Any) -> Any:
    return values if isinstance(values, list | tuple | np.ndarray) else [values]
