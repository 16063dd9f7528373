"""What the features of a fit cost beside the same written by hand.

Validation, schedules, augmentation, several batches per step, clipped gradients, averaged weights,
images and low precision.

Pairs of fits: a loop of one's own in plain PyTorch (fused Adam, as `TorchClassifier` takes by
itself), and `TorchClassifier` doing the same. The two take turns, and the figures are ratios of
times within a turn, so that a busy machine disturbs both alike.

    python benchmarks/feature_overhead.py [--repeats 15] [part of a name ...]

With ``--added``: processor time of a fit, of a group in lockstep and of a small search with a
feature, beside the same without it.

    python benchmarks/feature_overhead.py --added [--repeats 15] [part of a name ...]
"""

from __future__ import annotations

import argparse
import copy
import gc
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from skhpo import HalvingHyperbandSearchCV
from skhpo.estimators import MLP, ConvNet, TorchClassifier
from skhpo.lockstep import Member, train_together

BATCH_SIZE = 64
LEARNING_RATE = 1e-3
MNIST = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "mnist10k.npz"


def noise(X, strength=0.1):
    return X + strength * torch.randn_like(X)


def by_hand(
    make,
    X,
    y,
    epochs,
    *,
    validate=False,
    cosine=False,
    amp=False,
    augment=None,
    accumulate=1,
    max_norm=None,
    decay=None,
    device="cpu",
):
    """The loop that one writes."""
    torch.manual_seed(0)
    X, y = torch.from_numpy(X).to(device), torch.from_numpy(y).to(device)
    if validate:
        order = torch.randperm(len(X))
        held_out, kept = order[: len(X) // 10], order[len(X) // 10 :]
        X_valid, y_valid, X, y = X[held_out], y[held_out], X[kept], y[kept]
    net = make().to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs) if cosine else None
    casting = torch.autocast(device, torch.bfloat16) if amp else nullcontext()
    best, best_state = float("inf"), None
    averaged = None if decay is None else copy.deepcopy(net)
    for _ in range(epochs):
        net.train()
        order = torch.randperm(len(X)).to(device)
        total = 0.0
        starts = range(0, len(X), BATCH_SIZE)
        for number, start in enumerate(starts, 1):
            batch = order[start : start + BATCH_SIZE]
            inputs = X[batch] if augment is None else augment(X[batch])
            with casting:
                output = net(inputs)
            loss = criterion(output.float(), y[batch])
            (loss / accumulate).backward()
            total = total + loss.detach() * len(batch)
            if number % accumulate and number < len(starts):
                continue
            if max_norm is not None:
                nn.utils.clip_grad_norm_(net.parameters(), max_norm)
            optimizer.step()
            optimizer.zero_grad()
            if averaged is not None:
                with torch.no_grad():
                    for mean, new in zip(averaged.parameters(), net.parameters(), strict=True):
                        mean.lerp_(new, 1 - decay)
        float(total)
        if cosine:
            schedule.step()
        if validate:
            net.eval()
            with torch.no_grad():
                value = float(criterion(net(X_valid), y_valid))
            if value < best:
                best, best_state = value, copy.deepcopy(net.state_dict())
    if validate:
        net.load_state_dict(best_state)
    return net


def with_skhpo(module, X, y, epochs, device="cpu", **params):
    return TorchClassifier(
        module,
        optimizer="adam",
        lr=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        max_epochs=epochs,
        random_state=0,
        device=device,
        **params,
    ).fit(X, y)


def pairs(device):
    """Yield name, fit by hand and fit of the package."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)

    def mlp():
        return MLP(64, 10, n_units=64)

    rows = {
        "plain": ({}, {}),
        "validation + patience": (
            {"validate": True},
            {"validation_fraction": 0.1, "patience": 1000},
        ),
        "cosine schedule": ({"cosine": True}, {"lr_scheduler": "cosine"}),
        "`train_transform`, noise": ({"augment": noise}, {"train_transform": noise}),
        "`accumulate=4`": ({"accumulate": 4}, {"accumulate": 4}),
        "`max_grad_norm=1`": ({"max_norm": 1.0}, {"max_grad_norm": 1.0}),
        '`average="ema"`': ({"decay": 0.999}, {"average": "ema"}),
    }
    for name, (hand, own) in rows.items():
        yield (
            f"MLP on digits, {name}",
            lambda hand=hand: by_hand(mlp, X, y, 20, device=device, **hand),
            lambda own=own: with_skhpo(MLP, X, y, 20, device=device, **own),
        )
    if not MNIST.exists():
        images, labels = X.reshape(-1, 8, 8), y
    else:
        with np.load(MNIST) as archive:
            images, labels = (archive["X"] / 255).astype(np.float32), archive["y"].astype(np.int64)
    n_rows = 1500 if device == "cpu" else len(images)
    images, labels = images[:n_rows], labels[:n_rows]

    def convnet():
        return ConvNet(images.shape[1:], 10)

    for name, amp in (("float32", False), ("amp", True)):
        yield (
            f"ConvNet on {len(images)} images of {images.shape[1]} x {images.shape[2]}, {name}",
            lambda amp=amp: by_hand(convnet, images, labels, 2, amp=amp, device=device),
            lambda amp=amp: with_skhpo(ConvNet, images, labels, 2, device=device, amp=amp),
        )


FEATURES = {
    '`average="ema"`': {"average": "ema"},
    '`average="swa"`': {"average": "swa"},
    "`max_norm=2`": {"max_norm": 2},
    "one cycle": {"lr_scheduler": "one_cycle"},
}


def subjects():
    """Yield name and a function that trains with parameters."""
    X, y = load_digits(return_X_y=True)
    X, y = (X / 16).astype(np.float32)[:1000], y[:1000]
    common = {"batch_size": BATCH_SIZE, "device": "cpu"}

    def fit(**params):
        net = TorchClassifier(module__n_units=64, max_epochs=20, random_state=0)
        net.set_params(**common, **params).fit(X, y)

    def group(**params):
        settings = {"module__n_units": 64, "max_epochs": 10, **common, **params}
        nets = [
            TorchClassifier(lr=(1 + k % 4) / 1000, random_state=k, **settings) for k in range(24)
        ]
        train_together([Member(net, X, y) for net in nets])

    def search(**params):
        HalvingHyperbandSearchCV(
            TorchClassifier(random_state=0, **common, **params),
            {"lr": [0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1]},
            average=None,
            max_resources=9,
            cv=3,
            random_state=0,
            refit=False,
        ).fit(X[:300], y[:300])

    yield "64-64-10 alone, 20 epochs", fit
    yield "24 of them in lockstep, 10 epochs", group
    yield "the same, a fifth held out", lambda **params: group(validation_fraction=0.2, **params)
    yield "Hyperband, 300 rows, 3 folds, 9 epochs", search


def print_added(repeats, names):
    """Print ratios of the processor time with a feature to that without, within turns."""
    print(f"| | ms without | {' | '.join(FEATURES)} |")
    print(f"| --- | ---: |{' ---: |' * len(FEATURES)}")
    for name, train in subjects():
        if names and not any(part in name for part in names):
            continue
        settings = [{}, *FEATURES.values()]
        seconds = [[] for _ in settings]
        for turn in range(repeats + 1):
            order = list(range(len(settings)))
            for i in order if turn % 2 else order[::-1]:
                gc.collect()
                start = time.process_time()
                train(**settings[i])
                if turn:  # the first one warms up
                    seconds[i].append(time.process_time() - start)
        without, *others = map(np.array, seconds)
        quartiles = (np.percentile(own / without, [25, 50, 75]) for own in others)
        cells = (f"{middle:.2f} ({low:.2f} - {high:.2f})" for low, middle, high in quartiles)
        print(f"| {name} | {1000 * np.median(without):.0f} | {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--added", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.added:
        print_added(args.repeats, args.names)
        return
    wait = torch.cuda.synchronize if args.device == "cuda" else lambda: None
    print(f"{args.device}, one thread, {args.repeats} turns, torch {torch.__version__}\n")
    print("| fit | by hand, s (median) | TorchClassifier, s | ratio (median) | quartiles | range |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, *contestants in pairs(args.device):
        if args.names and not any(part in name for part in args.names):
            continue
        seconds = [[], []]
        for turn in range(args.repeats + 1):
            for i in (0, 1) if turn % 2 else (1, 0):
                gc.collect()
                wait()
                start = time.perf_counter()
                contestants[i]()
                wait()
                if turn:  # the first one warms up
                    seconds[i].append(time.perf_counter() - start)
        hand, own = map(np.array, seconds)
        ratios = own / hand
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        print(
            f"| {name} | {np.median(hand):.3f} | {np.median(own):.3f} | {middle:.2f} "
            f"| {low:.2f} - {high:.2f} | {ratios.min():.2f} - {ratios.max():.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
