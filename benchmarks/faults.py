"""What the environment does to searches, and what is left of them: one row per kind of fault.

Each part tries its fault many times at random and counts what must not be. A search that was
disturbed is fitted again with the same journal, and compared with one that nobody disturbed.

Run it with ``python benchmarks/faults.py``, or some parts of it: ``--parts kills hangs``. Each
try is noted in ``faults.jsonl`` when it is over, and not done again: what was interrupted goes on
where it was. ``--minutes 2`` gives each part that long, ``--share 0.05`` so much of its tries;
``--write docs/benchmarks/faults.md`` replaces their rows there. The number of a try sets what it
draws; the files of those that found something are kept in ``faults.jsonl.found``.
"""

import argparse
import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads would not survive a fork

from faults_files import AS_JOURNAL, PLANTED, checksum, cost, damage, foreign
from faults_processes import hang, interrupt, kill, refuse
from faults_searches import Child, DidNotEnd, OutOfTime, is_slow, own_folder, warm
from faults_threads import thread


@dataclass(frozen=True)
class Part:
    """One kind of fault.

    Parameters
    ----------
    attempt : callable
        Tries it, from the number of the try and a folder; returns what it found, by name.
    what : str
    count : int
        How often it is tried.
    found : str or callable
        A text with sums of what tries found, or what makes it of them all.
    to_reach : str
    bad : tuple of str
        Names of what must be 0.
    unit : str
    """

    attempt: Callable
    what: str
    count: int
    found: str | Callable
    to_reach: str
    bad: tuple[str, ...] = ()
    unit: str = ""

    def row(self, tries):
        """Return the cells of its row."""
        n_stuck = sum(found.get("stuck", 0) for found in tries)
        found = self.found
        if isinstance(found, str):
            sums = Counter()
            for one in tries:
                sums.update({k: value for k, value in one.items() if not isinstance(value, str)})
            found = found.format_map(sums)
        else:
            found = found(tries)
        n_new = sum(one.get("new workers", False) for one in tries)
        share = f", {n_new} with new workers" if n_new else ""
        return [
            self.what,
            f"{len(tries):,}{self.unit}{share}",
            f"{self.count:,}{self.unit}",
            found + (f", **{n_stuck} did not end**" if n_stuck else ""),
            self.to_reach,
        ]


def longest(tries):
    """Describe what hung."""
    seconds, n_wrong = max(one["seconds"] for one in tries), sum(one["wrong"] for one in tries)
    return f"{seconds:.1f} s at most, {n_wrong} searches did not go on"


PARTS = {
    "interrupts": Part(
        interrupt,
        "Ctrl-C at random moments, once or twice, to the driver or to all its processes",
        1000,
        "{failed} recorded as failed, {different} resumed differently, {rest} leftovers, "
        "{raw} other exceptions ({cut} cut short)",
        "0, 0, 0, 0",
        ("failed", "different", "rest", "raw"),
    ),
    "kills": Part(
        kill,
        "kills of the driver or a worker at random moments",
        1000,
        "{lost} fits lost, {twice} done twice, {different} resumed differently, "
        "{left} workers left after 10 s",
        "0, 0, 0, 0",
        ("lost", "twice", "different", "left"),
    ),
    "kept": Part(
        partial(kill, keeps=True),
        "kills with predictions kept, and the networks of two rows",
        100,
        "{lost} fits lost, {twice} done twice, {unpredicted} without predictions, {different} "
        "resumed differently (predictions and networks, too), {left} workers left after 10 s",
        "0, 0, 0, 0, 0",
        ("lost", "twice", "unpredicted", "different", "left"),
    ),
    "damage": Part(
        damage,
        "byte flips, cuts, swaps, edits in journal, splits, checkpoints",
        2000,
        "{silent} different results in silence, {raw} raw exceptions ({refused} refused; "
        "{repaired} of them repaired, {worse} with different results)",
        "0, 0",
        ("silent", "raw", "worse"),
    ),
    "refusals": Part(
        refuse,
        "a write, or all from one on, fail: ENOSPC, EIO, EROFS; or are short",
        500,
        "{failed} recorded as failed, {different} resumed differently, {raw} other exceptions",
        "0, 0, 0",
        ("failed", "different", "raw"),
    ),
    "threads": Part(
        thread,
        "two searches and a predicting network in three threads",
        500,
        "{errors} exceptions, {different} different tables",
        "0, 0",
        ("errors", "different"),
        " rounds",
    ),
    "foreign": Part(
        foreign,
        "files of others where journals, folders and logs are to be",
        len(AS_JOURNAL) + len(PLANTED),
        "{changed} changed or deleted, {raw} raw exceptions",
        "0, 0",
        ("changed", "raw"),
        " kinds",
    ),
    "hangs": Part(
        hang,
        "candidates that hang: time beyond `fit_timeout`, serial and in processes",
        30,
        longest,
        "under 5 s, 0",
        ("wrong",),
    ),
    "checksums": Part(
        checksum,
        "cost of number, checksum and looks at the file, per line of the journal",
        20,
        cost,
        "under 3%",
        unit=" x 2,100 lines",
    ),
}
# How often a try draws again that came too late for its search.
_DRAWS = 5
COLUMNS = "what", "tried", "in full", "found", "to reach"
HEAD = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]


class Results:
    """What tries found, one a line of a file.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path):
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.tries = [json.loads(line) for line in lines if line.endswith("}")]

    def of(self, name):
        return [found for found in self.tries if found["part"] == name]

    def add(self, found):
        self.tries.append(found)
        with open(self.path, "a") as file:
            file.write(json.dumps(found) + "\n")

    def keep(self, folder, name):
        """Keep the files of a try."""
        place = Path(f"{self.path}.found") / name
        shutil.copytree(folder, place, symlinks=True, ignore_dangling_symlinks=True)


def go_through(name, part, numbers, results, end, folder):
    """Do the tries with some numbers until the end, but those that were done."""
    Child.ends_by = end
    done = {found["number"] for found in results.of(name)}
    for number in numbers:
        if number in done:
            continue
        if time.monotonic() >= end:
            return
        random.seed(f"{name}-{number}")
        begin = time.monotonic()
        place = folder / f"{name}-{number}"
        for _ in range(_DRAWS):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            try:
                found = part.attempt(number, place)
            except OutOfTime:
                return
            except DidNotEnd:
                found = {"hit": True, "stuck": 1}
            if found["hit"]:
                break
        done.add(number)
        seconds = round(time.monotonic() - begin, 2)
        results.add({"part": name, "number": number, "seconds in all": seconds, **found})
        if found.get("stuck") or any(found.get(key) for key in part.bad):
            print(f"{name} {number}: {found}", flush=True)
            results.keep(place, f"{name}-{number}")
        shutil.rmtree(place, ignore_errors=True)


def put(path, line):
    """Put a row into the table of a file: in the place of the one of that name, or below."""
    lines = path.read_text().splitlines()
    name = line.split("|")[1]
    rows = [i for i, old in enumerate(lines) if old.startswith("|")]
    place = [i for i in rows if lines[i].split("|")[1] == name]
    if place:
        lines[place[0]] = line
    else:
        lines.insert(rows[-1] + 1, line)
    path.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--share", type=float, default=1.0, help="of the times to try each fault")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="for each part")
    parser.add_argument("--results", type=Path, default=Path("faults.jsonl"))
    parser.add_argument("--write", type=Path, help="file whose table gets the rows")
    args = parser.parse_args()
    results = Results(args.results)
    with own_folder() as folder:
        warm(folder)
        print("\n".join(HEAD))
        left = dict.fromkeys(args.parts, 60 * args.minutes)
        for slow in (False, True):
            for name in args.parts:
                numbers = range(max(1, round(PARTS[name].count * args.share)))
                numbers = [number for number in numbers if is_slow(number) == slow]
                begin = time.monotonic()
                try:
                    go_through(name, PARTS[name], numbers, results, begin + left[name], folder)
                finally:
                    report(name, results, args.write)
                left[name] -= time.monotonic() - begin


def report(name, results, path):
    """Print the row of a part, and put it into a table."""
    if tries := [one for one in results.of(name) if one["hit"]]:
        line = "| " + " | ".join(PARTS[name].row(tries)) + " |"
        print(line, flush=True)
        if path:
            put(path, line)


if __name__ == "__main__":
    main()
