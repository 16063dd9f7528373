"""What a fit of KerasClassifier costs beside ``model.fit``, and what Keras costs beside torch.

The same network (64-64-10), data (scikit-learn's digits), batches of 64, epochs, optimizer (Adam)
and threads (one), on the torch backend. The contestants take turns, and the figures are ratios of
times within a turn, so that a busy machine disturbs all alike; of both the time that passed and
that of the processor.

    python benchmarks/keras_overhead.py [--repeats 11] [--epochs 10]
"""

from __future__ import annotations

import argparse
import gc
import time

import numpy as np
import torch
from sklearn.datasets import load_digits

from skhpo import KerasClassifier, TorchClassifier

import keras  # isort: skip (after the estimator, which chooses the backend)

BATCH_SIZE = 64


def create_model():
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((64,)),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def with_keras(X, y, epochs):
    keras.utils.set_random_seed(0)
    create_model().fit(X, y, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)


def with_skhpo(X, y, epochs):
    KerasClassifier(create_model, batch_size=BATCH_SIZE, epochs=epochs, random_state=0).fit(X, y)


def with_torch(X, y, epochs):
    TorchClassifier(
        module__n_units=64,
        optimizer="adam",
        batch_size=BATCH_SIZE,
        max_epochs=epochs,
        random_state=0,
        device="cpu",
    ).fit(X, y)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    contestants = {
        "keras.Model.fit": with_keras,
        "KerasClassifier.fit": with_skhpo,
        "TorchClassifier.fit": with_torch,
    }
    for fit in contestants.values():
        fit(X, y, 1)
    passed = {name: [] for name in contestants}
    worked = {name: [] for name in contestants}
    for turn in range(args.repeats):
        names = list(contestants)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            gc.collect()
            start = time.perf_counter(), time.process_time()
            contestants[name](X, y, args.epochs)
            passed[name].append(time.perf_counter() - start[0])
            worked[name].append(time.process_time() - start[1])
    print(f"digits, MLP 64-64-10, batches of {BATCH_SIZE}, {args.epochs} epochs, one thread,")
    print(f"{args.repeats} turns, Keras {keras.__version__}, torch {torch.__version__}\n")
    print(
        "| fit | seconds (median) | ratio to model.fit (median) | quartiles | range "
        "| ratio of processor times | quartiles |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in contestants:
        ratios = np.array(passed[name]) / np.array(passed["keras.Model.fit"])
        of_processor = np.array(worked[name]) / np.array(worked["keras.Model.fit"])
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        cpu_low, cpu, cpu_high = np.percentile(of_processor, [25, 50, 75])
        print(
            f"| {name} | {np.median(passed[name]):.3f} | {middle:.2f} | {low:.2f} - {high:.2f} "
            f"| {ratios.min():.2f} - {ratios.max():.2f} | {cpu:.2f} | {cpu_low:.2f} - "
            f"{cpu_high:.2f} |"
        )


if __name__ == "__main__":
    main()
