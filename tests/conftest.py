"""What all tests share. One thread for torch: threads of several tests would queue up."""

import gc
import inspect
import multiprocessing
import os
import re

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification, make_regression

try:
    from _pytest.nodeid import coerce_node_id
except ImportError:  # before pytest 9.2, which reads what xdist writes
    coerce_node_id = None

torch.set_num_threads(1)
os.environ.setdefault("MPLBACKEND", "Agg")  # no windows for pictures
if "START_METHOD" in os.environ:  # of processes, for `make test-spawn`
    multiprocessing.set_start_method(os.environ["START_METHOD"])
gc.disable()  # until all tests are collected, which makes millions of objects that stay


# Tests of worker processes, by file or by a part of their name.
IN_PROCESSES = (
    "test_pool.py",
    "test_environment.py",
    "test_faults.py",
    "test_limits.py",
    "loky-2",
    "processes",
    "number_of_workers",
    "whatever_n_jobs",
    "for_any_n_jobs",
    "what_does_not_matter_may_change",
)


def pytest_configure(config):
    # Tests are of the CPU, whose numbers they know, except for those that are marked.
    if not re.search(r"(?<!not )\bgpu\b", config.getoption("markexpr") or ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    config.addinivalue_line("markers", "xdist_group(name): of xdist, which may not be installed")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items):
    # Importing Keras takes seconds, and so does starting workers: one process of a parallel run
    # does it, and its workers are reused from test to test.
    for item in items:
        if item.nodeid.startswith("skhpo/estimators/keras/"):
            item.add_marker(pytest.mark.xdist_group("keras"))
        elif item.get_closest_marker("xdist_group") is None and any(
            part in item.nodeid for part in IN_PROCESSES
        ):
            item.add_marker(pytest.mark.xdist_group("processes"))
    result = yield
    # xdist 3.8 writes groups where pytest 9.2 does not read them: it would not group anything.
    for item in items:
        named = getattr(item, "_nodeid", item.nodeid)
        if named != item.nodeid and hasattr(item, "_id"):
            item._id = coerce_node_id(named)
    return result


def pytest_collection_finish():
    # Later collections of garbage need not look at what was imported.
    gc.freeze()
    gc.enable()


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


@pytest.fixture
def undocumented():
    """Return the function that names the fitted attributes which a class does not document."""

    def names(fitted):
        cls = type(fitted)
        own = {name for name in vars(fitted) if _is_fitted(name)}
        own |= {name for name in dir(cls) if _is_fitted(name) and hasattr(fitted, name)}
        text = inspect.getdoc(cls).replace("\\\n", "")
        section = re.search(r"\nAttributes\n-+\n(.*?)(?=\n\w[\w ]*\n---|\Z)", text, re.DOTALL)
        heads = re.findall(r"^\S.*$", section[1], re.MULTILINE)
        return own - {name for head in heads for name in re.findall(r"\w+_\b", head)}

    return names


def _is_fitted(name):
    return name.endswith("_") and not name.startswith("_")
