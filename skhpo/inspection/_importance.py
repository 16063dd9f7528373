"""Which hyperparameters matter, and how sure that is."""

from __future__ import annotations

from numbers import Real

import numpy as np
from sklearn.utils import Bunch, check_random_state

from .._compat import StrOptions
from ..arguments import COUNT, Number, check_arguments
from ._fanova import fanova
from ._gp_indices import gp_indices
from ._ped_anova import PedAnova
from ._permutation import permutation
from ._reading import read_search
from ._record import diverged_below

__all__ = ["checked_rows", "hyperparameter_importance", "variances_of_means"]

_CONSTRAINTS = {
    "method": [StrOptions({"fanova", "ped_anova", "gp", "permutation"})],
    "region": [Number(Real, 0, 1, closed="right"), None],
    "n_bootstrap": [COUNT],
}
# Fewer scores say nothing of which parameter they depend on.
_FEWEST_ROWS = 10


def hyperparameter_importance(
    source,
    *,
    method="fanova",
    metric=None,
    resource="largest",
    region=None,
    n_bootstrap=100,
    random_state=None,
):
    """Find out which hyperparameters matter to the score, and how sure that is.

    Parameters
    ----------
    source : estimator, str, path-like, (dict, dict or list of dict), or SearchRecord
        As of `read_search`.
    method : {"fanova", "ped_anova", "gp", "permutation"}, default="fanova"
        What importance is:

        * "fanova": the share of the score's variance over the space that a parameter explains by
          itself (first-order Sobol index), by a random forest (Hutter et al., 2014, calibrated
          on the rows that trees have not seen). Takes any number of rows.
        * "gp": the same share, by the Gaussian process of `BayesSearchCV`. Best for few rows, up
          to some hundred.
        * "ped_anova": how differently the best rows are spread over a parameter than the others
          (Watanabe et al., 2023); they sum to 1. It asks what makes a row one of the best, not
          what moves the score, and takes a `region`.
        * "permutation": by how much a forest's squared error grows where the parameter's values
          are shuffled (Breiman, 2001), over the variance of the scores. Interactions of a
          parameter are in it.
    metric : str or None, default=None
        Which score; None is the one that counts.
    resource : "largest", "all" or number, default="largest"
        Rows of which level of the resource.
    region : float in (0, 1] or None, default=None
        For "ped_anova": the best share of rows that is looked at, 0.1 for what matters among the
        best tenth. None is the whole space.
    n_bootstrap : int, default=100
        Replicates for the intervals: bootstrap samples of rows, functions drawn from the
        posterior with "gp".
    random_state : int, RandomState or None, default=None
        The seed.

    Returns
    -------
    found : sklearn.utils.Bunch
        With the attributes

        names : list of str
            The parameters, the most important first.
        importances_mean : ndarray of shape (n_params,)
            The estimate. A parameter of one value has 0.
        importances_std : ndarray of shape (n_params,)
            Standard deviation of the replicates.
        importances : ndarray of shape (n_params, n_bootstrap)
            The replicates. Those of "fanova" and "gp" also have what a parameter explains of the
            residuals of unseen rows, of which the estimate has nothing.
        intervals : ndarray of shape (n_params, 2)
            What 95% of the replicates are in, and the estimate.
        interactions : dict of str to ndarray
            Pairs, the strongest first: ``"first"``, ``"second"``, ``"importance"``, ``"std"``;
            the share of variance that two parameters explain together beyond each alone. A table
            for pandas. Empty with "ped_anova" and "permutation".
        noise_share : float
            How much of the variance of the rows' mean scores is chance of folds and seeds: the
            variance of a mean, over that of the means; NaN of a single fit for each row.
        table : dict of str to ndarray
            ``"param"``, ``"importance"``, ``"std"``, ``"low"``, ``"high"``: a table for pandas.
        method, metric : str
            As used.
        n_rows : int
            How many rows it is made of.

    Raises
    ------
    ValueError
        If there are fewer rows than the method needs, all of them score the same, an argument is
        out of its range, or there is no such metric or level.
    TypeError, NotFittedError, JournalError
        As of `read_search`.

    Notes
    -----
    In a conditional space (a list of dicts) each dict is as likely as any other, and not to have
    a parameter counts as one of its values. Lists of numbers are ordered. Rows that failed are
    left out; scores that have diverged, far below the lower quartile, count as much as the edge of
    the others (3 distances between the quartiles below it, where a box plot has its far outliers).

    Examples
    --------
    >>> from scipy.stats import loguniform, uniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import RandomizedSearchCV
    >>> from sklearn.svm import SVC
    >>> from skhpo.inspection import hyperparameter_importance
    >>> space = {"C": loguniform(1e-3, 1e3), "gamma": loguniform(1e-4, 1), "coef0": uniform(0, 1)}
    >>> search = RandomizedSearchCV(SVC(), space, n_iter=40, random_state=0)
    >>> found = hyperparameter_importance(search.fit(*load_iris(return_X_y=True)), random_state=0)
    >>> found.names
    ['C', 'gamma', 'coef0']
    >>> bool(found.intervals[0, 0] > found.importances_mean[2])
    True
    """
    check_arguments(
        "hyperparameter_importance",
        _CONSTRAINTS,
        method=method,
        region=region,
        n_bootstrap=n_bootstrap,
    )
    if region is not None and method != "ped_anova":
        raise ValueError(
            f'only method="ped_anova" looks at a region, but got region={region} with '
            f"method={method!r}; leave one of them out"
        )
    record = read_search(source)
    share = 1.0 if region is None else float(region)
    needed = PedAnova.n_needed(share) if method == "ped_anova" else _FEWEST_ROWS
    rows, y = checked_rows(record, f"method={method!r}", metric, resource, needed)
    u = record.units(rows)
    rng = np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))
    variances = variances_of_means(record, metric, rows)
    if method == "fanova":
        main, pairs = fanova(record.space, u, y, n_bootstrap, rng)
    elif method == "gp":
        main, pairs = gp_indices(record.space, u, y, variances, n_bootstrap, rng)
    elif method == "permutation":
        main, pairs = permutation(record.space, u, y, n_bootstrap, rng)
    else:
        main, pairs = _ped_anova(record.space, u, y, share, n_bootstrap, rng), {}
    return _bunch(
        main,
        pairs,
        noise_share=min(float(np.mean(variances) / y.var(ddof=1)), 1.0),
        method=method,
        metric=record.checked_metric(metric),
        n_rows=len(rows),
    )


def checked_rows(record, what, metric, resource, n=_FEWEST_ROWS):
    """Return rows that something can be learned from, and their scores.

    Scores that have diverged are raised to the edge of the others, lest they be all that is seen.
    Raises ValueError if there are fewer than `n`, or all of them score the same.
    """
    rows = record.enough_rows(n, what, metric, resource)
    y = record.means(metric)[rows]
    if np.ptp(y) == 0:
        raise ValueError(
            f"{what} is about what moves the score, but all {len(rows)} rows score {y[0]:.6g}; "
            "take another metric, or a wider space"
        )
    return rows, np.maximum(y, diverged_below(y))


def _ped_anova(space, u, y, region, n_bootstrap, rng):
    whole = PedAnova(space, u)
    by_chance = whole.by_chance(y, region, rng)
    found = {name: [v] for name, v in whole.importances(y, region, by_chance).items()}
    for _ in range(n_bootstrap):
        rows = rng.integers(len(y), size=len(y))
        for name, value in PedAnova(space, u[rows]).importances(y[rows], region, by_chance).items():
            found[name].append(value)
    return {name: np.array(values) for name, values in found.items()}


def variances_of_means(record, metric, rows):
    """Return how much each mean score would vary with other folds and seeds; NaN if unknown.

    What is easier or harder on a split for all rows does not count: it moves all means alike.
    """
    scores = record.scores[record.checked_metric(metric)][rows].reshape(len(rows), -1)
    scores = np.maximum(scores, diverged_below(scores.mean(axis=1)))
    n_fits = scores.shape[1]
    if n_fits < 2:
        return np.full(len(rows), np.nan)
    left = scores - scores.mean(axis=1, keepdims=True)
    left = left - left.mean(axis=0)
    degrees = (n_fits - 1) * (1 - 1 / len(rows))
    return (left**2).sum(axis=1) / degrees / n_fits


def _bunch(main, pairs, **more):
    names = sorted(main, key=lambda name: -main[name][0])
    values = np.array([main[name] for name in names])
    mean, replicates = values[:, 0], values[:, 1:]
    std = replicates.std(axis=1)
    low, high = np.percentile(replicates, [2.5, 97.5], axis=1)
    intervals = np.column_stack([np.minimum(low, mean), np.maximum(high, mean)])
    order = sorted(pairs, key=lambda pair: -pairs[pair][0])
    return Bunch(
        names=names,
        importances_mean=mean,
        importances_std=std,
        importances=replicates,
        intervals=intervals,
        interactions={
            "first": np.array([a for a, _ in order], dtype=object),
            "second": np.array([b for _, b in order], dtype=object),
            "importance": np.array([pairs[pair][0] for pair in order]),
            "std": np.array([pairs[pair][1:].std() for pair in order]),
        },
        table={
            "param": np.array(names, dtype=object),
            "importance": mean,
            "std": std,
            "low": intervals[:, 0],
            "high": intervals[:, 1],
        },
        **more,
    )
