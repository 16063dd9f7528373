"""What an epoch of a self-tuning network costs beside a plain one's, by rules and by autograd.

Digits, batches of 64, checks on a fifth of the rows after each epoch, one thread. ``stn`` and
``delta`` are `SelfTuningClassifier` (`train_steps` 2 and 5) tuning dropout, weight decay, input
noise and label smoothing; ``plain`` is `TorchClassifier` with the same rows, by direct steps and by
autograd. All take turns in one process; with ``--before`` a process that imports another checkout
of the package takes part in each turn with its ``stn`` and ``delta``. A figure is a ratio of
processor times within a turn, so that a busy machine disturbs both alike.

    python benchmarks/self_tuning_cost.py [--turns 15] [--before PATH]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_digits

from skhpo import SelfTuningClassifier
from skhpo.estimators import MLP, ConvNet, TorchClassifier

# Module and its settings, shape of a row, epochs of a fit.
NETS = {
    "64-64-10": (MLP, {"n_units": 64, "dropout": 0.1}, (64,), 10),
    "64-128-128-10": (MLP, {"n_units": 128, "n_layers": 2, "dropout": 0.1}, (64,), 8),
    "ConvNet 8 x 8": (ConvNet, {"dropout": 0.1}, (8, 8), 5),
}
RANGES = {
    "dropout*.p": uniform(0, 0.9),
    "weight_decay": loguniform(1e-6, 1e-1),
    "input_noise": uniform(0, 2),
    "label_smoothing": uniform(0, 0.4),
}
VARIANTS = {"stn": {}, "delta": {"variant": "delta", "train_steps": 5}}


def by_autograd(fit):
    """Return a fit whose steps have no rules."""
    from skhpo.training.runners import DirectSteps

    def run(*args):
        kept, DirectSteps.can_train = DirectSteps.can_train, lambda steps: False
        try:
            return fit(*args)
        finally:
            DirectSteps.can_train = kept

    return run


def fit(kind, name):
    """Return processor seconds of an epoch."""
    module, settings, shape, n_epochs = NETS[name]
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32).reshape(-1, *shape)
    params = {f"module__{k}": v for k, v in settings.items()} | {
        "module": module,
        "batch_size": 64,
        "max_epochs": n_epochs,
        "validation_fraction": 0.2,
        "random_state": 0,
        "device": "cpu",
        "lr": 1e-3,
    }
    if kind == "plain":
        net = TorchClassifier(optimizer="adam", **params)
    else:
        net = SelfTuningClassifier(
            hyperparameters=RANGES, warmup_epochs=0, **VARIANTS[kind], **params
        )
    start = time.process_time()
    net.fit(X, y)
    return (time.process_time() - start) / n_epochs


class Elsewhere:
    """Fits in a process that imports another checkout of the package."""

    def __init__(self, checkout):
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(checkout).resolve())},
        )

    def __call__(self, kind, name):
        print(kind, name, sep="|", file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def serve():
    for line in sys.stdin:
        print(fit(*line.rstrip("\n").split("|")), flush=True)


def quartiles(ratios):
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return f"{middle:.2f} ({low:.2f} - {high:.2f})"


def compare(n_turns, before):
    other = None if before is None else Elsewhere(before)
    without_rules = by_autograd(fit)
    print("| net | epoch of | ms | / before | / plain by autograd | / plain direct |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name in NETS:
        runs = {
            "plain direct": (fit, "plain"),
            "plain by autograd": (without_rules, "plain"),
            **{kind: (fit, kind) for kind in VARIANTS},
            **{f"{kind} by autograd": (without_rules, kind) for kind in VARIANTS},
        }
        if other is not None:
            runs |= {f"{kind} before": (other, kind) for kind in VARIANTS}
        seconds = {label: [] for label in runs}
        for turn in range(n_turns + 1):
            for label, (run, kind) in runs.items():
                taken = run(kind, name)
                if turn:  # what is imported late, is
                    seconds[label].append(taken)
        times = {label: np.array(values) for label, values in seconds.items()}
        for label, own in times.items():
            kind = label.split()[0]
            shown = [
                quartiles(own / times[peer]) if peer in times and peer != label else ""
                for peer in (f"{kind} before", "plain by autograd", "plain direct")
            ]
            print(
                f"| {name} | {label} | {np.median(own) * 1e3:.1f} | {' | '.join(shown)} |",
                flush=True,
            )
    if other is not None:
        other.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--before", help="another checkout of the package")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if args.serve:
        serve()
    else:
        compare(args.turns, args.before)


if __name__ == "__main__":
    main()
