"""The loop that all search classes share."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from copy import copy, deepcopy
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

from sklearn.utils import get_tags

from .. import scorers, space
from .._compat import BaseSearchCV, Interval, StrOptions, fit_context, print_inside
from ._ensembling import Ensembles
from ._scored import RefitInputs

if TYPE_CHECKING:
    from ..schedulers import Scheduler
    from ._observers import Observer
    from ._plan import Plan, Subject
    from ._running import Source

__all__ = ["PREDICTION_METHODS", "BaseTrialSearchCV"]

PREDICTION_METHODS = ("predict_proba", "decision_function", "predict")


class BaseTrialSearchCV(Ensembles):
    """Base of the search classes: ask a scheduler, evaluate, tell it, until it is done.

    A subclass stores its arguments, says in `_make_scheduler` which trials there are, and sets
    `resource` where the trials vary one. Everything that `GridSearchCV` does around its fits
    (scorers, metadata routing, callbacks, refit, delegation) is done here alike.

    Modules that only ``fit`` needs are imported when it is called.

    ``fit`` has four parts. *Plan* checks everything and changes nothing; *open* makes the scheduler
    and opens the journal; *run* is the loop, which may be cut short at any time; *finish* makes
    results of whatever was finished.
    """

    _parameter_constraints = {
        **{k: v for k, v in BaseSearchCV._parameter_constraints.items() if k != "pre_dispatch"},
        "scoring": [StrOptions(set(scorers.get_scorer_names())), callable, list, tuple, dict, None],
        "objectives": [list, tuple, None],
        "constraints": [dict, None],
        "param_distributions": [dict, list, StrOptions({"model"})],
        "forbidden": [callable, list, tuple, None],
        "random_state": ["random_state"],
        "n_repeats": [Interval(Integral, 1, 10_000, closed="both")],
        "journal": [str, PathLike, None],
        "shared": ["boolean"],
        "max_time": [Interval(Real, 0, None, closed="neither"), None],
        "max_cost": [dict, None],
        "fit_timeout": [Interval(Real, 0, None, closed="neither"), None],
        "devices": [str, list, tuple],
        "lockstep": ["boolean", StrOptions({"auto"})],
        "asynchronous": ["boolean"],
        "enqueue": [list, tuple, StrOptions({"defaults"})],
        "warm_start_from": [str, PathLike, None],
        "callbacks": [list, tuple],
        "racing": [StrOptions({"auto"}), None],
        "fold_schedule": [StrOptions({"auto"}), list, tuple, None],
        "confirm": [Interval(Integral, 0, None, closed="left")],
        "return_predictions": ["boolean", StrOptions(set(PREDICTION_METHODS))],
        "keep_models": [Interval(Integral, 0, None, closed="left")],
        "keep_from": [Interval(Integral, 1, None, closed="left"), None],
        "refit_epochs": [StrOptions({"auto", "same", "median", "scaled"})],
        "early_stopping_on": [StrOptions({"inner", "fold"})],
        "priors": [dict, StrOptions({"defaults"}), None],
        "prior_confidence": [StrOptions({"low", "medium", "high"})],
    }

    resource: str | None = None
    racing: str | None = None
    fold_schedule: str | Sequence[int] | None = None
    forbidden: Any = None

    # Whether candidates are numbered as the scheduler's sampler proposes them.
    _samples_in_order = False

    def _html_repr(self) -> str:
        """Show scikit-learn's diagram and, once fitted, what was found."""
        from ._notebook import summary_html

        return str(super()._html_repr()) + summary_html(self)

    def _get_params_html(self, *args: Any, **kwargs: Any) -> Any:
        params: Any = super()._get_params_html(*args, **kwargs)
        params.update({name: space.as_written(value) for name, value in params.items()})
        return params

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Show distributions as the user wrote them, which scipy does not."""
        return str(super(BaseTrialSearchCV, self._as_written()).__repr__(N_CHAR_MAX))

    def _as_written(self) -> Self:
        """Return a copy for printing, whose parameters have no addresses in their texts."""
        shown = copy(self)
        for name, value in self.get_params(deep=False).items():
            setattr(shown, name, space.as_written(value))
        return shown

    def _set_arguments(self, arguments: dict[str, Any]) -> None:
        """Store the arguments of ``__init__``, which are its ``locals()``."""
        for name, value in arguments.items():
            if name != "self":
                setattr(self, name, value)

    def _settings(self) -> dict[str, Any]:
        """Return the parameters, those left to the search being what it chose."""
        from ._plan import resource_of

        settings = dict(self.get_params(deep=False))
        if "resource" in settings:
            settings["resource"] = resource_of(self, self.param_distributions)
        return settings

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags = deepcopy(get_tags(self.estimator).target_tags)
        return tags

    def _get_scorers(self) -> Any:
        """Return scikit-learn's scorers; names of this package's scorers are replaced before."""
        if self.scoring is None:
            return super()._get_scorers()
        known = copy(self)
        known.scoring = scorers.resolved(self.scoring)
        return super(BaseTrialSearchCV, known)._get_scorers()

    @abstractmethod
    def _make_scheduler(self, plan: Plan) -> Scheduler:
        """Return a new scheduler for this search.

        Parameters
        ----------
        plan : Plan
            With `space`, `random_state`, `y`, `splits` and `first`, what is tried first.
        """

    def _subject(self, X: Any, y: Any) -> Subject:
        """Return what is fitted on the splits, and over which space, as a `Subject`."""
        from ._plan import Subject, model_distributions

        if self.param_distributions == "model":
            return Subject(self.estimator, model_distributions(self, X, y))
        return Subject(self.estimator, self.param_distributions)

    @property
    def _proposes_by_model(self) -> bool:
        """Whether candidates come from a model unless the search is told otherwise.

        So it is with several objectives, of whose front random candidates find less.
        """
        return self.objectives is not None and len(self.objectives) > 1

    def _keep(self, source: Source) -> None:
        """Set the attributes that are known before the first fit."""
        self.param_distributions_ = source.plan.distributions
        self._fixed = dict(source.plan.fixed)  # which loggers ask for
        if "resource" in self.get_params(deep=False):
            self.resource_ = source.plan.setting.resource
        self.n_splits_ = len(source.plan.splits)

    def _forecasts(self, source: Source, start: float) -> list[Observer]:
        """Return observers that forecast what `max_time` allows, or the duration of the search."""
        return []

    @fit_context(prefer_skip_nested_validation=False)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Search, then refit the best configuration on all data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Target.
        **params : dict of str to object
            Metadata for ``fit`` of the estimator, the scorer and the splitter, as in
            `GridSearchCV`: ``sample_weight``, ``groups``, ...

        Returns
        -------
        self : object
            The fitted search.

        Raises
        ------
        ValueError
            Before any training for arguments that do not fit the estimator, the space or the
            data; and if all fits failed.
        """
        from ._confirm import confirm
        from ._plan import plan_search
        from ._running import begin, finish, opened, run

        start = time.monotonic()
        given = RefitInputs.weak_references(X=X, y=y, **params)
        plan = plan_search(self, X, y, params)
        with opened(self, plan) as source:
            self._keep(source)
            begin(self, source)
            n_tasks = 1 + bool(self.confirm) + (self.refit is not False)
            context = self._init_callback_context(max_subtasks=n_tasks)
            context.call_on_fit_task_begin(estimator=self, **plan.shown)
            loop, progress = run(self, source, context, start)
            self._store(source.plan, loop)
            if self.confirm and loop.error is None:
                confirm(self, source, loop, context)
        finish(self, source.plan, loop, progress, context, given)
        if plan.callbacks is not None:
            plan.callbacks.on_search_end()
        context.call_on_fit_task_end(estimator=self, **plan.shown)
        return self


print_inside(BaseTrialSearchCV, BaseTrialSearchCV._as_written)
