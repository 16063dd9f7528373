"""What a fit costs beside the same training written by hand.

One fit of `TorchClassifier` against a plain PyTorch loop (per batch: index, forward, backward,
step) and against skorch's own net: the same network (64-64-10), data (scikit-learn's digits),
batches of 64, epochs, optimizer (Adam) and threads (one). The contestants take turns, and the
figures are ratios of times within a turn, so that a busy machine disturbs all alike.

    python benchmarks/training_overhead.py [--repeats 15] [--epochs 20]
"""

from __future__ import annotations

import argparse
import gc
import time

import numpy as np
import skorch
import torch
from sklearn.datasets import load_digits
from torch import nn

from skhpo.estimators import MLP, TorchClassifier

BATCH_SIZE = 64
LEARNING_RATE = 1e-3


def by_hand(X, y, epochs, *, dropout=0.0, fused=None):
    """The loop that one writes."""
    torch.manual_seed(0)
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    net = MLP(64, 10, n_units=64, dropout=dropout)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=fused)
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(X))
        for start in range(0, len(X), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            optimizer.zero_grad()
            loss = criterion(net(X[batch]), y[batch])
            loss.backward()
            optimizer.step()
    return net


class Own(MLP):
    """A module that is not the package's own: it may draw anything in its forward pass."""


def with_skhpo(X, y, epochs, *, dropout=0.0, module=MLP):
    return TorchClassifier(
        module=module,
        module__n_units=64,
        module__dropout=dropout,
        optimizer="adam",
        lr=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        max_epochs=epochs,
        random_state=0,
        device="cpu",
    ).fit(X, y)


def with_skorch(X, y, epochs):
    torch.manual_seed(0)
    return skorch.NeuralNetClassifier(
        MLP,
        module__in_features=64,
        module__out_features=10,
        module__n_units=64,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    ).fit(X, y)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    contestants = {
        "loop by hand": (by_hand, {}),
        "loop by hand, fused Adam": (by_hand, {"fused": True}),
        "TorchClassifier": (with_skhpo, {}),
        "TorchClassifier, a module of one's own": (with_skhpo, {"module": Own}),
        "skorch": (with_skorch, {}),
        "loop by hand, dropout": (by_hand, {"dropout": 0.2}),
        "TorchClassifier, dropout": (with_skhpo, {"dropout": 0.2}),
    }
    against = dict.fromkeys(contestants, "loop by hand")
    against["TorchClassifier, dropout"] = "loop by hand, dropout"
    for fit, settings in contestants.values():
        fit(X, y, 1, **settings)
    seconds = {name: [] for name in contestants}
    for turn in range(args.repeats):
        names = list(contestants)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            fit, settings = contestants[name]
            gc.collect()
            start = time.perf_counter()
            fit(X, y, args.epochs, **settings)
            seconds[name].append(time.perf_counter() - start)
    print(f"digits, MLP 64-64-10, batches of {BATCH_SIZE}, {args.epochs} epochs, one thread,")
    print(f"{args.repeats} turns, torch {torch.__version__}, skorch {skorch.__version__}\n")
    print("| fit | seconds (median) | ratio to the loop (median) | quartiles | range |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, times in seconds.items():
        ratios = np.array(times) / np.array(seconds[against[name]])
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        print(
            f"| {name} | {np.median(times):.3f} | {middle:.2f} | {low:.2f} - {high:.2f} "
            f"| {ratios.min():.2f} - {ratios.max():.2f} |"
        )


if __name__ == "__main__":
    main()
