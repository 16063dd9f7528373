"""Which classes, or groups of rows, a hyperparameter moves, and which pay for the best mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.stats import spearmanr
from sklearn.utils import Bunch

from .._compat import StrOptions
from ..arguments import COUNT, check_arguments
from ._importance import hyperparameter_importance
from ._outcomes import read_outcomes
from ._reading import read_search
from ._tables import objects

__all__ = ["class_effects", "equally_good"]

MEASURES = ("recall", "precision", "calibration")
# Rows that a model of scores needs, and from which on it is a forest.
_FEWEST_ROWS = 10
_MANY_ROWS = 100
# Bins of probabilities, and rows that each has at least, else there are fewer.
_N_BINS = 10
_ROWS_OF_A_BIN = 10


def class_effects(
    search, groups=None, y=None, *, explained="recall", n_bootstrap=20, random_state=None
):
    """Return what each configuration does to each class, and which hyperparameters do it.

    Parameters
    ----------
    search : search of this package
        Of a classifier, fitted with ``return_predictions=True``.
    groups : array-like of shape (n_samples,) or None, default=None
        Group of each row of the data (a hospital, a source): effects are then those on groups, the
        means over the classes that are there.
    y : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
        What ``fit`` got; needed only where that is gone (after unpickling, say).
    explained : {"recall", "precision", "calibration"}, default="recall"
        The measure that importances are about: half a second for each class.
    n_bootstrap : int, default=20
        Replicates for the intervals of importances.
    random_state : int, RandomState or None, default=None
        Of the importances.

    Returns
    -------
    found : sklearn.utils.Bunch
        With the attributes

        names : list
            Classes in order (numbers of labels, where each row has several), or groups.
        rows : ndarray of int, shape (n_rows,)
            Of ``cv_results_``, the best first.
        scores : ndarray of shape (n_rows,)
            Mean test score of each row.
        recall, precision : ndarray of shape (n_rows, n_names)
            Precision is NaN where a class was never predicted.
        calibration : ndarray of shape (n_rows, n_names)
            Root of the debiased squared calibration error (Kumar et al., 2019, section 4.1) of
            the class against all others in up to ten bins of equally many rows: how far
            probabilities are from frequencies. NaN where no probabilities were kept.
        equally_good : ndarray of int
            Rows that are as good as the best within one standard error of their difference over
            splits.
        by_name : dict of str to ndarray
            Of each class or group, a table for pandas: ``"name"``, ``"n_samples"``, the best row's
            ``"recall"``, ``"precision"`` and ``"calibration"``; ``"highest_recall"`` among equally
            good rows, and its ``"row"``; ``"cost"``, the difference of the two, which says who
            pays for the best mean; ``"error"``, the binomial standard error of the best row's
            recall; ``"correlation"``, the rank correlation of recall with the score over all rows.
        table : dict of str to ndarray
            A line for each row and name: ``"row"``, ``"score"``, ``"name"``, ``"recall"``,
            ``"precision"``, ``"calibration"``.
        importances : dict of str to ndarray
            How much of the variance of `explained` each hyperparameter explains, as of
            `hyperparameter_importance`, by "gp" up to 100 rows and then by "fanova": ``"name"``,
            ``"param"``, ``"importance"``, ``"low"``, ``"high"``. Nothing where fewer than ten rows
            have the measure, or all of them the same.

    Raises
    ------
    TypeError
        If `search` is none of this package.
    NotFittedError
        If it is not fitted.
    ValueError
        If the estimator is no classifier, no predictions were kept, `y` is needed, or `groups` is
        of another length.

    References
    ----------
    .. [1] A. Kumar, P. Liang, T. Ma. Verified Uncertainty Calibration. NeurIPS 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skhpo import BayesSearchCV
    >>> from skhpo.inspection import class_effects
    >>> search = BayesSearchCV(
    ...     DecisionTreeClassifier(),
    ...     {"max_depth": [1, 3]},
    ...     n_iter=2,
    ...     return_predictions=True,
    ...     random_state=0,
    ... )
    >>> X, y = load_iris(return_X_y=True)
    >>> found = class_effects(search.fit(X, y))
    >>> found.names
    [0, 1, 2]
    >>> found.recall[1].round(1).tolist()  # of a single split into two
    [1.0, 1.0, 0.0]
    """
    check_arguments(
        "class_effects",
        {"explained": [StrOptions(set(MEASURES))], "n_bootstrap": [COUNT]},
        explained=explained,
        n_bootstrap=n_bootstrap,
    )
    outcomes = read_outcomes(search, None, y, "class_effects", 1)
    if outcomes.classes is None:
        raise ValueError(
            "class_effects is about classes, but this search has a regressor; see prediction_churn"
        )
    record = read_search(search)
    names, members = _names(outcomes, groups, search.predictions_.n_samples)
    measured = _measured(outcomes, members)
    good = equally_good(record, outcomes.rows)
    return Bunch(
        names=names,
        rows=outcomes.rows,
        scores=outcomes.scores,
        **measured,
        equally_good=good,
        by_name=_by_name(outcomes, names, members, measured, good),
        table=_table(outcomes, names, measured),
        importances=_importances(
            record, outcomes, names, measured[explained], n_bootstrap, random_state
        ),
    )


def equally_good(record, rows):
    """Return those rows that are as good as the first within one standard error, split by split."""
    scores = record.scores[record.metric][rows].mean(axis=2)
    behind = scores[0] - scores
    n_splits = scores.shape[1]
    if n_splits < 2:
        return rows[:1]
    error = behind.std(axis=1, ddof=1) / np.sqrt(n_splits)
    return rows[behind.mean(axis=1) <= error]


def _names(outcomes, groups, n_samples):
    """Return what there are effects on, and which rows of the data belong to each.

    Members are of shape (n_names, n_tested): for classes whose rows they are, None for groups
    meaning that all classes count.
    """
    if groups is None:
        classes = outcomes.classes
        names = classes.tolist() if classes.ndim == 1 else list(range(len(classes)))
        return names, None
    groups = np.asarray(groups)
    if groups.shape != (n_samples,):
        raise ValueError(
            f"groups must have an entry for each of {n_samples} rows of the data, but its shape is "
            f"{groups.shape}"
        )
    own = groups[outcomes.tested]
    found = np.unique(own)
    return found.tolist(), own == found[:, None]


def _binary(outcomes):
    """Return for each class (or label) who is predicted to have it, who has it, and how surely.

    Returns
    -------
    predicted : ndarray of bool, shape (n_rows, n_fits, n_tested, n_classes)
    true : ndarray of bool, shape (n_tested, n_classes)
    probability : ndarray of the shape of `predicted`, or None
    covered : ndarray of bool, shape (n_fits, n_tested)
    """
    n_rows, n_repeats, n_layers, n_tested = outcomes.outputs.shape[:4]
    codes, true = outcomes.codes()
    codes = codes.reshape(n_rows, n_repeats * n_layers, n_tested, -1)
    if outcomes.classes.ndim == 1:
        numbers = np.arange(len(outcomes.classes))
        codes, true = codes == numbers, true == numbers
    probability = None
    if outcomes.method == "predict_proba":
        probability = outcomes.outputs.astype(float).reshape(codes.shape)
    covered = np.tile(outcomes.covered, (n_repeats, 1))
    return codes.astype(bool), true.astype(bool), probability, covered


def _measured(outcomes, members):
    """Return each measure, of shape (n_rows, n_names)."""
    predicted, true, probability, covered = _binary(outcomes)
    parts = np.ones((1, len(true)), dtype=bool) if members is None else members
    found = {name: [] for name in MEASURES}
    for part in parts:
        counted = covered & part
        weights = counted.astype(float)  # of booleans einsum makes booleans
        right = np.einsum("rftc,ft->rc", predicted & true, weights)
        are = np.einsum("tc,ft->c", true, weights)
        called = np.einsum("rftc,ft->rc", predicted, weights)
        found["recall"].append(_ratio(right, np.broadcast_to(are, right.shape)))
        found["precision"].append(_ratio(right, called))
        found["calibration"].append(_calibration(probability, true, counted, right.shape))
    if members is None:
        return {name: values[0] for name, values in found.items()}
    return {name: _mean_known(np.stack(values, axis=1)) for name, values in found.items()}


def _ratio(part, whole):
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _mean_known(values):
    """Return the mean over the last axis, without NaN."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))


def _calibration(probability, true, counted, shape):
    if probability is None:
        return np.full(shape, np.nan)
    squares = np.full((len(counted), *shape), np.nan)
    for fit, there in enumerate(counted):
        if there.any():
            for row, class_ in np.ndindex(shape):
                given = probability[row, fit, there, class_]
                squares[fit, row, class_] = _squared_error(given, true[there, class_])
    return np.sqrt(np.maximum(_mean_known(np.moveaxis(squares, 0, -1)), 0))


def _squared_error(probability, is_so):
    """Return the debiased squared calibration error; NaN of a single row."""
    if len(is_so) < 2:
        return np.nan
    n_bins = int(np.clip(len(is_so) // _ROWS_OF_A_BIN, 1, _N_BINS))
    total = 0.0
    for rows in np.array_split(np.argsort(probability, kind="stable"), n_bins):
        share = is_so[rows].mean()
        chance = share * (1 - share) / (len(rows) - 1)
        total += len(rows) * ((probability[rows].mean() - share) ** 2 - chance)
    return total / len(is_so)


def _by_name(outcomes, names, members, measured, good):
    _, true, _, covered = _binary(outcomes)
    tested = covered.any(axis=0)
    n_samples = true[tested].sum(axis=0) if members is None else (members & tested).sum(axis=1)
    recall = measured["recall"]
    among = np.flatnonzero(np.isin(outcomes.rows, good))
    filled = np.where(np.isnan(recall[among]), -1, recall[among])
    highest = among[filled.argmax(axis=0)]
    at = np.arange(len(names))
    own = recall[0]
    return {
        "name": objects(names),
        "n_samples": n_samples,
        **{name: values[0] for name, values in measured.items()},
        "highest_recall": recall[highest, at],
        "row": outcomes.rows[highest],
        "cost": recall[highest, at] - own,
        "error": np.sqrt(own * (1 - own) / np.maximum(n_samples, 1)),
        "correlation": np.array([_rank_correlation(outcomes.scores, one) for one in recall.T]),
    }


def _rank_correlation(a, b):
    known = ~np.isnan(b)
    if known.sum() < 3 or np.ptp(a[known]) == 0 or np.ptp(b[known]) == 0:
        return np.nan
    return float(spearmanr(a[known], b[known]).statistic)


def _table(outcomes, names, measured):
    n_rows, n_names = len(outcomes.rows), len(names)
    return {
        "row": np.repeat(outcomes.rows, n_names),
        "score": np.repeat(outcomes.scores, n_names),
        "name": np.tile(objects(names), n_rows),
        **{name: values.ravel() for name, values in measured.items()},
    }


def _importances(record, outcomes, names, values, n_bootstrap, random_state):
    lines = {key: [] for key in ("name", "param", "importance", "low", "high")}
    for name, own in zip(names, values.T, strict=True):
        scores = np.full((record.n_rows, 1, 1), np.nan)
        scores[outcomes.rows, 0, 0] = own
        measured = replace(record, scores={"measure": scores}, metric="measure", chosen=None)
        rows = measured.rows()
        if len(rows) < _FEWEST_ROWS or np.ptp(scores[rows]) == 0:
            continue
        found = hyperparameter_importance(
            measured,
            method="gp" if len(rows) < _MANY_ROWS else "fanova",
            n_bootstrap=n_bootstrap,
            random_state=random_state,
        )
        lines["name"] += [name] * len(found.names)
        for key in ("param", "importance", "low", "high"):
            lines[key] += found.table[key].tolist()
    texts = ("name", "param")
    return {k: objects(v) if k in texts else np.array(v, float) for k, v in lines.items()}
