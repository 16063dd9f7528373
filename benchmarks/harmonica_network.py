"""Harmonica on a real network: are 16 dummies told from 28 options, and is random search beaten?

A network of three hidden layers on small MNIST images has 28 options (optimizer, learning rate,
batch norm, dropout, widths, skip connections, initialisation, ...) and 16 more that do nothing. For
each seed: Harmonica, with 48 samples in each of two stages that train 2 epochs, and three
iterations of Hyperband with up to 18 as its base (``--defaults``: 284 samples, and as many
iterations as take as long as the stages); random search with five times Harmonica's epochs,
18 for each candidate; and Hyperband alone, with as many iterations as take at least Harmonica's
epochs. The score of a candidate is its accuracy on one validation part. What a search finds is
judged, on images that no search saw, by the mean accuracy of twenty networks of its best candidate,
trained on the training and validation parts under seeds that are the same for all searches.

Run it with ``python benchmarks/harmonica_network.py``. Every search is a line of the results file,
and lines that are there are not run again: ``--seeds 0 1 --what harmonica`` runs a part, and
``--table`` prints what is there.
"""

import argparse
import itertools
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import PredefinedSplit
from torch import nn

from skhpo import HalvingHyperbandSearchCV, HarmonicaSearchCV, SearchCV, TorchClassifier
from skhpo.samplers import GridSampler, RandomSampler
from skhpo.schedulers import FullScheduler, hyperband_plan

MNIST = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "mnist10k.npz"
N_TRAIN, N_VALID, N_TEST = 512, 512, 3000
MAX_EPOCHS = 18
SHORT = {"n_samples": 48, "n_iterations": 3}
TIMES = 5
N_RETRAINED = 20
DUMMIES = [f"module__dummy_{i:02}" for i in range(16)]


class Net(nn.Module):
    """Three hidden layers with many options; those named ``dummy_*`` do nothing."""

    def __init__(
        self,
        in_features,
        out_features,
        widths=(64, 64, 64),
        activation="relu",
        dropouts=(0.0, 0.0, 0.0, 0.0),
        norms=(False, False, False),
        norm_output=False,
        skip_hidden=False,
        skip_input=False,
        bias=True,
        centre=False,
        noise=0.0,
        coarse=False,
        scale_output=1.0,
        **dummies,
    ):
        super().__init__()
        self.side = round(in_features**0.5)
        self.coarse, self.centre, self.noise = coarse, centre, noise
        self.scale_output, self.skip_hidden = scale_output, skip_hidden
        n_inputs = in_features // 4 if coarse else in_features
        sizes = [n_inputs, *widths]
        self.layers = nn.ModuleList(
            nn.Linear(a, b, bias=bias) for a, b in itertools.pairwise(sizes)
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(width) if norm else nn.Identity()
            for width, norm in zip(widths, norms, strict=True)
        )
        self.dropouts = nn.ModuleList(nn.Dropout(p) for p in dropouts)
        self.activation = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}[activation]()
        self.short = nn.Linear(widths[0], widths[2], bias=False) if skip_hidden else None
        self.direct = nn.Linear(n_inputs, out_features, bias=False) if skip_input else None
        self.output = nn.Linear(widths[2], out_features)
        self.norm_output = nn.BatchNorm1d(out_features) if norm_output else nn.Identity()

    def forward(self, X):
        if self.coarse:
            images = X.view(-1, 1, self.side, self.side)
            X = nn.functional.avg_pool2d(images, 2).flatten(1)
        if self.centre:
            X = (X - 0.13) / 0.28
        if self.noise and self.training:
            X = X + self.noise * torch.randn_like(X)
        X = hidden = self.dropouts[0](X)
        first = None
        for layer, norm, dropout in zip(self.layers, self.norms, self.dropouts[1:], strict=True):
            hidden = dropout(self.activation(norm(layer(hidden))))
            first = hidden if first is None else first
        if self.short is not None:
            hidden = hidden + self.short(first)
        logits = self.output(hidden)
        if self.direct is not None:
            logits = logits + self.direct(X)
        return self.norm_output(logits) * self.scale_output


class Options(Net):
    """`Net`, with an option for each place instead of tuples."""

    def __init__(
        self,
        in_features,
        out_features,
        *,
        width_1=64,
        width_2=64,
        width_3=64,
        dropout_0=0.0,
        dropout_1=0.0,
        dropout_2=0.0,
        dropout_3=0.0,
        norm_1=False,
        norm_2=False,
        norm_3=False,
        **rest,
    ):
        super().__init__(
            in_features,
            out_features,
            widths=(width_1, width_2, width_3),
            dropouts=(dropout_0, dropout_1, dropout_2, dropout_3),
            norms=(norm_1, norm_2, norm_3),
            **rest,
        )


OPTIONS = {
    "optimizer": ["sgd", "adam"],
    "lr": loguniform(3e-4, 3e-1),
    "optimizer__weight_decay": [0.0, 1e-3],
    "batch_size": [64, 256],
    "label_smoothing": [0.0, 0.1],
    "max_norm": [None, 3.0],
    "init": ["default", "orthogonal", "kaiming_normal"],
    "init_gain": [0.5, 1.0],
    "lr_scheduler": [None, "cosine"],
    "module__activation": ["relu", "tanh", "gelu"],
    **{f"module__width_{i}": [16, 64] for i in (1, 2, 3)},
    **{f"module__dropout_{i}": [0.0, 0.3] for i in (0, 1, 2, 3)},
    **{f"module__norm_{i}": [False, True] for i in (1, 2, 3)},
    "module__norm_output": [False, True],
    "module__skip_hidden": [False, True],
    "module__skip_input": [False, True],
    "module__bias": [True, False],
    "module__centre": [False, True],
    "module__noise": [0.0, 0.3],
    "module__coarse": [False, True],
    "module__scale_output": [0.3, 1.0],
}
SPACE = {**OPTIONS, **{name: [False, True] for name in DUMMIES}}


def images(seed):
    """Return the searched images, small ones, and those held out."""
    if MNIST.exists():
        with np.load(MNIST) as file:
            X, y = file["X"].astype(np.float32) / 255, file["y"].astype(np.int64)
        X = X.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(len(X), -1)
        n_test = N_TEST
    else:
        X, y = load_digits(return_X_y=True)
        X, y = (X / 16).astype(np.float32), y.astype(np.int64)
        n_test = len(X) - N_TRAIN - N_VALID
    order = np.random.default_rng(seed).permutation(len(X))
    searched, held_out = np.split(order[: N_TRAIN + N_VALID + n_test], [N_TRAIN + N_VALID])
    return X[searched], y[searched], X[held_out], y[held_out]


def estimator():
    return TorchClassifier(Options, max_epochs=MAX_EPOCHS, device="cpu")


def common(seed):
    return {
        "resource": "max_epochs",
        "cv": PredefinedSplit(np.repeat([-1, 0], [N_TRAIN, N_VALID])),
        "error_score": 0.0,
        "random_state": seed,
        "refit": False,
    }


def judged(params, X, y, X_test, y_test):
    """Return the accuracies of networks under other seeds, which are trained in lockstep."""
    network = estimator().set_params(**params)
    seeds = list(range(1000, 1000 + N_RETRAINED))
    search = SearchCV(
        network,
        {"random_state": seeds},
        scheduler=lambda space, _: FullScheduler(GridSampler(space), len(seeds)),
        error_score=0.0,
        cv=PredefinedSplit(np.repeat([-1, 0], [len(X), len(X_test)])),
        refit=False,
    )
    search.fit(np.concatenate([X, X_test]), np.concatenate([y, y_test]))
    return search.cv_results_["mean_test_score"].tolist()


def harmonica(seed, given):
    return HarmonicaSearchCV(estimator(), SPACE, max_resources=MAX_EPOCHS, **given, **common(seed))


def random(seed, epochs):
    n_candidates = round(TIMES * epochs / MAX_EPOCHS)

    def scheduler(space, random_state):
        sampler = RandomSampler(space, random_state)
        return FullScheduler(sampler, n_candidates, resource=MAX_EPOCHS)

    return SearchCV(estimator(), SPACE, scheduler=scheduler, **common(seed))


def hyperband(seed, epochs):
    work = sum(
        n * (level - below)
        for rungs in hyperband_plan(1, MAX_EPOCHS)
        for (n, level), (_, below) in zip(rungs, [(0, 0), *rungs], strict=False)
    )
    return HalvingHyperbandSearchCV(
        estimator(),
        SPACE,
        max_resources=MAX_EPOCHS,
        n_iterations=-(-epochs // work),
        sampler="bayes",
        **common(seed),
    )


def epochs_of(search):
    """Return the epochs that were trained; a rung only adds to those below."""
    table = search.cv_results_
    reached = {}
    for candidate, level in zip(table["candidate"], table["n_resources"], strict=True):
        reached[candidate] = max(level, reached.get(candidate, 0))
    return int(sum(reached.values()))


def run(what, seed, lines, given):
    X, y, X_test, y_test = images(seed)
    if what == "harmonica":
        search = harmonica(seed, given)
    else:
        contestant = random if what == "random" else hyperband
        search = contestant(seed, lines["harmonica", seed]["epochs"])
    search.fit(X, y)
    tests = judged(search.best_params_, X, y, X_test, y_test)
    line = {
        "what": what,
        "seed": seed,
        "epochs": epochs_of(search),
        "valid": search.best_score_,
        "test": float(np.mean(tests)),
        "tests": tests,
        "params": search.best_params_,
    }
    if what == "harmonica":
        terms = [[item["term"] for item in stage["terms"]] for stage in search.stages_]
        line["terms"] = [[[name for name, _ in term] for term in stage] for stage in terms]
        line["labels"] = [[str(term) for term in stage] for stage in terms]
        line["shares"] = [[item["share"] for item in stage["terms"]] for stage in search.stages_]
        line["mean_scores"] = [stage["mean_score"] for stage in search.stages_]
        line["best_scores"] = [stage["best_score"] for stage in search.stages_]
    return line


def read(path):
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return {(line["what"], line["seed"]): line for line in lines}


def table(lines):
    own = [line for (what, _), line in sorted(lines.items()) if what == "harmonica"]
    clean = [
        not any(
            len(set(term)) == 1 and term[0] in DUMMIES for stage in line["terms"] for term in stage
        )
        for line in own
    ]
    anywhere = [
        any(name in DUMMIES for stage in line["terms"] for term in stage for name in term)
        for line in own
    ]
    print(f"{sum(clean)} of {len(own)} seeds without a dummy among the first-order terms")
    print(f"{sum(anywhere)} of {len(own)} seeds with a dummy in any term")
    print("\n| seed | epochs | mean accuracy, stage 1 | stage 2 | largest terms of stage 1 |")
    print("| --- | --- | --- | --- | --- |")
    for line in own:
        first, second = line["mean_scores"]
        shown = "; ".join(
            f"{' x '.join(name.removeprefix('module__') for name in term)} ({share:.0%})"
            for term, share in zip(line["terms"][0], line["shares"][0], strict=True)
        )
        print(f"| {line['seed']} | {line['epochs']} | {first:.3f} | {second:.3f} | {shown} |")
    print(
        "\n| search | epochs | validation accuracy | test accuracy | test, by seed "
        "| Harmonica is ahead by |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    seeds = [seed for what, seed in sorted(lines) if what == "random"]
    for what in ("harmonica", "random", "hyperband"):
        some = [lines[what, seed] for seed in seeds if (what, seed) in lines]
        if not some:
            continue
        valid, test = (np.array([line[key] for line in some]) for key in ("valid", "test"))
        ahead = [lines["harmonica", line["seed"]]["test"] for line in some] - test
        error = ahead.std(ddof=1) / np.sqrt(len(some)) if len(some) > 1 else np.nan
        shown = "" if what == "harmonica" else f"{ahead.mean():+.4f} ± {error:.4f}"
        print(
            f"| {what} | {np.mean([line['epochs'] for line in some]):.0f} "
            f"| {valid.mean():.4f} ± {valid.std(ddof=1) if len(some) > 1 else 0:.4f} "
            f"| {test.mean():.4f} ± {test.std(ddof=1) if len(some) > 1 else 0:.4f} "
            f"| {', '.join(f'{value:.4f}' for value in test)} "
            f"| {shown} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--what", nargs="+", default=["harmonica", "random", "hyperband"])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--compared", type=int, default=5, help="seeds that the others run")
    parser.add_argument("--results", type=Path, default=Path("harmonica_network.jsonl"))
    parser.add_argument("--max-seconds", type=float, default=np.inf, help="start nothing after")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--defaults", action="store_true", help="Harmonica with its defaults")
    args = parser.parse_args()
    given = {} if args.defaults else SHORT
    if not MNIST.exists():
        print(f"{MNIST} is not there: scikit-learn's digits in its place")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FitFailedWarning)
    start = time.perf_counter()
    for what in () if args.table else args.what:
        for seed in args.seeds:
            lines = read(args.results)
            skipped = what != "harmonica" and (
                seed >= args.compared or ("harmonica", seed) not in lines
            )
            if skipped or (what, seed) in lines:
                continue
            if time.perf_counter() - start > args.max_seconds:
                return
            line = run(what, seed, lines, given)
            with args.results.open("a") as file:
                file.write(json.dumps(line, default=np.generic.item) + "\n")
    table(read(args.results))


if __name__ == "__main__":
    main()
