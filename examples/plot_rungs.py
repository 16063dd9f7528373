"""
Rungs: who was promoted, and do early ranks tell late ones?
===========================================================

Hyperband over the epochs of a linear classifier, in three pictures. They also read a journal while
its search runs.
"""

import matplotlib.pyplot as plt
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

from skhpo import HalvingHyperbandSearchCV
from skhpo.inspection import RungDisplay, SearchCurvesDisplay, TimelineDisplay

X, y = load_digits(return_X_y=True)
search = HalvingHyperbandSearchCV(
    SGDClassifier(learning_rate="invscaling"),
    {"alpha": loguniform(1e-6, 1), "eta0": loguniform(1e-4, 1), "power_t": [0.1, 0.25, 0.5]},
    resource="max_iter",
    max_resources=27,
    cv=3,
    n_jobs=2,
    random_state=0,
).fit(X / 16, y)

# %%
# Who was dropped at which rung:

SearchCurvesDisplay.from_search(search)
plt.show()

# %%
# Whether that was justified: rank correlations between the scores at two levels of the resource.
# The first rung was too short if they are small.

display = RungDisplay.from_search(search)
plt.show()
print(f"ranks after 1 and 3 epochs: {display.correlations[0, 1]:.2f}")

# %%
# What two workers did meanwhile:

TimelineDisplay.from_search(search)
plt.show()
