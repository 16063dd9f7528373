"""How far one driver goes: searches on clusters of up to 10,000 workers that are not there.

The driver is that of every search; `virtual_cluster.py` has the workers. Candidates take log-normal
times, most of them within a factor of 30; a fit takes 10 seconds in the mean unless a case says
otherwise. One fit in 200 takes its worker with it, workers leave and others come. Each case runs in
a process of its own.

* *own time* is the processor time of the driver per fit, everything from ``search.fit`` to
  ``cv_results_``, without that of the simulation;
* *in use* is the share of the workers that were there, until the last candidate started;
* *pause* is how long a free worker waits for the driver while there is something to start;
* *memory* is what the peak of the process grew by.

Run it with ``python benchmarks/cluster.py``, with words to choose cases, ``--list`` to see them,
and ``--picture PATH`` to draw what ``--results`` has.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scale_rows import exponent, peak_bytes
from scipy.stats import loguniform, randint, uniform
from virtual_cluster import SPLIT, Cluster, Epochs, X, simulated, y

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, HarmonicaSearchCV

SPACE = {"lr": loguniform(1e-4, 1), "units": randint(8, 512), "quality": uniform()}
# Of Hyperband from 3 to 81 epochs: trials of an iteration, and epochs that one of them adds.
N_TRIALS, EPOCHS = 69, 15.5


@dataclass(frozen=True)
class Case:
    kind: str
    n_workers: int
    n_fits: int
    seconds: float = 10.0

    @property
    def name(self):
        return f"{self.kind}, {self.n_workers:,} workers, {self.n_fits:,} fits"

    def search(self):
        common = {"cv": SPLIT, "refit": False, "random_state": 0}
        if self.kind.startswith("Hyperband"):
            return HalvingHyperbandSearchCV(
                Epochs(),
                SPACE,
                max_resources=81,
                n_iterations=round(self.n_fits / N_TRIALS),
                asynchronous="asynchronous" in self.kind,
                **common,
            )
        if self.kind.startswith("Bayes"):
            return BayesSearchCV(Epochs(), SPACE, n_iter=self.n_fits, asynchronous=True, **common)
        space = {name: values for name, values in SPACE.items() if name != "units"}
        space |= {"units": [2**i for i in range(3, 9)]}
        return HarmonicaSearchCV(Epochs(), space, n_iter=self.n_fits, **common)

    def run(self):
        cluster = Cluster(
            self.n_workers,
            seconds=self.seconds,
            epochs=EPOCHS if self.kind.startswith("Hyperband") else 1.0,
        )
        search = self.search()
        before, start = peak_bytes(), time.process_time()
        with simulated(cluster):
            search.fit(X, y)
        spent = time.process_time() - start - cluster.own_seconds
        pauses = np.array(cluster.pauses)
        rows = search.cv_results_
        return {
            "kind": self.kind,
            "n_workers": self.n_workers,
            "n_fits": len(rows["params"]),
            "n_lost": int(np.isnan(rows["mean_test_score"]).sum()),
            "n_deaths": cluster.n_deaths,
            "own_ms": 1e3 * spent / cluster.n_fits,
            "in_use": cluster.in_use,
            "pause_ms": 1e3 * float(np.quantile(pauses, 0.99)),
            "longest_ms": 1e3 * float(pauses.max()),
            "megabytes": (peak_bytes() - before) / 1e6,
            "task_bytes": [size for _, size in cluster.task_bytes],
            "hours": cluster.virtual_seconds / 3600,
        }


CASES = [
    *(
        Case(f"Hyperband, {mode}", *size)
        for mode in ("synchronous", "asynchronous")
        for size in [
            (10, 10_000),
            (100, 10_000),
            (1_000, 10_000),
            (1_000, 100_000),
            (1_000, 1_000_000),
            (10_000, 30_000),
        ]
    ),
    Case("Bayes, asynchronous", 10, 150),
    Case("Bayes, asynchronous, fits of an hour", 200, 500, 3600.0),
    Case("Bayes, asynchronous, fits of an hour", 1_000, 1_100, 3600.0),
    Case("Harmonica", 1_000, 3_000),
]


def line(result):
    sizes = result["task_bytes"]
    return (
        f"| {result['kind']} | {result['n_workers']:,} | {result['n_fits']:,} | "
        f"{result['own_ms']:.3f} ms | {result['in_use']:.3f} | {result['pause_ms']:.1f} ms | "
        f"{result['longest_ms']:.0f} ms | {result['megabytes']:.0f} MB | "
        f"{result['n_deaths']:,} / {result['n_lost']} | {sizes[0]:,} / {sizes[-1]:,} |"
    )


def summary(results):
    """Yield the exponents of the total time from 10,000 fits on, at 1,000 workers."""
    for kind in dict.fromkeys(result["kind"] for result in results):
        rows = [r for r in results if r["kind"] == kind and r["n_workers"] == 1_000]
        if len(rows) > 1:
            fits = [row["n_fits"] for row in rows]
            total = [row["n_fits"] * row["own_ms"] for row in rows]
            yield f"{kind}: exponent {exponent(fits, total):.3f} from {min(fits):,} fits on"


def draw(results, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for kind in ("Hyperband, synchronous", "Hyperband, asynchronous"):
        rows = [r for r in results if r["kind"] == kind]
        of_size = sorted((r["n_fits"], r["own_ms"]) for r in rows if r["n_workers"] == 1_000)
        left.plot(*zip(*of_size, strict=True), "o-", label=kind)
        most = {r["n_workers"]: r["in_use"] for r in sorted(rows, key=lambda r: r["n_fits"])}
        right.plot(*zip(*sorted(most.items()), strict=True), "o-", label=kind)
    left.set(xscale="log", xlabel="fits", ylabel="own time of the driver, ms a fit", ylim=(0, None))
    right.set(xscale="log", xlabel="workers", ylabel="in use", ylim=(0, 1.02))
    left.legend()
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--one", type=int, help="run this case here")
    parser.add_argument("--results", type=Path, default=Path("cluster.jsonl"))
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(CASES[args.one].run()))
        return
    chosen = [i for i, case in enumerate(CASES) if all(word in case.name for word in args.words)]
    if args.list:
        print("\n".join(f"{i}: {CASES[i].name}" for i in chosen))
        return
    if args.picture is None:
        for i in chosen:
            command = [sys.executable, __file__, "--one", str(i)]
            printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            with args.results.open("a") as file:
                file.write(printed)
    results = [json.loads(text) for text in args.results.read_text().splitlines()]
    print(
        "| search | workers | fits | own time | in use | pause, 99% | longest | memory | "
        "deaths / lost fits | bytes of the first / last task |"
    )
    print("| --- |" + " ---: |" * 9)
    print("\n".join(map(line, results)))
    print("\n" + "\n".join(summary(results)))
    if args.picture is not None:
        draw(results, args.picture)


if __name__ == "__main__":
    main()
