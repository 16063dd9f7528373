"""
Seeds: what chance alone does to a score
========================================

The same network is fitted with 20 seeds. Then one stream of randomness is pinned in turn: the
initial weights, or the order of the samples. What is left of the spread of the score says where it
comes from, and how large a difference between two configurations must be to mean anything.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skhpo import TorchClassifier

N_SEEDS = 20
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, train_size=400, stratify=y, random_state=0
)
net = TorchClassifier(module__n_units=32, lr=3e-3, max_epochs=20, device="cpu")
pinned = {
    "nothing": None,
    "initial weights": {"init": 0},
    "order of the samples": {"shuffle": 0},
    "both": {"init": 0, "shuffle": 0},
}
scores = {}
for name, seeds in pinned.items():
    scores[name] = [
        net.set_params(random_state=seed, seeds=seeds).fit(X_train, y_train).score(X_test, y_test)
        for seed in range(N_SEEDS)
    ]

# %%
# A point is a fit; where both streams are pinned, all fits are the same network.

figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for row, values in enumerate(scores.values()):
    ax.plot(values, np.full(N_SEEDS, row), "o", alpha=0.4)
ax.set_yticks(range(len(scores)), scores)
ax.invert_yaxis()
ax.set(xlabel=f"accuracy on {len(y_test)} images", ylabel="pinned")
plt.show()

print(f"{'pinned':24}{'mean':>8}{'std':>8}{'min':>8}{'max':>8}")
for name, values in scores.items():
    row = np.mean(values), np.std(values, ddof=1), np.min(values), np.max(values)
    print(f"{name:24}" + "".join(f"{value:8.4f}" for value in row))
