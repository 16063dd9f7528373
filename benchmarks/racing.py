"""Racing over folds: what the same number of fits finds with and without it.

Five tasks: four with support vector machines and gradient boosting on tables of scikit-learn, and
one that comes with `../shared/data` (left out where that is not there). Half of the rows are
searched, with five folds, and half are a test. Bayesian and random search, each with and without
`racing="auto"`, get so many fits; all else are their defaults. *Regret* is how far the best mean
over the folds is below the best that any run of the task has found, as a share of the same of
random search without racing.

    python benchmarks/racing.py --write docs/benchmarks/racing.md
    python benchmarks/racing.py --fits 60 --seeds 1  # a try

``--results`` keeps a line for each run, and what is in there is not run again.
"""

import argparse
import json
import os
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from scipy.stats import loguniform, randint, uniform
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import get_scorer
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from skhpo import BayesSearchCV, SearchCV
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
N_ROWS = 1000
KERNEL = {"C": loguniform(1e-3, 1e4), "gamma": loguniform(1e-6, 1e1)}
TREES = {
    "learning_rate": loguniform(1e-3, 1.0),
    "max_leaf_nodes": randint(2, 32),
    "min_samples_leaf": randint(2, 60),
    "l2_regularization": loguniform(1e-6, 1e2),
    "max_features": uniform(0.1, 0.9),
}
BOOSTING = HistGradientBoostingClassifier(max_iter=20)
TASKS = {
    "breast cancer, SVC": (load_breast_cancer, SVC(), KERNEL, "roc_auc"),
    "digits, SVC": (load_digits, SVC(), KERNEL, "balanced_accuracy"),
    "diabetes, SVR": (load_diabetes, SVR(), {**KERNEL, "epsilon": loguniform(1e-3, 50)}, "r2"),
    "wine, boosting": (load_wine, BOOSTING, TREES, "neg_log_loss"),
    "churn, boosting": ("churn", BOOSTING, TREES, "neg_log_loss"),
}
CONTESTANTS = [(name, racing) for name in ("random", "bayes") for racing in (None, "auto")]


def load(source):
    """Return two halves: numbers, standardised, and a target."""
    if callable(source):
        X, y = source(return_X_y=True)
    else:
        frame = pd.read_csv(DATA / f"{source}.csv.gz").dropna()
        y = frame.pop("target").to_numpy()
        X = pd.get_dummies(frame).to_numpy(dtype=float)
    X, _, y, _ = train_test_split(X, y, train_size=min(N_ROWS, len(y) - 2), random_state=0)
    return train_test_split(StandardScaler().fit_transform(X), y, test_size=0.5, random_state=0)


class Fits:
    """Stops a search after so many fits."""

    def __init__(self, n):
        self.left = n

    def on_fit_end(self, search, trial, result):
        self.left -= result.skipped is None

    def on_trial_end(self, search, trial, results, score):
        return self.left <= 0


def one_by_one(space, random_state):
    return FullScheduler(RandomSampler(space, random_state), 10_000, batch_size=1)


def run(task, name, racing, seed, n_fits):
    """Return a dict: what a search found, how many candidates it saw, and what the test says."""
    source, estimator, space, scoring = TASKS[task]
    X, X_test, y, y_test = load(source)
    kind, more = (BayesSearchCV, {"n_iter": 10_000})
    if name == "random":
        kind, more = SearchCV, {"scheduler": one_by_one, "enqueue": "defaults"}
    search = kind(
        estimator,
        space,
        scoring=scoring,
        racing=racing,
        random_state=seed,
        callbacks=[Fits(n_fits)],
        cv=5 if scoring == "r2" else StratifiedKFold(5),
        **more,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.fit(X, y)
    return {
        "task": task,
        "seed": seed,
        "fits": n_fits,
        "contestant": [name, racing],
        "best": search.best_score_,
        "test": get_scorer(scoring)(search.best_estimator_, X_test, y_test),
        "candidates": len(search.cv_results_["params"]),
    }


def table_of(runs):
    """Return lines of Markdown."""
    lines = [
        "| task | search | regret | with racing | candidates | with racing | test score "
        "| with racing |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    ratios = {"random": [], "bayes": []}
    for task in dict.fromkeys(one["task"] for one in runs):
        mine = [one for one in runs if one["task"] == task]
        best = max(one["best"] for one in mine)

        def of(contestant, key, mine=mine):
            return np.array([one[key] for one in mine if one["contestant"] == list(contestant)])

        unit = np.mean(best - of(("random", None), "best"))
        for name in ratios:
            without, raced = ((best - of((name, how), "best")) / unit for how in (None, "auto"))
            ratios[name].append(raced.mean() / without.mean())
            cells = [
                f"{values.mean():.2f} ± {values.std(ddof=1) / len(values) ** 0.5:.2f}"
                for values in (without, raced)
            ]
            cells += [f"{of((name, how), 'candidates').mean():.0f}" for how in (None, "auto")]
            cells += [f"{of((name, how), 'test').mean():.4f}" for how in (None, "auto")]
            lines.append(f"| {task} | {name} | {' | '.join(cells)} |")
    lines.append("")
    for name, found in ratios.items():
        lines.append(
            f"Regret of {name} with racing, as a share of that without: {np.mean(found):.2f} in "
            f"the mean of {len(found)} tasks, from {min(found):.2f} to {max(found):.2f}."
        )
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fits", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--results", type=Path, default=Path("racing.jsonl"))
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    runs = []
    if args.results.exists():
        runs = [json.loads(line) for line in args.results.read_text().splitlines()]
    runs = [one for one in runs if one["fits"] == args.fits]
    done = {(one["task"], one["seed"], *one["contestant"]) for one in runs}
    for task in args.tasks:
        if not callable(TASKS[task][0]) and not DATA.exists():
            continue
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            for name, racing in CONTESTANTS:
                if (task, seed, name, racing) in done:
                    continue
                runs.append(run(task, name, racing, seed, args.fits))
                with open(args.results, "a") as file:
                    file.write(json.dumps(runs[-1]) + "\n")
    print("\n".join(table_of(runs)))
    if args.write:
        about = __doc__.split("\n    python")[0].partition("\n")
        more = "".join(
            f" --{name.replace('_', '-')} {value}"
            for name, value in vars(args).items()
            if name not in ("write", "results") and value != parser.get_default(name)
        )
        page = [
            "# Racing over folds",
            "",
            "```",
            f"python benchmarks/racing.py{more} --write {args.write}",
            "```",
            about[2].strip(),
            "",
            f"{args.fits} fits for each run, {args.seeds} seeds (mean ± standard error).",
            "",
            *table_of(runs),
            "",
        ]
        args.write.write_text("\n".join(page))


if __name__ == "__main__":
    main()
