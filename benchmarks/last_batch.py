"""Small last batches: a step of their own, or joined to the batch before.

Of each table 772 rows are searched by Hyperband for some seconds, with folds of 617 and 618 rows.
All batch sizes of the space leave 4 of the 772 rows, and 9 to 105 of those of the folds. The best
configurations, and the best of each batch size, are trained on all 772 rows under some seeds:
with the 4 rows as a batch of their own, and joined to the batch before. What they lose on other
rows is compared, and both with what the networks of the folds lose there. A ratio above 1 says
that the small batch is worse.

    python benchmarks/last_batch.py
"""

from __future__ import annotations

import argparse
import os
import warnings
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from race import DATA, TABLES, loss_of, read_task
from race_contestants import CONTESTANTS, Clock, Task, TimeIsOver, network
from sklearn.model_selection import KFold, StratifiedKFold

from skhpo.training import batches

N_BEST = 3


def sample(folder, table, seed, n):
    """Return a task with `n` rows of a table; its test is that of the race."""
    task = read_task(folder, table, seed)
    rows = np.random.RandomState(seed).permutation(len(task.X))[:n]
    X, y = task.X[rows], task.y[rows]
    kind = StratifiedKFold if task.is_classes else KFold
    folds = list(kind(5, shuffle=True, random_state=seed).split(X, y))
    return Task(X, y, task.X_test, task.y_test, folds, task.is_classes)


def configurations(task, seed, seconds):
    """Return the best that a search finds, and the best of each batch size: losses, parameters."""
    clock = Clock(seconds)
    with suppress(TimeIsOver):
        CONTESTANTS["hyperband"](task, seed, clock)
    found = sorted((loss, repr(p), p) for _, loss, p in clock.points if np.isfinite(loss))
    of_size = {}
    for one in found:
        of_size.setdefault(one[2]["batch_size"], one)
    chosen = {one[1]: one for one in [*found[:N_BEST], *of_size.values()]}
    return [(loss, params) for loss, _, params in chosen.values()]


def losses(task, params, seeds, share):
    """Return the test losses by seed, for a smallest share of a last batch."""
    batches._LEAST_LAST = share
    nets = [network(task, random_state=seed, **params).fit(task.X, task.y) for seed in seeds]
    return [loss_of(task, net) for net in nets]


def losses_of_folds(task, params, seed):
    nets = [
        network(task, random_state=seed, **params).fit(task.X[train], task.y[train])
        for train, _ in task.folds
    ]
    return [loss_of(task, net) for net in nets]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=DATA)
    parser.add_argument("--tables", nargs="+", default=TABLES)
    parser.add_argument("--rows", type=int, default=772)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--below", type=float, help="smaller shares of a batch are joined")
    parser.add_argument("--n-seeds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    default = batches._LEAST_LAST
    below = default if args.below is None else args.below
    seeds = range(1000, 1000 + args.n_seeds)
    print(
        "| table | batch size, epochs, lr | rest | loss of folds | networks of folds | own "
        "| joined | ratio |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for table in args.tables:
        task = sample(args.folder, table, args.seed, args.rows)
        batches._LEAST_LAST = default
        for loss, params in configurations(task, args.seed, args.seconds):
            of_folds = losses_of_folds(task, params, 1)
            own, joined = (losses(task, params, seeds, share) for share in (0, below))
            name = f"{params['batch_size']}, {params['max_epochs']}, {params['lr']:.4f}"
            cells = f"{loss:.4f} | {np.mean(of_folds):.4f} | "
            cells += " | ".join(f"{np.mean(x):.4f} ± {np.std(x):.4f}" for x in (own, joined))
            rest = args.rows % params["batch_size"] / params["batch_size"]
            ratio = np.mean(own) / np.mean(joined)
            print(f"| {table} | {name} | {rest:.2f} | {cells} | {ratio:.3f} |", flush=True)


if __name__ == "__main__":
    main()
