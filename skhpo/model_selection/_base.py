"""The loop that all search classes share."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from os import PathLike
from typing import Any, Self

from sklearn.base import clone
from sklearn.utils import get_tags

from .. import evaluation
from .._compat import (
    BaseSearchCV,
    Interval,
    StrOptions,
    fit_context,
    num_samples,
    print_inside,
    routing_enabled,
)
from ..journal import SharedJournal
from ..limits import noticing
from ..schedulers import Scheduler
from ..scorers import get_scorer_names, resolved
from ..space import as_written
from ._confirm import confirm
from ._found_epochs import without_validation
from ._keeping import Keeper
from ._loop import TrialLoop
from ._model_space import model_distributions, warn_about_newcomers
from ._notebook import summary_html
from ._observers import Observer, SearchStart
from ._plan import Plan, Subject, plan_search
from ._prediction_kind import METHODS
from ._progress import Progress, report_answered
from ._resource import resource_of
from ._resume import identity_of
from ._scored import ScoredTrials
from ._shared import SharedTrialLoop
from ._source import Source, opened
from ._top import RefitInputs, without_convergence_warnings

__all__ = ["BaseTrialSearchCV"]


class BaseTrialSearchCV(ScoredTrials):
    """Base of the search classes: ask a scheduler, evaluate, tell it, until it is done.

    A subclass stores its arguments, says in `_make_scheduler` which trials there are, and sets
    `resource` where the trials vary one. Everything that `GridSearchCV` does around its fits
    (scorers, metadata routing, callbacks, refit, delegation) is done here alike.

    ``fit`` has four parts. *Plan* checks everything and changes nothing; *open* makes the scheduler
    and opens the journal; *run* is the loop, which may be cut short at any time; *finish* makes
    results of whatever was finished.
    """

    _parameter_constraints = {
        **{k: v for k, v in BaseSearchCV._parameter_constraints.items() if k != "pre_dispatch"},
        "scoring": [StrOptions(set(get_scorer_names())), callable, list, tuple, dict, None],
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
        "return_predictions": ["boolean", StrOptions(set(METHODS))],
        "keep_models": [Interval(Integral, 0, None, closed="left")],
        "keep_from": [Interval(Integral, 1, None, closed="left"), None],
        "refit_epochs": [StrOptions({"auto", "same", "median", "scaled"})],
        "early_stopping_on": [StrOptions({"inner", "fold"})],
    }

    resource: str | None = None
    racing: str | None = None
    fold_schedule: str | Sequence[int] | None = None
    forbidden: Any = None

    # Whether candidates are numbered as the scheduler's sampler proposes them.
    _samples_in_order = False

    def _html_repr(self) -> str:
        """Show scikit-learn's diagram and, once fitted, what was found."""
        return str(super()._html_repr()) + summary_html(self)

    def _get_params_html(self, *args: Any, **kwargs: Any) -> Any:
        params: Any = super()._get_params_html(*args, **kwargs)
        params.update({name: as_written(value) for name, value in params.items()})
        return params

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Show distributions as the user wrote them, which scipy does not."""
        return str(super(BaseTrialSearchCV, self._as_written()).__repr__(N_CHAR_MAX))

    def _as_written(self) -> Self:
        """Return a copy for printing, whose parameters have no addresses in their texts."""
        shown = copy(self)
        for name, value in self.get_params(deep=False).items():
            setattr(shown, name, as_written(value))
        return shown

    def _set_arguments(self, arguments: dict[str, Any]) -> None:
        """Store the arguments of ``__init__``, which are its ``locals()``."""
        for name, value in arguments.items():
            if name != "self":
                setattr(self, name, value)

    def _settings(self) -> dict[str, Any]:
        """Return the parameters, those left to the search being what it chose."""
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
        known = copy(self)
        known.scoring = resolved(self.scoring)
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
        if self.param_distributions == "model":
            return Subject(self.estimator, model_distributions(self, X, y))
        return Subject(self.estimator, self.param_distributions)

    def _keep(self, source: Source) -> None:
        """Set the attributes that are known before the first fit."""
        self.param_distributions_ = source.plan.distributions
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
        start = time.monotonic()
        given = RefitInputs.weak_references(X=X, y=y, **params)
        plan = plan_search(self, X, y, params)
        with opened(self, plan) as source:
            self._keep(source)
            self._begin(source)
            n_tasks = 1 + bool(self.confirm) + (self.refit is not False)
            context = self._init_callback_context(max_subtasks=n_tasks)
            context.call_on_fit_task_begin(estimator=self, **plan.shown)
            loop, progress = self._run(source, context, start)
            self._store(source.plan, loop)
            if self.confirm and loop.error is None:
                confirm(self, source, loop, context)
        self._finish(source.plan, loop, progress, context, given)
        plan.callbacks.on_search_end()
        context.call_on_fit_task_end(estimator=self, **plan.shown)
        return self

    def _begin(self, source: Source) -> None:
        """Notify the callbacks of the start of the search."""
        plan = source.plan
        if plan.callbacks.want_start and plan.fingerprint is not None:
            plan.callbacks.on_search_begin(
                SearchStart(
                    space=plan.space,
                    metrics=self._known_metrics(plan.setting.scorer),
                    max_resource=source.scheduler.max_resource,
                    identity=identity_of(plan.fingerprint, plan.setting.seed),
                    known=source.recorded.results.keys(),
                )
            )

    def _run(self, source: Source, context: Any, start: float) -> tuple[TrialLoop, Progress | None]:
        """Ask, evaluate, tell until it is done; return the ended loop, and what printed of it."""
        plan, n_trials = source.plan, source.scheduler.n_trials
        n_fits = self.n_splits_ * self.n_repeats
        total = None if n_trials is None else n_trials * n_fits
        score = self._score_of(plan)
        progress = None
        observers: list[Observer] = [plan.callbacks]
        if self.verbose > 0:
            progress = Progress(total, n_fits, score, plan.setting.resource)
            observers.append(progress)
        observers += self._forecasts(source, start)
        new = None
        if total is not None and n_trials is not None:
            new = total - sum(trial < n_trials for trial, _, _ in source.recorded.results)
        fits = context.subcontext(task_name="search", max_subtasks=new, sequential_subtasks=False)
        fits.call_on_fit_task_begin(estimator=self)
        keeper = None
        if plan.setting.predictions is not None or self.keep_models:
            may_win = partial(self._may_win, max_resource=plan.setting.max_resource)
            keeper = Keeper(
                source,
                self.n_repeats,
                n_models=self.keep_models,
                least=self.keep_from,
                n_leaders=max(1, self.confirm),
                may_win=may_win,
            )
        until = None if self.max_time is None else start + self.max_time
        # A journal that cannot be written is read by each process for itself.
        journal, shares = source.journal, False
        new_evaluator: Any = evaluation.Evaluator
        if isinstance(journal, SharedJournal) and not journal.read_only:
            shares, new_evaluator = True, partial(evaluation.SharedEvaluator, journal=journal)
        evaluator = new_evaluator(
            plan.setting,
            plan.X,
            plan.y,
            plan.splits,
            n_jobs=self.n_jobs,
            n_repeats=self.n_repeats,
            known=source.recorded.results,
            checkpoints=None if source.journal is None else source.journal.checkpoints,
            model_files=None if keeper is None else keeper.model_files,
            slots=plan.slots,
            fit_timeout=self.fit_timeout,
            until=until,
            lockstep=self.lockstep,
            across=not self.asynchronous,
            contexts=evaluation.FitContexts.of(self, fits),
            folds=source.folds,
        )
        with evaluator, without_convergence_warnings(plan.setting.resource):
            loop = (SharedTrialLoop if shares else TrialLoop)(
                source.scheduler,
                evaluator,
                n_fits,
                score,
                asynchronous=self.asynchronous,
                journal=source.journal,
                recorded=source.recorded,
                deadline=until,
                observers=observers,
                keeper=keeper,
                budget=plan.budget,
                racing=self.racing is not None,
            )
            loop.run()
            if not len(loop.table):
                raise ValueError(
                    f"no trial was finished{'' if loop.stopped is None else ': ' + loop.stopped}"
                )
        fits.call_on_fit_task_end(estimator=self)
        return loop, progress

    def _finish(
        self,
        plan: Plan,
        loop: TrialLoop,
        progress: Progress | None,
        context: Any,
        given: dict[str, Any] | None,
    ) -> None:
        """Issue the warnings of the search, and refit."""
        if progress is not None:
            progress.finish(self._best_and_level(), loop.stopped)
        if loop.evaluator.known:
            report_answered(loop, printed=self.verbose > 0)
        if loop.error is not None:
            raise loop.error
        setting = plan.setting
        candidates = loop.table.candidates()
        self._refit_inputs = RefitInputs(
            setting.seed, candidates, setting.max_resource, given, plan.metadata, routing_enabled()
        )
        self.__dict__.pop("_top", None)
        self._warn(loop)
        if self.param_distributions == "model":
            warn_about_newcomers(self, loop.table, plan.X, plan.y)
        if self.refit:
            self._refit(plan, context)

    def _refit(self, plan: Plan, context: Any) -> None:
        if self._refits_ensemble:
            self._refit_ensemble(plan, context)
            return
        setting = replace(plan.setting, estimator=clone(self.estimator), starts=None)
        best, n_epochs = self._for_refit(setting, self.best_index_, num_samples(plan.X))
        if n_epochs is not None:
            setting = replace(setting, fit_params=without_validation(setting.fit_params))
        refit_context = context.subcontext(task_name="refit-with-best-params")
        training = partial(evaluation.told, refit_context, {"estimator": self, **plan.shown})
        start = time.perf_counter()
        with noticing(), without_convergence_warnings(setting.resource):
            evaluation.refit(best, setting, plan.X, plan.y, training)
        self.refit_time_ = time.perf_counter() - start
        self.best_estimator_ = best
        if n_epochs is not None:
            self.refit_epochs_ = n_epochs
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_
        refit_context.call_on_fit_task_end(estimator=self, **plan.shown)

    def _refit_ensemble(self, plan: Plan, context: Any) -> None:
        refit_context = context.subcontext(task_name="refit-ensemble")
        refit_context.call_on_fit_task_begin(estimator=self, **plan.shown)
        start = time.perf_counter()
        with noticing():
            best = self._refitted_ensemble(plan)
        self.refit_time_ = time.perf_counter() - start
        self.best_estimator_ = best
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_
        refit_context.call_on_fit_task_end(estimator=self, **plan.shown)


print_inside(BaseTrialSearchCV, BaseTrialSearchCV._as_written)
