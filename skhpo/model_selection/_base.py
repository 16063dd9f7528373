"""The loop that all search classes share."""

from __future__ import annotations

import time
from abc import abstractmethod
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from os import PathLike

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state, get_tags, indexable

from .._compat import (
    BaseSearchCV,
    Interval,
    StrOptions,
    check_method_params,
    fit_context,
    num_samples,
)
from ..evaluation import (
    Evaluator,
    FitContexts,
    Setting,
    configured,
    derive_seed,
    refit,
    separate_files,
    slots_of,
    told,
)
from ..interrupts import noticing
from ..process import ignoring
from ..rows import as_given, with_rows
from ..samplers import EnqueuedSampler
from ..space import SearchSpace
from ._checks import (
    as_rows,
    check_classes,
    check_fit_arguments,
    check_listening,
    check_names,
    check_passed,
    check_resource,
)
from ._loop import TrialLoop
from ._model_space import distributions_for, warn_about_newcomers
from ._observers import Callbacks, SearchStart
from ._own import enqueued
from ._progress import Progress, report_answered
from ._resume import fingerprint, identity_of, open_journal, replayed, tell_earlier_scores
from ._scored import ScoredTrials
from ._top import Seen

__all__ = ["BaseTrialSearchCV"]


class BaseTrialSearchCV(ScoredTrials, BaseSearchCV):
    """Base of the search classes: ask a scheduler, evaluate, tell it, until it is done.

    A subclass stores its arguments, says in `_make_scheduler` which trials there are, and sets
    `resource` where the trials vary one. Everything that `GridSearchCV` does around its fits
    (scorers, metadata routing, callbacks, refit, delegation) is done here alike.
    """

    _parameter_constraints = {
        **{k: v for k, v in BaseSearchCV._parameter_constraints.items() if k != "pre_dispatch"},
        "param_distributions": [dict, list, StrOptions({"model"})],
        "random_state": ["random_state"],
        "n_repeats": [Interval(Integral, 1, 10_000, closed="both")],
        "journal": [str, PathLike, None],
        "max_time": [Interval(Real, 0, None, closed="neither"), None],
        "fit_timeout": [Interval(Real, 0, None, closed="neither"), None],
        "devices": [str, list, tuple],
        "lockstep": ["boolean", StrOptions({"auto"})],
        "asynchronous": ["boolean"],
        "enqueue": [list, tuple, StrOptions({"defaults"})],
        "warm_start_from": [str, PathLike, None],
        "callbacks": [list, tuple],
    }

    resource = None

    # Whether candidates are numbered as the scheduler's sampler proposes them.
    _samples_in_order = False

    @abstractmethod
    def __init__(
        self,
        estimator,
        param_distributions,
        *,
        scoring=None,
        n_jobs=None,
        refit=True,
        cv=None,
        verbose=0,
        random_state=None,
        error_score=np.nan,
        return_train_score=False,
        n_repeats=1,
        enqueue=(),
        journal=None,
        warm_start_from=None,
        max_time=None,
        fit_timeout=None,
        devices="auto",
        lockstep="auto",
        asynchronous=False,
        callbacks=(),
    ):
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.param_distributions = param_distributions
        self.random_state = random_state
        self.n_repeats = n_repeats
        self.enqueue = enqueue
        self.journal = journal
        self.warm_start_from = warm_start_from
        self.max_time = max_time
        self.fit_timeout = fit_timeout
        self.devices = devices
        self.lockstep = lockstep
        self.asynchronous = asynchronous
        self.callbacks = callbacks

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags = deepcopy(get_tags(self.estimator).target_tags)
        return tags

    @abstractmethod
    def _make_scheduler(self, space, random_state, y, splits):
        """Return the scheduler of this search.

        Parameters
        ----------
        space : SearchSpace
        random_state : int
        y : array-like or None
        splits : list of (ndarray, ndarray)
        """

    def _distributions(self, X, y):
        """Return the space of the search, as a dict or a list of dicts."""
        return distributions_for(self, X, y)

    def _fitted_by(self):
        """Return what is fitted on the splits: arguments of `Setting`."""
        return {"estimator": clone(self.estimator)}

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, **params):
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

        Raises
        ------
        ValueError
            Before any training for arguments that do not fit the estimator, the space or the
            data; and if all fits failed.
        """
        start = time.monotonic()
        until = None if self.max_time is None else start + self.max_time
        callbacks = Callbacks(self, self.callbacks)
        data = Seen.weakly(X=X, y=y, **params)
        scorer, metric = self._get_scorers()
        X, y = indexable(with_rows(X, y), y)
        params = check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        weight = params.get("sample_weight")
        seen = {
            "X": as_given(X),
            "y": y,
            "metadata": None if weight is None else {"sample_weight": weight},
        }

        distributions = self.param_distributions_ = self._distributions(X, y)
        space = SearchSpace(distributions)
        check_names(self.estimator, distributions)
        check_passed(params, self.resource, distributions)
        check_fit_arguments(self.estimator, X, y, routed.estimator.fit, distributions)
        if self.resource is not None:
            check_resource(self.estimator, self.resource, distributions)
        slots = slots_of(self.devices)
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        parts = cv.split(X, y, **routed.splitter.split)
        splits = [tuple(as_rows(part, num_samples(X)) for part in pair) for pair in parts]
        if not splits:
            raise ValueError(f"cv must yield at least one split, but {self.cv!r} yields none")
        check_classes(self.estimator, y, splits)
        self.n_splits_ = len(splits)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

        with ExitStack() as stack:
            journal, known, identity = None, {}, None
            if self.journal is not None or self.warm_start_from is not None or callbacks.want_start:
                identity = fingerprint(self, cv, X, y, params)
            if self.journal is not None:
                header = self._header(seed, identity)
                journal, seed, splits, known = open_journal(self.journal, header, splits)
                stack.enter_context(journal)
            scheduler = self._make_scheduler(space, derive_seed(seed, "scheduler"), y, splits)
            check_listening(scheduler)
            if self.warm_start_from is not None:
                tell_earlier_scores(
                    self.warm_start_from,
                    space,
                    scheduler.sampler,
                    identity,
                    metric=self.refit,
                    max_resource=scheduler.max_resource,
                )
            if first := enqueued(self):
                scheduler.sampler = EnqueuedSampler(
                    scheduler.sampler, first, derive_seed(seed, "enqueue")
                )
            if known and self._samples_in_order:
                scheduler.sampler = replayed(journal, space, scheduler.sampler)
            if callbacks.want_start:
                callbacks.on_search_begin(
                    SearchStart(
                        space=space,
                        metrics=self._known_metrics(scorer),
                        max_resource=scheduler.max_resource,
                        identity=identity_of(identity, seed),
                        known=known.keys(),
                    )
                )
            setting = Setting(
                **self._fitted_by(),
                scorer=scorer,
                seed=seed,
                fit_params=routed.estimator.fit,
                score_params=routed.scorer.score,
                resource=self.resource,
                max_resource=scheduler.max_resource,
                return_train_score=self.return_train_score,
                raise_errors=self.error_score == "raise",
                curves=callbacks.want_curves,
            )
            separate_files(clone(setting.estimator), setting.name)  # raises where it cannot
            context = self._init_callback_context(max_subtasks=1 + (self.refit is not False))
            context.call_on_fit_task_begin(estimator=self, **seen)
            of_search = self._search_context(context, scheduler.n_trials, known)
            evaluator = Evaluator(
                setting,
                X,
                y,
                splits,
                n_jobs=self.n_jobs,
                n_repeats=self.n_repeats,
                known=known,
                checkpoints=None if journal is None else journal.checkpoints,
                slots=slots,
                fit_timeout=self.fit_timeout,
                until=until,
                lockstep=self.lockstep,
                across=not self.asynchronous,
                contexts=FitContexts.of(self, of_search),
            )
            stack.enter_context(evaluator)
            if self.resource is not None:  # stopping early is what the search asks for
                stack.enter_context(ignoring(ConvergenceWarning))
            n_fits, score = self.n_splits_ * self.n_repeats, self._score_of(scorer)
            total = None if scheduler.n_trials is None else scheduler.n_trials * n_fits
            progress = Progress(total, n_fits, score, self.resource)
            loop = self._run(scheduler, evaluator, journal, score, start, progress)
            of_search.call_on_fit_task_end(estimator=self)
            self._store(loop, scorer, metric)
            if self.verbose > 0:
                progress.finish(self._best_and_level(), loop.stopped)
            if known:
                report_answered(loop, known, journal.path.name, printed=self.verbose > 0)
            if loop.error is not None:
                raise loop.error
            candidates = [trial.candidate for trial in loop.trials]
            self._seen = Seen(seed, candidates, scheduler.max_resource, data)
            self.__dict__.pop("_top", None)
            self._warn(loop)
            warn_about_newcomers(self, loop.trials, X, y)
            if self.refit:
                setting = replace(setting, estimator=clone(self.estimator), starts=None)
                self._refit(setting, X, y, loop.trials, context, seen)
        callbacks.on_search_end()
        context.call_on_fit_task_end(estimator=self, **seen)
        return self

    def _search_context(self, context, n_trials, known):
        """Begin the task whose parts are the fits, less those that the journal answers."""
        n_fits = None
        if n_trials is not None:
            n_fits = n_trials * self.n_splits_ * self.n_repeats
            n_fits -= sum(trial < n_trials for trial, _, _ in known)
        return context.subcontext(
            task_name="search", max_subtasks=n_fits, sequential_subtasks=False
        ).call_on_fit_task_begin(estimator=self)

    def _run(self, scheduler, evaluator, journal, score, start, progress):
        """Run the loop under everybody's eyes; return it."""
        observers = [Callbacks(self, self.callbacks)]
        if self.verbose > 0:
            observers.append(progress)
        if self.max_time is not None:
            observers += self._forecasts(scheduler, evaluator, start)
        loop = TrialLoop(
            scheduler,
            evaluator,
            progress.n_fits,
            score,
            asynchronous=self.asynchronous,
            journal=journal,
            deadline=evaluator.limits["until"],
            observers=observers,
        )
        loop.run()
        if not loop.trials:
            raise ValueError(
                f"no trial was finished{'' if loop.stopped is None else ': ' + loop.stopped}"
            )
        return loop

    def _forecasts(self, scheduler, evaluator, start):
        """Return observers that say what will be reached within `max_time`."""
        return []

    def _header(self, seed, fingerprint):
        """Return the first line of a journal."""
        return {
            "search": type(self).__name__,
            "seed": seed,
            "resource": self.resource,
            "n_repeats": self.n_repeats,
            "n_splits": self.n_splits_,
            "return_train_score": self.return_train_score,
            "asynchronous": self.asynchronous,
            "fingerprint": fingerprint,
        }

    def _refit(self, setting, X, y, trials, context, seen):
        candidate = trials[self.best_index_].candidate
        best = configured(setting, self.best_params_, split=-1, candidate=candidate)
        refit_context = context.subcontext(task_name="refit-with-best-params")
        training = partial(told, refit_context, {"estimator": self, **seen})
        start = time.perf_counter()
        with noticing():
            refit(best, setting, X, y, training)
        self.refit_time_ = time.perf_counter() - start
        self.best_estimator_ = best
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_
        refit_context.call_on_fit_task_end(estimator=self, **seen)
