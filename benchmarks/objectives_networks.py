"""Hypervolume of accuracy and size of a network against epochs, and the scatter of measured times.

*Front*: an MLP on 2,000 rows of two tables and of MNIST (``../shared/data``; without it on tables
and digits of scikit-learn). The objectives are accuracy on held-out rows and the negative logarithm
of the number of parameters. All get the same epochs:

* ``objectives``: Hyperband that promotes along fronts, with random candidates;
* ``bayes``: the same with those of the model, which is the default;
* ``first``: the same Hyperband promoting by accuracy; its front is found afterwards;
* ``harmonica``, ``harmonica random``: a stage of 20 candidates, then one iteration of Hyperband,
  with candidates of the model, which is the default, or random ones;
* ``nsga2``, ``motpe``: Optuna's samplers for several objectives, whose trials have all epochs,
  because Optuna cannot prune with several objectives.

Each search is a line of a file, and what is there already is not run again.

*Share*: how many networks of ``BayesSearchCV`` are larger than a constraint allows.

*Times*: ``"neg_predict_time"`` of networks of several widths, each fitted several times, while
other processes keep all cores busy.

Run it with ``python benchmarks/objectives_networks.py front --results front.jsonl``, the same with
``report``, ``... share`` and ``... times``.
"""

import argparse
import multiprocessing
import time
import warnings
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import torch
from lines import read_lines, run_missing
from scipy.stats import loguniform, randint
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.model_selection import ShuffleSplit, train_test_split
from sklearn.preprocessing import StandardScaler

from skhpo import (
    BayesSearchCV,
    HalvingHyperbandSearchCV,
    HarmonicaSearchCV,
    SearchSpace,
    TorchClassifier,
    log_randint,
)
from skhpo.inspection import IncumbentDisplay
from skhpo.objectives import hypervolume
from skhpo.samplers import RandomSampler
from skhpo.schedulers import Hyperband
from skhpo.scorers import PredictTime, n_parameters

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
N_ROWS = 2000
MAX_EPOCHS = 27
N_TRIALS = 26  # of Optuna: as many epochs as Hyperband has in two iterations, which are 714
BUDGETS = tuple(MAX_EPOCHS * n for n in (6, 13, 19, 26))
SPACE = {
    "module__n_units": log_randint(2, 512),
    "module__n_layers": randint(1, 4),
    "module__dropout": [0.0, 0.2, 0.5],
    "lr": loguniform(1e-4, 1e-1),
}
# Worse than any network: an accuracy of 0, and 10 million parameters.
REFERENCE = (0.0, -7.0)


def _table(name):
    frame = pd.read_csv(SHARED / f"{name}.csv.gz").sample(N_ROWS, random_state=0)
    X = pd.get_dummies(frame.drop(columns="target"), dtype=float).fillna(0.0)
    return X.to_numpy(), np.unique(frame["target"], return_inverse=True)[1]


def _mnist():
    with np.load(SHARED / "mnist10k.npz") as archive:
        return archive["X"][:N_ROWS].reshape(N_ROWS, -1), archive["y"][:N_ROWS]


DATA = {
    "churn": lambda: _table("churn"),
    "satimage": lambda: _table("satimage"),
    "MNIST": _mnist,
}
if not SHARED.exists():
    DATA = {
        "breast cancer": lambda: load_breast_cancer(return_X_y=True),
        "wine": lambda: load_wine(return_X_y=True),
        "digits": lambda: load_digits(return_X_y=True),
    }


def scaled(name):
    X, y = DATA[name]()
    return StandardScaler().fit_transform(X).astype(np.float32), y


def size(estimator, X, y):
    return -np.log10(n_parameters(estimator))


def net(seed=None):
    return TorchClassifier(batch_size=64, random_state=seed, device="cpu")


def split(seed):
    return ShuffleSplit(1, test_size=0.4, random_state=seed)


def hyperband(X, y, seed, objectives, sampler="random"):
    """Return epochs so far and hypervolume of a search."""
    search = HalvingHyperbandSearchCV(
        net(),
        SPACE,
        max_resources=MAX_EPOCHS,
        n_iterations=2,
        sampler=sampler,
        scoring={"accuracy": "accuracy", "size": size},
        objectives=objectives,
        refit=False,
        cv=split(seed),
        random_state=seed,
        enqueue=(),
    ).fit(X, y)
    search.objectives = ["accuracy", "size"]  # by which both are judged
    return volumes_of(search)


def harmonica(X, y, seed, base):
    """The same of one stage of 20 candidates with 9 epochs, and one iteration of Hyperband."""
    search = HarmonicaSearchCV(
        net(),
        SPACE,
        n_stages=1,
        n_samples=20,
        stage_resource=9,
        base=base,
        n_iterations=1,
        resource="max_epochs",
        max_resources=MAX_EPOCHS,
        scoring={"accuracy": "accuracy", "size": size},
        objectives=["accuracy", "size"],
        refit=False,
        cv=split(seed),
        random_state=seed,
    ).fit(X, y)
    return volumes_of(search)


def volumes_of(search):
    display = IncumbentDisplay.from_search(
        search, metric="hypervolume", against="resource", reference=REFERENCE
    )
    return display.curves[""][0]


def random_base(space, random_state):
    return Hyperband(RandomSampler(space, random_state), max_resources=MAX_EPOCHS)


def peer(X, y, seed, sampler):
    """Return epochs so far and hypervolume of a study of Optuna."""
    train, test = next(split(seed).split(X, y))
    values = []

    def objective(trial):
        params = {
            "module__n_units": trial.suggest_int("units", 2, 512, log=True),
            "module__n_layers": trial.suggest_int("layers", 1, 3),
            "module__dropout": trial.suggest_categorical("dropout", [0.0, 0.2, 0.5]),
            "lr": trial.suggest_float("lr", 1e-4, 1e-1, log=True),
            "max_epochs": MAX_EPOCHS,
        }
        fitted = net(seed).set_params(**params).fit(X[train], y[train])
        values.append([fitted.score(X[test], y[test]), size(fitted, None, None)])
        return values[-1]

    study = optuna.create_study(directions=["maximize"] * 2, sampler=sampler(seed=seed))
    study.optimize(objective, n_trials=N_TRIALS)
    volumes = [hypervolume(values[: i + 1], REFERENCE) for i in range(len(values))]
    return MAX_EPOCHS * np.arange(1, N_TRIALS + 1), np.array(volumes)


BOTH = ["accuracy", "size"]
METHODS = {
    "objectives": lambda *given: hyperband(*given, BOTH),
    "bayes": lambda *given: hyperband(*given, BOTH, "bayes"),
    "first": lambda *given: hyperband(*given, None),
    "harmonica": lambda *given: harmonica(*given, "auto"),
    "harmonica random": lambda *given: harmonica(*given, random_base),
    "nsga2": lambda *given: peer(*given, optuna.samplers.NSGAIISampler),
    "motpe": lambda *given: peer(*given, optuna.samplers.TPESampler),
}


def measure(data, seed, method):
    X, y = scaled(data)
    start = time.perf_counter()
    epochs, volumes = METHODS[method](X, y, seed)
    places = np.searchsorted(epochs, BUDGETS, side="right") - 1
    return {
        "volumes": [float(volumes[place]) for place in places],
        "epochs": int(epochs[-1]),
        "seconds": time.perf_counter() - start,
    }


# The size that a network may have, and how many a search of BayesSearchCV tries.
MOST_PARAMETERS, N_TRIED = 1000, 40


def share(args):
    """Print the share of networks that are larger than allowed.

    They are drawn at random, or proposed by BayesSearchCV, for which the size is a metric like any
    other: it is known after the fit. As ``{"n_parameters": ...}`` it is known before, and no such
    network is fitted.
    """
    print("| data | random | BayesSearchCV | ratio | best feasible accuracy |")
    print("| --- | --- | --- | --- | --- |")
    for name in args.data:
        X, y = scaled(name)
        n_inputs, n_outputs = X.shape[1], len(np.unique(y))
        drawn = RandomSampler(SearchSpace(SPACE), 0).sample(10_000)
        sizes = []
        for params in drawn:
            units, layers = params["module__n_units"], params["module__n_layers"]
            within = (n_inputs + 1 + (layers - 1) * (units + 1)) * units
            sizes.append(within + (units + 1) * n_outputs)
        random, shares, best = np.mean(np.array(sizes) > MOST_PARAMETERS), [], []
        for seed in range(args.seeds):
            search = BayesSearchCV(
                net().set_params(max_epochs=MAX_EPOCHS),
                SPACE,
                n_iter=N_TRIED,
                scoring={"accuracy": "accuracy", "size": size},
                constraints={"size": (-np.log10(MOST_PARAMETERS), None)},
                refit="accuracy",
                cv=split(seed),
                random_state=seed,
            ).fit(X, y)
            shares.append(1.0 - search.cv_results_["feasible"].mean())
            best.append(search.best_score_)
        mean, error = np.mean(shares), np.std(shares, ddof=1) / len(shares) ** 0.5
        print(
            f"| {name} | {random:.2f} | {mean:.2f} ± {error:.2f} | {mean / random:.2f} "
            f"| {np.mean(best):.3f} |",
            flush=True,
        )


def front(args):
    cases = [
        {"data": name, "seed": seed, "method": method}
        for seed in range(args.seeds)
        for name in args.data
        for method in args.methods
    ]
    run_missing(args.results, cases, measure, args.max_time)


def report(args):
    found = {}
    for line in read_lines(args.results):
        found.setdefault((line["data"], line["method"]), {})[line["seed"]] = line["volumes"]
    print("| data | search | " + " | ".join(f"after {n} epochs" for n in BUDGETS) + " |")
    print("| --- | --- |" + " --- |" * len(BUDGETS))
    for (name, method), runs in found.items():
        volumes = np.array(list(runs.values()))
        mean, error = volumes.mean(axis=0), volumes.std(axis=0, ddof=1) / len(volumes) ** 0.5
        cells = [f"{m:.3f} ± {e:.3f}" for m, e in zip(mean, error, strict=True)]
        print(f"| {name} | {method} | " + " | ".join(cells) + " |")
    print("\n| data | search | less | at the same epochs | at half of the peer's epochs | seeds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, own in found:
        if own not in ("objectives", "bayes"):
            continue
        for peer_of in ("objectives", "first", "nsga2", "motpe"):
            if peer_of == own or (name, peer_of) not in found:
                continue
            both = sorted(found[name, own].keys() & found[name, peer_of])
            mine, theirs = (
                np.array([found[name, method][seed] for seed in both]) for method in (own, peer_of)
            )
            cells = [_difference(mine[:, -1] - theirs[:, -1])]
            cells.append(_difference(mine[:, 1] - theirs[:, -1]))
            print(f"| {name} | {own} | {peer_of} | {' | '.join(cells)} | {len(both)} |")


def _difference(less):
    error = less.std(ddof=1) / len(less) ** 0.5 if len(less) > 1 else np.nan
    return f"{less.mean():+.3f} ± {error:.3f} (ahead in {(less > 0).sum()})"


def busy():
    while True:
        pass


def times(n_fits, n_busy):
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    X, _, y, _ = train_test_split(X, y, train_size=500, random_state=0)
    others = [multiprocessing.Process(target=busy, daemon=True) for _ in range(n_busy)]
    for one in others:
        one.start()
    print(f"{n_busy} busy processes; microseconds per row of 1,000 rows, {n_fits} fits each\n")
    print(
        "| layers | units | median | standard deviation | difference to twice the width | share |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    measure = PredictTime()
    for n_layers in (1, 2):
        found = {}
        for n_units in (64, 128, 256, 512):
            params = {"module__n_units": n_units, "module__n_layers": n_layers, "max_epochs": 1}
            fits = [net(seed).set_params(**params).fit(X, y) for seed in range(n_fits)]
            found[n_units] = np.array([-1e6 * measure(fit, X, y) for fit in fits])
        for n_units, micros in found.items():
            middle, scatter = np.median(micros), micros.std(ddof=1)
            row = f"| {n_layers} | {n_units} | {middle:.2f} | {scatter:.3f} |"
            if 2 * n_units in found:
                difference = np.median(found[2 * n_units]) - middle
                row += f" {difference:.2f} | {scatter / difference:.2f} |"
            else:
                row += " | |"
            print(row)
    for one in others:
        one.terminate()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["front", "report", "share", "times"])
    parser.add_argument("--results", default="objectives_networks.jsonl")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--max-time", type=float, default=float("inf"), help="seconds")
    parser.add_argument("--fits", type=int, default=10)
    parser.add_argument("--busy", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if args.what == "front":
        front(args)
    elif args.what == "report":
        report(args)
    elif args.what == "share":
        share(args)
    else:
        times(args.fits, args.busy)


if __name__ == "__main__":
    main()
