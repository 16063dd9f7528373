"""How far configurations of a search disagree, and how far seeds alone do."""

from __future__ import annotations

import numpy as np
from sklearn.utils import Bunch

from ._outcomes import read_outcomes

__all__ = ["prediction_churn"]


def prediction_churn(search, rows=None, y=None):
    """Return how far the predictions of configurations differ, beside what seeds alone change.

    Two configurations of the same accuracy may be wrong about different rows. Churn is the share of
    rows whose predicted label differs (Milani Fard et al., 2016). Some of it is there between two
    fits of one configuration that differ in nothing but their seed, which is the baseline.

    Parameters
    ----------
    search : search of this package
        Fitted with ``return_predictions=True``; the baseline needs ``n_repeats=2`` or more.
    rows : list of int or None, default=None
        Rows of ``cv_results_``; None for all that have predictions and a finite score.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        What ``fit`` got; needed only where that is gone (after unpickling, say).

    Returns
    -------
    found : sklearn.utils.Bunch
        With the attributes

        rows : ndarray of int, shape (n_rows,)
            The best first, as everything below.
        scores : ndarray of shape (n_rows,)
            Mean test score of each row.
        churn : ndarray of shape (n_rows, n_rows)
            Between fits of two rows on the same split, the mean over pairs of repeats. Of
            classifiers the share of rows of the data (of labels, where each has several) predicted
            otherwise. Of regressors the root of the mean squared difference in units of the
            residual, the root of the mean of both mean squared errors: 0 where they predict the
            same, 1.4 where their errors have nothing in common. On the diagonal between repeats of
            one row, NaN without repeats.
        seed_churn : ndarray of shape (n_rows,)
            That diagonal.
        fold_churn : ndarray of shape (n_rows,)
            Between fits of one row on other training parts; NaN where no two splits test the same
            row (k folds; `RepeatedKFold` and `ShuffleSplit` do).
        baseline : float
            The median of `seed_churn`.
        both_wrong, one_wrong : ndarray of shape (n_rows, n_rows)
            Shares of rows of the data that both get wrong, and only one of two. Of classifiers.
        error_correlation : ndarray of shape (n_rows, n_rows)
            Pearson correlation of residuals, or of being wrong. NaN where one is always right.
        table : dict of str to ndarray
            Pairs of rows, a table for pandas: ``"row_a"``, ``"row_b"``, ``"score_a"``,
            ``"score_b"``, ``"churn"``, ``"excess"`` (beyond the mean of both `seed_churn`), and
            what there is of `both_wrong`, `one_wrong`, `error_correlation`.
        unit : {"share", "residual"}
            Share of predictions, or units of the residual.
        n_samples : int
            Rows of the data that were tested.

    Raises
    ------
    TypeError
        If `search` is none of this package.
    NotFittedError
        If it is not fitted.
    ValueError
        If it has kept no predictions, or not those of `rows`; fewer than two rows are left; or `y`
        is needed.

    References
    ----------
    .. [1] M. Milani Fard, Q. Cormier, K. Canini, M. Gupta. Launch and Iterate: Reducing Prediction
       Churn. NeurIPS 2016.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from skhpo import BayesSearchCV
    >>> from skhpo.inspection import prediction_churn
    >>> search = BayesSearchCV(
    ...     RandomForestClassifier(5),
    ...     {"max_depth": [1, 4]},
    ...     n_iter=2,
    ...     n_repeats=3,
    ...     return_predictions=True,
    ...     random_state=0,
    ... )
    >>> X, y = load_iris(return_X_y=True)
    >>> found = prediction_churn(search.fit(X, y))
    >>> bool(found.churn[0, 1] > found.baseline)
    True
    """
    outcomes = read_outcomes(search, rows, y, "prediction_churn")
    measures = _of_labels if outcomes.classes is not None else _of_numbers
    fits = _between(outcomes, measures)
    between = {name: _over_repeats(values) for name, values in fits.items()}
    churn = between.pop("churn")
    seed_churn = np.diag(churn).copy()
    known = seed_churn[~np.isnan(seed_churn)]
    a, b = np.triu_indices(len(outcomes.rows), k=1)
    return Bunch(
        rows=outcomes.rows,
        scores=outcomes.scores,
        churn=churn,
        seed_churn=seed_churn,
        fold_churn=_between_layers(outcomes, measures),
        baseline=float(np.median(known)) if len(known) else np.nan,
        **between,
        table={
            "row_a": outcomes.rows[a],
            "row_b": outcomes.rows[b],
            "score_a": outcomes.scores[a],
            "score_b": outcomes.scores[b],
            "churn": churn[a, b],
            "excess": churn[a, b] - (seed_churn[a] + seed_churn[b]) / 2,
            **{name: values[a, b] for name, values in between.items()},
        },
        unit="share" if outcomes.classes is not None else "residual",
        n_samples=len(outcomes.y),
    )


def _between(outcomes, measures):
    """Return measures between all fits of a layer, of shape (n_rows, n_repeats) twice."""
    n_rows, n_repeats = outcomes.outputs.shape[:2]
    predicted, true = _answers(outcomes)
    weights = outcomes.covered.sum(axis=1)
    total = {}
    for layer, covered in enumerate(outcomes.covered):
        own = predicted[:, :, layer, covered].reshape(n_rows * n_repeats, covered.sum(), -1)
        for name, values in measures(own, true[covered]).items():
            total[name] = total.get(name, 0) + weights[layer] * values
    shape = (n_rows, n_repeats, n_rows, n_repeats)
    return {name: values.reshape(shape) / weights.sum() for name, values in total.items()}


def _between_layers(outcomes, measures):
    """Return the churn of each row between fits that tested the same data and trained on other."""
    predicted, true = _answers(outcomes)
    n_rows, n_repeats, n_layers = predicted.shape[:3]
    total, weight = np.zeros(n_rows), 0
    for a in range(n_layers):
        for b in range(a):
            both = outcomes.covered[a] & outcomes.covered[b]
            if not both.any():
                continue
            weight += both.sum()
            for row in range(n_rows):
                pair = predicted[row][:, [a, b]][:, :, both].reshape(2 * n_repeats, both.sum(), -1)
                churn = measures(pair, true[both])["churn"]
                churn = churn.reshape(n_repeats, 2, n_repeats, 2)[:, 0, :, 1]
                total[row] += both.sum() * np.diag(churn).mean()
    return total / weight if weight else np.full(n_rows, np.nan)


def _answers(outcomes):
    """Return predictions of shape (n_rows, n_repeats, n_layers, n_tested, n_outputs), targets."""
    if outcomes.classes is not None:
        return outcomes.codes()
    shape = outcomes.outputs.shape[:4]
    return (
        outcomes.outputs.astype(float).reshape(*shape, -1),
        outcomes.y.astype(float).reshape(len(outcomes.y), -1),
    )


def _of_labels(predicted, true):
    """Measure how fits of shape (n_fits, n_tested, n_labels) differ, each pair of them."""
    n_fits = len(predicted)
    flat, wrong = predicted.reshape(n_fits, -1), (predicted != true).reshape(n_fits, -1)
    same = sum(_products(flat == label) for label in np.unique(flat))
    both = _products(wrong) / flat.shape[1]
    share = np.diag(both)
    return {
        "churn": 1 - same / flat.shape[1],
        "both_wrong": both,
        "one_wrong": share[:, None] + share - 2 * both,
        "error_correlation": _correlation(wrong),
    }


def _of_numbers(predicted, true):
    """Measure how predictions of shape (n_fits, n_tested, n_outputs) differ, each pair of them."""
    squares, correlations = [], []
    for output in range(true.shape[1]):
        residuals = predicted[:, :, output] - true[:, output]
        products = _products(residuals) / residuals.shape[1]
        unit = (np.diag(products)[:, None] + np.diag(products)) / 2
        distance = np.maximum(2 * (unit - products), 0)
        squares.append(np.divide(distance, unit, out=np.zeros_like(unit), where=unit > 0))
        correlations.append(_correlation(residuals))
    return {
        "churn": np.sqrt(np.mean(squares, axis=0)),
        "error_correlation": np.mean(correlations, axis=0),
    }


def _products(values):
    values = values.astype(float)
    return values @ values.T


def _correlation(values):
    centred = values - values.mean(axis=1, keepdims=True)
    products = _products(centred)
    scale = np.sqrt(np.outer(np.diag(products), np.diag(products)))
    return np.divide(products, scale, out=np.full_like(products, np.nan), where=scale > 0)


def _over_repeats(values):
    """Return the mean over pairs of repeats; of a row with itself over pairs of different ones."""
    mean = values.mean(axis=(1, 3))
    n_rows, n_repeats = values.shape[:2]
    for row in range(n_rows):
        own = values[row, :, row]
        pairs = own[~np.eye(n_repeats, dtype=bool)]
        mean[row, row] = pairs.mean() if len(pairs) else np.nan
    return mean
