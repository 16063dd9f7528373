"""Hypervolume against evaluations: BayesSampler against Optuna's samplers.

All get the same functions and seeds, with their own defaults, and one thread. Each function, seed
and method is a line of a file; what is there already is not run again, so that it can be run in
parts::

    python benchmarks/objectives.py run --results objectives.jsonl --methods bayes nsga2 motpe
    python benchmarks/objectives.py run --results objectives.jsonl --max-time 200
    python benchmarks/objectives.py report --results objectives.jsonl
"""

import argparse
import time
import warnings

import numpy as np
from bayes_peers import optuna_params, optuna_study
from lines import read_lines, run_missing
from objectives_functions import DEVELOPMENT, REPORTED
from threadpoolctl import threadpool_limits

from skhpo.objectives import hypervolume
from skhpo.samplers import BayesSampler, RandomSampler

POINTS = (30, 50, 100)
N_INITIAL = 6  # of BayesSampler, for each objective
NAMES = {
    "bayes": "BayesSampler",
    "optuna gp": "Optuna GPSampler",
    "nsga2": "Optuna NSGAIISampler",
    "motpe": "Optuna TPESampler",
    "random": "random",
}


class Run:
    """Values and violations of the configurations of one run, and seconds per suggestion."""

    def __init__(self, function):
        self.function = function
        self.values, self.violations, self.seconds = [], [], []

    def evaluate(self, params, seconds):
        values, violations = self.function(params)
        self.values.append(values)
        self.violations.append(violations)
        self.seconds.append(seconds)
        return values, violations


def own(make, run, seed, n):
    sampler = make(run.function.space, seed)
    for _ in range(n):
        start = time.process_time()
        [params] = sampler.sample(1)
        values, violations = run.evaluate(params, time.process_time() - start)
        more = {"values": np.array(values)}
        if violations:
            more["violations"] = np.array(violations)
        sampler.observe(params, values[0], None, **more)


def optuna_sampler(name, run, seed, n):
    import optuna
    import torch

    torch.set_num_threads(1)
    constraints = None
    if run.function.violations is not None:
        constraints = lambda trial: trial.user_attrs["violations"]  # noqa: E731
    sampler = getattr(optuna.samplers, name)(seed=seed, constraints_func=constraints)
    study = optuna_study(run.function, sampler, len(run.function.reference))
    for _ in range(n):
        start = time.process_time()
        trial = study.ask()
        params = optuna_params(run.function, trial)
        values, violations = run.evaluate(params, time.process_time() - start)
        trial.set_user_attr("violations", violations)
        study.tell(trial, values)


METHODS = {
    "bayes": lambda *given: own(BayesSampler, *given),
    "random": lambda *given: own(RandomSampler, *given),
    "nsga2": lambda *given: optuna_sampler("NSGAIISampler", *given),
    "motpe": lambda *given: optuna_sampler("TPESampler", *given),
    "optuna gp": lambda *given: optuna_sampler("GPSampler", *given),
}


def volumes(run, n):
    """Hypervolume of the feasible points among the first ones, after each number of POINTS."""
    reference = -np.array(run.function.reference)
    found = []
    for k in POINTS:
        if k <= n:
            values = np.array(run.values[:k])
            if run.violations[0]:
                values = values[(np.array(run.violations[:k]) <= 0.0).all(axis=1)]
            found.append(hypervolume(values, reference))
    return found


def measure(function, method, seed, n):
    run = Run(function)
    METHODS[method](run, seed, n)
    return {
        "volumes": volumes(run, n),
        "breaks": (np.array(run.violations).reshape(n, -1) > 0.0).any(axis=1).astype(int).tolist(),
        # After the initial points.
        "seconds": float(np.median(run.seconds[20:])),
    }


def run_all(args, functions):
    cases = [
        {"function": name, "seed": seed, "method": method}
        for seed in args.seeds
        for name in args.functions or functions
        for method in args.methods
    ]
    run_missing(
        args.results,
        cases,
        lambda function, seed, method: measure(functions[function], method, seed, args.n),
        args.max_time,
    )


def report(args, functions):
    found = {}
    for line in read_lines(args.results):
        found.setdefault((line["function"], line["method"]), {})[line["seed"]] = line
    methods = [m for m in NAMES if any((name, m) in found for name in functions)]
    for place, n in enumerate(POINTS):
        what = (
            "Hypervolume"
            if args.development
            else "Share of the largest hypervolume that is missing"
        )
        print(f"\n{what} after {n} evaluations\n")
        print("| function | " + " | ".join(NAMES[m] for m in methods) + " |")
        print("| --- |" + " --- |" * len(methods))
        for name, function in functions.items():
            cells = []
            for method in methods:
                lines = found.get((name, method), {}).values()
                missing = [
                    1.0 - line["volumes"][place] / function.best
                    if function.best
                    else line["volumes"][place]
                    for line in lines
                    if len(line["volumes"]) > place
                ]
                cells.append(_cell(missing))
            if any(cells):
                print(f"| {name} | " + " | ".join(cells) + " |")
    print("\nSeconds per suggestion, median of the median of each run\n")
    print("| function | " + " | ".join(NAMES[m] for m in methods) + " | of Optuna's GP |")
    print("| --- |" + " --- |" * (len(methods) + 1))
    for name in functions:
        seconds = {
            m: np.median([line["seconds"] for line in found[name, m].values()])
            for m in methods
            if (name, m) in found
        }
        if not seconds:
            continue
        cells = [f"{seconds[m]:.3f}" if m in seconds else "" for m in methods]
        both = "bayes" in seconds and "optuna gp" in seconds
        ratio = f"{seconds['bayes'] / seconds['optuna gp']:.2f}" if both else ""
        print(f"| {name} | " + " | ".join(cells) + f" | {ratio} |")
    for n in POINTS[1:]:
        shares(functions, found, n)


def shares(functions, found, n):
    """Print the share of proposals that break a constraint, and that of random points.

    Proposals are those after the initial points, up to `n` evaluations.
    """
    print(f"\nShare of proposals that break a constraint, up to {n} evaluations\n")
    print("| function | random | BayesSampler | ratio | of all evaluations | seeds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, function in functions.items():
        if function.violations is None or (name, "bayes") not in found:
            continue
        drawn = RandomSampler(function.space, 0).sample(10_000)
        random = np.mean([max(function(params)[1]) > 0.0 for params in drawn])
        runs = [line["breaks"][:n] for line in found[name, "bayes"].values()]
        if min(map(len, runs)) < n:
            continue
        breaks = np.array(runs)
        by_seed = breaks[:, N_INITIAL * len(function.reference) :].mean(axis=1)
        own = by_seed.mean()
        print(
            f"| {name} | {random:.2f} | {own:.3f} ({by_seed.min():.2f} to {by_seed.max():.2f}) "
            f"| {own / random:.2f} | {breaks.mean():.2f} | {len(breaks)} |"
        )


def _cell(missing):
    if not missing:
        return ""
    few = "" if len(missing) == 5 else f" ({len(missing)} of 5 seeds)"
    return f"{np.mean(missing):.4f} ± {np.std(missing):.4f}{few}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("--results", default="objectives.jsonl")
    parser.add_argument("--development", action="store_true", help="the other functions")
    parser.add_argument("--functions", nargs="+")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("-n", type=int, default=100, help="evaluations of each run")
    parser.add_argument("--max-time", type=float, default=float("inf"), help="seconds")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    functions = DEVELOPMENT if args.development else REPORTED
    with threadpool_limits(1):
        if args.command == "run":
            run_all(args, functions)
        else:
            report(args, functions)


if __name__ == "__main__":
    main()
