"""A self-tuning LSTM on characters against random search and Bayesian optimisation, and retrains.

Characters of ``../shared/data/tinyshakespeare.txt`` (a generated text where the file is missing):
sequences of 32 from the first 30,000 to train on, from the next 6,000 to tune on, from 20,000 after
them to test on. Embedding 32, two LSTM layers of 64, Adam with 1e-2, batches of 64. Seven
hyperparameters, which start near "off": dropout of the output, the input, between the layers and
of whole characters, DropConnect of the recurrent weights, AR and TAR.

* ``stn``: `SelfTuningRegressor`, whose criterion is the cross-entropy over all characters;
* ``random``, ``bayes``: the same network under fixed values, one per trial, the "off"
  configuration first; 20 epochs, patience 4. `BayesSampler` is the sampler of `BayesSearchCV`.
* retrains of plain networks for as many epochs as ``stn`` had: under its schedule, its last
  values, their averages, the first ones, and the last with Gaussian noise (sd 0.05 of the range,
  anew in each epoch) and with a sinusoid (amplitude 0.1 of the range, period 6 epochs).

Each method has ``--seconds`` processor seconds, the searches ``--factor`` times that. Results
are appended to a file of JSON lines.

    python benchmarks/self_tuning_lstm.py run --seeds 0-2 --seconds 50 --file lstm.jsonl
    python benchmarks/self_tuning_lstm.py table --file lstm.jsonl
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.stats import uniform
from torch import nn
from torch.nn import functional as F

from skhpo import SelfTuningRegressor
from skhpo.samplers import BayesSampler, RandomSampler
from skhpo.self_tuning import HyperLockedDropout
from skhpo.space import SearchSpace

TEXT = Path(__file__).parents[2] / "shared" / "data" / "tinyshakespeare.txt"
N_TRAIN, N_VALID, N_TEST, LENGTH = 30_000, 6_000, 20_000, 32
TRIAL_EPOCHS, PATIENCE = 20, 4
DROPOUTS = ("out.p", "into.p", "lstm.dropout", "embedding.dropout", "lstm.weight_dropout")
HIGH = {**dict.fromkeys(DROPOUTS, 0.8), "ar": 4.0, "tar": 4.0}
RANGES = {name: uniform(0, high) for name, high in HIGH.items()}
START = {name: 0.05 * high for name, high in HIGH.items()}


class Reader(nn.Module):
    """Predicts the next character at each place of a sequence."""

    def __init__(self, n_characters=65):
        super().__init__()
        self.embedding = nn.Embedding(n_characters, 32)
        self.into, self.out = HyperLockedDropout(0.0), HyperLockedDropout(0.0)
        self.lstm = nn.LSTM(32, 64, num_layers=2, batch_first=True)
        self.head = nn.Linear(64, n_characters)

    def forward(self, x):
        hidden, _ = self.lstm(self.into(self.embedding(x)))
        return self.head(self.out(hidden))


class CharacterLoss(nn.Module):
    """Mean cross-entropy of all characters."""

    def forward(self, scores, y):
        return F.cross_entropy(scores.flatten(0, 1), y.flatten().long())


def read_text():
    if TEXT.exists():
        return TEXT.read_text()[: N_TRAIN + N_VALID + N_TEST + 1]
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("aeioulnrst"), rng.integers(1, 8))) for _ in range(400)]
    shares = 1 / np.arange(1, 401)
    return " ".join(rng.choice(words, 40_000, p=shares / shares.sum()))


def data():
    """Return (X, y) of the training, validation and test part, and the number of characters."""
    text = read_text()
    known = sorted(set(text))
    numbers = np.array([known.index(c) for c in text], dtype=np.int64)
    parts, start = [], 0
    for n in (N_TRAIN, N_VALID, N_TEST):
        part = numbers[start : start + n + 1]
        n_rows = (len(part) - 1) // LENGTH
        X = part[: n_rows * LENGTH].reshape(n_rows, LENGTH)
        y = part[1 : n_rows * LENGTH + 1].reshape(n_rows, LENGTH)
        parts.append((X, y.astype(np.float32)))
        start += n
    return parts, len(known)


def estimator(hyperparameters, seed, n_characters, **kwargs):
    return SelfTuningRegressor(
        Reader,
        hyperparameters,
        module__n_characters=n_characters,
        criterion=CharacterLoss,
        lr=1e-2,
        batch_size=64,
        random_state=seed,
        **{"max_epochs": 1, **kwargs},
    )


def test_loss(net, part):
    module = net.collapse()
    with torch.no_grad():
        X, y = map(torch.from_numpy, part)
        return CharacterLoss()(module(X), y).item()


def train(net, parts, go_on):
    """Train epoch by epoch; return the validation losses and the processor seconds since."""
    losses, seconds, begin = [], [], time.process_time()
    while not losses or go_on(losses, seconds[-1]):
        net.partial_fit(*parts[0], validation_data=parts[1])
        losses.append(net.history[-1]["valid_loss"])
        seconds.append(time.process_time() - begin)
    return losses, seconds


def self_tuned(parts, n_characters, seed, args):
    net = estimator(RANGES, seed, n_characters, initial=START, warmup_epochs=2)
    losses, seconds = train(net, parts, lambda losses, spent: spent < args.seconds)
    rows = [dict(row) for row in net.history[:, "hyperparameters"]]
    return {
        "valid": min(losses),
        "test": test_loss(net, parts[2]),
        "seconds": seconds[-1],
        "epoch": net.best_epoch_,
        "rows": rows,
    }


def search(method, parts, n_characters, seed, args):
    space = SearchSpace(RANGES)
    sampler = {"random": RandomSampler, "bayes": BayesSampler}[method](space, random_state=seed)
    trace, spent, n_trials, best = [], 0.0, 0, math.inf
    limit = args.factor * args.seconds

    def go_on(losses, seconds):
        waited = len(losses) - 1 - int(np.argmin(losses))
        return len(losses) < TRIAL_EPOCHS and waited < PATIENCE and spent + seconds < limit

    while spent < limit:
        begin = time.process_time()
        values = START if n_trials == 0 else sampler.sample(1)[0]
        asked = time.process_time() - begin
        net = estimator(values, seed, n_characters)
        losses, seconds = train(net, parts, go_on)
        for loss, at in zip(losses, seconds, strict=True):
            if loss < best:
                best = loss
                trace.append([spent + asked + at, loss, None, n_trials])
        if trace[-1][3] == n_trials:
            trace[-1][2] = test_loss(net, parts[2])
        sampler.observe(values, -min(losses), None)
        spent += asked + seconds[-1]
        n_trials += 1
    return {"trace": trace, "n_trials": n_trials, "seconds": spent}


def retrained(parts, n_characters, seed, rows):
    """Train plain networks under values that follow from a schedule."""
    rng = np.random.default_rng(seed)
    last, n = rows[-1], len(rows)

    def moved(shift):
        return {k: min(max(v + shift(k), 0), 0.99 * HIGH[k]) for k, v in last.items()}

    average = {name: statistics.mean(row[name] for row in rows) for name in last}
    schedules = {
        "schedule": rows,
        "final value": [last] * n,
        "average value": [average] * n,
        "the start": [START] * n,
        "fixed plus Gaussian noise": [moved(lambda k: rng.normal(0, 0.05 * HIGH[k])) for _ in rows],
        "fixed plus sinusoid": [
            moved(lambda k, i=i: 0.1 * HIGH[k] * math.sin(2 * math.pi * i / 6)) for i in range(n)
        ],
    }
    results = {}
    for name, schedule in schedules.items():
        values = {name: [row[name] for row in schedule] for name in last}
        net = estimator(values, seed, n_characters, max_epochs=n)
        begin = time.process_time()
        net.fit(*parts[0], validation_data=parts[1])
        results[name] = {
            "valid": min(net.history[:, "valid_loss"]),
            "test": test_loss(net, parts[2]),
            "seconds": time.process_time() - begin,
            "epoch": net.best_epoch_,
        }
    return results


def run(args):
    parts, n_characters = data()
    path = Path(args.file)
    done = read(path)
    first, _, last = args.seeds.partition("-")
    for seed in range(int(first), int(last or first) + 1):
        of = {row["method"]: row for row in done if row["seed"] == seed}
        for method in args.methods.split(","):
            if method in of:
                continue
            if method == "stn":
                result = self_tuned(parts, n_characters, seed, args)
            elif method == "retrains":
                result = {"of": retrained(parts, n_characters, seed, of["stn"]["rows"])}
            else:
                result = search(method, parts, n_characters, seed, args)
            of[method] = {"seed": seed, "method": method, "unit": args.seconds, **result}
            with path.open("a") as file:
                file.write(json.dumps(of[method]) + "\n")
            print({k: v for k, v in of[method].items() if k not in ("trace", "rows")}, flush=True)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def best_at(row, seconds):
    """Return validation and test loss of the best found by a time."""
    upto = [entry for entry in row["trace"] if entry[0] <= seconds]
    # Only the last improvement of a trial has a test loss.
    loss, number = upto[-1][1], upto[-1][3]
    tests = [entry[2] for entry in row["trace"] if entry[3] == number and entry[2] is not None]
    return loss, tests[-1]


def table(args):
    rows = {(row["method"], row["seed"]): row for row in read(Path(args.file))}
    seeds = sorted({seed for _, seed in rows})
    if not seeds:
        sys.exit(f"{args.file} has no results; make them by: run --file {args.file}")
    losses = {"self-tuning": [(rows["stn", s]["valid"], rows["stn", s]["test"]) for s in seeds]}
    searches = [name for name in ("random", "bayes") if (name, seeds[0]) in rows]
    for method in searches:
        for factor in sorted({1, args.factor}):
            losses[f"{method}, {factor} x the time"] = [
                best_at(rows[method, s], factor * rows[method, s]["unit"]) for s in seeds
            ]
    for name in rows["retrains", seeds[0]]["of"]:
        of = [rows["retrains", s]["of"][name] for s in seeds]
        losses[f"retrained: {name}"] = [(row["valid"], row["test"]) for row in of]
    print("| method | validation loss | test loss | validation loss per seed |")
    print("| --- | ---: | ---: | --- |")
    for name, pairs in losses.items():
        valid, test = zip(*pairs, strict=True)
        shown = ", ".join(f"{loss:.3f}" for loss in valid)
        middle = statistics.median(valid), statistics.median(test)
        print(f"| {name} | {middle[0]:.3f} | {middle[1]:.3f} | {shown} |")
    for method in ("stn", *searches):
        counts = [
            rows[method, s].get("n_trials", len(rows[method, s].get("rows", ()))) for s in seeds
        ]
        print(method, "epochs" if method == "stn" else "trials", counts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--seconds", type=float, default=50.0)
    parser.add_argument("--factor", type=int, default=1)
    parser.add_argument("--methods", default="stn,random,bayes,retrains")
    parser.add_argument("--file", default="self_tuning_lstm.jsonl")
    args = parser.parse_args()
    torch.set_num_threads(1)
    # That an LSTM runs step by step is known.
    warnings.filterwarnings("ignore", "an LSTM that responds", UserWarning)
    {"run": run, "table": table}[args.command](args)


if __name__ == "__main__":
    main()
