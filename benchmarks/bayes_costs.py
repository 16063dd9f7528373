"""Regret over simulated seconds where fits of a space take times that differ by a factor of 30.

The seconds of a fit grow exponentially along one number of the space, drawn by the seed: in a
random direction ("any"), or so that the best of 400 random configurations is on the slow side
("slow"). The budget is what 40 random configurations take. Regret is 0 for the best score known, 1
for the expected best of ten random configurations, and at most 5.

"auto, n" is what `BayesSearchCV` does with ``max_cost={"seconds": budget}`` and ``n_iter=n``,
except that it goes on after n candidates. Run ``python benchmarks/bayes_costs.py run``, then ``...
report``.
"""

import argparse
import functools
import math
import warnings

import numpy as np
from bayes_regret import expected_best_of, reference
from bayes_tasks import DEVELOPMENT, REPORTED
from lines import read_lines, run_missing
from threadpoolctl import threadpool_limits

from skhpo.samplers import BayesSampler
from skhpo.samplers.time_limit import TimeLimit

SHARES = np.array([0.2, 0.35, 0.5, 0.75, 1.0])
RATIO = 30.0
ALL = {**DEVELOPMENT, **REPORTED}
TASKS = ["Branin", "Hartmann6", "Ackley-5, mixed", "Hartmann6 in 20"]
RULES = {
    "plain": lambda budget: {},
    "per second": lambda budget: {"acquisition": "log_ei_per_second"},
    "auto, 40": lambda budget: {"time_limit": TimeLimit(40, worked=budget)},
    "auto, 80": lambda budget: {"time_limit": TimeLimit(80, worked=budget)},
}


@functools.cache
def best_point(name):
    space, rng = ALL[name].space, np.random.default_rng(5)
    points = rng.random((400, space.n_dims))
    return points[np.argmax([ALL[name].score(space.from_unit(u)) for u in points])]


def run(task, seed, direction, rule):
    """Return scores of the incumbent at shares of the budget, and the number of fits."""
    chosen, space = ALL[task], ALL[task].space
    draws, noise = np.random.default_rng([seed, 5]), np.random.default_rng([seed, 9])
    numbers = [j for j, dim in enumerate(space.dimensions) if dim.kind != "choice"]
    j, sign = draws.choice(numbers), draws.choice([-1, 1])
    if direction == "slow":
        sign = 1 if best_point(task)[j] > 0.5 else -1

    def seconds_of(u):
        return math.exp(math.log(RATIO) * sign * (u[j] - 0.5))

    typical = np.mean([seconds_of(u) for u in noise.random((500, space.n_dims))])
    budget, rng = 40 * typical, np.random.default_rng([seed, 7])
    sampler = BayesSampler(space, seed, **RULES[rule](budget))
    used, found, n = 0.0, [], 0
    while used < budget and n < 250:
        [params] = sampler.sample(1)
        true, score, variance = chosen.observe(params, rng)
        seconds = seconds_of(space.to_unit(params)) * math.exp(0.1 * noise.standard_normal())
        sampler.observe(params, score, None, noise=variance or None, seconds=seconds)
        used, n = used + seconds, n + 1
        found.append((used / budget, score, true))
    at = [max([one for one in found if one[0] <= share] or found[:1], key=lambda one: one[1])
          for share in SHARES]  # fmt: skip
    return {"true": [one[2] for one in at], "n": n}


def report(lines):
    scales = {}
    for name in dict.fromkeys(line["task"] for line in lines):
        known = reference(name, ALL[name])
        best = ALL[name].best
        if best is None:
            best = max(max(line["true"]) for line in lines if line["task"] == name)
            best = max(best, known.max())
        scales[name] = best, best - expected_best_of(known, 10)
    regrets, fits = {}, {}
    for line in lines:
        best, unit = scales[line["task"]]
        key = line["direction"], line["rule"]
        regret = np.minimum((best - np.array(line["true"])) / unit, 5.0)
        regrets.setdefault(key, {})[line["task"], line["seed"]] = regret
        fits.setdefault(key, []).append(line["n"])
    print("| direction | rule | runs | fits |", *(f"at {share:.0%} |" for share in SHARES))
    print("| --- " * (4 + len(SHARES)) + "|")
    for (direction, rule), own in regrets.items():
        plain = regrets[direction, "plain"]
        both = [case for case in own if case in plain]
        values = np.array([own[case] for case in both])
        less = values - np.array([plain[case] for case in both])
        error = less.std(axis=0) / np.sqrt(len(both))
        cells = [f"{mean:.3f}" for mean in values.mean(axis=0)]
        if rule != "plain":
            pairs = zip(cells, less.mean(axis=0), error, strict=True)
            cells = [f"{cell}, {mean:+.3f} ± {one:.3f}" for cell, mean, one in pairs]
        n = np.mean(fits[direction, rule])
        print(f"| {direction} | {rule} | {len(both)} | {n:.0f} |", *(f"{cell} |" for cell in cells))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("--results", default="bayes_costs.jsonl")
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=ALL)
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=RULES)
    parser.add_argument("--directions", nargs="+", default=["any", "slow"])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(800, 805)))
    parser.add_argument("--max-time", type=float, default=float("inf"), help="seconds")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.command == "report":
        report(read_lines(args.results))
        return
    cases = [
        {"task": task, "seed": seed, "direction": direction, "rule": rule}
        for seed in args.seeds
        for direction in args.directions
        for task in args.tasks
        for rule in args.rules
    ]
    with threadpool_limits(1):
        run_missing(args.results, cases, run, args.max_time)


if __name__ == "__main__":
    main()
