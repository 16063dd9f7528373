"""
The HParams dashboard
=====================

A search over the three hyperparameters of a well-known TensorBoard tutorial (units, dropout,
optimizer) and the learning rate, logged for TensorBoard's HParams dashboard. No line of the model
knows of it: the search writes the log. Run the example, then::

    tensorboard --logdir hparams_log

and open the tab HPARAMS.
"""

from pathlib import Path

import numpy as np
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skhpo import HalvingHyperbandSearchCV, SearchSpace, TensorBoardLogger, TorchClassifier
from skhpo.inspection import ParallelCoordinatesDisplay

LOG = Path("hparams_log")
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X.astype("float32") / 16, y, train_size=1200, stratify=y, random_state=0
)

# %%
# A space prints itself; in a notebook it is a table.

space = {
    "module__n_units": [16, 32, 64],
    "module__dropout": uniform(0.1, 0.3),
    "optimizer": ["Adam", "SGD"],
    "lr": loguniform(1e-3, 1e-1),
}
print(SearchSpace(space))

# %%
# A session per trial: a candidate that Hyperband promotes has one at 1, 3 and 9 epochs, each with
# its loss per epoch, on the training part and on a fifth of it that is held out.

model = TorchClassifier(batch_size=64, validation_fraction=0.2)
search = HalvingHyperbandSearchCV(
    model,
    space,
    max_resources=9,
    cv=3,
    random_state=0,
    callbacks=[TensorBoardLogger(LOG, overwrite=True)],
)
search.fit(X_train, y_train)

sessions = sorted(path.name for path in LOG.glob("trial-*"))
print(f"{len(sessions)} sessions in {LOG}, from {sessions[0]} to {sessions[-1]}")
print(f"best parameters: {search.best_params_}")

# %%
# The same picture as the dashboard's parallel coordinates, without the dashboard:

ParallelCoordinatesDisplay.from_search(search)

# %%
# The best three, of which only the first has been fitted on all training data so far:

top = search.top_estimators(3)
for place, estimator in enumerate(top, start=1):
    print(f"number {place}: accuracy on held-out images {estimator.score(X_test, y_test):.4f}")
mean = np.mean([estimator.predict_proba(X_test) for estimator in top], axis=0)
together = top[0].classes_[mean.argmax(axis=1)] == y_test
print(f"the three together: {together.mean():.4f}")
