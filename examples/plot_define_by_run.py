"""
Random search and Hyperband over a define-by-run model
======================================================

A builder asks ``hp`` for what it needs, in loops and under conditions, as in keras-tuner;
``distributions_of`` finds what it may ask for. scikit-learn's random search takes that as it is,
and Hyperband finds it by itself with ``param_distributions="model"``. Both train about as many
epochs; with so few full-length candidates random search depends on luck in a wide space. Where half
of all candidates are good, or a few epochs are all there is, it does as well. MNIST is read from
``../shared/data``; without it the example takes scikit-learn's digits.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import RandomizedSearchCV, ShuffleSplit, train_test_split

from skhpo import HalvingHyperbandSearchCV, KerasClassifier, SearchSpace, distributions_of

import keras  # isort: skip (after the estimator, so that it runs on torch)

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "mnist10k.npz"


def load_images():
    """Return rows of pixels in [0, 1], and digits."""
    if not DATA.exists():
        X, y = load_digits(return_X_y=True)
        return (X / 16).astype(np.float32), y
    with np.load(DATA) as archive:
        return archive["X"].reshape(-1, 28 * 28).astype(np.float32) / 255, archive["y"]


def build(hp, input_shape):
    layers = keras.layers
    stack = [layers.Input(input_shape)]
    for i in range(hp.Int("n_layers", 1, 2)):
        stack.append(layers.Dense(hp.Int(f"units_{i}", 8, 64, step=8), activation="relu"))
    if hp.Boolean("drop"):
        stack.append(layers.Dropout(hp.Float("rate", 0.1, 0.8)))
    model = keras.Sequential([*stack, layers.Dense(10, activation="softmax")])
    rate = hp.Float("lr", 1e-5, 1.0, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    return model


def main():
    X, y = load_images()
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, train_size=min(1500, len(X) * 2 // 3), stratify=y, random_state=0
    )

    # One dict per branch: with one layer or two, with dropout or without.
    space = distributions_of(build, input_shape=X.shape[1:])
    print(SearchSpace(space))

    model = KerasClassifier(build, batch_size=64)
    holdout = ShuffleSplit(1, test_size=0.3, random_state=0)
    hyperband = HalvingHyperbandSearchCV(
        model,
        "model",
        resource="epochs",
        max_resources=27,
        n_brackets=2,
        cv=holdout,
        random_state=0,
    )
    hyperband.fit(X_train, y_train)
    results = pd.DataFrame(hyperband.cv_results_)
    per_rung = results.groupby(["bracket", "n_resources"])["mean_test_score"]
    print("\nHyperband, rung by rung")
    print(per_rung.agg(["size", "max"]).to_string(float_format="{:.3f}".format))
    print(f"Best: {hyperband.best_score_:.3f} with {hyperband.best_params_}")

    n_iter = round(epochs_of(results) / 27)
    random = RandomizedSearchCV(
        model.set_params(epochs=27), space, n_iter=n_iter, cv=holdout, random_state=0
    )
    random.fit(X_train, y_train)
    print(f"\nRandom search, {n_iter} x 27 epochs: {random.best_score_:.3f}")
    print(f"\nAccuracy on {len(y_test)} held-out images")
    print(f"  random search {random.score(X_test, y_test):.3f}")
    print(f"  Hyperband     {hyperband.score(X_test, y_test):.3f}")

    # What was found is a setting of the estimator like any other.
    again = KerasClassifier(build, batch_size=64, epochs=27, random_state=0)
    again.set_params(**hyperband.best_params_).fit(X_train, y_train)
    print(f"  its settings under another seed {again.score(X_test, y_test):.3f}")


def epochs_of(results):
    """Return what Hyperband trained: a candidate's last rung goes on from those before it."""
    return results.groupby("candidate")["n_resources"].max().sum()


if __name__ == "__main__":
    main()
