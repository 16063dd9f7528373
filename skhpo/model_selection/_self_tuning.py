"""Self-tuning networks, cross-validated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import samplers, schedulers, space
from .._compat import Interval
from ._base import BaseTrialSearchCV

if TYPE_CHECKING:
    from ..schedulers import Scheduler
    from ._plan import Plan, Subject

__all__ = ["SelfTuningSearchCV"]


class SelfTuningSearchCV(BaseTrialSearchCV):
    """Tune regularisation by gradient descent, in one run per fold.

    On the training part of each fold one self-tuning network [1]_ is trained, whose validation data
    is the test part of the fold: its hyperparameters follow the gradient of the validation loss
    while its weights train. A row of `cv_results_` therefore is no configuration that was tried, it
    is *a run, named by where it started*; where the runs ended is in columns of its own. What
    is found on the folds is averaged, and a plain network is trained under it on all data.

    Parameters
    ----------
    estimator : estimator
        A `TorchClassifier` or `TorchRegressor`: each fold is run by the self-tuning estimator
        that has the same parameters, and all other settings at their defaults (but a third of
        the epochs at most to warm up in). Or a `SelfTuningClassifier` or `SelfTuningRegressor`,
        with settings of one's own. Or a `Pipeline` that ends in one of them.
    param_distributions : dict of str to frozen distribution, default=None
        What is tuned, and its range, by the names of parameters of `estimator`:

        * of a plain estimator ``module__<argument>``, where the module passes the argument on to
          its dropout layers as their rate (or to a `HyperValue`); ``optimizer__weight_decay``;
          ``label_smoothing``;
        * of a self-tuning one ``hyperparameters__<name>``, for each name that it takes:
          ``hyperparameters__input_noise``, ``hyperparameters__dropout_0.p``, .... None takes the
          ranges that the estimator has itself.

        A step's name goes before them in a pipeline.
    n_iter : int, default=1
        Starting points, that is rows. The first is what the estimator has, where that is inside the
        range, else near the low end (5% of the way); the others are drawn from the distributions.
    scoring : str, callable, list, tuple or dict, default=None
        As in `GridSearchCV`. A fold's score is that of the plain network at the best epoch, by
        the estimator's `monitor`, on the very data that its hyperparameters followed: good for
        choosing a row, too good as an estimate.
    n_jobs : int or None, default=None
        Runs at the same time. None means 1 unless in a ``joblib.parallel_config``.
    refit : bool, str or callable, default=True
        As in `GridSearchCV`: whether, and by which metric, ``estimator.set_params(**best_params_)``
        is trained on all data. A plain estimator is trained as it is. In a self-tuning one the
        values are numbers, which stay, so that it trains a plain network, too; unless its
        `validation_fraction` is None it holds out rows to choose its best epoch. "ensemble" as in
        `BayesSearchCV`.
    cv : int, splitter or iterable, default=None
        As in `GridSearchCV`.
    verbose : int, default=0
        Larger than 0: a line on stderr with runs done, the best score and the time left.
    random_state : int, RandomState or None, default=None
        Seeds the starting points, and every ``random_state`` of the estimator that is None, such
        that results do not depend on `n_jobs`.
    error_score : "raise" or float, default=nan
        Score of a run that failed, or whose scorer did.
    return_train_score : bool, default=False
        Whether `cv_results_` has scores on the training part of each split, too.
    enqueue : sequence of dict, default=()
        Starting points that come first. Parameters that one leaves out are drawn.
    journal : str, path-like or None, default=None
        File to which every finished run is appended. `fit` with the same journal continues an
        interrupted search, also with a larger `n_iter`.
        ``{data}`` in it stands for a hash of the data, so that each fold of an outer
        cross-validation has a journal of its own.
    shared : bool, default=False
        Whether other processes work on the same search: the same program, started any number of
        times on machines with one disk, with one `journal`. See docs/journal.md.
    max_time : float or None, default=None
        Seconds after which runs are given up and none starts; what is done is kept, and the best
        refitted: the refit takes further time.
    fit_timeout : float or None, default=None
        Seconds after which a run, with its scores, counts as failed; docs/limits.md says what
        cannot be interrupted.
    devices : "auto", str or list of str, default="auto"
        Where runs are, whose estimator leaves it open, as in `BayesSearchCV`.
    callbacks : sequence of object, default=()
        As in `BayesSearchCV`.
    confirm : int, default=0
        Fit so many of the best candidates once more when the search is over, under other seeds, and
        on other splits where `cv` shuffles, and choose the best of these by all of its scores.
    return_predictions : bool or {"predict_proba", "decision_function", "predict"}, default=False
        Keep what each fit predicts for the test part of its split, for `out_of_fold_predictions`;
        see `SearchCV` and docs/predictions.md.
    keep_models : int, default=0
        Rows, the best ones, whose fitted estimators are kept, for `kept_models`: networks as
        checkpoints, beside the journal or in temporary files; others in memory, as pickles.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray
        As of `GridSearchCV`, a row per starting point: `params` and ``param_<name>`` say where its
        runs started, ``split0_<name>``, ... where they were at their best epochs.
    best_params_ : dict of str to object
        What the best row's runs found, averaged over the folds in the unconstrained space (the
        logit of the place in the range), for ``estimator.set_params``.
    param_distributions_ : dict of str to frozen distribution
        What was tuned.
    models_ : KeptModels
        Where `keep_models` is set: which rows' estimators are kept.
    predictions_ : KeptPredictions
        Where `return_predictions` is set: the kept predictions, by fit and by row.
    timing_ : dict of str to ndarray of shape (n_rows, n_splits, n_repeats)
        Of each fit ``"start"`` (seconds since 1970), ``"worker"``, ``"fit_time"`` and
        ``"score_time"`` (seconds), and ``"skipped"``: whether it was not made, because the
        configuration was known to break a constraint.
    stop_reason_ : str or None
        Why the search was cut short; None where it was not.
    best_estimator_, best_score_, best_index_, scorer_, n_splits_, refit_time_, multimetric_, \
classes_, n_features_in_, feature_names_in_
        As of `GridSearchCV`.

    Raises
    ------
    TypeError, ValueError
        Before any training: an estimator of another kind; a parameter that cannot be tuned while
        training (it is named, and what searches it); a list, or an unbounded range; whatever
        `SelfTuningClassifier` refuses.

    See Also
    --------
    SelfTuningClassifier : One run, with a part of the data held out.
    BayesSearchCV : For learning rates, widths and whatever else has no gradient.

    Notes
    -----
    ``optimizer__weight_decay`` is tuned as a penalty on the weights of layers; torch's optimizers
    decay biases, too. Those that decouple it (AdamW) are refused.

    References
    ----------
    .. [1] MacKay, Vicol, Lorraine, Duvenaud, Grosse, "Self-Tuning Networks: Bilevel Optimization
       of Hyperparameters using Structured Best-Response Functions", ICLR 2019.

    Examples
    --------
    >>> from scipy.stats import loguniform, uniform
    >>> from sklearn.datasets import load_iris
    >>> from skhpo import SelfTuningSearchCV, TorchClassifier
    >>> search = SelfTuningSearchCV(
    ...     TorchClassifier(optimizer="adam", lr=0.02, max_epochs=20),
    ...     {"module__dropout": uniform(0, 0.9), "optimizer__weight_decay": loguniform(1e-6, 0.1)},
    ...     cv=2,
    ...     random_state=0,
    ... )
    >>> search = search.fit(*load_iris(return_X_y=True))
    >>> sorted(search.best_params_), search.best_score_ > 0.9
    (['module__dropout', 'optimizer__weight_decay'], True)
    >>> [name for name in search.cv_results_ if name.endswith("_dropout")]
    ['param_module__dropout', 'split0_module__dropout', 'split1_module__dropout']
    """

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any = None,
        *,
        n_iter: int = 1,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        random_state: Any = None,
        error_score: float | str = np.nan,
        return_train_score: bool = False,
        enqueue: str | Sequence[Mapping[str, Any]] = (),
        journal: str | PathLike[str] | None = None,
        shared: bool = False,
        max_time: float | None = None,
        fit_timeout: float | None = None,
        devices: str | Sequence[str] = "auto",
        callbacks: Sequence[Any] = (),
        confirm: int = 0,
        return_predictions: bool | str = False,
        keep_models: int = 0,
    ) -> None:
        self._set_arguments(locals())

    _parameter_constraints = {
        **BaseTrialSearchCV._parameter_constraints,
        "param_distributions": [dict, None],
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "enqueue": [list, tuple],
    }

    _samples_in_order = True
    n_repeats, warm_start_from, lockstep, asynchronous, keep_from = 1, None, False, False, None
    refit_epochs, early_stopping_on = "same", "inner"

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Run on each fold, then train the estimator under what was found on all data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Target.
        **params : dict of str to object
            Metadata, as in `GridSearchCV`. The rows of a fold that is validation data are not
            weighted.

        Returns
        -------
        self : object
            The fitted search.
        """
        if "validation_data" in params:
            raise ValueError(
                "the validation data of a run is its fold, but validation_data was given; leave it "
                "out, or call fit of the estimator"
            )
        super().fit(X, y, **params)
        return self

    def _subject(self, X: Any, y: Any) -> Subject:
        from ..self_tuning import runs_of
        from ._plan import Subject

        given = self.param_distributions
        runs = runs_of(self.estimator, given and space.translated(given), X, y)
        return Subject(runs.estimator, runs.distributions, runs.starts, [runs.first])

    def _make_scheduler(self, plan: Plan) -> Scheduler:
        from ._checks import check_enqueued

        check_enqueued(self.enqueue, self.n_iter)
        sampler = samplers.RandomSampler(plan.space, plan.random_state)
        return schedulers.FullScheduler(sampler, n_candidates=self.n_iter)

    def _params_of(self, row: int) -> dict[str, Any]:
        """Return what the runs of a row found, averaged over the folds where none failed."""
        from ..self_tuning import average_values

        table, distributions = self.cv_results_, self.param_distributions_
        found = [
            {name: table[f"split{i}_{name}"][row] for name in distributions}
            for i in range(self.n_splits_)
            if f"split{i}_{next(iter(distributions))}" in table
        ]
        found = [one for one in found if np.isfinite(list(one.values())).all()]
        params: dict[str, Any] = table["params"][row]
        return average_values(distributions, found) if found else params
