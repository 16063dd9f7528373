"""A cluster that is not there: an engine of the package's pool whose workers live in virtual time.

The driver is the one of every search. Where it would wait for a worker the clock is moved to the
next event; while it computes the clock runs with its processor time, so that what it does not start
in time is seen as idle workers. What the simulation itself takes is not counted.

Workers die with a fit now and then, and come back after a while; some leave without need. A fit
that continues another one waits for what it is continued from.
"""

import heapq
import pickle
import time
from array import array
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from skhpo.evaluation import _evaluator, _pool
from skhpo.evaluation._tasks import Outcome
from skhpo.evaluation._workers import Engine
from skhpo.trial import FitResult

__all__ = ["Cluster", "Epochs", "VirtualEngine", "simulated"]

X, y = np.zeros((20, 1)), np.tile([0, 1], 10)
SPLIT = [(np.arange(10), np.arange(10, 20))]
# Most of a log-normal distribution, 95%, then lies within a factor of 30.
SIGMA = np.log(30) / (2 * 1.96)


class Epochs(ClassifierMixin, BaseEstimator):
    """Counts epochs; never fitted, because the cluster only pretends."""

    def __init__(self, lr=0.1, units=16, quality=0.0, max_epochs=1):
        self.lr = lr
        self.units = units
        self.quality = quality
        self.max_epochs = max_epochs

    def fit(self, X, y):
        self.classes_ = np.array([0, 1])
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


class WorkerLost(Exception):
    """A worker is gone, and a call with it."""


@dataclass
class Cluster:
    """What the workers are like, and what they were seen to do.

    Parameters
    ----------
    n_workers : int
    seconds : float
        Of a fit, in the mean, per `epochs`.
    epochs : float
        That a fit adds in the mean.
    n_metrics : int
        Scores of a fit.
    p_death : float
        Of a worker, per fit.
    p_leave : float
        Of a worker that has done its fit, which another one replaces.
    start_up, transfer : float
        Seconds until a worker is there, and until it has what a fit is continued from.
    seed : int
    """

    n_workers: int
    seconds: float = 10.0
    epochs: float = 1.0
    n_metrics: int = 1
    p_death: float = 1 / 200
    p_leave: float = 1 / 1000
    start_up: float = 15.0
    transfer: float = 0.2
    seed: int = 0
    n_fits: int = 0
    n_deaths: int = 0
    in_use: float = 0.0  # of the workers that were there, until the last candidate started
    in_use_to_end: float = 0.0
    virtual_seconds: float = 0.0
    own_seconds: float = 0.0  # processor time of the simulation
    pauses: array = field(default_factory=partial(array, "f"))
    task_bytes: list = field(default_factory=list)  # (number of the call, bytes)


class VirtualEngine(Engine):
    local = False
    in_processes = True
    tells_deaths = True
    isolated = True
    lost = (WorkerLost,)

    def __init__(self, cluster):
        self.cluster = cluster
        self.n_jobs = cluster.n_workers
        self.rng = np.random.default_rng(cluster.seed)
        self.uniform = iter(())
        self.now = 0.0
        self.events = []  # (time, number, kind, payload)
        self.number = 0
        self.idle = [-1.0] * cluster.n_workers  # since when; those that have not begun before all
        self.queue = deque()
        # Of candidates: few, because the memory is to be the driver's.
        self.rates = self.rng.lognormal(-(SIGMA**2) / 2, SIGMA, 4096).tolist()
        self.last_jump = 0.0
        self.busy = self.there = 0.0
        self.n_there = cluster.n_workers
        self.n_busy = 0
        self.seen_at = 0.0
        self.newest = -1  # of the candidates that have started
        self.at_last_start = (0.0, 0.0)
        self.clock = time.process_time()

    @contextmanager
    def simulating(self):
        """Let the clock run until here, and not in the body."""
        entered = time.process_time()
        self._note(self.now + entered - self.clock)
        try:
            yield
        finally:
            self.clock = time.process_time()
            self.cluster.own_seconds += self.clock - entered

    def _note(self, now):
        passed = max(0.0, now - self.seen_at)
        self.there += passed * self.n_there
        self.busy += passed * self.n_busy
        self.now = self.seen_at = max(now, self.seen_at)

    def submit(self, call, shared, done):
        with self.simulating():
            self.number += 1
            if self.number & (self.number - 1) == 0 or self.number % 100_000 == 0:
                self.cluster.task_bytes.append((self.number, len(pickle.dumps(call.args[0]))))
            self.queue.append((call.args[0].items, done))
            self._start()

    def _start(self):
        while self.queue and self.idle:
            free_since = self.idle.pop()
            if free_since >= self.last_jump:
                self.cluster.pauses.append(self.now - free_since)
            items, done = self.queue.popleft()
            self.n_busy += 1
            newest = max(task.candidate for group in items for task in group.tasks)
            if newest > self.newest:
                self.newest, self.at_last_start = newest, (self.busy, self.there)
            seconds = sum(self._seconds(task) for group in items for task in group.tasks)
            dies = self._random() < self.cluster.p_death * len(items)
            if dies:
                seconds *= self._random()
            self._push(self.now + seconds, "end", (items, done, dies))

    def _seconds(self, task):
        rate = self.rates[task.candidate * 2_654_435_761 % len(self.rates)]
        before = task.levels[-2] if len(task.levels) > 1 else 0
        epochs = (task.levels[-1] or 1) - before
        transfer = self.cluster.transfer if before else 0.0
        return transfer + self.cluster.seconds * rate * epochs / self.cluster.epochs

    def _random(self):
        number = next(self.uniform, None)
        if number is None:
            self.uniform = iter(self.rng.random(10_000).tolist())
            number = next(self.uniform)
        return number

    def _push(self, at, kind, payload=None):
        heapq.heappush(self.events, (at, self.number, kind, payload))
        self.number += 1

    def deliver(self):
        """Move the clock to the next end of a call, unless one is over already, and report it."""
        with self.simulating():
            while self.events:
                at, _, kind, payload = heapq.heappop(self.events)
                if at > self.now:
                    self.last_jump = at
                    self._note(at)
                if kind == "comes":
                    self.n_there += 1
                    self.idle.append(self.now)
                    self._start()
                    continue
                items, done, dies = payload
                self.n_busy -= 1
                self.cluster.n_deaths += dies
                if dies or self._random() < self.cluster.p_leave:
                    self.n_there -= 1
                    self._push(self.now + self.cluster.start_up, "comes")
                else:
                    self.idle.append(at)
                if dies:
                    done(_lost)
                else:
                    results = [[self._outcome(task) for task in group.tasks] for group in items]
                    self.cluster.n_fits += sum(map(len, results))
                    done(partial(list, results))
                return

    def _outcome(self, task):
        level = task.levels[-1]
        noise = 0.1 / (level or 1) * (self._random() - 0.5)
        score = task.params["quality"] + noise
        names = ["score", *(f"metric{i}" for i in range(1, self.cluster.n_metrics))]
        result = FitResult(
            trial=task.trial,
            split=task.split,
            repeat=task.repeat,
            test_scores=dict.fromkeys(names, score),
            fit_time=self._seconds(task),
            score_time=0.01 + 0.001 * self._random(),
        )
        return Outcome(result, None if level is None else b"the weights")

    def stop(self):
        cluster = self.cluster
        busy, there = self.at_last_start
        cluster.in_use = busy / max(there, 1e-9)
        cluster.in_use_to_end = self.busy / max(self.there, 1e-9)
        cluster.virtual_seconds = self.now


def _lost():
    raise WorkerLost("a worker is gone")


class _VirtualPool(_pool.Pool):
    def wait(self, seconds=None):
        self._engine.deliver()
        return super().wait(seconds)


@contextmanager
def simulated(cluster):
    """Let searches run on a cluster that is not there."""
    before = _pool.active_engine, _evaluator.Pool
    _pool.active_engine = lambda n_jobs: VirtualEngine(cluster)
    _evaluator.Pool = _VirtualPool
    try:
        yield
    finally:
        _pool.active_engine, _evaluator.Pool = before
