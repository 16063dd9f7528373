"""Which members an ensemble has, and how much each counts: greedy selection on arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

__all__ = ["select_members"]

# Numbers that are averaged at a time.
_MOST_NUMBERS = 2**24

Score = Callable[[NDArray[Any]], NDArray[np.float64]]


def select_members(
    outputs: NDArray[Any],
    score: Score,
    n_members: int = 20,
    *,
    n_initial: int = 0,
    n_bags: int = 1,
    bag_fraction: float = 0.5,
    random_state: Any = None,
) -> NDArray[np.intp]:
    """Select candidates, with replacement, whose average scores best [1]_.

    Whichever candidate improves the score of the average most is added, `n_members` times in all.
    Of the averages on the way the best one is returned, the smallest of equal ones.

    Parameters
    ----------
    outputs : ndarray of shape (n_candidates, n_samples, ...)
        What candidates predict for rows that they were not trained on; finite numbers.
    score : callable
        From averages, of the shape of `outputs`, to the score of each, larger being better; NaN is
        worse than anything.
    n_members : int, default=20
        Selected candidates, each as often as it is selected.
    n_initial : int, default=0
        "Sorted initialisation" (section 2.2 of the paper): start from the average of at most so
        many of the best candidates, as many as score best together.
    n_bags : int, default=1
        "Bagged selection" (section 2.3): select from so many random subsets of the candidates, and
        add up. 1 selects from all.
    bag_fraction : float, default=0.5
        Share of the candidates in each subset.
    random_state : int, RandomState or None, default=None
        Of the subsets.

    Returns
    -------
    counts : ndarray of int, shape (n_candidates,)
        How often each was selected.

    Raises
    ------
    ValueError
        If an output is not finite, no candidate has a score, or a number is out of its range.

    References
    ----------
    .. [1] R. Caruana, A. Niculescu-Mizil, G. Crew, A. Ksikes. Ensemble Selection from Libraries of
       Models. ICML 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from skhpo.ensembles import select_members
    >>> y = np.array([1.0, 2.0, 3.0])
    >>> outputs = np.array([y + 1, y - 1, y + 5])
    >>> def score(averages):
    ...     return -np.square(averages - y).mean(axis=1)
    >>> select_members(outputs, score)
    array([1, 1, 0])
    """
    outputs = np.asarray(outputs)
    _check(outputs, n_members, n_initial, n_bags, bag_fraction)
    alone = score(outputs)
    if np.isnan(alone).all():
        raise ValueError("at least one candidate must have a score, but all scores are NaN")
    if n_bags == 1:
        return _select(outputs, score, alone, n_members, n_initial)
    random = check_random_state(random_state)
    n = len(outputs)
    size = max(1, round(bag_fraction * n))
    counts = np.zeros(n, dtype=np.intp)
    for _ in range(n_bags):
        bag = np.sort(random.choice(n, size, replace=False))
        if not np.isnan(alone[bag]).all():
            counts[bag] += _select(outputs[bag], score, alone[bag], n_members, n_initial)
    return counts


def _check(
    outputs: NDArray[Any], n_members: int, n_initial: int, n_bags: int, bag_fraction: float
) -> None:
    if outputs.ndim < 2 or not outputs.size:
        raise ValueError(
            "outputs must have the shape (n_candidates, n_samples, ...) and be of some, but their "
            f"shape is {outputs.shape}"
        )
    if not np.isfinite(outputs).all():
        raise ValueError(
            "outputs must be finite, because averages of others say nothing, but some are not; "
            "leave out their candidates, or the rows that no split tested"
        )
    if not (n_members >= 1 and 0 <= n_initial <= n_members):
        raise ValueError(
            f"0 <= n_initial <= n_members and n_members >= 1 must hold, but got (n_initial="
            f"{n_initial}, n_members={n_members})"
        )
    if not (n_bags >= 1 and 0 < bag_fraction <= 1):
        raise ValueError(
            f"n_bags >= 1 and 0 < bag_fraction <= 1 must hold, but got (n_bags={n_bags}, "
            f"bag_fraction={bag_fraction})"
        )


def _select(
    outputs: NDArray[Any],
    score: Score,
    alone: NDArray[np.float64],
    n_members: int,
    n_initial: int,
) -> NDArray[np.intp]:
    counts = np.zeros(len(outputs), dtype=np.intp)
    total = np.zeros(outputs.shape[1:])
    best_score, best = -np.inf, counts
    order = np.argsort(-np.where(np.isnan(alone), -np.inf, alone), kind="stable")
    for step in range(n_members):
        # The initial ones are the best by themselves; then the best average so far goes on.
        if step < n_initial and step < len(order) and not np.isnan(alone[order[step]]):
            chosen = int(order[step])
            reached = _scores_with(outputs[[chosen]], total, step, score)[0]
        else:
            if step == n_initial and best.any():
                counts = best.copy()
                total = np.tensordot(counts, outputs, axes=1)
            n = int(counts.sum())
            scores = _scores_with(outputs, total, n, score) if n else alone
            chosen = int(np.argmax(np.where(np.isnan(scores), -np.inf, scores)))
            reached = scores[chosen]
        counts[chosen] += 1
        total = total + outputs[chosen]
        if reached > best_score:
            best_score, best = reached, counts.copy()
    return best


def _scores_with(
    outputs: NDArray[Any], total: NDArray[Any], n: int, score: Score
) -> NDArray[np.float64]:
    """Return the score of the average with each candidate added to `n` others."""
    step = max(1, _MOST_NUMBERS // max(1, total.size))
    return np.concatenate(
        [
            score((total + outputs[start : start + step]) / (n + 1))
            for start in range(0, len(outputs), step)
        ]
    )
