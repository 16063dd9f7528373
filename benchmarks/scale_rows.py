"""Rows of `scale.py`: how they are registered, and what they measure with."""

import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["ROWS", "Figure", "exponent", "median_seconds", "peak_bytes", "row"]

ROWS = {}


@dataclass(frozen=True)
class Figure:
    """What a row measured.

    Parameters
    ----------
    text : str
        The sizes and their costs.
    ratio : float or (float, float, float), default=nan
        Cost over that of the peer in the same run; or its median, least and largest.
    exponent : float, default=nan
        From the smallest to the largest size.
    """

    text: str
    ratio: object = math.nan
    exponent: float = math.nan


@dataclass(frozen=True)
class Row:
    name: str
    bar: str
    measure: object

    def line(self):
        figure = self.measure()
        ratio = figure.ratio
        if isinstance(ratio, tuple):
            shown = "{:.2f} ({:.2f} to {:.2f})".format(*ratio)
        else:
            shown = "" if math.isnan(ratio) else f"{ratio:.2f}"
        power = "" if math.isnan(figure.exponent) else f"{figure.exponent:.2f}"
        return f"| {self.name} | {figure.text} | {shown} | {power} | {self.bar} |"


def row(name, bar):
    """Register a function without arguments that returns a `Figure`."""

    def register(measure):
        ROWS[name] = Row(name, bar, measure)
        return measure

    return register


def exponent(sizes, costs):
    """Return the slope of the line through log(cost) over log(size)."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def median_seconds(function, repeats=5, clock=time.perf_counter):
    """Return the median seconds of some calls."""
    spent = []
    for _ in range(repeats):
        start = clock()
        function()
        spent.append(clock() - start)
    return statistics.median(spent)


def peak_bytes():
    """Return the largest resident set of this process so far (`getrusage` counts the parent's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
