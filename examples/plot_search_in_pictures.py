"""
A search in pictures
====================

Random search and Bayesian optimisation of a support vector regression, three seeds each.
"""

import matplotlib.pyplot as plt
from scipy.stats import loguniform, uniform
from sklearn.datasets import make_friedman1
from sklearn.model_selection import RandomizedSearchCV
from sklearn.svm import SVR

from skhpo import BayesSearchCV
from skhpo.inspection import IncumbentDisplay, ParallelCoordinatesDisplay, SlicesDisplay

data = make_friedman1(150, n_features=8, noise=0.5, random_state=0)
space = {
    "C": loguniform(1e-3, 1e3),
    "gamma": loguniform(1e-5, 1e1),
    "epsilon": loguniform(1e-3, 1e1),
    "kernel": ["rbf", "sigmoid"],
    "coef0": uniform(0, 1),
}
bayes = [
    BayesSearchCV(SVR(), space, n_iter=30, cv=3, random_state=seed).fit(*data) for seed in range(3)
]
random = [
    RandomizedSearchCV(SVR(), space, n_iter=30, cv=3, random_state=seed).fit(*data)
    for seed in range(3)
]

# %%
# The best score so far: the median of the seeds, and the band from the worst to the best.

IncumbentDisplay.from_searches({"Bayes": bayes, "random": random})
plt.show()

# %%
# Every configuration as a line across its parameters, the best ones in front:

ParallelCoordinatesDisplay.from_search(bayes[0])
plt.show()

# %%
# The score against each parameter, later candidates lighter:

SlicesDisplay.from_search(bayes[0], n_columns=3)
plt.show()
