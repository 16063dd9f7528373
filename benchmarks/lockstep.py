"""What K networks cost that are trained as one.

For networks of several widths, the time of K single `TorchClassifier` fits and of K plain PyTorch
loops, over that of `train_together` for K of them: five folds, candidates with learning rates of
their own. Batches of 64, Adam, one thread. The contestants take turns; a figure is a ratio of
process times (seconds on a core) within a turn, so that a busy machine disturbs all alike.

    python benchmarks/lockstep.py [--repeats 5] [--only NAME ...] [--sizes 5 20]
"""

from __future__ import annotations

import argparse
import gc
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from torch import nn

from skhpo.estimators import MLP, ConvNet, TorchClassifier
from skhpo.lockstep import Member, train_together

MNIST = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "mnist10k.npz"
BATCH_SIZE = 64
LEARNING_RATE = 1e-3


def digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


def images():
    X, y = digits()
    return X.reshape(-1, 1, 8, 8), y


def mnist():
    with np.load(MNIST) as archive:
        arrays = list(archive.values())
    X, y = sorted(arrays, key=lambda array: -array.ndim)[:2]
    return (X[:4000].reshape(4000, -1) / 255).astype(np.float32), y[:4000].astype(np.int64)


# Module, its arguments, data, epochs of a fit.
NETS = {
    "64-16-10": (MLP, {"n_units": 16}, digits, 8),
    "64-32-10": (MLP, {"n_units": 32}, digits, 8),
    "64-64-10": (MLP, {"n_units": 64}, digits, 8),
    "64-64-10, dropout": (MLP, {"n_units": 64, "dropout": 0.2}, digits, 8),
    "64-64-10, batch norm": (MLP, {"n_units": 64, "normalization": "batch"}, digits, 8),
    "64-64-64-10": (MLP, {"n_units": 64, "n_layers": 2}, digits, 8),
    "64-128-10": (MLP, {"n_units": 128}, digits, 6),
    "64-256-10": (MLP, {"n_units": 256}, digits, 4),
    "64-256-256-10": (MLP, {"n_units": 256, "n_layers": 2}, digits, 2),
    "64-350-350-10": (MLP, {"n_units": 350, "n_layers": 2}, digits, 2),
    "784-64-10 (MNIST)": (MLP, {"n_units": 64}, mnist, 1),
    "784-128-10 (MNIST)": (MLP, {"n_units": 128}, mnist, 1),
    "784-190-10 (MNIST)": (MLP, {"n_units": 190}, mnist, 1),
    "ConvNet, 4 channels, 8 x 8": (ConvNet, {"n_channels": 4}, images, 2),
    "ConvNet, 16 channels, 8 x 8": (ConvNet, {"n_channels": 16}, images, 1),
}


def folds(X, y):
    return [(X[train], y[train]) for train, _ in StratifiedKFold(5).split(X, y)]


def make(number, module, arguments, epochs):
    return TorchClassifier(
        module,
        **{f"module__{name}": value for name, value in arguments.items()},
        optimizer="adam",
        lr=LEARNING_RATE * (1 + number // 5 % 4),
        batch_size=BATCH_SIZE,
        max_epochs=epochs,
        random_state=number,
        device="cpu",
    )


def by_hand(X, y, module, arguments, epochs):
    torch.manual_seed(0)
    if module is MLP:
        arguments = {"in_features": X.shape[1], **arguments}
    else:
        arguments = {"input_shape": X.shape[1:], **arguments}
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    net = module(out_features=10, **arguments)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(X))
        for start in range(0, len(X), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            optimizer.zero_grad()
            loss = criterion(net(X[batch]), y[batch])
            loss.backward()
            optimizer.step()


def alone(parts, module, arguments, epochs):
    make(0, module, arguments, epochs).fit(*parts[0])


def together(size, parts, module, arguments, epochs):
    members = [
        Member(make(number, module, arguments, epochs), *parts[number % 5])
        for number in range(size)
    ]
    errors = train_together(members, most=size)
    assert not any(errors), errors


def seconds_of(function, *args):
    gc.collect()
    start = time.process_time()
    function(*args)
    return time.process_time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=list(NETS))
    parser.add_argument("--sizes", nargs="*", type=int, default=[5, 20, 60])
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"one thread, {args.repeats} turns, torch {torch.__version__}; median (range)\n")
    print("| network | K | group / 1 fit | K fits / group | K loops / group |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in args.only:
        module, arguments, data, epochs = NETS[name]
        if data is mnist and not MNIST.exists():
            continue
        parts = folds(*data())
        rest = module, arguments, epochs
        turns = []
        alone(parts, module, arguments, 1)
        together(args.sizes[0], parts, module, arguments, 1)
        for _ in range(args.repeats):
            loop, single = seconds_of(by_hand, *parts[0], *rest), seconds_of(alone, parts, *rest)
            groups = [seconds_of(together, size, parts, *rest) for size in args.sizes]
            turns.append([(s / single, single / s, loop / s) for s in groups])
        turns = np.array(turns)
        for i, size in enumerate(args.sizes):
            ratios = turns[:, i] * [1, size, size]
            cells = [f"{np.median(r):.2f} ({r.min():.2f} - {r.max():.2f})" for r in ratios.T]
            print(f"| {name} | {size} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
