"""Ray on this machine: short fits, and worker processes that are killed one by one.

As `cluster_dask.py`, whose search and estimator these are. A worker that has done a fit is killed
every second that so many are there: one that Ray starts in its place needs seconds to be.

Run it with ``python benchmarks/cluster_ray.py``.
"""

import argparse
import os
import statistics
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import ray
from cluster_dask import fits_per_second, killing, ours, theirs
from ray.util.joblib import register_ray


def done_by(folder):
    """Return the pids that have done a fit and are there."""
    return [int(name) for name in os.listdir(folder) if os.path.exists(f"/proc/{name}")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--fits", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--killed-fits", type=int, default=10_000, help="while workers are killed")
    args = parser.parse_args()
    n = args.fits
    ray.init(
        num_cpus=args.workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=2e8,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
    )
    register_ray()
    print(f"{args.workers} workers, fits of 10 ms\n\n| what | |\n| --- | ---: |")
    fits_per_second(ours(100, 0), 100, "ray")
    if args.repeats:
        fits_per_second(theirs(100, 0), 100, "ray")
        rates = {"skhpo": [], "joblib": []}
        for seed in range(args.repeats):
            rates["skhpo"].append(fits_per_second(ours(n, seed), n, "ray"))
            rates["joblib"].append(fits_per_second(theirs(n, seed), n, "ray"))
        ratios = [own / peer for own, peer in zip(*rates.values(), strict=True)]
        found = " and ".join(f"{statistics.median(rate):.0f}" for rate in rates.values())
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| fits per second of {n:,}, skhpo and joblib | {found} |")
        print(f"| ratio, {args.repeats} in turn | {ratio} |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        search = ours(args.killed_fits, 7, folder)
        with killing(lambda: done_by(folder), 1.0, args.workers) as killed:
            rate = fits_per_second(search, args.killed_fits, "ray")
        notes = Counter(q for file in Path(folder).iterdir() for q in file.read_text().split())
    print(f"| fits per second of {args.killed_fits:,} while workers are killed | {rate:.0f} |")
    print(f"| workers killed | {len(killed)} |")
    scores = search.cv_results_["mean_test_score"]
    own = np.array([params["quality"] for params in search.cv_results_["params"]])
    print(f"| rows, fits without their own score | {len(scores):,}, {(scores != own).sum()} |")
    again = sum(notes.values()) - len(notes)
    print(f"| fits never done, done again | {args.killed_fits - len(notes)}, {again} |")


if __name__ == "__main__":
    main()
