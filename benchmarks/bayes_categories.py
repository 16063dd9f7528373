"""Regret of the Gaussian-process sampler where one category is right and each has a valley.

A curved valley in four numbers (Rosenbrock's function with a factor of 10) lies elsewhere in each
of four categories, by up to 0.3 in each number, and three of them have a floor that is higher.
Regret is 0 for the best of all and 1 for the expected best of ten random configurations; a wrong
category costs 0.3 to 0.8.

Run it with ``python benchmarks/bayes_categories.py``; ``--first 0 --instances 60`` has the
instances on which settings were chosen.
"""

import argparse
import warnings

import numpy as np
from bayes_peers import METHODS
from bayes_regret import expected_best_of, run
from bayes_tasks import Task, valleys
from threadpoolctl import threadpool_limits


def regret_unit(task: Task) -> float:
    """The regret of the expected best of ten random configurations."""
    rng, space = np.random.default_rng(12345), task.space
    scores = [task.score(space.from_unit(rng.random(space.n_dims))) for _ in range(2000)]
    return task.best - expected_best_of(np.array(scores), 10)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=100, help="the first instance")
    parser.add_argument("--instances", type=int, default=20)
    parser.add_argument("--methods", nargs="+", default=["bayes", "tpe"], choices=METHODS)
    parser.add_argument("-n", type=int, default=40, help="evaluations of each run")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| method | mean regret | median | worst | above 0.3 |\n| --- | --- | --- | --- | --- |")
    with threadpool_limits(1):
        for method in args.methods:
            found = []
            for instance in range(args.first, args.first + args.instances):
                task = valleys(instance)
                best = max(run(task, method, instance, args.n)["true"])
                found.append((task.best - best) / regret_unit(task))
            print(
                f"| {method} | {np.mean(found):.3f} | {np.median(found):.3f} | {max(found):.3f} "
                f"| {sum(regret > 0.3 for regret in found)}/{len(found)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
