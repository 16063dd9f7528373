"""Harmonica as a search class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import schedulers
from .._compat import Interval, StrOptions
from ._base import BaseTrialSearchCV

if TYPE_CHECKING:
    from ..trial import Trial
    from ._loop import TrialLoop
    from ._plan import Plan

__all__ = ["HarmonicaSearchCV"]

# "auto": the largest amount of the resource for each one that the stages have.
_STAGES_HAVE = 9


class HarmonicaSearchCV(BaseTrialSearchCV):
    """Search with Harmonica [1]_: find the few parameters that matter, then search those left.

    In each stage random candidates are evaluated, all of them at a time if there is room. A
    polynomial of few terms is fitted to their scores, such as "batch norm, and a small learning
    rate with SGD". Later candidates come from where the terms are best; after the
    last stage another method searches what is left. The terms say which parameters and which
    combinations of them matter, see `stages_` and `important_parameters_`.

    Parameters
    ----------
    estimator : estimator
        As in `RandomizedSearchCV`.
    param_distributions : dict, list of dicts or "model"
        Lists are choices; frozen `scipy.stats` distributions and `log_randint` are sampled. A
        list of dicts is a conditional space.
        "model" is what the builder of a torch or Keras estimator asks ``hp`` for, see
        `distributions_of`; `param_distributions_` then is the space.
    n_stages : int, default=2
        How often the space is restricted. The paper has 2 or 3.
    n_samples : int or "auto", default="auto"
        Candidates per stage. "auto" is the 300 of the paper for its 60 two-valued parameters, and
        grows with the logarithm of the number of possible terms.
    degree : int or "auto", default="auto"
        The most parameters in a term; "auto" is 3, or all where there are fewer, or 2 where there
        are more than 2.7e8 possible terms of three.
    n_terms : int or sequence of int, default=5
        The most terms of a stage, or of each stage, as in ``(8, 8, 5)``. Further terms of the same
        parameters (another range, another choice) may join them.
    n_restrictions : int, default=1
        How many ways to fix the terms of a stage are kept, the best first, but at most one of
        eight that there could be; each later candidate follows one of them, drawn at random.
    alpha : float or "auto", default="auto"
        Penalty of the Lasso that finds the terms, in units of the score. "auto" looks for the
        subset of terms with the least squared error and leaves out those that an information
        criterion does not want.
    stage_resource : int, "auto" or None, default="auto"
        What the candidates of the stages are given of `resource`. "auto" is a ninth of
        `max_resources`, but at least `min_resources`, where the base is "hyperband", and else the
        largest amount, as None is.
    stage_params : dict or None, default=None
        Parameters of the estimator that only the fits of the stages have, such as a smaller
        network: ``{"module__n_layers": 2}``. None of them may be in the space.
    base : {"auto", "hyperband", "random", "bayes"} or callable, default="auto"
        What searches the space that is left: "hyperband" needs a resource and is "auto" where
        there is one; "random" and "bayes" (a Gaussian process) try `n_iter` candidates, with the
        largest resource (with ``resource="auto"`` and no `max_resources`, with what the estimator
        has itself). A Gaussian process hears the scores of the stages, unless there are
        `stage_params` or the space has less than a million configurations. The candidates of
        "hyperband" come from one, too, where the stages have less than `max_resources` and no
        `stage_params`, or there are several objectives, for which "auto" without a resource is
        "bayes". A process that heard of fits with less than the largest resource searches the whole
        space: it learns whether what they say holds. A callable is called as
        ``base(space, random_state)`` with a `SearchSpace` and an integer; it returns a
        `skhpo.schedulers.Scheduler`.
    n_iter : int, default=100
        Candidates of the base, if it is "random" or "bayes".
    resource : str or None, default="auto"
        Parameter of the estimator that counts work, also through a pipeline
        (``"net__max_epochs"``), or ``"n_samples"``. "auto" is the one that counts the epochs of a
        network, wherever it is in the estimator, where the base is "hyperband", or `stage_resource`
        or `max_resources` is given; else None: all fits are full ones.
    min_resources, max_resources, factor, n_brackets : object
        As in `HalvingHyperbandSearchCV`, for the base.
    n_iterations : int or "auto", default="auto"
        How often the base "hyperband" repeats its brackets. "auto" is as often as takes about as
        much of the resource as the stages do, at least once.
    scoring : str, callable, list, tuple or dict, default=None
        As in `GridSearchCV`. With several metrics the search is guided by the one that
        `refit` names, else by the first.
    objectives : sequence of str or None, default=None
        Names of metrics of `scoring`; larger is better. The search then looks for the front, the
        candidates that no other one beats in all objectives: `pareto_front_`.
        The stages hear the score that `refit` names, else the first objective; `base` hears all.
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
        Score of a fit that failed, or whose scorer did. A candidate that scores NaN is left out of
        the polynomial.
    return_train_score : bool, default=False
        Whether `cv_results_` has scores on the training part of each split, too.
    n_repeats : int, default=1
        Fits per candidate and split, under different seeds; the score is their mean.
    forbidden : callable, list of dict or None, default=None
        What is never tried: a function of a dict of parameters that returns True for it, or dicts
        with values that must not occur together: ``[{"solver": "lbfgs", "penalty": "l1"}]``.
    enqueue : "defaults" or sequence of dict, default=()
        Configurations to try first; in the first stage. "defaults" are the estimator's own
        parameters, a number outside its range being the nearest end of it; nothing where one is
        not in the space (None, or a choice that is not listed: a line at level INFO of the logger
        ``skhpo`` says so). Of a dict, parameters that it leaves out are sampled.
    journal : str, path-like or None, default=None
        File to which every finished fit is appended. `fit` with the same journal continues an
        interrupted search. Checkpoints are kept in the folder ``<journal>.files``.
        ``{data}`` in it stands for a hash of the data, so that each fold of an outer
        cross-validation has a journal of its own.
    shared : bool, default=False
        Whether other processes work on the same search: the same program, started any number of
        times on machines with one disk, with one `journal`. See docs/journal.md.
    warm_start_from : str, path-like or None, default=None
        Journal of an earlier search. The stages learn from random samples of their own only, so
        that it has no effect here.
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
        Start the next fit as soon as one ends. What a stage finds does not depend on timing; what
        the base does may.
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
        As of `GridSearchCV`, one row per trial; plus ``stage``, which is `n_stages` for the trials
        of the base, and, where there is a resource, ``n_resources``, ``candidate`` and the base's
        own (``bracket`` and ``iter`` of Hyperband, -1 in the stages).
    stages_ : list of dict
        Of each stage: ``n_samples``, ``n_failed``, ``mean_score`` and ``best_score`` in the space
        as it was left by the stages before; ``intercept``; ``terms``, a list of dicts with
        ``term`` (pairs of a parameter and what is the case where the term's functions are positive:
        ``[("module__activation", "relu"), ("lr", ">= 0.01")]``), ``coefficient`` and ``share``
        (of the variance of the scores, lost without the term); ``explained``, the share of all
        of them together; and ``restrictions``, a list of dicts with ``terms`` (the value of each
        of the stage's terms) and ``score``, what the polynomial says of them.
    important_parameters_ : dict of str to ndarray
        A row per term, of all stages: ``stage``, ``parameters``, ``term``, ``coefficient``,
        ``share``. ``pandas.DataFrame`` takes it.
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
    resource_ : str or None
        The name of the resource: `resource`, or what "auto" found.
    timing_ : dict of str to ndarray of shape (n_rows, n_splits, n_repeats)
        Of each fit ``"start"`` (seconds since 1970), ``"worker"``, ``"fit_time"`` and
        ``"score_time"`` (seconds), and ``"skipped"``: whether it was not made, because the
        configuration was known to break a constraint.
    stop_reason_ : str or None
        Why the search was cut short; None where it was not.
    best_index_ : int
        The best row, as in the base; one of the base, if there are `stage_params` and the base has
        a score. Where the resource is ``"n_samples"``, among the largest subsamples.
    best_estimator_, best_score_, best_params_, scorer_, n_splits_, refit_time_, multimetric_, \
classes_, n_features_in_, feature_names_in_
        As of `GridSearchCV`.

    Raises
    ------
    ValueError
        Before any training: fewer samples than coefficients can be found from, a degree above the
        number of parameters or with so many possible terms that they cannot be gone through in a
        quarter of an hour, numbers below 1, a space of one configuration, `stage_params` that
        the estimator lacks or that are in the space, more resource for the stages than for the
        base; and what other searches refuse.

    See Also
    --------
    BayesSearchCV : For up to some dozen parameters.
    skhpo.schedulers.Harmonica : The method, without estimators.
    skhpo.inspection.HarmonicaDisplay : Draws the terms and the scores stage by stage.

    References
    ----------
    .. [1] E. Hazan, A. Klivans, Y. Yuan. Hyperparameter Optimization: A Spectral Approach. ICLR
       2018.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from skhpo import HarmonicaSearchCV
    >>> search = HarmonicaSearchCV(
    ...     SVC(),
    ...     {
    ...         "C": loguniform(1e-3, 1e3),
    ...         "gamma": loguniform(1e-3, 1e3),
    ...         "kernel": ["rbf", "sigmoid"],
    ...         "shrinking": [True, False],
    ...     },
    ...     n_stages=1,
    ...     n_samples=60,
    ...     n_iter=5,
    ...     cv=2,
    ...     random_state=0,
    ... )
    >>> search = search.fit(*load_iris(return_X_y=True))
    >>> search.stages_[0]["terms"][0]["term"]
    [('kernel', 'sigmoid')]
    """

    _samples_in_order = True

    _parameter_constraints = {
        **BaseTrialSearchCV._parameter_constraints,
        "n_stages": [Interval(Integral, 1, None, closed="left")],
        "n_samples": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "degree": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "n_terms": [Interval(Integral, 1, None, closed="left"), list, tuple],
        "n_restrictions": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "stage_resource": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), None],
        "stage_params": [dict, None],
        "base": [StrOptions({"auto", "hyperband", "random", "bayes"}), callable],
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "resource": [str, None],
        "min_resources": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_resources": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "factor": [Interval(Real, 1, None, closed="neither")],
        "n_brackets": [Interval(Integral, 1, None, closed="left"), StrOptions({"all"})],
        "n_iterations": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    }

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_stages: int = 2,
        n_samples: int | str = "auto",
        degree: int | str = "auto",
        n_terms: int = 5,
        n_restrictions: int = 1,
        alpha: float | str = "auto",
        stage_resource: int | str | None = "auto",
        stage_params: dict[str, Any] | None = None,
        base: str | Callable[..., schedulers.Scheduler] = "auto",
        n_iter: int = 100,
        resource: str | None = "auto",
        min_resources: int | str = "auto",
        max_resources: int | str = "auto",
        factor: float = 3,
        n_brackets: int | str = "all",
        n_iterations: int | str = "auto",
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
        forbidden: Any = None,
        enqueue: str | Sequence[Mapping[str, Any]] = (),
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

    def _make_scheduler(self, plan: Plan) -> schedulers.Scheduler:
        from ._checks import check_names

        resource = plan.setting.resource
        if self.stage_params:
            check_names(self.estimator, [{name: [v] for name, v in self.stage_params.items()}])
            if resource in self.stage_params:
                raise ValueError(
                    f"the resource must not be in stage_params, but {resource!r} is; use "
                    "stage_resource for what the stages are given of it"
                )
        if isinstance(self.stage_resource, Integral) and resource is None:
            raise ValueError(
                f"stage_resource needs a resource, but got stage_resource={self.stage_resource} "
                "and resource=None; name the parameter that counts work, such as 'max_epochs'"
            )
        return schedulers.Harmonica(
            plan.space,
            plan.random_state,
            self._base(plan),
            n_stages=self.n_stages,
            n_samples=self.n_samples,
            degree=self.degree,
            n_terms=self.n_terms,
            n_restrictions=self.n_restrictions,
            alpha=self.alpha,
            resource=self._stage_amount(plan),
            params=self.stage_params,
        )

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings()
        if self._uses_no_resource(settings["resource"]):
            settings["resource"] = None
        return settings

    def _stage_amount(self, plan: Plan) -> int | None:
        """Return what the stages are given of the resource, None for the largest amount."""
        from ._plan import resource_limits

        if isinstance(self.stage_resource, Integral):
            return int(self.stage_resource)
        name = self._base_name(plan.setting.resource)
        if self.stage_resource is None or name != "hyperband":
            return None
        least, most = resource_limits(self, plan)
        return max(least, most // _STAGES_HAVE)

    def _uses_no_resource(self, resource: str | None) -> bool:
        """Whether all fits are full ones: nothing says how much of what "auto" found they get."""
        if resource is None or self.resource != "auto":
            return resource is None
        nothing_said = self.stage_resource in ("auto", None) and self.max_resources == "auto"
        return self._base_name(resource) in ("random", "bayes") and nothing_said

    def _base_name(self, resource: str | None) -> str | None:
        """Return which scheduler of the package is the base, None for another one."""
        name: str | Callable[..., schedulers.Scheduler] = self.base
        if not isinstance(name, str):
            return None
        if name != "auto":
            return name
        if resource is not None:
            return "hyperband"
        return "bayes" if self._proposes_by_model else "random"

    def _base(self, plan: Plan) -> Callable[..., schedulers.Scheduler]:
        """Return the function that makes the scheduler of what is left of the space."""
        from ._plan import resource_limits
        from ._stages import full_base, hyperband_base, iterations

        if callable(self.base):
            base: Callable[..., schedulers.Scheduler] = self.base
            return base
        name = str(self._base_name(plan.setting.resource))
        limits = resource_limits(self, plan)
        if name == "hyperband":
            if plan.setting.resource is None:
                raise ValueError(
                    "base='hyperband' needs a resource, but got resource=None; name the parameter "
                    "that counts work, such as 'max_epochs', or use base='random'"
                )
            asynchronous, batches = schedulers.AsynchronousHyperband, schedulers.Hyperband
            kind: Callable[..., schedulers.Scheduler] = (
                asynchronous if self.asynchronous else batches
            )
            amount = self._stage_amount(plan)
            hears = amount is not None and amount < limits[1] and not self.stage_params
            return partial(
                hyperband_base,
                sampler="bayes" if hears or self._proposes_by_model else "random",
                kind=kind,
                min_resources=limits[0],
                max_resources=limits[1],
                factor=self.factor,
                n_brackets=self.n_brackets,
                n_iterations=iterations(self, plan.space, limits, amount or limits[1]),
            )
        return partial(
            full_base,
            sampler=name,
            n_candidates=self.n_iter,
            resource=self._full_amount(plan.setting.resource, limits[1]),
            asynchronous=self.asynchronous,
        )

    def _full_amount(self, resource: str | None, largest: int) -> int | None:
        """Return what each candidate of a base without rungs is given of the resource."""
        if self._uses_no_resource(resource):
            return None
        own = self.estimator.get_params().get(resource)
        chosen = self.resource == "auto" and self.max_resources == "auto"
        return int(own) if chosen and isinstance(own, Integral) and int(own) > 0 else largest

    def _store(self, plan: Plan, loop: TrialLoop) -> None:
        from ._stages import important_parameters, stage_table

        super()._store(plan, loop)
        scheduler: Any = loop.scheduler
        self.stages_ = [stage_table(plan.space, stage) for stage in scheduler.stages]
        self.important_parameters_ = important_parameters(self.stages_)

    def _may_win(self, trial: Trial, max_resource: int | None) -> bool:
        of_base = trial.tags["stage"] == self.n_stages
        return (of_base or not self.stage_params) and super()._may_win(trial, max_resource)

    def _comparable(self, means: NDArray[np.float64]) -> NDArray[np.bool_]:
        of_base = self.cv_results_["stage"] == self.n_stages
        if self.stage_params and not np.isnan(means[of_base]).all():
            means = np.where(of_base, means, np.nan)
        return super()._comparable(means)
