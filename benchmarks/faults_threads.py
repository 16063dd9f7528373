"""Searches and predictions in threads of one process, as a part of ``faults.py``."""

import threading
import warnings
from functools import cache, partial

import numpy as np
import torch
from faults_searches import X, Y, in_child, same, table
from scipy.stats import loguniform

from skhpo import HalvingHyperbandSearchCV, TorchClassifier


class Own(torch.nn.Module):
    """A module that has to be looked into before it is trained together with others."""

    def __init__(self, in_features, out_features, width=4):
        super().__init__()
        self.a = torch.nn.Linear(in_features, width)
        self.b = torch.nn.Linear(width, out_features)

    def forward(self, X):
        return self.b(torch.relu(self.a(X)))


class Other(Own):
    """One that is not known when its like is."""


def search():
    search = HalvingHyperbandSearchCV(
        TorchClassifier(Own, batch_size=16),
        {"lr": loguniform(1e-3, 1e-1)},
        resource="max_epochs",
        max_resources=2,
        factor=2,
        cv=2,
        random_state=0,
        refit=False,
        lockstep=True,
    )
    return table(search.fit(X, Y))


@cache
def expected():
    return in_child(search).value


def race(predicting):
    """Search twice and predict, in three threads; return tables, errors, how often it predicted."""
    net = TorchClassifier(predicting, max_epochs=1, random_state=0).fit(X, Y)
    right, errors, tables, counts, over = net.predict_proba(X), [], [], [], threading.Event()

    def searching():
        try:
            tables.append(search())
        except BaseException as error:
            errors.append(repr(error))

    def predict():
        while not over.is_set():
            counts.append(1)
            try:
                assert np.array_equal(net.predict_proba(X), right)
            except BaseException as error:
                errors.append(repr(error))

    both = [threading.Thread(target=searching) for _ in range(2)]
    alone = threading.Thread(target=predict)
    for thread in (alone, *both):
        thread.start()
    for thread in both:
        thread.join()
    over.set()
    alone.join()
    return tables, errors, len(counts)


def thread(number, folder):
    """Two searches and a network that predicts, in three threads of a process that knows neither.

    Every other time its module is that of the searches.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = in_child(partial(race, [Own, Other][number % 2]))
    tables, errors, n_predicted = child.value or ([], [child.error], 0)
    return {
        "hit": True,
        "errors": len(errors),
        "different": sum(not same(found, expected()) for found in tables),
        "predicted": n_predicted,
        **({"error": errors[0]} if errors else {}),
    }
