"""Best score found against seconds: what a search has, whenever it is stopped.

Networks on four tables of ``../shared/data`` (2,000 rows of each at most, three folds), up to 81
epochs, four contestants:

* ``hyperband``: `HalvingHyperbandSearchCV` with its defaults;
* ``hyperband-bayes``: the same with ``sampler="bayes"``;
* ``bayes``: `BayesSearchCV`, every fit of 81 epochs;
* ``random``: random search, every fit of 81 epochs, a candidate at a time.

All start with the estimator's own parameters, which random search gets as well, and train networks
jointly where they can. Seconds are those of the processor, in one process with one thread: the load
of the machine hits nobody, and the contestants of a table and a seed run one after another. At each
moment a search has what `best_score_` would be if it were stopped: the best mean over the folds.

    python benchmarks/anytime.py --write docs/benchmarks/anytime.md
    python benchmarks/anytime.py --seconds 2 --seeds 1 --tables concrete  # a try

``--jobs`` runs so many tables and seeds at a time; ``--results`` keeps the curves as JSON lines,
and what is in there is not run again.
"""

import argparse
import json
import os
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import joblib
import numpy as np
import pandas as pd
import torch
from scipy.stats import loguniform, uniform
from sklearn.preprocessing import StandardScaler

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, SearchCV, TorchClassifier, TorchRegressor
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
TABLES = {"churn": True, "attrition": True, "concrete": False, "satimage": True}  # classes?
CONTESTANTS = ("hyperband", "hyperband-bayes", "bayes", "random")
N_ROWS = 2000
EPOCHS = 81  # the default of `max_resources`
SPACE = {
    "lr": loguniform(1e-4, 1e-1),
    "optimizer__weight_decay": loguniform(1e-6, 1e-1),
    "module__dropout": uniform(0, 0.6),
    "module__n_units": [16, 64],
    "module__n_layers": [1, 2],
}
MOMENTS = np.linspace(0.1, 1, 91)  # of the run


def load(table):
    """Return numbers, standardised, and a target."""
    frame = pd.read_csv(DATA / f"{table}.csv.gz").dropna()
    frame = frame.sample(min(len(frame), N_ROWS), random_state=0)
    y = frame.pop("target").to_numpy()
    X = StandardScaler().fit_transform(pd.get_dummies(frame).astype(float)).astype(np.float32)
    if not TABLES[table]:
        y = ((y - y.mean()) / y.std()).astype(np.float32)
    return X, y


class Curve:
    """Notes when which score was there, and stops the search after so many seconds."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.start = time.process_time()
        self.scores = {}
        self.points = []  # seconds, score
        self.stopped = False

    def on_fit_end(self, search, trial, result):
        seconds = time.process_time() - self.start
        scores = self.scores.setdefault(trial.number, [])
        scores.append(result.test_scores.get("score", np.nan))
        if len(scores) == search.n_splits_:
            self.points.append((seconds, float(np.mean(scores))))
        if seconds > self.seconds and not self.stopped:
            self.stopped = True
            raise KeyboardInterrupt


def contestant(name, estimator, **kwargs):
    if name == "bayes":
        return BayesSearchCV(estimator, SPACE, n_iter=10_000, **kwargs)
    if name == "random":
        return SearchCV(estimator, SPACE, scheduler=one_by_one, **kwargs)
    sampler = "bayes" if name == "hyperband-bayes" else "random"
    return HalvingHyperbandSearchCV(estimator, SPACE, sampler=sampler, n_iterations=1000, **kwargs)


def one_by_one(space, random_state):
    return FullScheduler(RandomSampler(space, random_state), 10_000, batch_size=1)


def run(table, seed, seconds):
    """Run all contestants; return a dict for each."""
    torch.set_num_threads(1)
    run_each(table, seed, 0.0)  # whatever is imported and compiled once
    return run_each(table, seed, seconds)


def run_each(table, seed, seconds):
    X, y = load(table)
    kind = TorchClassifier if TABLES[table] else TorchRegressor
    scoring = "neg_log_loss" if TABLES[table] else "neg_root_mean_squared_error"
    found = []
    for name in CONTESTANTS:
        curve = Curve(seconds)
        search = contestant(
            name,
            kind(max_epochs=EPOCHS, batch_size=64),
            scoring=scoring,
            cv=3,
            refit=False,
            enqueue="defaults",
            random_state=seed,
            callbacks=[curve],
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search.fit(X, y)
        found.append(
            {
                "table": table,
                "seed": seed,
                "seconds": seconds,
                "contestant": name,
                "points": curve.points,
            }
        )
    return found


def incumbent(points, moments):
    """Return the best score so far, at each moment."""
    values = np.full(len(moments), np.nan)
    for seconds, score in points:
        later = moments >= seconds
        values[later] = np.fmax(values[later], score)
    return values


def means(runs, table):
    """Return the mean curve of each contestant."""
    curves = {}
    for name in CONTESTANTS:
        mine = [r for r in runs if (r["table"], r["contestant"]) == (table, name)]
        rows = [incumbent(r["points"], MOMENTS * r["seconds"]) for r in mine]
        curves[name] = np.mean(rows, axis=0)
    return curves


def table_of(runs):
    """Return the results as lines of Markdown."""
    lines = [
        "| table | search | at 10% | 25% | 50% | 100% | candidates | moments not behind random "
        "search | most behind |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for table in dict.fromkeys(r["table"] for r in runs):
        curves = means(runs, table)
        for name, curve in curves.items():
            at = [curve[np.searchsorted(MOMENTS, m - 1e-9)] for m in (0.1, 0.25, 0.5, 1)]
            mine = [r for r in runs if (r["table"], r["contestant"]) == (table, name)]
            n = np.mean([len(r["points"]) for r in mine])
            behind = curves["random"] - curve
            share = f"{np.mean(~(behind > 0)):.0%} | {np.nanmax(np.maximum(behind, 0)):.4f}"
            scores = " | ".join(f"{score:.4f}" for score in at)
            lines.append(f"| {table} | {name} | {scores} | {n:.0f} | {share} |")
    return lines


def draw(runs, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tables = list(dict.fromkeys(r["table"] for r in runs))
    figure, axes = plt.subplots(
        1, len(tables), figsize=(4 * len(tables) + 1.5, 3.6), layout="constrained", squeeze=False
    )
    for ax, table in zip(axes[0], tables, strict=True):
        for name, curve in means(runs, table).items():
            seconds = MOMENTS * next(r["seconds"] for r in runs if r["table"] == table)
            ax.step(seconds, curve, where="post", label=name)
        ax.set(title=table, xlabel="processor seconds")
    scores = "best score so far, mean of the seeds"
    axes[0, 0].set_ylabel(scores)
    figure.legend(*axes[0, -1].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path, dpi=100)


def report(runs, command):
    seeds = len({r["seed"] for r in runs})
    seconds = max(r["seconds"] for r in runs)
    head = __doc__.split("\n\n    python")[0].split("\n\n", 1)[1]
    return "\n".join(
        [
            "# What a search has found, whenever it is stopped",
            "",
            "```",
            command,
            "```",
            "",
            head,
            "",
            f"Mean of {seeds} seeds, {seconds:g} processor seconds for each run. Scores are the "
            "negative log loss of classes and the negative root of the mean squared error "
            "(standardised target) of `concrete`; larger is better. Moments are 91 from a tenth of "
            "the run to its end; *most behind* is the largest difference at one of them.",
            "",
            *table_of(runs),
            "",
            "![Best score against seconds](anytime.png)",
            "",
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path("anytime.jsonl"))
    parser.add_argument("--write", type=Path, help="the page; its picture lies beside it")
    args = parser.parse_args()
    if not DATA.exists():
        raise SystemExit(f"the tables must be in {DATA}, but there is no such folder")

    runs = []
    if args.results.exists():
        runs = [json.loads(line) for line in args.results.read_text().splitlines()]
    runs = [r for r in runs if r["seconds"] == args.seconds]
    done = {(r["table"], r["seed"]) for r in runs}
    wanted = [(table, seed) for seed in range(args.seeds) for table in args.tables]
    calls = [joblib.delayed(run)(*w, args.seconds) for w in wanted if w not in done]
    for found in joblib.Parallel(args.jobs, return_as="generator_unordered")(calls):
        runs += found
        with open(args.results, "a") as file:
            file.writelines(json.dumps(r) + "\n" for r in found)
        print(found[0]["table"], "seed", found[0]["seed"], flush=True)
    runs = [r for r in runs if (r["table"], r["seed"]) in wanted]
    print("\n".join(table_of(runs)))
    if args.write:
        seeds = "" if args.seeds == parser.get_default("seeds") else f"--seeds {args.seeds} "
        command = f"python benchmarks/anytime.py {seeds}--write {args.write}"
        args.write.write_text(report(runs, command))
        draw(runs, args.write.with_suffix(".png"))


if __name__ == "__main__":
    main()
