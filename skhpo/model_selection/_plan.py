"""The plan of a search: all arguments are checked, and no file is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state

from .. import evaluation
from .._compat import check_method_params, num_samples
from ..rows import Inputs, as_given
from ..space import SearchSpace
from ._checks import (
    as_rows,
    check_fit_arguments,
    check_names,
    check_passed,
)
from ._classes import check_classes, check_metrics_take
from ._confirm import check_confirm, reshuffled
from ._cost import Budget, budget_of
from ._data import check_lengths, rows_and_targets
from ._early_stopping import check_early_stopping, check_masks, with_masks
from ._found_epochs import check_refit_epochs
from ._front_rules import FrontRule
from ._goals import Goals, check_rule, goals_of
from ._observers import Callbacks
from ._one_standard_error import OneStandardError
from ._out_of_fold import check_metric
from ._prediction_kind import prediction_kind
from ._resource import check_resource, resource_of
from ._resume import fingerprint
from ._samplers import enqueued
from ._shared import check_shared

if TYPE_CHECKING:
    from ..evaluation import Setting
    from ._base import BaseTrialSearchCV

__all__ = ["Plan", "Subject", "plan_search"]

Splits = Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]


@dataclass(frozen=True)
class Subject:
    """What a search fits on the splits, and over which space.

    Parameters
    ----------
    estimator : estimator
    distributions : dict or list of dict
    starts : object or None, default=None
        See `Setting`.
    first : sequence of dict, default=()
        Configurations to try after those of the user, and before all others.
    """

    estimator: Any
    distributions: Any
    starts: Any = None
    first: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Plan:
    """What one call of ``fit`` of a search is going to do.

    Parameters
    ----------
    X, y : array-like
        All data; rows of `X` are read where they are, if that is possible.
    shown : dict of str to object
        The data as callbacks of scikit-learn are shown them.
    metadata : frozenset of str
        Names of what ``fit`` got besides.
    splits : list of (ndarray, ndarray)
    distributions : dict or list of dict
    space : SearchSpace
        The same.
    first : sequence of dict
        Configurations to try first.
    setting : Setting
        What all fits share.
    metric : str or bool
        By which the best row is found.
    goals : Goals
        Objectives and constraints.
    budget : Budget or None
        What it may use.
    slots : callable
        See `slots_of`.
    resplit : callable
        From a seed to other splits, where `cv` can give some, else the same.
    callbacks : Callbacks
        Of the search.
    fingerprint : dict or None
        Of the search, where something needs one.
    """

    X: Any
    y: Any
    shown: dict[str, Any]
    metadata: frozenset[str]
    splits: Splits
    distributions: Any
    space: SearchSpace
    first: Sequence[Mapping[str, Any]]
    setting: Setting
    metric: Any
    goals: Goals
    budget: Budget | None
    slots: Callable[..., Any]
    resplit: Callable[[int], Splits]
    callbacks: Callbacks
    fingerprint: dict[str, Any] | None

    @property
    def random_state(self) -> int:
        """Seed of the scheduler and its sampler."""
        return evaluation.derive_seed(self.setting.seed, "scheduler")


def plan_search(search: BaseTrialSearchCV, X: Any, y: Any, params: dict[str, Any]) -> Plan:
    """Check all arguments of a search, and return its plan.

    Parameters
    ----------
    search : BaseTrialSearchCV
        It is not changed.
    X, y, params
        What ``fit`` was given.

    Raises
    ------
    TypeError, ValueError
        If anything does not fit the estimator, the space or the data.
    """
    callbacks = Callbacks(search, search.callbacks)
    if search.shared:
        check_shared(search)
    check_rule(search)
    scorer, metric = search._get_scorers()
    metrics = search._known_metrics(scorer)
    goals = goals_of(search, metrics)
    if isinstance(search.refit, FrontRule):
        search.refit.names(goals.objectives, metrics)
    X, y = rows_and_targets(search.estimator, X, y, search.verbose)
    check_lengths(X, params)
    if params:
        params = with_masks(check_method_params(X, params=params), num_samples(X))
    routed = search._get_routed_params_for_fit(params)
    subject = search._subject(X, y)
    distributions = subject.distributions
    space = SearchSpace(distributions, search.forbidden)
    check_names(search.estimator, distributions)
    resource = resource_of(search, distributions)
    named = None if search.resource == "auto" else resource  # "auto": if the scheduler needs one
    check_passed(params, named, distributions)
    check_fit_arguments(search.estimator, X, y, routed.estimator.fit, distributions)
    if named is not None:
        check_resource(search.estimator, named, distributions)
    if search.early_stopping_on == "fold":
        check_early_stopping(search, distributions, routed.estimator.fit)
    on_fold = search.early_stopping_on == "fold" and search.refit
    if search.refit_epochs in ("median", "scaled") or on_fold:
        check_refit_epochs(search, distributions, routed.estimator.fit)
    cv = check_cv(search.cv, y, classifier=is_classifier(search.estimator))
    if search.confirm:
        check_confirm(search, distributions, cv, scorer)
    slots = evaluation.slots_of(search.devices)
    splits = _splits(search.cv, cv, X, y, routed.splitter.split)

    def resplit(seed: int) -> Splits:
        other = reshuffled(cv, seed)
        if other is None:
            return splits
        return _splits(search.cv, other, X, y, routed.splitter.split)

    if isinstance(y, Inputs) or np.ndim(y) > 2:
        check_metrics_take(y, scorer)
    check_classes(search.estimator, y, splits, scorer, metric, search.error_score)
    if params:
        check_masks(routed.estimator.fit, splits)
    seed = int(check_random_state(search.random_state).randint(np.iinfo(np.int32).max))
    known_by = None
    if callbacks.want_start or (search.journal, search.warm_start_from) != (None, None):
        known_by = fingerprint(search, distributions, cv, X, y, params)
    predictions, kept = None, search.return_predictions or search._refits_ensemble
    if kept is not False:
        predictions = prediction_kind(search.estimator, distributions, y, splits, kept)
    given = frozenset(name for name, value in params.items() if value is not None)
    if search._refits_ensemble and predictions is not None:
        check_metric(search, scorer, predictions, y, given)
    setting = evaluation.Setting(
        estimator=clone(subject.estimator),
        scorer=scorer,
        seed=seed,
        fit_params=routed.estimator.fit,
        score_params=routed.scorer.score,
        resource=resource,
        return_train_score=search.return_train_score,
        # Racing decides first which fits count.
        raise_errors=search.error_score == "raise" and search.racing is None,
        keep_errors=search.error_score == "raise" and search.racing is not None,
        curves=callbacks.want_curves,
        starts=subject.starts,
        validates_on_fold=subject.starts is not None or search.early_stopping_on == "fold",
        noted=_noted(search.refit, distributions),
        measures=goals.measures,
        bounds=goals.bounds,
        predictions=predictions,
    )
    evaluation.own_files(clone(setting.estimator), setting.name)  # raises where it cannot
    weight = params.get("sample_weight")
    metadata = None if weight is None else {"sample_weight": weight}
    return Plan(
        X=X,
        y=y,
        shown={"X": as_given(X), "y": as_given(y), "metadata": metadata},
        metadata=given,
        splits=splits,
        distributions=distributions,
        space=space,
        first=[*enqueued(search, distributions, space), *subject.first],
        setting=setting,
        metric=metric,
        goals=goals,
        budget=None if search.max_cost is None else budget_of(search, resource, len(splits)),
        slots=slots,
        resplit=resplit,
        callbacks=callbacks,
        fingerprint=known_by,
    )


def _noted(refit: Any, distributions: Any) -> str | None:
    """Return the fitted attribute that a rule for ``refit`` goes by, None for none."""
    if not isinstance(refit, OneStandardError):
        return None
    spaces = [distributions] if isinstance(distributions, Mapping) else distributions
    return refit.noted_attribute({name for space in spaces for name in space})


def _splits(cv: Any, splitter: Any, X: Any, y: Any, params: Mapping[str, Any]) -> Splits:
    """Return the splits of a splitter that was made of `cv`, as row numbers."""
    n_samples = num_samples(X)
    try:
        parts = list(splitter.split(X, y, **params))
    except (TypeError, ValueError) as error:
        if not isinstance(y, Inputs):
            raise
        labels = (name for name, one in y.arrays.items() if np.asarray(one).dtype.kind in "biuOUS")
        name = next(labels, next(iter(y.arrays)))
        raise ValueError(
            f"cv must not look at targets that are a dict, but {cv!r} does; split by one of them, "
            f"as by cv=list(StratifiedKFold(5).split(rows, y[{name!r}])) with "
            "rows=numpy.zeros(n_samples)"
        ) from error
    splits = [(as_rows(train, n_samples), as_rows(test, n_samples)) for train, test in parts]
    if not splits:
        raise ValueError(f"cv must yield at least one split, but {cv!r} yields none")
    return splits
