"""
Ensembles of a search's candidates, and a score to believe
==========================================================

A search trains a few hundred networks and keeps one. Here it keeps what they predicted for the rows
that they had not seen. That is enough to choose those that do well together, and to say how much of
the best score is luck.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from skhpo import BayesSearchCV, TorchClassifier, log_randint
from skhpo.model_selection import corrected_score

X, y = load_digits(return_X_y=True)
X, X_new, y, y_new = train_test_split(
    (X / 16).astype(np.float32), y, train_size=400, stratify=y, random_state=0
)
search = BayesSearchCV(
    TorchClassifier(max_epochs=20, batch_size=32),
    {
        "lr": loguniform(1e-4, 1e-1),
        "module__n_units": log_randint(16, 129),
        "module__dropout": uniform(0, 0.6),
    },
    n_iter=25,
    scoring="neg_log_loss",
    random_state=0,
    return_predictions=True,
    keep_models=10,
)
search.fit(X, y)

# %%
# How much of the best score is luck
# ----------------------------------

found = corrected_score(search)
print(f"log loss of the best, cross-validated: {-search.best_score_:.3f}")
print(f"  corrected for being the best of 25:  {-found.score:.3f}")
print(f"  95% interval:                        {-found.high:.3f} to {-found.low:.3f}")

# %%
# Ensembles
# ---------
# Rows that no search has seen have the last word. Log loss is what was searched for; on a metric
# that only counts errors (accuracy) an ensemble gains less.

refit, folds = search.ensemble(), search.ensemble(members="folds")
losses = {
    name: log_loss(y_new, model.predict_proba(X_new))
    for name, model in {
        "the best network": search.best_estimator_,
        f"{len(refit.members_)} refitted networks": refit,
        f"{len(folds.members_)} networks of the folds": folds,
    }.items()
}
for name, loss in losses.items():
    print(f"{name:26s}{loss:.3f}")
_, ax = plt.subplots(figsize=(6, 2), layout="constrained")
ax.barh(list(losses), list(losses.values()))
ax.invert_yaxis()
ax.set_xlabel("log loss on new digits")

# %%
# The members, which are chosen with replacement, have weights:

for member, weight in zip(refit.members_, refit.weights_, strict=True):
    print(f"{weight:.2f} x {member.module__n_units} units, lr {member.lr:.4f}")
