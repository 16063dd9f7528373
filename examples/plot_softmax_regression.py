"""
Softmax regression: a learning rate on a logarithmic scale
==========================================================

A network without hidden layers is multinomial logistic regression, trained by stochastic gradients.
How fast it may learn depends on the data, and is unknown up to powers of ten: the learning rate and
the weight decay are drawn log-uniformly by scikit-learn's own random search.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV, train_test_split

from skhpo import TorchClassifier

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "fashion3615.npz"


def load_images():
    """Return Fashion-MNIST images where they are at hand, else scikit-learn's digits."""
    if DATA.exists():
        with np.load(DATA) as archive:
            return (archive["X"] / 255).astype(np.float32), archive["y"]
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


def main():
    X, y = load_images()
    X = X.reshape(len(X), -1)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.25, stratify=y, random_state=0
    )
    softmax = TorchClassifier(
        module__n_layers=0,
        init="zeros",
        optimizer="sgd",
        lr_scheduler="cosine",
        max_epochs=10,
        batch_size=64,
        device="cpu",
    )
    search = RandomizedSearchCV(
        softmax,
        {"lr": loguniform(1e-4, 1e1), "optimizer__weight_decay": loguniform(1e-6, 1e-1)},
        n_iter=15,
        cv=3,
        random_state=0,
    )
    search.set_params(estimator__random_state=0).fit(X_train, y_train)

    table = pd.DataFrame(search.cv_results_).sort_values("param_lr")
    columns = ["param_lr", "param_optimizer__weight_decay", "mean_test_score", "std_test_score"]
    print(table[columns].to_string(index=False, float_format="{:.3g}".format))
    print(f"\nbest learning rate {search.best_params_['lr']:.3g}")
    print(f"accuracy on {len(y_test)} held-out images")
    print(f"  softmax regression, searched       {search.score(X_test, y_test):.4f}")
    logistic = LogisticRegression(max_iter=2000).fit(X_train, y_train)
    print(f"  LogisticRegression of scikit-learn {logistic.score(X_test, y_test):.4f}")


if __name__ == "__main__":
    main()
