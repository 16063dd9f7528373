"""Harmonica on functions of 60 two-valued variables: optima found, own computing, memory.

The functions are of the three-stage family of Hazan, Klivans and Yuan: 5 random monomials of degree
at most 3 with weights of 100 to 200 and either sign; in each of the 2^5 sign patterns of those, 5
others with a fourth of the weights; in each pattern of those again; and noise U(0, 4) on what is
told. Lower is better. A pattern of signs of all 15 monomials is a linear system over GF(2), so that
the best one that has a solution is the exact optimum, and is found by enumeration.

The scheduler is driven directly, without an estimator. "solved" means that the best configuration
that was tried, without noise, is within 0.1% of the optimum.

Run it with ``python benchmarks/harmonica.py``; ``--part`` runs one table of it.
"""

import argparse
import itertools
import subprocess
import sys
import time

import numpy as np
from scale_rows import peak_bytes
from sklearn.linear_model import Lasso
from sklearn.preprocessing import PolynomialFeatures

from skhpo import SearchSpace
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler, Harmonica

N_VARIABLES = 60
NAMES = [f"x{i:02}" for i in range(N_VARIABLES)]
SPACE = {name: [-1, 1] for name in NAMES}


class ThreeStages:
    """A function of the family; `seed` 0 is the instance that the authors' generator draws."""

    def __init__(self, seed, n_monomials=5, n_stages=3, degree=3):
        rng = np.random.RandomState(seed)
        variables = range(N_VARIABLES)
        monomials = [
            m for size in range(1, degree + 1) for m in itertools.combinations(variables, size)
        ]
        self.n_monomials = n_monomials
        self.stages = []
        for stage in range(n_stages):
            cells = []
            for _ in range((2**n_monomials) ** stage):
                terms = []
                for _ in range(n_monomials):
                    size = rng.random_sample() * 100 + 100
                    weight = size * (-1) ** rng.randint(2) / 4**stage
                    terms.append((weight, monomials[rng.randint(len(monomials))]))
                cells.append(terms)
            self.stages.append(cells)

    def __call__(self, x):
        value, cell = 0.0, 0
        for cells in self.stages:
            below = 0
            for weight, monomial in cells[cell]:
                term = weight * np.prod([x[i] for i in monomial])
                value += term
                below = 2 * below + (term > 0)
            cell = cell * 2**self.n_monomials + below
        return value

    def minimum(self):
        """Return the exact minimum."""
        self._least = np.inf
        self._descend(0, 0, [], 0.0)
        return self._least

    def _descend(self, stage, cell, system, value):
        if stage == len(self.stages):
            self._least = min(self._least, value)
            return
        terms = self.stages[stage][cell]
        below = sum(200 * self.n_monomials / 4**s for s in range(stage + 1, len(self.stages)))
        sizes = np.abs([weight for weight, _ in terms])
        patterns = sorted(
            itertools.product([-1, 1], repeat=self.n_monomials), key=lambda signs: sizes @ signs
        )
        for signs in patterns:
            reached = value + float(sizes @ signs)
            if reached - below >= self._least:
                break
            larger = system
            for sign, (weight, monomial) in zip(signs, terms, strict=True):
                larger = _with(larger, sign, weight, monomial)
                if larger is None:
                    break
            if larger is not None:
                number = int("".join(str(int(sign > 0)) for sign in signs), 2)
                self._descend(stage + 1, cell * 2**self.n_monomials + number, larger, reached)


def _with(system, sign, weight, monomial):
    """Return a linear system over GF(2) with one more equation; None if it has no solution."""
    row = sum(1 << i for i in monomial)
    right = int(sign * weight < 0)  # the product of the variables is -1
    for pivot, other, value in system:
        if row >> pivot & 1:
            row ^= other
            right ^= value
    if row == 0:
        return None if right else system
    return [*system, (row.bit_length() - 1, row, right)]


def sparse_linear(x):
    return 10 * (x[2] * x[8] + x[15] + x[46] + x[38] + x[3] * x[6])


def search(scheduler, function, noise, seed):
    """Run a search; return the best value without noise, that before the base, and own seconds."""
    rng = np.random.default_rng([seed, 1])
    best, before, seconds = np.inf, np.inf, []
    while True:
        start = time.process_time()
        batch = scheduler.ask()
        seconds.append(time.process_time() - start)
        if not batch:
            return best, before, seconds
        for trial in batch:
            value = function([trial.params[name] for name in NAMES])
            best = min(best, value)
            if trial.tags.get("stage", 3) < 3:
                before = min(before, value)
            scheduler.tell(trial, -(value + noise * rng.random()))


def hundred(space, random_state):
    return FullScheduler(RandomSampler(space, random_state), n_candidates=100)


def harmonica(seed, n_samples, **kwargs):
    settings = {"n_stages": 3, "degree": 3, "n_terms": 5} | kwargs
    return Harmonica(SearchSpace(SPACE), seed, hundred, n_samples=n_samples, **settings)


def solved(sizes, seeds, instances, first_instance, restrictions):
    print("| samples per stage | instance | optimum | before the base | after 100 more | solved |")
    print("| --- | --- | --- | --- | --- | --- |")
    for n_samples in sizes:
        total = 0
        for instance in range(first_instance, first_instance + instances):
            function = ThreeStages(instance)
            optimum = function.minimum()
            runs = [
                search(harmonica(s, n_samples, n_restrictions=restrictions), function, 4, s)
                for s in range(seeds)
            ]
            ends, before = np.array([run[0] for run in runs]), np.array([run[1] for run in runs])
            good = np.count_nonzero(ends <= optimum + 1e-3 * abs(optimum))
            total += good
            print(
                f"| {n_samples} | {instance} | {optimum:.2f} | {_spread(before)} | {_spread(ends)} "
                f"| {good}/{seeds} |",
                flush=True,
            )
        print(f"| {n_samples} | all | | | | {total}/{seeds * instances} |", flush=True)


def easy_and_random(seeds):
    print("| what | function | result | seeds |\n| --- | --- | --- | --- |")
    for n_samples in (300, 100):
        ends = [search(harmonica(s, n_samples), sparse_linear, 0, s)[0] for s in range(seeds)]
        print(f"| {n_samples} samples a stage | sparse, optimum -50 | {_spread(ends)} | {seeds} |")
    function = ThreeStages(0)
    ends = []
    for s in range(seeds):
        sampler = RandomSampler(SearchSpace(SPACE), s)
        ends.append(search(FullScheduler(sampler, 1000), function, 4, s)[0])
    print(f"| 1,000 random configurations | instance 0 | {_spread(ends)} | {seeds} |")


def _spread(values):
    return f"{np.median(values):.2f} ({np.min(values):.2f} to {np.max(values):.2f})"


def row_by_row(X, y):
    """The plain way: the features of each sample, one after another, then the Lasso."""
    features = np.vstack(
        [PolynomialFeatures(3, interaction_only=True).fit_transform(x[None]) for x in X]
    )
    return Lasso(alpha=3).fit(features, y)


def computing(sizes, repeats):
    print("| samples per stage | row by row, s | Harmonica, s | ratio, median (min to max) |")
    print("| --- | --- | --- | --- |")
    for n_samples in sizes:
        theirs, own = [], []
        for repeat in range(repeats):
            function = ThreeStages(repeat)
            seconds = search(harmonica(repeat, n_samples), function, 4, repeat)[2]
            # What follows a stage: the polynomial, the new region, drawing the next samples.
            own.append(np.mean(seconds[1:4]))
            rng = np.random.default_rng(repeat)
            X = rng.choice([-1.0, 1.0], (n_samples, N_VARIABLES))
            y = np.array([function(x) for x in X]) + 4 * rng.random(n_samples)
            start = time.process_time()
            row_by_row(X, y)
            theirs.append(time.process_time() - start)
        ratios = np.divide(own, theirs)
        print(
            f"| {n_samples} | {np.median(theirs):.3f} | {np.median(own):.3f} "
            f"| {np.median(ratios):.3f} ({ratios.min():.3f} to {ratios.max():.3f}) |",
            flush=True,
        )


def memory():
    """Print the peak memory of a stage over 100 variables with 500 samples, in a fresh process."""
    code = "import sys; sys.path.insert(0, 'benchmarks')\nimport harmonica; harmonica.large_stage()"
    subprocess.run([sys.executable, "-c", code], check=True)


def large_stage():
    start = peak_bytes()
    space = SearchSpace({f"x{i:03}": [-1, 1] for i in range(100)})
    scheduler = Harmonica(space, 0, n_stages=1, n_samples=500, degree=3, n_terms=8)
    rng = np.random.default_rng(0)
    for trial in scheduler.ask():
        x = list(trial.params.values())
        scheduler.tell(trial, 2 * x[3] * x[50] * x[99] + x[7] + rng.normal())
    seconds = time.process_time()
    scheduler.ask()
    seconds = time.process_time() - seconds
    print("| | GB |\n| --- | --- |")
    print(f"| before the stage | {start / 1e9:.2f} |\n| peak | {peak_bytes() / 1e9:.2f} |")
    print(f"\n{seconds:.2f} s of computing; {len(scheduler.stages[0].terms)} terms found of 2")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--part", choices=["solved", "easy", "computing", "memory", "all"], default="all"
    )
    parser.add_argument("--samples", type=int, nargs="+", default=[300, 150, 100, 80, 60])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--instances", type=int, default=6)
    parser.add_argument("--first-instance", type=int, default=0)
    parser.add_argument("--restrictions", type=int, default=1)
    args = parser.parse_args()
    if args.part in ("solved", "all"):
        solved(args.samples, args.seeds, args.instances, args.first_instance, args.restrictions)
    if args.part in ("easy", "all"):
        easy_and_random(args.seeds)
    if args.part in ("computing", "all"):
        computing(args.samples, 7)
    if args.part in ("memory", "all"):
        memory()


if __name__ == "__main__":
    main()
