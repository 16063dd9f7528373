"""
Transfer: frozen layers and learning rates of their own
=======================================================

A convolutional network learns the digits 0 to 4, then its convolutions are taken over for the
digits 5 to 9, of which only five images per class are labelled. Four ways to go on are compared:
from scratch, all layers alike, convolutions frozen, and frozen first, then learning slowly. Images
as simple as these need few features: taking them over is no certain gain, so "from scratch" belongs
into every such comparison.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skhpo import TorchClassifier
from skhpo.estimators import ConvNet

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "mnist10k.npz"
N_LABELLED = 25


def load_images():
    """Return MNIST images where they are at hand, else the smaller ones of scikit-learn."""
    if DATA.exists():
        with np.load(DATA) as archive:
            return (archive["X"] / 255).astype(np.float32), archive["y"]
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32).reshape(-1, 8, 8), y


def take_over(pretrained, fresh):
    """Return a copy of the fresh network with the convolutions of the pretrained one."""
    states = pretrained.module_.state_dict()
    kept = {name: value for name, value in states.items() if name.startswith("conv_")}
    fresh.load_state_dict(kept, strict=False)
    return fresh


def main():
    X, y = load_images()
    first = y < 5
    params = {"lr": 3e-3, "batch_size": 32, "random_state": 0, "device": "cpu"}
    backbone = TorchClassifier(
        ConvNet,
        module__n_channels=8,
        max_epochs=4,
        validation_fraction=0.1,
        patience=2,
        lr_scheduler="cosine",
        **params,
    ).fit(X[first], y[first])
    print(f"digits 0 to 4: {backbone.n_iter_} epochs on {first.sum()} images")
    print(f"best validation loss {min(backbone.history[:, 'valid_loss']):.4f}\n")

    ways = {
        "from scratch": {},
        "taken over, all alike": {"taken": True},
        "convolutions frozen": {"taken": True, "freeze": {"conv_*": True}},
        "frozen for 10 epochs, then slow": {
            "taken": True,
            "freeze": {"conv_*": 10},
            "lr_multipliers": {"conv_*": 0.1},
        },
    }
    print(f"digits 5 to 9, {N_LABELLED} labelled images, mean accuracy of 5 draws of them")
    for name, way in ways.items():
        print(f"  {name:35s}{np.mean(scores(backbone, X[~first], y[~first], params, **way)):.3f}")


def scores(backbone, X, y, params, *, taken=False, **way):
    """Return the accuracies of one way to go on, one per draw of labelled images."""
    values = []
    for draw in range(5):
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, train_size=N_LABELLED, test_size=400, stratify=y, random_state=draw
        )
        fresh = TorchClassifier(
            ConvNet,
            module__n_channels=8,
            module__input_shape=X.shape[1:],
            module__out_features=5,
            random_state=draw,
        ).initialize()
        module = take_over(backbone, fresh.module_) if taken else fresh.module_
        net = TorchClassifier(module, max_epochs=30, **params, **way).fit(X_train, y_train)
        values.append(net.score(X_test, y_test))
    return values


if __name__ == "__main__":
    main()
