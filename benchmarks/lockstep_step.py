"""Where the time of a step of networks in lockstep goes, beside their bare batched products.

Networks 64-64-10, batches of 64, Adam, one thread; every five networks have a learning rate of
their own. The products are five calls with results in place (``baddbmm`` twice, ``bmm`` three
times), and the same "across": those with few outputs as (networks, out, rows), as the package has
them. Times are those of the process; the parts take turns, and a ratio is one within a turn.

    python benchmarks/lockstep_step.py [--repeats 15] [n_networks ...]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from skhpo.estimators import MLP, TorchClassifier
from skhpo.lockstep import Member
from skhpo.lockstep._runner import LockstepRunner
from skhpo.lockstep._together import _build

BATCH_SIZE, WIDTH, N_CLASSES, N_ROWS = 64, 64, 10, 1280


def bare_products(n_networks):
    x = torch.randn(n_networks, BATCH_SIZE, WIDTH)
    first, last = (torch.randn(n_networks, WIDTH, n) for n in (WIDTH, N_CLASSES))
    biases = [torch.randn(n_networks, 1, n) for n in (WIDTH, N_CLASSES)]
    hidden, of_hidden = torch.empty_like(x), torch.empty_like(x)
    output = torch.empty(n_networks, BATCH_SIZE, N_CLASSES)
    of_output = torch.randn_like(output)
    of_first, of_last = torch.empty_like(first), torch.empty_like(last)

    def run():
        torch.baddbmm(biases[0], x, first, out=hidden)
        torch.baddbmm(biases[1], hidden, last, out=output)
        torch.bmm(hidden.mT, of_output, out=of_last)
        torch.bmm(of_output, last.mT, out=of_hidden)
        torch.bmm(x.mT, of_hidden, out=of_first)

    return run


def products_across(n_networks):
    x = torch.randn(n_networks, BATCH_SIZE, WIDTH)
    first, last = (torch.randn(n_networks, n, WIDTH) for n in (WIDTH, N_CLASSES))
    hidden, of_hidden = torch.empty_like(x), torch.empty_like(x)
    output = torch.empty(n_networks, N_CLASSES, BATCH_SIZE)
    of_output = torch.randn_like(output)
    of_first, of_last = torch.empty_like(first), torch.empty_like(last)

    def run():
        torch.bmm(x, first, out=hidden)
        torch.bmm(last, hidden.mT, out=output)
        torch.bmm(of_output, hidden, out=of_last)
        torch.bmm(of_output.mT, last, out=of_hidden)
        torch.bmm(x.mT, of_hidden, out=of_first)

    return run


def runner_of(n_networks):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(N_ROWS, WIDTH)).astype(np.float32)
    y = generator.integers(N_CLASSES, size=N_ROWS)
    settings = {"module__n_units": WIDTH, "optimizer": "adam", "batch_size": BATCH_SIZE}
    nets = [
        TorchClassifier(MLP, lr=1e-3 * (1 + k // 5 % 4), random_state=k, device="cpu", **settings)
        for k in range(n_networks)
    ]
    return LockstepRunner([_build(k, Member(net, X, y)) for k, net in enumerate(nets)])


def microseconds(function, n_calls, n_steps=1):
    start = time.process_time()
    for _ in range(n_calls):
        function()
    return (time.process_time() - start) / (n_calls * n_steps) * 1e6


def measure(n_networks, repeats):
    """Return microseconds per step: products, across, gradients, optimizer, batches, whole."""
    runner = runner_of(n_networks)
    n_steps = len(runner.feed.steps)
    bare, batch = bare_products(n_networks), next(iter(runner.feed.epoch()))
    parts = [
        (bare, 60, 1),
        (products_across(n_networks), 60, 1),
        (lambda: runner.passes.gradients(*batch), 60, 1),
        (lambda: runner.optimizer.step(0, n_networks), 60, 1),
        (lambda: list(map(len, runner.feed.epoch())), 3, n_steps),
        (lambda: runner.run(runner.networks), 3, n_steps),
    ]
    with runner.passes.context():
        for part, *_ in parts:
            part()
            part()
        return np.array([[microseconds(*part) for part in parts] for _ in range(repeats)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n_networks", nargs="*", type=int, default=[3, 5, 20])
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| networks | bare products | across | gradients | optimizer | batches | step ", end="")
    print("| in products | in those across |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for n_networks in args.n_networks or [3, 5, 20]:
        times = measure(n_networks, args.repeats)
        cells = [f"{value:.0f}" for value in np.median(times, axis=0)]
        for of_products in times[:, :2].T:
            low, middle, high = np.percentile(times[:, -1] / of_products, [25, 50, 75])
            cells.append(f"{middle:.2f} ({low:.2f} - {high:.2f})")
        print(f"| {n_networks} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
