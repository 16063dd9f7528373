"""What the environment does to searches, and what is left of them: one row per kind of fault.

Each part tries its fault many times at random and counts what must not be. A search that was
disturbed is fitted again with the same journal, and compared with one that nobody disturbed.

Run it with ``python benchmarks/faults.py``, or some parts of it: ``--parts kills hangs``.
``--minutes 2`` gives each part that long, ``--share 0.05`` so much of its tries;
``--write docs/benchmarks/faults.md`` replaces their rows there.
"""

import argparse
import contextlib
import errno
import json
import multiprocessing
import os
import random
import signal
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import torch
from faults_files import checksums, damage, foreign
from joblib import _memmapping_reducer, parallel_config
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris

from skhpo import HalvingHyperbandSearchCV, SearchCV, TorchClassifier
from skhpo.exceptions import StorageError
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

fork = multiprocessing.get_context("fork")

# By name: the number of jobs, the backend, and arguments of the search.
MODES = {
    "serial": (1, "loky", {}),
    "lockstep": (1, "loky", {"lockstep": True}),
    "processes": (2, "loky", {}),
    "threads": (2, "threading", {}),
    "asynchronous": (2, "loky", {"asynchronous": True}),
}


def fit(journal, mode="serial", **settings):
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
        **{"lockstep": False, **arguments},
    )
    X, y = load_iris(return_X_y=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(parallel_config(backend, **settings))
        return search.fit(X.astype("float32"), y)


def table(search):
    """Return what a search found, times apart."""
    results = search.cv_results_
    return {name: results[name] for name in results if not name.endswith("_time")}


def same(a, b):
    """Whether two searches found the same."""
    return list(a) == list(b) and all(np.array_equal(a[name], b[name]) for name in a)


def resumed(found, reference, mode):
    """Whether a search ended as it would have, where that does not depend on who is faster."""
    return bool(found) if mode == "asynchronous" else same(found, reference)


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
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    pids = [int(child) for text in lists for child in text.read_text().split()]
    return [pid for pid in pids if is_worker(pid)]


def is_worker(pid):
    """Whether a process is there, and a worker."""
    with contextlib.suppress(OSError):
        return b"popen_loky" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def left_after(pids, seconds):
    """Return how many workers are there after so many seconds."""
    end = time.monotonic() + seconds
    while (left := sum(map(is_worker, pids))) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def start(journal, mode, before=None, expected=(KeyboardInterrupt, OSError), **settings):
    """Start a search in a process of its own, which leaves without waiting for workers.

    Parameters
    ----------
    journal : Path or None
    mode : str
    before : callable, default=None
        What that process does first.
    expected : tuple of type
        Exceptions that it does not show.
    **settings
        Of joblib's backend.

    Returns
    -------
    process : Process
    receive : Connection
        Of the table that the search found.
    """
    receive, send = fork.Pipe(duplex=False)

    def run():
        try:
            if before is not None:
                before()
            send.send(table(fit(journal, mode, **settings)))
        except expected:
            pass
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)

    process = fork.Process(target=run)
    process.start()
    send.close()
    return process, receive


def undisturbed(journal, mode):
    """Return what a search finds that nobody disturbs, and its seconds."""
    begin = time.perf_counter()
    process, receive = start(journal, mode, expected=())
    try:
        found = receive.recv()
    except EOFError:
        found = {}  # its exception is on the screen
    process.join()
    return found, time.perf_counter() - begin


@contextlib.contextmanager
def new_journal():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "run.jsonl"


def references(modes):
    """Return what searches find that nobody disturbs, and their seconds, by mode."""
    with contextlib.ExitStack() as stack:
        return {mode: undisturbed(stack.enter_context(new_journal()), mode) for mode in modes}


def kills(runs):
    """SIGKILL to the driver or a worker at a random moment, in every mode."""
    tried = lost = twice = different = left = 0
    expected = references(MODES)
    for run in runs:
        for mode, (reference, seconds) in expected.items():
            with new_journal() as journal:
                process, _ = start(journal, mode)
                process.join(random.uniform(0, seconds))
                if process.is_alive():
                    workers = workers_of(process.pid)
                    victim = random.choice(workers) if workers and run % 2 else process.pid
                    os.kill(victim, signal.SIGKILL)
                    process.join()
                    left += left_after(workers, 10)
                before = fits(journal)
                again, _ = undisturbed(journal, mode)
                after = fits(journal)
                lost += len(set(before) - set(after))
                twice += len(after) - len(set(after))
                different += not resumed(again, reference, mode)
                tried += 1
    return {
        "what": "kills of the driver or a worker at random moments",
        "tried": tried,
        "found": f"{lost} fits lost, {twice} done twice, {different} resumed differently, "
        f"{left} workers left after 10 s",
        "to reach": "0, 0, 0, 0",
    }


def interrupts(runs):
    """Ctrl-C, once or twice, at a random moment, in every mode.

    A terminal sends it to workers, too; others send it to the driver alone.
    """
    tried = failed = different = rest = 0
    expected = references(MODES)
    for run in runs:
        for mode, (reference, seconds) in expected.items():
            with new_journal() as journal:
                process, _ = start(journal, mode)
                os.setpgid(process.pid, process.pid)
                process.join(random.uniform(0, seconds))
                send = random.choice([os.kill, os.killpg])
                for _ in range(1 + run % 2):
                    if process.is_alive():
                        send(process.pid, signal.SIGINT)
                        process.join(random.uniform(0, 0.05))
                process.join()
                failed += sum(bool(event.get("error")) for event in events(journal))
                again, _ = undisturbed(journal, mode)
                rest += len(leftovers(journal))
                different += not resumed(again, reference, mode)
                tried += 1
    return {
        "what": "Ctrl-C at random moments, once or twice, to the driver or to all its processes",
        "tried": tried,
        "found": f"{failed} recorded as failed, {different} resumed differently, {rest} leftovers",
        "to reach": "0, 0, 0",
    }


class Refusing:
    """Refuses the n-th write of a process to files of a search, and those after it, or cuts it.

    The arrays that joblib writes for workers are refused, too.
    """

    def __init__(self, folder, nth, number):
        self.folder, self.nth, self.number = str(folder), nth, number

    def install(self):
        self.write, os.write = os.write, self
        self.dump, _memmapping_reducer.dump = _memmapping_reducer.dump, self.dump_array

    def dump_array(self, array, filename):
        self.nth -= 1
        if self.nth <= 0 and self.number is not None:
            raise OSError(self.number, os.strerror(self.number), filename)
        return self.dump(array, filename)

    def __call__(self, descriptor, content):
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith(self.folder):
            self.nth -= 1
            if self.nth == 0 and self.number is None:
                content = content[: len(content) // 2 or 1]
            elif self.nth <= 0 and self.number is not None:
                raise OSError(self.number, os.strerror(self.number))
        return self.write(descriptor, content)


def refusals(runs):
    """Writes are refused, or short: to the journal, the splits, a checkpoint, or shared memory.

    Every other time in the process that searches, and else in its workers, where it has some.
    """
    tried = failed = different = 0
    expected = references(MODES)
    for run in runs:
        for mode, (reference, _) in expected.items():
            with new_journal() as journal:
                number = random.choice([errno.ENOSPC, errno.EIO, errno.EROFS, None])
                here = run % 2 == 0 or MODES[mode][0] == 1 or MODES[mode][1] != "loky"
                nth = random.randint(1, 120 if here else 20)
                refuse = Refusing(journal.parent, nth, number).install
                before = refuse if here else None
                settings = {} if here else {"initializer": refuse}
                process, _ = start(
                    journal, mode, before, (StorageError,), max_nbytes=100, **settings
                )
                process.join()
                failed += sum(bool(event.get("error")) for event in events(journal))
                again, _ = undisturbed(journal, mode)
                different += not resumed(again, reference, mode)
                tried += 1
    return {
        "what": "the n-th write, and those after it, fail: ENOSPC, EIO, EROFS; or it is short",
        "tried": tried,
        "found": f"{failed} recorded as failed, {different} resumed differently",
        "to reach": "0, 0",
    }


class Hanging(ClassifierMixin, BaseEstimator):
    """Hangs in a way of its own, and notes since when; other ones are fitted at once."""

    def __init__(self, how="not", log=None):
        self.how = how
        self.log = log

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        if len(self.how) > 1:
            with open(self.log, "a") as file:
                file.write(f"{time.monotonic()}\n")
        if self.how == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        while self.how in ("sleep", "loop", "swallow"):
            try:
                time.sleep(1000 if self.how == "sleep" else 0)
            except BaseException:
                if self.how != "swallow":
                    raise
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def in_order(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def hangs(runs):
    """A candidate that hangs, between others that do not, under ``fit_timeout=1``.

    From its limit on until the search has its answer and has fitted what comes after it.
    """
    X, y = load_iris(return_X_y=True)
    ways = [(None, "sleep"), (None, "loop"), (2, "sleep"), (2, "loop"), (2, "swallow"), (2, "stop")]
    tried = worst = wrong = 0
    for _ in runs:
        for n_jobs, how in ways:
            with tempfile.NamedTemporaryFile("r") as log:
                search = SearchCV(
                    Hanging(log=log.name),
                    {"how": ["a", how, "b"]},
                    scheduler=in_order,
                    cv=2,
                    n_jobs=n_jobs,
                    refit=False,
                    fit_timeout=1,
                )
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    search.fit(X, y)
                begin = float(log.readline())
            # Two splits hang: in turn in one process, together in two.
            seconds = (time.monotonic() - begin) / (1 if n_jobs else 2) - 1
            wrong += list(np.isnan(search.cv_results_["mean_test_score"])) != [False, True, False]
            tried += 1
            worst = max(worst, seconds)
    return {
        "what": "candidates that hang: time beyond `fit_timeout`, serial and in processes",
        "tried": tried,
        "found": f"{worst:.1f} s at most, {wrong} searches did not go on",
        "to reach": "under 5 s, 0",
    }


class Own(torch.nn.Module):
    """A module that has to be looked into before it is trained together with others."""

    def __init__(self, in_features, out_features, width=16):
        super().__init__()
        self.a = torch.nn.Linear(in_features, width)
        self.b = torch.nn.Linear(width, out_features)

    def forward(self, X):
        return self.b(torch.relu(self.a(X)))


def threads(runs):
    """Two searches and a network that predicts, in three threads."""
    X, y = load_iris(return_X_y=True)
    X = X.astype("float32")
    net = TorchClassifier(Own, max_epochs=1, random_state=0).fit(X, y)
    expected, errors, tables, over = net.predict_proba(X), [], [], threading.Event()

    def search():
        try:
            search = HalvingHyperbandSearchCV(
                TorchClassifier(Own, batch_size=16),
                {"lr": loguniform(1e-3, 1e-1)},
                resource="max_epochs",
                max_resources=3,
                cv=2,
                random_state=0,
                refit=False,
                lockstep=True,
            )
            tables.append(table(search.fit(X, y)))
        except BaseException as error:
            errors.append(error)

    def predict():
        while not over.is_set():
            try:
                assert np.array_equal(net.predict_proba(X), expected)
            except BaseException as error:
                errors.append(error)

    predicting = threading.Thread(target=predict)
    predicting.start()
    for _ in runs:
        both = [threading.Thread(target=search) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
    over.set()
    predicting.join()
    different = sum(not same(table, tables[0]) for table in tables)
    return {
        "what": "two searches and a predicting network in three threads",
        "tried": f"{len(tables) // 2} rounds",
        "found": f"{len(errors)} exceptions, {different} different tables",
        "to reach": "0, 0",
    }


# By part: how often it tries its fault, and how many tries that are in its row.
PARTS = {
    interrupts: (200, "1,000"),
    refusals: (100, "500"),
    kills: (200, "1,000"),
    hangs: (5, "30"),
    threads: (500, "500 rounds"),
    damage: (2000, "2,000"),
    foreign: (1, "all kinds"),
    checksums: (20, "20 x 2,100 lines"),
}
COLUMNS = "what", "tried", "in full", "found", "to reach"
HEAD = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]


def until_over(count, minutes):
    """Yield the numbers of the runs that fit into some minutes, one at least."""
    end = time.monotonic() + 60 * minutes
    for run in range(count):
        if run and time.monotonic() >= end:
            return
        yield run


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
    names = [part.__name__ for part in PARTS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument("--share", type=float, default=1.0, help="of the times to try each fault")
    parser.add_argument("--minutes", type=float, default=np.inf, help="for each part, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="file whose table gets the rows")
    args = parser.parse_args()
    random.seed(args.seed)
    print("\n".join(HEAD))
    for part, (count, in_full) in PARTS.items():
        if part.__name__ in args.parts:
            row = part(until_over(max(1, round(count * args.share)), args.minutes))
            row["in full"] = in_full
            line = "| " + " | ".join(str(row[name]) for name in COLUMNS) + " |"
            print(line, flush=True)
            if args.write:
                put(args.write, line)


if __name__ == "__main__":
    main()
