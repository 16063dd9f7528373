"""What a fit costs beside the same training written by hand, for several networks.

For each network a fit of `TorchClassifier` and the loop that one writes (per batch: index, forward,
backward, step of Adam) take turns on random data, one thread; the figures are ratios within a turn,
so that a busy machine disturbs both alike.

    python benchmarks/direct_steps.py [--repeats 15] [name ...]
"""

from __future__ import annotations

import argparse
import gc
import time
from functools import partial

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier
from torch import nn

from skhpo.estimators import MLP, ConvNet, TorchClassifier

LEARNING_RATE = 1e-3
EPOCHS = {MLP: 20, ConvNet: 3}
# Name: module and its settings, shape of a row, classes, rows, size of a batch.
CASES = {
    "64-64-10": (MLP, {"n_units": 64}, (64,), 10, 1797, 64),
    "30-48-2": (MLP, {"n_units": 48}, (30,), 2, 569, 32),
    "45-64-2": (MLP, {"n_units": 64}, (45,), 2, 1800, 64),
    "45-256-2": (MLP, {"n_units": 256}, (45,), 2, 1800, 64),
    "128-128, dropout, batch norm": (
        MLP,
        {"n_units": 128, "n_layers": 2, "dropout": 0.2, "normalization": "batch"},
        (64,),
        10,
        1797,
        64,
    ),
    "784-64-10": (MLP, {"n_units": 64}, (784,), 10, 1800, 64),
    "ConvNet 28 x 28": (ConvNet, {}, (28, 28), 10, 640, 64),
    "ConvNet 28 x 28, batch norm": (ConvNet, {"normalization": "batch"}, (28, 28), 10, 640, 64),
}


def by_hand(make, X, y, batch_size, epochs):
    torch.manual_seed(0)
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    net, criterion = make(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(X))
        for start in range(0, len(X), batch_size):
            batch = order[start : start + batch_size]
            optimizer.zero_grad()
            loss = criterion(net(X[batch]), y[batch])
            loss.backward()
            optimizer.step()


def with_skhpo(module, settings, X, y, batch_size, epochs):
    TorchClassifier(
        module=module,
        **{f"module__{name}": value for name, value in settings.items()},
        optimizer="adam",
        lr=LEARNING_RATE,
        batch_size=batch_size,
        max_epochs=epochs,
        random_state=0,
        device="cpu",
    ).fit(X, y)


def with_sklearn(width, X, y, batch_size, epochs):
    MLPClassifier(
        (width,),
        batch_size=batch_size,
        max_iter=epochs,
        alpha=0,
        n_iter_no_change=epochs + 1,
        learning_rate_init=LEARNING_RATE,
        random_state=0,
    ).fit(X, y)


def contestants(name):
    """Return the contestants by name, as functions of no argument, and the steps of a fit."""
    module, settings, shape, n_classes, n_rows, batch_size = CASES[name]
    generator = np.random.default_rng(0)
    X = generator.normal(size=(n_rows, *shape)).astype(np.float32)
    y = generator.integers(n_classes, size=n_rows)
    if module is MLP:
        make = partial(MLP, shape[0], n_classes, **settings)
    else:
        make = partial(ConvNet, shape, n_classes, **settings)
    how = X, y, batch_size, EPOCHS[module]
    found = {
        "loop": partial(by_hand, make, *how),
        "skhpo": partial(with_skhpo, module, settings, *how),
    }
    if set(settings) == {"n_units"}:
        found["MLPClassifier"] = partial(with_sklearn, settings["n_units"], *how)
    return found, EPOCHS[module] * -(-n_rows // batch_size)


def seconds_of(function):
    gc.collect()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(CASES))
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"one thread, Adam, {args.repeats} turns, torch {torch.__version__}\n")
    print("| network | loop, us per step | skhpo | ratio (quartiles) | MLPClassifier to loop |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in args.names or CASES:
        fits, n_steps = contestants(name)
        fits["skhpo"]()
        times = {key: [] for key in fits}
        for turn in range(args.repeats):
            keys = list(fits)
            for key in keys[turn % len(keys) :] + keys[: turn % len(keys)]:
                times[key].append(seconds_of(fits[key]))
        times = {key: np.array(values) for key, values in times.items()}
        per_step = {k: np.median(v) / n_steps * 1e6 for k, v in times.items()}
        low, middle, high = np.percentile(times["skhpo"] / times["loop"], [25, 50, 75])
        of_sklearn = "-"
        if "MLPClassifier" in times:
            of_sklearn = f"{np.median(times['MLPClassifier'] / times['loop']):.2f}"
        print(
            f"| {name} | {per_step['loop']:.0f} | {per_step['skhpo']:.0f} "
            f"| {middle:.2f} ({low:.2f} - {high:.2f}) | {of_sklearn} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
