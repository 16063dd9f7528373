"""Error of importances against known indices, against Optuna's evaluators; coverage; seconds.

``python benchmarks/importance.py`` prints the tables of ``docs/benchmarks/importance.md``.
"""

import argparse
import time
import warnings
from itertools import product

import numpy as np
from scipy.stats import randint, uniform
from threadpoolctl import threadpool_limits

from skhpo import SearchSpace
from skhpo.inspection import hyperparameter_importance
from skhpo.samplers import BayesSampler

# Functions of points in the unit cube, and their first-order Sobol indices.
A = np.array([0, 1, 4.5, 9, 99, 99])
SLOPES = np.array([4, 3, 2, 1.5, 1, 0.5, 0.25, 0, 0, 0])
LEVELS = 4


def ishigami(u):
    x = -np.pi + 2 * np.pi * u
    return np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])


def g_function(u):
    return np.prod((np.abs(4 * u - 2) + A) / (1 + A), axis=1)


def additive(u):
    """Ten parameters, two interactions."""
    z = np.sqrt(12) * (u - 0.5)
    return z @ SLOPES + 2 * z[:, 0] * z[:, 1] + 1.5 * z[:, 2] * z[:, 4]


def table_of(u):
    """A table of 4^5 cells with random main effects and an interaction: all of it is known."""
    return _TABLE[tuple(levels_of(u).T)]


def levels_of(u):
    return np.minimum((u * LEVELS).astype(int), LEVELS - 1)


def _make_table():
    rng = np.random.default_rng(7)
    table = np.zeros((LEVELS,) * 5)
    for axis, size in enumerate([2.0, 1.0, 0.7, 0.3, 0.0]):
        shape = [1] * 5
        shape[axis] = LEVELS
        table = table + size * rng.standard_normal(LEVELS).reshape(shape)
    return table + 0.5 * rng.standard_normal((LEVELS, LEVELS, 1, 1, 1))


_TABLE = _make_table()
_PARTIAL = 1 / (3 * (1 + A) ** 2)
TASKS = {
    "Ishigami": (ishigami, np.array([0.3139, 0.4424, 0.0])),
    "g-function": (g_function, _PARTIAL / (np.prod(1 + _PARTIAL) - 1)),
    "additive, 10": (additive, SLOPES**2 / ((SLOPES**2).sum() + 4 + 2.25)),
    "table, 5": (
        table_of,
        np.array(
            [
                _TABLE.mean(axis=tuple(set(range(5)) - {axis})).var() / _TABLE.var()
                for axis in range(5)
            ]
        ),
    ),
}
# Where the three that matter are known: the slopes of twenty parameters.
TWENTY = np.concatenate([[3.0, 2.0, 1.2], np.full(17, 0.1)])


def twenty(u):
    return -(((u - 0.6) * TWENTY) ** 2).sum(axis=1) - 2 * (u[:, 0] - 0.6) * (u[:, 1] - 0.6)


def source_of(u, y):
    """Numbers in [0, 1]; where they are whole, levels."""
    whole = u.dtype.kind == "i"
    space = {f"x{j:02}": randint(0, LEVELS) if whole else uniform(0, 1) for j in range(u.shape[1])}
    params = [dict(zip(space, row.tolist(), strict=True)) for row in u]
    return {"params": params, "mean_test_score": y}, space


def ours(method, u, y, seed, n_bootstrap=100):
    found = hyperparameter_importance(
        source_of(u, y), method=method, n_bootstrap=n_bootstrap, random_state=seed
    )
    order = np.argsort(found.names)
    return found.importances_mean[order], found.intervals[order]


def optunas(method, u, y, seed):
    import optuna

    study = optuna.create_study(direction="maximize")
    table, space = source_of(u, y)
    distribution = optuna.distributions.FloatDistribution(0, 1)
    if u.dtype.kind == "i":
        distribution = optuna.distributions.IntDistribution(0, LEVELS - 1)
    distributions = dict.fromkeys(space, distribution)
    study.add_trials(
        optuna.trial.create_trial(value=float(v), params=p, distributions=distributions)
        for p, v in zip(table["params"], y, strict=True)
    )
    evaluator = {
        "fanova": lambda: optuna.importance.FanovaImportanceEvaluator(seed=seed),
        "ped_anova": lambda: optuna.importance.PedAnovaImportanceEvaluator(),
    }[method]()
    # Shares of the variance, without making them sum to 1: that is what indices are.
    found = optuna.importance.get_param_importances(
        study, evaluator=evaluator, normalize=method != "fanova"
    )
    return np.array([found[name] for name in sorted(space)])


def errors(n_seeds, tasks):
    print("| task | trials | optuna fanova | optuna ped_anova | fanova | gp | of the better peer |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    inside = {"fanova": [], "gp": []}
    for (name, (function, indices)), n in product(tasks.items(), (50, 100, 200)):
        found = {key: [] for key in ("o fanova", "o ped_anova", "fanova", "gp")}
        for seed in range(n_seeds):
            u = np.random.default_rng(1000 + seed).random((n, len(indices)))
            y = function(u)
            u = levels_of(u) if function is table_of else u
            for method in ("fanova", "ped_anova"):
                error = np.abs(optunas(method, u, y, seed) - indices).mean()
                found[f"o {method}"].append(error)
            for method in ("fanova", "gp"):
                mean, intervals = ours(method, u, y, seed)
                found[method].append(np.abs(mean - indices).mean())
                inside[method].append(
                    np.mean((intervals[:, 0] <= indices) & (indices <= intervals[:, 1]))
                )
        means = {key: np.mean(values) for key, values in found.items()}
        peer = min(means["o fanova"], means["o ped_anova"])
        cells = [
            f"{means[key]:.3f} ± {np.std(values) / np.sqrt(n_seeds):.3f}"
            for key, values in found.items()
        ]
        ratios = f"{means['fanova'] / peer:.2f}, {means['gp'] / peer:.2f}"
        print(f"| {name} | {n} | {' | '.join(cells)} | {ratios} |", flush=True)
    for method, values in inside.items():
        print(f"\n{method}: the 95% intervals have {np.mean(values):.1%} of the indices")


def ranking(n_seeds, n=100):
    """The three most important of twenty, from what a Bayes search chose."""
    right = dict.fromkeys(("fanova", "gp", "ped_anova", "o fanova", "o ped_anova"), 0)
    for seed in range(n_seeds):
        space = SearchSpace({f"x{j:02}": uniform(0, 1) for j in range(20)})
        sampler = BayesSampler(space, seed)
        u, y = [], []
        for _ in range(n):
            [params] = sampler.sample(1)
            u.append(space.to_unit(params))
            y.append(twenty(u[-1][None])[0])
            sampler.observe(params, y[-1], None)
        u, y = np.array(u), np.array(y)
        for key in right:
            values = (
                optunas(key[2:], u, y, seed) if key[:2] == "o " else ours(key, u, y, seed, 5)[0]
            )
            right[key] += set(np.argsort(-values)[:3]) == {0, 1, 2}
    print(f"\nThe three most important of 20 found, of {n_seeds} Bayes searches with {n} trials:\n")
    for key, count in right.items():
        print(f"- {key.replace('o ', 'optuna ')}: {count}")


def seconds(n_repeats):
    rng = np.random.default_rng(0)
    u = rng.random((1000, 20))
    y = twenty(u) + 0.05 * rng.standard_normal(1000)
    print("\n| 1,000 trials, 20 parameters | seconds, median of", n_repeats, "|")
    print("| --- | --- |")
    runs = {
        "optuna fanova, no intervals": lambda: optunas("fanova", u, y, 0),
        "fanova, 100 replicates, all pairs": lambda: ours("fanova", u, y, 0),
        "gp, 100 replicates, all pairs": lambda: ours("gp", u, y, 0),
        "optuna ped_anova, no intervals": lambda: optunas("ped_anova", u, y, 0),
        "ped_anova, 100 replicates": lambda: ours("ped_anova", u, y, 0),
    }
    times = {key: [] for key in runs}
    for _ in range(n_repeats):
        for key, run in runs.items():
            start = time.process_time()
            run()
            times[key].append(time.process_time() - start)
    for key, values in times.items():
        print(f"| {key} | {np.median(values):.2f} ({min(values):.2f} to {max(values):.2f}) |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", choices=["errors", "ranking", "seconds"])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    options = parser.parse_args()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        if options.only in (None, "errors"):
            errors(options.seeds, {name: TASKS[name] for name in options.tasks})
        if options.only in (None, "ranking"):
            ranking(max(options.seeds // 2, 1))
        if options.only in (None, "seconds"):
            seconds(3)


if __name__ == "__main__":
    main()
