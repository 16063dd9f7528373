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
    said = [record.getMessage() for record in caplog.get_records("call")]
    assert not [message for message in said if "alone" in message]
