"""Kept predictions of many rows of a search, and a metric of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier, is_regressor
from sklearn.metrics import check_scoring
from sklearn.utils.validation import check_is_fitted

from .._compat import (
    MultimetricScorer,
    PassthroughScorer,
    metadata_of_scorer,
    num_samples,
    routing_enabled,
    scorer_parts,
)
from ..ensembles import OutputMetric
from ..rows import take_rows
from ..scorers import resolved
from ..wrappers import owner_of

if TYPE_CHECKING:
    from ..evaluation import PredictionKind
    from ._kept import KeptPredictions

__all__ = ["OutOfFold", "check_metric", "check_predicts", "metric_of", "read_kept"]


@dataclass(frozen=True)
class OutOfFold:
    """Predictions for rows that the fits had not seen, of some rows of ``cv_results_``.

    A *layer* has splits that test no row twice, so that what it has for a row of the data is the
    prediction of a single fit. The splits of `KFold` are one layer, those of `RepeatedKFold` one
    per repetition.

    Parameters
    ----------
    rows : list of int
        Of ``cv_results_``.
    outputs : ndarray of shape (n_rows, n_repeats, n_layers, n_tested[, n_outputs])
        0 where a layer has none.
    covered : ndarray of bool, shape (n_layers, n_tested)
        Whether a layer has some.
    tested : ndarray of int, shape (n_tested,)
        Rows of the data that some split tests.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import RepeatedKFold
    >>> from sklearn.svm import SVC
    >>> from skhpo import BayesSearchCV
    >>> from skhpo.model_selection import OutOfFold
    >>> search = BayesSearchCV(
    ...     SVC(),
    ...     {"C": [0.1, 1.0]},
    ...     n_iter=2,
    ...     cv=RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
    ...     return_predictions="decision_function",
    ... )
    >>> search = search.fit(*load_iris(return_X_y=True))
    >>> found = OutOfFold.of(search.predictions_, rows=[0, 1])
    >>> found.outputs.shape, found.covered.all()
    ((2, 1, 2, 150, 3), np.True_)
    """

    rows: list[int]
    outputs: NDArray[Any]
    covered: NDArray[np.bool_]
    tested: NDArray[np.intp]

    @classmethod
    def of(cls, kept: KeptPredictions, rows: Sequence[int]) -> OutOfFold:
        """Read what was kept of some rows, one at least."""
        layers = _layers(kept.test_rows)
        tested = np.unique(np.concatenate(kept.test_rows))
        place = np.full(kept.n_samples, -1)
        place[tested] = np.arange(len(tested))
        shape = (len(rows), kept.n_repeats, len(layers), len(tested))
        outputs: Any = None
        covered = np.zeros(shape[2:], dtype=bool)
        for i, row in enumerate(rows):
            for layer, splits in enumerate(layers):
                for split in splits:
                    there = place[kept.test_rows[split]]
                    covered[layer, there] = True
                    for repeat in range(kept.n_repeats):
                        found = kept.of_fit(row, split, repeat)
                        if outputs is None:
                            outputs = np.zeros((*shape, *found.shape[1:]), dtype=found.dtype)
                        outputs = outputs.astype(
                            np.promote_types(outputs.dtype, found.dtype), copy=False
                        )
                        outputs[i, repeat, layer, there] = found
        return cls(list(rows), outputs, covered, tested)

    def scores(
        self, metric: OutputMetric, outputs: NDArray[Any], weights: NDArray[Any] | None = None
    ) -> NDArray[np.float64]:
        """Return scores of outputs, the mean over layers.

        Parameters
        ----------
        metric : OutputMetric
            Of the tested rows.
        outputs : ndarray of shape (n_candidates, n_layers, n_tested[, n_outputs])
        weights : ndarray of int, shape (n_resamples, n_tested), or None, default=None

        Returns
        -------
        ndarray of shape (n_candidates,) or (n_resamples, n_candidates)
        """
        once = np.ones((1, len(self.tested)), dtype=int) if weights is None else weights
        by_layer = [
            metric.scores(outputs[:, layer], once * covered)
            for layer, covered in enumerate(self.covered)
        ]
        mean = np.mean(by_layer, axis=0)
        return np.asarray(mean[0] if weights is None else mean)


def _layers(test_rows: Sequence[NDArray[np.intp]]) -> list[list[int]]:
    """Divide splits, each into the first layer where it tests no row that is tested there."""
    layers: list[tuple[list[int], set[int]]] = []
    for split, rows in enumerate(test_rows):
        own = set(rows.tolist())
        for splits, there in layers:
            if not own & there:
                splits.append(split)
                there |= own
                break
        else:
            layers.append(([split], own))
    return [splits for splits, _ in layers]


def metric_of(
    search: Any, metric: Any, y: Any, found: OutOfFold, *, weight: Any = None, call: str = ""
) -> OutputMetric:
    """Return a metric of the tested rows, which weighs them where the scores of the search did.

    Parameters
    ----------
    search : BaseTrialSearchCV
        Fitted, with predictions.
    metric : str, callable or None
        A scorer of scikit-learn or its name; None for what guides the search.
    y : array-like
        Of all rows.
    found : OutOfFold
    weight : array-like or None, default=None
        Of all rows, as ``fit`` got them; None for those, where they are still there.
    call : str, default=""
        With which it can be given, for messages.

    Raises
    ------
    ValueError
        If it cannot be computed from what was kept, `y` is not what ``fit`` got, or weights are
        gone.
    """
    kept, inputs = search.predictions_, search._refit_inputs
    own, classes = _targets(kept, y, found)
    scorer = _scorer(search, search.scorer_, metric)
    if _weighs(scorer, inputs.names, metric, routed=inputs.routed):
        weight = inputs.argument("sample_weight") if weight is None else weight
        if weight is None:
            raise ValueError(
                "the metric must weigh rows as the scores of the search did, but the sample_weight "
                f"that fit got is gone, because a search keeps no data; give it: {call}"
            )
        if np.shape(weight) != (kept.n_samples,):
            raise ValueError(
                f"sample_weight must be what fit got, {kept.n_samples} numbers, but its shape is "
                f"{np.shape(weight)}"
            )
        weight = np.asarray(weight)[found.tested]
    else:
        weight = None
    return OutputMetric(scorer, own, method=kept.method, classes=classes, sample_weight=weight)


def _weighs(scorer: Any, names: Iterable[str], metric: Any, *, routed: bool) -> bool:
    """Return whether a scorer gets weights of what ``fit`` got; ValueError if it gets more."""
    used = metadata_of_scorer(scorer, names, routed=routed)
    if used - {"sample_weight"}:
        raise ValueError(
            "a metric of kept predictions gets no metadata but sample_weight, but "
            f"{'the metric of the search' if metric is None else metric} requests {sorted(used)}; "
            "give another metric"
        )
    return bool(used)


def read_kept(
    search: Any, y: Any, what: str, rows: Sequence[int] | None = None
) -> tuple[OutOfFold, NDArray[Any], NDArray[Any] | None]:
    """Return what a search has kept, and the targets that it was meant to hit.

    Parameters
    ----------
    search : BaseTrialSearchCV
        Fitted, with ``return_predictions=True``.
    y : array-like or None
        What ``fit`` got; None where that is still there.
    what : str
        Function that asks, for messages.
    rows : list of int or None, default=None
        Of ``cv_results_``; None for all that are kept and may be the best.

    Returns
    -------
    found : OutOfFold
        The predictions.
    y : ndarray of shape (n_tested,) or (n_tested, n_outputs)
        The targets of the rows that were predicted.
    classes : ndarray of shape (n_classes,) or (n_labels, 2), or None
        As of `OutputMetric`; None for a regressor.

    Raises
    ------
    NotFittedError
        If the search is not fitted.
    ValueError
        If nothing was kept, or not those rows; or `y` is needed, or is not what ``fit`` got.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from skhpo import BayesSearchCV
    >>> from skhpo.model_selection import read_kept
    >>> X, y = load_iris(return_X_y=True)
    >>> search = BayesSearchCV(
    ...     RandomForestClassifier(5), {"max_depth": [1, 2]}, n_iter=2, return_predictions=True
    ... )
    >>> found, targets, classes = read_kept(search.fit(X, y), y, "my_function")
    >>> found.rows, found.outputs.shape, targets.shape, classes.tolist()
    ([0, 1], (2, 1, 1, 150, 3), (150,), [0, 1, 2])
    """
    check_is_fitted(search, "cv_results_")
    known = search._rows_to_average("refit", what)
    y = search._targets(y, f"{what}(search, y=y)")
    found = OutOfFold.of(search.predictions_, known if rows is None else rows)
    return found, *_targets(search.predictions_, y, found)


def _targets(
    kept: KeptPredictions, y: Any, found: OutOfFold
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the targets of the tested rows, and the classes."""
    if num_samples(y) != kept.n_samples:
        raise ValueError(f"y must be what fit got, {kept.n_samples} rows, but has {num_samples(y)}")
    own = np.asarray(take_rows(y, found.tested))
    classes = _classes(kept.classes)
    if own.ndim == 2 and own.shape[1] == 1 and classes is not None:
        own = own[:, 0]
    if classes is not None and classes.ndim == 1 and not np.isin(own, classes).all():
        other = np.setdiff1d(own, classes)[:3].tolist()
        raise ValueError(f"y must be what fit got, but has labels that were not there: {other}")
    kept.check_targets(y)
    return own, classes


def check_predicts(estimator: Any, what: str) -> None:
    """Raise ValueError unless an estimator is a classifier or a regressor."""
    if not (is_classifier(estimator) or is_regressor(estimator)):
        raise ValueError(
            f"{what} needs a classifier or a regressor, but {type(estimator).__name__} is neither"
        )


def check_metric(
    search: Any, scorer: Any, kind: PredictionKind, y: Any, names: Iterable[str]
) -> None:
    """Raise ValueError if the metric of a search cannot be computed from what it is going to keep.

    Parameters
    ----------
    search : BaseTrialSearchCV
    scorer : callable
        Of the search.
    kind : PredictionKind
    y : array-like
    names : iterable of str
        Metadata that ``fit`` got.
    """
    check_predicts(search.estimator, f"refit={search.refit!r}")
    own = _scorer(search, scorer, None)
    _weighs(own, names, None, routed=routing_enabled())
    OutputMetric(
        own,
        np.asarray(y),
        method=kind.method,
        classes=_classes(kind.classes),
    )


def _classes(classes: Any) -> NDArray[Any] | None:
    if not isinstance(classes, tuple):
        return None if classes is None else np.asarray(classes)
    if any(not set(one.tolist()) <= {0, 1} for one in classes):
        raise ValueError(
            "outputs of several labels can only be averaged where labels are 0 or 1, but some have "
            f"the classes {classes[0].tolist()}; search for each output by itself"
        )
    return np.tile([0, 1], (len(classes), 1))


def _scorer(search: Any, scorer: Any, metric: Any) -> Any:
    """Return the scorer of a metric, or of a search: one that asks for outputs and nothing else."""
    if metric is not None:
        scorer = check_scoring(search.estimator, scoring=resolved(metric))
        return _checked(scorer, search, metric)
    several = scorer._scorers if isinstance(scorer, MultimetricScorer) else scorer
    if isinstance(several, dict):
        name = search.refit if search.refit in several else next(iter(several))
        return _checked(several[name], search, name)
    return _checked(scorer, search, search.scoring)


def _checked(scorer: Any, search: Any, metric: Any) -> Any:
    if isinstance(scorer, PassthroughScorer):
        owner, _ = owner_of(search.estimator)
        known = type(owner).score.__module__.partition(".")[0] in ("sklearn", "skorch", "skhpo")
        if not known:
            raise ValueError(
                f"the score of a {type(owner).__name__} is its own, and cannot be computed from "
                "kept predictions; give a metric by its name"
            )
        return scorer
    if scorer_parts(scorer) is None:
        raise ValueError(
            "a metric of kept predictions must be a name or made by make_scorer, because another "
            f"function may look at the estimator or at X, but got {metric!r}"
        )
    return scorer
