"""Fixtures for all tests."""

import jaxtyping
import pytest
import torch

torch.set_num_threads(1)  # tests run side by side; one thread each


@pytest.fixture
def as_users_run():
    """Switch run-time type checks off: what a user's bad input meets is our own ValueError."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
