"""How far the best score of a search is luck, and whether `corrected_score` tells.

Simulated tasks are matrices of predictions of candidates whose quality on new data is known:
accuracy and log loss of classifiers, squared errors of regressors, with few and many rows and
candidates, alike and different, correlated or not. Real tasks are searches over decision trees, and
some over small networks, on a part of a table; what their best candidates are worth is measured on
the rest of it. For each task: the optimism of the best score, what is left of it (the bias) after
the correction, and how often the 95% interval covers the truth. Nested cross-validation is the
peer: it estimates the same by a search per outer fold.

Run ``python benchmarks/corrected_score.py run --real 20 --nested 6`` and then ``... table``.
Results are appended to a file, a line for each case, and cases that are there are not run again.
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
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.metrics import get_scorer
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from skhpo import BayesSearchCV, SearchCV, TorchClassifier, TorchRegressor, log_randint
from skhpo.ensembles import OutputMetric
from skhpo.model_selection import bias_corrected_score, corrected_score
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

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


# Rows of a table to search on; the rest measures. Images are averaged to 14 x 14 pixels.
TABLES = {"attrition": 400, "churn": 400, "satimage": 400, "concrete": 300, "titanic": 300}
IMAGES = {"mnist10k": 400, "fashion3615": 400}
FOLDER = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


def real_tasks():
    """Yield name, X, y and rows to search on."""
    yield "digits", *load_digits(return_X_y=True), 300
    yield "breast cancer", *load_breast_cancer(return_X_y=True), 200
    yield "diabetes", *load_diabetes(return_X_y=True), 200
    for name, n in TABLES.items():
        found = [path for path in FOLDER.glob(f"{name}.csv*") if path.is_file()]
        if found:
            yield name, *of_table(found[0]), n
    for name, n in IMAGES.items():
        if (FOLDER / f"{name}.npz").exists():
            with np.load(FOLDER / f"{name}.npz") as arrays:
                images, y = arrays["X"].astype(float), arrays["y"]
            yield name, images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196), y, n


def of_table(path):
    """Return X and y of a file; columns of many texts are left out."""
    import pandas as pd

    frame = pd.read_csv(path)
    if "Survived" in frame:
        names = ["Pclass", "Sex", "Age", "SibSp", "Parch", "Fare", "Embarked"]
        frame = frame[names].fillna({"Age": frame["Age"].median()}).assign(target=frame["Survived"])
    frame = frame.dropna()
    y = frame.pop("target")
    are_numbers = y.dtype.kind == "f"
    y = y.to_numpy() if are_numbers else pd.factorize(y, sort=True)[0]
    return pd.get_dummies(frame).to_numpy(float), y


def tree_search(regression, seed, n_iter, cv, **kwargs):
    kind = DecisionTreeRegressor if regression else DecisionTreeClassifier
    return SearchCV(
        kind(),
        {
            "max_depth": [2, 3, 4, 6, 8, 12, None],
            "min_samples_leaf": [1, 2, 3, 5, 8, 12, 20],
            "max_features": uniform(0.1, 0.9),
        },
        scheduler=lambda space, random: FullScheduler(RandomSampler(space, random), n_iter),
        scoring="neg_root_mean_squared_error" if regression else "accuracy",
        cv=cv,
        random_state=seed,
        **kwargs,
    )


def network_search(regression, seed, n_iter, cv, **kwargs):
    kind = TorchRegressor if regression else TorchClassifier
    space = {
        "lr": loguniform(1e-4, 1e-1),
        "module__n_units": log_randint(4, 65),
        "module__dropout": uniform(0, 0.6),
        "optimizer__weight_decay": loguniform(1e-6, 1e-1),
    }
    net = make_pipeline(StandardScaler(), kind(max_epochs=15, batch_size=64))
    return BayesSearchCV(
        net,
        {f"{net.steps[-1][0]}__{name}": values for name, values in space.items()},
        scoring="neg_root_mean_squared_error" if regression else "neg_log_loss",
        n_iter=n_iter,
        cv=cv,
        random_state=seed,
        **kwargs,
    )


SEARCHES = {"trees": tree_search, "networks": network_search}


def real(search_of, X, y, n, seed, args):
    regression = y.dtype.kind == "f"
    strata = None if regression else y
    X, new, y, truth = train_test_split(
        X.astype(np.float32), y, train_size=n, stratify=strata, random_state=seed
    )
    if regression:
        mean, std = y.mean(), y.std()
        y, truth = (((one - mean) / std).astype(np.float32) for one in (y, truth))
    folds = KFold if regression else StratifiedKFold
    cv = folds(5, shuffle=True, random_state=seed)
    arguments = regression, seed, args.candidates, cv
    search = search_of(*arguments, return_predictions=True).fit(X, y)
    start = time.perf_counter()
    found = corrected_score(search, y, n_bootstrap=args.bootstrap)
    seconds = time.perf_counter() - start
    nested = None
    if seed < args.nested:
        scores = [
            search_of(*arguments).fit(X[train], y[train]).score(X[test], y[test])
            for train, test in cv.split(X, y)
        ]
        nested = float(np.mean(scores))
    return {
        "truth": search.score(new, truth),
        "best": search.best_score_,
        "nested": nested,
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

    for task in TASKS if args.repeats else ():
        for n, m, spread, common in np.ndindex(2, 2, 3, 2):
            setting = ROWS[n], CANDIDATES[m], SPREADS[spread], COMMON[common]
            for seed in range(args.repeats):
                case = (task, *setting, seed)
                if case in done:
                    continue
                found, truth = simulated(task, *setting, seed, args.bootstrap)
                note(case, {"truth": truth, "best": found.uncorrected, **of(found)})
    for name, X, y, n in real_tasks() if args.real else ():
        for seed in range(args.real):
            case = (f"{name}, {args.of}", n, args.candidates, "real", "real", seed)
            if case not in done:
                note(case, real(SEARCHES[args.of], X, y, n, seed, args))


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
    for key in ("best", "score", "nested") if nested else ():
        errors = np.array([row[key] - row["truth"] for row in nested])
        print(
            f"{key} - truth of {len(nested)} searches: mean {errors.mean():.4f}, mean of the "
            f"absolute values {np.abs(errors).mean():.4f}"
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
    parser.add_argument("--of", choices=SEARCHES, default="trees", help="what they search")
    parser.add_argument("--nested", type=int, default=2, help="of these, with a nested peer")
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--bootstrap", type=int, default=500)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    run(args) if args.what == "run" else table(args)


if __name__ == "__main__":
    main()
