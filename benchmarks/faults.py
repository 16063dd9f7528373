"""What the environment does to searches, and what is left of them: one row per kind of fault.

Each part tries its fault many times at random and counts what must not be. A search that was
disturbed is fitted again with the same journal, and compared with one that nobody disturbed.

Run it with ``python benchmarks/faults.py``, or some parts of it: ``--parts kills hangs``;
``--share 0.05`` is a quick look.
"""

import argparse
import contextlib
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
from faults_files import checksums, damage, foreign
from joblib import parallel_config
from scipy.stats import loguniform
from sklearn.datasets import load_iris

from skhpo import HalvingHyperbandSearchCV, TorchClassifier

fork = multiprocessing.get_context("fork")

# By name: the number of jobs, the backend, and arguments of the search.
MODES = {
    "serial": (1, None, {}),
    "stacked": (1, None, {"stack": True}),
    "processes": (2, None, {}),
    "threads": (2, "threading", {}),
    "asynchronous": (2, None, {"asynchronous": True}),
}


def fit(journal, mode="serial"):
    """Fit the search that all parts disturb."""
    n_jobs, backend, arguments = MODES[mode]
    torch.set_num_threads(1)
    search = HalvingHyperbandSearchCV(
        TorchClassifier(module__n_units=16, module__dropout=0.2, batch_size=16),
        {"lr": loguniform(1e-3, 1e-1)},
        resource="max_epochs",
        max_resources=9,
        cv=2,
        random_state=0,
        refit=False,
        journal=journal,
        n_jobs=n_jobs,
        **{"stack": False, **arguments},
    )
    X, y = load_iris(return_X_y=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if backend is not None:
            stack.enter_context(parallel_config(backend))
        return search.fit(X.astype("float32"), y)


def table(search):
    """Return what a search found, times apart."""
    results = search.cv_results_
    return {name: results[name] for name in results if not name.endswith("_time")}


def same(a, b):
    """Whether two searches found the same."""
    return list(a) == list(b) and all(np.array_equal(a[name], b[name]) for name in a)


def events(journal):
    """Return the complete lines of a journal, less the first."""
    if not journal.exists():
        return []
    return [json.loads(line) for line in journal.read_bytes().split(b"\n")[1:-1]]


def fits(journal):
    """Return the names of the fits in a journal."""
    found = [event for event in events(journal) if event["event"] == "fit"]
    return [(event["trial"], event["split"], event["repeat"]) for event in found]


def leftovers(journal):
    """Return what a finished search leaves beside its journal that it should not."""
    folder = Path(f"{journal}.files")
    return [path.name for path in folder.iterdir() if path.name not in ("owner", "splits.npz")]


def workers_of(pid):
    """Return the worker processes below a process."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    pids = [int(child) for child in text.split()]
    return [p for p in pids if b"popen_loky" in Path(f"/proc/{p}/cmdline").read_bytes()]


def start(journal, mode, before=None):
    """Start a search in a process of its own, which leaves without waiting for workers.

    Parameters
    ----------
    journal : Path or None
    mode : str
    before : callable, default=None
        What that process does first.

    Returns
    -------
    process : Process
    receive : Connection
        Of the table that the search found.
    """
    receive, send = fork.Pipe(duplex=False)

    def run():
        if before is not None:
            before()
        send.send(table(fit(journal, mode)))
        os._exit(0)

    process = fork.Process(target=run)
    process.start()
    send.close()
    return process, receive


def undisturbed(journal, mode):
    """Return what a search finds that nobody disturbs, and its seconds."""
    begin = time.perf_counter()
    process, receive = start(journal, mode)
    found = receive.recv()
    process.join()
    return found, time.perf_counter() - begin


@contextlib.contextmanager
def new_journal():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "run.jsonl"


def kills(count):
    """SIGKILL to the driver or a worker at a random moment, in every mode."""
    lost = twice = different = 0
    for mode in MODES:
        with new_journal() as journal:
            reference, seconds = undisturbed(journal, mode)
        for run in range(count):
            with new_journal() as journal:
                process, _ = start(journal, mode)
                process.join(random.uniform(0, seconds))
                if process.is_alive():
                    workers = workers_of(process.pid) if run % 2 else []
                    os.kill(random.choice(workers) if workers else process.pid, signal.SIGKILL)
                    process.join()
                before = fits(journal)
                again, _ = undisturbed(journal, mode)
                after = fits(journal)
                lost += len(set(before) - set(after))
                twice += len(after) - len(set(after))
                different += mode != "asynchronous" and not same(again, reference)
    return {
        "what": "kills of the driver or a worker at random moments",
        "tried": count * len(MODES),
        "found": f"{lost} fits lost, {twice} done twice, {different} resumed differently",
        "to reach": "0, 0, 0",
    }


# A part tries its fault so many times, and returns a row.
PARTS = {kills: 200, damage: 2000, foreign: 1, checksums: 20}


def main():
    names = [part.__name__ for part in PARTS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument("--share", type=float, default=1.0, help="of the times to try each fault")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    columns = "what", "tried", "found", "to reach"
    print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    for part, count in PARTS.items():
        if part.__name__ in args.parts:
            row = part(max(1, round(count * args.share)))
            print("| " + " | ".join(str(row[name]) for name in columns) + " |", flush=True)


if __name__ == "__main__":
    main()
