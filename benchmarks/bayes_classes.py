"""Whole search classes on one torch net: best score and wall time, side by side.

Digits, a net of one hidden layer, 40 candidates, 3 folds, one job, one thread: `BayesSearchCV`,
``OptunaSearchCV`` (its default, TPE), scikit-optimize's ``BayesSearchCV`` and
``RandomizedSearchCV``, over the same net, folds and seed. The seconds beside the fits are what a
class spends on its own: choosing candidates, cloning, scoring, book-keeping.

Run ``python benchmarks/bayes_classes.py run --seeds 3`` and then ``... table``. Results are
appended to a file, so that a long run can be made in parts.
"""

import argparse
import json
import statistics
import time
import warnings

import numpy as np
import optuna
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_digits
from sklearn.model_selection import RandomizedSearchCV, StratifiedKFold
from skopt import BayesSearchCV as SkoptSearchCV
from skopt.space import Categorical, Integer, Real

from skhpo import BayesSearchCV, TorchClassifier, log_randint

SECONDS = [0.0]


class Timed(TorchClassifier):
    """Notes how long its fits take."""

    def fit(self, X, y, **fit_params):
        start = time.process_time()
        super().fit(X, y, **fit_params)
        SECONDS[0] += time.process_time() - start
        return self


OPTUNA_SPACE = {
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
    "module__n_units": IntDistribution(4, 128, log=True),
    "module__dropout": FloatDistribution(0.0, 0.6),
    "optimizer__weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
    "batch_size": CategoricalDistribution([32, 64, 128, 256]),
}
SKOPT_SPACE = {
    "lr": Real(1e-4, 1e-1, prior="log-uniform"),
    "module__n_units": Integer(4, 128, prior="log-uniform"),
    "module__dropout": Real(0.0, 0.6),
    "optimizer__weight_decay": Real(1e-6, 1e-1, prior="log-uniform"),
    "batch_size": Categorical([32, 64, 128, 256]),
}
SCIPY_SPACE = {
    "lr": loguniform(1e-4, 1e-1),
    "module__n_units": log_randint(4, 129),
    "module__dropout": uniform(0, 0.6),
    "optimizer__weight_decay": loguniform(1e-6, 1e-1),
    "batch_size": [32, 64, 128, 256],
}


def searches(args, seed):
    from optuna_integration import OptunaSearchCV

    net = Timed(module__n_units=64, max_epochs=args.epochs, optimizer="adam", random_state=seed)
    cv = StratifiedKFold(3, shuffle=True, random_state=seed)
    common = {"cv": cv, "random_state": seed, "refit": False}
    return {
        "BayesSearchCV": BayesSearchCV(net, OPTUNA_SPACE, n_iter=args.candidates, **common),
        "OptunaSearchCV": OptunaSearchCV(net, OPTUNA_SPACE, n_trials=args.candidates, **common),
        "BayesSearchCV of scikit-optimize": SkoptSearchCV(
            net, SKOPT_SPACE, n_iter=args.candidates, **common
        ),
        "RandomizedSearchCV": RandomizedSearchCV(
            net, SCIPY_SPACE, n_iter=args.candidates, **common
        ),
    }


def run(args):
    X, y = load_digits(return_X_y=True)
    X, y = (X / 16).astype(np.float32), y.astype(np.int64)
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for name, search in searches(args, seed).items():
            SECONDS[0] = 0.0
            wall, cpu = time.perf_counter(), time.process_time()
            row = {"search": name, "seed": seed}
            try:
                search.fit(X, y)
                row["score"] = float(search.best_score_)
            except Exception as error:
                row["error"] = f"{type(error).__name__}: {error}"
            row["wall"] = time.perf_counter() - wall
            row["own"] = time.process_time() - cpu - SECONDS[0]
            with open(args.results, "a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


def table(args):
    with open(args.results) as file:
        rows = [json.loads(line) for line in file]
    names = list(dict.fromkeys(row["search"] for row in rows))
    peer = {row["seed"]: row for row in rows if row["search"] == names[0]}
    print("| search | best score, mean (min to max) | wall, s | ratio (min to max) | own CPU, s |")
    print("| --- | --- | --- | --- | --- |")
    for name in names:
        own = [row for row in rows if row["search"] == name and "score" in row]
        scores = [row["score"] for row in own]
        ratios = [row["wall"] / peer[row["seed"]]["wall"] for row in own]
        print(
            f"| {name} | {statistics.mean(scores):.4f} ({min(scores):.4f} to {max(scores):.4f}) "
            f"| {statistics.median(row['wall'] for row in own):.1f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {statistics.median(row['own'] for row in own):.1f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--results", default="bayes_classes.jsonl")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    run(args) if args.what == "run" else table(args)


if __name__ == "__main__":
    main()
