"""Rows of `scale.py`: what samplers and schedulers compute between fits."""

import statistics
import time

import numpy as np
from bayes_peers import optuna_params, optuna_study
from bayes_tasks import Task
from scale_rows import Figure, exponent, peak_bytes, row
from scipy.stats import uniform
from threadpoolctl import threadpool_limits

from skhpo.samplers import BayesSampler
from skhpo.schedulers import Harmonica
from skhpo.space import SearchSpace

REPEATS = 5


def _stage(space, **arguments):
    """Seconds from the last score of a stage to what follows (processor, wall), and megabytes."""
    scheduler = Harmonica(SearchSpace(space), 0, n_stages=1, n_restrictions=1, **arguments)
    trials = scheduler.ask()
    rng = np.random.default_rng(0)
    names = list(space)
    levels = {name: sorted({repr(t.params[name]) for t in trials})[0] for name in names[:6]}
    for trial in trials:
        if isinstance(trial.params[names[0]], float):
            signs = [1 if trial.params[name] > 0.5 else -1 for name in names[:6]]
        else:
            signs = [1 if repr(trial.params[n]) == levels[n] else -1 for n in names[:6]]
        a, b, c, d, e, f = signs
        scheduler.tell(trial, 2 * a + 1.5 * b * c + d * e * f + 0.5 * rng.normal())
    start, wall = time.process_time(), time.perf_counter()  # of all threads
    scheduler.ask()
    seconds = time.process_time() - start, time.perf_counter() - wall
    return *seconds, peak_bytes() / 1e6, len(trials)


def _harmonica(name, make):
    @row(f"Harmonica's polynomial, {name}", "10 s, 500 MB")
    def measure():
        seconds, wall, megabytes, n = _stage(make())
        return Figure(
            f"{n} samples: {seconds:.1f} s of processor time in {wall:.1f} s, "
            f"{megabytes:.0f} MB in all"
        )


_harmonica("1,000 two-valued", lambda: {f"p{i:04}": [0, 1] for i in range(1000)})
_harmonica("50 of 10 choices", lambda: {f"p{i:02}": list("abcdefghij") for i in range(50)})
_harmonica("200 of 10 choices", lambda: {f"p{i:03}": list("abcdefghij") for i in range(200)})
_harmonica(
    "20 of 100 choices", lambda: {f"p{i:02}": [f"c{j}" for j in range(100)] for i in range(20)}
)
_harmonica("200 floats", lambda: {f"p{i:03}": uniform() for i in range(200)})


FIVE = Task(
    {f"x{i}": ("float", 0.0, 1.0) for i in range(5)},
    lambda p: -sum((value - 0.37) ** 2 for value in p.values()),
)


def _told(n):
    rng = np.random.default_rng(0)
    space = FIVE.space
    return [space.from_unit(u) for u in rng.random((n, space.n_dims))]


def _bayes(n, n_running=0):
    sampler = BayesSampler(FIVE.space, 0)
    configurations = _told(n + n_running)
    for params in configurations[:n]:
        sampler.observe(params, FIVE.score(params), None)
    for params in configurations[n:]:
        sampler.replace(params, params)  # runs, though nothing was proposed

    def turn():
        for params in sampler.sample(1):
            sampler.observe(params, FIVE.score(params), None)

    return turn


def _tpe(n):
    import optuna

    study = optuna_study(FIVE, optuna.samplers.TPESampler(seed=0))
    distributions = {name: optuna.distributions.FloatDistribution(0, 1) for name in FIVE.axes}
    for params in _told(n):
        trial = optuna.trial.create_trial(
            params=params, distributions=distributions, value=FIVE.score(params)
        )
        study.add_trial(trial)

    def turn():
        trial = study.ask()
        study.tell(trial, FIVE.score(optuna_params(FIVE, trial)))

    return turn


def _seconds(turn):
    """Of one ask and tell, the median."""
    turn()
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        turn()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


@row("an ask of BayesSampler, 5 numbers", "0.15 s at any n to 20,000")
def asks():
    sizes = [500, 1000, 2000, 20000]
    with threadpool_limits(1):
        own = [_seconds(_bayes(n)) for n in sizes]
        peer = [_seconds(_tpe(n)) for n in (1000, 2000)]
    text = ", ".join(f"{n:,}: {1e3 * s:.0f} ms" for n, s in zip(sizes, own, strict=True))
    text += f"; TPE 1,000: {1e3 * peer[0]:.0f} ms, 2,000: {1e3 * peer[1]:.0f} ms"
    return Figure(text, own[2] / peer[1], exponent(sizes, own))


@row("an ask of BayesSampler while 1,000 run", "0.5 s")
def asks_ahead():
    with threadpool_limits(1):
        few, many = (_seconds(_bayes(n, 1000)) for n in (100, 1000))
    return Figure(f"100 scores: {1e3 * few:.0f} ms, 1,000: {1e3 * many:.0f} ms")
