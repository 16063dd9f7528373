"""The refit for found epochs against a refit that holds rows out again.

On four tables (of ``../shared/data``; where that is missing of scikit-learn) a search over small
networks that stop early is run on a part of the rows. Its best candidate is refitted in each of the
ways of `refit_epochs`, all under the same seed: "same" holds a fifth of the rows out again and is
the peer; "auto", the default, is "median" here, which like "scaled" trains on all rows for the
epochs that the folds found. Reported is the loss on the other rows: cross-entropy of classifiers,
squared error over the variance of y of regressors; and how often a way beats the peer.

The second table is the optimism of ``early_stopping_on="fold"``: networks of one setting are
stopped on the fold that scores them, or on a part of their training rows; each is scored on the
fold and on the rows that nothing has seen.

``python benchmarks/refit_epochs.py [--rows 500] [--seeds 5] [--results runs.jsonl]``; a run that
`--results` has is not repeated.
"""

import argparse
import json
import statistics
import tempfile
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import loguniform
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import BayesSearchCV, TorchClassifier, TorchRegressor, log_randint

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
TABLES = ("churn", "attrition", "satimage", "concrete")
OF_SKLEARN = {
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
    "wine": load_wine,
    "diabetes": load_diabetes,
}
WAYS = ("same", "auto", "scaled")
TRAINING = {"max_epochs": 300, "patience": 10, "device": "cpu"}


def tables():
    """Yield name, X, y and whether y has classes."""
    found = [DATA / f"{name}.csv.gz" for name in TABLES]
    if not all(path.exists() for path in found):
        for name, load in OF_SKLEARN.items():
            yield name, *load(return_X_y=True), name != "diabetes"
        return
    import pandas as pd

    for path in found:
        frame = pd.read_csv(path).dropna()
        name, y = path.name.partition(".")[0], frame.pop("target")
        is_classes = name != "concrete"
        y = pd.factorize(y, sort=True)[0] if is_classes else y.to_numpy(float)
        yield name, pd.get_dummies(frame).to_numpy(float), y, is_classes


def search_of(is_classes, seed, journal, **kwargs):
    estimator = TorchClassifier if is_classes else TorchRegressor
    net = estimator(**TRAINING, validation_fraction=0.2)
    name = type(net).__name__.lower()
    space = {
        f"{name}__lr": loguniform(2e-4, 1e-2),
        f"{name}__module__n_units": log_randint(8, 129),
        f"{name}__optimizer__weight_decay": loguniform(1e-4, 1e-1),
    }
    return BayesSearchCV(
        make_pipeline(StandardScaler(), net),
        space,
        n_iter=6,
        cv=4,
        scoring="neg_log_loss" if is_classes else "neg_mean_squared_error",
        random_state=seed,
        journal=journal,
        **kwargs,
    )


def loss(fitted, X, y, is_classes, variance=None):
    if is_classes:
        return log_loss(y, fitted.predict_proba(X), labels=fitted.classes_)
    return float(np.mean((fitted.predict(X) - y) ** 2) / (variance or np.var(y)))


def parts(X, y, is_classes, seed, n_rows):
    n_rows = min(n_rows, len(X) * 2 // 3)
    strata = y if is_classes else None
    return train_test_split(X, y, train_size=n_rows, stratify=strata, random_state=seed)


def run(X, y, is_classes, seed, n_rows):
    """Return the loss and the epochs of each way."""
    X, X_test, y, y_test = parts(X, y, is_classes, seed, n_rows)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for way in WAYS:  # the later ones find all fits in the journal
            search = search_of(is_classes, seed, f"{folder}/run.jsonl", refit_epochs=way)
            search.fit(X, y)
            net = search.best_estimator_[-1]
            found[way] = loss(search, X_test, y_test, is_classes), net.best_epoch_
    return found


def optimism(X, y, is_classes, seed, n_rows):
    """Return the losses on folds and on new rows, by what the networks are stopped on."""
    X, X_new, y, y_new = parts(X, y, is_classes, seed, n_rows)
    splitter = (StratifiedKFold if is_classes else KFold)(4, shuffle=True, random_state=seed)
    found = {"inner": [], "fold": []}
    for train, test in splitter.split(X, y):
        scaler = StandardScaler().fit(X[train])
        (X_train, X_fold, X_rest), y_fold = (
            map(scaler.transform, (X[train], X[test], X_new)),
            y[test],
        )
        for on, losses in found.items():
            estimator = TorchClassifier if is_classes else TorchRegressor
            net = estimator(**TRAINING, random_state=seed)
            given = {"validation_data": (X_fold, y_fold)}
            if on == "inner":
                net, given = net.set_params(validation_fraction=0.2), {}
            net.fit(X_train, y[train], **given)
            rest = loss(net, X_rest, y_new, is_classes, np.var(y))
            losses.append((loss(net, X_fold, y_fold, is_classes, np.var(y)), rest))
    return {on: np.mean(losses, axis=0) for on, losses in found.items()}


class Results:
    """What runs return, as JSON, in a file if there is one: a run that is there is not repeated."""

    def __init__(self, path):
        self.path, self.known = path, {}
        if path is not None and path.exists():
            lines = map(json.loads, path.read_text().splitlines())
            self.known = {tuple(key): value for key, value in lines}

    def of(self, function, name, *data, seed, n_rows):
        key = function.__name__, name, seed, n_rows
        if key not in self.known:
            found = function(*data, seed, n_rows)
            self.known[key] = {way: [float(one) for one in pair] for way, pair in found.items()}
            if self.path is not None:
                with self.path.open("a") as file:
                    file.write(json.dumps([key, self.known[key]]) + "\n")
        return self.known[key]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    results = Results(args.results)
    better = dict.fromkeys(WAYS[1:], 0)
    n_runs = 0
    print('| table | way | loss | over that of "same" (spread) | better | epochs |')
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, X, y, is_classes in tables():
        data = name, X.astype(np.float32), y, is_classes
        runs = [results.of(run, *data, seed=seed, n_rows=args.rows) for seed in range(args.seeds)]
        n_runs += len(runs)
        for way in WAYS:
            losses = [one[way][0] for one in runs]
            ratios = [one[way][0] / one["same"][0] for one in runs]
            epochs = statistics.median(one[way][1] for one in runs)
            row = [name, way, f"{statistics.mean(losses):.4f}"]
            if way == "same":
                print("|", " | ".join([*row, "", "", f"{epochs:g}"]), "|", flush=True)
                continue
            wins = sum(ratio < 1 for ratio in ratios)
            better[way] += wins
            spread = f"{statistics.mean(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
            row += [spread, f"{wins} of {len(runs)}", f"{epochs:g}"]
            print("|", " | ".join(row), "|", flush=True)
    for way, wins in better.items():
        print(f"\n{way}: better in {wins} of {n_runs}")
    print("\n| table | stopped on | loss on the fold | on new rows | optimism (spread) |")
    print("| --- | --- | ---: | ---: | ---: |")
    for name, X, y, is_classes in tables():
        data = name, X.astype(np.float32), y, is_classes
        runs = [
            results.of(optimism, *data, seed=seed, n_rows=args.rows) for seed in range(args.seeds)
        ]
        for on in runs[0]:
            fold, new = np.mean([one[on] for one in runs], axis=0)
            shares = [1 - one[on][0] / one[on][1] for one in runs]
            spread = f"{np.mean(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})"
            print(f"| {name} | {on} | {fold:.4f} | {new:.4f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
