"""Searches with and without averages of weights, on tables of some hundred rows.

`HalvingHyperbandSearchCV` with its defaults, and with ``average=None``, searches a table under so
many seeds, with another quarter of the rows as test for each. The best row is trained on all rows
that were searched under five more seeds; what counts is the mean test loss of these networks.

    python benchmarks/selection.py tables --folder tables
    python benchmarks/averaged_rungs.py --folder tables --tables cancer diabetes digits titanic
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from race import DATA, loss_of, read_task
from race_contestants import SPACE, network

from skhpo import HalvingHyperbandSearchCV

SEEDS = range(3000, 3005)
CONTESTANTS = {"averages": {}, "last weights": {"average": None}}


def losses(task, seed):
    """Return the mean test loss of each contestant's best row."""
    found = {}
    for name, arguments in CONTESTANTS.items():
        search = HalvingHyperbandSearchCV(
            network(task),
            SPACE,
            scoring=task.scoring,
            cv=task.folds,
            refit=False,
            random_state=seed,
            **arguments,
        ).fit(task.X, task.y)
        nets = [network(task, random_state=one, **search.best_params_) for one in SEEDS]
        found[name] = float(np.mean([loss_of(task, net.fit(task.X, task.y)) for net in nets]))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=DATA)
    parser.add_argument("--tables", nargs="+", required=True)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--results", type=Path, default="averaged.jsonl")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    runs = []
    if args.results.exists():
        runs = [json.loads(line) for line in args.results.read_text().splitlines()]
    known = {(run["table"], run["seed"]) for run in runs}
    for table in args.tables:
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            if (table, seed) not in known:
                task = read_task(args.folder, table, seed, test_seed=seed)
                runs.append({"table": table, "seed": seed, **losses(task, seed)})
                with args.results.open("a") as file:
                    file.write(json.dumps(runs[-1]) + "\n")
    print("| table | searches | change of the loss | median | smaller in |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for table in [*args.tables, "all"]:
        here = [run for run in runs if table in (run["table"], "all")]
        change = np.array([run["averages"] / run["last weights"] - 1 for run in here])
        error = change.std(ddof=1) / len(change) ** 0.5
        print(
            f"| {table} | {len(change)} | {change.mean():+.1%} ± {error:.1%} | "
            f"{np.median(change):+.1%} | {(change < 0).sum()} |"
        )


if __name__ == "__main__":
    main()
