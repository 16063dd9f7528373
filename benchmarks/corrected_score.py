"""How far the best score of a search is luck, and whether `corrected_score` tells.

Simulated tasks are matrices of predictions of candidates whose quality on new data is known:
accuracy and log loss of classifiers, squared errors of regressors, with few and many rows and
candidates, alike and different, correlated or not. Real tasks are searches over small networks, on
a part of a table; what their best candidates are worth is measured on the rest of it. For each
task: the optimism of the best score, what is left of it (the bias) after the correction, and how
often the 95% interval covers the truth. Nested cross-validation is the peer: it estimates the same
by a search per outer fold.

Run ``python benchmarks/corrected_score.py run`` and then ``... table``. Results are appended to a
file, a line for each case, and cases that are there are not run again.
"""

import argparse
import json
import statistics
import time
import warnings
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.special import expit
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import get_scorer
from sklearn.model_selection import StratifiedKFold, train_test_split

from skhpo.ensembles import OutputMetric
from skhpo.model_selection import bias_corrected_score

# Rows, candidates, spread of their quality, and how much they have in common.
ROWS, CANDIDATES, SPREADS, COMMON = (100, 400), (10, 60), (0.0, 0.15, 0.5), (0.3, 0.8)
NEW_ROWS = 20_000


def accuracy_task(random, n, m, spread, common):
    """Candidates whose logits are those of the truth and noise of their own and of all."""
    return _logits(random, n, m, spread, common), "accuracy"


def log_loss_task(random, n, m, spread, common):
    return _logits(random, n, m, spread, common), "neg_log_loss"


def _logits(random, n, m, spread, common):
    noise = np.exp(random.normal(0.3, spread, size=m))  # the candidates' quality

    def rows(n):
        signal = random.normal(size=n) * 1.5
        y = (random.rand(n) < expit(signal)).astype(int)
        shared = random.normal(size=n)
        own = random.normal(size=(m, n))
        errors = np.sqrt(common) * shared + np.sqrt(1 - common) * own
        p = expit(0.8 * (signal + noise[:, None] * errors))
        return np.stack([1 - p, p], axis=2), y

    return rows


def squared_task(random, n, m, spread, common):
    noise = np.exp(random.normal(0, spread, size=m))

    def rows(n):
        signal = random.normal(size=n)
        shared = random.standard_t(5, size=n)
        own = random.standard_t(5, size=(m, n))
        errors = np.sqrt(common) * shared + np.sqrt(1 - common) * own
        return signal + noise[:, None] * errors, signal

    return rows, "neg_root_mean_squared_error"


TASKS = {"accuracy": accuracy_task, "log loss": log_loss_task, "RMSE": squared_task}


def simulated(task, n, m, spread, common, seed, n_bootstrap):
    # Of its own, so that what is drawn for one task says nothing of the others.
    random = np.random.RandomState(zlib.crc32(repr((task, n, m, spread, common, seed)).encode()))
    rows, name = TASKS[task](random, n, m, spread, common)
    outputs, y = rows(n)
    method, classes = "predict", None
    if task != "RMSE":
        method, classes = "predict_proba", np.array([0, 1])
    metric = OutputMetric(get_scorer(name), y, method=method, classes=classes)
    best = int(np.argmax(metric.scores(outputs)))
    new, truth = rows(NEW_ROWS)
    of_new = OutputMetric(get_scorer(name), truth, method=method, classes=classes)
    found = bias_corrected_score(
        lambda weights: metric.scores(outputs, weights),
        n,
        strata=None if classes is None else y,
        n_bootstrap=n_bootstrap,
        random_state=seed,
    )
    return found, float(of_new.scores(new[[best]])[0])


def real_tasks():
    """Yield name, X, y and rows to search on."""
    import pandas as pd

    X, y = load_digits(return_X_y=True)
    yield "digits", X / 16, y, 300
    X, y = load_breast_cancer(return_X_y=True)
    yield "breast cancer", (X - X.mean(axis=0)) / X.std(axis=0), y, 200
    folder = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    for name, n in (("churn", 400), ("satimage", 400)):
        if not (folder / f"{name}.csv.gz").exists():
            continue
        frame = pd.read_csv(folder / f"{name}.csv.gz").dropna()
        y = pd.factorize(frame.pop("target"), sort=True)[0]
        X = pd.get_dummies(frame).to_numpy(float)
        yield name, (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9), y, n


def network_search(seed, n_iter, cv, **kwargs):
    from scipy.stats import loguniform, uniform

    from skhpo import BayesSearchCV, TorchClassifier, log_randint

    return BayesSearchCV(
        TorchClassifier(max_epochs=15, batch_size=64, random_state=None),
        {
            "lr": loguniform(1e-4, 1e-1),
            "module__n_units": log_randint(4, 65),
            "module__dropout": uniform(0, 0.6),
            "optimizer__weight_decay": loguniform(1e-6, 1e-1),
        },
        n_iter=n_iter,
        cv=cv,
        random_state=seed,
        **kwargs,
    )


def real(name, X, y, n, seed, args):
    from skhpo.model_selection import corrected_score

    X, y = X.astype(np.float32), y.astype(np.int64)
    X, new, y, truth = train_test_split(X, y, train_size=n, stratify=y, random_state=seed)
    cv = StratifiedKFold(5, shuffle=True, random_state=seed)
    search = network_search(seed, args.candidates, cv, return_predictions=True).fit(X, y)
    start = time.perf_counter()
    found = corrected_score(search, y, n_bootstrap=args.bootstrap)
    seconds = time.perf_counter() - start
    nested = []
    if seed < args.nested:
        for train, test in cv.split(X, y):
            inner = network_search(seed, args.candidates, cv)
            nested.append(inner.fit(X[train], y[train]).score(X[test], y[test]))
    return {
        "truth": search.score(new, truth),
        "best": search.best_score_,
        "nested": float(np.mean(nested)) if nested else None,
        "seconds": seconds,
        **of(found),
    }


def of(found):
    return {
        "score": found.score,
        "low": found.low,
        "high": found.high,
        "uncorrected": found.uncorrected,
    }


def run(args):
    done = set()
    if Path(args.results).exists():
        lines = Path(args.results).read_text().splitlines()
        done = {tuple(json.loads(line)["case"]) for line in lines}

    def note(case, row):
        with open(args.results, "a") as file:
            file.write(json.dumps({"case": case, **row}) + "\n")

    for task in TASKS:
        for n, m, spread, common in np.ndindex(2, 2, 3, 2):
            setting = ROWS[n], CANDIDATES[m], SPREADS[spread], COMMON[common]
            for seed in range(args.repeats):
                case = (task, *setting, seed)
                if case in done:
                    continue
                found, truth = simulated(task, *setting, seed, args.bootstrap)
                note(case, {"truth": truth, "best": found.uncorrected, **of(found)})
    if args.real:
        for name, X, y, n in real_tasks():
            for seed in range(args.real):
                case = (name, n, args.candidates, "real", "real", seed)
                if case not in done:
                    row = real(name, X, y, n, seed, args)
                    note(case, row)
                    print(case, row, flush=True)


def table(args):
    tasks = defaultdict(list)
    for line in Path(args.results).read_text().splitlines():
        row = json.loads(line)
        tasks[tuple(row["case"][:-1])].append(row)
    groups = defaultdict(list)
    for case, rows in tasks.items():
        groups[case[:3]].append(
            {
                "rows": rows,
                "optimism": statistics.mean(row["best"] - row["truth"] for row in rows),
                "bias": statistics.mean(row["score"] - row["truth"] for row in rows),
                "covered": statistics.mean(r["low"] <= r["truth"] <= r["high"] for r in rows),
            }
        )
    names = "task", "rows", "candidates", "tasks (searches)", "optimism", "bias"
    print(f"| {' | '.join(names)} | bias / optimism | covered |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for case, group in groups.items():
        print(f"| {' | '.join(map(str, case))} | {_summary(group, ' | ')} |")
    print()
    for name, are_real in (("simulated", False), ("real", True)):
        group = [
            one for case, own in groups.items() if (case[0] not in TASKS) == are_real for one in own
        ]
        if group:
            print(f"{name}: {_summary(group, ', ')}")
    rows = [row for group in groups.values() for one in group for row in one["rows"]]
    nested = [row for row in rows if row.get("nested") is not None]
    if nested:
        own = statistics.mean(abs(row["score"] - row["truth"]) for row in nested)
        peer = statistics.mean(abs(row["nested"] - row["truth"]) for row in nested)
        print(
            f"mean distance from the truth of {len(nested)} searches: {own:.4f}, of nested "
            f"cross-validation, with six times the fits: {peer:.4f}"
        )


def _summary(group, separator):
    """Return what a group of tasks has in the mean; ratios are of sums of absolute values."""
    optimism, bias = (statistics.mean(one[key] for one in group) for key in ("optimism", "bias"))
    ratio = sum(abs(one["bias"]) for one in group) / sum(abs(one["optimism"]) for one in group)
    covered = sorted(one["covered"] for one in group)
    return separator.join(
        [
            f"{len(group)} ({sum(len(one['rows']) for one in group)})",
            f"{optimism:.4f}",
            f"{bias:.4f}",
            f"{ratio:.2f}",
            f"{statistics.mean(covered):.1%} ({covered[0]:.0%} to {covered[-1]:.0%})",
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--results", default="corrected_score.jsonl")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--real", type=int, default=0, help="searches per real task")
    parser.add_argument("--nested", type=int, default=2, help="of these, with a nested peer")
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--bootstrap", type=int, default=500)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    run(args) if args.what == "run" else table(args)


if __name__ == "__main__":
    main()
