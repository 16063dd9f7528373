"""Small data, and one thread: reproducible bit by bit, and kind to parallel test runs."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification, make_regression

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def blobs():
    X, y = make_classification(
        n_samples=150, n_features=8, n_informative=5, n_classes=3, random_state=0
    )
    return X.astype(np.float32), y


@pytest.fixture(scope="session")
def line():
    X, y = make_regression(n_samples=120, n_features=5, random_state=0)
    return X.astype(np.float32), y / y.std()
