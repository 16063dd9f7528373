"""
Other resources: trees, boosting rounds, iterations and samples
===============================================================

Hyperband varies whatever an estimator counts its work by. For estimators of scikit-learn a rung
continues where that is exact, and trains again where it is not; the table says which.
"""

import time

import pandas as pd
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from skhpo import HalvingHyperbandSearchCV, log_randint
from skhpo.inspection import IncumbentDisplay

# %%
# Each entry has the estimator, the resource with its smallest and largest value, the space, and
# what Hyperband does from one rung to the next.

searches = {
    "forest": (
        RandomForestClassifier(),
        ("n_estimators", 3, 27),
        {"max_features": uniform(0.05, 0.5), "min_samples_leaf": log_randint(1, 20)},
        "continued: grows the missing trees",
    ),
    "boosting": (
        HistGradientBoostingClassifier(max_leaf_nodes=8, early_stopping=False),
        ("max_iter", 3, 9),
        {"learning_rate": loguniform(0.03, 1), "min_samples_leaf": log_randint(5, 50)},
        "continued: adds the missing rounds",
    ),
    "MLP": (
        MLPClassifier(),
        ("max_iter", 3, 27),
        {"learning_rate_init": loguniform(1e-4, 1e-1), "alpha": loguniform(1e-6, 1)},
        "continued: one partial_fit per epoch",
    ),
    "MLP, lbfgs": (
        MLPClassifier(solver="lbfgs"),
        ("max_iter", 3, 27),
        {"alpha": loguniform(1e-6, 1)},
        "trained again: this solver has no epochs",
    ),
    "SGD": (
        SGDClassifier(loss="log_loss"),
        ("max_iter", 3, 27),
        {"alpha": loguniform(1e-6, 1e-1), "penalty": ["l2", "elasticnet"]},
        "continued: one partial_fit per epoch",
    ),
    "SVC, samples": (
        SVC(),
        ("n_samples", 60, 540),
        {"C": loguniform(1e-1, 1e3), "gamma": loguniform(1e-2, 1e1)},
        "trained again, on a superset of the samples",
    ),
}


# %%
# Each is searched with one bracket of Hyperband:

X, y = load_digits(return_X_y=True)
X = X / 16
rows, fitted = [], {}
for name, (estimator, (resource, low, high), space, what) in searches.items():
    search = HalvingHyperbandSearchCV(
        estimator,
        space,
        resource=resource,
        min_resources=low,
        max_resources=high,
        n_brackets=1,
        cv=2,
        random_state=0,
    )
    start = time.perf_counter()
    fitted[name] = search.fit(X, y)
    rows.append(
        {
            "estimator": name,
            "resource": f"{resource} {low}-{high}",
            "fits": len(search.cv_results_["params"]) * 2,
            "seconds": round(time.perf_counter() - start, 1),
            "score": round(search.best_score_, 4),
            "a rung is": what,
        }
    )
print(pd.DataFrame(rows).to_string(index=False))

# %%
# The best score so far of each, against the time of its fits:

IncumbentDisplay.from_searches(fitted, against="seconds")
