"""
Which choices matter? Harmonica over a pipeline with many
=========================================================

A linear classifier of handwritten digits with twenty choices, most of which hardly matter. Two
stages of random candidates find those that do, and which of them depend on each other; the rest of
the search is spent on what is left of the space.
"""

import warnings

import matplotlib.pyplot as plt
import pandas as pd
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import ShuffleSplit, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skhpo import HarmonicaSearchCV
from skhpo.inspection import HarmonicaDisplay

warnings.simplefilter("ignore", ConvergenceWarning)  # some candidates are short of epochs
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=600, stratify=y, random_state=0
)

# %%
# The model
# ---------

model = Pipeline(
    [
        ("scale", StandardScaler()),
        ("reduce", PCA(20)),
        ("features", "passthrough"),
        ("linear", SGDClassifier(max_iter=5, tol=None)),
    ]
)
# %%
# The search
# ----------

search = HarmonicaSearchCV(
    model,
    {
        "scale": [StandardScaler(), MinMaxScaler(), "passthrough"],
        "reduce": [PCA(5), PCA(20), PCA(40)],
        "reduce__whiten": [False, True],
        "features": ["passthrough", Nystroem(n_components=30)],
        "linear__loss": ["hinge", "log_loss", "modified_huber"],
        "linear__penalty": ["l2", "l1", "elasticnet"],
        "linear__alpha": loguniform(1e-6, 1e-1),
        "linear__learning_rate": ["optimal", "constant", "invscaling"],
        "linear__eta0": loguniform(1e-4, 1e-1),
        "linear__max_iter": [1, 2, 4, 8],
        "linear__average": [False, True],
        "linear__fit_intercept": [True, False],
        "linear__shuffle": [True, False],
        "linear__l1_ratio": [0.1, 0.5],
        "linear__epsilon": loguniform(1e-3, 1),
        "linear__power_t": [0.25, 0.5],
        "linear__class_weight": [None, "balanced"],
        "linear__warm_start": [False, True],
        "linear__n_iter_no_change": [3, 5],
        "linear__validation_fraction": [0.1, 0.2],
    },
    n_samples=150,
    n_iter=30,
    cv=ShuffleSplit(1, test_size=0.4, random_state=0),
    error_score=0.0,
    random_state=0,
)
search.fit(X_train, y_train)

# %%
# What matters, stage by stage
# ----------------------------

terms = pd.DataFrame(search.important_parameters_)
print(terms[["stage", "term", "coefficient", "share"]].to_string(float_format="{:.3f}".format))
for number, stage in enumerate(search.stages_):
    print(f"Stage {number}: mean {stage['mean_score']:.3f}, best {stage['best_score']:.3f}")
print(f"Found: {search.best_score_:.3f}, on held-out images {search.score(X_test, y_test):.3f}")

# %%
# The terms by size, and the scores stage by stage:

HarmonicaDisplay.from_search(search)
plt.show()
