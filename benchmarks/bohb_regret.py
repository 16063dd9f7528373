"""Regret of Hyperband whose sampler learns, against Hyperband that draws at random.

Both run the same plan, so that epochs are equal: ``--iterations`` times all brackets with up to 27
epochs. The tasks are learning curves:

* real ones: models trained in epochs (or trees) by cross-validation at random configurations, with
  extremely randomised trees in between, noise as the folds had it;
* formulas: Branin and Hartmann6 as what a curve approaches, at a rate that differs from place to
  place, so that curves cross.

Regret is that of the configuration that the search would return (best score seen at the largest
resource), by its noise-free value there: 0 is the best known, 1 the expected best of ten random
configurations. Schedulers and samplers are driven directly; nothing is trained twice.

Run ``python benchmarks/bohb_regret.py run``, in parts if need be (results are appended), and then
``... table``. The tables of real curves are made once (minutes) and kept in ``--cache``.
"""

import argparse
import json
import math
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import loguniform, randint, uniform
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from skhpo import SearchSpace, log_randint
from skhpo.samplers import BayesSampler, RandomSampler
from skhpo.schedulers import Hyperband

LEVELS = (1, 3, 9, 27)
N_ROWS = 450
SAMPLERS = {"random": RandomSampler, "bayes": BayesSampler}


class Formula:
    """A function as what learning curves approach: slowly where a second one is high."""

    def __init__(self, n_dims, function, noise):
        self.space = SearchSpace({f"x{i}": uniform(0, 1) for i in range(n_dims)})
        self.function = function
        self.noise = dict.fromkeys(LEVELS, noise)

    def truth(self, configurations):
        u = np.array([self.space.to_unit(params) for params in configurations])
        top = self.function(u)[:, None]
        # What is best in the end starts late: curves cross.
        rate = 0.6 + 0.5 * np.sin(5 * u[:, :1] + 3 * u[:, -1:])
        start = 1.5 + 0.5 * top
        return top - start * (np.array(LEVELS) ** -rate - LEVELS[-1] ** -rate)


class Curves:
    """Learning curves measured at random configurations, and trees in between."""

    def __init__(self, space, scores):
        self.space = SearchSpace(space)
        self.scores = scores

    def prepare(self, name, cache, n_configurations):
        path = Path(cache) / f"{name}.npz"
        configurations = RandomSampler(self.space, 12345).sample(n_configurations)
        if not path.exists():
            tables = np.array([self.scores(params) for params in configurations])
            np.savez(path, tables=tables)  # configurations x folds x levels
        tables = np.load(path)["tables"]
        n_folds = tables.shape[1]
        with np.errstate(all="ignore"):
            mean = np.nanmean(tables, axis=1)
            spread = np.nanstd(tables, axis=1, ddof=1) / math.sqrt(n_folds)
        low = np.nanmin(mean, axis=0)
        mean = np.where(np.isfinite(mean), mean, low)
        noise = np.nanmedian(spread, axis=0) / 2  # half of the spread is that of the folds
        self.noise = dict(zip(LEVELS, noise, strict=True))
        u = np.array([self.space.to_unit(params) for params in configurations])
        self.trees = ExtraTreesRegressor(100, min_samples_leaf=2, random_state=0).fit(u, mean)
        return self

    def truth(self, configurations):
        u = np.array([self.space.to_unit(params) for params in configurations])
        return self.trees.predict(u)


def branin(u):
    x, y = 15 * u[:, 0] - 5, 15 * u[:, 1]
    value = (y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6) ** 2
    value += 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10
    return -np.log(value + 0.1) / 3


def hartmann6(u):
    A = [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8]]
    A = np.array([*A, [17, 8, 0.05, 10, 0.1, 14]])
    P = [[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991]]
    P = np.array([*P, [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]])
    squares = (A * (u[:, None, :] - P / 1e4) ** 2).sum(axis=2)
    return np.exp(-squares) @ np.array([1.0, 1.2, 3.0, 3.2])


def rosenbrock4(u):
    x = 3 * u - 1.5
    value = 100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2
    return -np.log1p(value.sum(axis=1)) / 4


def folds_of(X, y, regression):
    folds = KFold if regression else StratifiedKFold
    return list(folds(3, shuffle=True, random_state=0).split(X, y))


def by_epochs(load, make, regression=False):
    """Scores after each level of epochs, by fold."""

    def scores(params):
        X, y = load(return_X_y=True)
        some = np.random.default_rng(0).permutation(len(X))[:N_ROWS]
        X, y = StandardScaler().fit_transform(X[some]), y[some]
        y = (y - y.mean()) / y.std() if regression else y
        table = np.full((3, len(LEVELS)), np.nan)
        for fold, (train, test) in enumerate(folds_of(X, y, regression)):
            model = make(params, fold)
            more = {} if regression else {"classes": np.unique(y)}
            try:
                for epoch in range(1, LEVELS[-1] + 1):
                    model.partial_fit(X[train], y[train], **more)
                    if epoch in LEVELS:
                        score = model.score(X[test], y[test])
                        table[fold, LEVELS.index(epoch)] = max(score, -1.0)
            except ValueError:  # diverged
                pass
        return table

    return scores


def sgd(params, seed):
    return SGDClassifier(
        learning_rate="adaptive", penalty="elasticnet", random_state=seed, **params
    )


def mlp_of(kind):
    def make(params, seed):
        params = dict(params)
        units = params.pop("n_units")
        return kind(hidden_layer_sizes=(units,), random_state=seed, **params)

    return make


def boosting(params):
    X, y = load_diabetes(return_X_y=True)
    table = np.empty((3, len(LEVELS)))
    for fold, (train, test) in enumerate(folds_of(X, y, regression=True)):
        model = GradientBoostingRegressor(n_estimators=LEVELS[-1], random_state=fold, **params)
        model.fit(X[train], y[train])
        for n, prediction in enumerate(model.staged_predict(X[test]), start=1):
            if n in LEVELS:
                error = np.mean((prediction - y[test]) ** 2) / np.var(y[test])
                table[fold, LEVELS.index(n)] = 1 - error
    return table


SGD_SPACE = {
    "alpha": loguniform(1e-6, 1),
    "l1_ratio": uniform(0, 1),
    "eta0": loguniform(1e-4, 1),
    "loss": ["hinge", "log_loss", "modified_huber"],
}
MLP_SPACE = {
    "learning_rate_init": loguniform(1e-4, 1e-1),
    "alpha": loguniform(1e-6, 1),
    "n_units": log_randint(4, 129),
    "batch_size": log_randint(8, 129),
    "activation": ["relu", "tanh", "logistic"],
}
BOOSTING_SPACE = {
    "learning_rate": loguniform(1e-3, 1),
    "max_depth": randint(1, 9),
    "subsample": uniform(0.2, 0.8),
    "min_samples_leaf": log_randint(1, 65),
    "max_features": uniform(0.1, 0.9),
}

# The first ones are those that settings were chosen with; they are not reported.
TASKS = {
    "dev-rosenbrock4": lambda: Formula(4, rosenbrock4, 0.02),
    "dev-mlp-diabetes": lambda: Curves(
        MLP_SPACE, by_epochs(load_diabetes, mlp_of(MLPRegressor), regression=True)
    ),
    "branin": lambda: Formula(2, branin, 0.02),
    "hartmann6": lambda: Formula(6, hartmann6, 0.05),
    "sgd-digits": lambda: Curves(SGD_SPACE, by_epochs(load_digits, sgd)),
    "mlp-digits": lambda: Curves(MLP_SPACE, by_epochs(load_digits, mlp_of(MLPClassifier))),
    "boosting-diabetes": lambda: Curves(BOOSTING_SPACE, boosting),
}


def run(task, sampler, iterations, seed, full_first=False):
    """Return the true final value of the incumbent after each iteration, and seconds of asking."""
    rng = np.random.default_rng(seed)
    n_brackets = len(LEVELS)
    scheduler = Hyperband(
        sampler, max_resources=LEVELS[-1], n_iterations=iterations, full_first=full_first
    )
    final, seconds = [], 0.0
    while True:
        start = time.process_time()
        trials = scheduler.ask()
        seconds += time.process_time() - start
        if not trials:
            break
        values = task.truth([trial.params for trial in trials])
        for trial, row in zip(trials, values, strict=True):
            value, noise = row[LEVELS.index(trial.resource)], task.noise[trial.resource]
            score = value + noise * rng.standard_normal()
            scheduler.tell(trial, score, noise=noise**2, seconds=float(trial.resource))
            if trial.resource == LEVELS[-1]:
                final.append((trial.tags["bracket"] // n_brackets, score, trial.params))
    after = []
    for iteration in range(iterations):
        # Brackets of random candidates run side by side, but count in their order here.
        known = [(score, params) for i, score, params in final if i <= iteration]
        after.append(max(known, key=lambda pair: pair[0])[1])
    return task.truth(after)[:, -1], seconds


def scale_of(task):
    """Return the best known value and the expected best of ten random configurations."""
    rng = np.random.default_rng(0)
    u = rng.random((10_000, task.space.n_dims))
    drawn = task.truth([task.space.from_unit(point) for point in u])[:, -1]
    unit = drawn.reshape(-1, 10).max(axis=1).mean()
    best, top = u[drawn.argmax()], drawn.max()
    for radius in np.geomspace(0.2, 0.005, 20):
        near = np.clip(best + radius * rng.standard_normal((200, len(best))), 0, 1)
        values = task.truth([task.space.from_unit(point) for point in near])[:, -1]
        if values.max() > top:
            best, top = near[values.argmax()], values.max()
    return top, unit


def measure(args):
    Path(args.cache).mkdir(exist_ok=True)
    for name in args.tasks:
        task = TASKS[name]()
        if isinstance(task, Curves):
            task.prepare(name, args.cache, args.configurations)
        top, unit = scale_of(task)
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            for sampler in args.samplers:
                made = SAMPLERS[sampler](task.space, seed)
                values, seconds = run(task, made, args.iterations, seed, args.full_first)
                row = {"task": name, "sampler": sampler, "seed": seed, "seconds": seconds}
                row |= {"values": list(map(float, values)), "top": float(top), "unit": float(unit)}
                with open(args.results, "a") as file:
                    file.write(json.dumps(row) + "\n")


def table(args):
    with open(args.results) as file:
        rows = [json.loads(line) for line in file]
    samplers = list(dict.fromkeys(row["sampler"] for row in rows))
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    print("| task | sampler | regret after 1 / 2 / 3 iterations | ratio to random | s |")
    print("| --- | --- | --- | --- | --- |")
    regret, seconds = {}, {}
    for task in tasks:
        own = [row for row in rows if row["task"] == task]
        top = max(max(row["top"], *row["values"]) for row in own)
        for sampler in samplers:
            some = [row for row in own if row["sampler"] == sampler]
            values = np.array([row["values"] for row in some])
            key = task, sampler
            regret[key] = (top - values) / (top - some[0]["unit"])
            seconds[key] = [row["seconds"] for row in some]
    n_seeds = min(len(values) for values in regret.values())
    for sampler in samplers:
        of_tasks = [regret[task, sampler][:n_seeds] for task in tasks]
        regret["mean", sampler] = np.mean(of_tasks, axis=0)
        seconds["mean", sampler] = np.concatenate([seconds[task, sampler] for task in tasks])
    for task, sampler in regret:
        own, peer = regret[task, sampler], regret[task, samplers[0]]
        error = own[:, -1].std(ddof=1) / math.sqrt(len(own))
        shown = " / ".join(f"{value:.3f}" for value in own.mean(axis=0))
        ratios = " / ".join(f"{r:.2f}" for r in own.mean(axis=0) / peer.mean(axis=0))
        print(
            f"| {task} | {sampler} | {shown} (± {error:.3f}) | {ratios} "
            f"| {np.mean(seconds[task, sampler]):.1f} |"
        )
    print(f"\n{n_seeds} seeds; ± is the standard error of the last figure")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--results", default="bohb_regret.jsonl")
    parser.add_argument("--tasks", nargs="+", default=[t for t in TASKS if t[:3] != "dev"])
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--full-first", action="store_true", help="one candidate has a score first")
    parser.add_argument("--configurations", type=int, default=120)
    parser.add_argument("--cache", default=".bohb_curves")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    measure(args) if args.what == "run" else table(args)


if __name__ == "__main__":
    main()
