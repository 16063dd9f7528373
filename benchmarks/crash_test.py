"""Searches killed at random moments and resumed: is anything lost, done twice, or different?

Each run forks a process that searches with a journal, sends SIGKILL at a random moment to that
process or to one of its workers, and then fits the same search with the same journal again. What a
resumed run must show: every fit that was in the journal is still there, once, and the results are
those of a search that nobody killed.

Run it with ``python benchmarks/crash_test.py``; ``--runs 4`` is a quick look.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.stats import loguniform
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import HalvingHyperbandSearchCV, TorchClassifier

fork = multiprocessing.get_context("fork")


def search(journal, n_jobs):
    net = TorchClassifier(module__n_units=16, module__dropout=0.2, batch_size=16)
    return HalvingHyperbandSearchCV(
        make_pipeline(StandardScaler(), net),
        {"torchclassifier__lr": loguniform(1e-3, 1e-1)},
        resource="torchclassifier__max_epochs",
        max_resources=9,
        cv=2,
        random_state=0,
        refit=False,
        journal=journal,
        n_jobs=n_jobs,
    )


def fit(journal, n_jobs):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    return search(journal, n_jobs).fit(*load_iris(return_X_y=True))


def fit_and_leave(journal, n_jobs):
    fit(journal, n_jobs)
    os._exit(0)  # without waiting for idle workers


def table(search):
    results = search.cv_results_
    return {name: results[name] for name in results if not name.endswith("_time")}


def same(a, b):
    a, b = table(a), table(b)
    return list(a) == list(b) and all(np.array_equal(a[name], b[name]) for name in a)


def fits(journal):
    """Return the names of the fits in the journal's complete lines."""
    if not journal.exists():
        return []
    lines = journal.read_bytes().split(b"\n")[1:-1]
    events = [json.loads(line) for line in lines]
    return [(event["trial"], event["split"], event["repeat"]) for event in events]


def children(pid):
    """Return the worker processes below a process."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    pids = [int(child) for child in text.split()]
    return [p for p in pids if b"loky" in Path(f"/proc/{p}/cmdline").read_bytes()]


def killed_run(journal, n_jobs, victim, seconds):
    """Search in a process of its own; kill it or a worker after a while. Return its exit code."""
    process = fork.Process(target=fit_and_leave, args=(journal, n_jobs))
    process.start()
    process.join(seconds)
    if process.is_alive():
        workers = children(process.pid) if victim == "worker" else []
        os.kill(random.choice(workers) if workers else process.pid, signal.SIGKILL)
        process.join()
    return process.exitcode


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    torch.set_num_threads(1)

    reference = fit(None, 1)
    seconds = {}
    for n_jobs in (1, 2):
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            killed_run(Path(folder) / "j", n_jobs, "driver", None)
        seconds[n_jobs] = time.perf_counter() - start

    plan = [(1, "driver"), (2, "driver"), (1, "driver"), (2, "worker")]
    rows = {}
    for run in range(args.runs):
        n_jobs, victim = plan[run % len(plan)]
        row = rows.setdefault(
            (n_jobs, victim),
            dict.fromkeys(("runs", "killed", "journalled", "lost", "twice", "equal"), 0),
        )
        with tempfile.TemporaryDirectory() as folder:
            journal = Path(folder) / "run.jsonl"
            code = killed_run(journal, n_jobs, victim, random.uniform(0, seconds[n_jobs]))
            before = fits(journal)
            resumed = fit(journal, 1)
            after = fits(journal)
        row["runs"] += 1
        row["killed"] += code == -signal.SIGKILL
        row["journalled"] += len(before)
        row["lost"] += len(set(before) - set(after))
        row["twice"] += len(after) - len(set(after))
        row["equal"] += same(resumed, reference)

    print(
        "| jobs | killed | runs | driver died | fits in the journal then | of those lost "
        "| done twice | results equal |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for (n_jobs, victim), row in rows.items():
        print(
            f"| {n_jobs} | {victim} | {row['runs']} | {row['killed']} | {row['journalled']} "
            f"| {row['lost']} | {row['twice']} | {row['equal']}/{row['runs']} |"
        )


if __name__ == "__main__":
    main()
