"""Hyperband over a Keras model: this package's beside keras-tuner's.

Both run the same builder, which asks ``hp`` for its hyperparameters, on the same training and
validation part of scikit-learn's digits (one holdout), with at most 9 epochs and factor 3, once
through the brackets. Each search is a line of a results file, and what is there already is not run
again. The epochs are counted where Keras trains.

    python benchmarks/keras_hyperband.py [--seeds 5] [--results keras_hyperband.jsonl] [--table]

``--only 0 skhpo`` runs one search; ``--table`` prints what there is.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import ShuffleSplit

from skhpo import HalvingHyperbandSearchCV, KerasClassifier

import keras  # isort: skip (after the estimator, which chooses the backend)

BATCH_SIZE = 64
MAX_EPOCHS = 9


def build(hp):
    layers = keras.layers
    activation = hp.Choice("activation", ["relu", "tanh"])
    stack = [layers.Input((64,))]
    for i in range(hp.Int("n_layers", 1, 2)):
        stack.append(layers.Dense(hp.Int(f"units_{i}", 16, 128, step=16), activation=activation))
    if hp.Boolean("drop"):
        stack.append(layers.Dropout(hp.Float("rate", 0.1, 0.5)))
    model = keras.Sequential([*stack, layers.Dense(10, activation="softmax")])
    rate = hp.Float("lr", 1e-4, 1e-1, sampling="log")
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def with_skhpo(X, y, train, test, seed):
    search = HalvingHyperbandSearchCV(
        KerasClassifier(build, batch_size=BATCH_SIZE),
        "model",
        resource="epochs",
        max_resources=MAX_EPOCHS,
        factor=3,
        cv=[(train, test)],
        refit=False,
        random_state=seed,
    )
    return search.fit(X, y).best_score_


def with_keras_tuner(X, y, train, test, seed):
    import keras_tuner

    keras.utils.set_random_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.Hyperband(
            build,
            objective="val_accuracy",
            max_epochs=MAX_EPOCHS,
            factor=3,
            hyperband_iterations=1,
            seed=seed,
            directory=folder,
        )
        tuner.search(
            X[train],
            y[train],
            validation_data=(X[test], y[test]),
            batch_size=BATCH_SIZE,
            verbose=0,
        )
        return tuner.oracle.get_best_trials(1)[0].score


CONTESTANTS = {"skhpo": with_skhpo, "keras-tuner": with_keras_tuner}


def run(name, seed):
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    ((train, test),) = ShuffleSplit(1, test_size=0.3, random_state=seed).split(X)
    epochs, fit = 0, keras.Model.fit

    def counting(model, *args, **kwargs):
        nonlocal epochs
        history = fit(model, *args, **kwargs)
        epochs += len(history.epoch)
        return history

    keras.Model.fit = counting
    try:
        start = time.perf_counter(), time.process_time()
        score = CONTESTANTS[name](X, y, train, test, seed)
        seconds, of_processor = time.perf_counter() - start[0], time.process_time() - start[1]
    finally:
        keras.Model.fit = fit
    return {
        "contestant": name,
        "seed": seed,
        "accuracy": float(score),
        "epochs": epochs,
        "seconds": seconds,
        "processor": of_processor,
    }


def table(rows):
    print(f"Keras {keras.__version__}, torch {torch.__version__}, one thread\n")
    print(
        "| search | seeds | best validation accuracy: mean | range | epochs: mean "
        "| seconds: median | of the processor: median | of the processor, per epoch |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in CONTESTANTS:
        mine = [row for row in rows if row["contestant"] == name]
        if not mine:
            continue
        of = {key: np.array([row[key] for row in mine]) for key in mine[0] if key != "contestant"}
        print(
            f"| {name} | {len(mine)} | {of['accuracy'].mean():.4f} | {of['accuracy'].min():.4f} - "
            f"{of['accuracy'].max():.4f} | {of['epochs'].mean():.0f} "
            f"| {np.median(of['seconds']):.1f} | {np.median(of['processor']):.1f} "
            f"| {np.median(of['processor'] / of['epochs']):.3f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=Path("keras_hyperband.jsonl"))
    parser.add_argument("--only", nargs=2, default=None, metavar=("SEED", "CONTESTANT"))
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    text = args.results.read_text() if args.results.exists() else ""
    rows = [json.loads(line) for line in text.splitlines()]
    plan = [(seed, name) for seed in range(args.seeds) for name in CONTESTANTS]
    if args.only is not None:
        plan = [(int(args.only[0]), args.only[1])]
    done = {(row["seed"], row["contestant"]) for row in rows}
    for seed, name in [] if args.table else plan:
        if (seed, name) not in done:
            rows.append(run(name, seed))
            with args.results.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    table(rows)


if __name__ == "__main__":
    main()
