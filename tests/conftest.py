"""One thread for torch: the networks are tiny, and threads of several tests would queue up."""

import pytest
import torch

torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    # Importing Keras takes seconds: one process of a parallel run does it.
    for item in items:
        if item.nodeid.startswith("skhpo/estimators/keras/"):
            item.add_marker(pytest.mark.xdist_group("keras"))
