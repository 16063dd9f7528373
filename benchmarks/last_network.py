"""What to predict with after a search: a refit, several, networks of folds, or an ensemble.

Hyperband searches a table for so many seconds of the processor, as in `race.py`. The test loss is
then measured of

* *one*: its winner, trained on all rows, in the mean over ten seeds (and the standard deviation);
* *three*, *five*, *ten*: the average of so many of these networks, as
  ``search.ensemble(5, members="seeds")``;
* *folds*: the average of the winner's networks of the folds, which are there already;
* *ensemble*: ``search.ensemble()``, candidates that are selected, each trained once;
* *ensemble of folds*: ``search.ensemble(members="folds")``, of the 10 best rows;
* *ema*, *swa*: the winner with ``average="ema"`` or ``"swa"``, in the mean over five seeds;
* *confirm*: of the three best candidates the best when each is trained once more on the folds,
  under other seeds; one network, in the mean over ten seeds.

    python benchmarks/last_network.py run
    python benchmarks/last_network.py table
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from race import DATA, TABLES, read_task
from race_contestants import SPACE, network
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.model_selection import cross_val_score

from skhpo import EnsembleClassifier, EnsembleRegressor, HalvingHyperbandSearchCV

SEEDS = range(1000, 1010)


class Stop:
    """Ends a search after so many seconds of the processor."""

    def __init__(self, seconds):
        self.end = time.process_time() + seconds

    def on_trial_end(self, search, trial, results, score):
        return time.process_time() > self.end


def searched(task, seed, seconds):
    """Return a fitted search without a refit."""
    search = HalvingHyperbandSearchCV(
        network(task),
        SPACE,
        average=None,
        n_iterations=1000,
        scoring=task.scoring,
        cv=task.folds,
        refit=False,
        random_state=seed,
        callbacks=[Stop(seconds)],
        return_predictions=True,
        keep_models=10,
    )
    return search.fit(task.X, task.y)


def outputs(task, model):
    return model.predict_proba(task.X_test) if task.is_classes else model.predict(task.X_test)


def loss(task, output):
    if task.is_classes:
        return float(log_loss(task.y_test, output, labels=np.unique(task.y)))
    return float(root_mean_squared_error(task.y_test, output))


def case(folder, table, seed, seconds):
    """Return the losses by what is predicted with, and the processor seconds of each."""
    task = read_task(folder, table, seed)
    search = searched(task, seed, seconds)
    found, took = {}, {}
    of = EnsembleClassifier if task.is_classes else EnsembleRegressor

    def fitted(params, seeds):
        nets = [network(task, random_state=one, **params) for one in seeds]
        return of(nets).fit(task.X, task.y).members_

    def measured(name, function):
        start = time.process_time()
        value = function()
        took[name] = time.process_time() - start
        return value

    def mean_of(each):
        return float(np.mean([loss(task, one) for one in each]))

    best = search.best_params_
    measured("one", lambda: fitted(best, SEEDS[:1]))
    measured("five", lambda: fitted(best, SEEDS[:5]))
    each = np.array([outputs(task, net) for net in measured("ten", lambda: fitted(best, SEEDS))])
    found["one"] = mean_of(each)
    found["spread"] = float(np.std([loss(task, one) for one in each]))
    parts = {"three": [0, 3, 6], "five": [0, 5], "ten": [0]}
    for (name, starts), n in zip(parts.items(), (3, 5, 10), strict=True):
        found[name] = mean_of([each[i : i + n].mean(axis=0) for i in starts])
    folds = measured("folds", lambda: search.kept_models(search.best_index_))
    found["folds"] = loss(task, np.mean([outputs(task, net) for net in folds], axis=0))
    for name, members in (("ensemble", "refit"), ("ensemble of folds", "folds")):
        model = measured(
            name, lambda members=members: search.ensemble(members=members, X=task.X, y=task.y)
        )
        found[name] = loss(task, outputs(task, model))
        found[f"members of {name}"] = len(model.members_)
    for name in ("ema", "swa"):
        nets = measured(name, lambda name=name: fitted({**best, "average": name}, SEEDS[:5]))
        found[name] = mean_of([outputs(task, net) for net in nets])
    found["confirm"] = found["one"]
    rows, scores = search._ranked()[:3], []
    for row in rows:
        params = search._params_of(row)
        net = network(task, random_state=77, **params)
        again = cross_val_score(net, task.X, task.y, cv=task.folds, scoring=task.scoring)
        scores.append(search.cv_results_["mean_test_score"][row] + np.mean(again))
    if rows[int(np.argmax(scores))] != rows[0]:
        params = search._params_of(rows[int(np.argmax(scores))])
        found["confirm"] = mean_of([outputs(task, net) for net in fitted(params, SEEDS)])
    return {"losses": found, "seconds": took, "cv": -search.best_score_, "params": best}


def run(args):
    done = set()
    if args.results.exists():
        lines = map(json.loads, args.results.read_text().splitlines())
        done = {(one["table"], one["seed"]) for one in lines}
    start = time.monotonic()
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for table in args.tables:
            if (table, seed) in done or time.monotonic() - start > args.stop_after:
                continue
            found = case(args.folder, table, seed, args.seconds)
            with open(args.results, "a") as file:
                file.write(
                    json.dumps({"table": table, "seed": seed, **found}, default=float) + "\n"
                )
            print(table, seed, {k: round(v, 4) for k, v in found["losses"].items()}, flush=True)


def table(args):
    rows = [json.loads(line) for line in args.results.read_text().splitlines()]
    by_table = defaultdict(list)
    for row in rows:
        by_table[row["table"]].append(row)
    names = [name for name in rows[0]["losses"] if not name.startswith(("spread", "members"))]
    print("| predicts with | " + " | ".join(by_table) + " | mean | better than one | seconds |")
    print("| --- |" + " ---: |" * (len(by_table) + 3))
    for name in names:
        ratios = {
            table: [row["losses"][name] / row["losses"]["one"] for row in own]
            for table, own in by_table.items()
        }
        every = [ratio for own in ratios.values() for ratio in own]
        cells = [f"{np.mean(own):.3f}" for own in ratios.values()]
        if name == "one":
            cells = [
                f"{np.mean([row['losses']['one'] for row in own]):.4f} ± "
                f"{np.mean([row['losses']['spread'] for row in own]):.4f}"
                for own in by_table.values()
            ]
        took = [row["seconds"][name] for row in rows if name in row["seconds"]]
        seconds = f"{np.median(took):.1f} ({min(took):.1f} to {max(took):.1f})" if took else ""
        error = np.std(every, ddof=1) / len(every) ** 0.5
        better = f"{sum(ratio < 1 for ratio in every)} of {len(every)}"
        print(
            f"| {name} | {' | '.join(cells)} | {np.mean(every):.3f} ± {error:.3f} "
            f"| {better} | {seconds} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--folder", type=Path, default=DATA)
    parser.add_argument("--tables", nargs="+", default=TABLES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--results", type=Path, default=Path("last_network.jsonl"))
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="wall seconds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    run(args) if args.what == "run" else table(args)


if __name__ == "__main__":
    main()
