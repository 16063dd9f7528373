"""Are two rows of a search different?"""

from __future__ import annotations

from numbers import Real

import numpy as np
from scipy.stats import t as student_t
from sklearn.utils import Bunch, check_random_state

from ..arguments import NON_NEGATIVE, Number, check_arguments
from ._reading import read_search

__all__ = ["compare"]

# Draws from the posterior of the signed ranks: probabilities are then known to 0.2%.
_N_DRAWS = 50_000
# How many scores the prior, that both are equal, is worth (Benavoli et al., 2017).
_PRIOR = 0.5


def compare(source, row_a, row_b, *, metric=None, rope=0.01, test_share=None, random_state=0):
    """Find out whether two rows of a search are different, or chance of the folds.

    Scores are paired over splits; repeats under other seeds are averaged.

    Parameters
    ----------
    source : estimator, str, path-like, (dict, dict or list of dict), or SearchRecord
        As of `read_search`.
    row_a, row_b : int
        Rows of ``cv_results_``.
    metric : str or None, default=None
        Which score; None is the one that counts.
    rope : float, default=0.01
        Region of practical equivalence: differences up to that, in units of the score, do not
        matter to you.
    test_share : float in (0, 1) or None, default=None
        How much of the rows of data a split's test part has; None is 1 / n_splits, as in k folds.
        Training parts overlap, so that scores depend on each other.
    random_state : int, RandomState or None, default=0
        For the draws behind the probabilities.

    Returns
    -------
    found : sklearn.utils.Bunch
        With the attributes

        difference : float
            Mean score of a less that of b.
        interval : (float, float)
            95% confidence interval of the difference, corrected.
        t, p_value : float
            Of the corrected resampled t test (Nadeau and Bengio, 2003), two-sided.
        better, equivalent, worse : float
            Probabilities that a is better than b by more than `rope`, as good, or worse, by the
            Bayesian signed-rank test (Benavoli et al., 2017, section 4.2). They sum to 1.
        n_splits : int
            Number of splits that both rows have.
        metric : str
            Name of the metric.

    Raises
    ------
    ValueError
        If there are no such rows, fits of theirs failed, or there is only one split.
    TypeError, NotFittedError, JournalError
        As of `read_search`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skhpo.inspection import compare
    >>> search = GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 3, 4]})
    >>> found = compare(search.fit(*load_iris(return_X_y=True)), 1, 0)
    >>> bool(found.p_value < 0.001), bool(found.better > 0.9)
    (True, True)
    """
    check_arguments(
        "compare",
        {"rope": [NON_NEGATIVE], "test_share": [Number(Real, 0, 1, closed="neither"), None]},
        rope=rope,
        test_share=test_share,
    )
    record = read_search(source)
    metric = record.checked_metric(metric)
    scores = [_scores(record, metric, row) for row in (row_a, row_b)]
    differences = scores[0] - scores[1]
    n = len(differences)
    if n < 2:
        raise ValueError(
            "two rows are compared over at least 2 splits, but this search has 1; search with cv=5"
        )
    share = 1 / n if test_share is None else test_share
    mean = float(differences.mean())
    std = float(np.sqrt((1 / n + share / (1 - share)) * differences.var(ddof=1)))
    reach = std * float(student_t.ppf(0.975, n - 1))
    t = mean / std if std > 0 else float(np.sign(mean)) * np.inf if mean else 0.0
    better, equivalent, worse = _signed_ranks(differences, rope, check_random_state(random_state))
    return Bunch(
        difference=mean,
        interval=(mean - reach, mean + reach),
        t=t,
        p_value=2 * float(student_t.sf(abs(t), n - 1)),
        better=better,
        equivalent=equivalent,
        worse=worse,
        n_splits=n,
        metric=metric,
    )


def _scores(record, metric, row):
    if isinstance(row, bool) or not isinstance(row, int | np.integer):
        raise ValueError(f"a row must be an integer from 0, but got {row!r}")
    if not 0 <= row < record.n_rows:
        raise ValueError(f"a row must be below {record.n_rows}, the number of rows, but got {row}")
    scores = record.scores[metric][row].mean(axis=1)
    if not np.isfinite(scores).all():
        raise ValueError(
            f"two rows are compared by finite scores, but row {row} has {scores.tolist()}: fits "
            "failed, are not finished, or were left out by racing or a fold schedule; compare "
            "another row"
        )
    return scores


def _signed_ranks(differences, rope, rng):
    """Return how often a Dirichlet process finds sums of pairs above, inside and below the rope."""
    z = np.concatenate([[0.0], differences])
    sums = z[:, None] + z[None, :]
    weights = rng.dirichlet(np.concatenate([[_PRIOR], np.ones(len(differences))]), _N_DRAWS)
    above = np.einsum("si,ij,sj->s", weights, sums > 2 * rope, weights, optimize=True)
    below = np.einsum("si,ij,sj->s", weights, sums < -2 * rope, weights, optimize=True)
    shares = np.stack([above, 1.0 - above - below, below])
    winners = shares >= shares.max(axis=0) - 1e-12
    probabilities = (winners / winners.sum(axis=0)).mean(axis=1)
    return tuple(map(float, probabilities))
