"""
What changes between configurations
===================================

Two configurations of the same score may predict differently, and favour different classes; part of
every difference is due to the seed. A search that keeps its predictions can show all of that. A
second search with two objectives shows what accuracy costs.
"""

# %%
# A search with two seeds for each configuration and split, that keeps what each fit predicted.

import matplotlib.pyplot as plt
from scipy.stats import loguniform
from sklearn.datasets import load_wine
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import BayesSearchCV, TorchClassifier
from skhpo.inspection import (
    ChurnDisplay,
    ClassEffectsDisplay,
    ParetoFrontDisplay,
    SeedEffectsDisplay,
)

X, y = load_wine(return_X_y=True)
model = make_pipeline(StandardScaler(), TorchClassifier(max_epochs=15))
space = {
    "torchclassifier__lr": loguniform(1e-4, 1e-1),
    "torchclassifier__module__n_units": [4, 16, 64],
}
search = BayesSearchCV(
    model, space, n_iter=16, n_repeats=2, cv=3, return_predictions=True, random_state=0
).fit(X, y)
print(f"best accuracy {search.best_score_:.3f}")

# %%
# The share of rows whose predicted label differs between two configurations. What seeds alone
# change is the baseline.

ChurnDisplay.from_search(search)
plt.show()

# %%
# Which class pays for the best mean.

ClassEffectsDisplay.from_search(search)
plt.show()

# %%
# How much of the variance of scores is due to the configuration, the split and the seed.

SeedEffectsDisplay.from_search(search)
plt.show()

# %%
# Accuracy against the number of parameters: no row on the front is beaten in both.

both = BayesSearchCV(
    model,
    space,
    n_iter=14,
    cv=3,
    scoring=["accuracy", "neg_n_parameters"],
    objectives=("accuracy", "neg_n_parameters"),
    refit="accuracy",
    random_state=0,
).fit(X, y)
print(f"{len(both.pareto_front_)} of {len(both.cv_results_['params'])} rows are on the front")
ParetoFrontDisplay.from_search(both)
plt.show()
