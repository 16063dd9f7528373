"""The plan of a search: all is checked, its resource and the space of a model found; no file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state

from .. import evaluation, fingerprint
from .._compat import check_method_params, num_samples
from ..define_by_run import shapes_of
from ..rows import Inputs, as_given
from ..searchable import search_tags
from ..space import SearchSpace
from ..wrappers import inside, owner_of
from ._checks import (
    Dicts,
    as_rows,
    check_classes,
    check_fit_arguments,
    check_lengths,
    check_metrics_take,
    check_name,
    check_names,
    check_passed,
    enqueued,
    has_classes,
    rows_and_targets,
)
from ._confirm import check_confirm, reshuffled
from ._cost import Budget, budget_of
from ._end_of_training import check_early_stopping, check_masks, check_refit_epochs, with_masks
from ._goals import Goals, check_rule, goals_of
from ._keeping import prediction_kind
from ._observers import Callbacks
from ._out_of_fold import check_metric
from ._refit_rules import FrontRule, OneStandardError
from ._shared import check_shared

if TYPE_CHECKING:
    from ..evaluation import Setting
    from ..results import TrialTable
    from ._base import BaseTrialSearchCV

__all__ = [
    "Plan",
    "Subject",
    "check_resource",
    "model_distributions",
    "plan_search",
    "resource_limits",
    "resource_of",
    "warn_about_newcomers",
]

Splits = Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]

# What "auto" is as the largest amount of any resource but rows.
_MOST = 81


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
    fixed : mapping of str to object, default={}
        Parameters of `estimator` that the search set; rows have them in their ``params``.
    """

    estimator: Any
    distributions: Any
    starts: Any = None
    first: Sequence[Mapping[str, Any]] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)


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
    fixed : mapping of str to object
        Parameters that all candidates have beside those of the space.
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
    callbacks : Callbacks or None
        Of the search, where it has some.
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
    fixed: Mapping[str, Any]
    setting: Setting
    metric: Any
    goals: Goals
    budget: Budget | None
    slots: Callable[..., Any]
    resplit: Callable[[int], Splits]
    callbacks: Callbacks | None
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
    if isinstance(search.estimator, type):
        name = search.estimator.__name__
        raise TypeError(f"estimator must be an instance, but is the class {name}; give {name}()")
    callbacks = Callbacks(search, search.callbacks) if search.callbacks else None
    if search.shared:
        check_shared(search)
    if search.objectives:
        check_rule(search)
    scorer, metric = search._get_scorers()
    metrics = search._known_metrics(scorer)
    goals = Goals(are_checked=metrics is not None)
    if search.objectives is not None or search.constraints:
        goals = goals_of(search, metrics)
    if isinstance(search.refit, FrontRule):
        search.refit.names(goals.objectives, metrics)
    X, y = rows_and_targets(search.estimator, X, y, search.verbose)
    if params:
        check_lengths(X, params)
        params = with_masks(check_method_params(X, params=params), num_samples(X))
    routed = search._get_routed_params_for_fit(params)
    subject = search._subject(X, y)
    distributions = subject.distributions
    space = SearchSpace(distributions, search.forbidden)
    check_names(search.estimator, space.dicts)
    resource = resource_of(search, distributions)
    named = None if search.resource == "auto" else resource  # "auto": if the scheduler needs one
    if params:
        check_passed(params, named, space.dicts)
    check_fit_arguments(search.estimator, X, y, routed.estimator.fit, space.dicts)
    if named is not None:
        check_resource(search.estimator, named, space.dicts)
    if search.early_stopping_on == "fold":
        check_early_stopping(search, space.dicts, routed.estimator.fit)
    on_fold = search.early_stopping_on == "fold" and search.refit
    if search.refit_epochs in ("median", "scaled") or on_fold:
        check_refit_epochs(search, space.dicts, routed.estimator.fit)
    cv = check_cv(search.cv, y, classifier=is_classifier(search.estimator))
    if search.confirm:
        check_confirm(search, space.dicts, cv, scorer)
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
    watched = callbacks is not None and callbacks.want_start
    if watched or (search.journal, search.warm_start_from) != (None, None):
        data = {"X": X, "y": y, **params}
        settings = search._settings()
        fitted = subject.estimator if subject.fixed else search.estimator
        known_by = fingerprint.of_search(settings, fitted, distributions, cv, data)
    predictions, kept = None, search.return_predictions or search._refits_ensemble
    if kept is not False:
        predictions = prediction_kind(search.estimator, space.dicts, y, splits, kept)
    given = frozenset(name for name, value in params.items() if value is not None)
    if search._refits_ensemble and predictions is not None:
        check_metric(search, scorer, predictions, y, given)
    noted = None
    if isinstance(search.refit, OneStandardError):
        noted = search.refit.noted_attribute(space.names)
    constrained: dict[str, Any] = {}
    if goals.constraints:
        constrained = {"measures": goals.measures, "bounds": goals.bounds}
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
        curves=callbacks is not None and callbacks.want_curves,
        starts=subject.starts,
        validates_on_fold=subject.starts is not None or search.early_stopping_on == "fold",
        noted=noted,
        predictions=predictions,
        **constrained,
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
        first=[*enqueued(search, subject.estimator, space, resource), *subject.first],
        fixed=subject.fixed,
        setting=setting,
        metric=metric,
        goals=goals,
        budget=None if search.max_cost is None else budget_of(search, resource, len(splits)),
        slots=slots,
        resplit=resplit,
        callbacks=callbacks,
        fingerprint=known_by,
    )


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


def resource_of(search: Any, param_distributions: Any) -> str | None:
    """Return the name of a search's resource, None where all fits are full ones.

    There is one rule for ``resource="auto"``, the default of each search that has the argument: the
    parameter that counts the epochs of the network, also inside of a pipeline (`max_epochs` of a
    torch estimator, `epochs` of a Keras one), unless the space or `stage_params` set it. Other
    estimators have no resource until one is named.

    Parameters
    ----------
    search : BaseTrialSearchCV
    param_distributions : dict, list of dict or "model"
        Its space; "model" varies only what a builder asks for.
    """
    if search.resource != "auto":
        name: str | None = search.resource
        return name
    owner, prefix = owner_of(search.estimator)
    counted = search_tags(owner).counted
    given = param_distributions
    dicts = [] if isinstance(given, str) else [given] if isinstance(given, Mapping) else given
    varied = [*dicts, getattr(search, "stage_params", None) or {}]
    if not hasattr(owner, "get_params") or counted not in owner.get_params(deep=False):
        return None
    return None if any(prefix + counted in space for space in varied) else prefix + counted


def check_resource(estimator: Any, resource: str, dicts: Dicts) -> None:
    """Raise ValueError unless the estimator has the resource and the space does not."""
    for space in dicts:
        if resource in space:
            raise ValueError(
                f"the resource must not be in the space, because the search sets it, but "
                f"resource={resource!r} is in param_distributions; remove it there"
            )
        if resource != "n_samples":
            check_name(estimator, resource, space, "the resource, unless it is 'n_samples',")
    owner, prefix = owner_of(estimator)
    search_tags(owner).check_resource(resource.removeprefix(prefix))


def resource_limits(search: Any, plan: Plan) -> tuple[int, int]:
    """Return the smallest and the largest resource of a search as numbers.

    Parameters
    ----------
    search : estimator
        Has `min_resources` and `max_resources`, numbers or "auto".
    plan : Plan
        With the resource.

    Returns
    -------
    min_resources, max_resources : int
        "auto" being a 27th of the largest and 81; where the resource is ``"n_samples"`` twice the
        number of classes (or 2), and the smallest training part.

    Raises
    ------
    ValueError
        Unless subsamples of these sizes exist and hold every class.
    """
    limits = search.min_resources, search.max_resources
    if plan.setting.resource == "n_samples":
        return _subsample_sizes(search.estimator, plan.y, plan.splits, *limits)
    least, most = limits
    most = _MOST if most == "auto" else most
    # A fit of its own costs what ten epochs of a small network do, and first epochs hardly rank:
    # shorter rungs save little and lose the better ones (docs/benchmarks/anytime.md).
    return max(1, most // 27) if least == "auto" else least, most


def _subsample_sizes(
    estimator: Any,
    y: Any,
    splits: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
    min_resources: Any,
    max_resources: Any,
) -> tuple[int, int]:
    largest = min(len(train) for train, _ in splits)
    n_classes = len(np.unique(y)) if has_classes(estimator, y) else 1
    min_resources = 2 * n_classes if min_resources == "auto" else min_resources
    max_resources = largest if max_resources == "auto" else max_resources
    if max_resources > largest:
        raise ValueError(
            f"max_resources <= rows of the smallest training part must hold where the resource "
            f"is 'n_samples', but got max_resources={max_resources} and {largest} rows; "
            f"lower it, or use max_resources='auto'"
        )
    if min_resources < n_classes:
        raise ValueError(
            f"min_resources >= number of classes must hold where the resource is "
            f"'n_samples', so that no class is lost, but got min_resources={min_resources} "
            f"and {n_classes} classes; use min_resources='auto'"
        )
    return min_resources, max_resources


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
