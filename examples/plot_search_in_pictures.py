"""
A search in pictures
====================

Random search and Bayesian optimisation of a support vector regression, three seeds each: the best
score so far, every configuration as a line across its parameters, and the score against each.
"""

import matplotlib
from scipy.stats import loguniform, uniform
from sklearn.datasets import make_friedman1
from sklearn.model_selection import RandomizedSearchCV
from sklearn.svm import SVR

from skhpo import BayesSearchCV
from skhpo.inspection import IncumbentDisplay, ParallelCoordinatesDisplay, SlicesDisplay


def main():
    matplotlib.use("Agg")
    data = make_friedman1(150, n_features=8, noise=0.5, random_state=0)
    space = {
        "C": loguniform(1e-3, 1e3),
        "gamma": loguniform(1e-5, 1e1),
        "epsilon": loguniform(1e-3, 1e1),
        "kernel": ["rbf", "sigmoid"],
        "coef0": uniform(0, 1),
    }
    bayes = [
        BayesSearchCV(SVR(), space, n_iter=30, cv=3, random_state=seed).fit(*data)
        for seed in range(3)
    ]
    random = [
        RandomizedSearchCV(SVR(), space, n_iter=30, cv=3, random_state=seed).fit(*data)
        for seed in range(3)
    ]
    display = IncumbentDisplay.from_searches({"Bayes": bayes, "random": random})
    display.figure_.savefig("incumbent.png", dpi=100)
    ParallelCoordinatesDisplay.from_search(bayes[0]).figure_.savefig("parallel.png", dpi=100)
    SlicesDisplay.from_search(bayes[0], n_columns=5).figure_.savefig("slices.png", dpi=100)
    print("The pictures are in incumbent.png, parallel.png and slices.png")


if __name__ == "__main__":
    main()
