"""Whole searches that train candidates and folds as one network, against the same fits one by one.

* ``grid``: 24 candidates on 5 folds of the digits, 20 epochs, batches of 64, two worker processes:
  ``GridSearchCV`` over skorch's own net (no validation part, nothing printed) and `SearchCV` over
  `TorchClassifier`, with one and with two hidden layers.
* ``hyperband``: up to 81 epochs, 3 folds, two worker processes, with ``lockstep="auto"`` and with
  ``lockstep=False``: on the digits (64-64-10), and on MNIST images (784-64-10), bound by
  arithmetic, where there are some in ``../shared/data``.

The two of a row take turns; a ratio is one of two times within a turn. Workers are started, and
have imported everything, before the first turn. Nothing is refitted. CPU seconds are those of this
process and its workers together.

Run it with ``python benchmarks/lockstep_search.py``; ``--rows`` and ``--repeats`` choose what is
measured, ``--append FILE`` adds it to a file of JSON lines, and ``--table FILE`` shows one.
``--group-sizes 20 30`` measures our searches alone, in this process, by the most networks of a
group.
"""

import argparse
import json
import os
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier

from skhpo import HalvingHyperbandSearchCV, SearchCV, TorchClassifier
from skhpo.estimators import MLP
from skhpo.lockstep import _members
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

GRID = {
    "lr": [3e-4, 1e-3, 3e-3, 1e-2, 2e-2, 3e-2],
    "optimizer__weight_decay": [0, 1e-5, 1e-4, 1e-3],
}
SPACE = {"lr": loguniform(1e-4, 1e-1), "optimizer__weight_decay": loguniform(1e-6, 1e-2)}
TICK = os.sysconf("SC_CLK_TCK")


def digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y.astype(np.int64)


def images(n=2000):
    """Return some of the MNIST images, if they are there."""
    path = Path(__file__).parents[2] / "shared" / "data" / "mnist10k.npz"
    if not path.exists():
        return None
    with np.load(path) as data:
        X, y = data["X"][:n], data["y"][:n]
    return (X.reshape(n, -1) / 255).astype(np.float32), y.astype(np.int64)


def skorch_net(sizes):
    return NeuralNetClassifier(
        MLP,
        **{f"module__{name}": value for name, value in sizes.items()},
        module__in_features=64,
        module__out_features=10,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        batch_size=64,
        max_epochs=20,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    )


def torch_net(sizes, **kwargs):
    named = {f"module__{name}": value for name, value in sizes.items()}
    return TorchClassifier(MLP, **named, optimizer="adam", batch_size=64, **kwargs)


def whole_grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def grid_searches(sizes, n_jobs, seed):
    common = {"cv": 5, "n_jobs": n_jobs, "refit": False}
    net = torch_net(sizes, max_epochs=20, device="cpu")
    return {
        "GridSearchCV over skorch": GridSearchCV(skorch_net(sizes), GRID, **common),
        "SearchCV, lockstep='auto'": SearchCV(
            net, GRID, scheduler=whole_grid, random_state=seed, **common
        ),
    }


def hyperband_searches(sizes, n_jobs, seed):
    common = {"resource": "max_epochs", "max_resources": 81, "cv": 3, "n_jobs": n_jobs}
    return {
        f"HalvingHyperbandSearchCV, lockstep={lockstep!r}": HalvingHyperbandSearchCV(
            torch_net(sizes, device="cpu"),
            SPACE,
            lockstep=lockstep,
            refit=False,
            random_state=seed,
            **common,
        )
        for lockstep in (False, "auto")
    }


ONE, TWO = {"n_units": 32, "n_layers": 1}, {"n_units": 64, "n_layers": 2}
ROWS = {
    "grid, digits, 64-32-10": (grid_searches, ONE, digits),
    "grid, digits, 64-64-64-10": (grid_searches, TWO, digits),
    "hyperband, digits, 64-64-10": (hyperband_searches, {**ONE, "n_units": 64}, digits),
    "hyperband, images, 784-64-10": (hyperband_searches, {**ONE, "n_units": 64}, images),
}


def cpu_seconds():
    """Return CPU seconds of this process and its children so far."""
    own, total = os.getpid(), time.process_time()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == own:
            total += (int(fields[11]) + int(fields[12])) / TICK
    return total


def warm_up(n_jobs):
    X, y = digits()
    for make in (grid_searches, hyperband_searches):
        for search in make({"n_units": 4, "n_layers": 1}, n_jobs, 0).values():
            small = {"resource": "max_epochs", "max_resources": 3}
            if hasattr(search, "max_resources"):
                search.set_params(**small)
            else:
                search.estimator.set_params(max_epochs=1)
            search.fit(X[:200], y[:200])


def measure(name, n_jobs, seed):
    """Return seconds, CPU seconds and best score of both searches of a row."""
    make, sizes, data = ROWS[name]
    X, y = data()
    measured = {"row": name, "n_jobs": n_jobs}
    for label, search in make(sizes, n_jobs, seed).items():
        start, cpu = time.perf_counter(), cpu_seconds()
        search.fit(X, y)
        measured[label] = {
            "seconds": time.perf_counter() - start,
            "cpu": cpu_seconds() - cpu,
            "best": float(search.cv_results_["mean_test_score"].max()),
            "fits": len(search.cv_results_["params"]) * search.n_splits_,
        }
    return measured


def compare_group_sizes(name, group_sizes, repeats):
    """Print processor seconds of our search by the most networks of a group; they take turns."""
    make, sizes, data = ROWS[name]
    X, y = data()
    seconds = {size: [] for size in group_sizes}
    for seed in range(repeats + 1):
        for size in group_sizes:
            _members._MOST["cpu"] = size
            search = list(make(sizes, 1, seed).values())[-1]
            start = time.process_time()
            search.fit(X, y)
            seconds[size].append(time.process_time() - start)
    cells = (f"{min(own[1:]):.2f} ({statistics.median(own[1:]):.2f})" for own in seconds.values())
    print(f"| {name} | {' | '.join(cells)} |")


def table(lines):
    print("| row | search | fits | seconds (median) | ratio (median, min to max) | ", end="")
    print("ratio of CPU seconds | best score |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for row in dict.fromkeys(line["row"] for line in lines):
        runs = [line for line in lines if line["row"] == row]
        labels = [label for label in runs[0] if label not in ("row", "n_jobs")]
        for label in labels:
            own = [run[label] for run in runs]
            ratios = {
                key: [run[labels[0]][key] / run[label][key] for run in runs]
                for key in ("seconds", "cpu")
            }
            low, high = min(ratios["seconds"]), max(ratios["seconds"])
            print(
                f"| {row} | {label} | {own[0]['fits']} "
                f"| {statistics.median(run['seconds'] for run in own):.1f} "
                f"| {statistics.median(ratios['seconds']):.2f} ({low:.2f} to {high:.2f}) "
                f"| {statistics.median(ratios['cpu']):.2f} "
                f"| {statistics.median(run['best'] for run in own):.3f} |"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="*", default=list(ROWS), help="their first letters do")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the first repeat")
    parser.add_argument("--group-sizes", nargs="+", type=int)
    parser.add_argument("--append", type=Path)
    parser.add_argument("--table", type=Path)
    args = parser.parse_args()
    if args.table is not None:
        table([json.loads(line) for line in args.table.read_text().splitlines()])
        return
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if args.group_sizes:
        for name in ROWS:
            if name.startswith(tuple(args.rows)):
                compare_group_sizes(name, args.group_sizes, args.repeats)
        return
    warm_up(args.n_jobs)
    lines = []
    for seed in range(args.seed, args.seed + args.repeats):
        for name in ROWS:
            if not name.startswith(tuple(args.rows)) or ROWS[name][2]() is None:
                continue
            lines.append(measure(name, args.n_jobs, seed))
            if args.append is not None:
                with args.append.open("a") as file:
                    print(json.dumps(lines[-1]), file=file)
    table(lines)


if __name__ == "__main__":
    main()
