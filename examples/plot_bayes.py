"""
Bayesian optimisation: what a search learned about its space
============================================================

Thirty candidates for a support vector machine, chosen one by one by a Gaussian process. The model
outlives the search: it says which parameters matter, and predicts the score of configurations that
were never tried, here along `gamma` at the best `C`.
"""

import pandas as pd
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

from skhpo import BayesSearchCV


def main():
    X, y = load_digits(return_X_y=True)
    X, y = X[:600] / 16, y[:600]
    space = {
        "C": loguniform(1e-2, 1e4),
        "gamma": loguniform(1e-5, 1e1),
        "coef0": uniform(0, 1),  # of no effect: the kernel is Gaussian
    }
    search = BayesSearchCV(SVC(), space, n_iter=30, cv=3, random_state=0)
    search.fit(X, y)

    scores = pd.Series(search.cv_results_["mean_test_score"])
    print(f"best of the first 6: {scores[:6].max():.4f}, of all 30: {scores.max():.4f}")
    print({name: f"{value:.3g}" for name, value in search.best_params_.items()})
    print(pd.DataFrame(search.relevance_).round(3).to_string(index=False), "\n")

    gammas = [1e-4, 1e-3, 1e-2, 1e-1, 1]
    line = [{**search.best_params_, "gamma": gamma} for gamma in gammas]
    mean, std = search.predict_score(line)
    measured = [cross_val_score(SVC(**params), X, y, cv=3).mean() for params in line]
    names = [f"{gamma:g}" for gamma in gammas]
    table = pd.DataFrame({"gamma": names, "predicted": mean, "std": std, "measured": measured})
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
