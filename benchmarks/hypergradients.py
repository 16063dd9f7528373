"""Hypergradients: accuracy, learning rates, data cleaning, and what an epoch costs.

* ``closed``: relative errors of `hypergradient` for the weight decay of ridge and logistic
  regressions (100 rows, 10 columns), against closed forms.
* ``rates``: learning rates by ``variant="unrolled"``, started 30 times too small and 10 times too
  large, against the best of 20 fixed ones by its mean over 3 random states: digits, 64-64-10, 20
  epochs of 32 batches; the task of ``benchmarks/self_tuning.py`` (MLP, 60 epochs of 4 batches);
  with a folder that has them, satimage (15 epochs of 63 batches) and MNIST (2,000 images, 10
  epochs). "alone" is against the best of 20 with the same random state; a "lucky rate, again" is
  that one with another random state, against itself.
* ``cleaning``: digits of which 30% of the labels to train on are drawn anew among the others; a
  weight for each row by ``variant="implicit"`` with its defaults, against training on all rows, on
  all but the 30% with the highest loss, and on those with true labels. All are checked on the same
  300 clean rows.
* ``recipe``: the task of ``benchmarks/self_tuning.py`` (MLP, wide ranges) by all variants, as
  multiples of the losses of the untuned network. For "global" dropout stays off.
* ``cost``: processor time of an epoch as a multiple of a plain network's by autograd.

    python benchmarks/hypergradients.py closed|rates|cleaning|recipe|cost [--seeds 0-4]
        [--optimizer adam|sgd] [--folder DATA]
"""

from __future__ import annotations

import argparse
import contextlib
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_digits
from torch import nn

from skhpo import SelfTuningClassifier, TorchClassifier, TorchRegressor, hypergradient
from skhpo.exceptions import NonFiniteLossError

SOLVERS = ("cg", "neumann", "identity")
FIXED_RATES = {"adam": np.geomspace(1e-3, 0.2, 20), "sgd": np.geomspace(0.03, 3, 20)}
OPTIMIZERS = list(FIXED_RATES)
# Of the networks, for each seed of the data.
STATES = range(3)
FOLDER = [None]
FLIPPED = 0.3


class Line(nn.Module):
    """A linear model in float64."""

    def __init__(self, in_features):
        super().__init__()
        self.layer = nn.Linear(in_features, 1, bias=False, dtype=torch.float64)

    def forward(self, x):
        return self.layer(x)


def digits(seed):
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(X))
    return (X[order] / 16).astype(np.float32), y[order]


def quartiles(values, digits=3):
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.{digits}g} ({low:.{digits}g} - {high:.{digits}g})"


def closed(seeds):
    print("| loss | solver | relative error, median | largest | estimate / error, median |")
    print("| --- | --- | ---: | ---: | ---: |")
    for kind in ("ridge", "logistic"):
        found = {solver: [] for solver in SOLVERS}
        for seed in seeds:
            problem, true = closed_problem(kind, seed)
            for solver in SOLVERS:
                result = hypergradient(*problem, solver=solver)
                error = abs(result.gradient["weight_decay"] - true)
                found[solver].append((error / abs(true), result.error["weight_decay"] / error))
        for solver, rows in found.items():
            errors, ratios = np.array(rows).T
            shown = f"{np.median(errors):.1e} | {errors.max():.1e} | {np.median(ratios):.2g}"
            print(f"| {kind} | {solver} | {shown} |", flush=True)


def closed_problem(kind, seed):
    """Return the arguments of `hypergradient`, and the closed form."""
    rng = np.random.default_rng(seed)
    X, X_valid = rng.normal(size=(2, 100, 10)).astype(np.float32).astype(float)
    slope, decay = rng.normal(size=10), 0.1
    noisy = [part @ slope + 2 * rng.normal(size=100) for part in (X, X_valid)]
    y, y_valid = (part > 0 for part in noisy) if kind == "logistic" else np.float32(noisy)

    def parts(w, X, y):
        """Return the gradient and the Hessian of the loss."""
        if kind == "ridge":
            return 2 * X.T @ (X @ w - y) / len(X), 2 * X.T @ X / len(X)
        p = 1 / (1 + np.exp(-X @ w))
        return X.T @ (p - y) / len(X), (X.T * (p * (1 - p))) @ X / len(X)

    w = np.zeros(10)
    for _ in range(30):
        gradient, hessian = parts(w, X, y)
        hessian = hessian + decay * np.eye(10)
        w = w - np.linalg.solve(hessian, gradient + decay * w)
    true = -parts(w, X_valid, y_valid)[0] @ np.linalg.solve(hessian, w)
    make = TorchRegressor if kind == "ridge" else TorchClassifier
    criterion = {} if kind == "ridge" else {"criterion": "bce_with_logits"}
    net = make(Line, optimizer="sgd", optimizer__weight_decay=decay, max_epochs=1, **criterion)
    net.fit(X, y)
    with torch.no_grad():
        net.module_.layer.weight.copy_(torch.tensor(w)[None])
    return (net, X, y, (X_valid, y_valid)), true


def rates(seeds):
    print("| task | optimizer | start | mean / best fixed | of each seed | alone | time / fit |")
    print("| --- | --- | --- | ---: | --- | ---: | ---: |")
    for task, (ranges, find_data, settings) in rate_tasks().items():
        for optimizer in OPTIMIZERS:
            common = {**settings, "optimizer": optimizer}
            rows = {"30 x too small": [], "10 x too large": []}
            again = []
            for seed in seeds:
                parts = find_data(seed)
                losses, seconds = fixed_rates(ranges[optimizer], common, parts)
                best = int(losses.mean(axis=1).argmin())
                again += lucky_again(losses)
                for start, factor in zip(rows, (1 / 30, 10), strict=True):
                    found, taken = [], []
                    for state in STATES:
                        net = SelfTuningClassifier(
                            hyperparameters={"lr": loguniform(1e-5, 100)},
                            variant="unrolled",
                            warmup_epochs=0,
                            lr=ranges[optimizer][best] * factor,
                            random_state=state,
                            **common,
                        )
                        taken.append(fit_seconds(net, *parts) / np.median(seconds))
                        found.append(min(net.history[:, "valid_loss"]))
                    mean = np.mean(found) / losses[best].mean()
                    alone = np.median(np.array(found) / losses.min(axis=0))
                    rows[start].append([mean, alone, np.median(taken)])
            for start, values in rows.items():
                means, alone, taken = np.array(values).T
                each = ", ".join(f"{mean:.2f}" for mean in means)
                shown = f"{np.median(means):.3f} | {each} | {np.median(alone):.2f}"
                print(f"| {task} | {optimizer} | {start} | {shown} | {quartiles(taken, 2)} |")
            again = quartiles(again, 3)
            print(f"| {task} | {optimizer} | lucky rate, again | | | {again} | |", flush=True)


def fixed_rates(rates, common, parts):
    """Return the best losses by rate and random state, and the seconds of each fit."""
    losses, seconds = np.full((len(rates), len(STATES)), np.inf), []
    for i, rate in enumerate(rates):
        for j, state in enumerate(STATES):
            net = TorchClassifier(lr=rate, random_state=state, **common)
            with contextlib.suppress(NonFiniteLossError):
                seconds.append(fit_seconds(net, *parts))
                losses[i, j] = min(net.history[:, "valid_loss"])
    return losses, seconds


def lucky_again(losses):
    """Return what the best rate of a random state has under the others, as multiples."""
    n_states = losses.shape[1]
    best = losses.argmin(axis=0)
    pairs = [(j, k) for j in range(n_states) for k in range(n_states) if j != k]
    return [losses[best[j], k] / losses[best[j], j] for j, k in pairs]


def rate_tasks():
    """Return ranges of fixed rates, data and settings of each task."""
    # Run as a script, this folder is on the path.
    from self_tuning import BATCH_SIZE, EPOCHS, Mlp, data

    def clean(seed):
        X, y = digits(seed)
        return (X[:1000], y[:1000]), (X[1000:1400], y[1000:1400])

    def satellite(seed):
        import pandas as pd

        frame = pd.read_csv(Path(FOLDER[0]) / "satimage.csv.gz")
        X, y = frame.iloc[:, :-1].to_numpy(float), frame.iloc[:, -1].to_numpy()
        X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
        order = np.random.default_rng(seed).permutation(len(X))
        ends = [2000, 3500]
        return list(zip(np.split(X[order], ends), np.split(y[order], ends), strict=True))[:2]

    def images(seed):
        file = np.load(Path(FOLDER[0]) / "mnist10k.npz")
        X, y = (file[key] for key in file.files[:2])
        X = (X.reshape(len(X), -1) / 255).astype(np.float32)
        order = np.random.default_rng(seed).permutation(len(X))
        ends = [2000, 3000]
        return list(zip(np.split(X[order], ends), np.split(y[order], ends), strict=True))[:2]

    wide = {"adam": np.geomspace(1e-4, 0.1, 20), "sgd": np.geomspace(0.01, 3, 20)}
    noisy = {"module": Mlp, "batch_size": BATCH_SIZE, "max_epochs": EPOCHS}
    tasks = {
        "clean digits": (FIXED_RATES, clean, {"max_epochs": 20}),
        "self-tuning recipe": (wide, lambda seed: data("mlp", seed)[:2], noisy),
    }
    if FOLDER[0] is not None:
        tasks["satimage"] = wide, satellite, {"max_epochs": 15}
        tasks["MNIST"] = wide, images, {"max_epochs": 10}
    return tasks


def fit_seconds(net, data, valid):
    start = time.process_time()
    net.fit(*data, validation_data=valid)
    return time.process_time() - start


def cleaning(seeds):
    print("| seed | flipped in the lower half | implicit | all | without high loss | true labels |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    table = []
    for seed in seeds:
        row = clean(seed)
        table.append(row)
        print(f"| {seed} | {' | '.join(f'{100 * value:.1f}' for value in row)} |", flush=True)
    means = " | ".join(f"{100 * value:.1f}" for value in np.mean(table, axis=0))
    print(f"| mean | {means} |")


def clean(seed):
    """Return the share of flipped rows in the lower half, and accuracies on the test rows."""
    X, y = digits(seed)
    rng = np.random.default_rng(seed)
    train, valid, test = (slice(1000), slice(1000, 1300), slice(1300, None))
    flipped = rng.random(1000) < FLIPPED
    noisy = y[train].copy()
    noisy[flipped] = (noisy[flipped] + rng.integers(1, 10, flipped.sum())) % 10
    common = {"batch_size": 100, "max_epochs": 60, "random_state": seed, "lr": 3e-3}
    checks = {"validation_data": (X[valid], y[valid])}
    weighted = SelfTuningClassifier(
        hyperparameters={"sample_weight": uniform(0, 1)}, variant="implicit", **common
    ).fit(X[train], noisy, **checks)
    weights = weighted.schedule_["sample_weight"][-1]

    def plain(rows):
        net = SelfTuningClassifier(
            hyperparameters={"weight_decay": 0.0}, variant="implicit", **common
        )
        return net.fit(X[train][rows], noisy[rows], **checks)

    everything = plain(np.arange(1000))
    losses = -np.log(everything.predict_proba(X[train])[np.arange(1000), noisy] + 1e-9)
    kept = np.argsort(losses)[: round(1000 * (1 - FLIPPED))]
    nets = weighted, everything, plain(kept), plain(np.flatnonzero(~flipped))
    accuracies = [net.score(X[test], y[test]) for net in nets]
    return [(weights[flipped] < np.median(weights)).mean(), *accuracies]


def recipe(seeds):
    # Run as a script, this folder is on the path.
    from self_tuning import BATCH_SIZE, EPOCHS, LEARNING_RATE, Mlp, data, log_loss, plain, space

    kinds = {
        "stn": {},
        "delta": {"variant": "delta", "train_steps": 5},
        "implicit": {"variant": "implicit", "train_steps": 2},
        "unrolled": {"variant": "unrolled"},
        "global": {"variant": "global"},
    }
    rows = {label: [] for label in kinds}
    for seed in seeds:
        untuned = plain("mlp", "wide", seed)
        train, valid, test = data("mlp", seed)
        for label, settings in kinds.items():
            ranges, start = space("mlp", "wide")
            if label == "global":
                ranges = {k: v for k, v in ranges.items() if not k.endswith(".p")}
                start = {name: start[name] for name in ranges}
            common = {"lr": LEARNING_RATE, "batch_size": BATCH_SIZE, "max_epochs": EPOCHS}
            net = SelfTuningClassifier(
                *(Mlp, ranges), initial=start, random_state=seed, **common, **settings
            )
            begin = time.process_time()
            net.fit(*train, validation_data=valid)
            seconds = time.process_time() - begin
            module = net.collapse()
            losses = [log_loss(module, valid), log_loss(module, test)]
            rows[label].append(
                [
                    losses[0] / untuned["valid"],
                    losses[1] / untuned["test"],
                    seconds / untuned["seconds"],
                ]
            )
    print("| variant | validation loss / untuned | test loss / untuned | time / untuned |")
    print("| --- | ---: | ---: | ---: |")
    for label, values in rows.items():
        print(f"| {label} | {' | '.join(quartiles(c) for c in np.array(values).T)} |")


def cost(seeds):
    decay = {"weight_decay": loguniform(1e-6, 1)}
    each = {"weight_decay[:]": loguniform(1e-6, 1)}
    variants = {
        "implicit, every 10 steps": (decay, {"variant": "implicit"}),
        "the same, 5 terms": (decay, {"variant": "implicit", "n_terms": 5}),
        "the same, one term (identity)": (decay, {"variant": "implicit", "solver": "identity"}),
        "the same, a number for each weight": (each, {"variant": "implicit", "n_terms": 5}),
        "unrolled, 10 steps": (decay, {"variant": "unrolled"}),
        "global": (decay, {"variant": "global"}),
        "stn": (decay, {}),
    }
    print("| net | variant | epoch / plain by autograd | / plain direct |")
    print("| --- | --- | ---: | ---: |")
    X, y = digits(0)
    for n_units in (64, 512):
        common = {"module__n_units": n_units, "max_epochs": 5, "validation_fraction": 0.2}
        common |= {"random_state": 0, "optimizer": "adam"}
        seconds = {label: [] for label in ("plain", "direct", *variants)}
        for turn in range(len(seeds) + 1):
            fits = {"direct": TorchClassifier(**common)}
            for label, (ranges, settings) in variants.items():
                fits[label] = SelfTuningClassifier(
                    hyperparameters=ranges, warmup_epochs=0, **settings, **common
                )
            for label, net in fits.items():
                start = time.process_time()
                net.fit(X, y)
                if turn:
                    seconds[label].append(time.process_time() - start)
            if turn:
                seconds["plain"].append(seconds_by_autograd(common, X, y))
        times = {label: np.array(values) for label, values in seconds.items()}
        for label in ("direct", *variants):
            shown = [quartiles(times[label] / times[peer]) for peer in ("plain", "direct")]
            print(f"| 64-{n_units}-10 | {label} | {' | '.join(shown)} |", flush=True)


def seconds_by_autograd(common, X, y):
    """Return the time of a plain fit whose steps have no rules."""
    from skhpo.training.runners import DirectSteps

    kept, DirectSteps.can_train = DirectSteps.can_train, lambda steps: False
    start = time.process_time()
    try:
        TorchClassifier(**common).fit(X, y)
    finally:
        DirectSteps.can_train = kept
    return time.process_time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["closed", "rates", "cleaning", "recipe", "cost"])
    parser.add_argument("--seeds", default="0-4", help="such as 0-9")
    parser.add_argument(
        "--optimizer", choices=["adam", "sgd"], help="of the rates; both if not set"
    )
    parser.add_argument("--folder", help="of satimage.csv.gz and mnist10k.npz, for the rates")
    args = parser.parse_args()
    FOLDER[0] = args.folder
    first, last = map(int, args.seeds.split("-"))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if args.optimizer is not None:
        OPTIMIZERS[:] = [args.optimizer]
    globals()[args.what](range(first, last + 1))


if __name__ == "__main__":
    main()
