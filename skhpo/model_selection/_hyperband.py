"""Hyperband as a search class."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import samplers, schedulers
from .._compat import Interval, StrOptions
from ._base import BaseTrialSearchCV

if TYPE_CHECKING:
    from ._loop import TrialLoop
    from ._observers import Observer
    from ._plan import Plan, Subject
    from ._running import Source

__all__ = ["HalvingHyperbandSearchCV"]

# Of priors, where the Gaussian process proposes: as for 50 candidates, the default of
# `BayesSearchCV`, because how many there are is not known before.
_WEIGHT = 5.0


class HalvingHyperbandSearchCV(BaseTrialSearchCV):
    """Search with Hyperband [1]_: many candidates briefly, the promising ones longer.

    Brackets of successive halving that differ in how hard they select: the most aggressive
    starts the most candidates at `min_resources`, the last gives a few the whole
    `max_resources` at once. Within a bracket the best ``1 / factor`` of a rung go on with `factor`
    times the resource. A candidate that goes on is *continued* from where it stopped.
    Brackets run in that order, each to its end, iterations one after another; workers that would
    be idle start later brackets. So there is a candidate with the whole resource early, whatever
    stops the search.

    Parameters
    ----------
    estimator : estimator
        As in `RandomizedSearchCV`.
    param_distributions : dict, list of dicts or "model"
        Lists are choices; frozen `scipy.stats` distributions and `log_randint` are sampled. A
        list of dicts is a conditional space. The resource must not be in it.
        "model" is what the builder of a torch or Keras estimator asks ``hp`` for, see
        `distributions_of`; `param_distributions_` then is the space.
    resource : str, default="auto"
        Parameter of the estimator that counts work, also through a pipeline
        (``"net__max_epochs"``), or ``"n_samples"`` for growing (stratified, nested) subsamples of
        the training rows. "auto" is the one that counts the epochs of a network, wherever it is
        in the estimator. Which fits are continued and which repeated, see Notes.
    min_resources : int or "auto", default="auto"
        Resource of the first rung of the most aggressive bracket. ``"auto"`` is a 27th of
        `max_resources`, at least 1; for ``"n_samples"`` twice the number of classes.
    max_resources : int or "auto", default="auto"
        Resource of every bracket's last rung. ``"auto"`` is 81; for ``"n_samples"`` all rows of
        the smallest training part.
    factor : float, default=3
        A rung keeps the best ``1 / factor`` and gives them `factor` times the resource.
    n_brackets : int or "all", default="all"
        Only the most aggressive ones, or all of them. 1 is successive halving.
    n_iterations : int or "auto", default=1
        How often the whole is repeated, with new candidates. "auto" is as often as `max_time`,
        or `max_cost`, allows: the search goes on until that is over, without a warning unless
        it had finished one candidate only.
    sampler : {"auto", "random", "bayes"}, str, Sampler or callable, default="auto"
        Where new candidates come from: drawn at random, or from a Gaussian process of all scores
        so far, as in BOHB [3]_, or from what `skhpo.samplers.register` gave another name. "auto" is
        "bayes" with several objectives, of whose front random candidates find less, else "random".
        A callable is called as ``sampler(space, random_state)`` with a `SearchSpace` and an
        integer, and returns a `skhpo.samplers.Sampler`, such as the class of one; an instance is
        copied.
        With a sampler that learns, a bracket starts only when the one before it has ended, so that
        it learns from all of it; that pays from the second bracket on, and most with several
        iterations.
    average : "ema" or None, default="ema"
        Set for a torch estimator of this package whose epochs are the resource, unless it or the
        space has an `average` or an `lr_scheduler`; it is in `best_params_`, as the resource is.
        Rungs end in the middle of training, where the last weights depend much on the last steps,
        unless the learning rate falls; their average is what smaller rates at the end would give
        [5]_. None leaves the estimator as it is. What it gains: docs/benchmarks/race.md.
    scoring : str, callable, list, tuple or dict, default=None
        As in `GridSearchCV`. With several metrics candidates are promoted by the one that
        `refit` names, else by the first.
    objectives : sequence of str or None, default=None
        Names of metrics of `scoring`; larger is better. The search then looks for the front, the
        candidates that no other one beats in all objectives: `pareto_front_`. Candidates are
        promoted front by front, and within a front those that are far apart.
        None is one objective. See docs/objectives.md.
    constraints : dict or None, default=None
        Bounds ``(low, high)``, None being no bound, of a metric, of ``"n_parameters"``, of another
        attribute of the fitted estimator, or of what a function of it returns (its means over
        splits and repeats). Networks that would have too many parameters are not fitted. Candidates
        that break one are the last to be promoted or refitted.
    n_jobs : int or None, default=None
        Fits at the same time. None means 1 unless in a ``joblib.parallel_config``.
    refit : bool, str or callable, default=True
        As in `GridSearchCV`; the refit is a plain ``fit`` with `best_params_` on all data.
        "ensemble" makes what `ensemble` returns the best estimator, and keeps predictions for it;
        `best_params_` and `best_score_` stay those of the best row.
    refit_epochs : {"auto", "same", "median", "scaled"}, default="auto"
        Epochs of the refit where fits are checked on rows held out. "same" holds rows out again,
        as `GridSearchCV` does; "median" trains on *all* rows for the median over the splits of the
        best epoch, "scaled" for as many steps of the optimizer, so that more rows do not mean more
        steps. "auto" is "median" where the estimator itself holds rows out and predicts with what
        is best on them (`validation_fraction`), or fits are stopped on the fold, and else "same";
        see docs/end_of_training.md.
    early_stopping_on : {"inner", "fold"}, default="inner"
        What fits are checked on while they train: what the estimator says, such as a
        `validation_fraction` of their training rows; or the test part of the split, which leaves
        them more rows and makes scores optimistic (there is a warning).
    cv : int, splitter or iterable, default=None
        As in `GridSearchCV`. It is split once, and all fits use those splits.
    verbose : int, default=0
        Larger than 0: a line on stderr with fits done, the best score and the time left.
    random_state : int, RandomState or None, default=None
        Seeds the sampling, and every ``random_state`` of the estimator that is None: the fit of
        a candidate on a split has a seed of its own, derived from this one, so that results do
        not depend on `n_jobs`.
    error_score : "raise" or float, default=nan
        Score of a fit that failed, or whose scorer did. A candidate that scores NaN is never
        promoted.
    return_train_score : bool, default=False
        Whether `cv_results_` has scores on the training part of each split, too.
    n_repeats : int, default=1
        Fits per candidate and split, under different seeds; the score is their mean.
    fold_schedule : "auto", sequence of int or None, default=None
        On how many of the splits, the first ones, candidates are fitted at each level of the
        resource, from the smallest level on: ``(1, 2, 3, 5)``. The last number is that of all
        splits; "auto" grows geometrically to it. None fits all candidates on all splits. A
        candidate that goes on is trained from the start on splits that it has not been fitted on.
        Only rows on all splits can be the best, which are those with `max_resources` where fewer
        epochs have fewer splits; see docs/racing.md.
    priors : dict, "defaults" or None, default=None
        What is believed to be good: by parameter a value, as in ``{"lr": 1e-3}``, around which
        good ones are, or a frozen distribution over numbers, as in ``{"dropout": norm(0.2, 0.1)}``.
        "defaults" are the estimator's own parameters. The likeliest candidate comes first, after
        what is enqueued; the others are drawn from them, from the space, and around the best one,
        in shares that depend on the rung and on how well they explain the best scores (PriorBand
        [4]_); with ``sampler="bayes"`` as in `BayesSearchCV`.
    prior_confidence : {"low", "medium", "high"}, default="medium"
        How near to a single value good ones are believed to be: within half, a quarter or an
        eighth of the range on the scale of its distribution.
    forbidden : callable, list of dict or None, default=None
        What is never tried: a function of a dict of parameters that returns True for it, or dicts
        with values that must not occur together: ``[{"solver": "lbfgs", "penalty": "l1"}]``.
    enqueue : "defaults" or sequence of dict, default="defaults"
        Configurations to try first. "defaults" are the estimator's own parameters, a number outside
        its range being the nearest end of it: they start before all others, with the whole
        resource, as one of the candidates of the last bracket (where `n_brackets` leaves that out,
        in the first rung). Nothing where one is not in the space (None, or a choice that is not
        listed: a line at level INFO of the logger ``skhpo`` says so) or `warm_start_from` is given.
        Dicts start in the first bracket; parameters that one leaves out are sampled, and the
        resource is left out, so that ``[other.best_params_]`` of another search will do.
    journal : str, path-like or None, default=None
        File to which every finished fit is appended. `fit` with the same journal continues an
        interrupted search. Checkpoints are kept in the folder ``<journal>.files``.
        ``{data}`` in it stands for a hash of the data, so that each fold of an outer
        cross-validation has a journal of its own.
    shared : bool, default=False
        Whether other processes work on the same search: the same program, started any number of
        times on machines with one disk, with one `journal`. See docs/journal.md.
    warm_start_from : str, path-like or None, default=None
        Journal of an earlier search over the same space, from whose scores a sampler that learns
        starts.
    max_time : float or None, default=None
        Seconds after which fits that run are given up and none starts; what is done is kept, and
        the best refitted: the refit takes further time.
    max_cost : dict or None, default=None
        What the search may use: ``{"seconds": 3600}`` of all workers, after which no fit starts,
        or ``{"epochs": 5000}``, units of the resource over all fits: no trial starts that would
        exceed them, whatever `n_jobs`. Fits in the journal count, too.
    fit_timeout : float or None, default=None
        Seconds after which a fit, with its scores, counts as failed; docs/limits.md says what
        cannot be interrupted.
    devices : "auto", str or list of str, default="auto"
        Where fits run whose estimator leaves it open (``device="auto"``). "auto" spreads them over
        the visible CUDA devices; a list has one slot for each time that a device is named, and a
        running fit holds one slot. For workers on this machine; others resolve "auto" themselves.
    lockstep : {"auto"} or bool, default="auto"
        Train networks of one architecture, folds and candidates, in lockstep, as one: the same
        results, up to rounding, in less time. "auto" does so where it is faster, False never, True
        always, with an error where it is impossible.
    asynchronous : bool, default=False
        Start the next fit as soon as one ends, promoting the best of what is known by then [2]_.
        The work is the same, rung by rung; who is promoted depends on timing.
    callbacks : sequence of object, default=()
        Objects whose methods ``on_search_begin(search, start)``,
        ``on_fit_end(search, trial, result)``, ``on_trial_end(search, trial, results, score)`` and
        ``on_search_end(search)`` are called, in this process, if they have them.
        `TensorBoardLogger` is one.
    confirm : int, default=0
        Fit so many of the best candidates once more when the search is over, under other seeds, and
        on other splits where `cv` shuffles, and choose the best of these by all of its scores.
    return_predictions : bool or {"predict_proba", "decision_function", "predict"}, default=False
        Keep what each fit predicts for the test part of its split, for `out_of_fold_predictions`;
        see `SearchCV` and docs/predictions.md.
    keep_models : int, default=0
        Rows, the best ones, whose fitted estimators are kept, for `kept_models`: networks as
        checkpoints, beside the journal or in temporary files; others in memory, as pickles.
    keep_from : int or None, default=None
        Resource from which on rows are kept; None means the largest of the search.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray
        As of `GridSearchCV`, one row per candidate and rung; plus ``bracket``, ``iter`` (the
        rung), ``n_resources`` and ``candidate``. ``params`` contains the resource, except
        ``"n_samples"``, and `average` where the search sets it. With `fold_schedule`
        ``n_splits_done``, the number of splits that a row was fitted on; its means are over those.
        ``mean_fit_time`` counts what the rung added, in seconds, without transformers that other
        candidates share.
    best_index_ : int
        The row with the best score, whatever its resource (fewer epochs may be better); the refit
        has the resource of this row. For ``"n_samples"`` the best row of the largest subsamples.
    param_distributions_ : dict or list of dict
        The space: `param_distributions`, or what a builder asked for.
    sampler_ : Sampler
        What the candidates came from; of ``"bayes"`` the fitted model.
    pareto_front_ : ndarray of int
        Where `objectives` are given: rows that no other row beats in all objectives, in the order
        of the first. ``cv_results_["pareto_rank"]`` has the number of the front of each row; with
        `constraints` there are ``feasible``, ``violation`` (by how much bounds are exceeded,
        relative to them, summed) and ``constraint_<name>``.
    hypervolume_, reference_point_ : float, ndarray of shape (n_objectives,)
        Where `objectives` are given: the volume between the front and the worst value of each
        objective among all feasible rows.
    models_ : KeptModels
        Where `keep_models` is set: which rows' estimators are kept.
    predictions_ : KeptPredictions
        Where `return_predictions` is set: the kept predictions, by fit and by row.
    refit_epochs_ : int
        Where `refit_epochs` is not, or does not mean, "same": the epochs that `best_estimator_`
        was trained for.
    resource_ : str
        The name of the resource: `resource`, or what "auto" found.
    timing_ : dict of str to ndarray of shape (n_rows, n_splits, n_repeats)
        Of each fit ``"start"`` (seconds since 1970), ``"worker"``, ``"fit_time"`` and
        ``"score_time"`` (seconds), and ``"skipped"``: whether it was not made, because the
        configuration was known to break a constraint.
    stop_reason_ : str or None
        Why the search was cut short; None where it was not.
    best_estimator_, best_score_, best_params_, scorer_, n_splits_, refit_time_, multimetric_, \
classes_, n_features_in_, feature_names_in_
        As of `GridSearchCV`.

    Raises
    ------
    ValueError
        Before any training: a name in the space or a resource that the estimator lacks, an
        empty space, the resource in the space, ``min_resources > max_resources``,
        ``factor <= 1``, more brackets than there are, a `fold_schedule` that does not fit.

    See Also
    --------
    BayesSearchCV : For estimators without a resource.
    SearchCV : The same loop under any scheduler.
    sklearn.model_selection.HalvingRandomSearchCV :
        One bracket, whose survivors are trained again from the start.

    Notes
    -----
    Continued, so that the epochs trained are the sum over rungs of
    ``n_i * (r_i - r_(i-1))``: the torch estimators (bit for bit on a CPU) and skorch's nets by
    ``partial_fit``; ``MLP*`` and ``SGD*`` by one ``partial_fit`` per epoch, the refit too; forests,
    extra trees, bagging, gradient boosting and histogram gradient boosting by ``warm_start``.
    Anything else, and ``"n_samples"``, is trained from scratch at each rung; so are ``MLP*``,
    ``SGD*`` and ensembles that stop early, have balanced class weights, or (bagging) an
    ``oob_score``. An estimator at the end of a `Pipeline`, nested or not, in a
    `TransformedTargetRegressor` or a `FixedThresholdClassifier` is continued too, and transformers
    are fitted once per split and setting of them. Anything else around it, subclasses of these
    included, is fitted whole, from scratch; the logger "skhpo" says so at level INFO.

    skorch's own nets draw from torch's global generator, which a search does not touch: only the
    torch estimators of this package give the same results twice.

    A finite space is sampled without replacement over the whole search, which ends early when
    it is exhausted.

    References
    ----------
    .. [1] L. Li, K. Jamieson, G. DeSalvo, A. Rostamizadeh, A. Talwalkar. Hyperband: A Novel
       Bandit-Based Approach to Hyperparameter Optimization. JMLR 18 (2018), algorithm 1.
    .. [2] L. Li, K. Jamieson, A. Rostamizadeh, E. Gonina, J. Ben-tzur, M. Hardt, B. Recht,
       A. Talwalkar. A System for Massively Parallel Hyperparameter Tuning. MLSys 2020,
       algorithm 2.
    .. [3] S. Falkner, A. Klein, F. Hutter. BOHB: Robust and Efficient Hyperparameter Optimization
       at Scale. ICML 2018.
    .. [4] N. Mallik, E. Bergman, C. Hvarfner, D. Stoll, M. Janowski, M. Lindauer, L. Nardi,
       F. Hutter. PriorBand: Practical Hyperparameter Optimization in the Age of Deep Learning.
       NeurIPS 2023.
    .. [5] A. Hägele, E. Bakouch, A. Kosson, L. Ben Allal, L. Von Werra, M. Jaggi. Scaling Laws and
       Compute-Optimal Training Beyond Fixed Training Durations. NeurIPS 2024.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import SGDClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skhpo import HalvingHyperbandSearchCV
    >>> search = HalvingHyperbandSearchCV(
    ...     make_pipeline(StandardScaler(), SGDClassifier()),
    ...     {"sgdclassifier__alpha": loguniform(1e-6, 1e-1)},
    ...     resource="sgdclassifier__max_iter",
    ...     max_resources=9,
    ...     random_state=0,
    ... )
    >>> search.fit(*load_iris(return_X_y=True)).best_score_ > 0.9
    True
    """

    _parameter_constraints = {
        **BaseTrialSearchCV._parameter_constraints,
        "resource": [str],
        "min_resources": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_resources": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "factor": [Interval(Real, 1, None, closed="neither")],
        "n_brackets": [Interval(Integral, 1, None, closed="left"), StrOptions({"all"})],
        "n_iterations": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "sampler": [str, samplers.Sampler, callable],
        "average": [StrOptions({"ema"}), None],
    }

    _samples_in_order = True

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        resource: str = "auto",
        min_resources: int | str = "auto",
        max_resources: int | str = "auto",
        factor: float = 3,
        n_brackets: int | str = "all",
        n_iterations: int | str = 1,
        sampler: str | samplers.Sampler | Callable[..., samplers.Sampler] = "auto",
        average: str | None = "ema",
        scoring: Any = None,
        objectives: Sequence[str] | None = None,
        constraints: Mapping[Any, tuple[float | None, float | None]] | None = None,
        n_jobs: int | None = None,
        refit: Any = True,
        refit_epochs: str = "auto",
        early_stopping_on: str = "inner",
        cv: Any = None,
        verbose: int = 0,
        random_state: Any = None,
        error_score: float | str = np.nan,
        return_train_score: bool = False,
        n_repeats: int = 1,
        fold_schedule: str | Sequence[int] | None = None,
        priors: Mapping[str, Any] | str | None = None,
        prior_confidence: str = "medium",
        forbidden: Any = None,
        enqueue: str | Sequence[Mapping[str, Any]] = "defaults",
        journal: str | PathLike[str] | None = None,
        shared: bool = False,
        warm_start_from: str | PathLike[str] | None = None,
        max_time: float | None = None,
        max_cost: Mapping[str, float] | None = None,
        fit_timeout: float | None = None,
        devices: str | Sequence[str] = "auto",
        lockstep: bool | str = "auto",
        asynchronous: bool = False,
        callbacks: Sequence[Any] = (),
        confirm: int = 0,
        return_predictions: bool | str = False,
        keep_models: int = 0,
        keep_from: int | None = None,
    ) -> None:
        self._set_arguments(locals())

    def _subject(self, X: Any, y: Any) -> Subject:
        from ._end_of_training import averaged
        from ._plan import resource_of

        subject = super()._subject(X, y)
        if self.average is None:
            return subject
        return averaged(subject, self.average, resource_of(self, subject.distributions))

    def _make_scheduler(self, plan: Plan) -> schedulers.Scheduler:
        if self.n_iterations == "auto" and self.max_time is None and self.max_cost is None:
            raise ValueError(
                "n_iterations='auto' repeats the brackets until max_time is over, so it needs one, "
                "but got max_time=None; give seconds, max_cost, or a number of iterations"
            )
        if plan.setting.resource is None:
            raise ValueError(
                "Hyperband needs a resource, which it gives its candidates more and more of, but "
                f"{type(self.estimator).__name__} has no parameter that counts the epochs of a "
                "network, or it is in the space; take it out there, or name another one as "
                "`resource`, such as 'max_iter' or 'n_estimators', or 'n_samples', which every "
                "estimator has"
            )
        from ._plan import resource_limits

        limits = resource_limits(self, plan)
        asynchronous, batches = schedulers.AsynchronousHyperband, schedulers.Hyperband
        scheduler = asynchronous if self.asynchronous else batches
        return scheduler(
            self._make_sampler(plan, limits[0]),
            min_resources=limits[0],
            max_resources=limits[1],
            factor=self.factor,
            n_brackets=self.n_brackets,
            n_iterations=None if self.n_iterations == "auto" else self.n_iterations,
            full_first=self.enqueue == "defaults" and bool(plan.first),
        )

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "sampler": self._chosen_sampler()}

    def _chosen_sampler(self) -> Any:
        if isinstance(self.sampler, str) and self.sampler == "auto":
            return "bayes" if self._proposes_by_model else "random"
        return self.sampler

    def _make_sampler(self, plan: Plan, least: int) -> samplers.Sampler:
        from ._samplers import DEFAULT_CONFIDENCE, PRIOR_WEIGHT, copied, prior_of

        sampler = self._chosen_sampler()
        if not self.priors and self.prior_confidence == DEFAULT_CONFIDENCE:
            if isinstance(sampler, samplers.Sampler):
                return copied(sampler, plan.space)
            return samplers.made(sampler, plan.space, plan.random_state)
        prior: Any = prior_of(self, plan)
        if sampler == "bayes":
            return samplers.BayesSampler(
                plan.space,
                plan.random_state,
                prior=prior,
                prior_weight=_WEIGHT * PRIOR_WEIGHT[self.prior_confidence],
            )
        if sampler != "random":
            raise ValueError(
                "priors need sampler='random' or 'bayes', which know what to do with them, but got "
                f"sampler={self.sampler!r}; leave one of the two out"
            )
        return samplers.PriorBandSampler(
            plan.space,
            plan.random_state,
            prior=prior,
            min_resources=least,
            factor=float(self.factor),
        )

    def _keep(self, source: Source) -> None:
        super()._keep(source)
        self.sampler_ = source.sampler

    def _forecasts(self, source: Source, start: float) -> list[Observer]:
        from ._observers import Forecast, log

        scheduler: Any = source.scheduler
        if not (self.verbose > 0 or log.isEnabledFor(logging.INFO)):
            return []
        if self.max_time is None and self.n_iterations == "auto":
            return []
        return [
            Forecast(
                scheduler.brackets,
                None if self.n_iterations == "auto" else self.n_iterations,
                source.folds,
                self.n_repeats,
                start,
                self.max_time,
                source.recorded.results,
                verbose=self.verbose > 0,
            )
        ]

    def _ends_as_planned(self, loop: TrialLoop) -> bool:
        from ._cost import COST_IS_USED
        from ._loop import OUT_OF_TIME

        is_over = loop.stopped in (OUT_OF_TIME, COST_IS_USED)
        has_compared = len(set(loop.table.candidates())) > 1
        is_planned = self.n_iterations == "auto" and is_over and has_compared
        return is_planned or super()._ends_as_planned(loop)
