"""Seconds and bytes of the page about a search of 500 trials; seconds to read a large journal.

``python benchmarks/report.py`` prints the table of ``docs/benchmarks/report.md``.
"""

import os
import statistics
import tempfile
import time

import numpy as np
from scipy.stats import uniform

from skhpo.inspection import read_search, report
from skhpo.journal import Journal, fit_event
from skhpo.trial import FitResult, Trial

HEADER = {
    "search": "SearchCV",
    "seed": 1,
    "resource": None,
    "n_repeats": 1,
    "n_splits": 5,
    "return_train_score": False,
    "asynchronous": False,
}


def journal(path, n_trials, n_params=10):
    rng = np.random.default_rng(0)
    names = [f"net__module__parameter_{i:02}" for i in range(n_params)]
    law = {"distribution": "uniform", "args": [0.0, 1.0], "kw": {}}
    fingerprint = {"space": dict.fromkeys(names, law), "settings": {}, "versions": {}}
    events = []
    for number in range(n_trials):
        params = dict(zip(names, uniform.rvs(size=n_params, random_state=rng), strict=True))
        score = float(sum(params.values()))
        trial = Trial(number, number, {name: float(value) for name, value in params.items()})
        for split in range(5):
            scores = {"score": score + 0.1 * rng.standard_normal()}
            events.append(fit_event(trial, FitResult(number, split, 0, scores, None, 0.5, 0.01)))
    with Journal(path) as file:
        file.start({**HEADER, "fingerprint": fingerprint}, (), events)


def seconds_of(function, n=5):
    times = []
    for _ in range(n):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"


def main():
    folder = tempfile.mkdtemp()
    small, large = os.path.join(folder, "small.jsonl"), os.path.join(folder, "large.jsonl")
    page = os.path.join(folder, "page.html")
    journal(small, 500)
    journal(large, 4000)
    print("| what | seconds of the processor, median of 5 (range) |\n| --- | --- |")
    print(f"| the page of 500 trials, 10 parameters | {seconds_of(lambda: report(small, page))} |")
    print(f"| reading a journal of 20,000 fits | {seconds_of(lambda: read_search(large))} |")
    print(f"\nThe page has {os.path.getsize(page) / 1e6:.2f} MB.")


if __name__ == "__main__":
    main()
