"""Bayesian optimisation as a search class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .. import samplers, schedulers
from .._compat import Interval, StrOptions
from ._base import BaseTrialSearchCV

if TYPE_CHECKING:
    from ..schedulers import Scheduler
    from ._loop import TrialLoop
    from ._plan import Plan
    from ._running import Source

__all__ = ["BayesSearchCV"]


class BayesSearchCV(BaseTrialSearchCV):
    """Search with a Gaussian process: every score says where to look next.

    The first candidates are spread over the space. Then a Gaussian process is fitted to all scores
    so far, and the next candidate is where the expected improvement over the best is largest [1]_.
    No configuration is tried twice.

    Parameters
    ----------
    estimator : estimator
        As in `RandomizedSearchCV`.
    param_distributions : dict, list of dicts or "model"
        Lists are always choices, but `ordered` ones; frozen `scipy.stats` distributions and
        `log_randint` are ranges, as are those of scikit-optimize and Optuna. A list
        of dicts is a conditional space, with one model over all of it. The scale of a distribution
        is that of the model: use ``loguniform`` for what acts by orders of magnitude.
        "model" is what the builder of a torch or Keras estimator asks ``hp`` for, see
        `distributions_of`; `param_distributions_` then is the space.
    n_iter : int, default=50
        Candidates. Fewer are tried where a finite space has no more, or `stop_tol` ends the
        search.
    n_initial_points : int or "auto", default="auto"
        Candidates before the first that the model chooses; what is enqueued, or known from
        `warm_start_from`, counts. "auto" means 6, 12 with two objectives and 18 with more.
    acquisition : {"auto", "log_ei", "log_ei_per_second"}, default="auto"
        What the next candidate maximises: the logarithm of the expected improvement (with several
        objectives of the hypervolume, with constraints times the probability that they hold), or
        that less the logarithm of the time that its fits are expected to take. With the latter
        results depend on timing, except where they are replayed from a journal. "auto" is the
        latter while `max_time`, or seconds in `max_cost`, are likely to be over before `n_iter`
        candidates are tried (a larger share of them is used; what `warm_start_from` tells does not
        count, nor, with `max_time`, what a journal replays), if times of fits differ by more than
        a factor of three; else, and so always without such a limit, "log_ei".
    n_points : int, default=1
        Candidates per round: so many are chosen at once, and run in parallel; each takes into
        account that the others run. It is never derived from `n_jobs`, because results must not
        depend on that. With ``asynchronous=True`` it is not used: a new candidate is chosen
        whenever a worker is free.
    stop_tol : float or None, default=None
        End the search when the largest expected improvement is below so many standard deviations
        of the noise of the best score; 0.1 is a careful value. None never does. For one objective.
    scoring : str, callable, list, tuple or dict, default=None
        As in `GridSearchCV`. With several metrics the model hears the one that `refit` names, else
        the first.
    objectives : sequence of str or None, default=None
        Names of metrics of `scoring`; larger is better. The search then looks for the front, the
        candidates that no other one beats in all objectives: `pareto_front_`.
        None is one objective. See docs/objectives.md.
    constraints : dict or None, default=None
        Bounds ``(low, high)``, None being no bound, of a metric, of ``"n_parameters"``, of another
        attribute of the fitted estimator, or of what a function of it returns (its means over
        splits and repeats). Networks that would have too many parameters are not fitted. Candidates
        that break one are the last to be promoted or refitted.
    n_jobs : int or None, default=None
        Fits at the same time. None means 1 unless in a ``joblib.parallel_config``. Splits and
        repeats of a candidate run in parallel, and `n_points` candidates do; small networks that
        are trained in lockstep keep one worker busy, with all splits of a candidate or several.
    refit : bool, str or callable, default=True
        As in `GridSearchCV`. "ensemble" makes what `ensemble` returns the best estimator, and keeps
        predictions for it; `best_params_` and `best_score_` stay those of the best row.
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
        Score of a fit that failed, or whose scorer did. For the model NaN is as bad as the worst
        score so far.
    return_train_score : bool, default=False
        Whether `cv_results_` has scores on the training part of each split, too.
    n_repeats : int, default=1
        Fits per candidate and split, under different seeds; the score is their mean.
    priors : dict, "defaults" or None, default=None
        What is believed to be good: by parameter a value, as in ``{"lr": 1e-3}``, around which
        good ones are, or a frozen distribution over numbers, as in ``{"dropout": norm(0.2, 0.1)}``.
        "defaults" are the estimator's own parameters. The likeliest candidate comes first, after
        what is enqueued, half of the initial candidates are drawn from them, and the expected
        improvement is multiplied by their density to a power that falls as ``1 / n`` (piBO [2]_),
        so that wrong ones lose their influence.
    prior_confidence : {"low", "medium", "high"}, default="medium"
        How near to a single value good ones are believed to be: within half, a quarter or an
        eighth of the range on the scale of its distribution.
    forbidden : callable, list of dict or None, default=None
        What is never tried: a function of a dict of parameters that returns True for it, or dicts
        with values that must not occur together: ``[{"solver": "lbfgs", "penalty": "l1"}]``.
    enqueue : "defaults" or sequence of dict, default="defaults"
        Configurations to try first. "defaults" are the estimator's own
        parameters, a number outside its range being the nearest end of it; nothing where one is
        not in the space (None, or a choice that is not listed: a line at level INFO of the logger
        ``skhpo`` says so) or `warm_start_from` is given. Of a dict, parameters that it leaves out
        are sampled.
    journal : str, path-like or None, default=None
        File to which every finished fit is appended. `fit` with the same journal continues an
        interrupted search, also with a larger `n_iter`.
        ``{data}`` in it stands for a hash of the data, so that each fold of an outer
        cross-validation has a journal of its own.
    shared : bool, default=False
        Whether other processes work on the same search: the same program, started any number of
        times on machines with one disk, with one `journal`. See docs/journal.md.
    warm_start_from : str, path-like or None, default=None
        Journal of an earlier search over the same space, from whose scores the model starts.
    max_time : float or None, default=None
        Seconds after which fits that run are given up and none starts; what is done is kept, and
        the best refitted: the refit takes further time.
    max_cost : dict or None, default=None
        What the search may use: ``{"seconds": 3600}`` of all workers, after which no fit starts,
        with their scores. Fits in the journal count, too.
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
        Choose and start the next candidate as soon as a worker is free. Results then depend on
        timing.
    callbacks : sequence of object, default=()
        Objects whose methods ``on_search_begin(search, start)``,
        ``on_fit_end(search, trial, result)``, ``on_trial_end(search, trial, results, score)`` and
        ``on_search_end(search)`` are called, in this process, if they have them.
        `TensorBoardLogger` is one.
    racing : "auto" or None, default=None
        "auto" stops a candidate as soon as its mean over the first splits is below the worst split
        of the best candidate so far, which saves the other fits; see docs/racing.md. Its other
        scores are NaN, its means over the splits that were done, and it is never the best. Of
        networks whose splits are trained in lockstep all are done.
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
        As of `GridSearchCV`, in the order in which candidates were chosen; with `racing`
        ``n_splits_done`` says on how many splits each was fitted.
    relevance_ : dict of str to ndarray
        A table for ``pandas.DataFrame``: ``param``, and ``relevance``, the inverse length scale
        of the model along it, in units of one over the parameter's whole range (the largest of
        all objectives); most relevant first. A parameter of no effect is near 0. What a choice
        adds to the score, whatever the numbers are, counts like a distance with the same effect.
    param_distributions_ : dict or list of dict
        The space: `param_distributions`, or what a builder asked for.
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
    timing_ : dict of str to ndarray of shape (n_rows, n_splits, n_repeats)
        Of each fit ``"start"`` (seconds since 1970), ``"worker"``, ``"fit_time"`` and
        ``"score_time"`` (seconds), and ``"skipped"``: whether it was not made, because the
        configuration was known to break a constraint.
    stop_reason_ : str or None
        Why there are fewer than `n_iter` candidates; None where there are not.
    sampler_ : BayesSampler
        The fitted model.
    best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_, \
multimetric_, classes_, n_features_in_, feature_names_in_
        As of `GridSearchCV`.

    Raises
    ------
    ValueError
        Before any training: an argument out of its range, more initial points than iterations, a
        name in the space that the estimator lacks, an empty space.

    See Also
    --------
    sklearn.model_selection.RandomizedSearchCV : Candidates at random.
    HalvingHyperbandSearchCV : With ``sampler="bayes"``, for estimators that train in epochs.

    References
    ----------
    .. [1] D. Jones, M. Schonlau, W. Welch. Efficient Global Optimization of Expensive Black-Box
       Functions. Journal of Global Optimization 13 (1998), section 4.
    .. [2] C. Hvarfner, D. Stoll, A. Souza, M. Lindauer, F. Hutter, L. Nardi. piBO: Augmenting
       Acquisition Functions with User Beliefs for Bayesian Optimization. ICLR 2022, equation 5.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from skhpo import BayesSearchCV
    >>> search = BayesSearchCV(
    ...     SVC(),
    ...     {"C": loguniform(1e-2, 1e4), "gamma": loguniform(1e-5, 1e1)},
    ...     n_iter=15,
    ...     random_state=0,
    ... )
    >>> search.fit(*load_iris(return_X_y=True)).best_score_ > 0.97
    True
    >>> mean, std = search.predict_score({"C": 1.0, "gamma": 0.1})
    >>> 0.9 < mean < 1
    True
    """

    _parameter_constraints = {
        **BaseTrialSearchCV._parameter_constraints,
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "n_initial_points": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "acquisition": [StrOptions({"auto", "log_ei", "log_ei_per_second"})],
        "n_points": [Interval(Integral, 1, None, closed="left")],
        "stop_tol": [Interval(Real, 0, None, closed="left"), None],
    }

    _samples_in_order = True

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 50,
        n_initial_points: int | str = "auto",
        acquisition: str = "auto",
        n_points: int = 1,
        stop_tol: float | None = None,
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
        racing: str | None = None,
        confirm: int = 0,
        return_predictions: bool | str = False,
        keep_models: int = 0,
        keep_from: int | None = None,
    ) -> None:
        self._set_arguments(locals())

    def predict_score(
        self, params: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> tuple[Any, Any]:
        """Predict what configurations would score.

        Parameters
        ----------
        params : dict, or sequence of dict
            One configuration of the space, or several.

        Returns
        -------
        mean, std : float, or ndarray of shape (n_configurations,)
            Of the score that the model guides the search by, averaged over splits; `std` is how
            well the model knows the mean, and leaves out the noise of a new fit. Of several
            `objectives`, arrays of shape (n_objectives,), or (n_configurations, n_objectives).

        Raises
        ------
        TypeError, ValueError
            If a configuration is no dict, or not in the space.
        """
        check_is_fitted(self, "sampler_")
        if isinstance(params, Mapping):
            mean, std = (part[0] for part in self.sampler_.predict([dict(params)]))
            return (float(mean), float(std)) if np.ndim(mean) == 0 else (mean, std)
        several = list(params) if isinstance(params, Iterable) else [params]
        if not all(isinstance(one, Mapping) for one in several):
            raise TypeError(
                "params must be a configuration or a sequence of them, each a dict, but got "
                f"{params!r}; of a DataFrame, take .to_dict('records')"
            )
        means, stds = self.sampler_.predict([dict(one) for one in several])
        return means, stds

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings()
        if self.acquisition == "auto":  # depends on limits, which may change from run to run
            settings["acquisition"] = "log_ei"
        return settings

    def _make_scheduler(self, plan: Plan) -> Scheduler:
        from ..samplers.time_limit import TimeLimit
        from ._checks import check_enqueued
        from ._samplers import PRIOR_WEIGHT, prior_of

        check_enqueued(self.enqueue, self.n_iter)
        if self.n_initial_points != "auto" and self.n_initial_points > self.n_iter:
            raise ValueError(
                f"n_initial_points <= n_iter must hold, but got (n_initial_points="
                f"{self.n_initial_points}, n_iter={self.n_iter}); raise n_iter, or use "
                "n_initial_points='auto'"
            )
        if self.stop_tol is not None and len(plan.goals.objectives) > 1:
            raise ValueError(
                "stop_tol compares the expected improvement of one score with its noise, and must "
                f"be None with objectives={list(plan.goals.objectives)}, but got "
                f"{self.stop_tol:g}; limit n_iter or max_time instead"
            )
        limit, acquisition = None, self.acquisition
        if acquisition == "auto":
            acquisition, worked = "log_ei", (self.max_cost or {}).get("seconds")
            if self.max_time is not None or worked is not None:
                limit = TimeLimit(self.n_iter, self.max_time, worked)
        sampler = samplers.BayesSampler(
            plan.space,
            plan.random_state,
            n_initial_points=self.n_initial_points,
            acquisition=acquisition,
            time_limit=limit,
            stop_tol=self.stop_tol,
            prior=prior_of(self, plan),
            prior_weight=0.1 * self.n_iter * PRIOR_WEIGHT[self.prior_confidence],
        )
        return schedulers.FullScheduler(
            sampler, self.n_iter, self.n_points, asynchronous=self.asynchronous
        )

    def _keep(self, source: Source) -> None:
        super()._keep(source)
        sampler: Any = source.sampler
        sampler.begin(len(source.recorded.trials))
        self.sampler_ = sampler

    def _store(self, plan: Plan, loop: TrialLoop) -> None:
        super()._store(plan, loop)
        if self.stop_reason_ is None and len(loop.table) < self.n_iter:
            self.stop_reason_ = self.sampler_.stop_reason
        relevance = self.sampler_.relevance()
        names = sorted(relevance, key=lambda name: -relevance[name])
        self.relevance_ = {
            "param": np.array(names, dtype=object),
            "relevance": np.array([relevance[name] for name in names]),
        }
