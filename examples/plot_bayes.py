"""
Bayesian optimisation: what a search learned about its space
============================================================

Thirty candidates for a support vector regression, chosen one by one by a Gaussian process, and
thirty at random. Three parameters have to fit together here; where a large part of the space is
about as good as the best (an SVM for the digits, say), the first few candidates of any search find
it, and a model has little to add.
"""

import matplotlib.pyplot as plt
import pandas as pd
from scipy.stats import loguniform, uniform
from sklearn.datasets import make_friedman1
from sklearn.model_selection import RandomizedSearchCV, cross_val_score
from sklearn.svm import SVR

from skhpo import BayesSearchCV
from skhpo.inspection import IncumbentDisplay

X, y = make_friedman1(200, n_features=8, noise=0.5, random_state=0)
space = {
    "C": loguniform(1e-3, 1e3),
    "gamma": loguniform(1e-5, 1e1),
    "epsilon": loguniform(1e-3, 1e1),
    "coef0": uniform(0, 1),  # of no effect: the kernel is Gaussian
}
search = BayesSearchCV(SVR(), space, n_iter=30, cv=3, random_state=0).fit(X, y)
random = RandomizedSearchCV(SVR(), space, n_iter=30, cv=3, random_state=0).fit(X, y)
print(f"R2 of the best of 30: {search.best_score_:.3f}, at random {random.best_score_:.3f}")
print({name: f"{value:.3g}" for name, value in search.best_params_.items()})

# %%
# The best score so far, candidate by candidate:

IncumbentDisplay.from_searches({"Bayes": search, "random": random})
plt.show()

# %%
# The model outlives the search. It says which parameters matter:

print(pd.DataFrame(search.relevance_).round(3).to_string(index=False))

# %%
# And it predicts the score of configurations that were never tried, here along `gamma`:

gammas = [1e-4, 1e-3, 1e-2, 1e-1, 1]
line = [{**search.best_params_, "gamma": gamma} for gamma in gammas]
mean, std = search.predict_score(line)
measured = [cross_val_score(SVR(**params), X, y, cv=3).mean() for params in line]
names = [f"{gamma:g}" for gamma in gammas]
table = pd.DataFrame({"gamma": names, "predicted": mean, "std": std, "measured": measured})
print(table.round(3).to_string(index=False))
