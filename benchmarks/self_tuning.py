"""Self-tuning networks against TPE, frozen hyperparameters, and an untuned plain network.

Digits, made hard: 200 images to train on, 200 to tune on, the rest to test on; in all of them 20%
of the labels are drawn again and the pixels have noise of half their standard deviation. Each
method starts from the same "off" configuration; losses are validation and test cross-entropy in
the epoch with the best validation loss. Times are processor seconds of one thread.

* ``stn``, ``delta``, ``implicit``, ``unrolled``, ``global``: `SelfTuningClassifier`, 60 epochs;
  ``long``: ``stn`` with 120. For ``global`` dropout stays off;
* ``schedule``, ``final``: plain networks, retrained with the values of each epoch of ``stn``,
  and with its last ones;
* ``average``, ``best``: with the averages over the epochs, and with those of the best epoch;
* ``frozen``: the same network with its perturbations, but its hyperparameters stay;
* ``plain``: the network without a response, written by hand, up to 150 epochs, patience 25;
* ``tpe``: such plain networks, one per trial of optuna's TPE, the "off" configuration first, until
  16 times the time of ``stn`` has passed (``--times``).

The net "patches" has 40 hyperparameters: each of 16 patches of 2 x 2 pixels has a layer of its own,
with a dropout rate and a weight decay.

Results are appended to a file of JSON lines, and what is there already is not done again:

    python benchmarks/self_tuning.py run --net mlp --box wide --seeds 0-9 --file out.jsonl
    python benchmarks/self_tuning.py table --file out.jsonl
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import loguniform, randint, uniform
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from skhpo import SelfTuningClassifier
from skhpo.self_tuning._ranges import average_values

N_TRAIN = N_VALID = 200
BATCH_SIZE, LEARNING_RATE = 50, 3e-3
PLAIN_EPOCHS, PATIENCE, EPOCHS = 150, 25, 60
PATCHES = tuple(f"patch{i}" for i in range(16))
LAYERS = {
    "mlp": ("fc1", "fc2", "fc3"),
    "cnn": ("conv1", "conv2", "fc1", "fc2"),
    "patches": (*PATCHES, "fc1", "fc2", "fc3"),
}
DROPOUTS = {
    "mlp": ("drop1", "drop2", "drop3"),
    "cnn": ("drop1", "drop2", "drop3"),
    "patches": (*(f"{name}_drop" for name in PATCHES), "drop1", "drop2", "drop3"),
}
# Upper ends: dropout, input noise, label smoothing, weight decay.
BOXES = {"wide": (0.95, 2.0, 0.8, 1.0), "narrow": (0.8, 1.0, 0.4, 3e-2)}
# Chosen on seeds that are not reported.
SETTINGS = {
    "stn": {},
    "frozen": {"warmup_epochs": EPOCHS},
    "delta": {"variant": "delta", "train_steps": 5},
    "implicit": {"variant": "implicit", "train_steps": 2},
    "unrolled": {"variant": "unrolled"},
    "global": {"variant": "global"},
    "schedule": {"refit": "schedule"},
    "final": {"refit": "final"},
    "average": {},
    "best": {},
}


RETRAINED = ("schedule", "final", "average", "best")
OWN = ("stn", "long", "delta", "implicit", "unrolled", "global", *RETRAINED)


class Mlp(nn.Module):
    """64-128-128-10 with dropout before each layer."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(64, 128), nn.Linear(128, 128), nn.Linear(128, 10)
        self.drop1, self.drop2, self.drop3 = nn.Dropout(0.0), nn.Dropout(0.0), nn.Dropout(0.0)

    def forward(self, x):
        x = self.drop1(x)
        x = self.drop2(torch.relu(self.fc1(x)))
        x = self.drop3(torch.relu(self.fc2(x)))
        return self.fc3(x)


class Cnn(nn.Module):
    """Two convolutions and two dense layers for images of 8 x 8, dropout before all but one."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(32 * 2 * 2, 64), nn.Linear(64, 10)
        self.drop1, self.drop2, self.drop3 = nn.Dropout2d(0.0), nn.Dropout(0.0), nn.Dropout(0.0)

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = F.max_pool2d(torch.relu(self.conv2(self.drop1(x))), 2)
        x = torch.relu(self.fc1(self.drop2(x.flatten(1))))
        return self.fc2(self.drop3(x))


class Patches(nn.Module):
    """A layer for each patch of 2 x 2 pixels, then three dense layers, dropout before all."""

    def __init__(self):
        super().__init__()
        for name in PATCHES:
            setattr(self, name, nn.Linear(4, 8))
            setattr(self, f"{name}_drop", nn.Dropout(0.0))
        self.fc1, self.fc2, self.fc3 = nn.Linear(128, 128), nn.Linear(128, 64), nn.Linear(64, 10)
        self.drop1, self.drop2, self.drop3 = nn.Dropout(0.0), nn.Dropout(0.0), nn.Dropout(0.0)

    def forward(self, x):
        parts = F.unfold(x.view(-1, 1, 8, 8), 2, stride=2).unbind(-1)
        found = [
            getattr(self, name)(getattr(self, f"{name}_drop")(part))
            for name, part in zip(PATCHES, parts, strict=True)
        ]
        x = torch.relu(torch.cat(found, 1))
        x = torch.relu(self.fc1(self.drop1(x)))
        x = torch.relu(self.fc2(self.drop2(x)))
        return self.fc3(self.drop3(x))


NETS = {"mlp": Mlp, "cnn": Cnn, "patches": Patches}


def space(net, box):
    """Return the ranges, and the "off" configuration that every method starts from."""
    drop, noise, smoothing, decay = BOXES[box]
    ranges = {f"{layer}.p": uniform(0, drop) for layer in DROPOUTS[net]}
    ranges["input_noise"] = uniform(0, noise)
    ranges["label_smoothing"] = uniform(0, smoothing)
    ranges |= {f"{layer}.weight_decay": loguniform(1e-6, decay) for layer in LAYERS[net]}
    start = {name: 0.05 * d.support()[1] for name, d in ranges.items()}
    start |= {f"{layer}.weight_decay": 3e-6 for layer in LAYERS[net]}
    if net == "cnn":
        ranges |= {"brightness": uniform(0, 0.8), "cutout_length": randint(0, 7)}
        ranges["cutout_holes"] = randint(0, 4)
        start |= {"brightness": 0.04, "cutout_length": 0, "cutout_holes": 1}
    return ranges, start


def data(net, seed):
    """Return (X, y) of the training, validation and test part."""
    rng = np.random.default_rng(1000 + seed)
    X, y = load_digits(return_X_y=True)
    order = rng.permutation(len(X))
    X = (X - X.mean()) / X.std()
    X = (X[order] + rng.normal(0, 0.5, X.shape)).astype(np.float32)
    y = np.where(rng.random(len(y)) < 0.2, rng.integers(0, 10, len(y)), y[order])
    if net == "cnn":
        X = X.reshape(-1, 1, 8, 8)
    ends = N_TRAIN, N_TRAIN + N_VALID
    return list(zip(np.split(X, ends), np.split(y, ends), strict=True))


def log_loss(module, part):
    with torch.no_grad():
        return F.cross_entropy(module(torch.from_numpy(part[0])), torch.from_numpy(part[1])).item()


def self_tuned(net, box, seed, method, n_epochs=EPOCHS):
    """Fit a `SelfTuningClassifier`."""
    train, valid, test = data(net, seed)
    ranges, start = space(net, box)
    settings = SETTINGS["stn" if method == "long" else method]
    if method == "global":
        ranges = {name: d for name, d in ranges.items() if not name.endswith(".p")}
        start = {name: start[name] for name in ranges}
    n_epochs = 2 * n_epochs if method == "long" else n_epochs
    estimator = SelfTuningClassifier(
        NETS[net],
        ranges,
        initial=start,
        lr=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        max_epochs=n_epochs,
        random_state=seed,
        **settings,
    )
    begin = time.process_time()
    estimator.fit(*train, validation_data=valid)
    if method in ("average", "best"):
        found = estimator.best_hyperparameters_
        if method == "average":
            schedule = estimator.schedule_
            rows = [{name: schedule[name][i] for name in ranges} for i in range(n_epochs)]
            found = average_values(ranges, rows)
        estimator = clone(estimator).set_params(hyperparameters=found, initial=None)
        estimator.fit(*train, validation_data=valid)
    seconds = time.process_time() - begin
    module = estimator.collapse()
    return {
        "valid": log_loss(module, valid),
        "test": log_loss(module, test),
        "seconds": seconds,
        "epoch": estimator.best_epoch_,
        "found": estimator.best_hyperparameters_,
    }


class PlainFit:
    """The loop that one writes: a plain network under fixed hyperparameters."""

    def __init__(self, net, parts, values, seed):
        torch.manual_seed(seed)
        self.module, self.values = NETS[net](), values
        self.train, self.valid, self.test = parts
        for name in DROPOUTS[net]:
            getattr(self.module, name).p = values[f"{name}.p"]
        groups = [
            {
                "params": [getattr(self.module, layer).weight],
                "weight_decay": values[f"{layer}.weight_decay"],
            }
            for layer in LAYERS[net]
        ]
        groups.append({"params": [getattr(self.module, layer).bias for layer in LAYERS[net]]})
        self.optimizer = torch.optim.Adam(groups, lr=LEARNING_RATE, fused=True)
        self.parameters = list(self.module.parameters())
        self.criterion = nn.CrossEntropyLoss(label_smoothing=values["label_smoothing"])
        self.best, self.best_test, self.best_epoch, self.epoch = float("inf"), None, 0, 0

    def run_epoch(self):
        X, y = map(torch.from_numpy, self.train)
        self.module.train()
        for batch in torch.randperm(len(X)).split(BATCH_SIZE):
            x = self.change(X[batch])
            loss = self.criterion(self.module(x), y[batch])
            for parameter in self.parameters:
                parameter.grad = None
            loss.backward()
            self.optimizer.step()
        self.epoch += 1

    def change(self, x):
        values = self.values
        x = torch.add(x, torch.randn_like(x), alpha=values["input_noise"])
        if "brightness" in values:
            x = x + values["brightness"] * torch.empty(len(x), 1, 1, 1).uniform_(-1, 1)
        length = values.get("cutout_length", 0)
        if length:
            size = x.shape[-1]
            places = torch.arange(size)
            keep = torch.ones(len(x), size, size, dtype=torch.bool)
            for _ in range(values["cutout_holes"]):
                corner = torch.randint(0, size, (2, len(x), 1)) - length // 2
                row, column = (places >= corner) & (places < corner + length)
                keep &= ~(row[:, :, None] & column[:, None, :])
            x = x * keep[:, None]
        return x

    def check(self):
        """Look at the validation loss; return whether to go on."""
        self.module.eval()
        loss = log_loss(self.module, self.valid)
        if loss < self.best:
            self.best, self.best_epoch = loss, self.epoch
            self.weights = {k: v.clone() for k, v in self.module.state_dict().items()}
        return self.epoch < PLAIN_EPOCHS and self.epoch - self.best_epoch < PATIENCE

    def test_loss(self):
        self.module.load_state_dict(self.weights)
        self.module.eval()
        return log_loss(self.module, self.test)


def plain(net, box, seed):
    """Fit the untuned plain network."""
    fit = PlainFit(net, data(net, seed), space(net, box)[1], seed)
    begin = time.process_time()
    fit.run_epoch()
    while fit.check():
        fit.run_epoch()
    seconds = time.process_time() - begin
    return {"valid": fit.best, "test": fit.test_loss(), "seconds": seconds, "epoch": fit.best_epoch}


def tpe(net, box, seed, target, times):
    """Search with optuna's TPE for so many times the time of `stn`; note each improvement."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ranges, start = space(net, box)
    parts = data(net, seed)
    sampler = optuna.samplers.TPESampler(seed=seed)
    search = optuna.create_study(direction="minimize", sampler=sampler)
    search.enqueue_trial(start)
    trace, n_trials, best = [], 0, float("inf")
    begin = time.process_time()
    limit = times * target["seconds"]
    spent = 0.0
    while spent < limit:
        trial = search.ask()
        values = {}
        for name, distribution in ranges.items():
            low, high = distribution.support()
            if distribution.dist.name == "randint":
                values[name] = trial.suggest_int(name, int(low), int(high))
            else:
                is_log = distribution.dist.name == "loguniform"
                values[name] = trial.suggest_float(name, low, high, log=is_log)
        fit = PlainFit(net, parts, values, seed)
        go_on = True
        while go_on and spent < limit:
            fit.run_epoch()
            go_on = fit.check()
            spent = time.process_time() - begin
            if fit.best < best:
                best = fit.best
                trace.append([spent, best, fit, n_trials])
        search.tell(trial, fit.best)
        n_trials += 1
        # Only the best weights of a trial are kept.
        last = {id(entry[2]): i for i, entry in enumerate(trace)}
        for i, entry in enumerate(trace):
            if isinstance(entry[2], PlainFit):
                entry[2] = entry[2].test_loss() if i == last[id(entry[2])] else None
    shown = {"trace": trace, "n_trials": n_trials, "seconds": spent}
    return {**shown, "unit": target["seconds"], "target": target["valid"]}


def run(args):
    path = Path(args.file)
    rows = read(path)
    first, _, last = args.seeds.partition("-")
    self_tuned(args.net, args.box, 0, "stn", n_epochs=1)  # what is imported late, is
    PlainFit(args.net, data(args.net, 0), space(args.net, args.box)[1], 0).run_epoch()
    for seed in range(int(first), int(last or first) + 1):
        for method in args.methods.split(","):
            key = {"net": args.net, "box": args.box, "seed": seed, "method": method}
            if any(key.items() <= row.items() for row in rows):
                continue
            if method == "tpe":
                # Timed in the same minutes, lest the load of the machine count.
                target = self_tuned(args.net, args.box, seed, "stn")
                result = tpe(args.net, args.box, seed, target, args.times)
            elif method == "plain":
                result = plain(args.net, args.box, seed)
            else:
                result = self_tuned(args.net, args.box, seed, method)
            rows.append({**key, **result})
            with path.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            shown = {k: v for k, v in result.items() if k not in ("found", "trace")}
            print(json.dumps({**key, **shown}), flush=True)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def best_at(row, seconds):
    """Return the losses of the best that TPE had found by a time."""
    upto = [entry for entry in row["trace"] if entry[0] <= seconds]
    if not upto:
        return {"valid": float("inf"), "test": float("inf")}
    _, loss, _, number = upto[-1]
    # Only the last improvement of a trial has a test loss.
    tests = [test for _, _, test, trial in row["trace"] if trial == number and test is not None]
    return {"valid": loss, "test": tests[-1]}


def table(args):
    rows = read(Path(args.file))
    for net, box in sorted({(row["net"], row["box"]) for row in rows}):
        of = {
            (row["method"], row["seed"]): row
            for row in rows
            if (row["net"], row["box"]) == (net, box)
        }
        seeds = sorted({seed for method, seed in of if method == "plain"})
        searched = [seed for seed in seeds if ("tpe", seed) in of]
        print(f"\n{net}, {box} box, {len(seeds)} seeds, TPE on {len(searched)}\n")
        print("| against | lower in | median ratio | quartiles | range |")
        print("| --- | ---: | ---: | ---: | ---: |")
        own = [name for name in OWN if seeds and all((name, seed) in of for seed in seeds)]
        for name in own:
            for loss in ("valid", "test"):
                for factor, whose in dict.fromkeys(
                    [(1, "stn"), (4, "stn"), (4, name)] * bool(searched)
                ):
                    ratios = []
                    for seed in searched:
                        row, own_row = of["tpe", seed], of[name, seed]
                        unit = row["unit"] if whose == "stn" else own_row["seconds"]
                        ratios.append(own_row[loss] / best_at(row, factor * unit)[loss])
                    line(f"{name} against TPE, {factor} x the time of {whose}, {loss}", ratios)
                for other in ("frozen", "plain", *(("stn",) if name in RETRAINED else ())):
                    if any((other, seed) not in of for seed in seeds):
                        continue
                    ratios = [of[name, seed][loss] / of[other, seed][loss] for seed in seeds]
                    line(f"{name} against {other}, {loss}", ratios)
        for name in own if searched else ():
            factors = []
            for seed in searched:
                row, target = of["tpe", seed], of[name, seed]["valid"]
                reached = [entry[0] for entry in row["trace"] if entry[1] <= target]
                # TPE stops early where it has reached stn, which may be before it has reached this.
                seconds = reached[0] if reached else row["seconds"]
                factors.append((seconds / row["unit"], "" if reached else "> "))
            shown = [f"{over}{factor:.1f}" for factor, over in sorted(factors)]
            print(f"\nTPE reaches {name} after x the time of stn: {', '.join(shown)};")
            print(f"(lower) median {shown[(len(shown) - 1) // 2]}")


def line(name, ratios):
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    wins = sum(ratio < 1 for ratio in ratios)
    print(
        f"| {name} | {wins}/{len(ratios)} | {middle:.3f} | {low:.3f} - {high:.3f} "
        f"| {min(ratios):.3f} - {max(ratios):.3f} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "table"):
        command = commands.add_parser(name)
        command.add_argument("--net", default="mlp", choices=sorted(NETS))
        command.add_argument("--box", default="wide", choices=sorted(BOXES))
        command.add_argument("--file", default="self_tuning.jsonl")
        command.add_argument("--seeds", default="0-9")
        command.add_argument("--methods", default="stn,frozen,plain,tpe")
        command.add_argument("--times", type=float, default=16, help="of stn, for TPE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    {"run": run, "table": table}[args.command](args)


if __name__ == "__main__":
    main()
