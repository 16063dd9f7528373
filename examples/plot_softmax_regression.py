"""
Softmax regression: a learning rate on a logarithmic scale
==========================================================

A network without hidden layers is multinomial logistic regression, trained by stochastic gradients.
How fast it may learn depends on the data, and is unknown up to powers of ten: the learning rate and
the weight decay are drawn log-uniformly by scikit-learn's own random search.
"""

import matplotlib.pyplot as plt
import pandas as pd
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV, train_test_split

from skhpo import TorchClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X.astype("float32") / 16, y, test_size=0.25, stratify=y, random_state=0
)
softmax = TorchClassifier(
    module__n_layers=0,
    init="zeros",
    optimizer="sgd",
    lr_scheduler="cosine",
    max_epochs=10,
    batch_size=64,
    device="cpu",
    random_state=0,
)
search = RandomizedSearchCV(
    softmax,
    {"lr": loguniform(1e-4, 1e1), "optimizer__weight_decay": loguniform(1e-6, 1e-1)},
    n_iter=15,
    cv=3,
    random_state=0,
)
search.fit(X_train, y_train)

# %%
# Candidates by their learning rate:

table = pd.DataFrame(search.cv_results_).sort_values("param_lr")
columns = ["param_lr", "param_optimizer__weight_decay", "mean_test_score", "std_test_score"]
print(table[columns].to_string(index=False, float_format="{:.3g}".format))

figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.errorbar(
    table["param_lr"].astype(float), table["mean_test_score"], table["std_test_score"], fmt="o-"
)
ax.set(xscale="log", xlabel="learning rate", ylabel="accuracy")
plt.show()

# %%
# Beside the solver of scikit-learn:

logistic = LogisticRegression(max_iter=2000).fit(X_train, y_train)
print(f"accuracy on {len(y_test)} held-out images")
print(f"  softmax regression, searched       {search.score(X_test, y_test):.4f}")
print(f"  LogisticRegression of scikit-learn {logistic.score(X_test, y_test):.4f}")
