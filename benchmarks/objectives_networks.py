"""Hypervolume of accuracy and size of a network against epochs, and the scatter of measured times.

*Front*: an MLP on digits, on a table, and on 2,000 images of MNIST (where ``../shared/data`` has
it); the objectives are accuracy on held-out rows and the negative logarithm of the number of
parameters. All get the same epochs:

* ``objectives``: Hyperband that promotes along fronts;
* ``first``: the same Hyperband promoting by accuracy; its front is found afterwards;
* ``nsga2``, ``motpe``: Optuna's samplers for several objectives, whose trials have all epochs,
  because Optuna cannot prune with several objectives.

*Times*: ``"neg_predict_time"`` of networks of two widths, each fitted several times, while other
processes keep all cores busy.

Run it with ``python benchmarks/objectives_networks.py front`` and ``... times``.
"""

import argparse
import multiprocessing
import time
import warnings
from pathlib import Path

import numpy as np
import optuna
import torch
from scipy.stats import loguniform, randint
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import ShuffleSplit, train_test_split
from sklearn.preprocessing import StandardScaler

from skhpo import HalvingHyperbandSearchCV, TorchClassifier, log_randint
from skhpo.inspection import IncumbentDisplay
from skhpo.objectives import hypervolume
from skhpo.scorers import PredictTime, n_parameters

MNIST = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "mnist10k.npz"
MAX_EPOCHS = 27
SPACE = {
    "module__n_units": log_randint(2, 512),
    "module__n_layers": randint(1, 4),
    "module__dropout": [0.0, 0.2, 0.5],
    "lr": loguniform(1e-4, 1e-1),
}
# Worse than any network: an accuracy of 0, and 10 million parameters.
REFERENCE = (0.0, -7.0)


def datasets():
    yield "digits", *load_digits(return_X_y=True)
    yield "breast cancer", *load_breast_cancer(return_X_y=True)
    if MNIST.exists():
        with np.load(MNIST) as archive:
            X, y = archive["X"][:2000], archive["y"][:2000]
        yield "MNIST 2000", X.reshape(len(X), -1), y


def size(estimator, X, y):
    return -np.log10(n_parameters(estimator))


def net(seed=None):
    return TorchClassifier(batch_size=64, random_state=seed, device="cpu")


def split(seed):
    return ShuffleSplit(1, test_size=0.4, random_state=seed)


def hyperband(X, y, seed, objectives):
    """Return epochs so far and hypervolume of a search."""
    search = HalvingHyperbandSearchCV(
        net(),
        SPACE,
        max_resources=MAX_EPOCHS,
        scoring={"accuracy": "accuracy", "size": size},
        objectives=objectives,
        refit=False,
        cv=split(seed),
        random_state=seed,
        enqueue=(),
    ).fit(X, y)
    search.objectives = ["accuracy", "size"]  # by which both are looked at
    display = IncumbentDisplay.from_search(
        search, metric="hypervolume", against="resource", reference=REFERENCE
    )
    return display.curves[""][0]


def peer(X, y, seed, sampler, n_trials):
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
    study.optimize(objective, n_trials=n_trials)
    volumes = [hypervolume(values[: i + 1], REFERENCE) for i in range(len(values))]
    return MAX_EPOCHS * np.arange(1, n_trials + 1), np.array(volumes)


def front(n_seeds, names):
    methods = {
        "objectives": lambda *given: hyperband(*given, ["accuracy", "size"]),
        "first": lambda *given: hyperband(*given, None),
        "nsga2": lambda *given: peer(*given, optuna.samplers.NSGAIISampler, n_trials=13),
        "motpe": lambda *given: peer(*given, optuna.samplers.TPESampler, n_trials=13),
    }
    half, whole = 6.5 * MAX_EPOCHS, 13 * MAX_EPOCHS
    print("| data | search | hypervolume at half of the epochs | at all | seconds |")
    print("| --- | --- | --- | --- | --- |")
    for name, X, y in datasets():
        if name not in names:
            continue
        X = StandardScaler().fit_transform(X).astype(np.float32)
        found = {method: [] for method in methods}
        for seed in range(n_seeds):
            for method, run in methods.items():
                start = time.perf_counter()
                epochs, volumes = run(X, y, seed)
                seconds = time.perf_counter() - start
                at = [volumes[np.searchsorted(epochs, e, side="right") - 1] for e in (half, whole)]
                found[method].append([*at, seconds])
        for method, runs in found.items():
            mean, error = np.mean(runs, axis=0), np.std(runs, axis=0, ddof=1) / n_seeds**0.5
            print(
                f"| {name} | {method} | {mean[0]:.3f} ± {error[0]:.3f} "
                f"| {mean[1]:.3f} ± {error[1]:.3f} | {mean[2]:.1f} |"
            )
        ahead = np.array(found["objectives"])[:, :2]
        for method in list(methods)[1:]:
            other = np.array(found[method])
            same, early = ahead - other[:, :2], ahead[:, 0] - other[:, 1]
            print(
                f"<!-- {name}, objectives less {method}: at half {same[:, 0].mean():+.3f} "
                f"(ahead in {(same[:, 0] > 0).sum()}), at all {same[:, 1].mean():+.3f} (ahead in "
                f"{(same[:, 1] > 0).sum()} of {n_seeds}), half less all {early.mean():+.3f} -->",
                flush=True,
            )


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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["front", "times"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="+", default=["digits", "breast cancer", "MNIST 2000"])
    parser.add_argument("--fits", type=int, default=10)
    parser.add_argument("--busy", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if arguments.what == "front":
        front(arguments.seeds, arguments.data)
    else:
        times(arguments.fits, arguments.busy)
