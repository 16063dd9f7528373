"""On how many splits the fits of a trial are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["FoldSchedule"]


@dataclass(frozen=True)
class FoldSchedule:
    """Numbers of splits by level of resource, nested: a trial is fitted on the first ones.

    The other fits of a trial are left out: their results are there at once, without a score. A
    candidate that goes on to a level with more splits is continued on those that it has, and
    trained from the start on the others, through the same levels.

    Parameters
    ----------
    n_splits : int
        Of the search.
    by_level : mapping of int to int, default={}
        Numbers of splits; at other levels a trial is fitted on all.
    """

    n_splits: int
    by_level: Mapping[int, int] = field(default_factory=dict)

    def n_done(self, level: int | None) -> int:
        """Return on how many splits a trial with so much of the resource is fitted."""
        return self.n_splits if level is None else self.by_level.get(level, self.n_splits)

    def added(self, before: int | None, level: int, *, continues: bool = True) -> list[int]:
        """Return how much of the resource a trial uses on each split.

        Parameters
        ----------
        before : int or None
            Resource of the trial that it continues; None if it is the first of its candidate.
        level : int
            Its own.
        continues : bool, default=True
            Whether fits are continued; else all are made from the start.
        """
        n_continued = self.n_done(before) if continues and before is not None else 0
        n_done = self.n_done(level)
        return [
            (level - (before or 0) if split < n_continued else level) if split < n_done else 0
            for split in range(self.n_splits)
        ]
