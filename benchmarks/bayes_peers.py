"""Samplers behind one interface: run `n` evaluations, return the seconds spent in them.

Each is given a task, a function from parameters to (observed score, variance of its noise), a
seed, and the number of evaluations. Peers have their own defaults.
"""

import time

import numpy as np

from skhpo.samplers import BayesSampler, RandomSampler


def _timed(evaluate, params):
    start = time.process_time()
    found = evaluate(params)
    return found, time.process_time() - start


def run_sampler(sampler, evaluate, n, at_once=1, refill=False, seed=0):
    """`at_once` run together; they end together, or, with `refill`, in random order."""
    rng = np.random.default_rng([seed, 11])
    seconds, n_asked, running = 0.0, 0, []
    while n_asked < n or running:
        if n_asked < n and (refill or not running):
            new = sampler.sample(min(at_once - len(running), n - n_asked))
            n_asked += len(new)
            running += new
        ended = [running.pop(rng.integers(len(running)))] if refill else running
        if not refill:
            running = []
        for params in ended:
            (score, variance), spent = _timed(evaluate, params)
            seconds += spent
            sampler.observe(params, score, None, noise=variance or None)
    return seconds


def bayes(task, evaluate, seed, n, **how):
    return run_sampler(BayesSampler(task.space, seed), evaluate, n, seed=seed, **how)


def random(task, evaluate, seed, n):
    return run_sampler(RandomSampler(task.space, seed), evaluate, n)


def optuna_study(task, sampler, n_objectives=1):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(directions=["maximize"] * n_objectives, sampler=sampler)


def optuna_params(task, trial):
    kinds = {
        "float": lambda name, low, high: trial.suggest_float(name, low, high),
        "log": lambda name, low, high: trial.suggest_float(name, low, high, log=True),
        "int": lambda name, low, high: trial.suggest_int(name, low, high),
        "logint": lambda name, low, high: trial.suggest_int(name, low, high, log=True),
        "choice": trial.suggest_categorical,
    }
    return {name: kinds[kind](name, *rest) for name, (kind, *rest) in task.axes.items()}


def _optuna(task, evaluate, n, sampler):
    study = optuna_study(task, sampler)
    seconds = 0.0
    for _ in range(n):
        trial = study.ask()
        (score, _), spent = _timed(evaluate, optuna_params(task, trial))
        study.tell(trial, score)
        seconds += spent
    return seconds


def tpe(task, evaluate, seed, n):
    import optuna

    return _optuna(task, evaluate, n, optuna.samplers.TPESampler(seed=seed))


def optuna_gp(task, evaluate, seed, n):
    import optuna
    import torch

    torch.set_num_threads(1)
    return _optuna(task, evaluate, n, optuna.samplers.GPSampler(seed=seed))


def skopt_dimensions(task):
    from skopt.space import Categorical, Integer, Real

    kinds = {
        "float": lambda low, high: Real(low, high),
        "log": lambda low, high: Real(low, high, prior="log-uniform"),
        "int": lambda low, high: Integer(low, high),
        "logint": lambda low, high: Integer(low, high, prior="log-uniform"),
        "choice": Categorical,
    }
    return [kinds[kind](*rest) for kind, *rest in task.axes.values()]


def skopt(task, evaluate, seed, n):
    from skopt import Optimizer

    optimizer = Optimizer(skopt_dimensions(task), random_state=seed)
    seconds = 0.0
    for _ in range(n):
        point = optimizer.ask()
        params = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in zip(task.axes, point, strict=True)
        }
        (score, _), spent = _timed(evaluate, params)
        optimizer.tell(point, -score)
        seconds += spent
    return seconds


METHODS = {
    "bayes": bayes,
    "bayes, rounds of 8": lambda *args: bayes(*args, at_once=8),
    "bayes, 8 running": lambda *args: bayes(*args, at_once=8, refill=True),
    "tpe": tpe,
    "random": random,
    "optuna gp": optuna_gp,
    "skopt": skopt,
}
