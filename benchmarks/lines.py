"""Results of a benchmark as lines of a file, each of one case, which is not measured again."""

import json
import time
from pathlib import Path


def read_lines(path):
    """Return the results so far, one of each line."""
    path = Path(path)
    return [json.loads(line) for line in path.open()] if path.exists() else []


def run_missing(path, cases, measure, max_time=float("inf")):
    """Measure the cases that are not in the file; start none after `max_time` seconds.

    Parameters
    ----------
    path : str or path-like
    cases : iterable of dict
        What names a case, and with which `measure` is called.
    measure : callable
        From the items of a case to a dict, which is written beside them.
    """
    done = read_lines(path)
    end = time.monotonic() + max_time
    for case in cases:
        if any(case.items() <= line.items() for line in done):
            continue
        if time.monotonic() > end:
            print("not finished: run it again")
            return
        line = json.dumps({**case, **measure(**case)})
        with Path(path).open("a") as file:
            file.write(line + "\n")
    print("finished")
