"""Seconds of one ask and tell after n evaluations, against Optuna's GPSampler and skopt.

All samplers are told the same n random configurations, asked once to warm up, and then take turns
at asking and telling; processor time, one thread. Run it with
``python benchmarks/bayes_latency.py``.
"""

import argparse
import statistics
import time
import warnings

import numpy as np
from bayes_peers import optuna_params, optuna_study, skopt_dimensions
from bayes_tasks import REPORTED, Task
from threadpoolctl import threadpool_limits

from skhpo.samplers import BayesSampler

MIXED = Task(
    {
        "lr": ("log", 1e-5, 1.0),
        "decay": ("log", 1e-7, 0.1),
        "dropout": ("float", 0.0, 0.9),
        "momentum": ("float", 0.0, 1.0),
        "units": ("logint", 4, 512),
        "layers": ("int", 1, 5),
        "activation": ("choice", ["relu", "tanh", "elu"]),
        "optimizer": ("choice", ["sgd", "adam"]),
    },
    lambda p: (
        -((np.log10(p["lr"]) + 2.5) ** 2)
        - (p["dropout"] - 0.3) ** 2
        - abs(p["layers"] - 3) / 4
        - (np.log(p["units"]) - 4.5) ** 2 / 4
        + (p["activation"] == "relu") * p["momentum"]
    ),
)
TASKS = {"Hartmann6": REPORTED["Hartmann6"], "8 mixed": MIXED}
BARS = {("optuna gp", 50): 0.2, ("skopt", 50): 0.1, ("optuna gp", 200): 0.4, ("skopt", 200): 0.05}


def bayes(task, told, at_once=1):
    sampler = BayesSampler(task.space, 0)
    for params, score in told:
        sampler.observe(params, score, None)

    def ask_and_tell():
        for params in sampler.sample(at_once):
            sampler.observe(params, task.score(params), None)

    return ask_and_tell


def optuna_gp(task, told):
    import optuna
    import torch

    torch.set_num_threads(1)
    study = optuna_study(task, optuna.samplers.GPSampler(seed=0))
    for params, score in told:
        study.enqueue_trial(params)
        trial = study.ask()
        optuna_params(task, trial)
        study.tell(trial, score)

    def ask_and_tell():
        trial = study.ask()
        study.tell(trial, task.score(optuna_params(task, trial)))

    return ask_and_tell


def skopt(task, told):
    from skopt import Optimizer

    optimizer = Optimizer(skopt_dimensions(task), random_state=0)
    names = list(task.axes)
    optimizer.tell([[params[name] for name in names] for params, _ in told], [-s for _, s in told])

    def ask_and_tell():
        point = optimizer.ask()
        params = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in zip(names, point, strict=True)
        }
        optimizer.tell(point, -task.score(params))

    return ask_and_tell


def measure(task, n, methods, repeats):
    """Seconds of each of the repeats, by method."""
    rng = np.random.default_rng(0)
    told = [task.space.from_unit(rng.random(task.space.n_dims)) for _ in range(n)]
    told = [(params, task.score(params)) for params in told]
    turns = {name: make(task, told) for name, make in methods.items()}
    for turn in turns.values():
        turn()
    seconds = {name: [] for name in methods}
    for _ in range(repeats):
        for name, turn in turns.items():
            start = time.process_time()
            turn()
            seconds[name].append(time.process_time() - start)
    return seconds


def milliseconds(seconds):
    return (
        f"{1e3 * statistics.median(seconds):.0f} "
        f"({1e3 * min(seconds):.0f} to {1e3 * max(seconds):.0f})"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--alone", type=int, nargs="*", default=[500, 1000])
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    methods = {
        "bayes": bayes,
        "bayes, four": lambda *given: bayes(*given, at_once=4),
        "optuna gp": optuna_gp,
        "skopt": skopt,
    }
    print("Milliseconds of one ask and tell, median (min to max)\n")
    print("| space | n | BayesSampler | four at once | Optuna GPSampler | skopt | ratios |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with threadpool_limits(1):
        for name, task in TASKS.items():
            for n in args.sizes + args.alone:
                peers = n in args.sizes
                own = dict(list(methods.items())[: None if peers else 2])
                seconds = measure(task, n, own, args.repeats)
                cells = [milliseconds(seconds[m]) if m in seconds else "" for m in methods]
                medians = {m: statistics.median(s) for m, s in seconds.items()}
                ratios = [f"four {medians['bayes, four'] / medians['bayes']:.1f} (bar 4)"]
                for peer in ("optuna gp", "skopt") if peers else ():
                    bar = f" (bar {BARS[peer, n]})" if (peer, n) in BARS else ""
                    ratios.append(f"{peer} {medians['bayes'] / medians[peer]:.2f}{bar}")
                print(f"| {name} | {n} | {' | '.join(cells)} | {', '.join(ratios)} |", flush=True)


if __name__ == "__main__":
    main()
