"""One thread, and an eye on nets that are trained alone."""

import logging

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def nothing_falls_back(caplog):
    """Fail where a net was trained alone."""
    caplog.set_level(logging.DEBUG, "skhpo")
    yield
    assert not [record.getMessage() for record in caplog.records]
