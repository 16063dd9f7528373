"""
Transfer: frozen layers and learning rates of their own
=======================================================

A convolutional network learns the digits from clean images. Then another scanner comes along, of
whose images only three per class are labelled, and the network goes on with those. Four ways are
compared: from scratch, all layers alike, convolutions frozen, and frozen first, then slow.
"""

from copy import deepcopy

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skhpo import TorchClassifier
from skhpo.modules import ConvNet

params = {"lr": 3e-3, "batch_size": 32, "random_state": 0, "device": "cpu"}
X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32).reshape(-1, 8, 8)
backbone = TorchClassifier(ConvNet, module__n_channels=8, max_epochs=15, **params)
backbone.fit(X[:900], y[:900])
X, y = X[900:], y[900:]
print(f"clean images: accuracy {backbone.score(X, y):.3f}")

noise = np.random.default_rng(0).normal(0, 0.15, X.shape).astype(np.float32)
scanners = {"clean": X, "faint copies": 0.5 * X + noise, "negatives": 1 - 0.6 * X + noise}
figure, axes = plt.subplots(1, 3, figsize=(6, 2.2), layout="constrained")
for ax, (title, images) in zip(axes, scanners.items(), strict=True):
    ax.imshow(images[0], cmap="gray_r", vmin=0, vmax=1)
    ax.set(title=title, xticks=[], yticks=[])
plt.show()

# %%
# Four ways to go on
# ------------------
# `freeze` and `lr_multipliers` take names of layers, with ``*`` for any letters.

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


def scores(images, *, taken=False, **way):
    """Return the accuracies of one way to go on, one per draw of labelled images."""
    values = []
    for draw in range(5):
        X_train, X_test, y_train, y_test = train_test_split(
            images, y, train_size=30, stratify=y, random_state=draw
        )
        module, more = ConvNet, {"module__n_channels": 8}
        if taken:
            module, more = deepcopy(backbone.module_), {}
        net = TorchClassifier(module, max_epochs=30, **params, **more, **way)
        values.append(net.fit(X_train, y_train).score(X_test, y_test))
    return values


# %%
# Mean accuracy of 5 draws of 30 labelled images
# ----------------------------------------------
# Where the new images are faint copies with noise, edges are edges still, and what was learned from
# 900 images is worth far more than what 30 can teach. Where they are negatives, the convolutions
# look for the wrong thing, and from scratch is best: it belongs into every such comparison.

for title in ("faint copies", "negatives"):
    images = scanners[title]
    print(f"{title}: as it is {backbone.score(images, y):.3f}")
    for name, way in ways.items():
        print(f"  {name:35s}{np.mean(scores(images, **way)):.3f}")
