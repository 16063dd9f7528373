"""The end of training: what fits are checked on, and the epochs of the refit."""

from __future__ import annotations

import inspect
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from ..rows import is_row_numbers, row_mask
from ..searchable import EndOfTraining, search_tags
from ..wrappers import arguments_inside, fitted_inside, inside, owner_of
from ._checks import Dicts

if TYPE_CHECKING:
    from ._plan import Subject

__all__ = [
    "VALIDATION_ARGUMENTS",
    "averaged",
    "check_early_stopping",
    "check_masks",
    "check_refit_epochs",
    "chosen_way",
    "found_in_row",
    "set_found_epochs",
    "warn_of_none_found",
    "with_found_epochs",
    "with_masks",
    "without_validation",
]

# Arguments of ``fit`` with rows to check on, under the names of this package and of scikit-learn.
VALIDATION_ARGUMENTS = ("validation_data", "X_val", "y_val")

_log = logging.getLogger(__name__)

# Parameters of which some values need rows that are held out.
_MAY_NEED_CHECKS = ("callbacks", "lr_scheduler")
# The refit has at most so many times the rows that the fits trained on, where epochs are counted:
# more than of two folds with a fifth of the rows held out (2.5). A network needs fewer epochs of
# more rows, so those that were found on a small sample would be far too many.
_MOST_TIMES_THE_ROWS = 3


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


def check_early_stopping(search: Any, dicts: Dicts, fit_params: Mapping[str, Any]) -> None:
    """Raise ValueError where fits cannot be checked on the fold; warn of the score where they can.

    Parameters
    ----------
    search : BaseTrialSearchCV
    dicts : sequence of dict
        Of its space.
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
    if not any(map(inner.may_be_moved_by, dicts)):
        owner, given = inner.estimator, arguments_inside(search.estimator, fit_params)
        if "validation_data" not in inspect.signature(owner.fit).parameters:
            raise ValueError(
                "early_stopping_on='fold' passes the fold to fit as validation_data, but "
                f"{type(owner).__name__}.fit has no such argument; use 'inner'"
            )
        passed = [name for name in VALIDATION_ARGUMENTS if given.get(name) is not None]
        own = {name: [value] for name, value in owner.get_params(deep=False).items()}
        for space in dicts:
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


def with_found_epochs(
    estimator: Any, fitted: Sequence[Any], epochs: str = "median", n_samples: int | None = None
) -> Any:
    """Return an estimator that trains on all rows for as long as others found to be best.

    It holds nothing out: `max_epochs` (`epochs` of Keras) is what was found, `validation_fraction`
    and `patience` are None, and a schedule of the learning rate has the length that it has in
    `estimator`. Searches do the same with their argument `refit_epochs`.

    Parameters
    ----------
    estimator : estimator
        A torch or Keras estimator of this package, alone or in a `Pipeline`,
        `TransformedTargetRegressor` or `FixedThresholdClassifier`. It is not changed.
    fitted : sequence of estimator
        The same, fitted on folds, and checked meanwhile: ``cross_validate(...,
        return_estimator=True)["estimator"]``.
    epochs : {"median", "scaled"}, default="median"
        The median of `best_epoch_`; or of the steps of the optimizer in as many epochs, so that
        more rows do not mean more steps.
    n_samples : int or None, default=None
        Rows on which it is going to be fitted; needed for "scaled".

    Returns
    -------
    estimator : estimator
        Unfitted.

    Raises
    ------
    ValueError
        If the estimator counts no epochs or needs rows that are held out, if no fit was checked,
        or if `n_samples` is missing.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_validate
    >>> from skhpo import TorchClassifier
    >>> from skhpo.model_selection import with_found_epochs
    >>> X, y = load_iris(return_X_y=True)
    >>> net = TorchClassifier(lr=0.1, validation_fraction=0.2, patience=5, random_state=0)
    >>> folds = cross_validate(net, X, y, return_estimator=True)["estimator"]
    >>> final = with_found_epochs(net, folds).fit(X, y)
    >>> final.n_iter_ == sorted(net.best_epoch_ for net in folds)[2]
    True
    """
    if epochs not in ("median", "scaled"):
        raise ValueError(f"epochs must be 'median' or 'scaled', but is {epochs!r}")
    if epochs == "scaled" and n_samples is None:
        raise ValueError("epochs='scaled' needs n_samples, the rows of the fit, but it is None")
    name = f"epochs={epochs!r}"
    _end_of(estimator, name).parameters(1)
    found = [_end_of(one, name).found() for one in map(fitted_inside, fitted)]
    if not any(found):
        raise ValueError(
            f"epochs={epochs!r} needs fits that were checked on rows held out, but none of "
            f"{len(found)} was; set validation_fraction (validation_split of Keras), or pass "
            "validation_data to fit"
        )
    estimator = clone(estimator)
    set_found_epochs(estimator, found, epochs, n_samples)
    return estimator


def set_found_epochs(
    estimator: Any, found: Sequence[Mapping[str, float]], epochs: str, n_samples: int | None
) -> int | None:
    """Set an unfitted estimator up for the epochs that were found; return how many.

    None, and nothing is set, where none were found. `found` has what `EndOfTraining.found` returns
    of each fit, NaN where it is unknown; the other parameters are those of `with_found_epochs`.
    """
    name = "best_step" if epochs == "scaled" else "best_epoch"
    values = np.array([one.get(name, math.nan) for one in found], dtype=float)
    if np.isnan(values).all():
        return None
    inner = inside(estimator)
    end = _end_of(estimator, f"epochs={epochs!r}")
    number = float(np.nanmedian(values))
    if epochs == "scaled" and n_samples is not None:
        number /= end.steps_per_epoch(n_samples)
    n_epochs = max(1, math.floor(number + 0.5))
    params = end.parameters(n_epochs)
    estimator.set_params(**{inner.prefix + name: value for name, value in params.items()})
    return n_epochs


def chosen_way(
    estimator: Any,
    found: Sequence[Mapping[str, float]],
    fit_params: Mapping[str, Any],
    n_samples: int,
    *,
    on_fold: bool,
) -> str:
    """Return what ``refit_epochs="auto"`` is for a configured estimator, "median" or "same".

    "median" where the fits were stopped on the fold, which the refit lacks, or on rows that they
    held out by themselves and nothing else needs; a line of the log has the reason for "same".
    The parameters are those of `set_found_epochs` and of ``fit``.
    """
    reason = None if on_fold else _why_same(estimator, found, fit_params, n_samples)
    if reason is None:
        _log.info("refit_epochs='auto' is 'median'")
        return "median"
    level = logging.INFO if _checked(found) else logging.DEBUG  # else it is what is expected
    _log.log(level, "refit_epochs='auto' is 'same': %s", reason)
    return "same"


def _why_same(
    estimator: Any,
    found: Sequence[Mapping[str, float]],
    fit_params: Mapping[str, Any],
    n_samples: int,
) -> str | None:
    owner = inside(estimator).estimator
    end = search_tags(owner).end_of_training
    if end is None:
        return f"a {type(owner).__name__} finds no epochs"
    given = arguments_inside(estimator, fit_params)
    passed = sorted(given.keys() & {*VALIDATION_ARGUMENTS, *_set_parameters(end)})
    if passed:
        return f"fit was passed {passed[0]}"
    reason = end.why_same()
    if reason is not None:
        return reason
    known = _checked(found)
    if not known:
        return "no fit is known to have been checked"
    steps = [one["best_step"] / one["best_epoch"] for one in known if "best_step" in one]
    if steps and end.steps_per_epoch(n_samples) > _MOST_TIMES_THE_ROWS * float(np.median(steps)):
        return "the fits had less than a third of the rows, so that their epochs were shorter"
    return None


def _set_parameters(end: EndOfTraining) -> set[str]:
    try:
        return {*end.parameters(1)}
    except ValueError:  # which `why_same` reports
        return set()


def _checked(found: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """Return what the fits found that were checked on rows held out."""
    return [one for one in found if not math.isnan(one.get("best_epoch", math.nan))]


def found_in_row(table: Mapping[str, Any], row: int) -> list[dict[str, float]]:
    """Return what the fits of a row of ``cv_results_`` found, by split."""
    found: list[dict[str, float]] = []
    while (key := f"split{len(found)}_best_epoch") in table:
        steps = table.get(f"split{len(found)}_best_step")
        one = {"best_epoch": float(table[key][row])}
        found.append(one if steps is None else {**one, "best_step": float(steps[row])})
    return found


def warn_of_none_found(refit_epochs: str, params: Mapping[str, Any]) -> None:
    """Warn that a row is refitted as it is."""
    warnings.warn(
        f"refit_epochs={refit_epochs!r} needs fits that were checked on rows held out, but none "
        f"with {params!r} was; it is refitted as it is",
        UserWarning,
        stacklevel=5,
    )


def without_validation(fit_params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``fit`` without rows to validate on."""
    return {
        k: v for k, v in fit_params.items() if k.rpartition("__")[2] not in VALIDATION_ARGUMENTS
    }


def check_refit_epochs(search: Any, dicts: Dicts, fit_params: Mapping[str, Any]) -> None:
    """Raise ValueError where the fits of a search find no epochs that its refit could use.

    Parameters
    ----------
    search : BaseTrialSearchCV
    dicts : sequence of dict
        Of its space.
    fit_params : dict
        Arguments of ``fit`` of the estimator.
    """
    refit_epochs, estimator = search.refit_epochs, search.estimator
    on_fold = search.early_stopping_on == "fold"
    inner = inside(estimator)
    for space in dicts:
        if inner.may_be_moved_by(space):
            continue  # by something that is only known when it is fitted
        end = _end_of(estimator, f"refit_epochs={refit_epochs!r}")
        own, given = inner.own(space), arguments_inside(estimator, fit_params)
        passed = sorted(end.parameters(1).keys() & given.keys())
        if passed:
            raise ValueError(
                f"refit_epochs={refit_epochs!r} sets {passed[0]!r} for the refit, but fit was "
                f"passed it; make it a parameter of {type(inner.estimator).__name__}"
            )
        shares = {"validation_fraction", "validation_split"} & own.keys()
        if not (end.finds or shares or on_fold or given.keys() & VALIDATION_ARGUMENTS):
            raise ValueError(
                f"refit_epochs={refit_epochs!r} needs fits that are checked on rows held out, but "
                f"{type(inner.estimator).__name__} holds none out; set its validation_fraction "
                "(validation_split of Keras), such as to 0.1, or pass validation_data"
            )
        for values in ({}, *_settings(own)):
            one = clone(inner.estimator).set_params(**values)
            _end_of(one, "").parameters(1)


def _settings(own: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return single parameters of a space whose values may need rows that are held out."""
    return [
        {name: value}
        for name in _MAY_NEED_CHECKS
        if isinstance(own.get(name), list | tuple)
        for value in own[name]
    ]


def _end_of(estimator: Any, setting: str) -> EndOfTraining:
    owner = inside(estimator).estimator
    end = search_tags(owner).end_of_training
    if end is None:
        raise ValueError(
            f"{setting} needs an estimator that counts epochs and can do without rows that are "
            "held out, a TorchClassifier, TorchRegressor, KerasClassifier or KerasRegressor, alone "
            f"or inside of pipelines, but got a {type(owner).__name__}; leave it out"
        )
    return end


def averaged(subject: Subject, average: str, resource: str | None) -> Subject:
    """Return what a search fits, with an average of weights where one can be set and none is.

    An estimator stays as it is if its epochs are not the resource, so that fits end as they do
    elsewhere, if its weights cannot be averaged, if it has an average of its own, or a schedule
    that makes one needless, or if the space has one of these or the estimator itself.
    """
    owner, prefix = owner_of(subject.estimator)
    tags = search_tags(owner)
    names = [prefix + parameter for parameter in tags.averages]
    own, given = subject.estimator.get_params(deep=True), subject.distributions
    dicts = given if isinstance(given, list | tuple) else [given]
    searched = {key for one in dicts if isinstance(one, Mapping) for key in one}
    is_set = any(own.get(name, average) is not None for name in names)
    # The steps of a pipeline are all that is inside of it.
    starts = [key[:-5] if key.rpartition("__")[2] == "steps" else f"{key}__" for key in searched]
    is_searched = any(f"{name}__".startswith(start) for name in names for start in starts)
    if not names or resource != prefix + tags.counted or is_set or is_searched:
        return subject
    fixed = {names[0]: average}
    return replace(subject, estimator=clone(subject.estimator).set_params(**fixed), fixed=fixed)
