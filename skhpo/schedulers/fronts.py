"""The candidates to promote from a rung along fronts, updated with each result."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..objectives import promotion_order, total_violation

__all__ = ["FrontContenders"]


class FrontContenders:
    """Candidates with a score that may be promoted, in the order of `promotion_order`.

    Those of a front before the next one, and inside a front such that the promoted ones are far
    apart; infeasible ones follow by their violation. One that failed (NaN) is never promoted. The
    interface is that of `Contenders` (`halving.py`): equal ones rank by candidate number, and
    nothing depends on the order in which they are added.

    Which points of a front are promoted is known when all of a rung are there. A candidate is out
    before that when there are as many better ones as slots.
    """

    def __init__(self, slots: int) -> None:
        self._slots = self._n_slots = slots
        # Of all that are not out, the promoted ones too: a front is one of all.
        self._candidates = np.empty(0, dtype=np.intp)
        self._values: NDArray[np.float64] = np.empty((0, 0))
        self._violation = np.empty(0)
        self._n_better = np.empty(0, dtype=np.intp)
        self._promoted: set[int] = set()

    def __len__(self) -> int:
        return min(self._slots, len(self._candidates) - len(self._promoted))

    @property
    def members(self) -> list[int]:
        """All candidates that may be promoted yet."""
        return [int(one) for one in self._candidates if int(one) not in self._promoted]

    @property
    def ranked(self) -> list[int]:
        """As many as there are slots, the best first."""
        rows = np.argsort(self._candidates)
        order = rows[promotion_order(self._values[rows], self._violation[rows, None])]
        best = [int(one) for one in self._candidates[order] if int(one) not in self._promoted]
        return best[: self._slots]

    def add(self, candidate: int, values: NDArray[Any], violations: NDArray[Any]) -> list[int]:
        """Record values and violations; return the candidates that are now out."""
        if np.isnan(values).any() or not self._slots:
            return [candidate]
        (violation,) = total_violation(violations[None])
        if not len(self._candidates):
            self._values = np.empty((0, len(values)))
        new, known = (values, violation), (self._values, self._violation)
        worse, better = _is_better(new, known), _is_better(known, new)
        self._n_better += worse
        self._candidates = np.append(self._candidates, candidate)
        self._values = np.vstack([self._values, values])
        self._violation = np.append(self._violation, violation)
        self._n_better = np.append(self._n_better, better.sum())
        return self._drop(self._n_better >= self._n_slots)

    def take(self) -> int:
        """Promote the best candidate: return it, and use up its slot."""
        best = self.ranked[0]
        self._promoted.add(best)
        self._slots -= 1
        return best

    def close(self) -> list[int]:
        """Keep only those that have a slot, because no further ones come; return the others."""
        return self._drop(~np.isin(self._candidates, self.ranked))

    def rest(self) -> list[int]:
        """Return the candidates for which no slot is left."""
        return [] if self._slots else self.close()

    def _drop(self, out: NDArray[np.bool_]) -> list[int]:
        out &= ~np.isin(self._candidates, list(self._promoted))
        dropped: list[int] = self._candidates[out].tolist()
        if dropped:
            self._candidates, self._values = self._candidates[~out], self._values[~out]
            self._violation, self._n_better = self._violation[~out], self._n_better[~out]
        return dropped


Measured = tuple[NDArray[Any], Any]  # values, and violations


def _is_better(one: Measured, other: Measured) -> NDArray[np.bool_]:
    """Whether one is feasible and dominates the other, or is less infeasible."""
    (values, violation), (others, violation_of_others) = one, other
    dominates = (values >= others).all(axis=1) & (values > others).any(axis=1)
    both_feasible = (violation == 0) & (violation_of_others == 0)
    return np.where(both_feasible, dominates, violation < violation_of_others)
