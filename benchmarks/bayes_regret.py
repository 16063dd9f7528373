"""Regret of the Gaussian-process sampler against Optuna, scikit-optimize and random search.

Every method gets the same tasks and seeds, and one thread. Regret is 0 for the best score known
and 1 for the expected best of ten random configurations; what counts is the true score of the
configuration whose observed score is best so far.

Each (task, seed, method) is a line of a file, and what is there already is not run again, so that
the whole can be run in parts::

    python benchmarks/bayes_regret.py run --results regret.jsonl --methods tpe random
    python benchmarks/bayes_regret.py run --results regret.jsonl --methods bayes --max-time 300
    python benchmarks/bayes_regret.py report --results regret.jsonl
"""

import argparse
import time
import warnings

import numpy as np
from bayes_peers import METHODS
from bayes_tasks import CACHE, DEVELOPMENT, REPORTED
from lines import read_lines, run_missing
from scipy.special import gammaln
from threadpoolctl import threadpool_limits

N_REFERENCE = 400  # random configurations; their best ten on average have regret 1
POINTS = (20, 30, 50)
PEERS = ("tpe", "skopt", "optuna gp", "random")
BARS = {
    ("tpe", 20): 0.9,
    ("tpe", 30): 0.8,
    ("tpe", 50): 0.65,
    ("skopt", 50): 0.7,
    ("optuna gp", 50): 0.95,
    ("random", 50): 0.5,
}
NAMES = {
    "bayes": "BayesSampler",
    "tpe": "Optuna TPE",
    "skopt": "skopt",
    "optuna gp": "Optuna GPSampler",
    "random": "random",
}


def run(task, method, seed, n):
    """Observed and true scores of `n` configurations, in order, and the method's own seconds."""
    rng = np.random.default_rng([seed, 7])
    observed, true = [], []

    def evaluate(params):
        value, score, variance = task.observe(params, rng)
        observed.append(score)
        true.append(value)
        return score, variance

    start = time.process_time()
    within = METHODS[method](task, evaluate, seed, n)
    return {
        "observed": observed,
        "true": true,
        "seconds": time.process_time() - start - within,
    }


def run_all(args, tasks):
    cases = [
        {"task": name, "seed": seed, "method": method}
        for seed in args.seeds
        for name in args.tasks or tasks
        for method in args.methods
    ]
    run_missing(
        args.results,
        cases,
        lambda task, seed, method: run(tasks[task], method, seed, args.n),
        args.max_time,
    )


def expected_best_of(values, k):
    """Mean of the largest of `k` values drawn without replacement."""
    n = len(values)
    i = np.arange(k, n + 1)
    log_choose = gammaln(i) - gammaln(k) - gammaln(i - k + 1)
    weights = np.exp(log_choose - (gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)))
    return float(weights @ np.sort(values)[k - 1 :])


def reference(name, task):
    """True scores of random configurations."""
    path = CACHE / f"reference-{name.replace(' ', '-')}-{N_REFERENCE}.npy"
    if path.exists():
        return np.load(path)
    space, rng = task.space, np.random.default_rng(12345)
    n = 2000 if task.best is not None else N_REFERENCE
    scores = [task.score(space.from_unit(rng.random(space.n_dims))) for _ in range(n)]
    CACHE.mkdir(parents=True, exist_ok=True)
    np.save(path, scores)
    return np.array(scores)


def regrets(results, tasks):
    """By task and method: regret of the incumbent after each evaluation, (n_seeds, n)."""
    lines = list(
        {
            (line["task"], line["seed"], line["method"]): line for line in read_lines(results)
        }.values()
    )
    out = {}
    for name, task in tasks.items():
        own = [line for line in lines if line["task"] == name]
        if not own:
            continue
        random = reference(name, task)
        best = max([max(line["true"]) for line in own] + [float(random.max())])
        best = best if task.best is None else task.best
        unit = best - expected_best_of(random, 10)
        for method in dict.fromkeys(line["method"] for line in own):
            runs = sorted(
                (line for line in own if line["method"] == method), key=lambda line: line["seed"]
            )
            curves = []
            for line in runs:
                observed, true = np.array(line["observed"]), np.array(line["true"])
                incumbents = [int(np.argmax(observed[: i + 1])) for i in range(len(observed))]
                curves.append((best - true[incumbents]) / unit)
            out[name, method] = np.array(curves)
    return out


def report(args, tasks):
    curves = regrets(args.results, tasks)
    names = [name for name in tasks if (name, "bayes") in curves]
    methods = [m for m in ("bayes", *PEERS) if any((name, m) in curves for name in names)]
    print(f"Mean regret after {POINTS[-1]} evaluations ± its standard deviation over seeds\n")
    print("| task | " + " | ".join(NAMES[m] for m in methods) + " |")
    print("| --- |" + " --- |" * len(methods))
    for name in names:
        cells = [_cell(curves[name, m]) if (name, m) in curves else "" for m in methods]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\nRatio of the mean regrets over tasks, BayesSampler's to the other's\n")
    print("| over | tasks | " + " | ".join(f"at {n}" for n in POINTS) + " |")
    print("| --- | --- |" + " --- |" * len(POINTS))
    for peer in methods[1:]:
        both = [name for name in names if (name, peer) in curves]
        cells = []
        for n in POINTS:
            bar = f", bar {BARS[peer, n]}" if (peer, n) in BARS else ""
            ratio, low, high = _ratio(curves, both, "bayes", peer, n)
            cells.append(f"{ratio:.2f} ({low:.2f} to {high:.2f}{bar})")
        print(f"| {NAMES[peer]} | {len(both)} | " + " | ".join(cells) + " |")
    both = [name for name in names if (name, "tpe") in curves]
    if both:
        worst = max(both, key=lambda name: _difference(curves, name))
        print(
            f"\nWorst against TPE at {POINTS[-1]}: {worst}, {_difference(curves, worst):+.3f}"
            " (bar +0.15)"
        )
    for method in ("bayes, rounds of 8", "bayes, 8 running"):
        both = [name for name in names if (name, method) in curves]
        if both:
            ratio, low, high = _ratio(curves, both, method, "bayes", 48)
            print(
                f"\n{method}: regret at 48 is {ratio:.2f} ({low:.2f} to {high:.2f}) times the "
                f"sequential one's (bar 1.25), {len(both)} tasks"
            )


def _cell(curves):
    at = curves[:, POINTS[-1] - 1]
    return f"{at.mean():.2f} ± {at.std():.2f}" + ("" if len(at) == 5 else f" ({len(at)} seeds)")


def _difference(curves, name):
    at = POINTS[-1] - 1
    return float(curves[name, "bayes"][:, at].mean() - curves[name, "tpe"][:, at].mean())


def _ratio(curves, names, own, peer, n):
    """Ratio of mean regrets; its 5 and 95 percent where seeds are drawn with replacement."""
    rng = np.random.default_rng(0)
    pairs = [(curves[name, own][:, n - 1], curves[name, peer][:, n - 1]) for name in names]
    drawn = []
    for _ in range(500):
        sums = np.zeros(2)
        for pair in pairs:
            sums += [at[rng.integers(len(at), size=len(at))].mean() for at in pair]
        drawn.append(sums[0] / sums[1])
    means = np.sum([[at.mean() for at in pair] for pair in pairs], axis=0)
    return means[0] / means[1], *np.quantile(drawn, [0.05, 0.95])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["run", "report", "tables"])
    parser.add_argument("--results", default="bayes_regret.jsonl")
    parser.add_argument("--development", action="store_true", help="the other tasks")
    parser.add_argument("--tasks", nargs="+")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("-n", type=int, default=50, help="evaluations of each run")
    parser.add_argument("--max-time", type=float, default=float("inf"), help="seconds")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    tasks = DEVELOPMENT if args.development else REPORTED
    with threadpool_limits(1):
        if args.command == "tables":
            for name, task in tasks.items():
                print(name, reference(name, task).max(), flush=True)
        elif args.command == "run":
            run_all(args, tasks)
        else:
            report(args, tasks)


if __name__ == "__main__":
    main()
