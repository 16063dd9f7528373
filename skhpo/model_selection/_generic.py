"""A search under any scheduler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import schedulers, space
from ._base import BaseTrialSearchCV

if TYPE_CHECKING:
    from ._plan import Plan

__all__ = ["SearchCV"]


class SearchCV(BaseTrialSearchCV):
    """Search with any scheduler: the loop of this package, and nothing decided in advance.

    A scheduler decides which candidate is trained, and how long; everything else (splits, journal,
    workers, refit) is as in the other searches.

    Parameters
    ----------
    estimator : estimator
        As in `RandomizedSearchCV`.
    param_distributions : dict, list of dicts or "model"
        Lists are choices; frozen `scipy.stats` distributions and `log_randint` are sampled. A
        list of dicts is a conditional space.
        "model" is what the builder of a torch or Keras estimator asks ``hp`` for, see
        `distributions_of`; `param_distributions_` then is the space.
    scheduler : callable
        Called as ``scheduler(space, random_state)`` with a `SearchSpace` and an integer; returns
        a `Scheduler`, which says what to try and with how much of the resource.
    resource : str or None, default="auto"
        Parameter of the estimator that a trial's resource sets, also through a pipeline
        (``"net__max_epochs"``), or ``"n_samples"``. "auto" is the one that counts the epochs of a
        network, wherever it is in the estimator, if the scheduler allots a resource; else None:
        all fits are full ones.
    scoring : str, callable, list, tuple or dict, default=None
        As in `GridSearchCV`. With several metrics the scheduler hears the one that `refit`
        names, else the first.
    objectives : sequence of str or None, default=None
        Names of metrics of `scoring`; larger is better. The search then looks for the front, the
        candidates that no other one beats in all objectives: `pareto_front_`.
        The scheduler hears all.
        None is one objective. See docs/objectives.md.
    constraints : dict or None, default=None
        Bounds ``(low, high)``, None being no bound, of a metric, of ``"n_parameters"``, of another
        attribute of the fitted estimator, or of what a function of it returns (its means over
        splits and repeats). Networks that would have too many parameters are not fitted. Candidates
        that break one are the last to be promoted or refitted.
    n_jobs : int or None, default=None
        Fits at the same time. None means 1 unless in a ``joblib.parallel_config``.
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
        Score of a fit that failed, or whose scorer did. The scheduler never promotes NaN.
    return_train_score : bool, default=False
        Whether `cv_results_` has scores on the training part of each split, too.
    n_repeats : int, default=1
        Fits per candidate and split, under different seeds; the score is their mean.
    forbidden : callable, list of dict or None, default=None
        What is never tried: a function of a dict of parameters that returns True for it, or dicts
        with values that must not occur together: ``[{"solver": "lbfgs", "penalty": "l1"}]``.
    enqueue : "defaults" or sequence of dict, default=()
        Configurations to try first. "defaults" are the estimator's own
        parameters, a number outside its range being the nearest end of it; nothing where one is
        not in the space (None, or a choice that is not listed: a line at level INFO of the logger
        ``skhpo`` says so) or `warm_start_from` is given. Of a dict, parameters that it leaves out
        are sampled.
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
        Start the next fit as soon as one ends. Results then depend on timing.
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
        Keep what each fit predicts for the test part of its split: `out_of_fold_predictions`,
        docs/predictions.md. True means the first of these methods that all candidates have;
        "predict" where they are no classifiers. Kept are the rows with the largest resource, and
        the best row; beside the journal, else in memory up to 256 MiB and in temporary files
        beyond.
    keep_models : int, default=0
        Rows, the best ones, whose fitted estimators are kept, for `kept_models`: networks as
        checkpoints, beside the journal or in temporary files; others in memory, as pickles.
    keep_from : int or None, default=None
        Resource from which on rows are kept; None means the largest of the search.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray
        As of `GridSearchCV`, one row per trial; plus the scheduler's tags, and ``n_resources`` and
        ``candidate`` where there is a resource; with `racing` ``n_splits_done``, the number of
        splits that each was fitted on.
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
    best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_, \
multimetric_, classes_, n_features_in_, feature_names_in_
        As of `GridSearchCV`; where the resource is ``"n_samples"``, the best is found among the
        rows with the largest subsamples.

    See Also
    --------
    sklearn.model_selection.GridSearchCV : All candidates of a grid.
    HalvingHyperbandSearchCV : The same under the Hyperband scheduler.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skhpo import SearchCV
    >>> from skhpo.samplers import RandomSampler
    >>> from skhpo.schedulers import FullScheduler
    >>> def ten_at_random(space, random_state):
    ...     return FullScheduler(RandomSampler(space, random_state), n_candidates=10)
    >>> search = SearchCV(
    ...     DecisionTreeClassifier(),
    ...     {"max_depth": [1, 2, 3, 4], "min_samples_leaf": [1, 2, 4, 8]},
    ...     scheduler=ten_at_random,
    ...     random_state=0,
    ... )
    >>> search.fit(*load_iris(return_X_y=True)).best_score_ > 0.9
    True
    """

    _parameter_constraints = {
        **BaseTrialSearchCV._parameter_constraints,
        "scheduler": [callable],
        "resource": [str, None],
    }

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        scheduler: Callable[[space.SearchSpace, int], schedulers.Scheduler],
        resource: str | None = "auto",
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
        racing: str | None = None,
        confirm: int = 0,
        return_predictions: bool | str = False,
        keep_models: int = 0,
        keep_from: int | None = None,
    ) -> None:
        self._set_arguments(locals())

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings()
        if self.resource == "auto":  # whether it is used follows from the scheduler
            settings["resource"] = None
        return settings

    def _make_scheduler(self, plan: Plan) -> schedulers.Scheduler:
        scheduler: schedulers.Scheduler = self.scheduler(plan.space, plan.random_state)
        return scheduler
