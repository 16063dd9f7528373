"""
A grid over a Keras model
=========================

The builder of a well-known Keras tutorial (one hidden layer on MNIST) in scikit-learn's own
`GridSearchCV`: batch size, epochs and the builder's `units` are parameters alike. MNIST is read
from ``../shared/data``; without it the example takes scikit-learn's digits.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split

from skhpo import KerasClassifier

import keras  # isort: skip (after the estimator, so that it runs on torch)

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "mnist10k.npz"


def load_images():
    """Return rows of pixels in [0, 1], and digits."""
    if not DATA.exists():
        X, y = load_digits(return_X_y=True)
        return (X / 16).astype(np.float32), y
    with np.load(DATA) as archive:
        return archive["X"].reshape(-1, 28 * 28).astype(np.float32) / 255, archive["y"]


def create_model(input_shape, units=32):
    # input_shape is inferred from the data; units is a parameter of the estimator.
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input(input_shape),
            layers.Dense(units, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main():
    X, y = load_images()
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, train_size=min(1500, len(X) * 2 // 3), stratify=y, random_state=0
    )

    model = KerasClassifier(build_fn=create_model, verbose=0, random_state=0)
    grid = GridSearchCV(
        model, {"batch_size": [32, 128], "epochs": [3, 6], "units": [8, 32]}, n_jobs=2, cv=3
    )
    grid.fit(X_train, y_train)

    columns = [
        "param_units",
        "param_epochs",
        "param_batch_size",
        "mean_test_score",
        "rank_test_score",
    ]
    results = pd.DataFrame(grid.cv_results_)[columns].sort_values("rank_test_score")
    print(results.to_string(index=False, float_format="{:.3f}".format))
    print(f"\nBest: {grid.best_score_:.3f} with {grid.best_params_}")

    # The refitted Keras model, with its history, is the estimator's.
    curve = grid.best_estimator_.model.history.history["accuracy"]
    print("Its accuracy in training:", " ".join(f"{value:.3f}" for value in curve))
    print(f"Accuracy on {len(y_test)} held-out images: {grid.score(X_test, y_test):.3f}")


if __name__ == "__main__":
    main()
