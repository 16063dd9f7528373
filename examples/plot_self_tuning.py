"""
Self-tuning networks: regularisation that is found while a network trains
=========================================================================

Noisy digits with a fifth of the training labels wrong. First one network, whose dropout, weight
decay, input noise and label smoothing follow the gradient of its validation loss; then one such run
per fold, whose average a plain network is trained under; last Bayesian optimisation of what has no
gradient, the learning rate, with self-tuning networks inside.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from skhpo import BayesSearchCV, SelfTuningClassifier, SelfTuningSearchCV, TorchClassifier
from skhpo.inspection import SelfTuningScheduleDisplay

rng = np.random.default_rng(0)
X, y = load_digits(return_X_y=True)
X = (X / 16 + rng.normal(0, 0.3, X.shape)).astype(np.float32)
labels = np.where(rng.random(len(y)) < 0.2, rng.integers(0, 10, len(y)), y)
X_train, X_test, y_train, _, _, y_test = train_test_split(
    X, labels, y, train_size=400, random_state=0
)


def tested(estimator):
    loss = log_loss(y_test, estimator.predict_proba(X_test))
    return f"log loss {loss:.3f}, accuracy {estimator.score(X_test, y_test):.3f}"


# %%
# A plain network
# ---------------

params = {
    "optimizer": "adam",
    "lr": 0.003,
    "max_epochs": 40,
    "batch_size": 50,
    "module__n_units": 128,
    "module__n_layers": 2,
    "validation_fraction": 0.5,  # chooses the epoch, of plain networks too
    "random_state": 0,
}
plain = TorchClassifier(**params).fit(X_train, y_train)
print(tested(plain))

# %%
# One run that tunes itself
# -------------------------

ranges = {
    "dropout_*.p": uniform(0, 0.9),
    "weight_decay": loguniform(1e-6, 1),
    "input_noise": uniform(0, 2),
    "label_smoothing": uniform(0, 0.8),
}
net = SelfTuningClassifier(hyperparameters=ranges, module__dropout=0.05, **params)
net.fit(X_train, y_train)
print(tested(net))
SelfTuningScheduleDisplay.from_estimator(net)
plt.show()

# %%
# What was found is a schedule: a plain network can train under it, epoch by epoch.

schedule = {"module__dropout": "dropout_*.p", "label_smoothing": "label_smoothing"}
schedule = {name: net.schedule_[tuned] for name, tuned in schedule.items()}
scheduled = TorchClassifier(hyperparameter_schedule=schedule, **params).fit(X_train, y_train)
print(f"plain network under its dropout and smoothing of each epoch: {tested(scheduled)}")

# %%
# A run per fold
# --------------
# A row of the table is a run: where it started, and where it ended on each fold. A plain network is
# then trained under the average.

search = SelfTuningSearchCV(
    TorchClassifier(**params),
    {
        "module__dropout": uniform(0, 0.9),
        "optimizer__weight_decay": loguniform(1e-6, 1),
        "label_smoothing": uniform(0, 0.8),
    },
    n_iter=2,
    cv=3,
    scoring="neg_log_loss",
    random_state=0,
).fit(X_train, y_train)
table = pd.DataFrame(search.cv_results_).filter(regex="param_|split._(mod|opt|lab)|mean_test")
print(table.T.to_string(float_format="{:.2g}".format))
print("averaged:", {name: float(f"{value:.2g}") for name, value in search.best_params_.items()})
print(f"plain network under them: {tested(search.best_estimator_)}")

# %%
# The learning rate outside, the rest inside
# ------------------------------------------

outer = BayesSearchCV(
    net,
    {"lr": loguniform(1e-3, 1e-2)},
    n_iter=4,
    n_initial_points=3,
    cv=2,
    scoring="neg_log_loss",
    random_state=0,
).fit(X_train, y_train)
print(f"lr {outer.best_params_['lr']:.2g}: {tested(outer.best_estimator_)}")
