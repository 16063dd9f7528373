"""Epochs trained and wall time of one bracket, against scikit-learn's halving search.

The same bracket of successive halving twice, one thread and one job each, over the same network,
data, folds, and number of candidates:

* ``HalvingRandomSearchCV(resource="max_epochs")`` over skorch's own ``NeuralNetClassifier``, which
  trains every survivor from scratch at every rung;
* ``HalvingHyperbandSearchCV(n_brackets=1)`` over ``TorchClassifier``, which continues it;
* the same over skorch's own net, which shows what continuing alone brings.

Run it with ``python benchmarks/hyperband_epochs.py``.
"""

import argparse
import statistics
import time
import warnings

import numpy as np
import torch
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingRandomSearchCV
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback

from skhpo import HalvingHyperbandSearchCV, TorchClassifier
from skhpo.estimators import MLP

EPOCHS = [0]
SPACE = {"lr": loguniform(1e-4, 1e-1)}


class CountEpochs(Callback):
    def on_epoch_end(self, net, **kwargs):
        EPOCHS[0] += 1


def sizes():
    return {"in_features": 64, "out_features": 10, "n_units": 64, "n_layers": 1}


def skorch_net():
    return NeuralNetClassifier(
        MLP,
        **{f"module__{name}": value for name, value in sizes().items()},
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        batch_size=64,
        train_split=None,
        iterator_train__shuffle=True,
        callbacks=[CountEpochs],
        verbose=0,
    )


def torch_net():
    return TorchClassifier(
        MLP,
        module__n_units=64,
        module__n_layers=1,
        optimizer="adam",
        batch_size=64,
        callbacks=[CountEpochs],
    )


def searches(max_epochs, n_candidates, seed):
    halving = {"max_resources": max_epochs, "min_resources": 1, "factor": 3, "cv": 3}
    common = {"resource": "max_epochs", "refit": False, "random_state": seed}
    return {
        "HalvingRandomSearchCV, skorch": HalvingRandomSearchCV(
            skorch_net(), SPACE, n_candidates=n_candidates, **halving, **common
        ),
        "HalvingHyperbandSearchCV, skorch": HalvingHyperbandSearchCV(
            skorch_net(), SPACE, n_brackets=1, **halving, **common
        ),
        "HalvingHyperbandSearchCV, TorchClassifier": HalvingHyperbandSearchCV(
            torch_net(), SPACE, n_brackets=1, **halving, **common
        ),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max-epochs", type=int, default=27)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")

    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    n_candidates = args.max_epochs  # the most aggressive bracket starts as many as it has epochs
    seconds, epochs, scores = {}, {}, {}
    for repeat in range(args.repeats):
        for name, search in searches(args.max_epochs, n_candidates, repeat).items():
            EPOCHS[0] = 0
            start = time.perf_counter()
            search.fit(X, y.astype(np.int64))
            seconds.setdefault(name, []).append(time.perf_counter() - start)
            epochs.setdefault(name, []).append(EPOCHS[0])
            scores.setdefault(name, []).append(search.best_score_)

    peer = next(iter(seconds))
    print(
        f"One bracket, {n_candidates} candidates, up to {args.max_epochs} epochs, 3 folds, "
        f"{args.repeats} repeats\n"
    )
    print("| search | epochs trained | seconds (median) | ratio (min to max) | best score |")
    print("| --- | --- | --- | --- | --- |")
    for name, times in seconds.items():
        ratios = [own / other for own, other in zip(times, seconds[peer], strict=True)]
        print(
            f"| {name} | {statistics.median(epochs[name])} | {statistics.median(times):.1f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {statistics.mean(scores[name]):.3f} |"
        )


if __name__ == "__main__":
    main()
