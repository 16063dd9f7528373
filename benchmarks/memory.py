"""Memory of a search over a memory-mapped array, in proportional set sizes.

A bare ``TorchClassifier`` is searched with two worker processes over a float32 array in a file.
The proportional set size (PSS) of the driver and its workers counts a page that they share once, in
parts; the same search over 1,000 rows shows what the programs themselves take. The rest is what the
data cost: 1.0 would be every page of the file in memory, once.

Processes can only be read one after another, while they map and unmap the file. Their shares then
add up to too much now and then (to more of the file than there is), so the table has the 95th
percentile of the readings beside the largest one.

Run it with ``python benchmarks/memory.py``. With ``--fit`` it measures instead how much one fit of
64 units on images raises the resident size of a process that has fitted a small one before; with
``PYTHONPATH`` set to a checkout it does so for that one.
"""

import argparse
import gc
import os
import tempfile
import threading
from pathlib import Path

import numpy as np
from scipy.stats import loguniform

from skhpo import SearchCV, TorchClassifier
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

N_FEATURES = 256


def family(pid):
    """Return a process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            found += family(int(child))
    return found


def pss(pid):
    """Return the proportional set size of a process in bytes."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


class Readings(threading.Thread):
    """Looks at the memory of this process and its workers until it is stopped."""

    def __init__(self):
        super().__init__(daemon=True)
        self.bytes = []
        self.stopped = threading.Event()

    def run(self):
        while not self.stopped.wait(0.05):
            self.bytes.append(sum(map(pss, family(os.getpid()))))


def four_at_random(space, random_state):
    return FullScheduler(RandomSampler(space, random_state), n_candidates=4)


def memory_of(X, y):
    search = SearchCV(
        TorchClassifier(module__n_units=16, max_epochs=1, batch_size=4096),
        {"lr": loguniform(1e-4, 1e-2)},
        scheduler=four_at_random,
        cv=5,
        n_jobs=2,
        refit=False,
        random_state=0,
    )
    readings = Readings()
    readings.start()
    search.fit(X, y)
    readings.stopped.set()
    readings.join()
    return np.percentile(readings.bytes, [95, 100])


def write(path, n_rows, rng):
    X = np.lib.format.open_memmap(path, "w+", np.float32, (n_rows, N_FEATURES))
    for start in range(0, n_rows, 10_000):
        stop = min(start + 10_000, n_rows)
        X[start:stop] = rng.standard_normal((stop - start, N_FEATURES), dtype=np.float32)
    X.flush()


def resident(name):
    """Return the resident size ("VmRSS") of this process, or the largest one ("VmHWM"), in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name))


def peak_of_fit(n_rows=4000, n_features=784):
    """Return the MB that a fit adds at most to the resident size, and those of its inputs."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, n_features), dtype=np.float32)
    y = rng.integers(0, 10, n_rows)
    net = TorchClassifier(module__n_units=64, batch_size=64, max_epochs=3, random_state=0)
    net.fit(X[:200, :64], y[:200])  # imports parts of torch
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the largest size from here on
    before = resident("VmRSS")
    net.fit(X, y)
    return resident("VmHWM") - before, X.nbytes / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--fit", action="store_true", help="one fit in place of searches")
    args = parser.parse_args()
    if args.fit:
        print("a fit adds {:.1f} MB to {:.1f} MB of inputs".format(*peak_of_fit()))
        return
    n_rows = int(args.gigabytes * 1e9 / 4 / N_FEATURES)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        write(path, n_rows, rng)
        X = np.load(path, mmap_mode="r")
        y = rng.integers(0, 3, n_rows)
        small = memory_of(np.array(X[:1000]), y[:1000])
        large = memory_of(X, y)
    print("| search over | PSS of driver and workers, 95th percentile | largest reading |")
    print("| --- | --- | --- |")
    print(f"| 1,000 rows | {small[0] / 1e9:.2f} GB | {small[1] / 1e9:.2f} GB |")
    data = f"{X.nbytes / 1e9:.2f} GB in {n_rows:,} rows"
    print(f"| {data} | {large[0] / 1e9:.2f} GB | {large[1] / 1e9:.2f} GB |")
    extra = (large - small) / X.nbytes
    print(f"| beyond the small search | {extra[0]:.2f} x the data | {extra[1]:.2f} x |")


if __name__ == "__main__":
    main()
