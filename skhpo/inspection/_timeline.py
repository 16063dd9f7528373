"""Which worker ran which fit when, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Bar", "Timeline", "timeline"]

# A search that is fitted again with its journal has new workers, and imports everything first.
_BETWEEN_RUNS = 1.0


@dataclass(frozen=True, slots=True)
class Bar:
    """What is drawn of a fit, or of several that are too short to be told apart.

    `low` and `high` are the part of the lane, from 0 to 1: fits that were trained together lie
    above one another. `level` is a position in `Timeline.levels`, -1 of failed fits; `row` is that
    of the record, None of several.
    """

    begin: float
    end: float
    lane: int
    low: float
    high: float
    level: int
    row: int | None


@dataclass(frozen=True, eq=False)
class Timeline:
    """When each fit ran, and on which worker.

    Time is in seconds from the first start. Where a search was interrupted and went on later, the
    time between is left out: no fit ran then, and all workers are new.

    Parameters
    ----------
    begin, end : ndarray of shape (n_fits,)
        Fits that were trained together have those of the group.
    lane : ndarray of int, shape (n_fits,)
        Position of the worker. Workers of later runs have the places of earlier ones.
    place, n_together : ndarray of int, shape (n_fits,)
        Place of the fit in its group, and how many that has.
    level : ndarray of int, shape (n_fits,)
        Position in `levels`; -1 where the fit failed.
    row, split, repeat : ndarray of int, shape (n_fits,)
    levels : list
        Of the resource; one None where none varies.
    workers : list of list of str
        Names of the workers of each lane, one for each run in which there was one.
    runs : ndarray of shape (n_runs, 2)
        Begin and end of each.
    pauses : ndarray of shape (n_runs - 1,)
        Seconds between them.
    idle : ndarray of shape (n_lanes, n_runs)
        Seconds of a run in which the worker ran no fit; NaN where the lane had none.
    """

    begin: np.ndarray
    end: np.ndarray
    lane: np.ndarray
    place: np.ndarray
    n_together: np.ndarray
    level: np.ndarray
    row: np.ndarray
    split: np.ndarray
    repeat: np.ndarray
    levels: list
    workers: list
    runs: np.ndarray
    pauses: np.ndarray
    idle: np.ndarray

    @property
    def busy_share(self):
        """Share of the time of all workers in which they ran fits."""
        there = ~np.isnan(self.idle)
        spans = (there * np.diff(self.runs, axis=1).ravel()).sum()
        return 1.0 - float(np.nansum(self.idle)) / spans if spans else 1.0

    def bars(self, shortest=0.0):
        """Return what to draw, a list of `Bar`.

        Fits of a worker and a level that are shorter than `shortest`, the seconds that can be told
        apart, and follow one another more closely, are one bar.
        """
        bars, last = [], {}
        for i in np.lexsort((self.place, self.begin, self.lane)).tolist():
            lane, level = int(self.lane[i]), int(self.level[i])
            low, high = self.place[i] / self.n_together[i], (self.place[i] + 1) / self.n_together[i]
            if self.end[i] - self.begin[i] < shortest:  # so are the others of its group
                if self.place[i]:
                    continue
                low, high = 0.0, 1.0
            bar = Bar(self.begin[i], self.end[i], lane, low, high, level, int(self.row[i]))
            k = last.get(lane)
            before = None if k is None else bars[k]
            if (
                before is not None
                and (before.low, before.high, before.level) == (low, high, level)
                and bar.begin - before.end < shortest
                and bar.end - bar.begin < shortest
                and (before.row is None or before.end - before.begin < shortest)
            ):
                bars[k] = Bar(before.begin, max(before.end, bar.end), lane, low, high, level, None)
            else:
                last[lane] = len(bars)
                bars.append(bar)
        return bars


def timeline(record):
    """Return when and where the fits of a search ran.

    Raises ValueError if that is known of no fit.
    """
    known = np.zeros(1, dtype=bool)
    if record.starts is not None:
        known = record.has_fit & np.isfinite(record.starts)
    if not known.any():
        raise ValueError(
            "a timeline needs to know when fits started, and here that is known of none: tables, "
            "searches of scikit-learn and journals of earlier versions do not have it; give a "
            "fitted search of skhpo, or its journal"
        )
    row, split, repeat = np.nonzero(known)
    worker = record.workers[known].astype(str)
    names, worker = np.unique(worker, return_inverse=True)
    seconds = np.nan_to_num(record.fit_seconds[known] + record.score_seconds[known])
    begin, end, place, n_together = _together(worker, record.starts[known], seconds)
    run, runs = _runs(begin, end, worker)
    lanes, workers = _lanes(names, worker, run, begin)
    lane = lanes[worker]
    pauses = runs[1:, 0] - runs[:-1, 1]
    shift = runs[0, 0] + np.concatenate([[0.0], np.cumsum(pauses)])
    begin, end, runs = begin - shift[run], end - shift[run], runs - shift[:, None]
    failed = np.isnan(record.scores[record.metric][known])
    levels, level = [None], np.zeros(len(row), dtype=int)
    if record.resources is not None:
        levels = record.levels
        level = np.searchsorted(levels, record.resources[row])
    idle = np.full((len(workers), len(runs)), np.nan)
    idle[lane, run] = np.diff(runs, axis=1).ravel()[run]
    np.subtract.at(idle, (lane, run), (end - begin) / n_together)
    return Timeline(
        begin=begin,
        end=end,
        lane=lane,
        place=place,
        n_together=n_together,
        level=np.where(failed, -1, level),
        row=row,
        split=split,
        repeat=repeat,
        levels=levels,
        workers=workers,
        runs=runs,
        pauses=pauses,
        idle=np.maximum(idle, 0.0),
    )


def _together(worker, begin, seconds):
    """Return begin and end of each fit, its place in its group, and the size of that.

    Fits of a group have the same start and share its time.
    """
    order = np.lexsort((begin, worker))
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(worker[order]) != 0) | (np.diff(begin[order]) != 0)
    first = np.flatnonzero(new)
    group = np.empty(len(order), dtype=int)
    group[order] = np.cumsum(new) - 1
    place = np.empty(len(order), dtype=int)
    place[order] = np.arange(len(order)) - first[group[order]]
    total = np.bincount(group, seconds)
    return begin, begin + total[group], place, np.bincount(group)[group]


def _runs(begin, end, worker):
    """Return of which run of the search each fit is, and when runs began and ended.

    Between two of them no fit runs for a while, and no worker is there on both sides.
    """
    order = np.argsort(begin, kind="stable")
    ended = np.maximum.accumulate(end[order])
    pause = np.flatnonzero(begin[order][1:] - ended[:-1] > _BETWEEN_RUNS) + 1
    first, last = np.full(worker.max() + 1, len(order)), np.zeros(worker.max() + 1, dtype=int)
    np.minimum.at(first, worker[order], np.arange(len(order)))
    np.maximum.at(last, worker[order], np.arange(len(order)))
    starts = [i for i in pause.tolist() if not ((first < i) & (last >= i)).any()]
    run = np.empty(len(order), dtype=int)
    run[order] = np.searchsorted(starts, np.arange(len(order)), side="right")
    firsts = [0, *starts]
    lasts = [*(i - 1 for i in starts), len(order) - 1]
    return run, np.column_stack([begin[order][firsts], ended[lasts]])


def _lanes(names, worker, run, begin):
    """Return the lane of each worker, and the workers of each lane."""
    first = np.full(len(names), np.inf)
    np.minimum.at(first, worker, begin)
    run_of = np.empty(len(names), dtype=int)
    run_of[worker] = run
    hosts = np.array([name.partition(":")[0] for name in names])
    place = {}  # of the next worker of a host in a run
    of_lane = {}
    lane_of = []
    for i in np.argsort(first, kind="stable").tolist():
        key = hosts[i], run_of[i]
        k = place[key] = place.get(key, -1) + 1
        of_lane.setdefault((hosts[i], k), []).append(str(names[i]))
        lane_of.append((i, (hosts[i], k)))
    ordered = {key: lane for lane, key in enumerate(sorted(of_lane))}
    lanes = np.empty(len(names), dtype=int)
    for i, key in lane_of:
        lanes[i] = ordered[key]
    return lanes, [of_lane[key] for key in ordered]
