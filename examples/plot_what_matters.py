"""
What mattered in a search, and how
==================================

Sixty random candidates for a support vector regression of the diabetes data: which parameters moved
the score, how, and whether the best row is really better than the second.
"""

import matplotlib.pyplot as plt
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_diabetes
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from skhpo.inspection import EffectDisplay, ImportanceDisplay, compare

space = {
    "svr__C": loguniform(1e-1, 1e4),
    "svr__gamma": loguniform(1e-4, 1),
    "svr__epsilon": loguniform(1e-1, 1e2),
    "svr__shrinking": [True, False],
    "svr__coef0": uniform(0, 1),  # of no effect: the kernel is Gaussian
}
model = make_pipeline(StandardScaler(), SVR())
search = RandomizedSearchCV(model, space, n_iter=60, cv=5, random_state=0)
search.fit(*load_diabetes(return_X_y=True))

# %%
# Which parameters moved the score, with intervals:

display = ImportanceDisplay.from_search(search, random_state=0)
plt.show()
print(f"chance of folds: {display.importance.noise_share:.1%} of the variance")

# %%
# How the score depends on the two that mattered most, alone and together:

first, second = display.importance.names[:2]
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
EffectDisplay.from_search(search, first, random_state=0, ax=axes[0])
EffectDisplay.from_search(search, (first, second), random_state=0, ax=axes[1])
plt.show()

# %%
# Is the best row better than the second? The folds say how likely that is.

best, runner_up = search.cv_results_["mean_test_score"].argsort()[:-3:-1]
found = compare(search, best, runner_up, rope=0.005)
print(
    f"row {best} less row {runner_up}: {found.difference:.4f} (p = {found.p_value:.2f}); "
    f"better {found.better:.0%}, as good {found.equivalent:.0%}, worse {found.worse:.0%}"
)
