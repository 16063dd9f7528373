"""Ensembles of a search's candidates against its refitted best, on rows that no search has seen.

Bayes searches over small networks on four tables. On the rest of each table are compared, by log
loss or RMSE: the refitted best, the ensemble (members "refit" and "folds"), the best five and ten
averaged, and scikit-learn's stacking of the five. Ratios are to the refitted best, below 1 being
better. *limit* is the ensemble that is selected on the very rows that it is measured on: it says
what there is to gain.

Run ``python benchmarks/ensembles.py run`` and then ``... table``. Results are appended to a file, a
line for each search, and searches that are there are not run again; with ``--journals FOLDER`` also
the fits of a search that was interrupted, or is measured again. Without the tables
(``../shared/data``) three data sets of scikit-learn take their place.

``--scoring default`` guides searches by accuracy, and ``--without-regularisation`` leaves dropout
and weight decay out of their space: what single networks are worth then.
"""

import argparse
import json
import statistics
import time
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from scipy.stats import loguniform, uniform
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import StackingClassifier, StackingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import (
    BayesSearchCV,
    EnsembleClassifier,
    EnsembleRegressor,
    TorchClassifier,
    TorchRegressor,
    log_randint,
)
from skhpo.ensembles import select_members

# Rows to search on; those that are left say how good a model is.
TABLES = {"attrition": 850, "churn": 1000, "satimage": 1000, "concrete": 600}
FOLDER = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


def data(name):
    """Return X, y, and how many rows to search on."""
    import pandas as pd

    if not (FOLDER / f"{name}.csv.gz").exists():
        load, n = {
            "attrition": (load_breast_cancer, 300),
            "churn": (load_breast_cancer, 150),
            "satimage": (load_digits, 1000),
            "concrete": (load_diabetes, 250),
        }[name]
        X, y = load(return_X_y=True)
        return X.astype(np.float32), y, n
    frame = pd.read_csv(FOLDER / f"{name}.csv.gz").dropna()
    y = frame.pop("target")
    y = y.to_numpy(float) if name == "concrete" else pd.factorize(y, sort=True)[0]
    return pd.get_dummies(frame).to_numpy(np.float32), y, TABLES[name]


def search_of(seed, args, regression):
    kind = TorchRegressor if regression else TorchClassifier
    net = make_pipeline(StandardScaler(), kind(max_epochs=args.epochs, batch_size=64))
    name = net.steps[-1][0]
    space = {
        "lr": loguniform(1e-4, 1e-1),
        "module__n_units": log_randint(8, 129),
        "module__n_layers": [1, 2, 3],
    }
    if not args.without_regularisation:
        space["module__dropout"] = uniform(0, 0.6)
        space["optimizer__weight_decay"] = loguniform(1e-6, 1e-1)
    loss = "neg_root_mean_squared_error" if regression else "neg_log_loss"
    folds = KFold if regression else StratifiedKFold
    return BayesSearchCV(
        net,
        {f"{name}__{key}": values for key, values in space.items()},
        n_iter=args.candidates,
        cv=folds(5, shuffle=True, random_state=seed),
        scoring=loss if args.scoring == "loss" else None,
        random_state=seed,
        return_predictions=True,
        keep_models=args.keep,
    )


def seconds_of(function):
    start = time.process_time()  # of this process, whatever others do
    result = function()
    return result, time.process_time() - start


def case(name, seed, args):
    X, y, n = data(name)
    regression = y.dtype.kind == "f"
    X, new, y, truth = train_test_split(
        X, y, train_size=n, stratify=None if regression else y, random_state=seed
    )
    if regression:
        mean, std = y.mean(), y.std()
        y, truth = ((one - mean) / std for one in (y, truth))
        y = y.astype(np.float32)

    def outputs(model):
        return model.predict(new) if regression else model.predict_proba(new)

    def losses(averages):
        metric = root_mean_squared_error if regression else log_loss
        return np.array([float(metric(truth, average)) for average in averages])

    def loss(model):
        return losses([outputs(model)])[0]

    search = search_of(seed, args, regression)
    if args.journals:
        search.set_params(journal=Path(args.journals) / f"{name}-{seed}.jsonl")
    search, whole = seconds_of(lambda: search.fit(X, y))
    if args.journals:  # of which some may have been made before
        whole = float(np.sum(search.cv_results_["mean_fit_time"])) * search.n_splits_
    metric = "neg_root_mean_squared_error" if regression else "neg_log_loss"
    folds, of_folds = seconds_of(lambda: search.ensemble(metric=metric, members="folds"))
    refit, of_refit = seconds_of(lambda: search.ensemble(metric=metric))
    ranked = search.top_estimators(args.candidates)
    five = ranked[:5]
    of_all = np.array([outputs(one) for one in ranked])
    counts = select_members(of_all, lambda averages: -losses(averages))
    limit = np.tensordot(counts / counts.sum(), of_all, axes=1)
    of = EnsembleRegressor if regression else EnsembleClassifier
    stacking = StackingRegressor if regression else StackingClassifier
    final = RidgeCV() if regression else LogisticRegression(max_iter=1000)
    stack, of_stack = seconds_of(
        lambda: stacking([(str(i), clone(one)) for i, one in enumerate(five)], final, cv=5).fit(
            X, y
        )
    )
    return {
        "best": loss(search.best_estimator_),
        "refit": loss(refit),
        "folds": loss(folds),
        "five": loss(of.from_fitted(five)),
        "ten": losses([of_all[:10].mean(axis=0)])[0],
        "stacking": loss(stack),
        "limit": losses([limit])[0],
        "distinct": len(refit.members_),
        "seconds": {
            "search": whole,
            "folds": of_folds,
            "refit": of_refit,
            "stacking": of_stack,
            "predict": seconds_of(lambda: refit.predict(new))[1],
        },
    }


def run(args):
    done = set()
    if Path(args.results).exists():
        lines = Path(args.results).read_text().splitlines()
        done = {tuple(json.loads(line)["case"]) for line in lines}
    todo = [(name, seed) for seed in range(args.seeds) for name in args.tables]
    for name, seed in [one for one in todo if one not in done][: args.at_once]:
        row = {"case": [name, seed], **case(name, seed, args)}
        with open(args.results, "a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)


def table(args):
    rows = [json.loads(line) for line in Path(args.results).read_text().splitlines()]
    tables = defaultdict(list)
    for row in rows:
        tables[row["case"][0]].append(row)
    names = ["refit", "folds", "five", "ten", "stacking", "limit"]
    print(f"| table (searches) | best | {' | '.join(names)} | members |")
    print("| --- " * (len(names) + 3) + "|")
    for name, own in tables.items():
        cells = [f"{statistics.mean(row['best'] for row in own):.3f}"]
        for model in names:
            ratios = [row[model] / row["best"] for row in own]
            cells.append(
                f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
            )
        cells.append(f"{statistics.mean(row['distinct'] for row in own):.0f}")
        print(f"| {name} ({len(own)}) | {' | '.join(cells)} |")
    print()
    for model in names:
        ratios = [row[model] / row["best"] for row in rows]
        print(
            f"{model}: median {statistics.median(ratios):.3f}, mean {statistics.mean(ratios):.3f}, "
            f"better than the refitted best in {sum(r < 1 for r in ratios)} of {len(ratios)}"
        )
    for model in ("folds", "refit", "stacking"):
        shares = [row["seconds"][model] / row["seconds"]["search"] for row in rows]
        print(
            f"processor seconds for {model} / those of the search: {statistics.median(shares):.3f} "
            f"({min(shares):.3f} to {max(shares):.3f})"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--results", default="ensembles.jsonl")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--keep", type=int, default=60, help="rows whose networks are kept")
    parser.add_argument("--scoring", choices=["loss", "default"], default="loss")
    parser.add_argument("--without-regularisation", action="store_true")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--journals", help="folder of the searches' journals; none by default")
    parser.add_argument("--at-once", type=int, help="searches of this run; all by default")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    run(args) if args.what == "run" else table(args)


if __name__ == "__main__":
    main()
